/* A store in a folder:
 *
 *   store.json              {"format":1,"id":"..."}
 *   blobs/ab/ab12....tar    immutable, mode 0444
 *   docs/<path>             documents
 *   tmp/                    files on their way in; swept when a day old
 *   trash/ab12....tar       blobs put aside by gc.h; asked for, they go back
 */
#include "store/store.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT 1
#define TMP_AGE_S (24 * 3600)
#define CHUNK ((size_t)1 << 20)
#define TOUCH_S 3600 /* a blob asked for gets a new time this often */
#define ROOT_MAX (PATH_MAX - 400) /* room for the longest name below */

struct place {
	char root[PATH_MAX];
};

static enum rc write_identity(const char *path, char id[33], struct err *e)
{
	uint8_t raw[16];
	char text[80];

	random_bytes(raw, sizeof(raw));
	for (int i = 0; i < 16; i++)
		str_fmt(id + 2 * i, 3, "%02x", raw[i]);
	str_fmt(text, sizeof(text), "{\"format\":%d,\"id\":\"%s\"}\n", FORMAT, id);
	return fs_write_durable(path, text, strlen(text), e);
}

static enum rc read_identity(const char *path, char id[33], struct err *e)
{
	json_t *v = NULL;
	const char *text;
	int64_t format;
	enum rc rc = jx_load(path, 4096, &v, e);

	if (!rc && !(rc = jx_i64(v, "format", 1, INT64_MAX, &format, e)) && format != FORMAT)
		rc = err_set(e, RC_UNSUPPORTED, "%s: format %lld, this program knows %d", path,
			     (long long)format, FORMAT);
	if (!rc && !(rc = jx_str(v, "id", &text, e)))
		str_copy(id, 33, text);
	json_decref(v);
	return rc;
}

static void sweep_tmp(const char *root)
{
	char dir[PATH_MAX], path[PATH_MAX + 256];
	char **names;
	size_t n;
	struct stat st;

	str_fmt(dir, sizeof(dir), "%s/tmp", root);
	if (fs_list(dir, &names, &n, NULL))
		return;
	for (size_t i = 0; i < n; i++) {
		str_fmt(path, sizeof(path), "%s/%s", dir, names[i]);
		if (!stat(path, &st) && clk_now_ms() / 1000 - st.st_mtime > TMP_AGE_S && !unlink(path))
			log_info("store", "swept", "file=%s", path);
	}
	fs_list_free(names);
}

static enum rc make_folders(const char *root, struct err *e)
{
	static const char *const parts[] = {"blobs", "docs", "tmp"};
	char path[PATH_MAX];
	enum rc rc = RC_OK;

	for (size_t i = 0; i < 3 && !rc; i++) {
		str_fmt(path, sizeof(path), "%s/%s", root, parts[i]);
		rc = fs_mkdirs(path, e);
	}
	return rc ? rc : fs_sync_dir(root, e);
}

static enum rc file_open(const char *where, bool create, void **ctx, char id[33], struct err *e)
{
	char path[PATH_MAX];
	enum rc rc = RC_OK;

	if (where[0] != '/' || strlen(where) >= ROOT_MAX)
		return err_set(e, RC_INVALID, "expected an absolute path");
	str_fmt(path, sizeof(path), "%s/store.json", where);
	if (!fs_exists(path)) {
		if (!create)
			return err_set(e, RC_NOTFOUND, "no store.json there");
		rc = make_folders(where, e);
		if (!rc)
			rc = write_identity(path, id, e);
	}
	/* Two that made it at once both read what the rename left. */
	if (!rc)
		rc = read_identity(path, id, e);
	if (rc)
		return rc;
	struct place *p = mem_new(sizeof(*p));
	str_copy(p->root, sizeof(p->root), where);
	sweep_tmp(p->root);
	*ctx = p;
	return RC_OK;
}

static void file_close(void *ctx)
{
	free(ctx);
}

static enum rc file_path(void *ctx, const char *digest, char *out, size_t size, struct err *e)
{
	const struct place *p = ctx;

	if (strlen(p->root) + 80 > size)
		return err_set(e, RC_INVALID, "path longer than %zu bytes", size);
	str_fmt(out, size, "%s/blobs/%.2s/%s.tar", p->root, digest, digest);
	return RC_OK;
}

/* The time a blob was last asked for, or put aside. */
static int set_time(const char *path)
{
	struct timespec now = {.tv_sec = clk_now_ms() / 1000};
	const struct timespec both[2] = {now, now};

	return utimensat(AT_FDCWD, path, both, 0);
}

