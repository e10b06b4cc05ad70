#include "store/artifact.h"

#include "base/check.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/ahead.h"
#include "store/safetensors.h"
#include "store/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)
#define MANIFEST_MAX ((int64_t)64 << 20)
#define SEEN_MAX 256

/* Writing. */

struct artifact_writer {
	struct tar_writer *tar;
	char *tmp;
	json_t *manifest, *members; /* members is borrowed from manifest */
	bool aligned;
};

static bool known_kind(const char *kind)
{
	static const char *const kinds[] = {"checkpoint", "train_state", "dataset", "progress"};

	for (size_t i = 0; i < 4; i++)
		if (!strcmp(kinds[i], kind))
			return true;
	return false;
}

enum rc artifact_begin(const char *kind, const char *tmp, struct artifact_writer **out,
		       struct err *e)
{
	struct tar_writer *tar;

	*out = NULL;
	if (!known_kind(kind))
		return err_set(e, RC_INVALID, "unknown artifact kind \"%s\"", kind);
	enum rc rc = tar_create(tmp, &tar, e);
	if (rc)
		return rc;
	struct artifact_writer *w = mem_new(sizeof(*w));
	w->tar = tar;
	w->tmp = mem_str(tmp);
	w->aligned = !strcmp(kind, "checkpoint");
	w->members = json_array();
	w->manifest = json_pack("{s:i,s:s,s:o}", "format", ARTIFACT_FORMAT, "kind", kind, "members",
				w->members);
	*out = w;
	return RC_OK;
}

static enum rc begin_member(struct artifact_writer *w, const char *member, int64_t size,
			    struct err *e)
{
	bool align = w->aligned && str_ends(member, ".safetensors");

	if (!strcmp(member, ARTIFACT_MANIFEST))
		return err_set(e, RC_INVALID, "a member cannot be called %s", member);
	return tar_member_begin(w->tar, member, size, align, e);
}

static enum rc end_member(struct artifact_writer *w, const char *member, int64_t size,
			  struct err *e)
{
	char hex[SHA256_HEX_SIZE];
	enum rc rc = tar_member_end(w->tar, hex, e);

	if (!rc)
		json_array_append_new(w->members, json_pack("{s:s,s:I,s:s}", "path", member, "size",
							    (json_int_t)size, "sha256", hex));
	return rc;
}

static enum rc stream_in(struct artifact_writer *w, int fd, const char *path, int64_t size,
			 struct err *e)
{
	char *chunk = mem_new(CHUNK);
	enum rc rc = RC_OK;

	while (size && !rc) {
		ssize_t n = read(fd, chunk, size < (int64_t)CHUNK ? (size_t)size : CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			rc = n ? err_set(e, RC_IO, "read %s: %m", path)
			       : err_set(e, RC_CORRUPT, "%s: became shorter while it was read", path);
		else
			rc = tar_data(w->tar, chunk, (size_t)n, e);
		size -= n;
	}
	free(chunk);
	return rc;
}

enum rc artifact_add_file(struct artifact_writer *w, const char *member, const char *path,
			  struct err *e)
{
	struct stat st;
	enum rc rc;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_set(e, err_from_errno(errno), "open %s: %m", path);
	if (fstat(fd, &st))
		rc = err_set(e, RC_IO, "stat %s: %m", path);
	else if (!S_ISREG(st.st_mode))
		rc = err_set(e, RC_INVALID, "%s: not a regular file", path);
	else
		rc = begin_member(w, member, st.st_size, e);
	if (!rc)
		rc = stream_in(w, fd, path, st.st_size, e);
	if (!rc)
		rc = end_member(w, member, st.st_size, e);
	close(fd);
	return rc;
}

enum rc artifact_add_mem(struct artifact_writer *w, const char *member, const void *data, size_t len,
			 struct err *e)
{
	enum rc rc = begin_member(w, member, (int64_t)len, e);

