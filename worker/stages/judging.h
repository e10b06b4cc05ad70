/* Judging: a score for each (prompt, response), through the judge template by a model (the one in
 * training or another checkpoint) or an endpoint, or by a command. Shared by the stages `judge` and
 * `eval`.
 *
 * With a template that compares two answers (form "pair") the answers to one prompt meet each other,
 * each two in both orders (what differs between the orders is a tie) or in one order drawn at random;
 * an answer's score is its share of the comparisons won, ties half, times JUDGE_PAIR_MAX.
 *
 * A judgement that cannot be read is tried again under another stream name, and after that it is
 * missing, with its reason: never zero. Invariant: a judgement depends on its own item alone.
 */
#pragma once

#include "base/err.h"
#include "base/rng.h"
#include "worker/method/judge_parse.h"
#include "worker/method/judge_template.h"
#include "worker/stages/asker.h"
#include "worker/stages/textgen.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define JUDGE_TRIES_MAX 16
#define JUDGE_PASSES_MAX 64
#define JUDGE_BINS 101

struct judging {
	struct stage_ctx *ctx; /* borrowed */
	bool by_command, by_endpoint;
	const json_t *command; /* borrowed argv */
	int64_t command_timeout_ms;
	bool tell; /* a command is told the question as well ("ask"): the template is an improved one */
	struct judge_template tmpl;
	struct textgen *gen; /* borrowed; NULL by command and by endpoint */
	struct asker asker;
	bool random_order; /* of two answers that are compared; else both */
	struct textgen_sampling sampling;
	int max_retries;
	enum rng_stage stage;
	uint32_t iter;
	/* counters */
	int64_t items, failed, retries, reasons[JUDGE_N_REASONS], hist[JUDGE_BINS];
};

struct judging_item {
	const char *id, *prompt, *response; /* borrowed */
	const json_t *meta;                 /* borrowed or NULL; for commands, and "reference" */
	int candidate, pass;
	const struct judge_template *tmpl;  /* borrowed; NULL: the judge's. Its bounds are the judge's */
	/* results */
	enum judge_reason reason; /* JUDGE_OK: milli */
	int64_t milli;
	int attempts;
	char *text; /* the judge's words; owned, free with judging_item_release() */
};

/* Settings from the section `c` (NULL: spec.judge). `gen` is the judge's model; without one and
 * without a command the endpoint of the section is asked. The input `template`, where the job has one,
 * takes the place of the section's: what the stage `protegi` found. */
enum rc judging_open(struct judging *j, struct stage_ctx *ctx, const json_t *c, struct textgen *gen,
		     enum rng_stage stage, struct err *e);
void judging_close(struct judging *j);
/* Uses (and clears) j->gen. */
enum rc judging_run(struct judging *j, struct judging_item *items, int n, struct err *e);
void judging_item_release(struct judging_item *item);
/* The score in points, or null; new reference. */
json_t *judging_score(const struct judging_item *item);
json_t *judging_points(int64_t milli); /* integer when whole */
/* What a reference answer is: meta.reference, else meta.answer; NULL: none. Borrowed. */
const char *judging_reference(const json_t *meta);
/* {"kind","template","sha256"} and who it is: which judge judged. New reference. */
json_t *judging_identity(const struct judging *j);
/* {"items","failed","retries","reasons":{},"hist":[counts by whole point from min]}, and "charges" of
 * an endpoint; and back. */
json_t *judging_counters(const struct judging *j);
void judging_counters_load(struct judging *j, const json_t *v);

/* Runs argv with JSON lines on its standard input and expects one JSON object line back per line
 * given, in order. `rows` is an array; *answers a new array of the same length. */
enum rc judging_command(const json_t *argv, const json_t *rows, int64_t timeout_ms, json_t **answers,
			struct err *e);
