#include "worker/train/trainer.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "worker/train/trainer_inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SEQS_PER_PACK 1024

struct train_opts train_opts_default(void)
{
	return (struct train_opts){.schedule = {SCHEDULE_CONSTANT, 1e-5, 0, 0, 0},
				   .beta1 = 0.9,
				   .beta2 = 0.95,
				   .eps = 1e-8,
				   .clip_norm = 1.0,
				   .max_length = 1024,
				   .dpo = {DPO_SIGMOID, 0.1, 0, 0}};
}

static enum rc check_opts(const struct model *m, const struct train_opts *o, struct err *e)
{
	if (o->max_length < 2 || o->max_length > m->cfg.max_pos)
		return err_set(e, RC_INVALID,
			       "max_length %d: expected 2 to %d (max_position_embeddings)",
			       o->max_length, m->cfg.max_pos);
	if (!(o->dropout >= 0) || !(o->dropout < 1))
		return err_set(e, RC_INVALID, "dropout %g: expected 0 to below 1", o->dropout);
	if (!(o->beta1 >= 0) || !(o->beta1 < 1) || !(o->beta2 >= 0) || !(o->beta2 < 1) ||
	    !(o->eps > 0))
		return err_set(e, RC_INVALID, "AdamW needs 0 <= beta < 1 and eps > 0");
	if (!(o->schedule.lr >= 0) || !isfinite(o->schedule.lr))
		return err_set(e, RC_INVALID, "learning rate %g: expected 0 or more",
			       o->schedule.lr);
	return dpo_settings_check(&o->dpo, e);
}

static enum rc allocate(struct trainer *tr, struct err *e)
{
	size_t bytes = tr->m->n_params * sizeof(float), rows;
	int budget = tr->o.micro_tokens > 0 ? tr->o.micro_tokens : TRAIN_MICRO_TOKENS;
	struct llama_opts lo = {.max_pos = tr->o.max_length, .recompute = tr->o.recompute};
	enum rc rc;

	/* One pair of the longest kind must fit whatever the budget. */
	lo.max_tokens = budget < 2 * tr->o.max_length ? 2 * tr->o.max_length : budget;
	rows = (size_t)lo.max_tokens;
	tr->grads = mem_try(bytes);
	tr->adam_m = mem_try(bytes);
	tr->adam_v = mem_try(bytes);
	if (!tr->grads || !tr->adam_m || !tr->adam_v)
		return err_set(e, RC_NOMEM, "gradients and moments need 3 x %zu MiB", bytes >> 20);
	tr->logp = mem_array(rows, sizeof *tr->logp);
	tr->g = mem_array(rows, sizeof *tr->g);
	tr->hit = mem_array(rows, sizeof *tr->hit);
	if ((rc = pack_new(lo.max_tokens, SEQS_PER_PACK, &tr->pack, e)) != RC_OK)
		return rc;
	tr->pack.max_tokens = budget; /* A single sequence or pair may exceed it: see fits(). */
	return llama_new(tr->m, tr->k, tr->pool, &lo, &tr->llama, e);
}

enum rc trainer_new(struct model *m, const struct kern *k, struct kern_pool *pool,
		    const struct train_opts *o, struct trainer **out, struct err *e)
{
	enum rc rc = check_opts(m, o, e);
	struct trainer *tr;

	if (rc != RC_OK)
		return rc;
	tr = mem_new(sizeof *tr);
	*tr = (struct trainer){.m = m, .k = k, .pool = pool, .o = *o};
	rc = allocate(tr, e);
	if (rc != RC_OK) {
		trainer_free(tr);
		return rc;
	}
	*out = tr;
	return RC_OK;
}

void trainer_free(struct trainer *tr)
{
	if (!tr)
		return;
	size_t bytes = tr->m->n_params * sizeof(float);

	llama_free(tr->llama);
	pack_release(&tr->pack);
	mem_try_free(tr->grads, bytes);
	mem_try_free(tr->adam_m, bytes);
	mem_try_free(tr->adam_v, bytes);
	free(tr->logp);
	free(tr->g);
	free(tr->hit);
	free(tr);
}

struct seq_sums trainer_sums(const struct pack *p, const float *logp, const uint8_t *hit, int s)
{
	struct seq_sums r = {0};

	for (int t = p->cu[s]; t < p->cu[s + 1]; t++) {
		if (p->target[t] < 0)
			continue;
		r.logp += (double)logp[t];
		r.hits += hit[t];
		r.n++;
	}
	return r;
}

void trainer_set_g(struct trainer *tr, int s, double g)
{
	for (int t = tr->pack.cu[s]; t < tr->pack.cu[s + 1]; t++)
		tr->g[t] = (float)g;
}

/* Masks are named by seed, step, sequence in the batch, layer and site. */
struct llama_dropout trainer_dropout(const struct trainer *tr, int step)
{
	uint32_t key[2] = {(uint32_t)tr->o.seed, (uint32_t)(tr->o.seed >> 32)};
	uint32_t ctr[4] = {(uint32_t)step, RNG_DROPOUT, 0, 0}, out[4];

