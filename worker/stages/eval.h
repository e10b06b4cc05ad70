/* What the parts of the evaluation share: see eval.c for the whole. Private to worker/stages.
 */
#pragma once

#include "base/err.h"
#include "worker/stage.h"
#include "worker/stages/judging.h"
#include "worker/stages/textgen.h"

#include <jansson.h>

#define EVAL_ROWS_MAX (1u << 20)

struct eval {
	struct stage_ctx *ctx;
	struct textgen *gen;
	struct judging judging;
	struct textgen_sampling sampled; /* for test prompts; greedy shares max_new */
	int samples, chunk;
	json_t *ranked, *test, *previous; /* owned; empty arrays when absent */
	json_t *generations;              /* ours, once made; owned */
	int64_t done, total;              /* progress over all parts, in rows */
};

/* Judges the human-ranked replies; output `rm`, metrics rm.* and judge.* */
enum rc eval_reward_model(struct eval *s, struct err *e);
/* Greedy and sampled answers to the test prompts, scored by the truth command when there is one;
 * output `generations`, metrics truth.* and length.* */
enum rc eval_generations(struct eval *s, struct err *e);
/* Our greedy answers against the previous model's, in both orders; output `h2h`, metrics h2h.* */
enum rc eval_head_to_head(struct eval *s, struct err *e);

void eval_number(struct eval *s, const char *name, double value); /* NaN becomes null */
