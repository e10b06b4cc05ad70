/* Judging: a score for each (prompt, response), by the model itself through the judge template, or
 * by a command. Shared by the stages `judge` and `eval`.
 *
 * A judgement that cannot be read is tried again under another stream name, and after that it is
 * missing, with its reason: never zero. Invariant: a judgement depends on its own item alone.
 */
#pragma once

#include "base/err.h"
#include "base/rng.h"
#include "worker/method/judge_parse.h"
#include "worker/method/judge_template.h"
#include "worker/stages/textgen.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define JUDGE_TRIES_MAX 16
#define JUDGE_PASSES_MAX 64
#define JUDGE_BINS 101

struct judging {
	struct stage_ctx *ctx; /* borrowed */
	bool by_command;
	const json_t *command; /* borrowed argv */
	int64_t command_timeout_ms;
	struct judge_template tmpl;
	struct textgen *gen; /* borrowed; NULL by command */
	struct textgen_sampling sampling;
	int max_retries;
	enum rng_stage stage;
	uint32_t iter;
	/* counters */
	int64_t items, failed, retries, reasons[JUDGE_N_REASONS], hist[JUDGE_BINS];
};

struct judging_item {
	const char *id, *prompt, *response; /* borrowed */
	const json_t *meta;                 /* borrowed or NULL; for commands */
	int candidate, pass;
	/* results */
	enum judge_reason reason; /* JUDGE_OK: milli */
	int64_t milli;
	int attempts;
	char *text; /* the judge's words; owned, free with judging_item_release() */
};

/* Settings from spec.judge. `gen` is the judge's model when the kind is "model". */
enum rc judging_open(struct judging *j, struct stage_ctx *ctx, struct textgen *gen,
		     enum rng_stage stage, struct err *e);
void judging_close(struct judging *j);
/* Uses (and clears) j->gen. */
enum rc judging_run(struct judging *j, struct judging_item *items, int n, struct err *e);
void judging_item_release(struct judging_item *item);
/* The score in points, or null; new reference. */
json_t *judging_score(const struct judging_item *item);
json_t *judging_points(int64_t milli); /* integer when whole */
/* {"items","failed","retries","reasons":{},"hist":[counts by whole point from min]}; and back. */
json_t *judging_counters(const struct judging *j);
void judging_counters_load(struct judging *j, const json_t *v);

/* Runs argv with JSON lines on its standard input and expects one JSON object line back per line
 * given, in order. `rows` is an array; *answers a new array of the same length. */
enum rc judging_command(const json_t *argv, const json_t *rows, int64_t timeout_ms, json_t **answers,
			struct err *e);
