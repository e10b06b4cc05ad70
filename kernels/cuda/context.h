/* The context of the CUDA back end: what `struct kern_pool *` points to there. One device, one stream
 * that all operations go into in the order they are asked for, a second one for snapshots, scratch,
 * and pinned memory through which numbers travel.
 *
 * Errors: the first one stays (cu_fault()); what is asked afterwards does nothing that counts. Knows
 * the table's memory half; the operations are table.c's.
 */
#pragma once

#include "kernels/cuda/launch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cu_blas;

#define CU_GRAPHS 64	 /* recorded passes kept; the oldest goes first */
#define CU_SLOTS 4	 /* pinned slots that put() and get() take turns in */
#define CU_SLOT_BYTES ((size_t)4 << 20)
#define CU_RESERVE ((size_t)256 << 20) /* left to the driver and to scratch by room() */

enum cu_scratch_use {
	CU_SCRATCH_OP,	   /* of an operation */
	CU_SCRATCH_FACTOR, /* of a product inside one: factors in its format */
	CU_SCRATCH_ZEROS,
	CU_SCRATCHES
};

struct cu_slot {
	char *p;
	struct CUevent_st *free; /* recorded behind the copy that reads it */
};

struct cu_graph {
	uint64_t key;
	int seen; /* times it was asked for; recorded the second time */
	struct CUgraphExec_st *exec;
};

struct kern_pool {
	enum kern_format act;
	bool steady; /* packed products of one kernel, whatever the number of rows */
	int device, multiprocessors, major, minor;
	char name[256];
	cu_stream stream, side;
	struct CUevent_st *ordered; /* of the stream, for the side */
	struct cu_slot slots[CU_SLOTS];
	int slot;
	/* Grow; recorded passes that used the old ones are forgotten. */
	void *scratch[CU_SCRATCHES];
	size_t scratch_bytes[CU_SCRATCHES];
	void *lent, *lent_there; /* pinned and on the device: small arguments and results */
	size_t lent_bytes;
	struct cu_graph graphs[CU_GRAPHS];
	int n_graphs;
	bool recording;
	struct cu_blas *blas;
};

struct kern_pool *cu_open(enum kern_format act, const struct kern_open *o, char *why, size_t size);
void cu_close(struct kern_pool *p);
/* Notes the first error; later ones change nothing. `code` is a cudaError_t. */
void cu_fail(const char *where, int code);
/* The first error, or NULL. */
const char *cu_fault(struct kern_pool *p);
void cu_wait(struct kern_pool *p); /* for all that was asked for */
/* At least `bytes` of device memory that any operation may write, until the next call for
 * the same use. CU_SCRATCH_ZEROS begins as zeros and is left so by those who use it. NULL when
 * memory is short: an error then, and the operation must be left out. */
void *cu_scratch(struct kern_pool *p, enum cu_scratch_use use, size_t bytes);
#define CU_LENT_LEAST ((size_t)64 << 10)
/* Pinned memory p->lent and as much on the device, p->lent_there. False as above. */
bool cu_lend(struct kern_pool *p, size_t bytes);

void cu_describe(struct kern_pool *p, char *out, size_t size);
size_t cu_room(struct kern_pool *p);
void *cu_alloc(struct kern_pool *p, size_t bytes);
void cu_release(struct kern_pool *p, void *mem, size_t bytes);
void cu_put(struct kern_pool *p, void *to, const void *from, size_t bytes);
void cu_get(struct kern_pool *p, void *to, const void *from, size_t bytes);
void cu_copy(struct kern_pool *p, void *to, const void *from, size_t bytes);
void cu_zero(struct kern_pool *p, void *mem, size_t bytes);
void *cu_pin(struct kern_pool *p, size_t bytes);
void cu_unpin(struct kern_pool *p, void *mem, size_t bytes);
void cu_snap(struct kern_pool *p, void *to, const void *from, size_t bytes);
void cu_snapped(struct kern_pool *p);

/* graph.c */
bool cu_graph_run(struct kern_pool *p, uint64_t key);
void cu_graph_begin(struct kern_pool *p, uint64_t key);
void cu_graph_end(struct kern_pool *p);
void cu_graphs_forget(struct kern_pool *p);