static void trash_path(const struct place *p, const char *digest, char out[PATH_MAX])
{
	str_fmt(out, PATH_MAX, "%s/trash/%s.tar", p->root, digest);
}

/* The blob's path and what stat() says of it. Asking keeps a blob young, and takes it back out of the
 * trash: between a look and the name in a document garbage must not be collected. */
static enum rc find(const struct place *p, const char *digest, char path[PATH_MAX], struct stat *st,
		    struct err *e)
{
	char aside[PATH_MAX];
	enum rc rc = file_path((void *)(uintptr_t)p, digest, path, PATH_MAX, e);

	if (rc)
		return rc;
	if (stat(path, st)) {
		int why = errno;
		trash_path(p, digest, aside);
		if (why == ENOENT && !rename(aside, path) && !stat(path, st))
			log_info("store", "out_of_the_trash", "digest=%s", digest);
		else
			return err_set(e, err_from_errno(why), "blob %s: %s", digest, strerror(why));
	}
	if (clk_now_ms() / 1000 - st->st_mtime > TOUCH_S)
		(void)set_time(path);
	return RC_OK;
}

static enum rc file_has(void *ctx, const char *digest, int64_t *size, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;
	enum rc rc = find(ctx, digest, path, &st, e);

	if (!rc)
		*size = st.st_size;
	return rc;
}

static enum rc file_tmp(void *ctx, char *out, size_t size, struct err *e)
{
	const struct place *p = ctx;
	uint64_t r;

	if (strlen(p->root) + 80 > size)
		return err_set(e, RC_INVALID, "path longer than %zu bytes", size);
	random_bytes(&r, sizeof(r));
	str_fmt(out, size, "%s/tmp/%d.%016llx.tar", p->root, (int)getpid(), (unsigned long long)r);
	return RC_OK;
}

/* Makes the folders above `path` below `base`, each name durable. */
static enum rc make_parents(const char *path, size_t base_len, struct err *e)
{
	char dir[PATH_MAX];

	for (size_t i = base_len + 1; path[i]; i++) {
		if (path[i] != '/')
			continue;
		memcpy(dir, path, i);
		dir[i] = 0;
		if (mkdir(dir, 0755)) {
			if (errno == EEXIST)
				continue;
			return err_set(e, err_from_errno(errno), "create folder %s: %m", dir);
		}
		*strrchr(dir, '/') = 0;
		enum rc rc = fs_sync_dir(dir, e);
		if (rc)
			return rc;
	}
	return RC_OK;
}

static bool same_device(const char *a, const char *b)
{
	struct stat x, y;

	return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev;
}

/* A name of our own for the file, on our file system: a second link, or a copy. */
static enum rc second_name(const char *path, const char *tmp, struct err *e)
{
	unlink(tmp);
	if (link(path, tmp) == 0)
		return RC_OK;
	enum rc rc = fs_copy(path, tmp, e);
	if (rc)
		unlink(tmp);
	return rc;
}

static enum rc file_put(void *ctx, const char *from, const char *digest, int64_t size, bool move,
			struct err *e)
{
	const struct place *p = ctx;
	char path[PATH_MAX], tmp[PATH_MAX];
	enum rc rc = file_path(ctx, digest, path, sizeof(path), e);

	(void)size;
	/* Bytes that are there already are replaced all the same: a rename heals a rotten copy. */
	if (!rc && (!move || !same_device(from, p->root))) {
		rc = file_tmp(ctx, tmp, sizeof(tmp), e);
		if (!rc)
			rc = second_name(from, tmp, e);
		from = tmp;
	}
	if (!rc && move && chmod(from, 0644))
		rc = err_set(e, err_from_errno(errno), "chmod %s: %m", from);
	if (!rc)
		rc = make_parents(path, strlen(p->root), e);
	if (!rc)
		rc = fs_commit(from, path, e);
	if (rc && from == tmp)
		unlink(tmp);
	if (!rc)
		(void)!chmod(path, 0444); /* A guard against accidents, not a promise. */
	return rc;
}

static enum rc file_local(void *ctx, const char *digest, char *out, size_t size, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;
	enum rc rc = find(ctx, digest, path, &st, e);

	return rc ? rc : file_path(ctx, digest, out, size, e);
}

