/* Writing artifacts: one archive, or volumes and the archive that names them. */
#include "store/artifact.h"

#include "base/check.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/tar.h"
#include "store/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)
#define OVERHEAD ((int64_t)16 << 10) /* of a member: headers, gap and padding, end blocks */

struct artifact_writer {
	struct tar_writer *tar; /* what is written to `tmp`; NULL between two volumes */
	char *tmp;
	json_t *manifest, *members, *volumes; /* the latter two are borrowed from manifest */
	size_t n_in;			      /* members in the archive that is being written */
	int64_t in_bytes, volume_max;
	size_t n_referenced;
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
	w->volume_max = volume_bytes();
	w->aligned = !strcmp(kind, "checkpoint");
	w->members = json_array();
	w->manifest = json_pack("{s:i,s:s,s:o}", "format", ARTIFACT_FORMAT_ONE, "kind", kind,
				"members", w->members);
	*out = w;
	return RC_OK;
}

void artifact_volume_max(struct artifact_writer *w, int64_t bytes)
{
	w->volume_max = bytes > 0 ? bytes : volume_bytes();
}

enum rc artifact_volume_path(const char *path, size_t i, char *out, size_t size, struct err *e)
{
	if (strlen(path) + 16 > size)
		return err_set(e, RC_INVALID, "path longer than %zu bytes", size - 16);
	str_fmt(out, size, "%s.v%03zu", path, i + 1);
	return RC_OK;
}

void artifact_remove(const char *path, size_t volumes)
{
	char volume[PATH_MAX];

	(void)unlink(path);
	for (size_t i = 0; i < volumes; i++)
		if (!artifact_volume_path(path, i, volume, sizeof(volume), NULL))
			(void)unlink(volume);
}

static size_t n_volumes(const struct artifact_writer *w)
{
	return json_array_size(w->volumes);
}

static void note_volume(struct artifact_writer *w, const char *digest, int64_t size)
{
	if (!w->volumes) {
		w->volumes = json_array();
		json_object_set_new(w->manifest, "volumes", w->volumes);
		json_object_set_new(w->manifest, "format", json_integer(ARTIFACT_FORMAT));
	}
	json_array_append_new(w->volumes,
			      json_pack("{s:s,s:I}", "digest", digest, "size", (json_int_t)size));
}

/* What was written so far becomes a volume. */
static enum rc cut(struct artifact_writer *w, struct err *e)
{
	struct tar_writer *tar = w->tar;
	char hex[SHA256_HEX_SIZE], path[PATH_MAX];
	size_t n = json_array_size(w->members);
	int64_t size;

	w->tar = NULL;
	enum rc rc = tar_finish(tar, true, hex, &size, e);
	if (!rc)
		rc = artifact_volume_path(w->tmp, n_volumes(w), path, sizeof(path), e);
	if (!rc && rename(w->tmp, path))
		rc = err_set(e, err_from_errno(errno), "rename %s: %m", w->tmp);
	if (rc)
		return rc;
	for (size_t i = n - w->n_in; i < n; i++)
		json_object_set_new(json_array_get(w->members, i), "volume",
				    json_integer((json_int_t)n_volumes(w)));
	note_volume(w, hex, size);
	w->n_in = 0;
	w->in_bytes = 0;
	return RC_OK;
}

enum rc artifact_cut(struct artifact_writer *w, struct err *e)
{
	return w->n_in ? cut(w, e) : RC_OK;
}

static enum rc begin_member(struct artifact_writer *w, const char *member, int64_t size,
			    struct err *e)
{
	bool align = w->aligned && str_ends(member, ".safetensors");
	enum rc rc = RC_OK;

	if (!strcmp(member, ARTIFACT_MANIFEST))
		return err_set(e, RC_INVALID, "a member cannot be called %s", member);
	if (w->n_in && size > w->volume_max - w->in_bytes - OVERHEAD)
		rc = cut(w, e);
	if (!rc && !w->tar)
		rc = tar_create(w->tmp, &w->tar, e);
	return rc ? rc : tar_member_begin(w->tar, member, size, align, e);
}

