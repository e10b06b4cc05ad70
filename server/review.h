/* What people say of preference pairs: who agrees with the judge, who does not, and who passed.
 *
 * reviews/<dataset>.jsonl in the store, only ever appended to; Redis never hears of it, so a rebuild need
 * not bring it back. A line:
 *   {"v": id, "key", "dataset", "n", "id", "verdict": "agree"|"disagree"|"skip", or null when taken back,
 *    "note", "blind", "by", "identity", "at_ms"}
 * Of one person's lines about one pair (pair_key.h) the last counts. The same pair stands in `pairs` and
 * `samples` of a job, in what the job wrote when it was done again, in later iterations that keep it: what
 * was said of it anywhere in a run holds everywhere in that run.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

struct rows;
struct server;

#define REVIEW_NOTE_MAX 2000
#define REVIEWS_MAX 200000 /* lines of one dataset */

/* Durable when it returns. `line` has all but v and at_ms, which are added to it. */
enum rc review_add(struct server *s, json_t *line, struct err *e);
/* All that stands of the pairs of this dataset, in the order it was said; new reference. */
enum rc review_list(struct server *s, const struct rows *rows, json_t **out, struct err *e);
/* Every result pair jobs of the run ever had, declared invalid or not, up to iteration `most`, in order:
 * [{"iter","fence","pairs": digest,"all":[digests]}]; new reference. */
enum rc review_results(struct server *s, const char *run, int64_t most, json_t **out, struct err *e);
/* All that was said in these datasets: an array of digests. */
enum rc review_list_of(struct server *s, const json_t *digests, json_t **out, struct err *e);
/* Number of the row that holds the pair; -1 none. */
int64_t review_row(const struct rows *r, const char *key);
/* Lines as the API shows them; `rows`, which gives them their number there, may be NULL. */
json_t *review_json(const json_t *line, const struct rows *rows);
/* Pure: how many were seen, and who agrees with whom; what several said of one pair counts by majority. */
json_t *review_summary(const json_t *lines, int64_t pairs);
/* +1 more people agree than disagree, -1 fewer, 0 as many, by key: {key: n}. New reference. Pure. */
json_t *review_majority(const json_t *lines);
