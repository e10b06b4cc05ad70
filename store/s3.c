#include "store/s3_call.h"

#include "base/clk.h"
#include "base/fetch.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/s3_creds.h"
#include "store/s3_xml.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define TRIES 8
#define RETRY_MS 200
#define RETRY_MAX_MS 20000
#define STALL_S 30
#define SKEW_S 300	     /* a clock this far off is put right before the service complains */
#define RENEW_MS (5 * 60000) /* before the credentials end */

struct s3 {
	char bucket[64], prefix[S3_KEY_MAX / 2], region[48];
	char base[320]; /* "http://host:port", with the bucket in it unless by path */
	char host[256]; /* as in base */
	bool by_path;
	int64_t tries, retry_ms, stall_s;
	_Atomic int64_t part, skew_s; /* skew: service's clock minus ours */
	pthread_mutex_t lock;	      /* of creds */
	struct s3_creds creds;
	bool have_creds;
};

/* --- the URL ---------------------------------------------------------------------------------- */

struct options {
	char endpoint[256], region[48], style[8], tries[8], retry_ms[8], stall_s[8];
};

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef0123456789ABCDEF", *p = c ? strchr(digits, c) : NULL;

	return p ? (int)(p - digits) % 16 : -1;
}

static enum rc decode(struct str v, char *out, size_t size, struct err *e)
{
	size_t n = 0;

	for (size_t i = 0; i < v.len && n + 1 < size; i++) {
		int hi = -1, lo = -1;
		if (v.p[i] == '%' && i + 2 < v.len) {
			hi = hex_digit(v.p[i + 1]);
			lo = hex_digit(v.p[i + 2]);
		}
		out[n++] = hi >= 0 && lo >= 0 ? (char)(hi * 16 + lo) : v.p[i];
		i += hi >= 0 && lo >= 0 ? 2 : 0;
		if (n + 1 == size && i + 1 < v.len)
			return err_set(e, RC_INVALID, "option longer than %zu bytes", size - 1);
	}
	out[n] = 0;
	return RC_OK;
}

static enum rc parse_option(struct options *o, struct str text, struct err *e)
{
	const struct {
		const char *name;
		char *out;
		size_t size;
	} known[] = {{"endpoint", o->endpoint, sizeof(o->endpoint)},
		     {"region", o->region, sizeof(o->region)},
		     {"style", o->style, sizeof(o->style)},
		     {"tries", o->tries, sizeof(o->tries)},
		     {"retry_ms", o->retry_ms, sizeof(o->retry_ms)},
		     {"stall_s", o->stall_s, sizeof(o->stall_s)}};
	const char *eq = memchr(text.p, '=', text.len);

	for (size_t i = 0; eq && i < sizeof(known) / sizeof(known[0]); i++) {
		struct str name = {text.p, (size_t)(eq - text.p)};
		if (str_eq(name, known[i].name))
			return decode((struct str){eq + 1, text.len - name.len - 1}, known[i].out,
				      known[i].size, e);
	}
	return err_set(e, RC_INVALID,
		       "option \"%.*s\": expected endpoint, region, style, tries, "
		       "retry_ms or stall_s with a value",
		       (int)(text.len > 80 ? 80 : text.len), text.p);
}

static enum rc parse_options(struct options *o, const char *text, struct err *e)
{
	enum rc rc = RC_OK;

	while (!rc && *text) {
		size_t n = strcspn(text, "&");
		rc = n ? parse_option(o, (struct str){text, n}, e) : RC_OK;
		text += n + (text[n] == '&');
	}
	return rc;
}

static const char *first_env(const char *a, const char *b)
{
	const char *v = getenv(a);

	if (!v || !*v)
		v = getenv(b);
	return v ? v : "";
}

