#include "store/artifact.h"

#include "base/check.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/artifact_hash.h"
#include "store/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST_MAX ((int64_t)64 << 20)
#define PREFIX 345 /* in a tar header: a name's first part, where it has two */
#define THREADS_MAX 4
#define THREADS_MIN ((int64_t)64 << 20) /* bytes that more than one thread pays for */

/* Opening. */

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
		return err_set(e, RC_CORRUPT, "%s: member \"%s\" is where the manifest has \"%s\"",
			       path, m->path, name);
	if (size != m->size)
		return err_set(e, RC_CORRUPT,
			       "%s: member \"%s\": %lld bytes, the manifest says %lld", path, name,
			       (long long)m->size, (long long)size);
	*out = (struct artifact_member){.path = name,
					.sha256 = hex,
					.file = path,
					.offset = m->offset,
					.size = m->size,
					.volume = out->volume};
	return RC_OK;
}

/* The `n` entries from `first` on are those of this archive, in its order. */
static enum rc match_members(struct artifact *a, size_t first, size_t n, const char *path,
			     const struct tar_index *x, struct err *e)
{
	const json_t *list = json_object_get(a->manifest, "members");
	size_t there = a->n_volumes ? x->n : x->n - 1; /* without the manifest */
	enum rc rc = RC_OK;

	if (there != n)
		return err_set(e, RC_CORRUPT, "%s: %zu members, the manifest lists %zu", path,
			       there, n);
	for (size_t i = 0; i < n && !rc; i++)
		rc = match_member(json_array_get(list, first + i), &x->members[i], path,
				  &a->members[first + i], e);
	return rc;
}

static enum rc read_volumes(struct artifact *a, struct err *e)
{
	json_t *list, *v;
	size_t i;
	enum rc rc = jx_arr(a->manifest, "volumes", &list, e);

	if (!rc && (!json_array_size(list) || json_array_size(list) > ARTIFACT_VOLUMES))
		rc = err_set(e, RC_CORRUPT, "volumes: %zu, expected 1 to %d", json_array_size(list),
			     ARTIFACT_VOLUMES);
	if (rc)
		return rc;
	a->volumes = mem_array(json_array_size(list), sizeof(*a->volumes));
	json_array_foreach(list, i, v)
	{
		struct artifact_volume *x = &a->volumes[a->n_volumes++];

		if ((rc = jx_str(v, "digest", &x->digest, e)) ||
		    (rc = jx_i64(v, "size", 0, INT64_MAX / ARTIFACT_VOLUMES, &x->size, e)))
			return rc;
		if (!sha256_hex_valid(x->digest))
			return err_set(e, RC_CORRUPT, "volumes[%zu]: no digest", i);
		a->size_bytes += x->size;
	}
	return RC_OK;
}

/* Which volume each member is in: in order, so that a volume's are side by side. No name twice. */
static enum rc place_members(struct artifact *a, struct err *e)
{
	json_t *list = json_object_get(a->manifest, "members"), *v, *names = json_object();
	int64_t volume, before = 0;
	enum rc rc = RC_OK;
	size_t i;

	json_array_foreach(list, i, v)
	{
		const char *name = jx_get_str(v, "path", "");

		if ((rc = jx_i64(v, "volume", before, (int64_t)a->n_volumes - 1, &volume, e)))
			break;
		if (json_object_get(names, name)) {
			rc = err_set(e, RC_CORRUPT, "member \"%s\" twice", name);
			break;
		}
		json_object_set_new(names, name, json_true());
		a->members[i].volume = (size_t)volume;
		before = volume;
	}
	json_decref(names);
	return rc;
}

/* What the manifest says, before it is held against any archive. */
static enum rc read_manifest(struct artifact *a, struct err *e)
{
	json_t *list;
	int64_t format = 0;
	enum rc rc = jx_i64(a->manifest, "format", 1, ARTIFACT_FORMAT, &format, e);

	if (!rc)
		rc = jx_str(a->manifest, "kind", &a->kind, e);
	if (!rc)
		rc = jx_arr(a->manifest, "members", &list, e);
	if (!rc)
		rc = jx_obj(a->manifest, "meta", &a->meta, e);
	if (!rc) {
		a->n = json_array_size(list);
		a->members = mem_array(a->n + 1, sizeof(*a->members));
	}
	if (!rc && format > ARTIFACT_FORMAT_ONE && !(rc = read_volumes(a, e)))
		rc = place_members(a, e);
	if (!rc)
		return RC_OK;
	if (e)
		e->code = RC_CORRUPT;
	err_wrap(e, "%s: %s", a->path, ARTIFACT_MANIFEST);
	return RC_CORRUPT;
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

/* How far to look: PEEK at names and sizes alone, OPEN at bytes this process has not verified,
 * AGAIN at all. */
enum depth { PEEK, OPEN, AGAIN };

/* What the page cache will hold afterwards is read through it: it is mapped or unpacked next. */
static enum ahead_how how_to_read(const struct artifact *a, bool beside_others)
{
	size_t room = mem_available();

