/* How sequences and pairs are laid out in packs, and what is summed over their answers; shared by
 * training and scoring, so that both see the same bits. */
#include "worker/train/trainer_inner.h"

int train_pack_rows(int budget, int max_length, bool pairs)
{
	int longest = pairs ? 2 * max_length : max_length;

	return budget < longest ? longest : budget;
}

bool train_can_fork(const struct model *m, int max_length)
{
	return m->cfg.sliding_window <= 0 || m->cfg.sliding_window >= max_length;
}

int train_pair_rows(const struct train_pair *q, bool fork)
{
	if (fork)
		return pack_pair_rows(q->n_prompt, q->n_chosen, q->n_rejected);
	return pack_rows(q->n_prompt, q->n_chosen) + pack_rows(q->n_prompt, q->n_rejected);
}

void train_add_pair(struct pack *p, int i, const struct train_pair *q, bool fork)
{
	if (fork) {
		pack_add_pair(p, 2 * i, q->prompt, q->n_prompt, q->chosen, q->n_chosen, q->rejected,
			      q->n_rejected);
		return;
	}
	pack_add(p, 2 * i, q->prompt, q->n_prompt, q->chosen, q->n_chosen);
	pack_add(p, 2 * i + 1, q->prompt, q->n_prompt, q->rejected, q->n_rejected);
}

bool train_pack_full(const struct pack *p, int budget, int rows, int seqs)
{
	return p->n_seqs > 0 && (p->n_tokens + rows > budget || !pack_fits(p, rows, seqs));
}

struct answer_sums train_sums(const struct pack *p, const float *logp, const uint8_t *hit,
			      int answer, int head)
{
	int from = p->answer[answer], to = p->answer[answer + 1];
	struct answer_sums r = {.n = to - from};

	for (int i = from; i < to; i++) {
		r.logp += (double)logp[i];
		r.hits += hit[i];
		if (i - from >= head)
			r.tail += (double)logp[i];
	}
	return r;
}

double train_sum(const struct pack *p, const float *x, int answer)
{
	double sum = 0;

	for (int i = p->answer[answer]; i < p->answer[answer + 1]; i++)
		sum += (double)x[i];
	return sum;
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

enum rc train_check_pair(const struct model *m, int max_length, int index,
			 const struct train_pair *q, struct err *e)
{
	enum rc rc = train_check_sequence(m, max_length, "chosen of pair", index, q->prompt,
					  q->n_prompt, q->chosen, q->n_chosen, e);

	return rc != RC_OK
		       ? rc
		       : train_check_sequence(m, max_length, "rejected of pair", index, q->prompt,
					      q->n_prompt, q->rejected, q->n_rejected, e);
}
