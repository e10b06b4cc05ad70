/* What a trainer will take, in bytes, computed before anything is taken.
 *
 * The process's peak is `weights` (there already) plus `needed`. Knows shapes and settings only.
 */
#pragma once

#include "base/err.h"
#include "worker/model/model.h"
#include "worker/train/trainer.h"

#include <stdbool.h>
#include <stddef.h>

struct memory_plan {
	size_t weights;	    /* of the model, and of the adapter when one is trained */
	size_t brought;	    /* masters, working copies, frozen weights in the back end's memory */
	size_t gradients;   /* of what is trained */
	size_t moments;	    /* both of AdamW's */
	size_t activations; /* of one micro-batch, as `recompute` says */
	size_t kept;	    /* they would be this much if every layer's are kept ... */
	size_t recomputed;  /* ... and this much if they are computed again on the way back */
	size_t head;	    /* rows with a target and the softmax of those at work */
	size_t scratch;	    /* of the operations */
	size_t needed;	    /* all but the weights */
	bool recompute;
};

/* Keeps every layer's activations unless the settings say otherwise, or only recomputation fits in
 * `available` bytes (0: unlimited). RC_NOMEM says the figures and what would need less. *out is
 * filled in any case. */
enum rc memory_plan(const struct model *m, const struct kern *k, const struct train_opts *o, size_t available,
		    struct memory_plan *out, struct err *e);
