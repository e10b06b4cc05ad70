/* The decoder where several ranks hold a model together (see shard.h): each has some words of the
 * vocabulary, so a row's embedding is one rank's and zeros of the others, and its log-softmax is
 * put together from the largest logit, the log-sum-exp and the target's logit of every rank. */
#include "worker/model/llama_inner.h"

#include <math.h>
#include <string.h>

void llama_sum(struct llama *l, void *x, size_t n)
{
	coll_all_reduce(l->o.coll, x, n, coll_act(l->k), COLL_SUM);
}

/* --- embedding -------------------------------------------------------------------------------- */

void llama_list_words(struct llama *l, const struct pack *p)
{
	struct model_span v = model_vocab_span(&l->m->cfg);
	struct llama_lists *s = &l->here;

	l->n_own = 0;
	for (int t = 0; t < p->n_tokens; t++) {
		int32_t id = p->ids[t] - v.from;
		bool mine = id >= 0 && id < v.n;

		s->word[2 * t] = mine ? id : -1;
		s->word[2 * t + 1] = -1;
		if (mine) {
			s->own_row[l->n_own] = t;
			s->own_id[l->n_own++] = id;
		}
	}
	for (int i = 0; i < p->n_targets; i++) {
		int32_t id = p->target[i] - v.from;

		s->target[i] = id >= 0 && id < v.n ? id : -1;
	}
}

void llama_embed(struct llama *l, const struct pack *p, void *x)
{
	int width = l->m->cfg.dim;

	if (!l->o.coll) {
		l->k->embed(l->pool, x, l->embed, l->there.ids, p->n_tokens, width);
		return;
	}
	l->k->spread(l->pool, x, l->embed, l->there.word, p->n_tokens, width);
	llama_sum(l, x, (size_t)p->n_tokens * (size_t)width);
}

void llama_embed_back(struct llama *l, float *dw, int rows)
{
	int width = l->m->cfg.dim;

	if (!l->o.coll) {
		l->k->embed_back(l->pool, dw, l->dx, l->there.ids, rows, width);
	} else if (l->n_own > 0) {
		l->k->gather(l->pool, l->h, l->dx, l->there.own_row, l->n_own, width);
		l->k->embed_back(l->pool, dw, l->h, l->there.own_id, l->n_own, width);
	}
}

/* --- output head ------------------------------------------------------------------------------ */

/* `agreed` of a row: largest logit and log-sum-exp of any rank; then sums over ranks: their shares, the
 * target's logit, shares times mean logits under them, all logits. */
static bool agree(struct llama *l, int from, int n)
{
	double *most = l->agreed, *sums = l->agreed + 2 * (size_t)n;
	const float *own = l->parts_here, *spread = l->spread_here + 2 * (size_t)from;

	for (int i = 0; i < n; i++) {
		most[2 * i] = (double)own[3 * i];
		most[2 * i + 1] = (double)own[3 * i + 1];
	}
	if (!coll_agree_f64(l->o.coll, most, 2 * (size_t)n, COLL_MAX))
		return false;
	for (int i = 0; i < n; i++) {
		bool mine = l->here.target[from + i] >= 0;
		double lse = (double)own[3 * i + 1];

		sums[4 * i] = exp(lse - most[2 * i + 1]);
		sums[4 * i + 1] = mine ? (double)own[3 * i + 2] : 0;
		sums[4 * i + 2] = sums[4 * i] * (lse - (double)spread[2 * i]);
		sums[4 * i + 3] = (double)spread[2 * i + 1] * l->n_words;
	}
	return coll_agree_f64(l->o.coll, sums, 4 * (size_t)n, COLL_SUM);
}

/* Entropy and mean logit of this rank's words, side by side; zeros where nobody asks. */
static void get_spread(struct llama *l, int from, int n)
{
	float *to = l->spread_here + 2 * (size_t)from, *own = l->fade + from;

	if (!l->entropy)
		return;
	for (int which = 0; which < 2; which++) {
		l->k->get(l->pool, own, (which ? l->logit : l->entropy) + from,
			  (size_t)n * sizeof *own);
		for (int i = 0; i < n; i++)
			to[2 * i + which] = own[i];
	}
}

void llama_head_join(struct llama *l, int from, int to, float *logp, uint8_t *hit)
{
	int n = to - from;
	const double *most = l->agreed, *sums = l->agreed + 2 * (size_t)n;

	l->k->get(l->pool, l->parts_here, l->parts + 3 * (size_t)from,
		  3 * (size_t)n * sizeof *l->parts);
	get_spread(l, from, n);
	if (!agree(l, from, n)) { /* Said by coll_fault(); nobody uses these. */
		memset(logp + from, 0, (size_t)n * sizeof *logp);
		memset(hit + from, 0, (size_t)n);
		return;
	}
	for (int i = 0; i < n; i++) {
		double lse = most[2 * i + 1] + log(sums[4 * i]), mine = sums[4 * i + 1];
		float *spread = l->spread_here + 2 * (size_t)(from + i);

		logp[from + i] = (float)(mine - lse);
		hit[from + i] = mine == most[2 * i];
		l->fade[from + i] = (float)exp((double)l->parts_here[3 * i + 1] - lse);
		spread[0] = (float)(lse - sums[4 * i + 2] / sums[4 * i]);
		spread[1] = (float)(sums[4 * i + 3] / l->m->cfg.vocab);
	}
}

void llama_put_slopes(struct llama *l, const float *g, int from, int to)
{
	size_t n = (size_t)(to - from) * sizeof *g;

	if (!l->o.coll) {
		l->k->put(l->pool, l->g + from, g + from, n);
		return;
	}
	l->k->put(l->pool, l->hot + from, g + from, n);
	for (int i = from; i < to; i++)
		l->fade[i] *= g[i];
	l->k->put(l->pool, l->g + from, l->fade + from, n);
}
