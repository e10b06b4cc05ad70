/* The search of the stage `protegi`, and whom it asks: see protegi.c for the whole. Private to
 * worker/stages.
 *
 * The search is a pure function of the answers it gets. Every answer, of the judge and of the writer, is
 * a row of the log; a resumed job begins anew and takes the rows it finds before it asks anybody again.
 */
#pragma once

#include "base/err.h"
#include "worker/method/protegi.h"
#include "worker/stage.h"
#include "worker/stages/judging.h"
#include "worker/stages/textgen.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define PROTEGI_BEAM_MAX 64

enum protegi_how { PROTEGI_START, PROTEGI_EDIT, PROTEGI_VARIANT };

struct protegi_candidate {
	int parent, round; /* -1: the start has none */
	enum protegi_how how;
	char *text, *reason; /* owned; what is edited; the criticism it answers, or NULL */
	char *refused;       /* owned; why it is no template, or NULL */
	struct judge_template tmpl;
	bool raced;          /* took part in a race */
	struct protegi_arm arm;
	json_t *seen;        /* owned; scores of each reply, of the examples in the order of the search */
	struct protegi_arm held; /* the same on the held-out prompts */
};

struct protegi {
	struct stage_ctx *ctx;
	const json_t *c;      /* spec.protegi */
	json_t *train, *held; /* ranked rows; owned */
	uint32_t *order;      /* of the training rows; owned */
	struct textgen *judge_model, *writer_model; /* the same where one model does both */
	struct judging judging;
	struct asker writer;
	bool writer_is_command;
	struct textgen_sampling writing;
	struct judge_template start;
	struct protegi_candidate *list; /* owned */
	int n, cap, beam[PROTEGI_BEAM_MAX], n_beam;
	int rounds, width, minibatch, gradients, errors, reasons, edits, variants, children, samples;
	int chunk;
	int64_t budget, spent, silent, doubles; /* silent: answers of the writer with nothing in them */
	struct stage_rows log;
	json_t *replay; /* rows of the checkpoint resumed from; owned */
	size_t at;      /* of which so many were taken */
};

/* --- protegi_ask.c ----------------------------------------------------------------------------- */

/* Opens judge, writer and log. */
enum rc protegi_open(struct protegi *s, struct err *e);
void protegi_close(struct protegi *s);
struct protegi_goal {
	int candidate; /* no candidate twice in a list */
	int64_t to;    /* evaluations it is to have had; never more than there are prompts */
};

/* Evaluates candidates as one batch, in the order of the list until the budget is spent. */
enum rc protegi_evaluate(struct protegi *s, int round, const struct protegi_goal *goals, int n,
			 struct err *e);
/* Judges the held-out prompts, as the stage `eval` would. */
enum rc protegi_test(struct protegi *s, const int *who, int n, struct err *e);

/* One question to the writer. */
struct protegi_question {
	const char *kind; /* "reasons", "edits" or "variants" */
	int candidate, k; /* about whom; number among those of its kind and round */
	int want;         /* pieces asked for */
	const struct protegi_error *errors;
	int n_errors;
	const char *reason;
	char *answer; /* owned */
};

enum rc protegi_write(struct protegi *s, int round, struct protegi_question *q, int n, struct err *e);

/* --- protegi_report.c -------------------------------------------------------------------------- */

/* The outputs and figures of a search that is over. */
enum rc protegi_report(struct protegi *s, int winner, struct err *e);
