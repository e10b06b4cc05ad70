/* Arrays of the program where the operations can read them.
 *
 * On a table whose memory is the program's that is the array itself; elsewhere a copy is made. Knows
 * nothing of what the numbers mean.
 */
#pragma once

#include "base/err.h"
#include "kernels/kernels.h"

#include <stddef.h>

/* RC_NOMEM names `what`. On a host table the result is `p` itself. */
enum rc mirror_make(const struct kern *k, struct kern_pool *pool, const void *p, size_t bytes,
		    const char *what, void **out, struct err *e);
/* What mirror_make() gave; nothing on a host table. NULL is allowed. */
void mirror_free(const struct kern *k, struct kern_pool *pool, void *there, size_t bytes);

/* Bytes for n activations of a table, as a slab counts them: a multiple of 64. */
static inline size_t mirror_round(size_t bytes)
{
	return (bytes + 63) / 64 * 64;
}

/* A back end that has failed computes nothing that counts: RC_INTERNAL with its cause. */
enum rc mirror_fault(const struct kern *k, struct kern_pool *pool, struct err *e);
/* Bytes that may be taken: what the back end says, else what the machine has left. */
size_t mirror_room(const struct kern *k, struct kern_pool *pool);
