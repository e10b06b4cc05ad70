/* Power cuts and dirty disks. The calls with which the store changes files are caught in this
 * program (its own open, write, fsync, rename, ... stand before libc's), done, and written down.
 * Then:
 *
 *  - for every prefix of the record and any choice among what was not yet fsynced (sectors of data,
 *    names in folders, sizes), the disk is built again as the cut would have left it, and the store
 * is opened on it: what was acknowledged is there, the rest is there whole or not at all;
 *  - the n-th call fails (EIO, ENOSPC, half a write), n counting up: refusals, never lies;
 *  - any bit flipped anywhere in an artifact is found.
 *
 * PAWL_TEST_TORN=10000 sets the number of cuts (default 600); a stricter disk than any real one:
 * unsynced names and sectors survive independently of each other and of their order.
 */
#include "store/artifact.h"
#include "store/store.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"

#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPS 4096
#define FDS 256
#define INODES 512
#define SECTOR 512

/* --- the record ------------------------------------------------------------------------------- */

enum kind { OP_DATA, OP_CUT, OP_SYNC, OP_NAME };

struct op {
	enum kind kind;
	int ino;   /* of the file, or of the folder that holds the name */
	int child; /* OP_NAME: what the name means now, 0: nothing */
	char *name;
	int64_t at; /* OP_DATA: offset; OP_CUT: size */
	char *data;
	size_t len;
};

static struct {
	bool on;
	char root[PATH_MAX];
	struct op ops[OPS];
	int n;
	ino_t known[INODES]; /* place in it is our number; 1 is the root */
	int n_known;
	int fd_ino[FDS];
	bool fd_append[FDS];
	/* faults */
	int fail_at, calls, fail_errno; /* the fail_at-th call fails; 0: none */
	bool half;			/* instead: a write does half */
} rec;

static bool inside(const char *path)
{
	size_t n = strlen(rec.root);

	return rec.on && !strncmp(path, rec.root, n) && (path[n] == '/' || !path[n]);
}

static bool fails(void)
{
	if (!rec.fail_at || ++rec.calls != rec.fail_at || rec.half)
		return false;
	errno = rec.fail_errno;
	return true;
}

static int number_of(ino_t ino)
{
	for (int i = 1; i <= rec.n_known; i++)
		if (rec.known[i] == ino)
			return i;
	CHECK(rec.n_known + 1 < INODES);
	rec.known[++rec.n_known] = ino;
	return rec.n_known;
}

static int ino_at(const char *path)
{
	struct stat st;

	return lstat(path, &st) ? 0 : number_of(st.st_ino);
}

static struct op *add(enum kind kind, int ino)
{
	CHECK(rec.n < OPS);
	rec.ops[rec.n] = (struct op){.kind = kind, .ino = ino};
	return &rec.ops[rec.n++];
}

static void add_name(const char *path, int child)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');

	str_fmt(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	struct op *o = add(OP_NAME, ino_at(dir));
	o->name = mem_str(slash + 1);
	o->child = child;
}

/* A number given back by the system names another file from now on. */
static void forget(int ino)
{
	rec.known[ino] = 0;
}

int open(const char *path, int flags, ...)
{
	va_list ap;
	bool fresh = inside(path) && (flags & O_CREAT) && access(path, F_OK) != 0;
	bool change = inside(path) && (flags & (O_CREAT | O_TRUNC));

	va_start(ap, flags);
	int mode = flags & O_CREAT ? va_arg(ap, int) : 0;
	va_end(ap);
	if (change && fails())
		return -1;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
	if (fd >= 0 && fd < FDS) {
		rec.fd_ino[fd] = inside(path) ? ino_at(path) : 0;
		rec.fd_append[fd] = flags & O_APPEND;
		if (fresh)
			add_name(path, rec.fd_ino[fd]);
		else if (rec.fd_ino[fd] && (flags & O_TRUNC))
			add(OP_CUT, rec.fd_ino[fd]);
	}
	return fd;
}

int close(int fd)
{
	if (fd >= 0 && fd < FDS)
		rec.fd_ino[fd] = 0;
	return (int)syscall(SYS_close, fd);
}

ssize_t write(int fd, const void *data, size_t len)
{
	bool ours = rec.on && fd >= 0 && fd < FDS && rec.fd_ino[fd];
	struct stat st;

	if (ours && fails())
		return -1;
	if (ours && rec.half && rec.fail_at && rec.calls == rec.fail_at && len > 1)
		len /= 2;
	int64_t at = !ours				    ? 0
		     : rec.fd_append[fd] && !fstat(fd, &st) ? st.st_size
							    : lseek(fd, 0, SEEK_CUR);
	ssize_t n = syscall(SYS_write, fd, data, len);
	if (ours && n > 0) {
		struct op *o = add(OP_DATA, rec.fd_ino[fd]);
		o->at = at;
		o->len = (size_t)n;
		o->data = mem_strn(data, (size_t)n);
	}
	return n;
}