/* Bucket and prefix as S3 allows them; the prefix loses slashes at its ends. */
static enum rc parse_names(struct s3 *s, const char *place, struct err *e)
{
	size_t all = strcspn(place, "?"), n = strcspn(place, "/?");
	static const char ok[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";

	if (n < 3 || n > 63 || strspn(place, ok) < n)
		return err_set(e, RC_INVALID, "bucket \"%.*s\": expected 3 to 63 of a-z 0-9 . -",
			       (int)(n > 80 ? 80 : n), place);
	memcpy(s->bucket, place, n);
	const char *p = place + n, *end = place + all;
	while (p < end && *p == '/')
		p++;
	while (end > p && end[-1] == '/')
		end--;
	if ((size_t)(end - p) >= sizeof(s->prefix) - 1)
		return err_set(e, RC_INVALID, "prefix longer than %zu bytes",
			       sizeof(s->prefix) - 2);
	memcpy(s->prefix, p, (size_t)(end - p));
	if (end > p)
		s->prefix[end - p] = '/';
	return utf8_valid(s->prefix, strlen(s->prefix))
		       ? RC_OK
		       : err_set(e, RC_INVALID, "prefix: not UTF-8");
}

static enum rc number(const char *name, const char *text, int64_t otherwise, int64_t max,
		      int64_t *out, struct err *e)
{
	*out = otherwise;
	if (*text && (!str_to_i64(text, out) || *out < 1 || *out > max))
		return err_set(e, RC_INVALID, "%s=%s: expected 1 to %lld", name, text,
			       (long long)max);
	return RC_OK;
}

static enum rc parse_numbers(struct s3 *s, const struct options *o, struct err *e)
{
	enum rc rc = number("tries", o->tries, TRIES, 100, &s->tries, e);

	if (!rc)
		rc = number("retry_ms", o->retry_ms, RETRY_MS, RETRY_MAX_MS, &s->retry_ms, e);
	return rc ? rc : number("stall_s", o->stall_s, STALL_S, 3600, &s->stall_s, e);
}

/* Where requests go: scheme, host (with the bucket before it unless by path). */
static enum rc place_host(struct s3 *s, const struct options *o, struct err *e)
{
	char amazon[128];
	const char *url =
		*o->endpoint ? o->endpoint : first_env("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
	bool own = *url != 0;

	str_fmt(amazon, sizeof(amazon), "https://s3.%s.amazonaws.com", s->region);
	url = own ? url : amazon;
	const char *host = strstr(url, "://");
	if (!host || (!str_starts(url, "http://") && !str_starts(url, "https://")))
		return err_set(e, RC_INVALID,
			       "endpoint \"%.200s\": expected http://host or "
			       "https://host",
			       url);
	host += 3;
	size_t n = strcspn(host, "/?");
	if (!n || n > 180 || (host[n] == '/' && host[n + 1]))
		return err_set(e, RC_INVALID, "endpoint \"%.200s\": expected a host and no path",
			       url);
	if (*o->style && strcmp(o->style, "path") && strcmp(o->style, "host"))
		return err_set(e, RC_INVALID, "style \"%s\": expected path or host", o->style);
	/* A dot in the bucket's name would not match the certificate of *.s3.amazonaws.com. */
	s->by_path = *o->style ? !strcmp(o->style, "path") : own || strchr(s->bucket, '.');
	str_fmt(s->host, sizeof(s->host), "%s%s%.*s", s->by_path ? "" : s->bucket,
		s->by_path ? "" : ".", (int)n, host);
	str_fmt(s->base, sizeof(s->base), "%.*s%s", (int)(host - url), url, s->host);
	return RC_OK;
}

enum rc s3_open(const char *place, struct s3 **out, struct err *e)
{
	struct s3 *s = mem_new(sizeof(*s));
	struct options o = {0};
	const char *q = strchr(place, '?');

