/* Between collective.c and its bodies; nobody else includes this. */
#pragma once

#include "kernels/collective.h"

enum coll_kind { COLL_REDUCE, COLL_GATHER, COLL_SCATTER, COLL_SPREAD };

struct coll_call {
	enum coll_kind kind;
	enum coll_type type;
	enum coll_op op;
	int root;
	void *x;
	size_t n;
	bool here; /* x is the program's, not the back end's */
};

struct coll_body {
	bool (*run)(struct coll *c, const struct coll_call *a);
	void (*abort)(struct coll *c, const char *why);
	void (*close)(struct coll *c);
};

/* The beginning of each body's own. */
struct coll {
	const struct coll_body *body;
	int rank, n;
	const struct kern *k; /* NULL: arrays are the program's */
	struct kern_pool *pool;
	bool failed;
	char why[COLL_WHY];
};

/* Always false. The first cause stays. */
bool coll_fail(struct coll *c, const char *why);