static enum rc file_read(void *ctx, const char *digest, int64_t offset, int64_t len,
			 const struct store_sink *sink, struct err *e)
{
	char path[PATH_MAX], *chunk;
	struct stat st;
	enum rc rc = find(ctx, digest, path, &st, e);

	if (rc)
		return rc;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, err_from_errno(errno), "blob %s: %m", digest);
	chunk = mem_new(CHUNK);
	for (ssize_t n = 1; !rc && len && n;) {
		n = pread(fd, chunk, len < 0 || len > (int64_t)CHUNK ? CHUNK : (size_t)len, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = err_set(e, RC_IO, "read %s: %m", path);
		else if (n > 0)
			rc = sink->data(sink->ctx, chunk, (size_t)n, e);
		offset += n;
		len -= len > 0 ? n : 0;
	}
	free(chunk);
	close(fd);
	return rc;
}

static enum rc file_fetch(void *ctx, const char *digest, const char *dest, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;
	enum rc rc = find(ctx, digest, path, &st, e);

	return rc ? rc : fs_copy(path, dest, e);
}

/* --- garbage ---------------------------------------------------------------------------------- */

static enum rc list_folder(const char *dir, bool trash, const struct store_lister *l, struct err *e)
{
	char path[PATH_MAX + 256], digest[SHA256_HEX_SIZE];
	char **names;
	struct stat st;
	size_t n;
	enum rc rc = fs_exists(dir) ? fs_list(dir, &names, &n, e) : RC_NOTFOUND;

	if (rc)
		return rc == RC_NOTFOUND ? RC_OK : rc;
	for (size_t i = 0; i < n && !rc; i++) {
		str_copy(digest, sizeof(digest), names[i]);
		str_fmt(path, sizeof(path), "%s/%.255s", dir, names[i]);
		if (!sha256_hex_valid(digest) || strcmp(names[i] + 64, ".tar") || stat(path, &st))
			continue;
		rc = l->blob(l->ctx, digest, st.st_size,
			     st.st_mtim.tv_sec * 1000ll + st.st_mtim.tv_nsec / 1000000, trash, e);
	}
	fs_list_free(names);
	return rc;
}

static enum rc file_blobs(void *ctx, const struct store_lister *l, struct err *e)
{
	const struct place *p = ctx;
	char dir[PATH_MAX];
	enum rc rc = RC_OK;

	for (int i = 0; i < 256 && !rc; i++) {
		str_fmt(dir, sizeof(dir), "%s/blobs/%02x", p->root, i);
		rc = list_folder(dir, false, l, e);
	}
	str_fmt(dir, sizeof(dir), "%s/trash", p->root);
	return rc ? rc : list_folder(dir, true, l, e);
}

static enum rc file_trash(void *ctx, const char *digest, int64_t young_ms, struct err *e)
{
	const struct place *p = ctx;
	char path[PATH_MAX], aside[PATH_MAX];
	struct stat st;
	enum rc rc = file_path(ctx, digest, path, sizeof(path), e);

	if (rc)
		return rc;
	str_fmt(aside, sizeof(aside), "%s/trash", p->root);
	if (mkdir(aside, 0755) && errno != EEXIST)
		return err_set(e, err_from_errno(errno), "create %s: %m", aside);
	trash_path(p, digest, aside);
	if (stat(path, &st))
		return err_set(e, err_from_errno(errno), "blob %s: %m", digest);
	if (clk_now_ms() - st.st_mtime * 1000ll < young_ms)
		return err_set(e, RC_CONFLICT, "blob %s: was asked for just now", digest);
	/* The time in the trash counts from here. */
	if (set_time(path) || rename(path, aside))
		return err_set(e, err_from_errno(errno), "blob %s: %m", digest);
	return RC_OK;
}

struct emptying {
	const struct place *p;
	int64_t older_ms;
};

static enum rc drop_old(void *ctx, const char *digest, int64_t size, int64_t modified_ms, bool trash,
			struct err *e)
{
	const struct emptying *k = ctx;
	char path[PATH_MAX];

	(void)e;
	trash_path(k->p, digest, path);
	if (trash && clk_now_ms() - modified_ms >= k->older_ms && !unlink(path))
		log_info("store", "dropped", "digest=%s bytes=%lld", digest, (long long)size);
	return RC_OK;
}

static enum rc file_trash_empty(void *ctx, int64_t older_ms, struct err *e)
{
	struct emptying k = {ctx, older_ms};
	const struct store_lister l = {drop_old, &k};
	char dir[PATH_MAX];