static enum rc end_member(struct artifact_writer *w, const char *member, int64_t size,
			  struct err *e)
{
	char hex[SHA256_HEX_SIZE];
	enum rc rc = tar_member_end(w->tar, hex, e);

	if (rc)
		return rc;
	json_array_append_new(w->members, json_pack("{s:s,s:I,s:s}", "path", member, "size",
						    (json_int_t)size, "sha256", hex));
	w->n_in++;
	w->in_bytes += size + OVERHEAD;
	return RC_OK;
}

enum rc artifact_add_volume(struct artifact_writer *w, const struct artifact *from, size_t volume,
			    struct err *e)
{
	char path[PATH_MAX];
	size_t at = n_volumes(w) + (w->n_in > 0);

	ASSERT(volume < from->n_volumes);
	enum rc rc = artifact_volume_path(w->tmp, at, path, sizeof(path), e);
	if (!rc && link(from->volumes[volume].path, path))
		rc = err_set(e, err_from_errno(errno), "link %s to %s: %m",
			     from->volumes[volume].path, path);
	if (!rc && (rc = artifact_cut(w, e)))
		(void)unlink(path);
	if (rc)
		return rc;
	for (size_t i = 0; i < from->n; i++) {
		const struct artifact_member *m = &from->members[i];

		if (m->volume == volume)
			json_array_append_new(w->members,
					      json_pack("{s:s,s:I,s:s,s:I}", "path", m->path,
							"size", (json_int_t)m->size, "sha256",
							m->sha256, "volume", (json_int_t)at));
	}
	note_volume(w, from->volumes[volume].digest, from->volumes[volume].size);
	w->n_referenced++;
	return RC_OK;
}

size_t artifact_referenced(const struct artifact_writer *w)
{
	return w->n_referenced;
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
			       : err_set(e, RC_CORRUPT, "%s: became shorter while it was read",
					 path);
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

enum rc artifact_add_mem(struct artifact_writer *w, const char *member, const void *data,
			 size_t len, struct err *e)
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

/* The member of that name, if it is all there is in its volume. */
static const struct artifact_member *alone(const struct artifact *a, const char *name)
{
	const struct artifact_member *m = a ? artifact_find(a, name) : NULL;

	if (!m || !a->n_volumes)
		return NULL;
	for (size_t i = 0; i < a->n; i++)
		if (a->members[i].volume == m->volume && &a->members[i] != m)
			return NULL;
	return m;
}

static bool same_range(int x, int y, int64_t at, int64_t left)
{
	char *a = mem_new(2 * CHUNK), *b = a + CHUNK;
	bool same = true;

	for (int64_t done = 0; same && done < left;) {
		size_t n = left - done < (int64_t)CHUNK ? (size_t)(left - done) : CHUNK;

		same = pread(x, a, n, done) == (ssize_t)n &&
		       pread(y, b, n, at + done) == (ssize_t)n && !memcmp(a, b, n);
		done += (int64_t)n;
	}
	free(a);
	return same;
}

/* Looked at byte by byte, so what changed shows soon. */
static bool same_bytes(const char *path, const struct artifact_member *m)
{
	int x = open(path, O_RDONLY | O_CLOEXEC), y = open(m->file, O_RDONLY | O_CLOEXEC);
	bool same = x >= 0 && y >= 0 && fs_size(path) == m->size &&
		    same_range(x, y, m->offset, m->size);

	if (x >= 0)
		close(x);
	if (y >= 0)
		close(y);
	return same;
}

static enum rc add_apart(struct artifact_writer *w, const char *member, const char *path,
			 const struct artifact *from, struct err *e)
{
	const struct artifact_member *m = alone(from, member);

	if (m && same_bytes(path, m) && !artifact_add_volume(w, from, m->volume, NULL))
		return RC_OK;
	enum rc rc = artifact_cut(w, e);
	if (!rc)
		rc = artifact_add_file(w, member, path, e);
	return rc ? rc : artifact_cut(w, e);
}

enum rc artifact_add_dir_since(struct artifact_writer *w, const char *dir, int64_t apart,
			       const struct artifact *from, struct err *e)
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
			if (rank(names[i]) != r ||
			    strlen(dir) + strlen(names[i]) + 2 > sizeof(path))
				continue;
			str_fmt(path, sizeof(path), "%s/%s", dir, names[i]);
			if (stat(path, &st) || !S_ISREG(st.st_mode))
				continue;
			rc = st.st_size >= apart ? add_apart(w, names[i], path, from, e)
						 : artifact_add_file(w, names[i], path, e);
		}
	fs_list_free(names);
	return rc;
}

