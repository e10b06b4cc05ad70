/* Blobs that workers write through us when they cannot reach the store themselves: whole in one
 * request, or piece by piece, going on after a break where the last piece ended.
 *
 * What has come of an upload lies beside the store's files on their way in, upload-<digest>.tar,
 * and its size is the offset to go on from; it is fdatasynced before a piece is acknowledged, left
 * for a day, and survives us. One request writes to it at a time. The digest of the whole decides
 * in the end.
 */
#include "server/api.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/str.h"
#include "server/reply.h"
#include "server/server.h"
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLICE (256u * 1024)
#define UPLOAD_MAX ((int64_t)1 << 42)

/* The body to the end of a file; RC_IO when it broke off, what came being written. */
static enum rc receive(struct req *r, int fd, const char *path, struct sha256 *sha, struct err *e)
{
	char *slice = malloc(SLICE);
	enum rc rc = slice ? RC_OK : err_set(e, RC_NOMEM, "no memory for a body");
	int got = 0;

	while (!rc && (got = req_read(r, slice, SLICE)) > 0) {
		if (sha)
			sha256_add(sha, slice, (size_t)got);
		for (int at = 0; at < got && !rc;) {
			ssize_t n = write(fd, slice + at, (size_t)(got - at));

			if (n < 0 && errno != EINTR)
				rc = err_set(e, err_from_errno(errno), "write %s: %m", path);
			at += n > 0 ? (int)n : 0;
		}
	}
	if (!rc && (got < 0 || r->body_read < r->body_len))
		rc = err_set(e, RC_IO, "the upload broke off after %lld of %lld bytes",
			     (long long)r->body_read, (long long)r->body_len);
	free(slice);
	return rc;
}

static void answer_stored(struct req *r, int status, const char *digest, int64_t size)
{
	reply_json(r, status,
		   json_pack("{s:s, s:I, s:b}", "digest", digest, "size", (json_int_t)size,
			     "existed", status == 200));
}

/* Answers when the store has it: its body, if there is one, is not read. */
static bool answer_existed(struct req *r, const char *digest)
{
	int64_t size = 0;

	if (store_has(r->srv->store, digest, &size, NULL))
		return false;
	r->close = r->body_len > 0;
	answer_stored(r, 200, digest, size);
	return true;
}

/* --- whole --------------------------------------------------------------------------------- */

static enum rc receive_whole(struct req *r, const char *path, char hex[SHA256_HEX_SIZE],
			     struct err *e)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	uint8_t digest[SHA256_SIZE];
	struct sha256 sha;

	if (fd < 0)
		return err_set(e, err_from_errno(errno), "open %s: %m", path);
	sha256_init(&sha);
	enum rc rc = receive(r, fd, path, &sha, e);
	sha256_end(&sha, digest);
	sha256_hex(digest, hex);
	close(fd);
	return rc;
}

void api_blob_put(struct req *r)
{
	struct store *s = r->srv->store;
	const char *want = r->args[0];
	char tmp[PATH_MAX], got[SHA256_HEX_SIZE], named[SHA256_HEX_SIZE];
	struct err e = {0};
	int64_t size = 0;

	if (!sha256_hex_valid(want) || r->body_len < 0) {
		reply_problem(r, 400, "invalid",
			      "expected a SHA-256 digest in the path and a Content-Length");
		return;
	}
	if (answer_existed(r, want))
		return;
	if (store_tmp(s, tmp, sizeof tmp, &e)) {
		reply_err(r, &e);
		return;
	}
	if (receive_whole(r, tmp, got, &e)) {
		unlink(tmp);
		reply_err(r, &e);
	} else if (strcmp(got, want) != 0) {
		unlink(tmp);
		reply_problem(r, 422, "digest", "the body's digest is %s, the path says %s", got,
			      want);
	} else if (store_take(s, tmp, named, &size, &e)) {
		reply_err(r, &e);
	} else {
		answer_stored(r, 201, named, size);
	}
}

/* --- in pieces ----------------------------------------------------------------------------- */