	if (!rc)
		rc = tar_data(w->tar, data, len, e);
	return rc ? rc : end_member(w, member, (int64_t)len, e);
}

enum rc artifact_add_fed(struct artifact_writer *w, const char *member, int64_t size,
			 const struct artifact_feed *feed, struct err *e)
{
	char *chunk = mem_new(CHUNK);
	enum rc rc = begin_member(w, member, size, e);

	for (int64_t at = 0; at < size && !rc; at += (int64_t)CHUNK) {
		size_t n = size - at < (int64_t)CHUNK ? (size_t)(size - at) : CHUNK;

		rc = feed->fill(feed->ctx, at, chunk, n, e);
		if (!rc)
			rc = tar_data(w->tar, chunk, n, e);
	}
	free(chunk);
	return rc ? rc : end_member(w, member, size, e);
}

/* Small and telling first, weights last. */
static int rank(const char *name)
{
	if (!strcmp(name, "config.json"))
		return 0;
	if (!strcmp(name, "generation_config.json"))
		return 1;
	return str_ends(name, ".safetensors") ? 3 : 2;
}

enum rc artifact_add_dir(struct artifact_writer *w, const char *dir, struct err *e)
{
	char path[PATH_MAX];
	char **names;
	size_t n;
	struct stat st;
	enum rc rc = fs_list(dir, &names, &n, e);

	if (rc)
		return rc;
	for (int r = 0; r < 4 && !rc; r++)
		for (size_t i = 0; i < n && !rc; i++) {
			if (rank(names[i]) != r || strlen(dir) + strlen(names[i]) + 2 > sizeof(path))
				continue;
			str_fmt(path, sizeof(path), "%s/%s", dir, names[i]);
			if (!stat(path, &st) && S_ISREG(st.st_mode))
				rc = artifact_add_file(w, names[i], path, e);
		}
	fs_list_free(names);
	return rc;
}

static void writer_free(struct artifact_writer *w)
{
	json_decref(w->manifest);
	free(w->tmp);
	free(w);
}

static enum rc put_manifest(struct artifact_writer *w, const json_t *meta, struct err *e)
{
	struct buf b = BUF_INIT;
	char hex[SHA256_HEX_SIZE];

	json_object_set_new(w->manifest, "meta", meta ? json_deep_copy(meta) : json_object());
	jx_dump(w->manifest, &b);
	buf_putc(&b, '\n');
	enum rc rc = tar_member_begin(w->tar, ARTIFACT_MANIFEST, (int64_t)b.len, false, e);
	if (!rc)
		rc = tar_data(w->tar, b.data, b.len, e);
	if (!rc)
		rc = tar_member_end(w->tar, hex, e);
	buf_release(&b);
	return rc;
}

static enum rc finish(struct artifact_writer *w, const json_t *meta, bool sync,
		      struct artifact_ref *ref, struct err *e)
{
	enum rc rc = put_manifest(w, meta, e);

	if (rc)
		tar_abort(w->tar);
	else
		rc = tar_finish(w->tar, sync, ref->digest, &ref->size, e);
	writer_free(w);
	return rc;
}

enum rc artifact_finish(struct artifact_writer *w, const json_t *meta, struct artifact_ref *ref,
			struct err *e)
{
	return finish(w, meta, true, ref, e);
}

enum rc artifact_publish(struct artifact_writer *w, const json_t *meta, struct store *s,
			 struct artifact_ref *ref, struct err *e)
{
	char *tmp = mem_str(w->tmp);
	enum rc rc = finish(w, meta, false, ref, e); /* The store fsyncs what it takes. */

	if (!rc)
		rc = store_take_named(s, tmp, ref->digest, ref->size, e);
	free(tmp);
	return rc;
}

void artifact_abort(struct artifact_writer *w)
{
	if (!w)
		return;
	tar_abort(w->tar);
	writer_free(w);
}

/* What this process has already verified: one slot per file, the oldest overwritten. */

struct seen {
	dev_t dev;
	ino_t ino;
	int64_t size, mtime_ns, ctime_ns;
	char digest[SHA256_HEX_SIZE];
};

static struct {
	pthread_mutex_t lock;
	unsigned next;
	struct seen slots[SEEN_MAX];
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct seen seen_key(const struct stat *st, const char *digest)
{
	struct seen k = {.dev = st->st_dev,
			 .ino = st->st_ino,
			 .size = st->st_size,
			 .mtime_ns = st->st_mtim.tv_sec * 1000000000ll + st->st_mtim.tv_nsec,
			 .ctime_ns = st->st_ctim.tv_sec * 1000000000ll + st->st_ctim.tv_nsec};

	str_copy(k.digest, sizeof(k.digest), digest);
	return k;
}

static bool seen_same(const struct seen *a, const struct seen *b)
{
	return a->ino == b->ino && a->dev == b->dev && a->size == b->size &&
	       a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns &&
	       !strcmp(a->digest, b->digest);
}

static bool seen_before(const struct seen *k)
{
	bool hit = false;

	pthread_mutex_lock(&seen.lock);
	for (int i = 0; i < SEEN_MAX && !hit; i++)
		hit = seen_same(&seen.slots[i], k);
	pthread_mutex_unlock(&seen.lock);
	return hit;
}

static void seen_add(const struct seen *k)
{
	pthread_mutex_lock(&seen.lock);
	seen.slots[seen.next++ % SEEN_MAX] = *k;
	pthread_mutex_unlock(&seen.lock);
}

/* Reading. */

struct opened {
	int fd;
	struct stat st;
	struct tar_index index;
};

static void opened_release(struct opened *o)
{
	if (o->fd >= 0)
		close(o->fd);
	tar_index_release(&o->index);
}

static enum rc corrupt(struct err *e, const char *path, const char *member, const char *why)
{
	return err_set(e, RC_CORRUPT, "%s: member \"%s\": %s", path, member, why);
}

static enum rc load_manifest(const struct opened *o, const char *path, json_t **out, struct err *e)
{
	const struct tar_member *last = o->index.n ? &o->index.members[o->index.n - 1] : NULL;

