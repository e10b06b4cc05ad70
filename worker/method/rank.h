/* How well judged scores order what people have ordered: the reward-model metrics of the paper.
 *
 * pairwise accuracy: share of human-ordered pairs put strictly in the same order, pooled over
 * pairs; a tie is wrong, a pair with an unjudged side is wrong. Exact match: share of instructions
 * whose whole order agrees. 5-best: of replies with a perfect mean, the share that people ranked
 * first; undefined without any. Spearman and Kendall (tau-b): mean over the instructions where
 * defined, and pooled. Undefined is NaN, never zero.
 */
#pragma once

#include <stdint.h>

double rank_pearson(const double *x, const double *y, int n);
double rank_spearman(const double *x, const double *y, int n);
double rank_kendall(const double *x, const double *y, int n); /* tau-b, O(n log n) */

struct rank_score {
	int64_t sum_milli;
	int n; /* 0: unjudged */
};

struct rank_tally {
	int64_t instructions, pairs, agree, tied, unjudged_pairs, exact, perfect, perfect_best;
	int64_t replies, judged;
	int64_t spearman_n, kendall_n;
	double spearman_sum, kendall_sum;
	double *human, *score; /* pooled; owned */
	int64_t n, cap;
};

struct rank_result {
	double pairwise, pairwise_half_ties, exact, five_best; /* shares; NaN when undefined */
	double spearman, kendall;               /* means over instructions */
	double spearman_pooled, kendall_pooled;
	double ties, coverage;                  /* shares of pairs, of replies */
	int64_t instructions, pairs, five_best_n, spearman_n, kendall_n;
};

void rank_tally_init(struct rank_tally *t);
void rank_tally_release(struct rank_tally *t);
/* One instruction: human rank (0 best, equal allowed) and score of each reply. max_milli is the
 * perfect score of the template. */
void rank_tally_add(struct rank_tally *t, const int *human, const struct rank_score *score, int n,
		    int64_t max_milli);
struct rank_result rank_tally_result(const struct rank_tally *t);
