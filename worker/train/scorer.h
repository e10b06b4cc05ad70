/* Log-probabilities of responses under a model as it is: no dropout, no gradients.
 *
 * Lays pairs out exactly as training does, so that a policy that is its own reference starts with
 * rewards of zero to the last bit. Knows nothing of losses.
 */
#pragma once

#include "base/err.h"
#include "kernels/kernels.h"
#include "worker/model/model.h"
#include "worker/train/trainer.h"

struct scorer;

struct scorer_opts {
	enum kern_format format; /* of the factors of products with weights: F32 or BF16 */
	int max_length;		 /* longest prompt + response in tokens; longer is refused */
	int micro_tokens;	 /* 0: TRAIN_MICRO_TOKENS; changes no bit */
	double ld_alpha;	 /* as in struct dpo_settings */
	enum train_base base;	 /* how the matrices are kept: as under the adapter that is trained */
	struct coll *tensor;	 /* ranks that hold the model together, or NULL; borrowed */
};

/* Borrows model, kernels and pool. */
enum rc scorer_new(const struct model *m, const struct kern *k, struct kern_pool *pool,
		   const struct scorer_opts *o, struct scorer **out, struct err *e);
void scorer_free(struct scorer *sc);
/* out[i]: sum over the tokens of response i. */
enum rc scorer_examples(struct scorer *sc, const struct train_example *ex, int n, double *out,
			struct err *e);
/* out[2i] and out[2i + 1]: chosen and rejected of pair i, as DPO sums them: the tokens beyond the
 * shorter of the two count ld_alpha times. */
enum rc scorer_pairs(struct scorer *sc, const struct train_pair *pairs, int n, double *out,
		     struct err *e);
