/* The weights of a decoder as generation wants them: matrices packed in one of the kernels'
 * formats, norms and biases as floats, all in one slab.
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

struct weights {
	enum kern_format format;
	struct packed_layer *layers; /* owned; its pointers lie in the slab, as all below do */
	float *norm_out;	     /* [C] */
	void *embed, *head;	     /* [V, C]; the same when tied */
	char *slab;		     /* owned */
	size_t bytes;
};

/* "f32", "bf16", "q8". */
enum rc weights_format_parse(const char *name, enum kern_format *out, struct err *e);
const char *weights_format_name(enum kern_format f);
/* RC_UNSUPPORTED when the format cannot hold matrices of this width. */
enum rc weights_check(const struct model_config *cfg, enum kern_format f, struct err *e);
/* What the slab will take. */
size_t weights_bytes(const struct model_config *cfg, const struct kern *k, enum kern_format f);

/* `m` gives the layout, and the values when `files` is NULL. Both are borrowed for the call. */
enum rc weights_load(struct weights *w, const struct model *m, const struct model_source *files,
		     const struct kern *k, struct kern_pool *pool, enum kern_format f,
		     struct err *e);
void weights_release(struct weights *w);
