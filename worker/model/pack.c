/* Builds packs of sequences. */
#include "worker/model/llama.h"

#include "base/check.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum rc pack_new(int max_tokens, int max_seqs, struct pack *p, struct err *e)
{
	size_t n = (size_t)max_tokens, seqs = (size_t)max_seqs;

	if (max_tokens < 1 || max_seqs < 1)
		return err_set(e, RC_INVALID, "a pack of %d tokens in %d sequences is impossible",
			       max_tokens, max_seqs);
	*p = (struct pack){.max_tokens = max_tokens, .max_seqs = max_seqs};
	p->ids = mem_array(n, sizeof *p->ids);
	p->pos = mem_array(n, sizeof *p->pos);
	p->cu = mem_array(seqs + 1, sizeof *p->cu);
	p->fork = mem_array(2 * seqs, sizeof *p->fork);
	p->seq_id = mem_array(seqs, sizeof *p->seq_id);
	p->row = mem_array(n + seqs, sizeof *p->row);
	p->target = mem_array(n + seqs, sizeof *p->target);
	p->answer = mem_array(2 * seqs + 1, sizeof *p->answer);
	return RC_OK;
}

void pack_release(struct pack *p)
{
	free(p->ids);
	free(p->pos);
	free(p->cu);
	free(p->fork);
	free(p->seq_id);
	free(p->row);
	free(p->target);
	free(p->answer);
	*p = (struct pack){0};
}

void pack_clear(struct pack *p)
{
	p->n_tokens = 0;
	p->n_seqs = 0;
	p->n_targets = 0;
	p->n_answers = 0;
	p->n_pos = 0;
	p->forked = false;
}

bool pack_fits(const struct pack *p, int n_tokens, int n_seqs)
{
	return p->n_tokens + n_tokens <= p->max_tokens && p->n_seqs + n_seqs <= p->max_seqs;
}

/* Rows at the end, their positions ascending from `pos`. */
static void add_rows(struct pack *p, const int32_t *ids, int n, int pos)
{
	memcpy(p->ids + p->n_tokens, ids, (size_t)n * sizeof *ids);
	for (int i = 0; i < n; i++)
		p->pos[p->n_tokens + i] = pos + i;
	p->n_tokens += n;
	if (pos + n > p->n_pos)
		p->n_pos = pos + n;
}

/* The first token is predicted at row `prompt_end`, the others at the rows from `first` on. */
static void add_answer(struct pack *p, const int32_t *response, int n, int prompt_end, int first)
{
	p->answer[p->n_answers++] = p->n_targets;
	for (int i = 0; i < n; i++) {
		p->row[p->n_targets] = i == 0 ? prompt_end : first + i - 1;
		p->target[p->n_targets++] = response[i];
	}
	p->answer[p->n_answers] = p->n_targets;
}

static void end_sequence(struct pack *p, int32_t seq_id, int start, int fork_from, int fork_to)
{
	p->cu[p->n_seqs] = start;
	p->fork[2 * p->n_seqs] = fork_from;
	p->fork[2 * p->n_seqs + 1] = fork_to;
	p->forked = p->forked || fork_from != fork_to;
	p->seq_id[p->n_seqs++] = seq_id;
	p->cu[p->n_seqs] = p->n_tokens;
}

void pack_add(struct pack *p, int32_t seq_id, const int32_t *prompt, int n_prompt,
	      const int32_t *response, int n_response)
{
	int at = p->n_tokens;

	ASSERT(n_prompt >= 1 && n_response >= 1);
	ASSERT(pack_fits(p, pack_rows(n_prompt, n_response), 1));
	add_rows(p, prompt, n_prompt, 0);
	add_rows(p, response, n_response - 1, n_prompt);
	add_answer(p, response, n_response, at + n_prompt - 1, at + n_prompt);
	end_sequence(p, seq_id, at, 0, 0);
}

void pack_add_pair(struct pack *p, int32_t seq_id, const int32_t *prompt, int n_prompt,
		   const int32_t *chosen, int n_chosen, const int32_t *rejected, int n_rejected)
{
	int at = p->n_tokens, end = at + n_prompt - 1, second;

	ASSERT(n_prompt >= 1 && n_chosen >= 1 && n_rejected >= 1);
	ASSERT(pack_fits(p, pack_pair_rows(n_prompt, n_chosen, n_rejected), 1));
	add_rows(p, prompt, n_prompt, 0);
	add_rows(p, chosen, n_chosen - 1, n_prompt);
	second = p->n_tokens;
	add_rows(p, rejected, n_rejected - 1, n_prompt);
	add_answer(p, chosen, n_chosen, end, at + n_prompt);
	add_answer(p, rejected, n_rejected, end, second);
	end_sequence(p, seq_id, at, n_prompt, second - at);
}