static int sync_as(int fd, long call)
{
	bool ours = rec.on && fd >= 0 && fd < FDS && rec.fd_ino[fd];

	(void)call; /* Really syncing would only make this slow. */
	if (ours && fails())
		return -1;
	if (ours)
		add(OP_SYNC, rec.fd_ino[fd]);
	return 0;
}

int fsync(int fd)
{
	return sync_as(fd, SYS_fsync);
}

int fdatasync(int fd)
{
	return sync_as(fd, SYS_fdatasync);
}

int ftruncate(int fd, off_t size)
{
	bool ours = rec.on && fd >= 0 && fd < FDS && rec.fd_ino[fd];

	if (ours && fails())
		return -1;
	if (ours)
		add(OP_CUT, rec.fd_ino[fd])->at = size;
	return (int)syscall(SYS_ftruncate, fd, size);
}

int rename(const char *from, const char *to)
{
	if (inside(to) && fails())
		return -1;
	int child = inside(from) ? ino_at(from) : 0, old = inside(to) ? ino_at(to) : 0;
	int r = (int)syscall(SYS_rename, from, to);
	if (!r && inside(to)) {
		add_name(to, child);
		add_name(from, 0);
		if (old && old != child)
			forget(old);
	}
	return r;
}

int link(const char *from, const char *to)
{
	if (inside(to) && fails())
		return -1;
	int r = (int)syscall(SYS_link, from, to);
	if (!r && inside(to))
		add_name(to, ino_at(to));
	return r;
}

int unlink(const char *path)
{
	struct stat st;
	int ino = inside(path) ? ino_at(path) : 0;
	bool last = !lstat(path, &st) && st.st_nlink == 1;
	int r = (int)syscall(SYS_unlink, path);

	if (!r && ino) {
		add_name(path, 0);
		if (last)
			forget(ino);
	}
	return r;
}

int mkdir(const char *path, mode_t mode)
{
	if (inside(path) && fails())
		return -1;
	int r = (int)syscall(SYS_mkdir, path, mode);
	if (!r && inside(path))
		add_name(path, ino_at(path));
	return r;
}

/* --- the disk after a cut --------------------------------------------------------------------- */

enum loss { LOSE_ALL, LOSE_NOTHING, LOSE_DATA, LOSE_NAMES, LOSE_SOME, N_LOSSES };

static bool survives(struct rng *r, enum loss loss, bool name)
{
	switch (loss) {
	case LOSE_ALL:
		return false;
	case LOSE_NOTHING:
		return true;
	case LOSE_DATA:
		return name;
	case LOSE_NAMES:
		return !name;
	default:
		return rng_below(r, 2);
	}
}

struct inode {
	char *data;
	size_t len;
	int names; /* entries, for a folder */
	struct {
		char *name;
		int child;
	} entry[64];
	bool folder;
};

static void put_bytes(struct inode *f, int64_t at, const char *data, size_t len)
{
	if ((size_t)at + len > f->len) {
		f->data = mem_grow(f->data, (size_t)at + len, 1);
		memset(f->data + f->len, 0, (size_t)at + len - f->len);
		f->len = (size_t)at + len;
	}
	if (data)
		memcpy(f->data + at, data, len);
}

static void put_name(struct inode *d, char *name, int child)
{
	int i = 0;

	while (i < d->names && strcmp(d->entry[i].name, name) != 0)
		i++;
	CHECK(i < 64);
	d->entry[i].name = name;
	d->entry[i].child = child;
	d->names += i == d->names;
}

static void apply(struct inode *disk, const struct op *o, bool synced, struct rng *r,
		  enum loss loss)
{
	struct inode *f = &disk[o->ino];

	if (o->kind == OP_NAME) {
		f->folder = true;
		if (synced || survives(r, loss, true))
			put_name(f, o->name, o->child);
	} else if (o->kind == OP_CUT) {
		if ((synced || survives(r, loss, true)) && (size_t)o->at < f->len)
			f->len = (size_t)o->at;
	} else if (o->kind == OP_DATA) {
		if (!synced && survives(r, loss, true)) /* The size may outlive the bytes. */
			put_bytes(f, o->at, NULL, o->len);
		for (size_t i = 0; i < o->len; i += SECTOR) {
			size_t n = o->len - i < SECTOR ? o->len - i : SECTOR;
			if (synced || survives(r, loss, false))
				put_bytes(f, o->at + (int64_t)i, o->data + i, n);
		}
	}
}

