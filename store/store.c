#include "store/store.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/tar.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct store {
	const struct store_ops *ops;
	void *ctx; /* owned, by ops */
	char *url;
	char id[33];
};

static const struct store_ops *const kinds[] = {&store_file, &store_s3};

enum rc store_open(const char *url, bool create, struct store **out, struct err *e)
{
	const struct store_ops *ops = url[0] == '/' ? &store_file : NULL;
	const char *place = url;

	*out = NULL;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && !ops; i++)
		if (str_starts(url, kinds[i]->scheme)) {
			ops = kinds[i];
			place = url + strlen(ops->scheme);
		}
	if (!ops)
		return err_set(e, RC_UNSUPPORTED,
			       "store \"%s\": expected file:///folder or s3://bucket/prefix", url);
	struct store *s = mem_new(sizeof(*s));
	enum rc rc = ops->open(place, create, &s->ctx, s->id, e);
	if (rc) {
		free(s);
		return err_wrap(e, "store %s", url);
	}
	s->ops = ops;
	s->url = mem_str(url);
	*out = s;
	return RC_OK;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	s->ops->close(s->ctx);
	free(s->url);
	free(s);
}

const char *store_id(const struct store *s)
{
	return s->id;
}

const char *store_url(const struct store *s)
{
	return s->url;
}

static enum rc check_digest(const char *digest, struct err *e)
{
	if (sha256_hex_valid(digest))
		return RC_OK;
	return err_set(e, RC_INVALID, "\"%.80s\" is no digest: expected 64 hexadecimal digits", digest);
}

/* The name also carries what kind of document it is. */
static enum rc check_doc(const char *path, const char *ending, struct err *e)
{
	if (tar_path_ok(path) && (!ending || str_ends(path, ending)))
		return RC_OK;
	return err_set(e, RC_INVALID, "\"%.200s\" is no document name (expected a relative path%s%s)",
		       path, ending ? " ending in " : "", ending ? ending : "");
}

enum rc store_has(struct store *s, const char *digest, int64_t *size, struct err *e)
{
	int64_t ignored;
	enum rc rc = check_digest(digest, e);

	return rc ? rc : s->ops->has(s->ctx, digest, size ? size : &ignored, e);
}

enum rc store_tmp(struct store *s, char *out, size_t size, struct err *e)
{
	return s->ops->tmp(s->ctx, out, size, e);
}

enum rc store_take_named(struct store *s, const char *tmp_path, const char *digest, int64_t size,
			 struct err *e)
{
	enum rc rc = s->ops->put(s->ctx, tmp_path, digest, size, true, e);

	unlink(tmp_path);
	return rc;
}

enum rc store_take(struct store *s, const char *tmp_path, char digest_out[SHA256_HEX_SIZE],
		   int64_t *size, struct err *e)
{
	int64_t n = 0;
	enum rc rc = fs_sha256(tmp_path, digest_out, &n, e);

	if (!rc)
		rc = store_take_named(s, tmp_path, digest_out, n, e);
	else
		unlink(tmp_path);
	if (!rc && size)
		*size = n;
	return rc;
}

enum rc store_put(struct store *s, const char *digest, const char *path, struct err *e)
{
	char got[SHA256_HEX_SIZE];
	int64_t size, have;
	enum rc rc = check_digest(digest, e);

	if (!rc && s->ops->has(s->ctx, digest, &have, NULL) == RC_OK && have == fs_size(path))
		return RC_OK;
	if (!rc)
		rc = fs_sha256(path, got, &size, e);
	if (!rc && strcmp(got, digest) != 0)
		rc = err_set(e, RC_CORRUPT, "%s: digest is %s, expected %s", path, got, digest);
	return rc ? rc : s->ops->put(s->ctx, path, digest, size, false, e);
}

enum rc store_path(struct store *s, const char *digest, char *out, size_t size, struct err *e)
{
	enum rc rc = check_digest(digest, e);

	return rc ? rc : s->ops->path(s->ctx, digest, out, size, e);
}

enum rc store_local(struct store *s, const char *digest, char *out, size_t size, struct err *e)
{
	enum rc rc = check_digest(digest, e);

	return rc ? rc : s->ops->local(s->ctx, digest, out, size, e);
}

enum rc store_read(struct store *s, const char *digest, int64_t offset, int64_t len,
		   const struct store_sink *sink, struct err *e)
{
	enum rc rc = check_digest(digest, e);

	return rc ? rc : s->ops->read(s->ctx, digest, offset, len, sink, e);
}

enum rc store_fetch_file(struct store *s, const char *digest, const char *dest, struct err *e)
{
	char got[SHA256_HEX_SIZE];
	enum rc rc = check_digest(digest, e);