	if (room && a->size_bytes > (int64_t)(room / 2))
		return AHEAD_DIRECT;
	return beside_others ? AHEAD_ALONE : AHEAD_THREAD;
}

/* Of what names volumes; artifact_volumes_in() trusts that nothing else passes. */
static enum rc check_root(const struct artifact *a, const struct opened *o, struct err *e)
{
	if (o->index.n != 1)
		return err_set(e, RC_CORRUPT, "%s: has volumes, and members beside its manifest",
			       a->path);
	if (o->index.members[0].offset != TAR_BLOCK)
		return err_set(e, RC_CORRUPT, "%s: has volumes, and its manifest begins at byte %lld",
			       a->path, (long long)o->index.members[0].offset);
	if (o->st.st_size > ARTIFACT_ROOT_MAX)
		return err_set(e, RC_CORRUPT, "%s: %lld bytes to name volumes, at most %lld are allowed",
			       a->path, (long long)o->st.st_size, (long long)ARTIFACT_ROOT_MAX);
	return RC_OK;
}

/* The archive with the manifest. */
static enum rc open_first(struct artifact *a, const char *digest, enum depth depth, struct err *e)
{
	struct opened o;
	enum rc rc = open_at(a->path, &o, e);

	if (!rc)
		rc = load_manifest(&o, a->path, &a->manifest, e);
	a->size_bytes = rc ? 0 : o.st.st_size;
	if (!rc)
		rc = read_manifest(a, e);
	if (!rc && a->n_volumes)
		rc = check_root(a, &o, e);
	size_t n = a->n_volumes ? 0 : a->n;
	if (!rc && !a->n_volumes)
		rc = match_members(a, 0, n, a->path, &o.index, e);
	const struct archive x = {o.fd, &o.st, a->path, a->members, n, how_to_read(a, false)};
	if (!rc && depth != PEEK)
		rc = archive_check(&x, digest, depth == AGAIN, a->digest, e);
	opened_release(&o);
	return rc;
}

static enum rc open_volume(struct artifact *a, size_t i, enum depth depth, enum ahead_how how,
			   struct err *e)
{
	const struct artifact_volume *v = &a->volumes[i];
	char hex[SHA256_HEX_SIZE];
	struct opened o;
	size_t first = 0, n = 0;
	enum rc rc = open_at(v->path, &o, e);

