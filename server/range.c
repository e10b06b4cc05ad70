#include "server/range.h"

#include "base/log.h"
#include "base/str.h"
#include "server/reply.h"
#include "server/server.h"
#include "store/store.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Digits up to `end`; false when there are none, too many, or others between. */
static bool digits(const char *p, const char *end, int64_t *out)
{
	int64_t v = 0;

	if (p == end || end - p > 18)
		return false;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return false;
		v = v * 10 + (*p - '0');
	}
	*out = v;
	return true;
}

enum range_kind range_parse(const char *header, int64_t size, int64_t *from, int64_t *to)
{
	const char *p, *dash, *end;
	int64_t a, b = 0;

	if (!header || strncasecmp(header, "bytes=", 6) != 0 || strchr(header, ','))
		return RANGE_WHOLE;
	p = header + 6;
	end = p + strlen(p);
	dash = strchr(p, '-');
	if (!dash)
		return RANGE_WHOLE;
	if (dash == p) { /* -n: the last n bytes */
		if (!digits(dash + 1, end, &b))
			return RANGE_WHOLE;
		if (b == 0 || size == 0)
			return RANGE_BAD;
		*from = b < size ? size - b : 0;
		*to = size - 1;
		return RANGE_PART;
	}
	if (!digits(p, dash, &a) || (dash + 1 < end && !digits(dash + 1, end, &b)))
		return RANGE_WHOLE; /* Malformed: as if it were not there. */
	if (dash + 1 == end)
		b = size - 1;
	else if (b < a)
		return RANGE_WHOLE;
	if (a >= size)
		return RANGE_BAD;
	*from = a;
	*to = b < size ? b : size - 1;
	return RANGE_PART;
}

struct sending {
	struct req *r;
	int64_t left;
};

static enum rc send_piece(void *ctx, const void *data, size_t len, struct err *e)
{
	struct sending *s = ctx;

	if (atomic_load(&s->r->srv->stopping) || !req_write(s->r, data, len))
		return err_set(e, RC_CANCELLED, "the client is gone");
	s->left -= (int64_t)len;
	return RC_OK;
}

/* The head is out: what fails from here on cuts the connection, so that no one takes it for all. */
static void send_bytes(struct req *r, const char *digest, int64_t from, int64_t len)
{
	struct sending s = {r, len};
	const struct store_sink sink = {send_piece, &s};
	struct err e = {0};
	enum rc rc = store_read(r->srv->store, digest, from, len, &sink, &e);

	if (!rc && s.left)
		rc = err_set(&e, RC_CORRUPT, "%lld bytes are missing", (long long)s.left);
	if (rc) {
		if (rc != RC_CANCELLED)
			log_warn("server", "download_cut", "digest=%.12s reason=%s", digest, e.text);
		req_abort(r);
	}
}

/* If-Range with another ETag (or a date, which we do not keep) asks for the whole file. */
static const char *range_header(const struct req *r, const char *etag)
{
	const char *if_range = req_header(r, "If-Range");
	char quoted[128];

	str_fmt(quoted, sizeof quoted, "\"%s\"", etag);
	if (if_range && strcmp(if_range, quoted) != 0)
		return NULL;
	return req_header(r, "Range");
}

static void answer(struct req *r, int64_t size, const char *etag)
{
	const char *none = req_header(r, "If-None-Match");
	int64_t from = 0, to = size - 1;
	enum range_kind kind;

	req_add_header(r, "ETag", "\"%s\"", etag);
	req_add_header(r, "Accept-Ranges", "bytes");
	req_add_header(r, "Cache-Control", "private, max-age=31536000, immutable");
	req_add_header(r, "Content-Security-Policy", "sandbox; default-src 'none'");
	if (none && strstr(none, etag)) {
		req_send(r, 304, NULL, NULL, 0);
		return;
	}
	kind = range_parse(range_header(r, etag), size, &from, &to);
	if (kind == RANGE_BAD) {
		req_add_header(r, "Content-Range", "bytes */%lld", (long long)size);
		reply_problem(r, 416, "range", "the file has %lld bytes", (long long)size);
		return;
	}
	if (kind == RANGE_PART)
		req_add_header(r, "Content-Range", "bytes %lld-%lld/%lld", (long long)from,
			       (long long)to, (long long)size);
	req_begin(r, kind == RANGE_PART ? 206 : 200, "application/x-tar", to - from + 1);
	if (!r->head)
		send_bytes(r, etag, from, to - from + 1);
}

void range_send(struct req *r, const char *digest, const char *name)
{
	struct err e = {0};
	int64_t size;

	if (store_has(r->srv->store, digest, &size, &e)) {
		reply_err(r, &e);
	} else {
		req_add_header(r, "Content-Disposition", "attachment; filename=\"%s\"", name);
		answer(r, size, digest);
	}
}
