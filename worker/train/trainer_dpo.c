/* The preference step. A pair is two answers of one pack; whole pairs make up a micro-batch,
 * because the gradient of each needs the log-probability of both. */
#include "worker/train/trainer.h"

#include "worker/train/trainer_inner.h"

#include <math.h>

struct pair_run {
	struct trainer *tr;
	const struct train_pair *pairs;
	int n, first;		   /* pairs in all, first of the pack */
	struct train_metrics *out; /* sums until the end */
	double chosen_tokens, chosen_hits, rejected_tokens;
	int bad; /* first pair whose policy and reference differ, or -1 */
	double bad_by;
};

static enum rc check_pairs(const struct trainer *tr, const struct train_pair *p, int n,
			   struct err *e)
{
	if (n < 1)
		return err_set(e, RC_INVALID, "a preference step needs at least one pair");
	if (!tr->o.pairs)
		return err_set(e, RC_INVALID, "this trainer was made for supervised steps only");
	for (int i = 0; i < n; i++) {
		enum rc rc = train_check_pair(tr->m, tr->o.max_length, i, &p[i], e);

		if (rc != RC_OK)
			return rc;
		if (!(p[i].doubt >= 0 && p[i].doubt <= 0.5))
			return err_set(e, RC_INVALID, "pair %d: doubt %g, expected 0 to 0.5", i,
				       p[i].doubt);
		if (!isfinite(p[i].ref_chosen) || !isfinite(p[i].ref_rejected))
			return err_set(e, RC_INVALID,
				       "pair %d: reference log-probability is not finite", i);
	}
	return RC_OK;
}

/* The log-probabilities of pair i, the answers a and a + 1 of the pack. */
static struct dpo_pair read_pair(const struct pair_run *r, const struct pack *p, int a,
				 const struct train_pair *q, const float *logp, const uint8_t *hit,
				 struct answer_sums *c)
{
	double alpha = r->tr->o.dpo.ld_alpha;
	struct answer_sums j = train_sums(p, logp, hit, a + 1, train_common(q));

	*c = train_sums(p, logp, hit, a, train_common(q));
	return (struct dpo_pair){.pi_c = dpo_weighted(alpha, c->logp, c->tail),
				 .pi_r = dpo_weighted(alpha, j.logp, j.tail),
				 .ref_c = q->ref_chosen,
				 .ref_r = q->ref_rejected,
				 .len_c = q->n_chosen,
				 .len_r = q->n_rejected,
				 .all_c = c->logp};
}

static void add_metrics(struct pair_run *r, const struct dpo_pair *p, const struct dpo_result *d,
			const struct answer_sums *c)
{
	struct train_metrics *m = r->out;

	m->loss += d->loss + r->tr->o.dpo.nll_coef * d->nll;
	m->nll_loss += d->nll;
	m->reward_chosen += d->reward_c;
	m->reward_rejected += d->reward_r;
	m->margin += d->reward_c - d->reward_r;
	m->accuracy += d->reward_c > d->reward_r;
	m->logp_chosen += p->pi_c;
	m->logp_rejected += p->pi_r;
	r->chosen_tokens += c->n;
	r->chosen_hits += c->hits;
}

/* dL/dlogp of the targets of an answer: `slope` for the first `head`, less for those after it. */
static void set_slopes(const struct pack *p, int answer, int head, double slope, double alpha,
		       double for_all, float *g)
{
	int from = p->answer[answer], to = p->answer[answer + 1];

	for (int i = from; i < to; i++)
		g[i] = (float)((i - from < head ? slope : alpha * slope) + for_all);
}

