/* Preference losses (Rafailov et al. 2023 and variants) as pure functions of log-probabilities.
 *
 * delta = (pi_c - ref_c) - (pi_r - ref_r); log-probabilities are sums over response tokens, the
 * end token included; with length normalisation (and in "ipo") each difference is divided by its
 * response's length. Everything in double; stable for any delta.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>

enum dpo_loss_kind { DPO_SIGMOID, DPO_ROBUST, DPO_HINGE, DPO_IPO, DPO_IPO_SUM };

struct dpo_settings {
	enum dpo_loss_kind loss;
	double beta;
	double label_smoothing; /* sigmoid: cDPO; robust: assumed share of flipped pairs, < 0.5 */
	double nll_coef;	/* adds nll_coef * (-all_c / len_c) */
	bool length_normalised; /* log-ratios per token */
	/* LD-DPO: tokens beyond the length of the shorter response count this much in pi and ref, 0
	 * to 1; 1 is plain DPO. */
	double ld_alpha;
};

struct dpo_pair {
	double pi_c, pi_r, ref_c, ref_r; /* see dpo_weighted() */
	int len_c, len_r;		 /* response tokens */
	double all_c;			 /* of the chosen, every token once */
};

struct dpo_result {
	double loss;		   /* preference loss, without the NLL term */
	double nll;		   /* -all_c / len_c */
	double d_pi_c, d_pi_r;	   /* of the loss */
	double d_all_c;		   /* of nll_coef * nll */
	double reward_c, reward_r; /* beta (pi - ref) */
};

/* Beta 0.1, nothing else. */
struct dpo_settings dpo_settings_default(void);
/* The sum in which the last tokens, `tail` of `all`, count ld_alpha times. */
static inline double dpo_weighted(double ld_alpha, double all, double tail)
{
	return all - (1 - ld_alpha) * tail;
}
/* "sigmoid", "robust", "hinge", "ipo" (log-ratios averaged over tokens, as TRL), "ipo_sum". */
enum rc dpo_loss_parse(const char *name, enum dpo_loss_kind *out, struct err *e);
enum rc dpo_settings_check(const struct dpo_settings *s, struct err *e);
struct dpo_result dpo_loss(const struct dpo_settings *s, const struct dpo_pair *p);