static void write_tree(const struct inode *disk, int ino, const char *path)
{
	const struct inode *f = &disk[ino];
	char below[PATH_MAX];
	struct err e = {0};

	/* A file that only ever had a name is an empty one; a folder always got its names by
	 * OP_NAME. */
	if (!f->folder) {
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
		CHECK(fd >= 0 && (!f->len || write(fd, f->data, f->len) == (ssize_t)f->len));
		close(fd);
		return;
	}
	CHECK_RC(fs_mkdirs(path, &e), RC_OK);
	for (int i = 0; i < f->names; i++)
		if (f->entry[i].child) {
			str_fmt(below, sizeof(below), "%s/%s", path, f->entry[i].name);
			write_tree(disk, f->entry[i].child, below);
		}
}

/* The disk as it is when the power goes after `k` calls. */
static void cut_power(int k, uint64_t seed, enum loss loss, const char *path)
{
	struct inode *disk = mem_array(INODES, sizeof(*disk));
	int *synced =
		mem_array(INODES, sizeof(*synced)); /* call after which all before is durable */
	struct rng r;

	rng_open(&r, seed, RNG_TEST, 7, (uint64_t)k, (uint32_t)loss);
	for (int i = 0; i < k; i++)
		if (rec.ops[i].kind == OP_SYNC)
			synced[rec.ops[i].ino] = i;
	/* Folders are known as such even when all their names are lost. */
	for (int i = 0; i < rec.n; i++)
		if (rec.ops[i].kind == OP_NAME)
			disk[rec.ops[i].ino].folder = true;
	for (int i = 0; i < k; i++)
		if (rec.ops[i].kind != OP_SYNC)
			apply(disk, &rec.ops[i], i < synced[rec.ops[i].ino], &r, loss);
	disk[1].folder = true;
	write_tree(disk, 1, path);
	for (int i = 0; i < INODES; i++)
		free(disk[i].data);
	free(disk);
	free(synced);
}

/* --- what is done, and what must be true afterwards ------------------------------------------- */

#define LINES 3

static struct {
	char digest[2][SHA256_HEX_SIZE];
	int begun[2], done[2];	       /* calls before and after each publication */
	int doc_begun[2], doc_done[2]; /* of the two versions of a document */
	int line_begun[LINES], line_done[LINES];
} story;

/* An odd seed: in three volumes and the archive that names them. */
static enum rc publish(struct store *s, uint64_t seed, char digest[SHA256_HEX_SIZE], struct err *e)
{
	struct artifact_writer *w;
	struct artifact_ref ref = {0};
	char path[PATH_MAX], data[5000];
	struct rng r;
	enum rc rc = store_tmp(s, path, sizeof(path), e);

	rng_open(&r, seed, RNG_TEST, 8, 0, 0);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)rng_u32(&r);
	if (!rc)
		rc = artifact_begin("checkpoint", path, &w, e);
	if (rc)
		return rc;
	if (seed % 2)
		artifact_volume_max(w, 1);
	rc = artifact_add_mem(w, "config.json", "{}\n", 3, e);
	if (!rc)
		rc = artifact_add_mem(w, "model.safetensors", data, sizeof(data), e);
	if (!rc && seed % 2)
		rc = artifact_add_mem(w, "more.safetensors", data, sizeof(data) / 2, e);
	if (rc) {
		artifact_abort(w);
		return rc;
	}
	rc = artifact_publish(w, NULL, s, &ref, e);
	str_copy(digest, SHA256_HEX_SIZE, ref.digest);
	return rc;
}

/* Lines long enough to cross sectors. */
static json_t *line(int n)
{
	char text[900];

	memset(text, 'a' + n, sizeof(text));
	text[sizeof(text) - 1] = 0;
	return json_pack("{s:i,s:s}", "n", n, "text", text);
}

static enum rc append(struct store *s, int n, struct err *e)
{
	json_t *v = line(n);
	enum rc rc = store_doc_append(s, "runs/r/decisions.jsonl", v, e);

	json_decref(v);
	return rc;
}

static enum rc put_doc(struct store *s, int n, struct err *e)
{
	json_t *v = line(n);
	enum rc rc = store_doc_put(s, "runs/r/record.json", v, e);

	json_decref(v);
	return rc;
}