	rng_philox(key, ctr, out);
	return (struct llama_dropout){(float)tr->o.dropout, {out[0], out[1]}};
}

void trainer_clear_grads(struct trainer *tr)
{
	memset(tr->grads, 0, tr->m->n_params * sizeof *tr->grads);
}

enum rc train_check_sequence(const struct model *m, int max_length, const char *what, int index,
			     const int32_t *prompt, int n_prompt, const int32_t *response,
			     int n_response, struct err *e)
{
	if (n_prompt < 1 || n_response < 1)
		return err_set(e, RC_INVALID, "%s %d: prompt of %d and response of %d tokens", what,
			       index, n_prompt, n_response);
	if (n_prompt > max_length - n_response)
		return err_set(e, RC_INVALID, "%s %d: %d + %d tokens, at most %d fit", what, index,
			       n_prompt, n_response, max_length);
	for (int i = 0; i < n_prompt + n_response; i++) {
		int32_t id = i < n_prompt ? prompt[i] : response[i - n_prompt];

		if (id < 0 || id >= m->cfg.vocab)
			return err_set(e, RC_INVALID,
				       "%s %d: token %d is outside the vocabulary of %d", what,
				       index, (int)id, m->cfg.vocab);
	}
	return RC_OK;
}

/* One AdamW update of every tensor; only matrices decay. */
static void apply_adamw(struct trainer *tr, double lr, double scale)
{
	double t = (double)++tr->adam_steps;
	struct kern_adamw a = {.grad_scale = (float)scale,
			       .lr = (float)lr,
			       .beta1 = (float)tr->o.beta1,
			       .beta2 = (float)tr->o.beta2,
			       .eps = (float)tr->o.eps,
			       .bias1 = (float)(1 - pow(tr->o.beta1, t)),
			       .bias2 = (float)(1 - pow(tr->o.beta2, t))};

	for (int i = 0; i < tr->m->n_tensors; i++) {
		const struct tensor_ref *r = &tr->m->tensors[i];

		a.n = (size_t)r->rows * (r->cols ? (size_t)r->cols : 1);
		a.p = tr->m->params + r->offset;
		a.m = tr->adam_m + r->offset;
		a.v = tr->adam_v + r->offset;
		a.g = tr->grads + r->offset;
		a.decay = r->cols ? (float)tr->o.weight_decay : 0;
		tr->k->adamw(tr->pool, &a);
	}
}

enum rc trainer_update(struct trainer *tr, int step, struct train_metrics *out, struct err *e)
{
	double norm = sqrt(tr->k->sumsq(tr->pool, tr->grads, tr->m->n_params)), scale = 1;

	out->grad_norm = norm;
	out->learning_rate = schedule_lr(&tr->o.schedule, step);
	if (!isfinite(out->loss))
		return err_set(e, RC_INVALID, "step %d: the loss is not finite (%g)", step,
			       out->loss);
	if (!isfinite(norm))
		return err_set(e, RC_INVALID, "step %d: the gradient is not finite (loss %g)", step,
			       out->loss);
	if (tr->o.clip_norm > 0 && norm > tr->o.clip_norm)
		scale = tr->o.clip_norm / (norm + 1e-6);
	apply_adamw(tr, out->learning_rate, scale);
	return RC_OK;
}

static double per(double sum, double n)
{
	return n > 0 ? sum / n : 0;
}

static void set(json_t *o, const char *key, double v)
{
	json_object_set_new(o, key, json_real(v));
}

json_t *train_metrics_json(const struct train_metrics *m, bool preference)
{
	json_t *o = json_object();

	set(o, "loss", m->loss);
	set(o, "learning_rate", m->learning_rate);
	set(o, "grad_norm", m->grad_norm);
	set(o, "num_tokens", m->num_tokens);
	set(o, "mean_token_accuracy", m->mean_token_accuracy);
	if (!preference)
		return o;
	set(o, "rewards/chosen", m->reward_chosen);
	set(o, "rewards/rejected", m->reward_rejected);
	set(o, "rewards/accuracies", m->accuracy);
	set(o, "rewards/margins", m->margin);
	set(o, "logps/chosen", m->logp_chosen);
	set(o, "logps/rejected", m->logp_rejected);
	set(o, "nll_loss", m->nll_loss);
	set(o, "extra_loss", m->extra_loss);
	return o;
}

/* --- Supervised
 * ----------------------------------------------------------------------------------- */

static void run_pack(struct trainer *tr, const struct train_example *ex, int first, double scale,
		     int step, struct example_sums *sums)
{
	struct pack *p = &tr->pack;
	struct llama_dropout d = trainer_dropout(tr, step);

	for (int s = 0; s < p->n_seqs; s++)
		trainer_set_g(tr, s, -(double)ex[first + s].weight * scale);
	llama_forward_backward(tr->llama, p, &d, tr->g, tr->grads, tr->logp, tr->hit);
	for (int s = 0; s < p->n_seqs; s++) {
		struct seq_sums r = trainer_sums(p, tr->logp, tr->hit, s);

		sums->nll_weighted -= (double)ex[first + s].weight * r.logp;
		sums->targets += r.n;
		sums->hits += r.hits;
	}
	sums->rows += p->n_tokens;
	pack_clear(p);
}

