/* A store in an S3 bucket, below the prefix of its URL:
 *
 *   store.json                      {"format":1,"id":"..."}, made once (If-None-Match)
 *   blobs/ab/ab12....tar            immutable
 *   docs/<path>.json                documents
 *   trash/ab12....tar               empty: that blob was put aside then. Objects cannot be moved, so it
 *                                   stays where it is until the trash is emptied; asked for, it loses
 *                                   this mark
 *   docs/<path>.jsonl/<n>-<random>  one object a record: S3 cannot append, and two that append at
 *                                   the same time lose nothing this way
 *
 * On this machine, below TMPDIR: files on their way in, and copies of blobs that are read.
 */
#include "store/store.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/s3.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT 1
#define IDENTITY "store.json"
#define COPIES_MAX ((int64_t)20 << 30) /* of blobs read, kept on this machine */
#define RECORDS_MAX 1000000

struct place {
	struct s3 *s3;
	char scratch[PATH_MAX - 512];
	pthread_mutex_t lock; /* of the copies: fetched one at a time */
};

/* --- opening ---------------------------------------------------------------------------------- */

static enum rc make_identity(struct s3 *s3, struct err *e)
{
	uint8_t raw[16];
	char id[33], text[80];

	random_bytes(raw, sizeof(raw));
	for (int i = 0; i < 16; i++)
		str_fmt(id + 2 * i, 3, "%02x", raw[i]);
	str_fmt(text, sizeof(text), "{\"format\":%d,\"id\":\"%s\"}\n", FORMAT, id);
	enum rc rc = s3_put(s3, IDENTITY, text, strlen(text), true, e);
	/* Somebody else was first, or our own first try arrived: what stands there counts. */
	return rc == RC_CONFLICT ? RC_OK : rc;
}

static enum rc read_identity(struct s3 *s3, char id[33], struct err *e)
{
	struct buf b = BUF_INIT;
	json_t *v = NULL;
	const char *text;
	int64_t format;
	enum rc rc = s3_get_buf(s3, IDENTITY, 4096, &b, e);

	if (!rc)
		rc = jx_parse(b.data, b.len, IDENTITY, &v, e);
	if (!rc && !(rc = jx_i64(v, "format", 1, INT64_MAX, &format, e)) && format != FORMAT)
		rc = err_set(e, RC_UNSUPPORTED, "%s: format %lld, this program knows %d", IDENTITY,
			     (long long)format, FORMAT);
	if (!rc && !(rc = jx_str(v, "id", &text, e)))
		str_copy(id, 33, text);
	json_decref(v);
	buf_release(&b);
	return rc;
}

static enum rc make_scratch(struct place *p, const char *id, struct err *e)
{
	static const char *const parts[] = {"tmp", "copies"};
	const char *base = getenv("TMPDIR");
	char path[PATH_MAX];
	struct stat st;
	enum rc rc = RC_OK;

	if (!base || base[0] != '/' || strlen(base) > sizeof(p->scratch) - 80)
		base = "/tmp";
	str_fmt(p->scratch, sizeof(p->scratch), "%s/pawl-%d-%.32s", base, (int)getuid(), id);
	for (int i = 0; i < 2 && !rc; i++) {
		str_fmt(path, sizeof(path), "%s/%s", p->scratch, parts[i]);
		rc = fs_mkdirs(path, e);
	}
	/* TMPDIR may be everybody's: a folder of this name that is another's is not used. */
	if (!rc && (lstat(p->scratch, &st) || !S_ISDIR(st.st_mode) || st.st_uid != getuid() ||
		    chmod(p->scratch, 0700)))
		rc = err_set(e, RC_DENIED, "%s: not a folder of ours", p->scratch);
	return rc;
}

