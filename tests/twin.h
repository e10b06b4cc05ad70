/* The same work on two tables: a step of training, log-probabilities, generation, so that a back end
 * can be compared with its twin on the CPU, number by number. */
#pragma once

#include "kernels/kernels.h"
#include "tests/ref64_toys.h"
#include "worker/train/trainer.h"

#include <stdbool.h>

struct twin {
	const struct kern *k;
	struct kern_pool *pool;
	enum kern_format format; /* of products and of generation's weights */
};

/* What a kind of training does. */
struct twin_task {
	const struct toy_kind *kind;
	bool pairs, lora, recompute;
	enum train_base base;
	double dropout;
	int steps;
};

#define TWIN_STEPS 4
struct twin_trained {
	double loss[TWIN_STEPS], norm[TWIN_STEPS];
	float *grads;	/* of the last step */
	float *weights; /* afterwards: of the model, or of the adapter */
	float *moments; /* m, then v */
	size_t n;
};
/* The caller frees with twin_trained_free(). */
struct twin_trained twin_train(const struct twin *t, const struct twin_task *task);
void twin_trained_free(struct twin_trained *r);
/* Loss and gradient of the first step in double precision (ref64.h), without rounding or dropout; the
 * rest is not there. */
struct twin_trained twin_reference(const struct twin_task *task);

#define TWIN_ANSWERS 6 /* two prompts, three samples each */
#define TWIN_NEW 12
struct twin_text {
	int32_t tokens[TWIN_ANSWERS][TWIN_NEW];
	int n_tokens[TWIN_ANSWERS];
	double logp[TWIN_ANSWERS];
	float *logits; /* of a text of TWIN_GIVEN tokens: [n][vocab] */
	float *scores; /* of its tokens but the first */
	int vocab;
};
#define TWIN_GIVEN 37
/* Every matrix of it as weights in FP8 stand for it: what a table without that format computes with
 * instead. */
void twin_round_fp8(struct model *m);
/* Weights packed as `weights`; `max_batch` 0 for the default. */
struct twin_text twin_generate(const struct twin *t, const struct toy_kind *kind,
			       enum kern_format weights, int max_batch);
void twin_text_free(struct twin_text *r);

/* |a - b| / |b|, Euclidean; infinite when a number of `a` is not finite. */
double twin_error(const float *a, const float *b, size_t n);
