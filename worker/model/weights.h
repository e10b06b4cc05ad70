/* The weights of a decoder that is not trained: matrices packed in one of the kernels' formats, norms
 * and biases as floats, all in one slab of the back end's memory.
 *
 * They come from a directory, tensor by tensor and piece by piece, so that no second copy ever
 * exists; or from a model in memory. Invariants: never changed once loaded; the embedding of a tied
 * model is its packed head. Knows nothing of caches, batches or text.
 */
#pragma once

#include "base/err.h"
#include "kernels/kernels.h"
#include "worker/model/model.h"

#include <stddef.h>

struct model_source;

struct packed_layer {
	void *qkv, *o, *w13, *w2;	    /* [(H + 2G) D, C], [C, H D], [2F, C], [C, F] */
	float *norm_attn, *norm_ffn, *bias; /* [C], [C], [(H + 2G) D] or NULL */
};

/* Generation has everything packed. Training beside frozen weights (an adapter's base, a reference)
 * reads embedding and output head as plain activations: [V, C] in the table's `act`. */
enum weights_use { WEIGHTS_GENERATE, WEIGHTS_TRAIN };

struct weights {
	enum kern_format format;
	enum weights_use use;
	const struct kern *kern; /* borrowed, as the pool is */
	struct kern_pool *pool;
	struct packed_layer *layers; /* owned; its pointers lie in the slab, as all below do */
	float *norm_out;	     /* [C] */
	void *embed, *head;	     /* [V, C]; the same when tied */
	char *slab;		     /* owned; of the back end */
	size_t bytes;
};

/* "f32", "bf16", "q8", "fp8". */
enum rc weights_format_parse(const char *name, enum kern_format *out, struct err *e);
const char *weights_format_name(enum kern_format f);
/* RC_UNSUPPORTED when the format cannot hold matrices of this width, or the table has no such
 * format; that this device has none is known when weights are made. */
enum rc weights_check(const struct model_config *cfg, const struct kern *k, enum kern_format f,
		      struct err *e);
/* What the slab will take. */
size_t weights_bytes(const struct model_config *cfg, const struct kern *k, enum kern_format f,
		     enum weights_use use);

/* Room for them, as zeros, for who fills it himself; the caller ends it with weights_release(). */
enum rc weights_make(struct weights *w, const struct model_config *cfg, const struct kern *k,
		     struct kern_pool *pool, enum kern_format f, enum weights_use use,
		     struct err *e);
/* `m` gives the layout, and the values when `files` is NULL. Both are borrowed for the call. */
enum rc weights_load(struct weights *w, const struct model *m, const struct model_source *files,
		     const struct kern *k, struct kern_pool *pool, enum kern_format f,
		     enum weights_use use, struct err *e);
/* The same of a model in memory or, when it is a mere layout, straight from the files of its
 * directory. */
enum rc weights_bring(struct weights *w, const struct model *m, const struct kern *k,
		      struct kern_pool *pool, enum kern_format f, enum weights_use use,
		      struct err *e);
void weights_release(struct weights *w);
