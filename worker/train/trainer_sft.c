/* The supervised step. The loss is per token of the whole batch: every micro-batch is scaled by the
 * same sum of weights, known beforehand, so how the batch is cut changes only rounding. */
#include "worker/train/trainer.h"

#include "worker/train/trainer_inner.h"

static void run_pack(struct trainer *tr, const struct train_example *ex, int first, double scale,
		     int step, struct example_sums *sums)
{
	struct pack *p = &tr->pack;
	struct llama_loss loss = {.g = tr->g};

	for (int a = 0; a < p->n_answers; a++)
		for (int i = p->answer[a]; i < p->answer[a + 1]; i++)
			tr->g[i] = (float)(-(double)ex[first + a].weight * scale);
	trainer_run_pack(tr, &loss, step);
	for (int a = 0; a < p->n_answers; a++) {
		struct answer_sums r = train_sums(p, tr->logp, tr->hit, a, 0);

		sums->nll_weighted -= (double)ex[first + a].weight * r.logp;
		sums->targets += r.n;
		sums->hits += r.hits;
		sums->entropy += train_sum(p, tr->entropy, a);
	}
	sums->rows += p->n_tokens;
	pack_clear(p);
}

void trainer_run_examples(struct trainer *tr, const struct train_example *ex, int n, int id0,
			  double scale, int step, struct example_sums *sums)
{
	struct train_share mine = trainer_share(tr, n);
	struct pack *p = &tr->pack;
	int end = mine.from + mine.n;

	*sums = (struct example_sums){0};
	pack_clear(p);
	for (int i = mine.from, first = mine.from; i < end; i++) {
		int rows = pack_rows(ex[i].n_prompt, ex[i].n_response);

		if (train_pack_full(p, tr->budget, rows, 1)) {
			run_pack(tr, ex, first, scale, step, sums);
			first = i;
		}
		pack_add(p, id0 + i, ex[i].prompt, ex[i].n_prompt, ex[i].response,
			 ex[i].n_response);
		if (i == end - 1)
			run_pack(tr, ex, first, scale, step, sums);
	}
	trainer_add_up(tr, (double *)sums, sizeof *sums / sizeof(double));
}

enum rc trainer_sft_step(struct trainer *tr, const struct train_example *ex, int n, int step,
			 struct train_metrics *out, struct err *e)
{
	struct example_sums sums;
	double weights = 0;
	enum rc rc;

	*out = (struct train_metrics){0};
	for (int i = 0; i < n; i++) {
		rc = train_check_sequence(tr->m, tr->o.max_length, "example", i, ex[i].prompt,
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
	tr->fresh = true;
	trainer_run_examples(tr, ex, n, 0, 1 / weights, step, &sums);
	if ((rc = trainer_fault(tr, e)) != RC_OK)
		return rc;
	out->loss = sums.nll_weighted / weights;
	out->num_tokens = sums.rows;
	out->mean_token_accuracy = sums.hits / sums.targets;
	out->entropy = sums.entropy / sums.targets;
	return trainer_update(tr, step, out, e);
}
