/* Tar archives: POSIX pax, regular files only, zero times and owners, nothing after the two end
 * blocks. The same members give the same bytes. Knows nothing of manifests.
 *
 * A member may ask for its data to start at a multiple of 4096 bytes in the archive, so that it can
 * be mapped where it lies: a pax global header holding only a comment fills the gap, which every
 * tar program skips.
 *
 * Reading is strict. tar_index refuses links, devices, folders, absolute names, "..", duplicates,
 * cut archives and trailing bytes. Headers are parsed by libarchive; data is read by the caller at
 * the offsets given.
 */
#pragma once

#include "base/err.h"
#include "base/sha256.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TAR_ALIGN 4096
#define TAR_BLOCK 512 /* everything in an archive begins at a multiple of it */
#define TAR_PATH_MAX 255
#define TAR_MEMBERS_MAX 65536

struct tar_writer;

/* Creates (or truncates) `path`. */
enum rc tar_create(const char *path, struct tar_writer **out, struct err *e);
/* Exactly `size` bytes of tar_data must follow, then tar_member_end. */
enum rc tar_member_begin(struct tar_writer *w, const char *name, int64_t size, bool aligned,
			 struct err *e);
enum rc tar_data(struct tar_writer *w, const void *data, size_t len, struct err *e);
/* sha256 of the member's data. */
enum rc tar_member_end(struct tar_writer *w, char hex[SHA256_HEX_SIZE], struct err *e);
/* Ends the archive, fsyncs it with `sync`, and closes. Digest and size of the whole file. Frees `w`
 * always; the file is removed on failure. */
enum rc tar_finish(struct tar_writer *w, bool sync, char hex[SHA256_HEX_SIZE], int64_t *size,
		   struct err *e);
/* Frees and removes the file. NULL is fine. */
void tar_abort(struct tar_writer *w);

struct tar_member {
	char *path; /* owned */
	int64_t offset, size; /* of the data, in the archive */
};

struct tar_index {
	struct tar_member *members; /* owned, in archive order */
	size_t n;
};

/* `what` names the archive in errors. `fd` is read from its start. */
enum rc tar_index(int fd, const char *what, struct tar_index *out, struct err *e);
void tar_index_release(struct tar_index *x);

/* Relative, no "." or ".." or empty part, no control bytes, UTF-8, at most TAR_PATH_MAX. */
bool tar_path_ok(const char *path);
