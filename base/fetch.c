#include "base/fetch.h"

#include "base/str.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

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

struct slice {
	int fd;
	int64_t from, size, at; /* at: of the bytes already given */
};

static size_t on_upload(char *out, size_t size, size_t n, void *ctx)
{
	struct slice *s = ctx;
	ssize_t got;

	n *= size;
	if ((int64_t)n > s->size - s->at)
		n = (size_t)(s->size - s->at);
	do {
		got = pread(s->fd, out, n, s->from + s->at);
	} while (got < 0 && errno == EINTR);
	if (got < 0 || (got == 0 && n > 0)) /* Unreadable, or shorter than it was. */
		return CURL_READFUNC_ABORT;
	s->at += got;
	return (size_t)got;
}

static int on_rewind(void *ctx, curl_off_t at, int origin)
{
	struct slice *s = ctx;

	if (origin != SEEK_SET || at < 0 || at > s->size)
		return CURL_SEEKFUNC_FAIL;
	s->at = at;
	return CURL_SEEKFUNC_OK;
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

static enum rc set_file(CURL *h, const struct fetch_req *q, struct slice *up, struct err *e)
{
	struct stat st;

	up->fd = open(q->body_file, O_RDONLY | O_CLOEXEC);
	if (up->fd < 0 || fstat(up->fd, &st))
		return err_set(e, RC_IO, "open %s: %m", q->body_file);
	up->from = q->body_offset;
	up->size = q->body_size ? q->body_size : st.st_size - q->body_offset;
	if (up->from < 0 || up->size < 0 || up->size > st.st_size - up->from)
		return err_set(e, RC_INVALID, "%s: %lld bytes, asked for %lld from %lld", q->body_file,
			       (long long)st.st_size, (long long)up->size, (long long)up->from);
	curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(h, CURLOPT_READFUNCTION, on_upload);
	curl_easy_setopt(h, CURLOPT_READDATA, up);
	curl_easy_setopt(h, CURLOPT_SEEKFUNCTION, on_rewind);
	curl_easy_setopt(h, CURLOPT_SEEKDATA, up);
	curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)up->size);
	curl_easy_setopt(h, CURLOPT_UPLOAD_BUFFERSIZE, 1L << 20);
	return RC_OK;
}

static enum rc set_body(CURL *h, const struct fetch_req *q, struct slice *up, struct err *e)
{
	enum rc rc = RC_OK;

	if (q->body_file) {
		rc = set_file(h, q, up, e);
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
	return rc;
}

/* Networks nobody on the internet is in: RFC 6890 and its kin. */
static bool ipv4_public(uint32_t a)
{
	static const struct {
		uint32_t net;
		int bits;
	} closed[] = {{0x00000000, 8},	{0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},
		      {0xa9fe0000, 16}, {0xac100000, 12}, {0xc0000000, 24}, {0xc0a80000, 16},
		      {0xc6120000, 15}, {0xe0000000, 3}};

	for (size_t i = 0; i < sizeof(closed) / sizeof(*closed); i++)
		if ((a ^ closed[i].net) >> (32 - closed[i].bits) == 0)
			return false;
	return true;
}

/* Global unicast alone (2000::/3), and what carries an IPv4 address by that. */
static bool ipv6_public(const uint8_t a[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, nat64[12] = {0, 0x64, 0xff, 0x9b};
	uint32_t low = (uint32_t)a[12] << 24 | (uint32_t)a[13] << 16 | (uint32_t)a[14] << 8 | a[15];

	if (!memcmp(a, mapped, 12) || !memcmp(a, nat64, 12))
		return ipv4_public(low);
	if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
		return ipv4_public((uint32_t)a[2] << 24 | (uint32_t)a[3] << 16 | (uint32_t)a[4] << 8 | a[5]);
	return (a[0] & 0xe0) == 0x20;
}

bool fetch_address_public(const struct sockaddr *a)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	if (a->sa_family == AF_INET) {
		memcpy(&v4, a, sizeof(v4));
		return ipv4_public(ntohl(v4.sin_addr.s_addr));
	}
	if (a->sa_family != AF_INET6)
		return false;
	memcpy(&v6, a, sizeof(v6));
	return ipv6_public(v6.sin6_addr.s6_addr);
}

/* Called with what the name really stands for, so a name that changes its meaning gains nothing. */
static curl_socket_t open_public(void *ctx, curlsocktype purpose, struct curl_sockaddr *a)
{
	(void)ctx;
	(void)purpose;
	return fetch_address_public(&a->addr) ? socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol)
					      : CURL_SOCKET_BAD;
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
	curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, (long)(q->stall_s ? q->stall_s : STALL_S));
	curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(h, CURLOPT_BUFFERSIZE, 256L << 10);
	curl_easy_setopt(h, CURLOPT_USERAGENT, "pawl");
	curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(h, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(h, CURLOPT_HEADERDATA, c);
	if (q->public_only) {
		curl_easy_setopt(h, CURLOPT_OPENSOCKETFUNCTION, open_public);
		curl_easy_setopt(h, CURLOPT_NOPROXY, "*"); /* It would ask in our stead. */
		curl_easy_setopt(h, CURLOPT_FRESH_CONNECT, 1L);
	}
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
	if (code == CURLE_ABORTED_BY_CALLBACK && c->q->body_file)
		return err_set(e, RC_IO, "%s %s: %s could not be read", c->q->method, c->q->url,
			       c->q->body_file);
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
	struct slice up = {.fd = -1};
	long status = 0;

	*r = (struct fetch_resp){.retry_after_s = -1};
	buf_reserve(&r->body, 0);
	CURL *h = handle();
	if (!h)
		return err_set(e, RC_NOMEM, "%s %s: no HTTP handle", q->method, q->url);
	struct curl_slist *list = headers_of(q);
	set_options(h, q, &c, why);
	curl_easy_setopt(h, CURLOPT_HTTPHEADER, list);
	enum rc rc = set_body(h, q, &up, e);
	if (!rc) {
		rc = outcome(&c, curl_easy_perform(h), why, e);
		curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
		r->status = (int)status;
	}
	/* The handle outlives `why`, `list` and `up`. */
	curl_easy_reset(h);
	curl_slist_free_all(list);
	if (up.fd >= 0)
		close(up.fd);
	return rc;
}

void fetch_resp_release(struct fetch_resp *r)
{
	buf_release(&r->body);
}