	if (!last || strcmp(last->path, ARTIFACT_MANIFEST))
		return err_set(e, RC_CORRUPT, "%s: the last member is not %s", path,
			       ARTIFACT_MANIFEST);
	if (last->size > MANIFEST_MAX)
		return corrupt(e, path, last->path, "is larger than 64 MiB");
	char *text = mem_new((size_t)last->size + 1);
	ssize_t n = pread(o->fd, text, (size_t)last->size, last->offset);
	enum rc rc = n == last->size ? jx_parse(text, (size_t)n, ARTIFACT_MANIFEST, out, e)
				     : err_set(e, RC_IO, "cannot be read: %m");
	free(text);
	if (rc && e)
		e->code = rc == RC_INVALID ? RC_CORRUPT : rc;
	return rc ? err_wrap(e, "%s", path) : RC_OK;
}

/* One entry of the manifest against the member of the archive at the same place. */
static enum rc match_member(const json_t *v, const struct tar_member *m, const char *path,
			    struct artifact_member *out, struct err *e)
{
	const char *name, *hex;
	int64_t size;

	if (jx_str(v, "path", &name, NULL) || jx_str(v, "sha256", &hex, NULL) ||
	    jx_i64(v, "size", 0, INT64_MAX, &size, NULL) || !sha256_hex_valid(hex))
		return corrupt(e, path, ARTIFACT_MANIFEST, "an entry lacks path, size or sha256");
	if (strcmp(name, m->path))
		return err_set(e, RC_CORRUPT,
			       "%s: member \"%s\" is where the manifest has \"%s\"", path, m->path,
			       name);
	if (size != m->size)
		return err_set(e, RC_CORRUPT, "%s: member \"%s\": %lld bytes, the manifest says %lld",
			       path, name, (long long)m->size, (long long)size);
	*out = (struct artifact_member){name, hex, m->offset, m->size};
	return RC_OK;
}

static enum rc match_manifest(const struct opened *o, struct artifact *a, struct err *e)
{
	json_t *list;
	int64_t format;
	size_t n = o->index.n - 1;
	enum rc rc = jx_i64(a->manifest, "format", 1, ARTIFACT_FORMAT, &format, e);

	if (!rc)
		rc = jx_str(a->manifest, "kind", &a->kind, e);
	if (!rc)
		rc = jx_arr(a->manifest, "members", &list, e);
	if (!rc)
		rc = jx_obj(a->manifest, "meta", &a->meta, e);
	if (rc) {
		if (e)
			e->code = RC_CORRUPT;
		err_wrap(e, "%s: %s", a->path, ARTIFACT_MANIFEST);
		return RC_CORRUPT;
	}
	if (json_array_size(list) != n)
		return err_set(e, RC_CORRUPT, "%s: %zu members, the manifest lists %zu", a->path, n,
			       json_array_size(list));
	a->members = mem_array(n + 1, sizeof(*a->members));
	for (size_t i = 0; i < n && !rc; i++)
		rc = match_member(json_array_get(list, i), &o->index.members[i], a->path,
				  &a->members[i], e);
	a->n = n;
	return rc;
}

/* What comes next in the archive goes into its own digest and, if it is data of one, the member's. */
struct pass {
	const char *path;
	struct ahead *in;
	struct sha256 whole;
	int64_t at;
};

static enum rc pass_to(struct pass *p, int64_t to, struct sha256 *member, struct err *e)
{
	enum rc rc = RC_OK;