	while (first < a->n && a->members[first].volume < i)
		first++;
	while (first + n < a->n && a->members[first + n].volume == i)
		n++;
	if (!rc && o.st.st_size != v->size)
		rc = err_set(e, RC_CORRUPT, "%s: %lld bytes, the manifest says %lld", v->path,
			     (long long)o.st.st_size, (long long)v->size);
	if (!rc)
		rc = match_members(a, first, n, v->path, &o.index, e);
	const struct archive x = {o.fd, &o.st, v->path, a->members + first, n, how};
	if (!rc && depth != PEEK)
		rc = archive_check(&x, v->digest, depth == AGAIN, hex, e);
	opened_release(&o);
	return rc;
}

/* Volumes are hashed beside each other: one digest is no faster than one core. */
struct crowd {
	struct artifact *a;
	enum depth depth;
	enum ahead_how how;
	atomic_size_t next;
	pthread_mutex_t lock;
	enum rc rc; /* of the first that failed */
	struct err e;
};

static void *open_some(void *arg)
{
	struct crowd *c = arg;
	struct err e = {0};
	enum rc rc = RC_OK;

	for (size_t i; !rc && (i = atomic_fetch_add(&c->next, 1)) < c->a->n_volumes;)
		rc = open_volume(c->a, i, c->depth, c->how, &e);
	if (!rc)
		return NULL;
	atomic_store(&c->next, c->a->n_volumes);
	pthread_mutex_lock(&c->lock);
	if (!c->rc) {
		c->rc = rc;
		c->e = e;
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

static enum rc open_volumes(struct artifact *a, enum depth depth, struct err *e)
{
	struct crowd c = {.a = a, .depth = depth, .lock = PTHREAD_MUTEX_INITIALIZER};
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t threads[THREADS_MAX];
	int n = 0, want = cores < THREADS_MAX ? (int)cores : THREADS_MAX;

	if (depth == PEEK || a->size_bytes < THREADS_MIN || a->n_volumes < 2)
		want = 1;
	c.how = how_to_read(a, want > 1);
	while (n + 1 < want && !pthread_create(&threads[n], NULL, open_some, &c))
		n++;
	open_some(&c);
	while (n)
		pthread_join(threads[--n], NULL);
	return c.rc ? err_set(e, c.rc, "%s", c.e.text) : RC_OK;
}

/* In the store, or beside the first when it is a file. */
static enum rc find_volumes(struct artifact *a, struct store *s, struct err *e)
{
	char path[PATH_MAX];
	enum rc rc = RC_OK;

	for (size_t i = 0; i < a->n_volumes && !rc; i++) {
		rc = s ? store_local(s, a->volumes[i].digest, path, sizeof(path), e)
		       : artifact_volume_path(a->path, i, path, sizeof(path), e);
		if (!rc)
			a->volumes[i].path = mem_str(path);
		else
			err_wrap(e, "%s: volume %zu of %zu", a->path, i + 1, a->n_volumes);
	}
	return rc;
}

/* `s`: where the volumes are; NULL: files. */
static enum rc open_all(struct store *s, const char *path, const char *digest, enum depth depth,
			struct artifact **out, struct err *e)
{
	struct artifact *a = mem_new(sizeof(*a));

	*out = NULL;
	a->path = mem_str(path);
	enum rc rc = open_first(a, digest, depth, e);
	if (!rc)
		rc = find_volumes(a, s, e);
	if (!rc && a->n_volumes)
		rc = open_volumes(a, depth, e);
	if (rc)
		artifact_close(a);
	else
		*out = a;
	return rc;
}

enum rc artifact_open_file(const char *path, const char *digest, struct artifact **out,
			   struct err *e)
{
	return open_all(NULL, path, digest, OPEN, out, e);
}

enum rc artifact_peek(const char *path, struct artifact **out, struct err *e)
{
	return open_all(NULL, path, NULL, PEEK, out, e);
}

static enum rc open_stored(struct store *s, const char *digest, enum depth depth,
			   struct artifact **out, struct err *e)
{
	char path[PATH_MAX];
	enum rc rc = store_local(s, digest, path, sizeof(path), e);

	*out = NULL;
	return rc ? rc : open_all(s, path, digest, depth, out, e);
}

enum rc artifact_open(struct store *s, const char *digest, struct artifact **out, struct err *e)
{
	return open_stored(s, digest, OPEN, out, e);
}

enum rc artifact_verify_file(const char *path, const char *digest, struct err *e)
{
	struct artifact *a;
	enum rc rc = open_all(NULL, path, digest, AGAIN, &a, e);

	artifact_close(a);
	return rc;
}

enum rc artifact_verify(struct store *s, const char *digest, struct err *e)
{
	struct artifact *a;
	enum rc rc = open_stored(s, digest, AGAIN, &a, e);

	artifact_close(a);
	return rc;
}

static enum rc volumes_of(const char *path, const char *digest, json_t **out, struct err *e)
{
	struct artifact a = {.path = mem_str(path)};
	enum rc rc = open_first(&a, digest, digest ? OPEN : PEEK, e);
	json_t *list = json_object_get(a.manifest, "volumes");

	*out = rc ? NULL : list ? json_incref(list) : json_array();
	json_decref(a.manifest);
	free(a.members);
	free(a.volumes);
	free(a.path);
	return rc;
}

enum rc artifact_volumes(const char *path, json_t **out, struct err *e)
{
	return volumes_of(path, NULL, out, e);
}

static enum rc take_block(void *ctx, const void *data, size_t len, struct err *e)
{
	(void)e;
	buf_append(ctx, data, len);
	return RC_OK;
}

enum rc artifact_volumes_in(struct store *s, const char *digest, json_t **out, struct err *e)
{
	static const char name[] = ARTIFACT_MANIFEST;
	struct buf block = BUF_INIT;
	const struct store_sink sink = {take_block, &block};
	char path[PATH_MAX];
	int64_t size;

	*out = NULL;
	enum rc rc = store_has(s, digest, &size, e);
	if (!rc && size >= TAR_BLOCK)
		rc = store_read(s, digest, 0, TAR_BLOCK, &sink, e);
	bool root = !rc && block.len == TAR_BLOCK && !memcmp(block.data, name, sizeof(name)) &&
		    !block.data[PREFIX];
	buf_release(&block);
	if (rc)
		return rc;
	if (!root) {
		*out = json_array();
		return RC_OK;
	}
	if (size > ARTIFACT_ROOT_MAX)
		return err_set(e, RC_CORRUPT, "%s: %lld bytes to name volumes, at most %lld are allowed",
			       digest, (long long)size, (long long)ARTIFACT_ROOT_MAX);
	rc = store_local(s, digest, path, sizeof(path), e);
	return rc ? rc : volumes_of(path, digest, out, e);
}

void artifact_close(struct artifact *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->n_volumes; i++)
		free(a->volumes[i].path);
	json_decref(a->manifest);
	free(a->volumes);
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
