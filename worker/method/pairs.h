/* From judged candidates of one prompt to one preference pair, or the reason for none.
 *
 * All comparisons of means and variances are exact: sums of integer thousandths and counts,
 * cross-multiplied. Invariants of a pair: both sides are judged, finished, not empty, not too
 * long, different as tokens and as text, and the chosen mean is strictly above the rejected one.
 * The result does not depend on the order in which judgements came.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why a candidate is out, and why a prompt has no pair. */
#define PAIR_DROPS(X)                                                                       \
	X(NONE, "none")                                                                     \
	X(TIE, "tie")                                                                       \
	X(UNJUDGED, "unjudged")                                                             \
	X(EMPTY, "empty")                                                                   \
	X(UNFINISHED, "unfinished")                                                         \
	X(TOO_LONG, "too_long")                                                             \
	X(DUPLICATE, "duplicate")                                                           \
	X(TOO_FEW, "too_few")                                                               \
	X(EXCLUDED, "excluded") /* by people; pair_pick() never says so */

enum pair_drop {
#define X(name, text) PAIR_##name,
	PAIR_DROPS(X)
#undef X
	PAIR_N_DROPS
};

const char *pair_drop_text(enum pair_drop d);

/* Judgements of one candidate, summed. Scores up to 1000 points, up to 1000 of them. */
struct pair_mean {
	int64_t sum, sum_sq; /* of thousandths, and of their squares */
	int n;               /* valid judgements */
};

void pair_mean_add(struct pair_mean *m, int64_t milli);
/* -1, 0, 1; both n > 0. */
int pair_mean_cmp(const struct pair_mean *a, const struct pair_mean *b);
int pair_variance_cmp(const struct pair_mean *a, const struct pair_mean *b);
/* For people, in points; n > 0. Variance is the population's. */
double pair_mean_value(const struct pair_mean *m);
double pair_mean_variance(const struct pair_mean *m);

struct pair_candidate {
	const char *text;      /* borrowed */
	const int32_t *tokens; /* borrowed */
	int n_tokens;
	bool finished;         /* ended with its end token */
	struct pair_mean mean;
	enum pair_drop out;    /* set by pair_pick() */
};

struct pair_rule {
	int min_valid;      /* judgements a candidate needs; at least 1 */
	int max_tokens;     /* 0: no bound */
	int64_t rho_ppm;    /* length control, millionths, 0 <= rho < 500000: the top tier reaches
			     * down to (1-rho) max + rho min, its shortest member is chosen; the
			     * bottom tier likewise, its longest member is rejected. At 0 the lowest
			     * variance, then the lowest index decides. */
};

struct pair_pick {
	int chosen, rejected; /* positions in the list; -1 when dropped */
	enum pair_drop drop;
};

struct pair_pick pair_pick(const struct pair_rule *rule, struct pair_candidate *list, int n);

/* --- counters of an iteration ---------------------------------------------------------------- */

#define PAIR_BINS_MAX 101

struct pair_counts {
	int64_t prompts, kept, drop[PAIR_N_DROPS], out[PAIR_N_DROPS];
	int64_t candidates, judged;
	int64_t judgements, failed;         /* every judgement asked for; those without a score */
	int64_t hist[PAIR_BINS_MAX];        /* valid judgements by nearest whole point, from min */
	int64_t min_points;
	int bins;
	int64_t sum_milli;                  /* of valid judgements */
	int64_t at_max;                     /* valid judgements at the upper bound */
	int64_t chosen_tokens, rejected_tokens, chosen_longer;
	int64_t max_milli;
};

void pair_counts_init(struct pair_counts *c, int64_t min_milli, int64_t max_milli);
void pair_counts_judgement(struct pair_counts *c, bool valid, int64_t milli);
/* After pair_pick() on `list`. */
void pair_counts_prompt(struct pair_counts *c, const struct pair_candidate *list, int n,
			const struct pair_pick *pick);
/* A sentence when the judge has collapsed (more than 5 % unreadable, or more than 90 % of at least
 * 100 scores are the same), else NULL. Static storage. */
const char *pair_counts_alarm(const struct pair_counts *c);