void trainer_run_examples(struct trainer *tr, const struct train_example *ex, int n, int id0,
			  double scale, int step, struct example_sums *sums)
{
	struct pack *p = &tr->pack;
	int budget = p->max_tokens;

	*sums = (struct example_sums){0};
	pack_clear(p);
	for (int i = 0, first = 0; i < n; i++) {
		int rows = pack_rows(ex[i].n_prompt, ex[i].n_response);

		if (p->n_seqs > 0 && !pack_fits(p, rows, 1)) {
			run_pack(tr, ex, first, scale, step, sums);
			first = i;
		}
		p->max_tokens = rows > budget ? rows : budget;
		pack_add(p, id0 + i, ex[i].prompt, ex[i].n_prompt, ex[i].response,
			 ex[i].n_response);
		p->max_tokens = budget;
		if (i == n - 1)
			run_pack(tr, ex, first, scale, step, sums);
	}
}

enum rc trainer_sft_step(struct trainer *tr, const struct train_example *ex, int n, int step,
			 struct train_metrics *out, struct err *e)
{
	struct example_sums sums;
	double weights = 0;

	*out = (struct train_metrics){0};
	for (int i = 0; i < n; i++) {
		enum rc rc =
			train_check_sequence(tr->m, tr->o.max_length, "example", i, ex[i].prompt,
					     ex[i].n_prompt, ex[i].response, ex[i].n_response, e);

		if (rc != RC_OK)
			return rc;
		if (!(ex[i].weight >= 0))
			return err_set(e, RC_INVALID, "example %d: weight %g", i,
				       (double)ex[i].weight);
		weights += (double)ex[i].weight * ex[i].n_response;
	}
	if (!(weights > 0))
		return err_set(e, RC_INVALID, "step %d: no token has a weight above 0", step);
	trainer_clear_grads(tr);
	trainer_run_examples(tr, ex, n, 0, 1 / weights, step, &sums);
	out->loss = sums.nll_weighted / weights;
	out->num_tokens = sums.rows;
	out->mean_token_accuracy = per(sums.hits, sums.targets);
	return trainer_update(tr, step, out, e);
}

/* --- Log-probabilities of a model as it is
 * -------------------------------------------------------- */

static enum rc check_all(const struct model *m, const struct train_example *ex, int n, int *longest,
			 struct err *e)
{
	for (int i = 0; i < n; i++) {
		enum rc rc =
			train_check_sequence(m, m->cfg.max_pos, "sequence", i, ex[i].prompt,
					     ex[i].n_prompt, ex[i].response, ex[i].n_response, e);
		int rows = pack_rows(ex[i].n_prompt, ex[i].n_response);

		if (rc != RC_OK)
			return rc;
		*longest = rows > *longest ? rows : *longest;
	}
	return RC_OK;
}

struct scorer {
	struct llama *llama;
	struct pack pack;
	float *logp;
	uint8_t *hit;
};

static void score_pack(struct scorer *sc, double *out)
{
	llama_forward(sc->llama, &sc->pack, NULL, sc->logp, sc->hit);
	for (int s = 0; s < sc->pack.n_seqs; s++)
		out[s] = trainer_sums(&sc->pack, sc->logp, sc->hit, s).logp;
	pack_clear(&sc->pack);
}

enum rc trainer_logprobs(const struct model *m, const struct kern *k, struct kern_pool *pool,
			 const struct train_example *ex, int n, double *out, struct err *e)
{
	int longest = TRAIN_MICRO_TOKENS, first = 0;
	struct scorer sc = {0};
	struct llama_opts lo = {.forward_only = true};
	enum rc rc = check_all(m, ex, n, &longest, e);

	if (rc != RC_OK)
		return rc;
	lo.max_tokens = longest;
	if ((rc = llama_new(m, k, pool, &lo, &sc.llama, e)) != RC_OK ||
	    (rc = pack_new(longest, SEQS_PER_PACK, &sc.pack, e)) != RC_OK)
		goto out;
	sc.logp = mem_array((size_t)longest, sizeof *sc.logp);
	sc.hit = mem_array((size_t)longest, sizeof *sc.hit);
	for (int i = 0; i < n; i++) {
		if (!pack_fits(&sc.pack, pack_rows(ex[i].n_prompt, ex[i].n_response), 1)) {
			score_pack(&sc, out + first);
			first = i;
		}
		pack_add(&sc.pack, i, ex[i].prompt, ex[i].n_prompt, ex[i].response,
			 ex[i].n_response);
	}
	if (sc.pack.n_seqs > 0)
		score_pack(&sc, out + first);
	for (int i = 0; i < n && rc == RC_OK; i++)
		if (!isfinite(out[i]))
			rc = err_set(e, RC_INVALID, "sequence %d: log-probability is not finite",
				     i);
out:
	llama_free(sc.llama);
	pack_release(&sc.pack);
	free(sc.logp);
	free(sc.hit);
	return rc;
}