enum rc artifact_add_dir(struct artifact_writer *w, const char *dir, struct err *e)
{
	return artifact_add_dir_since(w, dir, INT64_MAX, NULL, e);
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
	enum rc rc = RC_OK;
	if (w->volumes && (int64_t)b.len + OVERHEAD > ARTIFACT_ROOT_MAX)
		rc = err_set(e, RC_INVALID, "%zu bytes to name %zu members, at most %lld are allowed",
			     b.len, json_array_size(w->members), (long long)ARTIFACT_ROOT_MAX);
	if (!rc)
		rc = tar_member_begin(w->tar, ARTIFACT_MANIFEST, (int64_t)b.len, false, e);
	if (!rc)
		rc = tar_data(w->tar, b.data, b.len, e);
	if (!rc)
		rc = tar_member_end(w->tar, hex, e);
	buf_release(&b);
	return rc;
}

/* The end of the last archive. With volumes it holds the manifest alone, which names them. */
static enum rc finish(struct artifact_writer *w, const json_t *meta, bool sync,
		      struct artifact_ref *ref, struct err *e)
{
	enum rc rc = w->volumes ? artifact_cut(w, e) : RC_OK;
	const json_t *v;
	size_t i;

	if (!rc && !w->tar)
		rc = tar_create(w->tmp, &w->tar, e);
	if (!rc)
		rc = put_manifest(w, meta, e);
	if (rc) {
		tar_abort(w->tar);
	} else {
		rc = tar_finish(w->tar, sync, ref->digest, &ref->size, e);
		json_array_foreach(w->volumes, i, v) ref->size += jx_get_i64(v, "size", 0);
	}
	w->tar = NULL;
	return rc;
}

enum rc artifact_finish(struct artifact_writer *w, const json_t *meta, struct artifact_ref *ref,
			struct err *e)
{
	enum rc rc = finish(w, meta, true, ref, e);

	if (rc)
		artifact_remove(w->tmp, n_volumes(w));
	writer_free(w);
	return rc;
}

/* Volumes first: who finds the archive that names them finds them. */
static enum rc take_all(struct artifact_writer *w, struct store *s, const struct artifact_ref *ref,
			struct err *e)
{
	char path[PATH_MAX];
	int64_t left = ref->size;
	enum rc rc = RC_OK;

	for (size_t i = 0; i < n_volumes(w) && !rc; i++) {
		const json_t *v = json_array_get(w->volumes, i);
		int64_t size = jx_get_i64(v, "size", 0);

		rc = artifact_volume_path(w->tmp, i, path, sizeof(path), e);
		if (!rc)
			rc = store_take_named(s, path, jx_get_str(v, "digest", ""), size, e);
		left -= size;
	}
	return rc ? rc : store_take_named(s, w->tmp, ref->digest, left, e);
}

enum rc artifact_publish(struct artifact_writer *w, const json_t *meta, struct store *s,
			 struct artifact_ref *ref, struct err *e)
{
	enum rc rc = finish(w, meta, false, ref, e); /* The store fsyncs what it takes. */

	if (!rc)
		rc = take_all(w, s, ref, e);
	if (rc)
		artifact_remove(w->tmp, n_volumes(w));
	writer_free(w);
	return rc;
}

void artifact_abort(struct artifact_writer *w)
{
	if (!w)
		return;
	tar_abort(w->tar);
	artifact_remove(w->tmp, n_volumes(w));
	writer_free(w);
}