	while (p->at < to && !rc) {
		const void *data;
		size_t n, max = to - p->at < (int64_t)CHUNK ? (size_t)(to - p->at) : CHUNK;

		rc = ahead_next(p->in, max, &data, &n, e);
		if (rc)
			break;
		if (member)
			sha256_add_both(&p->whole, member, data, n);
		else
			sha256_add(&p->whole, data, n);
		p->at += (int64_t)n;
	}
	return rc;
}

static enum rc pass_member(struct pass *p, const struct artifact_member *m, struct err *e)
{
	struct sha256 sha;
	uint8_t digest[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE];
	enum rc rc = pass_to(p, m->offset, NULL, e);

	sha256_init(&sha);
	if (!rc)
		rc = pass_to(p, m->offset + m->size, &sha, e);
	if (rc)
		return rc;
	sha256_end(&sha, digest);
	sha256_hex(digest, hex);
	return !strcmp(hex, m->sha256)
		       ? RC_OK
		       : err_set(e, RC_CORRUPT,
				 "%s: member \"%s\": digest is %s, the manifest says %s", p->path,
				 m->path, hex, m->sha256);
}

/* The archive's own digest and the members', in one pass. */
static enum rc hash_all(const struct opened *o, struct artifact *a, const char *digest,
			struct err *e)
{
	struct pass p = {.path = a->path};
	uint8_t bytes[SHA256_SIZE];
	enum rc rc = RC_OK;

	sha256_init(&p.whole);
	ahead_open(o->fd, a->path, 0, o->st.st_size, &p.in);
	for (size_t i = 0; i < a->n && !rc; i++)
		rc = pass_member(&p, &a->members[i], e);
	if (!rc)
		rc = pass_to(&p, o->st.st_size, NULL, e);
	ahead_close(p.in);
	if (rc)
		return rc;
	sha256_end(&p.whole, bytes);
	sha256_hex(bytes, a->digest);
	if (digest && strcmp(digest, a->digest))
		return err_set(e, RC_CORRUPT, "%s: digest is %s, expected %s", a->path, a->digest,
			       digest);
	return RC_OK;
}

/* Bytes that have the name they are asked for by are those the manifest was written with: one digest says
 * it all. If they have not, the members' tell where. */
static enum rc hash_named(const struct opened *o, struct artifact *a, const char *digest,
			  struct err *e)
{
	struct pass p = {.path = a->path};
	uint8_t bytes[SHA256_SIZE];

	sha256_init(&p.whole);
	ahead_open(o->fd, a->path, 0, o->st.st_size, &p.in);
	enum rc rc = pass_to(&p, o->st.st_size, NULL, e);
	ahead_close(p.in);
	if (rc)
		return rc;
	sha256_end(&p.whole, bytes);
	sha256_hex(bytes, a->digest);
	return strcmp(digest, a->digest) ? hash_all(o, a, digest, e) : RC_OK;
}

static enum rc open_at(const char *path, struct opened *o, struct err *e)
{
	*o = (struct opened){.fd = open(path, O_RDONLY | O_CLOEXEC)};
	if (o->fd < 0)
		return err_set(e, err_from_errno(errno), "open %s: %m", path);
	if (fstat(o->fd, &o->st))
		return err_set(e, RC_IO, "stat %s: %m", path);
	if (!S_ISREG(o->st.st_mode))
		return err_set(e, RC_INVALID, "%s: not a regular file", path);
	return tar_index(o->fd, path, &o->index, e);
}

/* `again`: whatever this process remembers. */
static enum rc open_checked(const char *path, const char *digest, bool again, struct artifact **out,
			    struct err *e)
{
	struct opened o;
	struct seen key;
	struct artifact *a = mem_new(sizeof(*a));
	enum rc rc = open_at(path, &o, e);

