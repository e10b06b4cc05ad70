/* Out of artifacts: whole folders, weights that stay where they lie, single members. */
#include "store/artifact.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/safetensors.h"
#include "store/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)

static enum rc corrupt(struct err *e, const struct artifact_member *m, const char *why)
{
	return err_set(e, RC_CORRUPT, "%s: member \"%s\": %s", m->file, m->path, why);
}

/* Copies one member, checking its digest on the way; the bytes checked are the bytes written. */
static enum rc copy_out(int in, int out, const struct artifact_member *m, struct err *e)
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
			rc = err_set(e, RC_IO, "%s: member \"%s\": read failed", m->file, m->path);
		if (!rc)
			rc = fs_write_all(out, m->path, chunk, (size_t)n, e);
		if (!rc)
			sha256_add(&sha, chunk, (size_t)n);
		at += n;
		left -= n;
	}
	free(chunk);
	sha256_end(&sha, digest);
	sha256_hex(digest, hex);
	if (!rc && strcmp(hex, m->sha256))
		rc = corrupt(e, m, "digest differs from the manifest");
	return rc;
}

/* Path of a member below `dest`, its folders made. */
static enum rc member_path(const struct artifact_member *m, const char *dest, char path[PATH_MAX],
			   struct err *e)
{
	if (strlen(dest) + strlen(m->path) + sizeof(ST_AT) + 1 > PATH_MAX)
		return err_set(e, RC_INVALID, "path %s/%s is too long", dest, m->path);
	if (str_ends(m->path, ST_AT) ||
	    str_starts(m->path, ARTIFACT_FETCHED)) /* It would stand for a file of this machine. */
		return corrupt(e, m, "has a name that is not for members");
	str_fmt(path, PATH_MAX, "%s/%s", dest, m->path);
	char *slash = strrchr(path, '/');
	*slash = 0;
	enum rc rc = fs_mkdirs(path, e);
	*slash = '/';
	return rc;
}

static enum rc unpack_member(int in, const struct artifact_member *m, const char *dest,
			     struct err *e)
{
	char path[PATH_MAX];
	enum rc rc = member_path(m, dest, path, e);

	if (rc)
		return rc;
	unlink(path);
	int out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (out < 0)
		return err_set(e, err_from_errno(errno), "create %s: %m", path);
	rc = copy_out(in, out, m, e);
	if (close(out) && !rc)
		rc = err_set(e, err_from_errno(errno), "close %s: %m", path);
	if (rc)
		unlink(path);
	return rc;
}

/* A file beside the pointer is named without its folder, which may be moved. */
static const char *seen_from(const char *dest, const char *file)
{
	size_t n = strlen(dest);

	return str_starts(file, dest) && file[n] == '/' && !strchr(file + n + 1, '/') ? file + n + 1
										      : file;
}

/* Opening the archive has checked the member's digest. */
static enum rc point_to_member(const struct artifact_member *m, const char *dest, struct err *e)
{
	char path[PATH_MAX];
	struct buf text = BUF_INIT;
	enum rc rc = member_path(m, dest, path, e);

	if (rc)
		return rc;
	size_t len = strlen(path);
	bool flat = !strchr(m->path, '/');
	json_t *v = json_pack("{s:s, s:I, s:I}", "file", flat ? seen_from(dest, m->file) : m->file,
			      "offset", (json_int_t)m->offset, "size", (json_int_t)m->size);
	str_fmt(path + len, sizeof(path) - len, ST_AT);
	jx_dump(v, &text);
	rc = fs_write_durable(path, text.data, text.len, e);
	buf_release(&text);
	json_decref(v);
	return rc;
}

static bool stays(const struct artifact *a, const struct artifact_member *m)
{
	return !strcmp(a->kind, "checkpoint") && str_ends(m->path, ".safetensors") &&
	       m->offset % TAR_ALIGN == 0;
}

static enum rc unpack_all(const struct artifact *a, const char *dest, bool mapped, struct err *e)
{
	enum rc rc = fs_mkdirs(dest, e);
	const char *file = NULL;
	int in = -1;

	for (size_t i = 0; i < a->n && !rc; i++) {
		const struct artifact_member *m = &a->members[i];

		if (mapped && stays(a, m)) {
			rc = point_to_member(m, dest, e);
			continue;
		}
		if (file != m->file) {
			if (in >= 0)
				close(in);
			in = open(m->file, O_RDONLY | O_CLOEXEC);
		}
		file = m->file;
		rc = in < 0 ? err_set(e, err_from_errno(errno), "open %s: %m", m->file)
			    : unpack_member(in, m, dest, e);
	}
	if (in >= 0)
		close(in);
	return rc;
}

/* Consumes `a`. */
static enum rc unpack(struct artifact *a, const char *dest, bool mapped, struct err *e)
{
	enum rc rc = unpack_all(a, dest, mapped, e);

	artifact_close(a);
	return rc;
}

static bool pointed_to(const struct artifact *a, size_t volume)
{
	for (size_t i = 0; i < a->n; i++)
		if (a->members[i].volume == volume && stays(a, &a->members[i]))
			return true;
	return false;
}

enum rc artifact_unpack_file(const char *path, const char *digest, const char *dest_dir,
			     struct err *e)
{
	struct artifact *a;
	enum rc rc = artifact_open_file(path, digest, &a, e);

	return rc ? rc : unpack(a, dest_dir, false, e);
}

enum rc artifact_unpack_file_mapped(const char *path, const char *digest, const char *dest_dir,
				    struct err *e)
{
	struct artifact *a;
	enum rc rc = artifact_open_file(path, digest, &a, e);

	if (rc)
		return rc;
	rc = unpack_all(a, dest_dir, true, e);
	if (a->n_volumes || !pointed_to(a, 0))
		(void)unlink(path);
	for (size_t i = 0; i < a->n_volumes; i++)
		if (!pointed_to(a, i))
			(void)unlink(a->volumes[i].path);
	artifact_close(a);
	return rc;
}

enum rc artifact_unpack(struct store *s, const char *digest, const char *dest_dir, struct err *e)
{
	struct artifact *a;
	enum rc rc = artifact_open(s, digest, &a, e);

	return rc ? rc : unpack(a, dest_dir, false, e);
}

enum rc artifact_unpack_mapped(struct store *s, const char *digest, const char *dest_dir,
			       struct err *e)
{
	char path[PATH_MAX];
	struct artifact *a;
	enum rc rc = artifact_open(s, digest, &a, e);

	if (rc)
		return rc;
	/* What is only a copy for a while must not be pointed to. */
	return unpack(a, dest_dir, store_path(s, digest, path, sizeof(path), NULL) == RC_OK, e);
}

static enum rc read_member(const struct artifact_member *m, struct buf *out, struct err *e)
{
	char hex[SHA256_HEX_SIZE];
	int fd = open(m->file, O_RDONLY | O_CLOEXEC);
	ssize_t n = 1;

	if (fd < 0)
		return err_set(e, err_from_errno(errno), "open %s: %m", m->file);
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
		return corrupt(e, m, "digest differs from the manifest");
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
		rc = read_member(m, out, e);
	artifact_close(a);
	return rc;
}
