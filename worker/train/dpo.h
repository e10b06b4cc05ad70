/* Preference losses (Rafailov et al. 2023 and variants) as pure functions of log-probabilities.
 *
 * delta = (pi_c - ref_c) - (pi_r - ref_r); log-probabilities are sums over response tokens, the
 * end token included. Everything in double; stable for any delta.
 */
#pragma once

#include "base/err.h"

enum dpo_loss_kind { DPO_SIGMOID, DPO_ROBUST, DPO_HINGE, DPO_IPO, DPO_IPO_SUM };

struct dpo_settings {
	enum dpo_loss_kind loss;
	double beta;
	double label_smoothing; /* sigmoid: cDPO; robust: assumed share of flipped pairs, < 0.5 */
	double nll_coef;	/* adds nll_coef * (-pi_c / len_c) */
};

struct dpo_pair {
	double pi_c, pi_r, ref_c, ref_r;
	int len_c, len_r; /* response tokens */
};

struct dpo_result {
	double loss;		   /* preference loss, without the NLL term */
	double nll;		   /* -pi_c / len_c */
	double d_pi_c, d_pi_r;	   /* of loss + nll_coef * nll */
	double reward_c, reward_r; /* beta (pi - ref) */
};

/* "sigmoid", "robust", "hinge", "ipo" (log-ratios averaged over tokens, as TRL), "ipo_sum". */
enum rc dpo_loss_parse(const char *name, enum dpo_loss_kind *out, struct err *e);
enum rc dpo_settings_check(const struct dpo_settings *s, struct err *e);
struct dpo_result dpo_loss(const struct dpo_settings *s, const struct dpo_pair *p);
