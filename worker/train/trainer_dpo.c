/* The preference step. Chosen and rejected are two sequences of one pack; whole pairs make up a
 * micro-batch, because the gradient of each needs the log-probability of both. */
#include "worker/train/trainer.h"

#include "worker/train/trainer_inner.h"

#include <math.h>

struct pair_run {
	struct trainer *tr;
	const struct train_pair *pairs;
	int n, step;
	bool check_only;
	struct train_metrics *out; /* sums until the end */
	double chosen_tokens, chosen_hits;
	int bad; /* first pair whose policy and reference differ, or -1 */
	double bad_by;
};

static enum rc check_pairs(const struct trainer *tr, const struct train_pair *p, int n,
			   struct err *e)
{
	for (int i = 0; i < n; i++) {
		enum rc rc;

		rc = train_check_sequence(tr->m, tr->o.max_length, "chosen of pair", i, p[i].prompt,
					  p[i].n_prompt, p[i].chosen, p[i].n_chosen, e);
		if (rc != RC_OK)
			return rc;
		rc = train_check_sequence(tr->m, tr->o.max_length, "rejected of pair", i,
					  p[i].prompt, p[i].n_prompt, p[i].rejected,
					  p[i].n_rejected, e);
		if (rc != RC_OK)
			return rc;
		if (!isfinite(p[i].ref_chosen) || !isfinite(p[i].ref_rejected))
			return err_set(e, RC_INVALID,
				       "pair %d: reference log-probability is not finite", i);
	}
	return n > 0 ? RC_OK : err_set(e, RC_INVALID, "a preference step needs at least one pair");
}

static void add_metrics(struct pair_run *r, const struct dpo_result *d, const struct seq_sums *c,
			const struct seq_sums *j)
{
	struct train_metrics *m = r->out;

	m->loss += d->loss + r->tr->o.dpo.nll_coef * d->nll;
	m->nll_loss += d->nll;
	m->reward_chosen += d->reward_c;
	m->reward_rejected += d->reward_r;
	m->margin += d->reward_c - d->reward_r;
	m->accuracy += d->reward_c > d->reward_r;
	m->logp_chosen += c->logp;
	m->logp_rejected += j->logp;
	r->chosen_tokens += c->n;
	r->chosen_hits += c->hits;
}

static void compare_reference(struct pair_run *r, int pair, const struct dpo_pair *p)
{
	double c = fabs(p->pi_c - p->ref_c) / (1 + fabs(p->ref_c));
	double j = fabs(p->pi_r - p->ref_r) / (1 + fabs(p->ref_r));
	double worst = c > j ? c : j;

	if (r->bad < 0 && !(worst <= 1e-4)) {
		r->bad = pair;
		r->bad_by = c > j ? p->pi_c - p->ref_c : p->pi_r - p->ref_r;
	}
}

static void run_pair_pack(struct pair_run *r, int first)
{
	struct trainer *tr = r->tr;
	struct pack *p = &tr->pack;
	struct llama_dropout d = trainer_dropout(tr, r->step);

	llama_forward(tr->llama, p, r->check_only ? NULL : &d, tr->logp, tr->hit);
	for (int s = 0; s < p->n_seqs; s += 2) {
		const struct train_pair *q = &r->pairs[first + s / 2];
		struct seq_sums c = trainer_sums(p, tr->logp, tr->hit, s);
		struct seq_sums j = trainer_sums(p, tr->logp, tr->hit, s + 1);
		struct dpo_pair in = {c.logp, j.logp, q->ref_chosen, q->ref_rejected, c.n, j.n};
		struct dpo_result res = dpo_loss(&tr->o.dpo, &in);

		if (r->check_only) {
			compare_reference(r, first + s / 2, &in);
			continue;
		}
		add_metrics(r, &res, &c, &j);
		trainer_set_g(tr, s, res.d_pi_c / r->n);
		trainer_set_g(tr, s + 1, res.d_pi_r / r->n);
	}
	if (!r->check_only)
		llama_backward(tr->llama, p, &d, tr->g, tr->grads);
	r->out->num_tokens += p->n_tokens;
	pack_clear(p);
}

