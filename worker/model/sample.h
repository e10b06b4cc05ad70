/* Choosing the next token from a row of logits.
 *
 * The choice is a pure function of (logits, settings, one uniform number). The number comes from
 * the Philox stream named by (seed, stage, iteration, item, sample) at the token's position, so
 * neither batching nor order nor a restart changes a draw. Settings apply in Hugging Face's order:
 * temperature, top-k, top-p of what top-k left. Tokens are ranked by (probability descending, id
 * ascending); a nucleus is the shortest prefix of that ranking whose mass reaches top_p. No sort of
 * the vocabulary: a histogram of exponents finds the cut, one bin is sorted.
 */
#pragma once

#include "base/err.h"
#include "base/rng.h"

#include <stddef.h>
#include <stdint.h>

struct kern;

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

/* Floats of scratch one thread needs. */
size_t sample_scratch(int vocab);
/* `max` is the largest logit of the row (kern->row_lse gives it). */
int sample_pick(const struct kern *kern, const float *logits, int vocab, float max,
		const struct sampling *s, double u, float *scratch);
