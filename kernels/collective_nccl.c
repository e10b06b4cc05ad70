/* NCCL, NVIDIA's collectives between GPUs, loaded when it is asked for: a worker without it runs
 * all the same. Its few functions are declared here as nccl.h has them since 2.4; no header is
 * needed.
 *
 * Everything is put into the queue of the back end's operations, so calls return at once and
 * nothing here waits: a rank that died is seen by its parent (worker/ranks.c) and by NCCL's own
 * error, which is asked for at each call. */
#include "kernels/collective.h"
#include "kernels/collective_inner.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct nccl_id {
	char bytes[COLL_ID_BYTES];
};
enum { NCCL_OK, NCCL_BUSY = 7 };
enum { NCCL_INT64 = 4, NCCL_FLOAT32 = 7, NCCL_FLOAT64 = 8, NCCL_BFLOAT16 = 9 };

static struct {
	void *lib;
	int (*GetUniqueId)(struct nccl_id *);
	int (*CommInitRank)(void **comm, int n, struct nccl_id id, int rank);
	int (*CommDestroy)(void *comm);
	int (*CommAbort)(void *comm);
	int (*CommGetAsyncError)(void *comm, int *error);
	const char *(*GetErrorString)(int);
	int (*AllReduce)(const void *, void *, size_t, int type, int op, void *comm, void *stream);
	int (*Reduce)(const void *, void *, size_t, int type, int op, int root, void *, void *);
	int (*Broadcast)(const void *, void *, size_t, int type, int root, void *, void *);
	int (*GroupStart)(void);
	int (*GroupEnd)(void);
} nccl;

struct over_nccl {
	struct coll c;
	void *comm;
	void *stage; /* of the back end, for numbers of the program */
	size_t stage_bytes;
};

static bool load(char *why, size_t size)
{
	const struct {
		const char *name;
		void *to; /* a pointer to a function */
	} wanted[] = {{"ncclGetUniqueId", &nccl.GetUniqueId},
		      {"ncclCommInitRank", &nccl.CommInitRank},
		      {"ncclCommDestroy", &nccl.CommDestroy},
		      {"ncclCommAbort", &nccl.CommAbort},
		      {"ncclCommGetAsyncError", &nccl.CommGetAsyncError},
		      {"ncclGetErrorString", &nccl.GetErrorString},
		      {"ncclAllReduce", &nccl.AllReduce},
		      {"ncclReduce", &nccl.Reduce},
		      {"ncclBroadcast", &nccl.Broadcast},
		      {"ncclGroupStart", &nccl.GroupStart},
		      {"ncclGroupEnd", &nccl.GroupEnd}};

	if (nccl.lib)
		return true;
	void *lib = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		snprintf(why, size, "several GPUs in one job need NCCL: %s", dlerror());
		return false;
	}
	for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
		void *f = dlsym(lib, wanted[i].name);

		if (!f) {
			snprintf(why, size, "libnccl.so.2 has no %s", wanted[i].name);
			dlclose(lib);
			return false;
		}
		memcpy(wanted[i].to, &f, sizeof f);
	}
	nccl.lib = lib;
	return true;
}

bool coll_nccl_id(unsigned char id[COLL_ID_BYTES], char *why, size_t size)
{
	struct nccl_id made;
	int rc;

	if (!load(why, size))
		return false;
	rc = nccl.GetUniqueId(&made);
	if (rc != NCCL_OK)
		snprintf(why, size, "NCCL: %s", nccl.GetErrorString(rc));
	else
		memcpy(id, made.bytes, COLL_ID_BYTES);
	return rc == NCCL_OK;
}

static int type_of(enum coll_type t)
{
	return t == COLL_F32	? NCCL_FLOAT32
	       : t == COLL_BF16 ? NCCL_BFLOAT16
	       : t == COLL_F64	? NCCL_FLOAT64
				: NCCL_INT64;
}

/* Ours to NCCL's: sum 0, max 2, min 3. */
static int op_of(enum coll_op op)
{
	return op == COLL_SUM ? 0 : op == COLL_MAX ? 2 : 3;
}

/* Parts differ in size, so gathering is a broadcast from each rank, and scattering a sum for each.
 */
