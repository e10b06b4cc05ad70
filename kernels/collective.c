/* What both bodies share: groups of one, faults, parts. */
#include "kernels/collective.h"

#include "kernels/collective_inner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t coll_type_bytes(enum coll_type t)
{
	return t == COLL_BF16 ? 2 : t == COLL_F32 ? 4 : 8;
}

struct coll_span coll_part(size_t n, int rank, int n_ranks)
{
	size_t each = (n / (size_t)n_ranks + 15) / 16 * 16;
	size_t from = each * (size_t)rank, to = from + each;

	from = from < n ? from : n;
	return (struct coll_span){from, rank == n_ranks - 1 || to > n ? n : to};
}

int coll_rank(const struct coll *c)
{
	return c ? c->rank : 0;
}

int coll_ranks(const struct coll *c)
{
	return c ? c->n : 1;
}

const char *coll_fault(struct coll *c)
{
	return c && c->failed ? c->why : NULL;
}

bool coll_fail(struct coll *c, const char *why)
{
	if (!c->failed)
		snprintf(c->why, sizeof c->why, "%s", why);
	c->failed = true;
	return false;
}

void coll_abort(struct coll *c, const char *why)
{
	if (!c)
		return;
	c->body->abort(c, why);
	coll_fail(c, why);
}

void coll_close(struct coll *c)
{
	if (c)
		c->body->close(c);
}

static bool run(struct coll *c, const struct coll_call *a)
{
	if (!c)
		return true;
	return !c->failed && c->body->run(c, a);
}

bool coll_all_reduce(struct coll *c, void *x, size_t n, enum coll_type t, enum coll_op op)
{
	return run(c, &(struct coll_call){COLL_REDUCE, t, op, 0, x, n, false});
}

bool coll_all_gather(struct coll *c, void *x, size_t n, enum coll_type t)
{
	return run(c, &(struct coll_call){COLL_GATHER, t, COLL_SUM, 0, x, n, false});
}

bool coll_reduce_scatter(struct coll *c, void *x, size_t n, enum coll_type t)
{
	return run(c, &(struct coll_call){COLL_SCATTER, t, COLL_SUM, 0, x, n, false});
}

bool coll_broadcast(struct coll *c, void *x, size_t n, enum coll_type t, int root)
{
	return run(c, &(struct coll_call){COLL_SPREAD, t, COLL_SUM, root, x, n, false});
}

bool coll_agree_f64(struct coll *c, double *x, size_t n, enum coll_op op)
{
	return run(c, &(struct coll_call){COLL_REDUCE, COLL_F64, op, 0, x, n, true});
}

bool coll_agree_i64(struct coll *c, int64_t *x, size_t n, enum coll_op op)
{
	return run(c, &(struct coll_call){COLL_REDUCE, COLL_I64, op, 0, x, n, true});
}

bool coll_barrier(struct coll *c)
{
	int64_t one = 1;

	return coll_agree_i64(c, &one, 1, COLL_SUM);
}

bool coll_tell(struct coll *c, void *x, size_t bytes, int root)
{
	size_t n = (bytes + 7) / 8;
	int64_t *words;
	bool ok;

	if (!c)
		return true;
	words = calloc(n + 1, sizeof *words);
	if (!words)
		return coll_fail(c, "no memory for a message to the other ranks");
	memcpy(words, x, bytes);
	ok = run(c, &(struct coll_call){COLL_SPREAD, COLL_I64, COLL_SUM, root, words, n, true});
	if (ok)
		memcpy(x, words, bytes);
	free(words);
	return ok;
}