	*out = NULL;
	a->path = mem_str(path);
	a->size_bytes = rc ? 0 : o.st.st_size;
	if (!rc)
		rc = load_manifest(&o, path, &a->manifest, e);
	if (!rc)
		rc = match_manifest(&o, a, e);
	if (!rc) {
		key = seen_key(&o.st, digest ? digest : "");
		if (!again && digest && seen_before(&key))
			str_copy(a->digest, sizeof(a->digest), digest);
		else if (!(rc = digest && !again ? hash_named(&o, a, digest, e)
						 : hash_all(&o, a, digest, e)) &&
			 digest)
			seen_add(&key);
	}
	opened_release(&o);
	if (rc)
		artifact_close(a);
	else
		*out = a;
	return rc;
}

enum rc artifact_open_file(const char *path, const char *digest, struct artifact **out,
			   struct err *e)
{
	return open_checked(path, digest, false, out, e);
}

enum rc artifact_open(struct store *s, const char *digest, struct artifact **out, struct err *e)
{
	char path[PATH_MAX];
	enum rc rc = store_local(s, digest, path, sizeof(path), e);

	*out = NULL;
	return rc ? rc : artifact_open_file(path, digest, out, e);
}

void artifact_close(struct artifact *a)
{
	if (!a)
		return;
	json_decref(a->manifest);
	free(a->members);
	free(a->path);
	free(a);
}

const struct artifact_member *artifact_find(const struct artifact *a, const char *member)
{
	for (size_t i = 0; i < a->n; i++)
		if (!strcmp(a->members[i].path, member))
			return &a->members[i];
	return NULL;
}

/* Copies one member, checking its digest on the way; the bytes checked are the bytes written. */
static enum rc copy_out(int in, int out, const struct artifact *a, const struct artifact_member *m,
			struct err *e)
{
	struct sha256 sha;
	uint8_t digest[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE];
	char *chunk = mem_new(CHUNK);
	int64_t at = m->offset, left = m->size;
	enum rc rc = RC_OK;

	sha256_init(&sha);
	while (left && !rc) {
		ssize_t n = pread(in, chunk, left < (int64_t)CHUNK ? (size_t)left : CHUNK, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			rc = err_set(e, RC_IO, "%s: member \"%s\": read failed", a->path, m->path);
		for (ssize_t done = 0; done < n && !rc;) {
			ssize_t k = write(out, chunk + done, (size_t)(n - done));
			if (k < 0 && errno != EINTR)
				rc = err_set(e, err_from_errno(errno), "unpack \"%s\": %m", m->path);
			done += k > 0 ? k : 0;
		}
		if (!rc)
			sha256_add(&sha, chunk, (size_t)n);
		at += n;
		left -= n;
	}
	free(chunk);
	sha256_end(&sha, digest);
	sha256_hex(digest, hex);
	if (!rc && strcmp(hex, m->sha256))
		rc = corrupt(e, a->path, m->path, "digest differs from the manifest");
	return rc;
}

/* Path of a member below `dest`, its folders made. */
static enum rc member_path(const struct artifact *a, const struct artifact_member *m,
			   const char *dest, char path[PATH_MAX], struct err *e)
{
	if (strlen(dest) + strlen(m->path) + sizeof(ST_AT) + 1 > PATH_MAX)
		return err_set(e, RC_INVALID, "path %s/%s is too long", dest, m->path);
	if (str_ends(m->path, ST_AT)) /* It would stand for a file of this machine. */
		return corrupt(e, a->path, m->path, "has a name that is not for members");
	str_fmt(path, PATH_MAX, "%s/%s", dest, m->path);
	char *slash = strrchr(path, '/');
	*slash = 0;
	enum rc rc = fs_mkdirs(path, e);
	*slash = '/';
	return rc;
}

static enum rc unpack_member(int in, const struct artifact *a, const struct artifact_member *m,
			     const char *dest, struct err *e)
{
	char path[PATH_MAX];
	enum rc rc = member_path(a, m, dest, path, e);

	if (rc)
		return rc;
	unlink(path);
	int out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (out < 0)
		return err_set(e, err_from_errno(errno), "create %s: %m", path);
	rc = copy_out(in, out, a, m, e);
	if (close(out) && !rc)
		rc = err_set(e, err_from_errno(errno), "close %s: %m", path);
	if (rc)
		unlink(path);
	return rc;
}

/* Opening the archive has checked the member's digest. */
static enum rc point_to_member(const struct artifact *a, const struct artifact_member *m,
			       const char *dest, struct err *e)
{
	char path[PATH_MAX];
	struct buf text = BUF_INIT;
	enum rc rc = member_path(a, m, dest, path, e);

	if (rc)
		return rc;
	json_t *v = json_pack("{s:s, s:I, s:I}", "file", a->path, "offset", (json_int_t)m->offset,
			      "size", (json_int_t)m->size);
	size_t len = strlen(path);
	str_fmt(path + len, sizeof(path) - len, ST_AT);
	jx_dump(v, &text);
	rc = fs_write_durable(path, text.data, text.len, e);
	buf_release(&text);
	json_decref(v);
	return rc;
}

static enum rc unpack(const char *path, const char *digest, const char *dest_dir, bool mapped,
		      struct err *e)
{
	struct artifact *a;
	enum rc rc = artifact_open_file(path, digest, &a, e);

