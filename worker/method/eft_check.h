/* May a model learn from this judgement? A justification that says something other than the score it ends
 * with teaches it to score at random; one that recites the template teaches it to recite; an empty or an
 * endless one teaches no judging either.
 *
 * Knows nothing of the order people gave: that is eft.h.
 */
#pragma once

#include "worker/method/judge_template.h"

#include <stdbool.h>
#include <stdint.h>

#define EFT_CHECKS(X)                                                                        \
	X(GOOD, "good")                                                                      \
	X(SHORT, "too_short")                                                                \
	X(LONG, "too_long")                                                                  \
	X(LEAK, "template")          /* recites the template, or has a slot or a tag of it */ \
	X(CONTRADICTS, "contradicts") /* names another score, or points that sum to another */

enum eft_check {
#define X(name, text) EFT_CHECK_##name,
	EFT_CHECKS(X)
#undef X
	EFT_N_CHECKS
};

const char *eft_check_text(enum eft_check c);

struct eft_rules {
	int min_words, max_words; /* of the justification, without the score; max 0: no bound */
	int leak_words;           /* so many words in a row as in the template; 0: not looked for */
	bool same_score;          /* look for contradictions */
};

/* What is asked of every judgement, prepared once. */
struct eft_checker;

/* Keeps a copy of what it needs of the template. */
struct eft_checker *eft_checker_new(const struct judge_template *t, const struct eft_rules *r);
void eft_checker_free(struct eft_checker *c);
/* `milli` is the score that judge_parse() found in `text`. */
enum eft_check eft_checker_look(const struct eft_checker *c, const char *text, int64_t milli);
