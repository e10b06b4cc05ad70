#include "server/range.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "server/reply.h"
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLICE (256u * 1024)

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

static void send_bytes(struct req *r, int fd, int64_t from, int64_t len)
{
	char *slice = mem_new(SLICE);

	while (len > 0) {
		ssize_t n = pread(fd, slice, len < (int64_t)SLICE ? (size_t)len : SLICE, from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || atomic_load(&r->srv->stopping)) {
			req_abort(r);
			break;
		}
		if (!req_write(r, slice, (size_t)n))
			break;
		from += n;
		len -= n;
	}
	free(slice);
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

static void answer(struct req *r, int fd, int64_t size, const char *etag)
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
		send_bytes(r, fd, from, to - from + 1);
}

void range_send(struct req *r, const char *path, const char *etag, const char *name)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		reply_problem(r, 404, "not-found", "no artifact %s", etag);
	} else {
		req_add_header(r, "Content-Disposition", "attachment; filename=\"%s\"", name);
		answer(r, fd, st.st_size, etag);
	}
	if (fd >= 0)
		close(fd);
}
