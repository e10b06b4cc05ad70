/* Questions to a judge that answers in words: a local model, or an endpoint. Which of the two is
 * settled when it is opened; nobody who asks can tell them apart, and they are never mixed.
 */
#pragma once

#include "base/err.h"
#include "base/rng.h"
#include "worker/method/judge_template.h"
#include "worker/stages/textgen.h"

#include <jansson.h>
#include <stdbool.h>

struct endpoint;

struct asker {
	const struct stage_ctx *ctx;
	struct textgen *gen;      /* borrowed; NULL: the endpoint is asked */
	struct endpoint *ep;      /* owned; NULL: the model is asked */
};

struct asker_q {
	const struct judge_template *tmpl; /* borrowed */
	struct judge_shown shown;
	const char *plain; /* borrowed; asked as it stands, then there is no template */
	struct textgen_sampling sampling;
	enum rng_stage stage;
	uint32_t iter;
	uint64_t item;
	uint32_t sample;
	/* results */
	char *text;      /* owned; free with asker_release() */
	bool stopped;    /* ended by itself */
	bool too_long;   /* the question left no room */
	bool answered;   /* false: an endpoint that sent nothing readable */
};

/* `gen` when the judge is a model, else `http` is the settings of an endpoint. */
enum rc asker_open(struct asker *a, const struct stage_ctx *ctx, struct textgen *gen,
		   const json_t *http, struct err *e);
void asker_close(struct asker *a);
/* Answers all; uses (and clears) the model's queue. */
enum rc asker_run(struct asker *a, struct asker_q *q, int n, struct err *e);
void asker_release(struct asker_q *q, int n);
/* Charges of an endpoint; NULL for a model. New reference. */
json_t *asker_charges(const struct asker *a);
void asker_charges_load(struct asker *a, const json_t *v);
/* Figures of an endpoint: <prefix>.calls, .tries, .cost and so on; nothing for a model. */
void asker_report(const struct asker *a, struct stage_ctx *ctx, const char *prefix);
