/* Losses, AdamW, schedules, clipping. */
#include "tests/ref64.h"

#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RESPONSE_MAX 256

void ref64_clear_grads(struct ref64 *r)
{
	for (int i = 0; i < r->n_tensors; i++)
		memset(r->tensors[i].g, 0, r->tensors[i].n * sizeof(double));
}

/* Sum over tokens of weight * -logp * scale, and its gradient. */
static double weighted_nll(struct ref64 *r, const struct train_example *x, double scale)
{
	double logp[RESPONSE_MAX], slope[RESPONSE_MAX], sum;

	CHECK(x->n_response <= RESPONSE_MAX);
	for (int i = 0; i < x->n_response; i++)
		slope[i] = -(double)x->weight * scale;
	sum = ref64_score(r, x->prompt, x->n_prompt, x->response, x->n_response, logp);
	ref64_backward(r, x->prompt, x->n_prompt, x->response, x->n_response, slope);
	return -(double)x->weight * scale * sum;
}

/* Per token of the whole batch, however it is cut. */
double ref64_sft_loss(struct ref64 *r, const struct train_example *ex, int n)
{
	double weights = 0, loss = 0;

	ref64_clear_grads(r);
	for (int i = 0; i < n; i++)
		weights += (double)ex[i].weight * ex[i].n_response;
	for (int i = 0; i < n; i++)
		loss += weighted_nll(r, &ex[i], 1 / weights);
	return loss;
}

/* log sigma(x), sigma(x) */
static double log_sigma(double x)
{
	return x > 0 ? -log1p(exp(-x)) : x - log1p(exp(x));
}

static double sigma(double x)
{
	return exp(log_sigma(x));
}

/* Loss of the difference of log-ratios, and *slope in it. */
static double loss_of(const struct dpo_settings *s, double delta, double *slope)
{
	double b = s->beta, e = s->label_smoothing, x = b * delta, target = 0.5 / b;

	switch (s->loss) {
	case DPO_SIGMOID:
		*slope = -(1 - e) * b * sigma(-x) + e * b * sigma(x);
		return -(1 - e) * log_sigma(x) - e * log_sigma(-x);
	case DPO_ROBUST:
		*slope = (-(1 - e) * b * sigma(-x) - e * b * sigma(x)) / (1 - 2 * e);
		return (-(1 - e) * log_sigma(x) + e * log_sigma(-x)) / (1 - 2 * e);
	case DPO_HINGE:
		*slope = x < 1 ? -b : 0;
		return x < 1 ? 1 - x : 0;
	case DPO_IPO:
	case DPO_IPO_SUM:
		*slope = 2 * (delta - target);
		return (delta - target) * (delta - target);
	}
	CHECK(!"a loss");
	return 0;
}

/* LD-DPO: what token i of a response counts when the shorter of the two has `common`. */
static double share(double alpha, int i, int common)
{
	return i < common ? 1 : alpha;
}

static double counted(double alpha, const double *logp, int n, int common)
{
	double sum = 0;

	for (int i = 0; i < n; i++)
		sum += share(alpha, i, common) * logp[i];
	return sum;
}

static int shorter(const struct train_pair *p)
{
	return p->n_chosen < p->n_rejected ? p->n_chosen : p->n_rejected;
}

double ref64_pair_loss(const struct dpo_settings *s, const struct train_pair *p,
		       const double *logp_c, const double *logp_r, double *slope_c, double *slope_r)
{
	bool mean = s->loss == DPO_IPO || s->length_normalised;
	double len_c = mean ? p->n_chosen : 1, len_r = mean ? p->n_rejected : 1;
	int common = shorter(p);
	double c = counted(s->ld_alpha, logp_c, p->n_chosen, common) - p->ref_chosen;
	double j = counted(s->ld_alpha, logp_r, p->n_rejected, common) - p->ref_rejected;
	double slope, nll = 0, loss = loss_of(s, c / len_c - j / len_r, &slope);

	for (int i = 0; i < p->n_chosen; i++) {
		nll -= logp_c[i] / p->n_chosen;
		slope_c[i] =
			slope / len_c * share(s->ld_alpha, i, common) - s->nll_coef / p->n_chosen;
	}
	for (int i = 0; i < p->n_rejected; i++)
		slope_r[i] = -slope / len_r * share(s->ld_alpha, i, common);
	return loss + s->nll_coef * nll;
}

