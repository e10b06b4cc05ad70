/* Settings of the draw of a token, and where its random number comes from.
 *
 * The choice (struct kern_draw) is a pure function of logits, settings and one uniform number. The
 * number comes from the Philox stream named by (seed, stage, iteration, item, sample) at the
 * token's position, so neither batching nor order nor a restart changes a draw. Settings apply in
 * Hugging Face's order: temperature, top-k, top-p of what top-k left.
 */
#pragma once

#include "base/err.h"
#include "base/rng.h"

#include <stdint.h>

struct sampling {
	float temperature; /* 0: greedy, the lowest id among the largest logits */
	float top_p;       /* in (0, 1]; 1: off */
	int top_k;         /* 0: off */
};

/* Name of a stream of draws. */
struct sample_name {
	uint64_t seed;
	enum rng_stage stage;
	uint32_t iter;
	uint64_t item;
	uint32_t sample;
};

enum rc sampling_check(const struct sampling *s, struct err *e);
/* Uniform number in [0, 1) for the token at `position` of the answer. */
double sample_uniform(const struct sample_name *name, uint32_t position);
