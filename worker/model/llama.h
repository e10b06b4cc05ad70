/* The decoder over packed sequences, forward and backward, for training and for log-probabilities.
 *
 * Sequences lie end to end without padding (cu marks their bounds). A pack lists targets: a row and
 * the token that should come next there. Only those rows reach the output head, whose logits are
 * not kept beyond the answers being worked on. Knows nothing of losses: the caller turns the
 * log-probabilities of whole answers into dL/dlogp per target.
 *
 * A target's log-probability has the same bits whatever else is in the pack. Generation with a
 * key/value cache is a body of its own: see infer.h.
 */
#pragma once

#include "base/err.h"
#include "kernels/collective.h"
#include "kernels/kernels.h"
#include "worker/model/lora.h"
#include "worker/model/model.h"

#include <stdbool.h>
#include <stdint.h>

struct weights;

/* A preference pair is one sequence with two endings, prompt | chosen | rejected: the rejected rows
 * do not see the chosen ones and their positions follow the prompt. The last row of the prompt has
 * two targets. */
struct pack {
	int n_tokens, n_seqs, n_targets, n_answers;
	int max_tokens, max_seqs;
	int n_pos;	       /* one more than the largest position */
	bool forked;	       /* some sequence has two endings */
	int32_t *ids, *pos;    /* [T] owned */
	int32_t *cu;	       /* [n_seqs + 1] owned */
	int32_t *fork;	       /* [n_seqs][2] owned; as in kern_attn */
	int32_t *seq_id;       /* [n_seqs] owned; names the sequence for dropout */
	int32_t *row, *target; /* [n_targets] owned; the row, the token to be predicted there */
	int32_t *answer;       /* [n_answers + 1] owned; bounds of each response's targets */
};

enum rc pack_new(int max_tokens, int max_seqs, struct pack *p, struct err *e);
void pack_release(struct pack *p);
void pack_clear(struct pack *p);
bool pack_fits(const struct pack *p, int n_tokens, int n_seqs);
/* Appends prompt + response, one answer. The last response token is predicted but not fed. Both
 * must be at least 1. */
void pack_add(struct pack *p, int32_t seq_id, const int32_t *prompt, int n_prompt,
	      const int32_t *response, int n_response);
/* Appends prompt | chosen | rejected as one sequence, two answers. All must be at least 1. */
void pack_add_pair(struct pack *p, int32_t seq_id, const int32_t *prompt, int n_prompt,
		   const int32_t *chosen, int n_chosen, const int32_t *rejected, int n_rejected);
/* Rows that pack_add() and pack_add_pair() append. */
static inline int pack_rows(int n_prompt, int n_response)
{
	return n_prompt + n_response - 1;
}
static inline int pack_pair_rows(int n_prompt, int n_chosen, int n_rejected)
{
	return n_prompt + n_chosen - 1 + n_rejected - 1;
}
/* Targets of the fullest pack: a pair has one target more than rows at most. */
static inline int pack_targets_max(int max_tokens, int max_seqs)
{
	return max_tokens + max_seqs;
}

/* Where the numbers lie that change between passes: slabs in the back end's memory, laid out like
 * the model's and the adapter's, borrowed. `work` are the factors of products in the table's `act`,
 * `master` floats. All NULL: on a table whose memory is the program's the model's and the adapter's
 * own floats are read where they are, elsewhere a copy is made by llama_new() and never changes. */
struct llama_where {
	const void *work;
	const float *master;
	const void *lora;	    /* in `act` */
	const struct weights *base; /* frozen, for WEIGHTS_TRAIN, in place of work and master; the
				       model may be a mere layout then */
};

struct llama_opts {
	int max_tokens;		 /* rows of the largest pack */
	int max_targets;	 /* targets of the largest pack; 0: max_tokens */
	int max_pos;		 /* longest sequence; 0: max_tokens */
	bool forward_only;	 /* no gradients will be asked for */
	bool recompute;		 /* keep layer inputs only; each layer runs again on the way back */
	enum kern_format format; /* of the factors of products with weights: F32 or BF16 */
	const struct lora *lora; /* borrowed, or NULL. With it the model is frozen: the gradients
				  * are those of the adapter */
	struct llama_where at;
	/* Of the ranks that hold the model together: `m` is this rank's part (shard.h), and all of them
	 * call the functions below with the same packs. Borrowed; NULL: alone. Ask coll_fault() before
	 * results are used. */
	struct coll *coll;
};

/* Of the residual branches; off when p is 0. An adapter has a probability of its own, with the same
 * key. The same key gives the same masks on the way back. */
struct llama_dropout {
	float p;
	uint32_t key[2];
};

struct llama;

/* What llama_new() takes: for the rows of a pack, and for the output head's. */
struct llama_bytes {
	size_t body, head;
	int softmax_rows; /* of the head that are worked on at a time */
};
struct llama_bytes llama_size(const struct model *m, const struct kern *k,
			      const struct llama_opts *o);
/* Borrows model, kernels and pool. Refuses with the arithmetic when memory is short. */
enum rc llama_new(const struct model *m, const struct kern *k, struct kern_pool *pool,
		  const struct llama_opts *o, struct llama **out, struct err *e);
void llama_free(struct llama *l);

/* Where the slope of the loss in each target's log-probability comes from. */
struct llama_loss {
	const float *g; /* [n_targets], the program's: dL/dlogp if known beforehand, or NULL */
	/* Fills g of the targets of answers [from, to) once their logp and hit are there. All three
	 * arrays are of the whole pack. */
	void (*slopes)(void *ctx, const struct pack *p, int from, int to, const float *logp,
		       const uint8_t *hit, float *g);
	void *ctx;
	int unit; /* answers that slopes() needs together: 2 for pairs */
};

/* logp[i] of target i; hit[i] 1 when it is the likeliest. Both [n_targets], the program's. */
void llama_forward(struct llama *l, const struct pack *p, const struct llama_dropout *d,
		   float *logp, uint8_t *hit);
/* Forward and backward. `grads` is a slab like the model's in the back end's memory: the gradient is
 * added to it with `acc`, else it is the gradient of this pack alone, gaps left as they are. With an
 * adapter the slab is like the adapter's. */
void llama_train(struct llama *l, const struct pack *p, const struct llama_dropout *d,
		 const struct llama_loss *loss, float *grads, bool acc, float *logp, uint8_t *hit);
/* Of the first n targets of the pack that llama_train() took last: the entropy of the softmax in
 * nats, and the mean logit. Both [n], the program's; NaN where the back end does not say. */
void llama_spread(struct llama *l, int n, float *entropy, float *logit);
/* Logits of every row, [T][V] "=", the program's; for tests and small tools. */
enum rc llama_logits(struct llama *l, const struct pack *p, float *logits, struct err *e);
