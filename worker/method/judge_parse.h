/* The score in a judge's answer, or the reason why there is none.
 *
 * Give it newly generated text only, never an echo of the judge prompt. A score that cannot be
 * read is missing, never zero and never a bound. Points are kept in thousandths ("milli"), so
 * that means can be compared in integers.
 *
 * The rule: the last place where one of the words (whole word, any case) is followed by an
 * optional "is", ":" or "=" and a number counts; Markdown, quotes and brackets around the parts
 * are ignored, full-width forms read as plain ones. "/5" or "out of 5" may follow, with the
 * template's own maximum. A range, a sum, a list or another scale is ambiguous.
 *
 * Templates of MT-Bench want the score in brackets instead: the last [[number]] counts, or where there
 * is none the last [number]. (FastChat takes the first: a judge that quotes the format before it judges
 * is misread there.)
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JUDGE_REASONS(X)                                                                    \
	X(OK, "ok")                                                                         \
	X(NO_MATCH, "no_match")                                                             \
	X(OUT_OF_RANGE, "out_of_range")                                                     \
	X(AMBIGUOUS, "ambiguous")                                                           \
	X(TRUNCATED, "truncated")                                                           \
	X(EMPTY, "empty")                                                                   \
	X(TOO_LONG, "too_long") /* the judge prompt left no room for an answer */           \
	X(NO_ANSWER, "no_answer") /* the judge was asked and sent nothing that is one */    \
	X(NO_REFERENCE, "no_reference") /* the template shows one, the item has none */

enum judge_reason {
#define X(name, text) JUDGE_##name,
	JUDGE_REASONS(X)
#undef X
	JUDGE_N_REASONS
};

#define JUDGE_WORDS_MAX 16
#define JUDGE_BRACKETS "[[]]"

struct judge_rule {
	const char *words[JUDGE_WORDS_MAX + 1]; /* NULL-terminated UTF-8, lower case */
	int64_t min_milli, max_milli;
	bool integer; /* 4.5 is out of range */
	bool brackets; /* the score stands in brackets, without a word */
};

struct judge_score {
	enum judge_reason reason; /* JUDGE_OK: milli holds the score */
	int64_t milli;
};

/* `stopped` false: the answer was cut off by its length, so whatever it says so far is void. */
struct judge_score judge_parse(const struct judge_rule *rule, const char *text, size_t len,
			       bool stopped);
const char *judge_reason_text(enum judge_reason r);
/* JUDGE_N_REASONS when unknown. */
enum judge_reason judge_reason_of(const char *text);
