/* Does the judge prefer its own words? It answers the held-out prompts itself, greedily, and scores its
 * answers beside people's best replies. That alone says little: it may really be better. Where a program
 * knows the truth (eval.scorer), the difference between the two is the judge's love of itself
 * (Zheng et al. 2023, self-enhancement). Part of `health`.
 */
#pragma once

#include "base/err.h"
#include "worker/method/health.h"

#include <jansson.h>
#include <stddef.h>

struct stage_ctx;
struct textgen;

/* The model's own answers to rows [at, end), into texts[0 ..]; heap. A prompt that fills the context has
 * the answer NULL. Uses and clears `gen`. */
enum rc health_self_answers(struct stage_ctx *ctx, struct textgen *gen, const json_t *ranked, size_t at,
			    size_t end, char **texts, struct err *e);
/* Number of people's best reply, the first of the lowest rank; -1: there is none. */
int health_self_best(const json_t *replies);
/* One prompt, with the mean scores of the own answer and of that reply; NaN: not judged. */
void health_self_take(json_t *probes, const json_t *ranked, const char *own, double own_mean,
		      double best_mean);
/* own, self_win, and self_true where a scorer answers; one that fails is warned of, and nothing is
 * known. */
enum rc health_self_measure(struct stage_ctx *ctx, const json_t *probes, struct health *h, struct err *e);
