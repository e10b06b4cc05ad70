/* Writes a file in order, behind its user: one thread hashes what he has given, another writes it,
 * in pieces that end at multiples of BEHIND_PIECE. At most 8 MiB wait; who gives more waits
 * himself. Knows nothing of archives but that parts of one, its members, have a digest beside that
 * of the whole.
 *
 * An error of the file stays: nothing is written after it, and every call from then on tells of it.
 */
#pragma once

#include "base/sha256.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BEHIND_PIECE ((size_t)1 << 20)

struct behind;

/* For byte `pos` of `fd` (the caller's) and on; `all` is the digest of those before, `member` that
 * of what they have of the member at work, or NULL. NULL: there are no threads for it. */
struct behind *behind_new(int fd, int64_t pos, const struct sha256 *all,
			  const struct sha256 *member);
/* A copy is taken. `member`: it is data of the member at work. 0 or an errno. */
int behind_put(struct behind *b, const void *data, size_t len, bool member);
/* The digest of the member at work, which ends here; the next one's data begins another. Waits for
 * it. */
void behind_member(struct behind *b, struct sha256 *out);
/* Waits until all is hashed and written; the digest of the whole into `all`. 0 or an errno. */
int behind_end(struct behind *b, struct sha256 *all);
void behind_free(struct behind *b); /* drops what is not written; NULL is fine */
