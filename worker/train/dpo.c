#include "worker/train/dpo.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static double log_sigmoid(double x)
{
	return x < 0 ? x - log1p(exp(x)) : -log1p(exp(-x));
}

static double sigmoid(double x)
{
	return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}

/* Loss and its slope in delta, for the losses that depend on delta alone. */
struct slope {
	double loss, d_delta;
};

static struct slope sigmoid_loss(const struct dpo_settings *s, double delta)
{
	double x = s->beta * delta, e = s->label_smoothing;

	return (struct slope){-(1 - e) * log_sigmoid(x) - e * log_sigmoid(-x),
			      s->beta * (e * sigmoid(x) - (1 - e) * sigmoid(-x))};
}

static struct slope robust_loss(const struct dpo_settings *s, double delta)
{
	double x = s->beta * delta, e = s->label_smoothing, by = 1 / (1 - 2 * e);

	return (struct slope){(-(1 - e) * log_sigmoid(x) + e * log_sigmoid(-x)) * by,
			      s->beta * (-(1 - e) * sigmoid(-x) - e * sigmoid(x)) * by};
}

static struct slope hinge_loss(const struct dpo_settings *s, double delta)
{
	double gap = 1 - s->beta * delta;

	return gap > 0 ? (struct slope){gap, -s->beta} : (struct slope){0, 0};
}

static struct slope ipo_loss(const struct dpo_settings *s, double delta)
{
	double gap = delta - 1 / (2 * s->beta);

	return (struct slope){gap * gap, 2 * gap};
}

static const struct {
	const char *name;
	struct slope (*run)(const struct dpo_settings *, double);
	bool per_token; /* log-ratios divided by the response's length first */
} kinds[] = {
	[DPO_SIGMOID] = {"sigmoid", sigmoid_loss, false},
	[DPO_ROBUST] = {"robust", robust_loss, false},
	[DPO_HINGE] = {"hinge", hinge_loss, false},
	[DPO_IPO] = {"ipo", ipo_loss, true},
	[DPO_IPO_SUM] = {"ipo_sum", ipo_loss, false},
};

enum rc dpo_loss_parse(const char *name, enum dpo_loss_kind *out, struct err *e)
{
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (strcmp(name, kinds[i].name) == 0) {
			*out = (enum dpo_loss_kind)i;
			return RC_OK;
		}
	return err_set(e, RC_INVALID,
		       "DPO loss \"%s\": expected sigmoid, robust, hinge, ipo or ipo_sum", name);
}

struct dpo_settings dpo_settings_default(void)
{
	return (struct dpo_settings){.loss = DPO_SIGMOID, .beta = 0.1, .ld_alpha = 1};
}

enum rc dpo_settings_check(const struct dpo_settings *s, struct err *e)
{
	if (!(s->beta > 0) || !isfinite(s->beta))
		return err_set(e, RC_INVALID, "DPO beta is %g, expected above 0", s->beta);
	if (!(s->label_smoothing >= 0) || !(s->label_smoothing < 0.5))
		return err_set(e, RC_INVALID, "DPO label smoothing is %g, expected 0 to below 0.5",
			       s->label_smoothing);
	if (!(s->nll_coef >= 0) || !isfinite(s->nll_coef))
		return err_set(e, RC_INVALID, "DPO NLL coefficient is %g, expected 0 or more",
			       s->nll_coef);
	if (!(s->ld_alpha >= 0) || !(s->ld_alpha <= 1))
		return err_set(e, RC_INVALID, "DPO ld_alpha is %g, expected 0 to 1", s->ld_alpha);
	return RC_OK;
}

struct dpo_result dpo_loss(const struct dpo_settings *s, const struct dpo_pair *p)
{
	bool per_token = kinds[s->loss].per_token || s->length_normalised;
	double by_c = per_token ? 1.0 / p->len_c : 1;
	double by_r = per_token ? 1.0 / p->len_r : 1;
	double c = p->pi_c - p->ref_c, r = p->pi_r - p->ref_r;
	struct slope l = kinds[s->loss].run(s, c * by_c - r * by_r);

	return (struct dpo_result){.loss = l.loss,
				   .nll = -p->all_c / p->len_c,
				   .d_pi_c = l.d_delta * by_c,
				   .d_pi_r = -l.d_delta * by_r,
				   .d_all_c = -s->nll_coef / p->len_c,
				   .reward_c = s->beta * c,
				   .reward_r = s->beta * r};
}