static void pair_slopes(void *ctx, const struct pack *p, int from, int to, const float *logp,
			const uint8_t *hit, float *g)
{
	struct pair_run *r = ctx;
	const struct dpo_settings *s = &r->tr->o.dpo;

	for (int a = from; a < to; a += 2) {
		const struct train_pair *q = &r->pairs[r->first + a / 2];
		struct answer_sums c;
		struct dpo_pair in = read_pair(r, p, a, q, logp, hit, &c);
		struct dpo_settings own = *s;
		if (q->doubt > 0)
			own.label_smoothing = q->doubt;
		struct dpo_result d = dpo_loss(&own, &in);
		int head = train_common(q);

		add_metrics(r, &in, &d, &c);
		set_slopes(p, a, head, d.d_pi_c / r->n, s->ld_alpha, d.d_all_c / r->n, g);
		set_slopes(p, a + 1, head, d.d_pi_r / r->n, s->ld_alpha, 0, g);
	}
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

/* Entropy and mean logits of both answers of every pair. */
static void add_spread(struct pair_run *r, const struct pack *p)
{
	const struct trainer *tr = r->tr;
	struct train_metrics *m = r->out;

	for (int a = 0; a < p->n_answers; a += 2) {
		m->logit_chosen += train_sum(p, tr->logit, a);
		m->logit_rejected += train_sum(p, tr->logit, a + 1);
		m->entropy += train_sum(p, tr->entropy, a) + train_sum(p, tr->entropy, a + 1);
		r->rejected_tokens += p->answer[a + 2] - p->answer[a + 1];
	}
}

static void train_pack(struct pair_run *r, int step)
{
	struct trainer *tr = r->tr;
	struct llama_loss loss = {.slopes = pair_slopes, .ctx = r, .unit = 2};

	trainer_run_pack(tr, &loss, step);
	r->out->num_tokens += tr->pack.n_tokens;
	add_spread(r, &tr->pack);
}

static void check_pack(struct pair_run *r, int step)
{
	struct trainer *tr = r->tr;
	struct pack *p = &tr->pack;

	(void)step;
	llama_forward(tr->llama, p, NULL, tr->logp, tr->hit);
	for (int a = 0; a < p->n_answers; a += 2) {
		int i = r->first + a / 2;
		struct answer_sums c;
		struct dpo_pair in = read_pair(r, p, a, &r->pairs[i], tr->logp, tr->hit, &c);

		compare_reference(r, i, &in);
	}
}

static void run_pairs(struct pair_run *r, void (*run)(struct pair_run *, int), int step)
{
	struct trainer *tr = r->tr;
	struct train_share mine = trainer_share(tr, r->n);
	struct pack *p = &tr->pack;

	pack_clear(p);
	for (int i = mine.from; i < mine.from + mine.n; i++) {
		const struct train_pair *q = &r->pairs[i];

		if (train_pack_full(p, tr->budget, train_pair_rows(q, tr->fork), 2)) {
			run(r, step);
			pack_clear(p);
		}
		r->first = p->n_seqs == 0 ? i : r->first;
		train_add_pair(p, i, q, tr->fork);
		r->out->tokens_saved += tr->fork ? q->n_prompt : 0;
	}
	if (p->n_seqs > 0)
		run(r, step);
	pack_clear(p);
}

/* The figures of all ranks. */
static void add_up(struct pair_run *r)
{
	struct train_metrics *m = r->out;
	double *const sums[] = {&m->loss,	   &m->nll_loss,      &m->reward_chosen,
				&m->reward_rejected, &m->margin,    &m->accuracy,
				&m->logp_chosen,   &m->logp_rejected, &m->num_tokens,
				&m->tokens_saved,  &m->logit_chosen, &m->logit_rejected, &m->entropy,
				&r->chosen_tokens, &r->chosen_hits, &r->rejected_tokens};
	double x[sizeof sums / sizeof *sums];

	for (size_t i = 0; i < sizeof x / sizeof *x; i++)
		x[i] = *sums[i];
	trainer_add_up(r->tr, x, sizeof x / sizeof *x);
	for (size_t i = 0; i < sizeof x / sizeof *x; i++)
		*sums[i] = x[i];
}

static void average(const struct pair_run *r)
{
	struct train_metrics *m = r->out;
	int n = r->n;

	m->loss /= n;
	m->nll_loss /= n;
	m->reward_chosen /= n;
	m->reward_rejected /= n;
	m->margin /= n;
	m->accuracy /= n;
	m->logp_chosen /= n;
	m->logp_rejected /= n;
	m->mean_token_accuracy = r->chosen_hits / r->chosen_tokens;
	m->logit_chosen /= r->chosen_tokens;
	m->logit_rejected /= r->rejected_tokens;
	m->entropy /= r->chosen_tokens + r->rejected_tokens;
}

/* Supervised examples mixed in; their weights stand on their own. */
static enum rc run_extra(struct pair_run *r, const struct train_example *ex, int n, int step,
			 struct err *e)
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
	trainer_run_examples(r->tr, ex, n, 2 * r->n, 1 / tokens, step, &sums);
	r->out->extra_loss = sums.nll_weighted / tokens;
	r->out->loss += r->out->extra_loss;
	r->out->num_tokens += sums.rows;
	return RC_OK;
}

enum rc trainer_dpo_step(struct trainer *tr, const struct train_pair *pairs, int n,
			 const struct train_example *extra, int n_extra, int step,
			 struct train_metrics *out, struct err *e)
{
	struct pair_run r = {.tr = tr, .pairs = pairs, .n = n, .out = out, .bad = -1};
	enum rc rc = check_pairs(tr, pairs, n, e);

	*out = (struct train_metrics){0};
	if (rc != RC_OK)
		return rc;
	tr->fresh = true;
	run_pairs(&r, train_pack, step);
	add_up(&r);
	if ((rc = trainer_fault(tr, e)) != RC_OK)
		return rc;
	average(&r);
	if ((rc = run_extra(&r, extra, n_extra, step, e)) != RC_OK)
		return rc;
	return trainer_update(tr, step, out, e);
}

enum rc trainer_check_reference(struct trainer *tr, const struct train_pair *pairs, int n,
				struct err *e)
{
	struct train_metrics unused = {0};
	struct pair_run r = {.tr = tr, .pairs = pairs, .n = n, .out = &unused, .bad = -1};
	enum rc rc = check_pairs(tr, pairs, n, e);

	if (rc != RC_OK)
		return rc;
	run_pairs(&r, check_pack, 0);
	if (r.bad < 0)
		return RC_OK;
	return err_set(
		e, RC_CORRUPT,
		"pair %d: the model differs from its own reference by %g in log-probability; "
		"the loss must start at ln 2 and rewards at 0",
		r.bad, r.bad_by);
}
