/* The language model and its training once more, slow and plain, in double precision: what the
 * engine's results are compared with.
 *
 * Written from the papers and from the Hugging Face definition of the decoder, on purpose without
 * anything of the engine: one sequence at a time, no packs, no forks, no caches, no chunks, weights
 * found by the names they have in files, a way back derived by hand here (and held against central
 * differences of its own way there in test_ref64_grad.c). The engine's structs serve as plain data:
 * configuration, examples, settings.
 *
 * Also knows what the formats of weights do to the factors of a product, so that a result in BF16
 * or Q8 can be held against a reference with the same rounding.
 */
#pragma once

#include "kernels/kernels.h"
#include "worker/model/lora.h"
#include "worker/model/model.h"
#include "worker/train/trainer.h"

#include <stddef.h>

struct ref64_tensor {
	char name[MODEL_NAME_MAX];
	int rows, cols;		       /* cols = 0 for a vector */
	size_t n;		       /* elements */
	double *w, *g, *m, *v;	       /* owned; weights, gradient, moments */
	struct ref64_tensor *low, *up; /* A [r, in] and B [out, r] of an adapter, or NULL */
};

struct ref64_layer {
	struct ref64_tensor *norm_attn, *q, *k, *v, *bq, *bk, *bv, *o;
	struct ref64_tensor *norm_ffn, *gate, *up, *down;
};

struct ref64 {
	struct model_config c;
	struct ref64_tensor *tensors; /* owned; those of the model, then those of an adapter */
	int n_tensors, n_base;
	struct ref64_tensor *embed, *norm, *head;
	struct ref64_layer *layers; /* owned */
	double adapter_scale;
	int64_t updates;
	/* Of both factors of every product with a weight; with BF16 and Q8 also of the embedding.
	 * Backward is defined for KERN_F32, which means no rounding at all. */
	enum kern_format format;
	bool round_cache; /* keys, values, queries and attention weights become BF16, as in a cache
			   */
};

/* Weights are those of `m`, found by name; the test fails when names or shapes differ. */
struct ref64 *ref64_new(const struct model *m);
void ref64_free(struct ref64 *r);
/* An adapter's tensors beside the weights; then only they are trained. */
void ref64_adapt(struct ref64 *r, const struct lora *l);
/* NULL when there is none. */
struct ref64_tensor *ref64_find(const struct ref64 *r, const char *name);
/* Those that training changes. */
int ref64_first_trained(const struct ref64 *r);

/* logits[t] follows ids[t]; [n][vocab] "=". */
void ref64_logits(const struct ref64 *r, const int32_t *ids, int n, double *logits);
/* logp[i] = log p(response[i] | prompt, response[0 .. i)); their sum is returned. */
double ref64_score(const struct ref64 *r, const int32_t *prompt, int n_prompt,
		   const int32_t *response, int n_response, double *logp);
/* Adds to the gradients that of sum over i of slope[i] * logp[i]. */
void ref64_backward(struct ref64 *r, const int32_t *prompt, int n_prompt, const int32_t *response,
		    int n_response, const double *slope);

/* --- Formats (ref64_round.c) -------------------------------------------------------------------
 */

/* To nearest, ties to even. */
double ref64_bf16(double x);
/* The nearest number of the format E4M3, ties to even, 448 at most. */
double ref64_e4m3(double x);
/* out[rows][k] = x as a factor of a product in this format; blocks of Q8 lie along a row, FP8
 * has a scale for each. */
void ref64_round_rows(enum kern_format f, double *out, const double *x, int rows, int k);

/* --- Training (ref64_train.c) ----------------------------------------------------------------- */

void ref64_clear_grads(struct ref64 *r);
/* Loss of the batch; its gradient is left in the tensors. As trainer_sft_step() and
 * trainer_dpo_step() define them. */
double ref64_sft_loss(struct ref64 *r, const struct train_example *ex, int n);
double ref64_dpo_loss(struct ref64 *r, const struct dpo_settings *s, const struct train_pair *pairs,
		      int n, const struct train_example *extra, int n_extra);
/* Sets the reference log-probabilities of the pairs to those of r as it is. */
void ref64_reference(const struct ref64 *r, double ld_alpha, struct train_pair *pairs, int n);
/* The loss of one pair and its slopes in the log-probability of every token. */
double ref64_pair_loss(const struct dpo_settings *s, const struct train_pair *p,
		       const double *logp_c, const double *logp_r, double *slope_c,
		       double *slope_r);
double ref64_learning_rate(const struct schedule *s, int step);
double ref64_grad_norm(const struct ref64 *r);
/* Clips and applies one AdamW update; returns the norm before clipping. */
double ref64_update(struct ref64 *r, const struct train_opts *o, int step);