static enum rc upload_path(struct server *s, const char *digest, char out[PATH_MAX], struct err *e)
{
	enum rc rc = store_tmp(s->store, out, PATH_MAX - 80, e);
	char *slash = rc ? NULL : strrchr(out, '/');

	if (slash)
		str_fmt(slash, 80, "/upload-%s.tar", digest);
	return rc;
}

/* Where the upload of this digest lies; false when the request was answered: the store has it, or there
 * is no room for uploads. */
static bool upload_wanted(struct req *r, const char *digest, char path[PATH_MAX])
{
	struct err e = {0};

	if (answer_existed(r, digest))
		return false;
	if (upload_path(r->srv, digest, path, &e)) {
		reply_err(r, &e);
		return false;
	}
	return true;
}

/* {"offset"}: where to go on. */
void api_upload_get(struct req *r)
{
	const char *digest = r->args[0];
	char path[PATH_MAX];

	if (!sha256_hex_valid(digest)) {
		reply_problem(r, 404, "not-found", "no upload \"%s\"", digest);
		return;
	}
	if (!upload_wanted(r, digest, path))
		return;
	int64_t have = fs_size(path);
	reply_json(r, 200,
		   json_pack("{s:s, s:I, s:b}", "digest", digest, "offset",
			     (json_int_t)(have > 0 ? have : 0), "existed", 0));
}

/* All is there: named, or thrown away. The lock on `fd` is held. */
static void finish(struct req *r, const char *digest, const char *path, int64_t size)
{
	char got[SHA256_HEX_SIZE];
	struct err e = {0};
	enum rc rc = fs_sha256(path, got, NULL, &e);

	if (!rc && strcmp(got, digest) != 0) {
		unlink(path);
		reply_problem(r, 422, "digest", "the upload's digest is %s, the path says %s", got,
			      digest);
		return;
	}
	if (!rc)
		rc = store_take_named(r->srv->store, path, digest, size, &e);
	if (rc)
		reply_err(r, &e);
	else
		answer_stored(r, 201, digest, size);
}

/* The file, locked: ours alone and still the one of that name. -1 after an answer. */
static int open_upload(struct req *r, const char *path, int64_t offset)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	struct stat st, named;
	struct err e = {0};

	if (fd < 0) {
		err_set(&e, err_from_errno(errno), "open %s: %m", path);
		reply_err(r, &e);
		return -1;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) || fstat(fd, &st) || stat(path, &named) ||
	    st.st_ino != named.st_ino) {
		reply_problem(r, 409, "busy", "another request writes to this upload");
	} else if (st.st_size != offset) {
		reply_problem(r, 409, "offset",
			      "the upload has %lld bytes, the piece begins at %lld",
			      (long long)st.st_size, (long long)offset);
	} else {
		return fd;
	}
	close(fd);
	return -1;
}

/* ?offset=N&size=TOTAL: the body is what comes at N. */
void api_upload_put(struct req *r)
{
	const char *digest = r->args[0];
	int64_t offset, size;
	char path[PATH_MAX];
	struct err e = {0};

	if (!req_query_i64(r, "offset", 0, 0, UPLOAD_MAX, &offset) ||
	    !req_query_i64(r, "size", 0, 1, UPLOAD_MAX, &size))
		return;
	if (!sha256_hex_valid(digest) || r->body_len < 0 || r->body_len > size - offset) {
		reply_problem(r, 400, "invalid",
			      "expected a SHA-256 digest in the path and a piece within `size`");
		return;
	}
	if (!upload_wanted(r, digest, path))
		return;
	int fd = open_upload(r, path, offset);
	if (fd < 0) {
		r->close = r->body_len > 0;
		return;
	}
	enum rc rc = receive(r, fd, path, NULL, &e);
	if (fdatasync(fd) && !rc)
		rc = err_set(&e, err_from_errno(errno), "fdatasync %s: %m", path);
	if (rc)
		reply_err(r, &e);
	else if (offset + r->body_len < size)
		reply_json(r, 200,
			   json_pack("{s:s, s:I, s:b}", "digest", digest, "offset",
				     (json_int_t)(offset + r->body_len), "existed", 0));
	else
		finish(r, digest, path, size);
	close(fd);
}
