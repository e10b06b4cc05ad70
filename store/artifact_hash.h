/* Whether an archive's bytes are those it is named by, and those its members' digests say.
 * Remembers what this process has verified: by inode, size and times of change. Knows nothing of
 * manifests.
 */
#pragma once

#include "base/err.h"
#include "base/sha256.h"
#include "store/ahead.h"
#include "store/artifact.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

struct archive {
	int fd;
	const struct stat *st;
	const char *path;		       /* names it in errors */
	const struct artifact_member *members; /* in this one, in order */
	size_t n;
	enum ahead_how how; /* to read it */
};

/* The digest of all bytes into `hex`. `digest` NULL: each member is compared. Else the bytes must
 * have it, or RC_CORRUPT says which member has not its own; read but once per process unless
 * `again`, which compares members as well. */
enum rc archive_check(const struct archive *a, const char *digest, bool again,
		      char hex[SHA256_HEX_SIZE], struct err *e);
