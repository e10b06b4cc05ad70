/* Objects in one piece, and lists of them. */
#include "store/s3_call.h"

#include "base/str.h"
#include "store/s3_xml.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum rc s3_head(struct s3 *s, const char *key, int64_t *size, struct err *e)
{
	struct s3_call c = {.method = "HEAD", .key = key};
	enum rc rc = s3_send(s, &c, e);

	if (!rc && c.size < 0)
		rc = err_set(e, RC_INVALID, "%s: the service names no size", key);
	if (!rc)
		*size = c.size;
	buf_release(&c.answer);
	return rc;
}

enum rc s3_get(struct s3 *s, const char *key, int64_t offset, int64_t len,
	       const struct s3_sink *sink, struct err *e)
{
	struct s3_call c = {
		.method = "GET", .key = key, .sink = sink, .offset = offset, .len = len};
	enum rc rc = len ? s3_send(s, &c, e) : RC_OK;

	buf_release(&c.answer);
	return rc;
}

struct bounded {
	struct buf *out;
	size_t max;
	const char *key;
};

static enum rc gather(void *ctx, const void *data, size_t len, struct err *e)
{
	struct bounded *b = ctx;

	if (len > b->max - b->out->len)
		return err_set(e, RC_INVALID, "%s: larger than %zu bytes", b->key, b->max);
	buf_append(b->out, data, len);
	return RC_OK;
}

enum rc s3_get_buf(struct s3 *s, const char *key, size_t max, struct buf *out, struct err *e)
{
	struct bounded b = {out, max, key};
	const struct s3_sink sink = {gather, &b};

	buf_clear(out);
	buf_reserve(out, 0);
	return s3_get(s, key, 0, -1, &sink, e);
}

enum rc s3_put(struct s3 *s, const char *key, const void *data, size_t len, bool create,
	       struct err *e)
{
	struct s3_call c = {.method = "PUT", .key = key, .body = data, .body_len = len};

	if (create)
		c.headers[c.n_headers++] = (struct sigv4_pair){"If-None-Match", "*"};
	enum rc rc = s3_send(s, &c, e);
	buf_release(&c.answer);
	return rc;
}

enum rc s3_delete(struct s3 *s, const char *key, struct err *e)
{
	struct s3_call c = {.method = "DELETE", .key = key};
	enum rc rc = s3_send(s, &c, e);

	buf_release(&c.answer);
	return rc == RC_NOTFOUND ? RC_OK : rc;
}

/* --- lists ------------------------------------------------------------------------------------ */

struct page {
	const struct s3_lister *l;
	size_t skip; /* bytes of prefix and folder before each name */
	char key[S3_KEY_MAX + 1], token[2048];
	int64_t size, modified_ms;
	bool more;
};

/* "2024-05-01T10:20:30.000Z" to milliseconds; 0 when it is none. */
static int64_t parse_time(const char *text)
{
	struct tm tm = {0};

	return strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) ? (int64_t)timegm(&tm) * 1000 : 0;
}

static enum rc emit(struct page *p, struct err *e)
{
	const char *name = strlen(p->key) > p->skip ? p->key + p->skip : "";

	/* The folder itself may be an object: other programs make them. */
	return *name ? p->l->entry(p->l->ctx, name, p->size, p->modified_ms, e) : RC_OK;
}

static enum rc on_element(void *ctx, const char *path, const char *text, struct err *e)
{
	struct page *p = ctx;
	enum rc rc = RC_OK;

	if (!str_starts(path, "ListBucketResult/"))
		return RC_OK;
	path += strlen("ListBucketResult/");
	if (!strcmp(path, "Contents/Key") || !strcmp(path, "CommonPrefixes/Prefix")) {
		if (strlen(text) > S3_KEY_MAX)
			return err_set(e, RC_CORRUPT, "a name of %zu bytes", strlen(text));
		str_copy(p->key, sizeof(p->key), text);
	} else if (!strcmp(path, "Contents/Size")) {
		if (!str_to_i64(text, &p->size) || p->size < 0)
			return err_set(e, RC_CORRUPT, "%s: size \"%.40s\"", p->key, text);
	} else if (!strcmp(path, "Contents/LastModified")) {
		p->modified_ms = parse_time(text);
	} else if (!strcmp(path, "Contents") || !strcmp(path, "CommonPrefixes")) {
		rc = emit(p, e);
		p->key[0] = 0;
		p->size = p->modified_ms = 0;
	} else if (!strcmp(path, "IsTruncated")) {
		p->more = !strcmp(text, "true");
	} else if (!strcmp(path, "NextContinuationToken")) {
		if (strlen(text) >= sizeof(p->token))
			return err_set(e, RC_CORRUPT, "a continuation of %zu bytes", strlen(text));
		str_copy(p->token, sizeof(p->token), text);
	}
	return rc;
}

enum rc s3_list(struct s3 *s, const char *folder, bool deep, const struct s3_lister *l,
		struct err *e)
{
	struct buf prefix = BUF_INIT;
	struct page p = {.l = l};
	const struct s3_xml_sink sink = {on_element, &p};
	char token[sizeof(p.token)] = "";
	enum rc rc;

	buf_printf(&prefix, "%s%s", s3_prefix(s), folder);
	p.skip = prefix.len;
	do {
		struct s3_call c = {.method = "GET", .key = ""};
		c.query[c.n_query++] = (struct sigv4_pair){"list-type", "2"};
		c.query[c.n_query++] = (struct sigv4_pair){"prefix", prefix.data};
		if (!deep)
			c.query[c.n_query++] = (struct sigv4_pair){"delimiter", "/"};
		if (*token)
			c.query[c.n_query++] = (struct sigv4_pair){"continuation-token", token};
		p.more = false;
		p.token[0] = 0;
		rc = s3_send(s, &c, e);
		if (!rc)
			rc = s3_xml_read(c.answer.data ? c.answer.data : "", c.answer.len,
					 "list of objects", &sink, e);
		buf_release(&c.answer);
		/* A service that says "more" and does not say where would be asked for ever. */
		if (!rc && p.more && (!*p.token || !strcmp(p.token, token)))
			rc = err_set(e, RC_CORRUPT, "list of objects: no way to go on");
		str_copy(token, sizeof(token), p.token);
	} while (!rc && p.more);
	buf_release(&prefix);
	return rc;
}
