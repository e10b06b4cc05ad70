/* The decoder over packed sequences, forward and backward, for training and for log-probabilities.
 *
 * Sequences lie end to end without padding (cu marks their bounds). Each row may have a target: the
 * token that should come next. Only those rows reach the output head, whose logits are never kept.
 * Knows nothing of losses: the caller turns log-probabilities into dL/dlogp per row.
 *
 * A token's log-probability has the same bits whatever else is in the pack. Generation with a
 * key/value cache is a body of its own: see infer.h.
 */
#pragma once

#include "base/err.h"
#include "kernels/kernels.h"
#include "worker/model/model.h"

#include <stdbool.h>
#include <stdint.h>

struct pack {
	int n_tokens, n_seqs;
	int max_tokens, max_seqs;
	int32_t *ids, *pos; /* [T] owned */
	int32_t *target;    /* [T] owned; token to be predicted at this row, or -1 */
	int32_t *cu;	    /* [n_seqs + 1] owned */
	int32_t *seq_id;    /* [n_seqs] owned; names the sequence for dropout */
};

enum rc pack_new(int max_tokens, int max_seqs, struct pack *p, struct err *e);
void pack_release(struct pack *p);
void pack_clear(struct pack *p);
bool pack_fits(const struct pack *p, int n_tokens, int n_seqs);
/* Appends prompt + response; rows that predict a response token get a target. The last response
 * token is predicted but not fed: n_prompt + n_response - 1 rows. Both must be at least 1. */
void pack_add(struct pack *p, int32_t seq_id, const int32_t *prompt, int n_prompt,
	      const int32_t *response, int n_response);
/* Rows that pack_add() appends, and the first of them with a target. */
static inline int pack_rows(int n_prompt, int n_response)
{
	return n_prompt + n_response - 1;
}

struct llama_opts {
	int max_tokens;	   /* rows of the largest pack */
	int max_pos;	   /* longest sequence; 0: max_tokens */
	bool forward_only; /* no gradients will be asked for */
	bool recompute;	   /* keep layer inputs only; each layer runs again on the way back */
};

/* Off when p is 0. The same key gives the same masks on the way back. */
struct llama_dropout {
	float p;
	uint32_t key[2];
};

struct llama;

/* Borrows model, kernels and pool. Refuses with the arithmetic when memory is short. */
enum rc llama_new(const struct model *m, const struct kern *k, struct kern_pool *pool,
		  const struct llama_opts *o, struct llama **out, struct err *e);
void llama_free(struct llama *l);

/* logp[t] of the target of row t, 0 without one; hit[t] (or NULL) 1 when it is the likeliest. */
void llama_forward(struct llama *l, const struct pack *p, const struct llama_dropout *d,
		   float *logp, uint8_t *hit);
/* After llama_forward() of the same pack: adds the gradient to `grads` (a slab like the model's).
 * g[t] = dL/dlogp[t]; ignored for rows without a target. */
void llama_backward(struct llama *l, const struct pack *p, const struct llama_dropout *d,
		    const float *g, float *grads);
/* Both at once, when g does not depend on logp: the head runs once. */
void llama_forward_backward(struct llama *l, const struct pack *p, const struct llama_dropout *d,
			    const float *g, float *grads, float *logp, uint8_t *hit);
/* Logits of every row, [T][V] "="; for tests and small tools. */
void llama_logits(struct llama *l, const struct pack *p, float *logits);