	str_fmt(dir, sizeof(dir), "%s/trash", k.p->root);
	return list_folder(dir, true, &l, e);
}

/* --- documents -------------------------------------------------------------------------------- */

static void doc_path(const struct place *p, const char *path, char out[PATH_MAX])
{
	str_fmt(out, PATH_MAX, "%s/docs%s%s", p->root, *path ? "/" : "", path);
}

static enum rc file_doc_put(void *ctx, const char *path, const void *data, size_t len, struct err *e)
{
	const struct place *p = ctx;
	char full[PATH_MAX];

	doc_path(p, path, full);
	enum rc rc = make_parents(full, strlen(p->root), e);
	return rc ? rc : fs_write_durable(full, data, len, e);
}

static enum rc file_doc_get(void *ctx, const char *path, struct buf *out, struct err *e)
{
	char full[PATH_MAX];

	doc_path(ctx, path, full);
	return fs_read(full, STORE_DOC_MAX, out, e);
}

/* Where the last record that is whole ends. A power cut may leave half a record, or one with its end
 * and without its middle: blocks that were never written read as zeros, which JSON never holds. Only
 * the last record can be torn, for each is durable before the next begins. */
static enum rc whole_end(int fd, const char *path, off_t end, off_t *whole, struct err *e)
{
	char chunk[4096];
	bool torn = false;

	*whole = end;
	for (off_t at = end; at > 0;) {
		size_t n = at < (off_t)sizeof(chunk) ? (size_t)at : sizeof(chunk);
		if (pread(fd, chunk, n, at - (off_t)n) != (ssize_t)n)
			return err_set(e, RC_IO, "read %s: %m", path);
		at -= (off_t)n;
		while (n--) {
			if (chunk[n] == '\n' && at + (off_t)n + 1 != end) {
				*whole = torn ? at + (off_t)n + 1 : end;
				return RC_OK;
			}
			torn |= !chunk[n] || (chunk[n] != '\n' && at + (off_t)n + 1 == end);
		}
	}
	*whole = torn ? 0 : end;
	return RC_OK;
}

static enum rc cut_torn_tail(int fd, const char *path, struct err *e)
{
	off_t end = lseek(fd, 0, SEEK_END), at;
	enum rc rc = whole_end(fd, path, end, &at, e);

	if (rc || at == end)
		return rc;
	log_warn("store", "torn_tail_cut", "file=%s bytes=%lld", path, (long long)(end - at));
	if (ftruncate(fd, at))
		return err_set(e, err_from_errno(errno), "truncate %s: %m", path);
	return RC_OK;
}

static enum rc file_doc_append(void *ctx, const char *path, const void *data, size_t len,
			       struct err *e)
{
	const struct place *p = ctx;
	char full[PATH_MAX];

	doc_path(p, path, full);
	enum rc rc = make_parents(full, strlen(p->root), e);
	if (rc)
		return rc;
	int fd = open(full, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_set(e, err_from_errno(errno), "open %s: %m", full);
	/* One appender at a time, also between servers on one folder. */
	if (flock(fd, LOCK_EX))
		rc = err_set(e, RC_IO, "lock %s: %m", full);
	if (!rc)
		rc = cut_torn_tail(fd, full, e);
	if (!rc)
		rc = fs_append_durable(full, data, len, e);
	close(fd);
	if (!rc && fs_size(full) == (int64_t)len) { /* The first record: its name must last too. */
		*strrchr(full, '/') = 0;
		rc = fs_sync_dir(full, e);
	}
	return rc;
}

static enum rc file_doc_list(void *ctx, const char *folder, char ***names, size_t *n, struct err *e)
{
	char full[PATH_MAX];

	doc_path(ctx, folder, full);
	if (!fs_exists(full)) {
		*names = mem_new(sizeof(char *));
		*n = 0;
		return RC_OK;
	}
	return fs_list(full, names, n, e);
}

const struct store_ops store_file = {
	.scheme = "file://",
	.open = file_open,
	.close = file_close,
	.has = file_has,
	.tmp = file_tmp,
	.put = file_put,
	.path = file_path,
	.local = file_local,
	.read = file_read,
	.blobs = file_blobs,
	.trash = file_trash,
	.trash_empty = file_trash_empty,
	.fetch = file_fetch,
	.doc_put = file_doc_put,
	.doc_append = file_doc_append,
	.doc_get = file_doc_get,
	.doc_list = file_doc_list,
};
