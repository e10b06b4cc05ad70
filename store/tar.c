#include "store/tar.h"

#include "base/check.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/behind.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define END_BYTES 1024
#define THREAD_MIN ((int64_t)4 << 20) /* below this threads cost more than they save */

struct tar_writer {
	struct archive *a;
	char *path;
	int fd;
	int64_t pos;      /* bytes written */
	int64_t left;     /* of the member being written */
	struct sha256 all, member; /* until there is `behind`, which goes on with them */
	bool in_member;   /* what is written now is the member's data */
	int64_t member_put; /* of that data */
	struct behind *behind; /* owned; once the archive is worth its threads */
	bool alone; /* there are no threads to be had */
	int write_errno;
	bool given_up;    /* nothing is written any more */
};

bool tar_path_ok(const char *path)
{
	size_t n = strlen(path);

	if (!n || n > TAR_PATH_MAX || !utf8_valid(path, n))
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)path[i] < 0x20 || path[i] == 0x7f || path[i] == '\\')
			return false;
	for (const char *p = path;;) {
		size_t len = strcspn(p, "/");
		if (!len || (len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		if (!p[len])
			return true;
		p += len + 1;
	}
}

static int write_here(struct tar_writer *w, const void *data, size_t len)
{
	if (w->in_member)
		sha256_add_both(&w->all, &w->member, data, len);
	else
		sha256_add(&w->all, data, len);
	errno = 0;
	return fs_write_all(w->fd, w->path, data, len, NULL) ? errno ? errno : EIO : 0;
}

static bool put(struct tar_writer *w, const void *data, size_t len)
{
	if (!w->behind && !w->alone && w->pos >= THREAD_MIN) {
		w->behind = behind_new(w->fd, w->pos, &w->all,
				       w->in_member ? &w->member : NULL);
		w->alone = !w->behind;
	}
	w->write_errno = w->behind ? behind_put(w->behind, data, len, w->in_member)
				   : write_here(w, data, len);
	if (w->write_errno)
		return false;
	w->pos += (int64_t)len;
	if (w->in_member)
		w->member_put += (int64_t)len;
	return true;
}

static la_ssize_t on_write(struct archive *a, void *ctx, const void *data, size_t len)
{
	struct tar_writer *w = ctx;

	(void)a;
	return !w->given_up && put(w, data, len) ? (la_ssize_t)len : -1;
}

static enum rc write_err(struct tar_writer *w, struct err *e)
{
	if (!w->write_errno)
		return err_set(e, RC_IO, "write %s: %s", w->path, archive_error_string(w->a));
	errno = w->write_errno;
	return err_set(e, err_from_errno(errno), "write %s: %m", w->path);
}

/* Unbuffered, so that `pos` is exact between members; no padding after the end blocks. */
static struct archive *new_pax(void *ctx, archive_write_callback *cb)
{
	struct archive *a = archive_write_new();

	ASSERT(a);
	archive_write_set_format_pax_restricted(a);
	archive_write_set_bytes_per_block(a, 0);
	archive_write_set_bytes_in_last_block(a, 1);
	ASSERT(archive_write_open(a, ctx, NULL, cb, NULL) == ARCHIVE_OK);
	return a;
}

enum rc tar_create(const char *path, struct tar_writer **out, struct err *e)
{
	*out = NULL;
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_set(e, err_from_errno(errno), "create %s: %m", path);
	struct tar_writer *w = mem_new(sizeof(*w));
	w->fd = fd;
	w->path = mem_str(path);
	sha256_init(&w->all);
	sha256_init(&w->member);
	w->a = new_pax(w, on_write);
	*out = w;
	return RC_OK;
}

static struct archive_entry *entry_of(const char *name, int64_t size)
{
	struct archive_entry *en = archive_entry_new();

	ASSERT(en);
	archive_entry_set_pathname_utf8(en, name);
	archive_entry_set_size(en, size);
	archive_entry_set_filetype(en, AE_IFREG);
	archive_entry_set_perm(en, 0644);
	archive_entry_set_mtime(en, 0, 0);
	return en;
}

struct counter {
	size_t bytes;
	bool given_up;
};

static la_ssize_t on_count(struct archive *a, void *ctx, const void *data, size_t len)
{
	struct counter *c = ctx;

	(void)a;
	(void)data;
	c->bytes += len;
	return c->given_up ? -1 : (la_ssize_t)len;
}

/* What libarchive will write before this member's data: 512, or more with extended headers. */
static size_t header_bytes(struct archive_entry *en)
{
	struct counter c = {0};
	struct archive *a = new_pax(&c, on_count);

	archive_write_header(a, en);
	size_t out = c.bytes;
	c.given_up = true; /* Closing would send the whole member as zeros. */
	archive_write_free(a);
	return out;
}

static void octal(char *field, int digits, uint64_t v)
{
	for (int i = digits - 1; i >= 0; i--, v >>= 3)
		field[i] = (char)('0' + (v & 7));
}

/* One pax global header: a 512-byte ustar header of type 'g' and a body that is one comment
 * record, "<len> comment=....\n", filling `gap` bytes in all. */
static bool put_gap(struct tar_writer *w, size_t gap)
{
	char block[2 * TAR_ALIGN] = {0};
	unsigned sum = 0;
	size_t body = gap - TAR_BLOCK;

	ASSERT(gap >= 2 * TAR_BLOCK && gap <= sizeof(block) && gap % TAR_BLOCK == 0);
	memcpy(block, "pax_global_header", 17);
	octal(block + 100, 7, 0644);
	octal(block + 108, 7, 0);
	octal(block + 116, 7, 0);
	octal(block + 124, 11, body);
	octal(block + 136, 11, 0);
	block[156] = 'g';
	memcpy(block + 257, "ustar\00000", 8);
	memset(block + 148, ' ', 8);
	for (int i = 0; i < TAR_BLOCK; i++)
		sum += (unsigned char)block[i];
	octal(block + 148, 6, sum);
	block[154] = 0;
	memset(block + TAR_BLOCK, '.', body - 1);
	int n = snprintf(block + TAR_BLOCK, 32, "%zu comment=", body);
	block[TAR_BLOCK + n] = '.';
	block[gap - 1] = '\n';
	return put(w, block, gap);
}

enum rc tar_member_begin(struct tar_writer *w, const char *name, int64_t size, bool aligned,
			 struct err *e)
{
	enum rc rc = RC_OK;

	ASSERT(size >= 0 && w->left == 0);
	if (!tar_path_ok(name))
		return err_set(e, RC_INVALID, "member name \"%s\": not a plain relative path", name);
	/* Pads the member before to whole blocks, so that `pos` is where the next header goes. */
	if (archive_write_finish_entry(w->a) < ARCHIVE_WARN)
		return write_err(w, e);
	struct archive_entry *en = entry_of(name, size);
	if (aligned) {
		size_t at = ((size_t)w->pos + header_bytes(en)) % TAR_ALIGN;
		size_t gap = at ? TAR_ALIGN - at : 0;
		if (gap == TAR_BLOCK)
			gap += TAR_ALIGN;
		if (gap && !put_gap(w, gap))
			rc = write_err(w, e);
	}
	if (!rc && archive_write_header(w->a, en) != ARCHIVE_OK)
		rc = write_err(w, e);
	archive_entry_free(en);
	if (!w->behind)
		sha256_init(&w->member);
	w->left = size;
	w->member_put = 0;
	ASSERT(rc || !aligned || w->pos % TAR_ALIGN == 0);
	return rc;
}

enum rc tar_data(struct tar_writer *w, const void *data, size_t len, struct err *e)
{
	const char *p = data;
	int64_t want = w->member_put + (int64_t)len;

	ASSERT((int64_t)len <= w->left);
	w->left -= (int64_t)len;
	w->in_member = true;
	while (len) {
		size_t n = len > (1u << 20) ? 1u << 20 : len; /* Still in cache when hashed again. */
		la_ssize_t done = archive_write_data(w->a, p, n);
		if (done <= 0)
			return write_err(w, e);
		p += done;
		len -= (size_t)done;
	}
	w->in_member = false;
	ASSERT_EQ(w->member_put, want); /* Nothing was kept back, nothing put between. */
	return RC_OK;
}

enum rc tar_member_end(struct tar_writer *w, char hex[SHA256_HEX_SIZE], struct err *e)
{
	uint8_t digest[SHA256_SIZE];

	ASSERT_EQ(w->left, 0);
	if (w->behind)
		behind_member(w->behind, &w->member);
	if (archive_write_finish_entry(w->a) < ARCHIVE_WARN)
		return write_err(w, e);
	sha256_end(&w->member, digest);
	sha256_hex(digest, hex);
	return RC_OK;
}

static void writer_free(struct tar_writer *w)
{
	if (w->a)
		archive_write_free(w->a);
	behind_free(w->behind);
	if (w->fd >= 0)
		close(w->fd);
	free(w->path);
	free(w);
}

enum rc tar_finish(struct tar_writer *w, bool sync, char hex[SHA256_HEX_SIZE], int64_t *size,
		   struct err *e)
{
	uint8_t digest[SHA256_SIZE];
	enum rc rc = RC_OK;

	if (archive_write_close(w->a) != ARCHIVE_OK ||
	    (w->behind && (w->write_errno = behind_end(w->behind, &w->all))))
		rc = write_err(w, e);
	else if (sync && fsync(w->fd))
		rc = err_set(e, err_from_errno(errno), "fsync %s: %m", w->path);
	sha256_end(&w->all, digest);
	sha256_hex(digest, hex);
	*size = w->pos;
	int fd = w->fd;
	w->fd = -1;
	if (close(fd) && !rc)
		rc = err_set(e, err_from_errno(errno), "close %s: %m", w->path);
	if (rc)
		unlink(w->path);
	writer_free(w);
	return rc;
}

void tar_abort(struct tar_writer *w)
{
	if (!w)
		return;
	w->given_up = true;
	unlink(w->path);
	writer_free(w);
}

/* Reading. libarchive gets 512 bytes at a time and nothing ahead of need, so after a header
 * `pos` is where the data begins. */
struct source {
	int fd;
	int64_t pos, size;
	char block[TAR_BLOCK];
};

static la_ssize_t on_read(struct archive *a, void *ctx, const void **data)
{
	struct source *s = ctx;
	ssize_t n;

	do {
		n = pread(s->fd, s->block, TAR_BLOCK, s->pos);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		archive_set_error(a, errno, "read error");
		return -1;
	}
	s->pos += n;
	*data = s->block;
	return n;
}

static la_int64_t on_skip(struct archive *a, void *ctx, la_int64_t want)
{
	struct source *s = ctx;

	(void)a;
	if (want > s->size - s->pos)
		want = s->size - s->pos;
	want -= want % TAR_BLOCK;
	s->pos += want;
	return want;
}

static enum rc bad(const char *what, const char *member, const char *why, struct err *e)
{
	return err_set(e, RC_CORRUPT, "%s: member \"%s\": %s", what, member, why);
}

static enum rc check_entry(struct archive_entry *en, const char *what, const struct source *s,
			   struct err *e)
{
	const char *name = archive_entry_pathname_utf8(en);

	if (!name)
		name = archive_entry_pathname(en);
	if (!name || !tar_path_ok(name))
		return bad(what, name ? name : "?", "not a plain relative path", e);
	if (archive_entry_hardlink(en) || archive_entry_symlink(en))
		return bad(what, name, "is a link", e);
	if (archive_entry_filetype(en) != AE_IFREG)
		return bad(what, name, "is not a regular file", e);
	if (archive_entry_sparse_count(en))
		return bad(what, name, "is a sparse file", e);
	if (!archive_entry_size_is_set(en) || archive_entry_size(en) < 0)
		return bad(what, name, "has no size", e);
	/* s->pos is past the end only if the header itself was cut. */
	if (s->pos > s->size || archive_entry_size(en) > s->size - s->pos)
		return bad(what, name, "is cut off", e);
	return RC_OK;
}

static enum rc add_member(struct tar_index *x, struct archive_entry *en, const char *what,
			  const struct source *s, struct err *e)
{
	enum rc rc = check_entry(en, what, s, e);

	if (rc)
		return rc;
	const char *name = archive_entry_pathname_utf8(en);
	if (!name)
		name = archive_entry_pathname(en);
	if (x->n == TAR_MEMBERS_MAX)
		return err_set(e, RC_CORRUPT, "%s: more than %d members", what, TAR_MEMBERS_MAX);
	if (!(x->n & (x->n - 1)))
		x->members = mem_grow(x->members, x->n ? 2 * x->n : 1, sizeof(*x->members));
	x->members[x->n++] = (struct tar_member){mem_str(name), s->pos, archive_entry_size(en)};
	return RC_OK;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum rc no_duplicates(const struct tar_index *x, const char *what, struct err *e)
{
	char **names = mem_array(x->n + 1, sizeof(*names));
	enum rc rc = RC_OK;

	for (size_t i = 0; i < x->n; i++)
		names[i] = x->members[i].path;
	qsort(names, x->n, sizeof(*names), by_path);
	for (size_t i = 1; i < x->n && !rc; i++)
		if (!strcmp(names[i - 1], names[i]))
			rc = bad(what, names[i], "is there twice", e);
	free(names);
	return rc;
}

/* Two zero blocks, and they are the last. libarchive itself would forgive their absence. */
static enum rc check_end(const struct tar_index *x, const struct source *s, const char *what,
			 struct err *e)
{
	static const char zeros[END_BYTES];
	char tail[END_BYTES];
	const struct tar_member *last = x->n ? &x->members[x->n - 1] : NULL;
	int64_t at = last ? (last->offset + last->size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK : 0;

	if (s->size < at + END_BYTES || pread(s->fd, tail, END_BYTES, at) != END_BYTES)
		return err_set(e, RC_CORRUPT, "%s: cut off: %lld bytes, expected %lld", what,
			       (long long)s->size, (long long)(at + END_BYTES));
	if (memcmp(tail, zeros, END_BYTES))
		return err_set(e, RC_CORRUPT, "%s: no end mark at byte %lld", what, (long long)at);
	if (s->size > at + END_BYTES)
		return err_set(e, RC_CORRUPT, "%s: %lld bytes after the end mark", what,
			       (long long)(s->size - at - END_BYTES));
	return RC_OK;
}

enum rc tar_index(int fd, const char *what, struct tar_index *out, struct err *e)
{
	struct source s = {.fd = fd};
	struct archive_entry *en;
	struct stat st;
	enum rc rc = RC_OK;
	int r;

	*out = (struct tar_index){0};
	if (fstat(fd, &st))
		return err_set(e, RC_IO, "%s: %m", what);
	s.size = st.st_size;
	struct archive *a = archive_read_new();
	ASSERT(a);
	archive_read_support_format_tar(a);
	if (archive_read_open2(a, &s, NULL, on_read, on_skip, NULL) != ARCHIVE_OK)
		rc = err_set(e, RC_CORRUPT, "%s: not a tar archive: %s", what,
			     archive_error_string(a));
	while (!rc && (r = archive_read_next_header(a, &en)) != ARCHIVE_EOF) {
		if (r != ARCHIVE_OK)
			rc = err_set(e, RC_CORRUPT, "%s: byte %lld: %s", what, (long long)s.pos,
				     archive_error_string(a));
		else
			rc = add_member(out, en, what, &s, e);
	}
	archive_read_free(a);
	if (!rc)
		rc = check_end(out, &s, what, e);
	if (!rc)
		rc = no_duplicates(out, what, e);
	if (rc)
		tar_index_release(out);
	return rc;
}

void tar_index_release(struct tar_index *x)
{
	for (size_t i = 0; i < x->n; i++)
		free(x->members[i].path);
	free(x->members);
	*x = (struct tar_index){0};
}