	*out = NULL;
	pthread_mutex_init(&s->lock, NULL);
	s->part = S3_PART;
	enum rc rc = parse_names(s, place, e);
	if (!rc && q)
		rc = parse_options(&o, q + 1, e);
	if (!rc)
		rc = parse_numbers(s, &o, e);
	if (!rc) {
		const char *region =
			*o.region ? o.region : first_env("AWS_REGION", "AWS_DEFAULT_REGION");
		str_copy(s->region, sizeof(s->region), *region ? region : "us-east-1");
		rc = place_host(s, &o, e);
	}
	if (rc)
		s3_close(s);
	else
		*out = s;
	return rc;
}

void s3_close(struct s3 *s)
{
	if (!s)
		return;
	memset(&s->creds, 0, sizeof(s->creds));
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void s3_set_part(struct s3 *s, int64_t bytes)
{
	atomic_store(&s->part, bytes);
}

int64_t s3_part(const struct s3 *s)
{
	return atomic_load(&((struct s3 *)(uintptr_t)s)->part);
}

const char *s3_prefix(const struct s3 *s)
{
	return s->prefix;
}

/* --- one try ---------------------------------------------------------------------------------- */

static enum rc creds_now(struct s3 *s, struct s3_creds *out, struct err *e)
{
	enum rc rc = RC_OK;

	pthread_mutex_lock(&s->lock);
	bool old = s->creds.expires_ms && s->creds.expires_ms - clk_now_ms() < RENEW_MS;
	if (!s->have_creds || old) {
		rc = s3_creds_find(out, e);
		if (!rc) {
			s->creds = *out;
			s->have_creds = true;
		} else if (s->have_creds && s->creds.expires_ms > clk_now_ms()) {
			rc = RC_OK; /* Still good for a while. */
		}
	}
	*out = s->creds;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static void forget_creds(struct s3 *s)
{
	pthread_mutex_lock(&s->lock);
	s->have_creds = false;
	pthread_mutex_unlock(&s->lock);
}

/* What of the answer is needed while it comes in. */
struct inflow {
	struct s3_call *c;
	bool ranged;
	int64_t date_s; /* of the service; 0 when it sent none */
	enum rc rc;	/* of the sink */
	struct err e;
};

static bool header_value(const char *line, size_t len, const char *name, char *out, size_t size)
{
	size_t n = strlen(name);

	if (len <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
		return false;
	struct str v = str_trim((struct str){line + n + 1, len - n - 1});
	if (v.len >= size)
		return false;
	memcpy(out, v.p, v.len);
	out[v.len] = 0;
	return true;
}

static void on_header(void *ctx, const char *line, size_t len)
{
	struct inflow *in = ctx;
	char text[96];
	struct tm tm = {0};

	if (len > 12 && !memcmp(line, "HTTP/", 5)) {
		const char *sp = memchr(line, ' ', len);
		in->c->status = sp ? (int)strtol(sp + 1, NULL, 10) : 0;
		in->c->size = -1;
	} else if (header_value(line, len, "Content-Length", text, sizeof(text))) {
		if (!str_to_i64(text, &in->c->size))
			in->c->size = -1;
	} else if (header_value(line, len, "ETag", text, sizeof(text))) {
		str_copy(in->c->etag, sizeof(in->c->etag), text);
	} else if (header_value(line, len, "Date", text, sizeof(text))) {
		if (strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm))
			in->date_s = timegm(&tm);
	}
}

static int on_body(void *ctx, const void *data, size_t len)
{
	struct inflow *in = ctx;
	struct s3_call *c = in->c;

	if (!c->sink || c->status >= 300) {
		if (c->answer.len + len > S3_ANSWER_MAX)
			return 1;
		buf_append(&c->answer, data, len);
		return 0;
	}
	if (in->ranged && c->status != 206) {
		in->rc = err_set(&in->e, RC_UNSUPPORTED, "the service does not answer ranges");
		return 1;
	}
	in->rc = c->sink->data(c->sink->ctx, data, len, &in->e);
	c->got += in->rc ? 0 : (int64_t)len;
	return in->rc != RC_OK;
}

static void encode_path(const struct s3 *s, const struct s3_call *c, struct buf *out)
{
	if (s->by_path)
		buf_printf(out, "/%s", s->bucket);
	if (*c->key || !s->by_path)
		buf_putc(out, '/');
	if (*c->key) {
		sigv4_encode(s->prefix, true, out);
		sigv4_encode(c->key, true, out);
	}
}

/* Headers to sign, and with them as text the headers to send. */
struct outflow {
	struct sigv4_pair signed_[S3_HEADERS_MAX + 5];
	size_t n;
	char time[SIGV4_TIME_SIZE], hex[SHA256_HEX_SIZE];
	struct buf path, query, url, auth;
	char *lines[S3_HEADERS_MAX + 7]; /* owned */
};

static void outflow_release(struct outflow *o)
{
	for (int i = 0; o->lines[i]; i++)
		free(o->lines[i]);
	buf_release(&o->path);
	buf_release(&o->query);
	buf_release(&o->url);
	buf_release(&o->auth);
}

static const char *payload_of(const struct s3_call *c, char hex[SHA256_HEX_SIZE])
{
	if (c->payload)
		return c->payload;
	sha256_of(c->body ? c->body : "", c->body_len, hex);
	return hex;
}

static void sign(struct s3 *s, const struct s3_call *c, const struct s3_creds *k, struct outflow *o)
{
	*o = (struct outflow){.n = 0};
	const char *payload = payload_of(c, o->hex);

	sigv4_time(clk_now_ms() / 1000 + atomic_load(&s->skew_s), o->time);
	o->signed_[o->n++] = (struct sigv4_pair){"Host", s->host};
	o->signed_[o->n++] = (struct sigv4_pair){"x-amz-content-sha256", payload};
	o->signed_[o->n++] = (struct sigv4_pair){"x-amz-date", o->time};
	if (*k->token)
		o->signed_[o->n++] = (struct sigv4_pair){"x-amz-security-token", k->token};
	for (size_t i = 0; i < c->n_headers; i++)
		o->signed_[o->n++] = c->headers[i];
	encode_path(s, c, &o->path);
	sigv4_query(c->query, c->n_query, &o->query);
	const struct sigv4_req r = {.method = c->method,
				    .path = o->path.data,
				    .query = c->query,
				    .n_query = c->n_query,
				    .headers = o->signed_,
				    .n_headers = o->n,
				    .payload = payload,
				    .region = s->region,
				    .service = "s3",
				    .time = o->time,
				    .key_id = k->id,
				    .secret = k->secret};
	sigv4_authorization(&r, &o->auth);
	buf_printf(&o->url, "%s%s%s%s", s->base, o->path.data, c->n_query ? "?" : "",
		   c->n_query ? o->query.data : "");
	for (size_t i = 0; i < o->n; i++)
		o->lines[i] = mem_printf("%s: %s", o->signed_[i].name, o->signed_[i].value);
	o->lines[o->n] = mem_printf("Authorization: %s", o->auth.data);
	/* Ranges are not signed: they change from try to try. */
	if (c->sink && (c->offset + c->got > 0 || c->len >= 0)) {
		int64_t from = c->offset + c->got;
		o->lines[o->n + 1] = c->len < 0
					     ? mem_printf("Range: bytes=%lld-", (long long)from)
					     : mem_printf("Range: bytes=%lld-%lld", (long long)from,
							  (long long)(c->offset + c->len - 1));
	}
}

static void note_clock(struct s3 *s, const struct inflow *in)
{
	int64_t skew = in->date_s ? in->date_s - clk_now_ms() / 1000 : 0;
	int64_t known = atomic_load(&s->skew_s);

	if (in->date_s && llabs(skew - known) > SKEW_S) {
		log_warn("s3", "clock_skew", "ours_is_behind_s=%lld", (long long)skew);
		atomic_store(&s->skew_s, skew);
	}
}

/* RC_OK whenever an answer came, whatever its status. */
static enum rc once(struct s3 *s, struct s3_call *c, struct err *e)
{
	struct s3_creds creds;
	struct outflow o;
	struct fetch_resp r;
	struct inflow in = {.c = c};
	enum rc rc = creds_now(s, &creds, e);

	if (rc)
		return rc;
	sign(s, c, &creds, &o);
	memset(&creds, 0, sizeof(creds));
	c->status = 0;
	c->size = -1;
	c->code[0] = c->etag[0] = 0;
	buf_clear(&c->answer);
	in.ranged = c->sink && (c->offset + c->got > 0 || c->len >= 0);
	struct fetch_req q = {.method = c->method,
			      .url = o.url.data,
			      .headers = (const char *const *)o.lines,
			      .body = c->body,
			      .body_len = c->body_len,
			      .body_file = c->file,
			      .body_offset = c->file_offset,
			      .body_size = c->file_size,
			      .content_type = "application/octet-stream",
			      .timeout_ms = -1,
			      .stall_s = (int)s->stall_s,
			      .sink = on_body,
			      .sink_ctx = &in,
			      .on_header = on_header};
	rc = fetch(&q, &r, e);
	if (in.rc)
		rc = err_set(e, in.rc, "%s", in.e.text);
	else if (rc == RC_CANCELLED)
		rc = err_set(e, RC_CORRUPT, "an answer of more than %zu bytes", S3_ANSWER_MAX);
	note_clock(s, &in);
	fetch_resp_release(&r);
	outflow_release(&o);
	return rc;
}

/* --- judgement -------------------------------------------------------------------------------- */

/* Also a 200 may carry an error: CompleteMultipartUpload begins to answer before it is done. */
static void read_code(struct s3_call *c)
{
	char root[S3_XML_NAME_MAX];

	c->code[0] = 0;
	if (!c->answer.len)
		return;
	s3_xml_root(c->answer.data, c->answer.len, root, sizeof(root));
	if (!strcmp(root, "Error") &&
	    !s3_xml_find(c->answer.data, c->answer.len, "Error/Code", c->code, sizeof(c->code)))
		str_copy(c->code, sizeof(c->code), "MalformedError");
}

static bool one_of(const char *code, const char *const *list)
{
	while (*list && strcmp(code, *list) != 0)
		list++;
	return *list != NULL;
}

static bool worth_retry(const struct s3_call *c)
{
	static const char *const codes[] = {"InternalError",
					    "SlowDown",
					    "RequestTimeout",
					    "ServiceUnavailable",
					    "OperationAborted",
					    "Throttling",
					    "RequestTimeTooSkewed",
					    "ExpiredToken",
					    "BadDigest",
					    "MalformedError",
					    "XAmzContentSHA256Mismatch",
					    NULL};

	return c->status == 429 || c->status >= 500 || one_of(c->code, codes);
}

static enum rc code_of(const struct s3_call *c)
{
	if (c->status == 404)
		return RC_NOTFOUND;
	if (c->status == 409 || c->status == 412)
		return RC_CONFLICT;
	if (c->status == 401 || c->status == 403)
		return RC_DENIED;
	if (c->status == 429 || c->status >= 500 || c->status == 200)
		return RC_UNREACHABLE;
	return c->status == 501 ? RC_UNSUPPORTED : RC_INVALID;
}

static enum rc refuse(const struct s3 *s, const struct s3_call *c, struct err *e)
{
	char message[300] = "";

	if (c->answer.len)
		s3_xml_find(c->answer.data, c->answer.len, "Error/Message", message,
			    sizeof(message));
	return err_set(e, code_of(c), "s3://%s/%s%s: %s %s: status %d%s%s%s%s", s->bucket,
		       s->prefix, c->key, c->method, s->host, c->status, *c->code ? ", " : "",
		       c->code, *message ? ": " : "", message);
}

/* Full jitter: any pause up to the bound, so that many do not come back together. */
static void pause_before(const struct s3 *s, int64_t n)
{
	int64_t bound = s->retry_ms << (n < 10 ? n : 10);
	uint64_t r;

	random_bytes(&r, sizeof(r));
	if (bound > RETRY_MAX_MS)
		bound = RETRY_MAX_MS;
	clk_sleep_ms(1 + (int64_t)(r % (uint64_t)bound));
}

/* A range that broke off behind its last byte, or whose rest turned out to be empty. */
static bool had_all(const struct s3_call *c, enum rc rc)
{
	if (!c->sink)
		return false;
	return rc ? c->len >= 0 && c->got >= c->len
		  : c->status == 416 && (c->got > 0 || !c->offset);
}

enum rc s3_send(struct s3 *s, struct s3_call *c, struct err *e)
{
	struct err mine = {0};
	enum rc rc;

	for (int64_t n = 1;; n++) {
		rc = once(s, c, &mine);
		bool again = rc == RC_UNREACHABLE || rc == RC_TIMEOUT;
		if (had_all(c, rc))
			return RC_OK;
		if (rc == RC_OK) {
			read_code(c);
			if (c->status >= 200 && c->status < 300 && !*c->code)
				return RC_OK;
			again = worth_retry(c);
			if (!strcmp(c->code, "ExpiredToken"))
				forget_creds(s);
		}
		if (!again || n >= s->tries)
			break;
		log_info("s3", "again", "try=%lld method=%s key=%s status=%d code=%s reason=%s",
			 (long long)n, c->method, c->key, c->status, c->code, rc ? mine.text : "");
		pause_before(s, n - 1);
	}
	return rc ? err_set(e, rc, "s3://%s/%s%s: %s", s->bucket, s->prefix, c->key, mine.text)
		  : refuse(s, c, e);
}
