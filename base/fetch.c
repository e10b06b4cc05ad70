#include "base/fetch.h"

#include "base/str.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define TIMEOUT_MS_DEFAULT 30000
#define CONNECT_MS 10000
#define STALL_S 120 /* no byte either way for so long: longer than any long poll */
#define RESP_MAX_DEFAULT ((size_t)64 << 20)

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;

static void handle_free(void *h)
{
	curl_easy_cleanup(h);
}

static void global_init(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
	pthread_key_create(&key, handle_free);
}

/* Kept per thread: connections are reused between calls. */
static CURL *handle(void)
{
	pthread_once(&once, global_init);
	CURL *h = pthread_getspecific(key);
	if (!h) {
		h = curl_easy_init();
		pthread_setspecific(key, h);
	}
	if (h)
		curl_easy_reset(h);
	return h;
}

struct call {
	const struct fetch_req *q;
	struct fetch_resp *r;
	size_t max;
	bool too_large, aborted;
};

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
	struct call *c = ctx;

	n *= size;
	if (c->q->sink) {
		if (!c->q->sink(c->q->sink_ctx, data, n))
			return n;
		c->aborted = true;
		return 0;
	}
	if (c->r->body.len + n > c->max) {
		c->too_large = true;
		return 0;
	}
	buf_append(&c->r->body, data, n);
	return n;
}

static bool header_is(struct str line, const char *name, struct str *value)
{
	size_t n = strlen(name);

	if (line.len <= n || line.p[n] != ':' || strncasecmp(line.p, name, n))
		return false;
	*value = str_trim((struct str){line.p + n + 1, line.len - n - 1});
	return true;
}

static void keep(char *out, size_t size, struct str v)
{
	if (v.len >= size)
		v.len = size - 1;
	memcpy(out, v.p, v.len);
	out[v.len] = 0;
}

static size_t on_header(char *data, size_t size, size_t n, void *ctx)
{
	struct call *c = ctx;
	struct str line = {data, n * size}, v;
	char num[24];

	if (c->q->on_header)
		c->q->on_header(c->q->sink_ctx, data, n * size);
	if (header_is(line, "ETag", &v))
		keep(c->r->etag, sizeof(c->r->etag), v);
	else if (header_is(line, "Content-Type", &v))
		keep(c->r->content_type, sizeof(c->r->content_type), v);
	else if (header_is(line, "Retry-After", &v)) {
		keep(num, sizeof(num), v);
		if (!str_to_i64(num, &c->r->retry_after_s))
			c->r->retry_after_s = -1;
	}
	return n * size;
}

static struct curl_slist *headers_of(const struct fetch_req *q)
{
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	char line[1024];

	if (q->body || q->body_file) {
		snprintf(line, sizeof(line), "Content-Type: %s",
			 q->content_type ? q->content_type : "application/json");
		list = curl_slist_append(list, line);
	}
	if (q->token && *q->token) {
		snprintf(line, sizeof(line), "Authorization: Bearer %s", q->token);
		list = curl_slist_append(list, line);
	}
	for (const char *const *h = q->headers; h && *h; h++)
		list = curl_slist_append(list, *h);
	return list;
}

static enum rc set_body(CURL *h, const struct fetch_req *q, FILE **file, struct err *e)
{
	struct stat st;

	if (q->body_file) {
		*file = fopen(q->body_file, "rbe");
		if (!*file || fstat(fileno(*file), &st))
			return err_set(e, RC_IO, "open %s: %m", q->body_file);
		curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(h, CURLOPT_READDATA, *file);
		curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)st.st_size);
		curl_easy_setopt(h, CURLOPT_UPLOAD_BUFFERSIZE, 1L << 20);
	} else if (q->body) {
		curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_len);
		curl_easy_setopt(h, CURLOPT_POSTFIELDS, q->body);
	} else if (!strcmp(q->method, "POST") || !strcmp(q->method, "PUT")) {
		curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE, 0L);
		curl_easy_setopt(h, CURLOPT_POSTFIELDS, "");
	}
	if (!strcmp(q->method, "HEAD"))
		curl_easy_setopt(h, CURLOPT_NOBODY, 1L);
	else
		curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, q->method);
	return RC_OK;
}

static bool loopback(const char *url)
{
	const char *host = strstr(url, "://");

	host = host ? host + 3 : url;
	return str_starts(host, "127.") || str_starts(host, "localhost") || str_starts(host, "[::1]");
}

static void set_options(CURL *h, const struct fetch_req *q, struct call *c, char *why)
{
	int64_t ms = q->timeout_ms ? q->timeout_ms : TIMEOUT_MS_DEFAULT;

	curl_easy_setopt(h, CURLOPT_URL, q->url);
	curl_easy_setopt(h, CURLOPT_ERRORBUFFER, why);
	curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L); /* A token goes where it was sent. */
	curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)(ms > 0 ? ms : 0));
	curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS,
			 (long)(ms > 0 && ms < CONNECT_MS ? ms : CONNECT_MS));
	curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, (long)STALL_S);
	curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(h, CURLOPT_BUFFERSIZE, 256L << 10);
	curl_easy_setopt(h, CURLOPT_USERAGENT, "pawl");
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, c);
	if (q->unix_path)
		curl_easy_setopt(h, CURLOPT_UNIX_SOCKET_PATH, q->unix_path);
	if (loopback(q->url))
		curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
}

static enum rc outcome(const struct call *c, CURLcode code, const char *why, struct err *e)
{
	const char *text = why[0] ? why : curl_easy_strerror(code);

	if (code == CURLE_OK)
		return RC_OK;
	if (c->too_large)
		return err_set(e, RC_INVALID, "%s %s: answer larger than %zu bytes", c->q->method,
			       c->q->url, c->max);
	if (c->aborted)
		return err_set(e, RC_CANCELLED, "%s %s: stopped by the receiver", c->q->method,
			       c->q->url);
	if (code == CURLE_OUT_OF_MEMORY)
		return err_set(e, RC_NOMEM, "%s %s: %s", c->q->method, c->q->url, text);
	if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
		return err_set(e, RC_INVALID, "address \"%s\": %s", c->q->url, text);
	return err_set(e, code == CURLE_OPERATION_TIMEDOUT ? RC_TIMEOUT : RC_UNREACHABLE,
		       "%s %s: %s", c->q->method, c->q->url, text);
}

enum rc fetch(const struct fetch_req *q, struct fetch_resp *r, struct err *e)
{
	char why[CURL_ERROR_SIZE] = "";
	struct call c = {q, r, q->resp_max ? q->resp_max : RESP_MAX_DEFAULT, false, false};
	FILE *file = NULL;
	long status = 0;

	*r = (struct fetch_resp){.retry_after_s = -1};
	buf_reserve(&r->body, 0);
	CURL *h = handle();
	if (!h)
		return err_set(e, RC_NOMEM, "%s %s: no HTTP handle", q->method, q->url);
	struct curl_slist *list = headers_of(q);
	set_options(h, q, &c, why);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, list);
	enum rc rc = set_body(h, q, &file, e);
	if (!rc) {
		rc = outcome(&c, curl_easy_perform(h), why, e);
		curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
		r->status = (int)status;
	}
	/* The handle outlives `why`, `list` and `file`. */
	curl_easy_reset(h);
	curl_slist_free_all(list);
	if (file)
		fclose(file);
	return rc;
}

void fetch_resp_release(struct fetch_resp *r)
{
	buf_release(&r->body);
}
