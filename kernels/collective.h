/* What the ranks of one job do together: sums, gathers, broadcasts and meeting points.
 *
 * It lies beside the table of operations because it moves the same arrays: those of a back end's
 * memory. It knows nothing of models, jobs or of how ranks were started, and includes nothing of
 * ours but kernels.h. Two bodies: shared memory of one machine (ranks are processes, or threads of
 * a test), and NCCL, loaded when it is asked for.
 *
 * Invariants:
 *  - Every rank calls the same functions in the same order with the same sizes. Shared memory
 *    compares what the ranks ask for and says who differs; NCCL cannot.
 *  - Shared memory sums in the order of ranks 0 .. n-1, each element in float (double and integers
 *    in themselves) and rounded once. The result is a function of the ranks' values and of n; every
 *    rank gets the same bits. NCCL sums in an order of its own, the same for the same n, sizes and
 *    machines.
 *  - Nothing waits for ever. When a rank ends, says that it gives up, or does not come for
 *    `timeout_s`, the others' calls return false and coll_fault() names it. A fault stays: later
 *    calls do nothing and return false at once, so that long computations may ask at their end.
 *  - A share of a rank: coll_part() cuts n elements into n_ranks neighbouring parts.
 */
#pragma once

#include "kernels/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COLL_RANKS_MAX 64
#define COLL_WHY 256	   /* bytes of a cause, with its end */
#define COLL_ID_BYTES 128  /* what the ranks of NCCL must agree on beforehand */
#define COLL_TIMEOUT_S 600 /* a rank may be reading a model while others wait */

enum coll_type { COLL_F32, COLL_BF16, COLL_F64, COLL_I64 };
enum coll_op { COLL_SUM, COLL_MAX, COLL_MIN };

struct coll;

size_t coll_type_bytes(enum coll_type t);
/* The back end's format of activations. */
static inline enum coll_type coll_act(const struct kern *k)
{
	return k->act == KERN_F32 ? COLL_F32 : COLL_BF16;
}

struct coll_span {
	size_t from, to;
};
/* The part of `rank`: bounds are multiples of 16, the last part takes the rest. */
struct coll_span coll_part(size_t n, int rank, int n_ranks);

/* --- life ------------------------------------------------------------------------------------- */

/* Shared memory. The segment is any file that all ranks can map (memfd_create, /dev/shm), of
 * coll_shm_bytes() zeros. The caller keeps `fd` and may close it once this has returned. */
size_t coll_shm_bytes(int n);
struct coll_shm {
	int fd, rank, n;
	double timeout_s;	 /* of one meeting; 0: COLL_TIMEOUT_S */
	const struct kern *kern; /* borrowed, as the pool is: of the arrays. NULL: the program's */
	struct kern_pool *pool;
};
/* Returns when all ranks are there. NULL says why in `why`. */
struct coll *coll_shm_open(const struct coll_shm *o, char *why, size_t size);

/* NCCL: one device for each rank. The id is made by rank 0 and brought to the others by the caller.
 * False and NULL say why: no library, a refusal of NCCL's. */
bool coll_nccl_id(unsigned char id[COLL_ID_BYTES], char *why, size_t size);
struct coll *coll_nccl_open(const unsigned char id[COLL_ID_BYTES], int rank, int n,
			    const struct kern *k, struct kern_pool *pool, char *why, size_t size);

/* Tells the others that this rank gives up, and why: their calls fail with it. */
void coll_abort(struct coll *c, const char *why);
/* The others may go on only to close as well. NULL is allowed. */
void coll_close(struct coll *c);

/* A group of one, where all calls succeed and do nothing, is NULL: rank 0 of 1. */
int coll_rank(const struct coll *c);
int coll_ranks(const struct coll *c);
/* Why nothing computed since can be trusted ("rank 2 ended: ..."), or NULL. */
const char *coll_fault(struct coll *c);

/* --- arrays of the back end ------------------------------------------------------------------- */

/* x[n] = sum (max, min) over ranks, in place. */
bool coll_all_reduce(struct coll *c, void *x, size_t n, enum coll_type t, enum coll_op op);
/* Of x[n] every rank has its coll_part(); afterwards all of it. */
bool coll_all_gather(struct coll *c, void *x, size_t n, enum coll_type t);
/* The rank's coll_part() of x[n] = sum over ranks; the rest of x is undefined. The bits are those
 * of coll_all_reduce(). */
bool coll_reduce_scatter(struct coll *c, void *x, size_t n, enum coll_type t);
/* x of rank `root` becomes everybody's. */
bool coll_broadcast(struct coll *c, void *x, size_t n, enum coll_type t, int root);

/* --- numbers of the program ------------------------------------------------------------------- */

bool coll_barrier(struct coll *c);
/* The same on ordinary memory, for what ranks must agree on; few bytes. */
bool coll_agree_f64(struct coll *c, double *x, size_t n, enum coll_op op);
bool coll_agree_i64(struct coll *c, int64_t *x, size_t n, enum coll_op op);
bool coll_tell(struct coll *c, void *x, size_t bytes, int root);
