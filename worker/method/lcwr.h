/* Length-controlled win rate (Dubois et al. 2024, AlpacaEval 2): what the win rate would be had both
 * answers the same length. The short form of the model, the only one that fits prompts of one's own:
 *
 *	q = sigma(theta + phi tanh(dlen / sd(dlen))),  dlen = characters of theirs - characters of ours
 *
 * fitted by maximum likelihood (AlpacaEval fits with an L1 penalty chosen by cross-validation, beside a
 * difficulty per instruction that is known for its own 805 prompts alone); the rate is sigma(theta).
 * Where it cannot be fitted there is a reason and no number.
 */
#pragma once

#include <stddef.h>

struct lcwr_item {
	double won; /* 1 win, 0.5 tie, 0 loss */
	double ours, theirs; /* characters */
};

/* One item of the model, for tests and tables. */
double lcwr_q(double theta, double phi, double dlen_over_sd, double instruction);
/* NULL and *rate (0 to 1); else the reason, static. */
const char *lcwr_fit(const struct lcwr_item *list, size_t n, double *rate);