static void run_pairs(struct pair_run *r)
{
	struct pack *p = &r->tr->pack;
	int budget = p->max_tokens;

	pack_clear(p);
	for (int i = 0, first = 0; i < r->n; i++) {
		const struct train_pair *q = &r->pairs[i];
		int rows =
			pack_rows(q->n_prompt, q->n_chosen) + pack_rows(q->n_prompt, q->n_rejected);

		if (p->n_seqs > 0 && !pack_fits(p, rows, 2)) {
			run_pair_pack(r, first);
			first = i;
		}
		p->max_tokens = rows > budget ? rows : budget;
		pack_add(p, 2 * i, q->prompt, q->n_prompt, q->chosen, q->n_chosen);
		pack_add(p, 2 * i + 1, q->prompt, q->n_prompt, q->rejected, q->n_rejected);
		p->max_tokens = budget;
		if (i == r->n - 1)
			run_pair_pack(r, first);
	}
}

static void average(struct train_metrics *m, int n)
{
	m->loss /= n;
	m->nll_loss /= n;
	m->reward_chosen /= n;
	m->reward_rejected /= n;
	m->margin /= n;
	m->accuracy /= n;
	m->logp_chosen /= n;
	m->logp_rejected /= n;
}

/* Supervised examples mixed in; their weights stand on their own. */
static enum rc run_extra(struct pair_run *r, const struct train_example *ex, int n, struct err *e)
{
	struct example_sums sums;
	double tokens = 0;

	for (int i = 0; i < n; i++) {
		enum rc rc = train_check_sequence(r->tr->m, r->tr->o.max_length, "extra example", i,
						  ex[i].prompt, ex[i].n_prompt, ex[i].response,
						  ex[i].n_response, e);

		if (rc != RC_OK)
			return rc;
		tokens += ex[i].n_response;
	}
	if (n == 0)
		return RC_OK;
	trainer_run_examples(r->tr, ex, n, 2 * r->n, 1 / tokens, r->step, &sums);
	r->out->extra_loss = sums.nll_weighted / tokens;
	r->out->loss += r->out->extra_loss;
	r->out->num_tokens += sums.rows;
	return RC_OK;
}

enum rc trainer_dpo_step(struct trainer *tr, const struct train_pair *pairs, int n,
			 const struct train_example *extra, int n_extra, int step,
			 struct train_metrics *out, struct err *e)
{
	struct pair_run r = {.tr = tr, .pairs = pairs, .n = n, .step = step, .out = out, .bad = -1};
	enum rc rc = check_pairs(tr, pairs, n, e);

	*out = (struct train_metrics){0};
	if (rc != RC_OK)
		return rc;
	trainer_clear_grads(tr);
	run_pairs(&r);
	average(out, n);
	out->mean_token_accuracy = r.chosen_hits / r.chosen_tokens;
	if ((rc = run_extra(&r, extra, n_extra, e)) != RC_OK)
		return rc;
	return trainer_update(tr, step, out, e);
}

enum rc trainer_check_reference(struct trainer *tr, const struct train_pair *pairs, int n,
				struct err *e)
{
	struct train_metrics unused = {0};
	struct pair_run r = {
		.tr = tr, .pairs = pairs, .n = n, .out = &unused, .check_only = true, .bad = -1};
	enum rc rc = check_pairs(tr, pairs, n, e);

	if (rc != RC_OK)
		return rc;
	run_pairs(&r);
	if (r.bad < 0)
		return RC_OK;
	return err_set(
		e, RC_CORRUPT,
		"pair %d: the model differs from its own reference by %g in log-probability; "
		"the loss must start at ln 2 and rewards at 0",
		r.bad, r.bad_by);
}