	if (rc)
		return rc;
	int in = open(path, O_RDONLY | O_CLOEXEC);
	if (in < 0)
		rc = err_set(e, err_from_errno(errno), "open %s: %m", path);
	if (!rc)
		rc = fs_mkdirs(dest_dir, e);
	for (size_t i = 0; i < a->n && !rc; i++) {
		const struct artifact_member *m = &a->members[i];
		bool stays = mapped && !strcmp(a->kind, "checkpoint") &&
			     str_ends(m->path, ".safetensors") && m->offset % TAR_ALIGN == 0;

		rc = stays ? point_to_member(a, m, dest_dir, e)
			   : unpack_member(in, a, m, dest_dir, e);
	}
	if (in >= 0)
		close(in);
	artifact_close(a);
	return rc;
}

enum rc artifact_unpack_file(const char *path, const char *digest, const char *dest_dir,
			     struct err *e)
{
	return unpack(path, digest, dest_dir, false, e);
}

enum rc artifact_unpack(struct store *s, const char *digest, const char *dest_dir, struct err *e)
{
	char path[PATH_MAX];
	enum rc rc = store_local(s, digest, path, sizeof(path), e);

	return rc ? rc : unpack(path, digest, dest_dir, false, e);
}

enum rc artifact_unpack_mapped(struct store *s, const char *digest, const char *dest_dir,
			       struct err *e)
{
	char path[PATH_MAX];
	enum rc rc = store_local(s, digest, path, sizeof(path), e);

	if (rc)
		return rc;
	/* What is only a copy for a while must not be pointed to. */
	return unpack(path, digest, dest_dir, store_path(s, digest, path, sizeof(path), NULL) == RC_OK,
		      e);
}

static enum rc read_member(const struct artifact *a, const struct artifact_member *m,
			   struct buf *out, struct err *e)
{
	char hex[SHA256_HEX_SIZE];
	int fd = open(a->path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 1;

	if (fd < 0)
		return err_set(e, err_from_errno(errno), "open %s: %m", a->path);
	buf_clear(out);
	buf_reserve(out, (size_t)m->size);
	while (n > 0 && (int64_t)out->len < m->size) {
		n = pread(fd, out->data + out->len, (size_t)m->size - out->len,
			  m->offset + (int64_t)out->len);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0)
			out->len += (size_t)n;
	}
	close(fd);
	out->data[out->len] = 0;
	sha256_of(out->data, out->len, hex);
	if ((int64_t)out->len != m->size || strcmp(hex, m->sha256))
		return corrupt(e, a->path, m->path, "digest differs from the manifest");
	return RC_OK;
}

enum rc artifact_read_member(struct store *s, const char *digest, const char *member,
			     struct buf *out, size_t max, struct err *e)
{
	struct artifact *a;
	enum rc rc = artifact_open(s, digest, &a, e);

	if (rc)
		return rc;
	const struct artifact_member *m = artifact_find(a, member);
	if (!m)
		rc = err_set(e, RC_NOTFOUND, "%s: no member \"%s\"", a->path, member);
	else if ((uint64_t)m->size > max)
		rc = err_set(e, RC_INVALID, "%s: member \"%s\": %lld bytes, at most %zu wanted",
			     a->path, member, (long long)m->size, max);
	else
		rc = read_member(a, m, out, e);
	artifact_close(a);
	return rc;
}

enum rc artifact_verify_file(const char *path, const char *digest, struct err *e)
{
	struct artifact *a;
	enum rc rc = open_checked(path, digest, true, &a, e);

	if (!rc)
		artifact_close(a);
	return rc;
}

enum rc artifact_verify(struct store *s, const char *digest, struct err *e)
{
	char path[PATH_MAX];
	enum rc rc = store_local(s, digest, path, sizeof(path), e);

	return rc ? rc : artifact_verify_file(path, digest, e);
}
