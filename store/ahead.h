/* Reads a file in order, ahead of its user: threads fill pieces while others are being used, 16 MiB of
 * them whatever the file's size. Files below AHEAD_MIN are read without. Knows nothing of what it reads.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define AHEAD_MIN ((int64_t)8 << 20)

struct ahead;

enum ahead_how {
	AHEAD_THREAD, /* threads read, through the page cache */
	AHEAD_ALONE,  /* the user himself: faster where all cores have such work */
	AHEAD_DIRECT, /* threads read past the page cache what that could not hold */
};

/* Bytes [from, to) of `fd`, which stays open and the caller's; `what` names it in errors, borrowed.
 */
void ahead_open(int fd, const char *what, int64_t from, int64_t to, enum ahead_how how,
		struct ahead **out);
/* The next bytes, at most `max` and at least one; valid until the next call. RC_CORRUPT when the
 * file ends before. Not to be asked beyond `to`. */
enum rc ahead_next(struct ahead *a, size_t max, const void **data, size_t *n, struct err *e);
void ahead_close(struct ahead *a); /* NULL is fine */
