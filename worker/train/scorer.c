#include "worker/train/scorer.h"

#include "base/mem.h"
#include "worker/model/mirror.h"
#include "worker/model/shard.h"
#include "worker/train/trainer_inner.h"

#include <math.h>
#include <stdlib.h>

struct scorer {
	const struct model *m;
	const struct kern *kern;
	struct kern_pool *pool;
	struct scorer_opts o;
	struct llama *llama; /* owned */
	struct weights base; /* owned; of a model kept as 8 bits */
	struct pack pack;    /* owned */
	int budget;
	bool fork;
	float *logp;  /* owned; one per target of the pack */
	uint8_t *hit; /* owned */
};

enum rc scorer_new(const struct model *m, const struct kern *k, struct kern_pool *pool,
		   const struct scorer_opts *o, struct scorer **out, struct err *e)
{
	struct scorer *sc = mem_new(sizeof *sc);
	struct llama_opts lo = {
		.forward_only = true, .max_pos = o->max_length, .format = o->format, .coll = o->tensor};
	enum rc rc;

	*sc = (struct scorer){.m = m, .kern = k, .pool = pool, .o = *o};
	sc->budget = o->micro_tokens > 0 ? o->micro_tokens : TRAIN_MICRO_TOKENS;
	sc->fork = train_can_fork(m, o->max_length);
	lo.max_tokens = train_pack_rows(sc->budget, o->max_length, true);
	lo.max_targets = pack_targets_max(lo.max_tokens, TRAIN_SEQS_PER_PACK);
	sc->logp = mem_array((size_t)lo.max_targets, sizeof *sc->logp);
	sc->hit = mem_array((size_t)lo.max_targets, sizeof *sc->hit);
	if (o->base == TRAIN_BASE_Q8) {
		rc = weights_bring(&sc->base, m, k, pool, KERN_Q8, WEIGHTS_TRAIN, e);
		lo.at.base = &sc->base;
		if (rc != RC_OK)
			goto out;
	}
	if ((rc = llama_new(m, k, pool, &lo, &sc->llama, e)) != RC_OK ||
	    (rc = pack_new(lo.max_tokens, TRAIN_SEQS_PER_PACK, &sc->pack, e)) != RC_OK)
		goto out;
	*out = sc;
	sc = NULL;
out:
	scorer_free(sc);
	return rc;
}

void scorer_free(struct scorer *sc)
{
	if (!sc)
		return;
	llama_free(sc->llama);
	weights_release(&sc->base);
	pack_release(&sc->pack);
	free(sc->logp);
	free(sc->hit);
	free(sc);
}

static enum rc check_scores(const struct scorer *sc, const double *x, int n, const char *what,
			    int per, struct err *e)
{
	enum rc rc = mirror_fault(sc->kern, sc->pool, e);

	if (rc == RC_OK)
		rc = shard_fault(sc->o.tensor, e);

	if (rc != RC_OK)
		return rc;
	for (int i = 0; i < n; i++)
		if (!isfinite(x[i]))
			return err_set(e, RC_INVALID, "%s %d: log-probability is not finite", what,
				       i / per);
	return RC_OK;
}

/* Runs the pack of the given pairs, or of examples (NULL). */
static void score_pack(struct scorer *sc, const struct train_pair *pairs, double *out)
{
	struct pack *p = &sc->pack;

	llama_forward(sc->llama, p, NULL, sc->logp, sc->hit);
	for (int a = 0; a < p->n_answers; a++) {
		int head = pairs ? train_common(&pairs[a / 2]) : 0;
		struct answer_sums r = train_sums(p, sc->logp, sc->hit, a, head);

		out[a] = pairs ? dpo_weighted(sc->o.ld_alpha, r.logp, r.tail) : r.logp;
	}
	pack_clear(p);
}

enum rc scorer_examples(struct scorer *sc, const struct train_example *ex, int n, double *out,
			struct err *e)
{
	struct pack *p = &sc->pack;
	int first = 0;

	pack_clear(p);
	for (int i = 0; i < n; i++) {
		int rows = pack_rows(ex[i].n_prompt, ex[i].n_response);
		enum rc rc =
			train_check_sequence(sc->m, sc->o.max_length, "sequence", i, ex[i].prompt,
					     ex[i].n_prompt, ex[i].response, ex[i].n_response, e);

		if (rc != RC_OK)
			return rc;
		if (train_pack_full(p, sc->budget, rows, 1)) {
			score_pack(sc, NULL, out + first);
			first = i;
		}
		pack_add(p, i, ex[i].prompt, ex[i].n_prompt, ex[i].response, ex[i].n_response);
	}
	if (p->n_seqs > 0)
		score_pack(sc, NULL, out + first);
	return check_scores(sc, out, n, "sequence", 1, e);
}

enum rc scorer_pairs(struct scorer *sc, const struct train_pair *pairs, int n, double *out,
		     struct err *e)
{
	struct pack *p = &sc->pack;
	int first = 0;

	pack_clear(p);
	for (int i = 0; i < n; i++) {
		enum rc rc = train_check_pair(sc->m, sc->o.max_length, i, &pairs[i], e);

		if (rc != RC_OK)
			return rc;
		if (train_pack_full(p, sc->budget, train_pair_rows(&pairs[i], sc->fork), 2)) {
			score_pack(sc, pairs + first, out + 2 * first);
			first = i;
		}
		train_add_pair(p, i, &pairs[i], sc->fork);
	}
	if (p->n_seqs > 0)
		score_pack(sc, pairs + first, out + 2 * first);
	return check_scores(sc, out, 2 * n, "pair", 2, e);
}