static void tell_story(const char *root)
{
	struct store *s;
	struct err e = {0};

	CHECK_RC(fs_mkdirs(root, &e), RC_OK);
	str_copy(rec.root, sizeof(rec.root), root);
	CHECK_EQ(ino_at(root), 1);
	rec.on = true;
	CHECK_RC(store_open(root, true, &s, &e), RC_OK);
	for (int i = 0; i < 2; i++) {
		story.begun[i] = rec.n;
		CHECK_RC(publish(s, (uint64_t)i, story.digest[i], &e), RC_OK);
		story.done[i] = rec.n;
		story.doc_begun[i] = rec.n;
		CHECK_RC(put_doc(s, i, &e), RC_OK);
		story.doc_done[i] = rec.n;
	}
	for (int i = 0; i < LINES; i++) {
		story.line_begun[i] = rec.n;
		CHECK_RC(append(s, i, &e), RC_OK);
		story.line_done[i] = rec.n;
	}
	store_close(s);
	rec.on = false;
}

static void check_artifacts(struct store *s, int k)
{
	struct err e = {0};

	for (int i = 0; i < 2; i++) {
		enum rc rc = store_has(s, story.digest[i], NULL, &e);
		CHECK(rc == RC_OK || (rc == RC_NOTFOUND && k < story.done[i]));
		CHECK(rc == RC_NOTFOUND || k >= story.begun[i]);
		if (!rc)
			CHECK_RC(artifact_verify(s, story.digest[i], &e), RC_OK);
	}
}

static void check_documents(struct store *s, int k)
{
	struct err e = {0};
	json_t *v = NULL, *want;
	enum rc rc = store_doc_get(s, "runs/r/record.json", &v, &e);
	int lines, i;

	CHECK(rc == RC_OK || (rc == RC_NOTFOUND && k < story.doc_done[0]));
	if (!rc) {
		int n = (int)jx_get_i64(v, "n", -1);
		CHECK(n == 0 || n == 1);
		CHECK(n == 1 ? k >= story.doc_begun[1] : k < story.doc_done[1]);
		want = line(n);
		CHECK(json_equal(v, want));
		json_decref(want);
		json_decref(v);
	}
	for (int turn = 0; turn < 2; turn++) {
		CHECK_RC(store_doc_lines(s, "runs/r/decisions.jsonl", &v, &e), RC_OK);
		lines = (int)json_array_size(v) - turn;
		for (i = 0; i < LINES; i++)
			CHECK(lines > i ? k >= story.line_begun[i] : k < story.line_done[i]);
		for (i = 0; i < lines + turn; i++) {
			want = line(i < lines ? i : LINES);
			CHECK(json_equal(json_array_get(v, (size_t)i), want));
			json_decref(want);
		}
		json_decref(v);
		if (!turn) /* And it goes on. */
			CHECK_RC(append(s, LINES, &e), RC_OK);
	}
}

static int64_t cuts(int64_t otherwise)
{
	const char *text = getenv("PAWL_TEST_TORN");
	int64_t n;

	return text && str_to_i64(text, &n) && n > 0 ? n : otherwise;
}

void test_torn__any_cut_leaves_the_old_or_the_new(void)
{
	char root[PATH_MAX], path[PATH_MAX], digest[SHA256_HEX_SIZE];
	struct err e = {0};
	struct store *s;
	int64_t want, n = 0;

	str_fmt(root, sizeof(root), "%s/disk", test_tmpdir());
	tell_story(root);
	want = cuts(600);
	str_fmt(path, sizeof(path), "%s/after", test_tmpdir());
	/* Every prefix with each kind of loss; then the random ones again with other choices. */
	for (uint64_t seed = 0; n < want || !seed; seed++)
		for (int k = 0; k <= rec.n; k++)
			for (int loss = seed ? LOSE_SOME : 0; loss < N_LOSSES; loss++, n++) {
				CHECK_RC(fs_remove_tree(path, &e), RC_OK);
				cut_power(k, seed, (enum loss)loss, path);
				CHECK_RC(store_open(path, true, &s, &e), RC_OK);
				check_artifacts(s, k);
				check_documents(s, k);
				CHECK_RC(publish(s, 9, digest, &e), RC_OK);
				CHECK_RC(artifact_verify(s, digest, &e), RC_OK);
				store_close(s);
			}
	printf("# %d calls recorded, %lld cuts\n", rec.n, (long long)n);
	for (int i = 0; i < rec.n; i++) {
		free(rec.ops[i].name);
		free(rec.ops[i].data);
	}
}

