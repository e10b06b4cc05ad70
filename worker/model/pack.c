/* Builds packs of sequences. */
#include "worker/model/llama.h"

#include "base/check.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum rc pack_new(int max_tokens, int max_seqs, struct pack *p, struct err *e)
{
	size_t n = (size_t)max_tokens;

	if (max_tokens < 1 || max_seqs < 1)
		return err_set(e, RC_INVALID, "a pack of %d tokens in %d sequences is impossible",
			       max_tokens, max_seqs);
	*p = (struct pack){.max_tokens = max_tokens, .max_seqs = max_seqs};
	p->ids = mem_array(n, sizeof *p->ids);
	p->pos = mem_array(n, sizeof *p->pos);
	p->target = mem_array(n, sizeof *p->target);
	p->cu = mem_array((size_t)max_seqs + 1, sizeof *p->cu);
	p->seq_id = mem_array((size_t)max_seqs, sizeof *p->seq_id);
	return RC_OK;
}

void pack_release(struct pack *p)
{
	free(p->ids);
	free(p->pos);
	free(p->target);
	free(p->cu);
	free(p->seq_id);
	*p = (struct pack){0};
}

void pack_clear(struct pack *p)
{
	p->n_tokens = 0;
	p->n_seqs = 0;
}

bool pack_fits(const struct pack *p, int n_tokens, int n_seqs)
{
	return p->n_tokens + n_tokens <= p->max_tokens && p->n_seqs + n_seqs <= p->max_seqs;
}

void pack_add(struct pack *p, int32_t seq_id, const int32_t *prompt, int n_prompt,
	      const int32_t *response, int n_response)
{
	int rows = pack_rows(n_prompt, n_response), at = p->n_tokens;

	ASSERT(n_prompt >= 1 && n_response >= 1);
	ASSERT(pack_fits(p, rows, 1));
	memcpy(p->ids + at, prompt, (size_t)n_prompt * sizeof *prompt);
	memcpy(p->ids + at + n_prompt, response, (size_t)(n_response - 1) * sizeof *response);
	for (int i = 0; i < rows; i++) {
		p->pos[at + i] = i;
		p->target[at + i] = i < n_prompt - 1 ? -1 : response[i - n_prompt + 1];
	}
	p->cu[p->n_seqs] = at;
	p->seq_id[p->n_seqs++] = seq_id;
	p->n_tokens = at + rows;
	p->cu[p->n_seqs] = p->n_tokens;
}
