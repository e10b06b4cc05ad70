/* What people said of pairs, for the stage `pair`: input reviews, {"action": "pin"|"exclude", "iter",
 * "pair": {a row of `pairs`}}. Without it nothing is pinned or excluded.
 */
#pragma once

#include "base/err.h"
#include "worker/stage.h"

#include <jansson.h>
#include <stdbool.h>

struct pair_reviews {
	json_t *rows;	   /* as given; NULL without the input; owned */
	json_t *by_prompt; /* {prompt: [rows]}; owned */
	int64_t pinned, carried;
};

enum rc pair_reviews_open(struct stage_ctx *ctx, struct pair_reviews *r, struct err *e);
/* The pair pinned for this prompt both answers of which are among the candidates; *chosen and
 * *rejected are their positions. NULL: none is. It counts as kept. Borrowed. */
const json_t *pair_reviews_pin(struct pair_reviews *r, const char *prompt, const json_t *candidates,
			       int *chosen, int *rejected);
bool pair_reviews_excludes(const struct pair_reviews *r, const char *prompt, const char *chosen,
			   const char *rejected);
/* The rows pinned that no prompt of the job has kept, in the order given. */
enum rc pair_reviews_carry(struct pair_reviews *r, struct stage_rows *pairs, struct err *e);
/* A pinned row as it is written: marked "pinned". New reference. */
json_t *pair_reviews_row(const json_t *pinned);
void pair_reviews_release(struct pair_reviews *r);
