/* Prompts with ranked answers, as judging and counting need them: what `eval` and `protegi` share.
 */
#pragma once

#include "base/err.h"
#include "worker/method/rank.h"
#include "worker/stages/judging.h"

#include <jansson.h>
#include <stddef.h>

/* Appends the items of one ranked row {"id","prompt","replies":[{"text","rank"}],"meta"}, replies
 * outside, samples inside: equal prompts lie side by side. *items grows, the caller frees it; the texts
 * are borrowed from the row. `what` names the row's source in errors. */
enum rc ranked_items(const json_t *row, int samples, const char *what, struct judging_item **items,
		     size_t *n, struct err *e);
/* The scores of one reply's `samples` judgements, null where unreadable; new reference. */
json_t *ranked_scores(const struct judging_item *items, int samples);
/* Adds those of such a list to *out. */
void ranked_sum(const json_t *scores, struct rank_score *out);