static void expect_left(struct store *s, const char *digest, const char *root, int unlinks)
{
	struct err e = {0};
	char path[PATH_MAX], **names;
	json_t *v;
	size_t n;

	CHECK_RC(artifact_verify(s, digest, &e), RC_OK);
	CHECK_RC(store_doc_get(s, "runs/r/record.json", &v, &e), RC_OK);
	json_decref(v);
	CHECK_RC(store_doc_lines(s, "runs/r/decisions.jsonl", &v, &e), RC_OK);
	for (size_t i = 0; i < json_array_size(v); i++)
		CHECK(jx_get_i64(json_array_get(v, i), "n", -1) >= 0);
	json_decref(v);
	str_fmt(path, sizeof(path), "%s/tmp", root);
	CHECK_RC(fs_list(path, &names, &n, &e), RC_OK);
	CHECK(n <= (size_t)unlinks);
	fs_list_free(names);
}

/* What is tried with a failing disk; in order. */
static enum rc act(struct store *s, int what, char digest[SHA256_HEX_SIZE], struct err *e)
{
	return what == 0   ? publish(s, 5, digest, e)
	       : what == 1 ? put_doc(s, 1, e)
			   : append(s, 1, e);
}

void test_torn__a_failing_disk_is_refused_not_hidden(void)
{
	static const int errnos[] = {EIO, ENOSPC, EDQUOT};
	char root[PATH_MAX], old[SHA256_HEX_SIZE], digest[SHA256_HEX_SIZE];
	struct err e = {0};
	struct store *s;
	int refused = 0;

	str_fmt(root, sizeof(root), "%s/disk", test_tmpdir());
	CHECK_RC(fs_mkdirs(root, &e), RC_OK);
	CHECK_RC(store_open(root, true, &s, &e), RC_OK);
	CHECK_RC(publish(s, 1, old, &e), RC_OK);
	CHECK_RC(put_doc(s, 0, &e), RC_OK);
	CHECK_RC(append(s, 0, &e), RC_OK);
	str_copy(rec.root, sizeof(rec.root), root);
	rec.on = true;
	for (int what = 0; what < 3; what++)
		for (int how = 0; how < 4; how++)
			for (int at = 1;; at++) {
				rec.n = 0;
				rec.n_known = 1;
				rec.calls = 0;
				rec.fail_at = at;
				rec.half = how == 3;
				rec.fail_errno = how < 3 ? errnos[how] : 0;
				enum rc rc = act(s, what, digest, &e);
				bool hit = rec.calls >= at;
				rec.fail_at = 0;
				/* Only a half write may pass unseen: the rest is written after it.
				 */
				CHECK(rc == RC_OK ? !hit || how == 3
						  : rc == (how ? RC_FULL : RC_IO));
				refused += rc != RC_OK;
				expect_left(s, old, root, 0);
				CHECK_RC(act(s, what, digest, &e), RC_OK);
				if (what == 0)
					CHECK_RC(artifact_verify(s, digest, &e), RC_OK);
				if (!hit)
					break;
			}
	rec.on = false;
	CHECK(refused > 60);
	store_close(s);
}

void test_torn__every_flipped_bit_is_found(void)
{
	char path[PATH_MAX], digest[SHA256_HEX_SIZE];
	struct err e = {0};
	struct store *s;
	struct rng r;
	uint8_t byte, was;

	CHECK_RC(store_open(test_tmpdir(), true, &s, &e), RC_OK);
	CHECK_RC(publish(s, 4, digest, &e), RC_OK);
	CHECK_RC(store_path(s, digest, path, sizeof(path), &e), RC_OK);
	chmod(path, 0644);
	int64_t size = fs_size(path), n = cuts(1000);
	int fd = open(path, O_RDWR);
	rng_open(&r, 1, RNG_TEST, 9, 0, 0);
	for (int64_t i = 0; i < n; i++) {
		/* All of the bytes in turn where there is time, and some of their bits. */
		int64_t at = n >= size ? i % size : (int64_t)rng_below(&r, (uint32_t)size);
		CHECK(pread(fd, &was, 1, at) == 1);
		byte = was ^ (uint8_t)(1 << rng_below(&r, 8));
		CHECK(pwrite(fd, &byte, 1, at) == 1);
		enum rc rc = artifact_verify(s, digest, &e);
		CHECK(rc == RC_CORRUPT || rc == RC_INVALID);
		/* Publishing the same bytes again would heal it too, at a higher price. */
		CHECK(pwrite(fd, &was, 1, at) == 1);
	}
	for (int64_t cut = 0; cut < size; cut += SECTOR) {
		CHECK(!ftruncate(fd, cut));
		CHECK_RC(artifact_verify(s, digest, &e), RC_CORRUPT);
	}
	CHECK_RC(publish(s, 4, digest, &e), RC_OK);
	CHECK_RC(artifact_verify(s, digest, &e), RC_OK);
	close(fd);
	store_close(s);
}
