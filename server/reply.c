#include "server/reply.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "server/answers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#define GZIP_MIN 1024

static const struct {
	enum rc rc;
	int status;
	const char *type;
} map[] = {
	{RC_INVALID, 400, "invalid"},	      {RC_NOTFOUND, 404, "not-found"},
	{RC_CONFLICT, 409, "conflict"},	      {RC_STALE, 409, "stale"},
	{RC_DENIED, 403, "denied"},	      {RC_FULL, 507, "full"},
	{RC_UNREACHABLE, 503, "unavailable"}, {RC_TIMEOUT, 503, "unavailable"},
	{RC_UNSUPPORTED, 501, "unsupported"}, {RC_CORRUPT, 500, "corrupt"},
	{RC_CANCELLED, 409, "cancelled"},     {RC_CHANGED, 412, "changed"},
};

int reply_status_of(enum rc rc)
{
	for (size_t i = 0; i < sizeof map / sizeof *map; i++)
		if (map[i].rc == rc)
			return map[i].status;
	return 500;
}

static const char *type_of(enum rc rc)
{
	for (size_t i = 0; i < sizeof map / sizeof *map; i++)
		if (map[i].rc == rc)
			return map[i].type;
	return "internal";
}

static bool gzip_bytes(const struct buf *in, struct buf *out)
{
	z_stream z = {0};
	bool ok;

	if (deflateInit2(&z, 5, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return false;
	buf_reserve(out, deflateBound(&z, in->len) + 64);
	z.next_in = (Bytef *)in->data;
	z.avail_in = (uInt)in->len;
	z.next_out = (Bytef *)out->data;
	z.avail_out = (uInt)out->cap - 1;
	ok = deflate(&z, Z_FINISH) == Z_STREAM_END;
	out->len = z.total_out;
	deflateEnd(&z);
	return ok;
}

static bool takes_gzip(const struct req *r)
{
	const char *accept = req_header(r, "Accept-Encoding");

	return accept && strcasestr(accept, "gzip") && !strcasestr(accept, "gzip;q=0");
}

static bool etag_matches(const struct req *r, const char *etag)
{
	const char *have = req_header(r, "If-None-Match");

	return have && (strcmp(have, "*") == 0 || strstr(have, etag));
}

static void json_headers(struct req *r)
{
	buf_puts(&r->headers, "Cache-Control: no-cache\r\n"
			      "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"
			      "Vary: Accept-Encoding, Cookie, Authorization\r\n");
}

void reply_kept(struct req *r, const char *etag, const char *text, size_t text_len, const char *gz,
		size_t gz_len)
{
	json_headers(r);
	buf_printf(&r->headers, "ETag: \"%s\"\r\n", etag);
	if (etag_matches(r, etag)) {
		req_send(r, 304, NULL, NULL, 0);
	} else if (gz && takes_gzip(r)) {
		buf_puts(&r->headers, "Content-Encoding: gzip\r\n");
		req_send(r, 200, "application/json", gz, gz_len);
	} else {
		req_send(r, 200, "application/json", text, text_len);
	}
}

/* A read that went well: with an ETag, gzipped where that helps, kept where it may be. */
static void send_read(struct req *r, const struct buf *text)
{
	struct buf packed = BUF_INIT;
	char digest[SHA256_HEX_SIZE], etag[ETAG_MAX];

	sha256_of(text->data, text->len, digest);
	str_fmt(etag, sizeof etag, "%s%s%.32s", r->revision, r->revision[0] ? ":" : "", digest);
	if (r->probe)
		str_copy(r->probe, ETAG_MAX, etag);
	if (text->len > GZIP_MIN && takes_gzip(r) && !etag_matches(r, etag))
		gzip_bytes(text, &packed);
	if (r->shared)
		answers_keep(r, etag, text->data, text->len, packed.data, packed.len);
	reply_kept(r, etag, text->data, text->len, packed.data, packed.len);
	buf_release(&packed);
}

static void send_json(struct req *r, int status, const char *type, const json_t *body)
{
	struct buf text = BUF_INIT, packed = BUF_INIT;

	jx_dump(body, &text);
	buf_putc(&text, '\n');
	if (r->keep_answer)
		buf_append(&r->answer, text.data, text.len);
	if (status == 200 && (strcmp(r->method, "GET") == 0 || r->head)) {
		send_read(r, &text);
		goto out;
	}
	json_headers(r);
	if (text.len > GZIP_MIN && takes_gzip(r) && gzip_bytes(&text, &packed)) {
		req_add_header(r, "Content-Encoding", "gzip");
		req_send(r, status, type, packed.data, packed.len);
	} else {
		req_send(r, status, type, text.data, text.len);
	}
out:
	buf_release(&text);
	buf_release(&packed);
}

void reply_json(struct req *r, int status, json_t *body)
{
	send_json(r, status, "application/json", body);
	json_decref(body);
}

/* The same question from the cursor on: every parameter but an old cursor stays. */
static void add_link(struct req *r, const char *cursor)
{
	struct buf query = BUF_INIT;

	for (const char *p = r->query; *p;) {
		size_t len = strcspn(p, "&");

		if (len && strncmp(p, "cursor=", 7) != 0)
			buf_printf(&query, "%.*s&", (int)len, p);
		p += len + (p[len] == '&');
	}
	buf_printf(&query, "cursor=%s", cursor);
	if (query.len < 1024 && !strpbrk(r->path, "<>\" "))
		req_add_header(r, "Link", "<%s?%s>; rel=\"next\"", r->path, query.data);
	buf_release(&query);
}

void reply_revision(struct req *r, char kind, const char *id, const char *revision)
{
	str_copy(r->revision, sizeof r->revision, revision);
	str_fmt(r->match, sizeof r->match, "%c:%s=%s", kind, id, revision);
}

void reply_list(struct req *r, json_t *items, const char *next_cursor)
{
	json_t *body = json_object();

	json_put(body, "items", items);
	json_put(body, "next_cursor", next_cursor ? json_string(next_cursor) : NULL);
	if (next_cursor)
		add_link(r, next_cursor);
	reply_json(r, 200, body);
}

void reply_page(struct req *r, const json_t *all, int64_t from, int64_t limit)
{
	int64_t n = (int64_t)json_array_size(all);
	json_t *items = json_array();
	char next[24];

	for (int64_t i = from; i < from + limit && i < n; i++)
		json_array_append(items, json_array_get(all, (size_t)i));
	str_fmt(next, sizeof next, "%lld", (long long)(from + limit));
	reply_list(r, items, from + limit < n ? next : NULL);
}

void reply_after(struct req *r, const json_t *all, const char *cursor, int64_t limit)
{
	size_t n = json_array_size(all), at = 0;
	json_t *items = json_array();
	const char *last = NULL;

	if (cursor && cursor[0]) {
		while (at < n && strcmp(jx_get_str(json_array_get(all, at), "id", ""), cursor) != 0)
			at++;
		at++;
	}
	for (; at < n && (int64_t)json_array_size(items) < limit; at++) {
		json_array_append(items, json_array_get(all, at));
		last = jx_get_str(json_array_get(all, at), "id", "");
	}
	reply_list(r, items, at < n ? last : NULL);
}

static void problem(struct req *r, int status, const char *type, const char *detail, json_t *errors)
{
	json_t *body = json_object();
	char *clean = utf8_scrub(detail, strlen(detail));

	json_put(body, "type", json_string(type));
	json_put(body, "title", json_string(http_status_text(status)));
	json_put(body, "status", json_integer(status));
	json_put(body, "detail", json_string(clean));
	json_put(body, "instance", json_string(r->id));
	if (errors)
		json_put(body, "errors", errors);
	send_json(r, status, "application/problem+json", body);
	json_decref(body);
	free(clean);
}

void reply_problem(struct req *r, int status, const char *type, const char *fmt, ...)
{
	char detail[ERR_TEXT_MAX + 256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(detail, sizeof detail, fmt, ap);
	va_end(ap);
	problem(r, status, type, detail, NULL);
}

void reply_invalid(struct req *r, const char *detail, json_t *errors)
{
	problem(r, 422, "invalid", detail, errors ? errors : json_array());
}

void reply_err(struct req *r, const struct err *e)
{
	int status = reply_status_of(e->code);

	if (status == 503)
		req_add_header(r, "Retry-After", "2");
	problem(r, status, type_of(e->code), e->text, NULL);
}

json_t *req_json(struct req *r)
{
	const char *type = req_header(r, "Content-Type");
	struct buf body = BUF_INIT;
	struct err e = {0};
	json_t *v = NULL;

	if (r->body_len > HTTP_BODY_MAX) {
		r->close = true;
		reply_problem(r, 413, "too-large",
			      "request body has %lld bytes; at most %u are accepted",
			      (long long)r->body_len, HTTP_BODY_MAX);
		return NULL;
	}
	if (r->body_len <= 0)
		return json_object();
	if (!type || strncasecmp(type, "application/json", 16) != 0) {
		r->close = true;
		reply_problem(r, 415, "media-type",
			      "Content-Type is \"%s\"; expected application/json",
			      type ? type : "");
		return NULL;
	}
	if (req_body(r, HTTP_BODY_MAX, &body, &e) ||
	    jx_parse(body.data, body.len, "request body", &v, &e)) {
		reply_err(r, &e);
	} else if (!json_is_object(v)) {
		json_decref(v);
		v = NULL;
		reply_problem(r, 400, "invalid", "request body: expected a JSON object");
	}
	buf_release(&body);
	return v;
}

json_t *json_time(int64_t ms)
{
	char text[CLK_TEXT_MAX];

	if (ms <= 0)
		return json_null();
	clk_text(ms, text);
	return json_string(text);
}

void json_put(json_t *obj, const char *key, json_t *value)
{
	json_object_set_new(obj, key, value ? value : json_null());
}
