/* What the parts of the planner share; nobody else includes this. */
#pragma once

#include "queue/plan.h"

#include "queue/limits.h"

#include <stdbool.h>
#include <stdint.h>

#define PLAN_MODELS_MAX 52 /* 50 iterations, the baseline and M1 */

/* Where an output comes from. */
struct plan_source {
	char job[JOB_ID_MAX]; /* "" = there is none */
	const char *output;
};

struct planner {
	const json_t *spec, *done; /* borrowed */
	const char *run;
	json_t *jobs;              /* owned */
	struct err *e;
	/* What the spec says once and the plan asks often. */
	struct plan_source base, ift, eft, eval, prompts, test, m1, previous, judge, external, reference,
		writer;
	struct plan_source bench;
	struct plan_source found;  /* the judge template of the stage protegi, when it is to be used */
	struct plan_source before; /* the model before the one an iteration begins with */
	int64_t iterations, shard_size, samples;
	/* Answers to the test prompts, in the order of models. */
	struct plan_source answers[PLAN_MODELS_MAX];
	char names[PLAN_MODELS_MAX][16];
	int n_answers;
	bool judge_is_model;
};

/* What an iteration is made of. */
enum plan_kind { KIND_SELF_REWARD, KIND_EXTERNAL, KIND_SPIN, KIND_POSITIVE, KIND_SFT };

struct plan_where {
	int64_t iter;
	const char *stage;
	int64_t shard, pass;
};

const json_t *plan_section(const struct planner *p, const char *name);
bool plan_is(const struct planner *p, const char *sec, const char *key, const char *want);
enum plan_kind plan_kind(const struct planner *p, int64_t t);
/* Whether iterations of that kind ask for new prompts. */
bool plan_asks(enum plan_kind kind);
struct plan_source plan_from(const struct planner *p, int64_t iter, const char *stage, int64_t shard,
			     int64_t pass, const char *output);
/* Rows of a finished output; -1 while it is not there. */
int64_t plan_rows(const struct planner *p, struct plan_source s);
void plan_input(json_t *inputs, const char *role, struct plan_source s);
/* Takes inputs and params. cost: about seconds on one worker; only fairness looks at it. */
void plan_add(struct planner *p, struct plan_where w, json_t *inputs, json_t *params, double cost);
void plan_eval(struct planner *p, int64_t iter, int64_t shard, const char *name,
	       struct plan_source model);
/* DPO steps of so many pairs, and the number of the last shard. */
int64_t plan_steps(const struct planner *p, int64_t pairs);
int64_t plan_last_shard(const struct planner *p, int64_t steps);
/* Plans iteration t from `model`; true with the model it ends in when that is known already. */
bool plan_iteration(struct planner *p, int64_t t, struct plan_source *model, enum rc *rc);
/* The model an iteration ends in; job "" while it is not known. */
struct plan_source plan_end(const struct planner *p, int64_t t);