	if (!rc)
		rc = s->ops->fetch(s->ctx, digest, dest, e);
	if (rc)
		return rc;
	rc = fs_sha256(dest, got, NULL, e);
	if (!rc && strcmp(got, digest))
		rc = err_set(e, RC_CORRUPT, "blob %s: its bytes have digest %s", digest, got);
	if (rc)
		unlink(dest);
	return rc;
}

enum rc store_blobs(struct store *s, const struct store_lister *l, struct err *e)
{
	return s->ops->blobs(s->ctx, l, e);
}

bool store_has_trash(const struct store *s)
{
	return s->ops->trash != NULL;
}

enum rc store_trash(struct store *s, const char *digest, int64_t young_ms, struct err *e)
{
	enum rc rc = check_digest(digest, e);

	return rc ? rc : s->ops->trash(s->ctx, digest, young_ms, e);
}

enum rc store_trash_empty(struct store *s, int64_t older_ms, struct err *e)
{
	return s->ops->trash_empty(s->ctx, older_ms, e);
}

enum rc store_doc_put(struct store *s, const char *path, const json_t *doc, struct err *e)
{
	struct buf b = BUF_INIT;
	enum rc rc = check_doc(path, ".json", e);

	if (rc)
		return rc;
	jx_dump(doc, &b);
	buf_putc(&b, '\n');
	rc = s->ops->doc_put(s->ctx, path, b.data, b.len, e);
	buf_release(&b);
	return rc;
}

enum rc store_doc_get(struct store *s, const char *path, json_t **out, struct err *e)
{
	struct buf b = BUF_INIT;
	enum rc rc = check_doc(path, ".json", e);

	*out = NULL;
	if (!rc)
		rc = s->ops->doc_get(s->ctx, path, &b, e);
	if (!rc && (rc = jx_parse(b.data, b.len, path, out, e))) {
		rc = RC_CORRUPT;
		if (e)
			e->code = rc;
	}
	buf_release(&b);
	return rc;
}

enum rc store_doc_append(struct store *s, const char *path, const json_t *doc, struct err *e)
{
	struct buf b = BUF_INIT;
	enum rc rc = check_doc(path, ".jsonl", e);

	if (rc)
		return rc;
	jx_dump(doc, &b);
	buf_putc(&b, '\n');
	rc = s->ops->doc_append(s->ctx, path, b.data, b.len, e);
	buf_release(&b);
	return rc;
}

static enum rc parse_lines(const char *path, const struct buf *b, json_t *out, struct err *e)
{
	int number = 0;

	for (size_t at = 0; at < b->len;) {
		const char *nl = memchr(b->data + at, '\n', b->len - at);
		json_t *v;
		number++;
		if (!nl) {
			log_warn("store", "torn_line", "document=%s line=%d", path, number);
			return RC_OK;
		}
		size_t n = (size_t)(nl - b->data) - at;
		/* Blocks of the last record that a power cut kept from the disk read as zeros. */
		if (at + n + 1 == b->len && memchr(b->data + at, 0, n)) {
			log_warn("store", "torn_line", "document=%s line=%d", path, number);
			return RC_OK;
		}
		if (jx_parse(b->data + at, n, path, &v, e)) {
			if (e)
				e->code = RC_CORRUPT;
			err_wrap(e, "record %d", number);
			return RC_CORRUPT;
		}
		json_array_append_new(out, v);
		at += n + 1;
	}
	return RC_OK;
}

enum rc store_doc_lines(struct store *s, const char *path, json_t **out, struct err *e)
{
	struct buf b = BUF_INIT;
	struct err mine;
	enum rc rc = check_doc(path, ".jsonl", e);

	*out = NULL;
	if (rc)
		return rc;
	json_t *lines = json_array();
	rc = s->ops->doc_get(s->ctx, path, &b, &mine);
	if (!rc)
		rc = parse_lines(path, &b, lines, e);
	else if (rc == RC_NOTFOUND)
		rc = RC_OK;
	else
		err_set(e, rc, "%s", mine.text);
	buf_release(&b);
	if (rc)
		json_decref(lines);
	else
		*out = lines;
	return rc;
}

enum rc store_doc_list(struct store *s, const char *folder, char ***names, size_t *n, struct err *e)
{
	char path[TAR_PATH_MAX + 1];
	size_t len = strlen(folder);

	*names = NULL;
	*n = 0;
	while (len && folder[len - 1] == '/')
		len--;
	if (len > TAR_PATH_MAX)
		return err_set(e, RC_INVALID, "folder name is too long");
	memcpy(path, folder, len);
	path[len] = 0;
	enum rc rc = len ? check_doc(path, NULL, e) : RC_OK;
	return rc ? rc : s->ops->doc_list(s->ctx, path, names, n, e);
}