static void place_close(void *ctx)
{
	struct place *p = ctx;

	s3_close(p->s3);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static enum rc place_open(const char *where, bool create, void **ctx, char id[33], struct err *e)
{
	struct place *p = mem_new(sizeof(*p));

	pthread_mutex_init(&p->lock, NULL);
	enum rc rc = s3_open(where, &p->s3, e);
	if (!rc)
		rc = read_identity(p->s3, id, e);
	if (rc == RC_NOTFOUND && create && !(rc = make_identity(p->s3, e)))
		rc = read_identity(p->s3, id, e);
	if (!rc)
		rc = make_scratch(p, id, e);
	if (rc)
		place_close(p);
	else
		*ctx = p;
	return rc;
}

/* --- blobs ------------------------------------------------------------------------------------ */

static void blob_key(const char *digest, char out[96])
{
	str_fmt(out, 96, "blobs/%.2s/%s.tar", digest, digest);
}

static void mark_key(const char *digest, char out[96])
{
	str_fmt(out, 96, "trash/%s.tar", digest);
}

static enum rc blob_has(void *ctx, const char *digest, int64_t *size, struct err *e)
{
	struct place *p = ctx;
	char key[96];
	int64_t none;

	blob_key(digest, key);
	enum rc rc = s3_head(p->s3, key, size, e);
	if (rc)
		return rc;
	mark_key(digest, key);
	if (s3_head(p->s3, key, &none, NULL) == RC_OK) {
		rc = s3_delete(p->s3, key, e);
		log_info("store", "out_of_the_trash", "digest=%s", digest);
	}
	return rc;
}

static enum rc blob_tmp(void *ctx, char *out, size_t size, struct err *e)
{
	const struct place *p = ctx;
	uint64_t r;

	if (strlen(p->scratch) + 64 > size)
		return err_set(e, RC_INVALID, "path longer than %zu bytes", size);
	random_bytes(&r, sizeof(r));
	str_fmt(out, size, "%s/tmp/%d.%016llx.tar", p->scratch, (int)getpid(),
		(unsigned long long)r);
	return RC_OK;
}

/* The service checked the digest of all it was sent (each request is signed with it). What is there
 * under this name with another size is a leftover of another program and is replaced. */
static enum rc blob_put(void *ctx, const char *path, const char *digest, int64_t size, bool move,
			struct err *e)
{
	struct place *p = ctx;
	int64_t have = -1;
	char key[96];

	(void)move;
	blob_key(digest, key);
	enum rc rc = s3_put_file(p->s3, key, path, size, digest, true, e);
	if (rc == RC_CONFLICT && !(rc = s3_head(p->s3, key, &have, e)) && have == size)
		return RC_OK;
	if (have != -1 || rc == RC_UNSUPPORTED) /* Or the service knows no conditions. */
		rc = s3_put_file(p->s3, key, path, size, digest, false, e);
	if (!rc)
		rc = s3_head(p->s3, key, &have, e);
	if (!rc && have != size)
		rc = err_set(e, RC_CORRUPT, "blob %s: sent %lld bytes, the service has %lld",
			     digest, (long long)size, (long long)have);
	return rc;
}

static enum rc blob_path(void *ctx, const char *digest, char *out, size_t size, struct err *e)
{
	(void)ctx;
	(void)out;
	(void)size;
	return err_set(e, RC_UNSUPPORTED, "blob %s: lies in a bucket, not in a folder", digest);
}

static enum rc blob_fetch(void *ctx, const char *digest, const char *dest, struct err *e)
{
	struct place *p = ctx;
	int64_t size;
	char key[96];

	blob_key(digest, key);
	enum rc rc = s3_head(p->s3, key, &size, e);
	return rc ? rc : s3_get_file(p->s3, key, size, dest, e);
}

static enum rc blob_read(void *ctx, const char *digest, int64_t offset, int64_t len,
			 const struct store_sink *sink, struct err *e)
{
	struct place *p = ctx;
	const struct s3_sink out = {sink->data, sink->ctx};
	char key[96];

	blob_key(digest, key);
	return s3_get(p->s3, key, offset, len, &out, e);
}

struct mark {
	char digest[SHA256_HEX_SIZE];
	int64_t at_ms;
};

struct listing {
	const struct store_lister *l;
	struct mark *marks; /* of the trash, owned; in the order of digests */
	size_t n;
};

static enum rc see_mark(void *ctx, const char *name, int64_t size, int64_t modified_ms,
			struct err *e)
{
	struct listing *x = ctx;
	char digest[SHA256_HEX_SIZE];

	(void)size;
	(void)e;
	str_copy(digest, sizeof(digest), name);
	if (strlen(name) != 64 + 4 || !str_ends(name, ".tar") || !sha256_hex_valid(digest))
		return RC_OK;
	if (!(x->n & (x->n - 1)))
		x->marks = mem_grow(x->marks, x->n ? 2 * x->n : 1, sizeof(*x->marks));
	str_copy(x->marks[x->n].digest, sizeof(digest), digest);
	x->marks[x->n++].at_ms = modified_ms;
	return RC_OK;
}

static int by_digest(const void *a, const void *b)
{
	return strcmp(((const struct mark *)a)->digest, ((const struct mark *)b)->digest);
}

static enum rc list_marks(struct place *p, struct listing *x, struct err *e)
{
	const struct s3_lister each = {see_mark, x};
	enum rc rc = s3_list(p->s3, "trash/", true, &each, e);

	if (!rc && x->n)
		qsort(x->marks, x->n, sizeof(*x->marks), by_digest);
	return rc;
}

static enum rc see_blob(void *ctx, const char *name, int64_t size, int64_t modified_ms,
			struct err *e)
{
	const struct listing *x = ctx;
	const struct mark *m;
	struct mark key;

	if (strlen(name) != 3 + 64 + 4 || !str_ends(name, ".tar")) /* "ab/ab12....tar" */
		return RC_OK;
	str_copy(key.digest, sizeof(key.digest), name + 3);
	if (!sha256_hex_valid(key.digest))
		return RC_OK;
	m = x->n ? bsearch(&key, x->marks, x->n, sizeof(*x->marks), by_digest) : NULL;
	return x->l->blob(x->l->ctx, key.digest, size, m ? m->at_ms : modified_ms, m != NULL, e);
}

static enum rc blob_list(void *ctx, const struct store_lister *l, struct err *e)
{
	struct place *p = ctx;
	struct listing x = {.l = l};
	const struct s3_lister each = {see_blob, &x};
	enum rc rc = list_marks(p, &x, e);

	if (!rc)
		rc = s3_list(p->s3, "blobs/", true, &each, e);
	free(x.marks);
	return rc;
}

/* The service does not say when an object was asked for last, so `young_ms` is the caller's to heed. */
static enum rc blob_trash(void *ctx, const char *digest, int64_t young_ms, struct err *e)
{
	struct place *p = ctx;
	char key[96];
	int64_t size;

	(void)young_ms;
	blob_key(digest, key);
	enum rc rc = s3_head(p->s3, key, &size, e);
	mark_key(digest, key);
	return rc ? rc : s3_put(p->s3, key, "", 0, false, e);
}

/* The mark is looked at once more: whoever asked for the blob meanwhile has taken it off. */
static enum rc drop(struct place *p, const char *digest, struct err *e)
{
	char key[96], mark[96];
	int64_t size;

	blob_key(digest, key);
	mark_key(digest, mark);
	enum rc rc = s3_head(p->s3, mark, &size, e);
	if (rc)
		return rc == RC_NOTFOUND ? RC_OK : rc;
	rc = s3_delete(p->s3, key, e);
	if (!rc)
		rc = s3_delete(p->s3, mark, e);
	if (!rc)
		log_info("store", "dropped", "digest=%s", digest);
	return rc;
}

static enum rc blob_trash_empty(void *ctx, int64_t older_ms, struct err *e)
{
	struct place *p = ctx;
	struct listing x = {0};
	enum rc rc = list_marks(p, &x, e);

	for (size_t i = 0; i < x.n && !rc; i++)
		if (clk_now_ms() - x.marks[i].at_ms >= older_ms)
			rc = drop(p, x.marks[i].digest, e);
	free(x.marks);
	return rc;
}

/* --- copies on this machine ------------------------------------------------------------------- */

struct copy {
	char path[PATH_MAX];
	int64_t size, used_s;
};

static int oldest_first(const void *a, const void *b)
{
	const struct copy *x = a, *y = b;

	return (x->used_s > y->used_s) - (x->used_s < y->used_s);
}

/* Makes room for `more` bytes. What was used lately stays even so: somebody may be reading it. */
static void trim_copies(const struct place *p, int64_t more)
{
	char dir[PATH_MAX];
	char **names;
	struct stat st;
	size_t n, kept = 0;

	str_fmt(dir, sizeof(dir), "%s/copies", p->scratch);
	if (fs_list(dir, &names, &n, NULL))
		return;
	struct copy *list = mem_array(n + 1, sizeof(*list));
	for (size_t i = 0; i < n; i++) {
		struct copy *c = &list[kept];
		str_fmt(c->path, sizeof(c->path), "%s/copies/%.200s", p->scratch, names[i]);
		if (stat(c->path, &st))
			continue;
		c->size = st.st_size;
		c->used_s = st.st_mtime;
		more += c->size;
		kept++;
	}
	qsort(list, kept, sizeof(*list), oldest_first);
	for (size_t i = 0; i < kept && more > COPIES_MAX; i++) {
		if (clk_now_ms() / 1000 - list[i].used_s < STORE_COPY_KEEP_S ||
		    unlink(list[i].path))
			continue;
		more -= list[i].size;
	}
	free(list);
	fs_list_free(names);
}

static enum rc fetch_copy(struct place *p, const char *digest, const char *path, struct err *e)
{
	char tmp[PATH_MAX], got[SHA256_HEX_SIZE];
	int64_t size;
	enum rc rc = blob_has(p, digest, &size, e);

	if (!rc)
		rc = blob_tmp(p, tmp, sizeof(tmp), e);
	if (rc)
		return rc;
	trim_copies(p, size);
	rc = blob_fetch(p, digest, tmp, e);
	if (!rc)
		rc = fs_sha256(tmp, got, NULL, e);
	if (!rc && strcmp(got, digest) != 0)
		rc = err_set(e, RC_CORRUPT, "blob %s: its bytes have digest %s", digest, got);
	if (!rc && rename(tmp, path))
		rc = err_set(e, RC_IO, "rename %s: %m", tmp);
	if (rc)
		unlink(tmp);
	return rc;
}

static enum rc blob_local(void *ctx, const char *digest, char *out, size_t size, struct err *e)
{
	struct place *p = ctx;
	enum rc rc = RC_OK;

	if (strlen(p->scratch) + 80 > size)
		return err_set(e, RC_INVALID, "path longer than %zu bytes", size);
	str_fmt(out, size, "%s/copies/%s", p->scratch, digest);
	pthread_mutex_lock(&p->lock);
	if (utimensat(AT_FDCWD, out, NULL, 0))
		rc = fetch_copy(p, digest, out, e);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

/* --- documents -------------------------------------------------------------------------------- */

static void doc_key(const char *path, char out[S3_KEY_MAX])
{
	str_fmt(out, S3_KEY_MAX, "docs/%s", path);
}

static enum rc doc_put(void *ctx, const char *path, const void *data, size_t len, struct err *e)
{
	struct place *p = ctx;
	char key[S3_KEY_MAX];

	doc_key(path, key);
	return s3_put(p->s3, key, data, len, false, e);
}

/* Names gathered from a list; NULL-terminated, as fs_list_free() wants them. */
struct names {
	char **list;
	size_t n, cap;
};

static enum rc add_name(void *ctx, const char *name, int64_t size, int64_t modified_ms,
			struct err *e)
{
	struct names *x = ctx;
	size_t len = strlen(name);

	(void)size;
	(void)modified_ms;
	if (x->n == RECORDS_MAX)
		return err_set(e, RC_INVALID, "more than %d entries", RECORDS_MAX);
	if (x->n + 2 > x->cap) {
		x->cap = x->cap ? 2 * x->cap : 64;
		x->list = mem_grow(x->list, x->cap, sizeof(*x->list));
	}
	x->list[x->n++] = mem_strn(name, len - (len && name[len - 1] == '/'));
	x->list[x->n] = NULL;
	return RC_OK;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum rc list_names(struct place *p, const char *folder, struct names *x, struct err *e)
{
	const struct s3_lister l = {add_name, x};

	*x = (struct names){.list = mem_new(sizeof(char *))};
	enum rc rc = s3_list(p->s3, folder, false, &l, e);
	if (rc) {
		fs_list_free(x->list);
		*x = (struct names){0};
	} else if (x->n) {
		qsort(x->list, x->n, sizeof(*x->list), by_text);
	}
	return rc;
}

/* A record's name is one above the last, so that the order of names is the order of appending. */
static enum rc doc_append(void *ctx, const char *path, const void *data, size_t len, struct err *e)
{
	struct place *p = ctx;
	struct names x;
	char folder[S3_KEY_MAX], key[S3_KEY_MAX];
	long long last = 0;
	uint32_t r;

	str_fmt(folder, sizeof(folder), "docs/%s/", path);
	enum rc rc = list_names(p, folder, &x, e);
	if (rc)
		return rc;
	if (x.n)
		last = strtoll(x.list[x.n - 1], NULL, 10);
	fs_list_free(x.list);
	random_bytes(&r, sizeof(r));
	str_fmt(key, sizeof(key), "docs/%s/%012lld-%08x", path, last + 1, r);
	return s3_put(p->s3, key, data, len, false, e);
}

static enum rc read_records(struct place *p, const char *path, struct buf *out, struct err *e)
{
	struct names x;
	struct buf one = BUF_INIT;
	char folder[S3_KEY_MAX], key[S3_KEY_MAX];

	str_fmt(folder, sizeof(folder), "docs/%s/", path);
	enum rc rc = list_names(p, folder, &x, e);
	if (rc)
		return rc;
	if (!x.n)
		rc = err_set(e, RC_NOTFOUND, "%s: absent", path);
	for (size_t i = 0; i < x.n && !rc; i++) {
		str_fmt(key, sizeof(key), "%s%.128s", folder, x.list[i]);
		rc = s3_get_buf(p->s3, key, STORE_DOC_MAX - out->len, &one, e);
		buf_append(out, one.data, one.len);
	}
	buf_release(&one);
	fs_list_free(x.list);
	return rc;
}

static enum rc doc_get(void *ctx, const char *path, struct buf *out, struct err *e)
{
	struct place *p = ctx;
	char key[S3_KEY_MAX];

	if (str_ends(path, ".jsonl"))
		return read_records(p, path, out, e);
	doc_key(path, key);
	return s3_get_buf(p->s3, key, STORE_DOC_MAX, out, e);
}

static enum rc doc_list(void *ctx, const char *folder, char ***names, size_t *n, struct err *e)
{
	struct place *p = ctx;
	struct names x;
	char key[S3_KEY_MAX];

	str_fmt(key, sizeof(key), "docs/%s%s", folder, *folder ? "/" : "");
	enum rc rc = list_names(p, key, &x, e);
	*names = x.list;
	*n = x.n;
	return rc;
}

const struct store_ops store_s3 = {
	.scheme = "s3://",
	.open = place_open,
	.close = place_close,
	.has = blob_has,
	.trash = blob_trash,
	.trash_empty = blob_trash_empty,
	.tmp = blob_tmp,
	.put = blob_put,
	.path = blob_path,
	.local = blob_local,
	.read = blob_read,
	.blobs = blob_list,
	.fetch = blob_fetch,
	.doc_put = doc_put,
	.doc_append = doc_append,
	.doc_get = doc_get,
	.doc_list = doc_list,
};