static int run_parts(struct over_nccl *s, const struct coll_call *a, char *x, void *stream)
{
	size_t size = coll_type_bytes(a->type);
	int type = type_of(a->type), rc = nccl.GroupStart();

	for (int r = 0; r < s->c.n && rc == NCCL_OK; r++) {
		struct coll_span p = coll_part(a->n, r, s->c.n);
		char *at = x + p.from * size;

		if (p.to == p.from)
			continue;
		rc = a->kind == COLL_GATHER
			     ? nccl.Broadcast(at, at, p.to - p.from, type, r, s->comm, stream)
			     : nccl.Reduce(at, at, p.to - p.from, type, 0, r, s->comm, stream);
	}
	int end = nccl.GroupEnd();
	return rc == NCCL_OK ? end : rc;
}

static int start(struct over_nccl *s, const struct coll_call *a, void *x)
{
	void *stream = s->c.k->stream(s->c.pool);
	int type = type_of(a->type);

	if (a->kind == COLL_REDUCE)
		return nccl.AllReduce(x, x, a->n, type, op_of(a->op), s->comm, stream);
	if (a->kind == COLL_SPREAD)
		return nccl.Broadcast(x, x, a->n, type, a->root, s->comm, stream);
	return run_parts(s, a, x, stream);
}

/* Room in the back end for numbers of the program. */
static void *stage(struct over_nccl *s, size_t bytes)
{
	if (bytes > s->stage_bytes) {
		if (s->stage)
			s->c.k->release(s->c.pool, s->stage, s->stage_bytes);
		s->stage_bytes = 0;
		s->stage = s->c.k->alloc(s->c.pool, bytes);
		s->stage_bytes = s->stage ? bytes : 0;
	}
	return s->stage;
}

static bool failed(struct over_nccl *s, int rc)
{
	char why[COLL_WHY];

	if (rc == NCCL_OK || rc == NCCL_BUSY)
		return false;
	snprintf(why, sizeof why, "rank %d: NCCL: %.200s", s->c.rank, nccl.GetErrorString(rc));
	coll_fail(&s->c, why);
	return true;
}

static bool nccl_run(struct coll *c, const struct coll_call *a)
{
	struct over_nccl *s = (struct over_nccl *)c;
	size_t bytes = a->n * coll_type_bytes(a->type);
	void *x = a->here ? stage(s, bytes) : a->x;
	int late = NCCL_OK, rc;

	if (!x)
		return coll_fail(c, "no memory on the device for a message to the other ranks");
	if (a->here)
		c->k->put(c->pool, x, a->x, bytes);
	rc = start(s, a, x);
	if (a->here && rc == NCCL_OK)
		c->k->get(c->pool, a->x, x, bytes);
	if (rc == NCCL_OK)
		rc = nccl.CommGetAsyncError(s->comm, &late);
	return !failed(s, rc) && !failed(s, late);
}

/* Nobody is told: the others' calls hang until their parent ends them, which it does at once. */
static void nccl_abort(struct coll *c, const char *why)
{
	struct over_nccl *s = (struct over_nccl *)c;

	(void)why;
	if (s->comm)
		nccl.CommAbort(s->comm);
	s->comm = NULL;
}

static void nccl_close(struct coll *c)
{
	struct over_nccl *s = (struct over_nccl *)c;

	if (s->stage)
		c->k->release(c->pool, s->stage, s->stage_bytes);
	if (s->comm)
		c->failed ? nccl.CommAbort(s->comm) : nccl.CommDestroy(s->comm);
	free(s);
}

static const struct coll_body nccl_body = {nccl_run, nccl_abort, nccl_close};

struct coll *coll_nccl_open(const unsigned char id[COLL_ID_BYTES], int rank, int n,
			    const struct kern *k, struct kern_pool *pool, char *why, size_t size)
{
	struct over_nccl *s;
	struct nccl_id same;
	int rc;

	if (!k->stream) {
		snprintf(why, size, "NCCL moves arrays of GPUs, not those of %s", k->name);
		return NULL;
	}
	if (!load(why, size))
		return NULL;
	s = calloc(1, sizeof *s);
	if (!s) {
		snprintf(why, size, "no memory");
		return NULL;
	}
	s->c = (struct coll){&nccl_body, rank, n, k, pool, false, ""};
	memcpy(same.bytes, id, sizeof same.bytes);
	rc = nccl.CommInitRank(&s->comm, n, same, rank);
	if (rc == NCCL_OK)
		return &s->c;
	snprintf(why, size, "rank %d of %d: NCCL: %s", rank, n, nccl.GetErrorString(rc));
	free(s);
	return NULL;
}
