/* What a step that went wrong looked like, layer by layer. */
#include "base/buf.h"
#include "base/log.h"
#include "base/str.h"
#include "worker/train/trainer_inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The layer a tensor belongs to; -1: to none. */
static int layer_of(const char *name)
{
	const char *at = strstr(name, "layers.");

	return at ? (int)strtol(at + strlen("layers."), NULL, 10) : -1;
}

/* The norm over all tensors of one layer (-1: of those of none) in a slab like the set's. */
static double norm_of(struct trainer *tr, const float *slab, int layer)
{
	double sum = 0;

	for (int i = 0; i < tr->set.n_tensors; i++) {
		const struct tensor_ref *t = &tr->set.tensors[i];

		if (layer_of(t->name) == layer)
			sum += tr->k->sumsq(tr->pool, slab + t->offset, tensor_size(t));
	}
	return sqrt(sum);
}

enum rc trainer_not_finite(struct trainer *tr, int step, const char *what, double loss,
			   struct err *e)
{
	struct buf text = BUF_INIT;

	for (int layer = -1; layer < tr->m->cfg.n_layers; layer++) {
		double w = norm_of(tr, tr->master, layer), g = norm_of(tr, tr->grads, layer);
		char name[16];

		str_fmt(name, sizeof name, layer < 0 ? "other" : "%d", layer);
		buf_printf(&text, "%s%s=%.3g/%.3g", text.len ? " " : "", name, w, g);
	}
	log_error("train", "not_finite", "step=%d what=%s loss=%g norms_of_weights_and_gradients=%s",
		  step, what, loss, text.data);
	err_set(e, RC_INVALID,
		"step %d: the %s is not finite (loss %g); norms of weights/gradients by layer: %s",
		step, what, loss, text.data);
	buf_release(&text);
	return RC_INVALID;
}
