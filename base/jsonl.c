#include "base/jsonl.h"

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

struct jsonl {
	char *path;
	gzFile file;
	struct buf line;
	char chunk[65536];
	size_t at, fill;
	int64_t number;
	bool ended;
};

enum rc jsonl_open(const char *path, struct jsonl **out, struct err *e)
{
	*out = NULL;
	errno = 0;
	gzFile f = gzopen(path, "rbe"); /* Reads plain files as they are. */
	if (!f)
		return err_set(e, err_from_errno(errno ? errno : ENOMEM), "open %s: %m", path);
	struct jsonl *r = mem_new(sizeof(*r));
	r->path = mem_str(path);
	r->file = f;
	*out = r;
	return RC_OK;
}

void jsonl_close(struct jsonl *r)
{
	if (!r)
		return;
	gzclose(r->file);
	buf_release(&r->line);
	free(r->path);
	free(r);
}

static enum rc fill(struct jsonl *r, struct err *e)
{
	int n = gzread(r->file, r->chunk, sizeof(r->chunk));
	int code = 0;
	const char *why = gzerror(r->file, &code);

	/* A cut gzip stream shows as Z_BUF_ERROR at its end. */
	if (n < 0 || (code != Z_OK && code != Z_STREAM_END))
		return err_set(e, code == Z_ERRNO ? RC_IO : RC_CORRUPT, "%s:%lld: %s", r->path,
			       (long long)r->number + 1, why);
	r->at = 0;
	r->fill = (size_t)n;
	r->ended = n == 0;
	return RC_OK;
}

/* Leaves one line, without its newline, in r->line; *got is false at the end. */
static enum rc next_line(struct jsonl *r, bool *got, struct err *e)
{
	buf_clear(&r->line);
	for (;;) {
		if (r->at == r->fill) {
			enum rc rc = fill(r, e);
			if (rc)
				return rc;
			if (r->ended) {
				*got = r->line.len > 0;
				r->number += *got;
				return RC_OK;
			}
		}
		const char *p = r->chunk + r->at;
		const char *nl = memchr(p, '\n', r->fill - r->at);
		size_t n = nl ? (size_t)(nl - p) : r->fill - r->at;
		if (r->line.len + n > JSONL_LINE_MAX)
			return err_set(e, RC_INVALID, "%s:%lld: line longer than %u bytes", r->path,
				       (long long)r->number + 1, JSONL_LINE_MAX);
		buf_append(&r->line, p, n);
		r->at += n + (nl != NULL);
		if (nl) {
			r->number++;
			*got = true;
			return RC_OK;
		}
	}
}

static bool blank(const struct buf *b)
{
	return strspn(b->data, " \t\r") == b->len;
}

enum rc jsonl_next(struct jsonl *r, json_t **out, struct err *e)
{
	bool got = true;

	*out = NULL;
	for (;;) {
		enum rc rc = next_line(r, &got, e);
		if (rc || !got)
			return rc;
		if (blank(&r->line))
			continue;
		rc = jx_parse(r->line.data, r->line.len, "JSON", out, e);
		return rc ? err_wrap(e, "%s:%lld", r->path, (long long)r->number) : RC_OK;
	}
}

int64_t jsonl_line(const struct jsonl *r)
{
	return r->number;
}
