/* Is the judge well? Figures from its scores and from probes that a fair judge passes, and the sentences
 * that say what is wrong.
 *
 * A figure that could not be measured is NaN and raises no alarm.
 */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One score of the judge; the answers of one prompt have one group. */
struct health_score {
	int64_t milli;
	bool valid;
	int item;      /* judgements of one answer share it */
	double length; /* of the answer, in characters */
};

struct health {
	int64_t judgements, compared, attacked, own;
	double parse_fail;  /* share of unreadable judgements */
	double pile;        /* share of the commonest score among the readable ones */
	int64_t pile_milli; /* which */
	double variance;    /* mean over answers of the variance between their judgements, points^2 */
	double length_score;/* Spearman, answer length against mean score */
	/* Two answers in both orders; shares of the comparisons. */
	double consistent, first, second, unreadable;
	double renamed;     /* consistent when the answers' names are exchanged as well */
	/* Answers with a part of them repeated: share that scored higher; and the same for answers that
	 * were not changed at all, judged once more. */
	double verbosity, control;
	double accuracy;    /* agreement with human order */
	/* The judge's own answers against people's best: share it scores higher (ties half), and share that
	 * is better in truth. */
	double self_win, self_true;
};

struct health_limits {
	double parse_fail, pile, position, length, verbosity, self; /* alarm above */
	double accuracy;                                       /* alarm below; 0: none */
	int64_t min_judgements; /* fewer than this say nothing */
};

void health_init(struct health *h);
/* parse_fail, pile, variance, length_score. */
void health_of_scores(struct health *h, const struct health_score *list, size_t n);
/* Appends one sentence for each alarm, with "; " between; true when there is one. */
bool health_alarms(const struct health *h, const struct health_limits *limits, struct buf *out);
/* The answer with its list (lines that begin with "-", "*" or a number) put before it once more, or its
 * first sentence where it has none: longer, and nothing new in it. Heap. */
char *health_repeated(const char *answer);
