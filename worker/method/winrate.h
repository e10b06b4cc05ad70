/* Head-to-head comparison of two models by a judge that sees both orders: what differs between the
 * orders is a tie (the judge followed the position, not the answer).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum verdict { VERDICT_NONE, VERDICT_A, VERDICT_B, VERDICT_TIE };

/* The last of [[A]], [[B]], [[C]]; VERDICT_NONE without any. */
enum verdict winrate_parse(const char *text, size_t len);
/* `forward` with our answer as A, `backward` with our answer as B; the result has ours as A. */
enum verdict winrate_combine(enum verdict forward, enum verdict backward);

struct winrate {
	int64_t win, tie, loss, none; /* none: unreadable, not counted in n */
};
void winrate_add(struct winrate *w, enum verdict v);

struct winrate_result {
	int64_t n;
	double rate;      /* (win + tie/2) / n; NaN when n == 0 */
	double low, high; /* Wilson score interval, 95 % */
};
struct winrate_result winrate_result(const struct winrate *w);
/* Wilson interval of `successes` of n at normal quantile z; [0, 1] when n == 0. */
void winrate_wilson(double successes, int64_t n, double z, double *low, double *high);