static double pair_step(struct ref64 *r, const struct dpo_settings *s, const struct train_pair *p,
			int n)
{
	double logp_c[RESPONSE_MAX], logp_r[RESPONSE_MAX];
	double slope_c[RESPONSE_MAX], slope_r[RESPONSE_MAX], loss;

	CHECK(p->n_chosen <= RESPONSE_MAX && p->n_rejected <= RESPONSE_MAX);
	ref64_score(r, p->prompt, p->n_prompt, p->chosen, p->n_chosen, logp_c);
	ref64_score(r, p->prompt, p->n_prompt, p->rejected, p->n_rejected, logp_r);
	loss = ref64_pair_loss(s, p, logp_c, logp_r, slope_c, slope_r);
	for (int i = 0; i < p->n_chosen; i++)
		slope_c[i] /= n;
	for (int i = 0; i < p->n_rejected; i++)
		slope_r[i] /= n;
	ref64_backward(r, p->prompt, p->n_prompt, p->chosen, p->n_chosen, slope_c);
	ref64_backward(r, p->prompt, p->n_prompt, p->rejected, p->n_rejected, slope_r);
	return loss / n;
}

double ref64_dpo_loss(struct ref64 *r, const struct dpo_settings *s, const struct train_pair *pairs,
		      int n, const struct train_example *extra, int n_extra)
{
	double loss = 0, tokens = 0;

	ref64_clear_grads(r);
	for (int i = 0; i < n; i++)
		loss += pair_step(r, s, &pairs[i], n);
	for (int i = 0; i < n_extra; i++)
		tokens += extra[i].n_response;
	for (int i = 0; i < n_extra; i++)
		loss += weighted_nll(r, &extra[i], 1 / tokens);
	return loss;
}

void ref64_reference(const struct ref64 *r, double ld_alpha, struct train_pair *pairs, int n)
{
	double logp[RESPONSE_MAX];

	for (int i = 0; i < n; i++) {
		struct train_pair *p = &pairs[i];

		ref64_score(r, p->prompt, p->n_prompt, p->chosen, p->n_chosen, logp);
		p->ref_chosen = counted(ld_alpha, logp, p->n_chosen, shorter(p));
		ref64_score(r, p->prompt, p->n_prompt, p->rejected, p->n_rejected, logp);
		p->ref_rejected = counted(ld_alpha, logp, p->n_rejected, shorter(p));
	}
}

/* Warm-up to the full rate in warmup_steps steps, then down to lr_min at total_steps. */
double ref64_learning_rate(const struct schedule *s, int step)
{
	double left;

	if (step < s->warmup_steps)
		return s->lr * ((double)(step + 1) / s->warmup_steps);
	if (s->kind == SCHEDULE_CONSTANT)
		return s->lr;
	left = fmax(0, (double)(s->total_steps - step) / (s->total_steps - s->warmup_steps));
	if (s->kind == SCHEDULE_COSINE)
		left = (1 - cos(acos(-1) * left)) / 2;
	return s->lr_min + (s->lr - s->lr_min) * left;
}

double ref64_grad_norm(const struct ref64 *r)
{
	double sum = 0;

	for (int i = ref64_first_trained(r); i < r->n_tensors; i++)
		for (size_t k = 0; k < r->tensors[i].n; k++)
			sum += r->tensors[i].g[k] * r->tensors[i].g[k];
	return sqrt(sum);
}

/* Loshchilov and Hutter 2019, algorithm 2, with the decay scaled by the learning rate alone, on
 * matrices only; clipping as torch.nn.utils.clip_grad_norm_. */
double ref64_update(struct ref64 *r, const struct train_opts *o, int step)
{
	double length = ref64_grad_norm(r), lr = ref64_learning_rate(&o->schedule, step);
	double by = o->clip_norm > 0 ? fmin(1, o->clip_norm / (length + 1e-6)) : 1;
	double left1 = 1 - pow(o->beta1, (double)(r->updates + 1));
	double left2 = 1 - pow(o->beta2, (double)(r->updates + 1));

	r->updates++;
	for (int i = ref64_first_trained(r); i < r->n_tensors; i++) {
		struct ref64_tensor *t = &r->tensors[i];
		double decay = t->cols > 0 ? o->weight_decay : 0;

		for (size_t k = 0; k < t->n; k++) {
			double g = by * t->g[k];

			t->m[k] = o->beta1 * t->m[k] + (1 - o->beta1) * g;
			t->v[k] = o->beta2 * t->v[k] + (1 - o->beta2) * g * g;
			t->w[k] -= lr * (t->m[k] / left1 / (sqrt(t->v[k] / left2) + o->eps) +
					 decay * t->w[k]);
		}
	}
	return length;
}
