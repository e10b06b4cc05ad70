/* How far two raters agree who sorted the same things into the same classes: the share of agreement and
 * Cohen's kappa, which takes off what chance alone would give. Pure.
 *
 * Undefined is NaN, never zero: a share of nothing, a kappa where both always name one class.
 */
#pragma once

#include <stdint.h>

#define KAPPA_CLASSES_MAX 16

struct kappa {
	int64_t n, agree;
	double share, low, high; /* of agreement, with its 95 % Wilson interval */
	double kappa, se;	 /* standard error of Fleiss, Cohen and Everitt (1969) */
	double kappa_low, kappa_high; /* 95 %; of full agreement, where the formula knows no doubt, the
				       * lower end is that of the share */
};

/* counts: k x k, the row is the first rater's class, the column the second's; 2 <= k <= 16. */
struct kappa kappa_of(const int64_t *counts, int k);
