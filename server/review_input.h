/* Reviews as an input of the pair stage (pair.reviews of the specification).
 *
 * What people have said up to the first claim of a pair job is fixed then, once: a dataset in the store,
 * named in runs/<run>/reviews.jsonl {"job","digest","size","meta","at_ms"}, which every later attempt
 * gets again, whoever hands it out. A job of the run that is declared invalid afterwards makes room for
 * a fresh look. Rows: {"action": "pin"|"exclude", "iter", "pair": {a row of `pairs`}}, of this run's
 * iterations up to the job's own; a pair more people agree with than not is pinned, fewer: excluded.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

#define REVIEW_ROLE "reviews"

struct server;

/* Adds the input to the job of a claim that asks for it; others stay as they are. */
enum rc review_attach(struct server *s, const json_t *claim, struct err *e);
/* What a pair job got, or would get again, as an input; NULL when nothing is fixed. New reference. */
json_t *review_fixed(struct server *s, const char *run, const char *job);
