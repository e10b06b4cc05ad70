/* What the files of the trainer share; nobody else includes this. */
#pragma once

#include "worker/model/llama.h"
#include "worker/model/weights.h"
#include "worker/train/trainer.h"

#define TRAIN_SEQS_PER_PACK 256

/* What is trained: the model's weights or an adapter's. */
struct param_set {
	float *params; /* borrowed; the program's */
	size_t n;      /* floats in the slab */
	const struct tensor_ref *tensors;
	int n_tensors;
};

struct trainer {
	struct model *m;
	struct param_set set;
	const struct kern *k;
	struct kern_pool *pool;
	struct train_opts o;
	struct llama *llama; /* owned */
	struct pack pack;    /* owned */
	int budget;	     /* rows of a micro-batch; a longer sequence or pair goes alone */
	bool fork;	     /* pairs share their prompt; not with a window that they outgrow */
	bool copying;	     /* what a step changes is being copied beside it */
	bool fresh;	     /* the gradient of this step has not begun: the next pack writes it */
	/* Like the set's slab, in the back end's memory; of the moments what this rank keeps. */
	char *optimizer; /* owned; the three lie in it */
	float *grads, *adam_m, *adam_v;
	struct coll_span own;	/* of the slab: whose moments are here; all of it without `data` ranks */
	float *master;		/* the set's own where memory is the program's */
	void *work;		/* what products read; the master where `act` is F32 */
	struct weights base;	/* of a frozen model that is packed */
	float *logp, *g;	/* owned, the program's; one per target of the pack */
	float *entropy, *logit; /* likewise, of the last pack */
	uint8_t *hit;		/* owned, likewise */
	struct kern_adamw *updates; /* owned; [set.n_tensors], of the step at work */
	int64_t adam_steps;
};

/* --- Packs of sequences and of pairs ---------------------------------------------------------- */

/* Rows of the largest pack: `budget`, or one pair (sequence) of the longest kind. */
int train_pack_rows(int budget, int max_length, bool pairs);
/* The decoder that such a trainer makes. */
struct llama_opts train_llama_opts(const struct train_opts *o);
/* The format of packed frozen weights; false when they are not packed. */
bool train_base_format(const struct train_opts *o, const struct kern *k, enum kern_format *f);
/* False where the model's attention window is shorter than a sequence can be. */
bool train_can_fork(const struct model *m, int max_length);
int train_pair_rows(const struct train_pair *q, bool fork);
/* Two answers: one forked sequence named 2i, or two named 2i and 2i + 1. */
void train_add_pair(struct pack *p, int i, const struct train_pair *q, bool fork);
/* True when `rows` more in `seqs` sequences must wait for the next pack. */
bool train_pack_full(const struct pack *p, int budget, int rows, int seqs);

/* Sums over the targets of an answer. */
struct answer_sums {
	double logp; /* of all */
	double tail; /* of those from `head` on */
	int n, hits;
};
struct answer_sums train_sums(const struct pack *p, const float *logp, const uint8_t *hit,
			      int answer, int head);
/* Tokens of the shorter response: those after it count ld_alpha times. */
static inline int train_common(const struct train_pair *q)
{
	return q->n_chosen < q->n_rejected ? q->n_chosen : q->n_rejected;
}
/* Sum of x over the targets of an answer. */
double train_sum(const struct pack *p, const float *x, int answer);
/* Refuses ids outside the vocabulary, empty parts, sequences over `max_length`. */
enum rc train_check_sequence(const struct model *m, int max_length, const char *what, int index,
			     const int32_t *prompt, int n_prompt, const int32_t *response,
			     int n_response, struct err *e);
enum rc train_check_pair(const struct model *m, int max_length, int index,
			 const struct train_pair *q, struct err *e);

/* --- Steps ------------------------------------------------------------------------------------ */

struct llama_dropout trainer_dropout(const struct trainer *tr, int step);
/* Forward and backward of the pack as it stands; logp, hit, entropy and logit are filled. */
void trainer_run_pack(struct trainer *tr, const struct llama_loss *loss, int step);
/* Adds the gradients of weighted examples, scaled: g = -weight * scale. Sequence ids from `id0`. */
struct example_sums {
	double nll_weighted, rows, targets, hits, entropy;
};
void trainer_run_examples(struct trainer *tr, const struct train_example *ex, int n, int id0,
			  double scale, int step, struct example_sums *sums);
/* trainer_ranks.c: everything of several ranks. */
/* The part of n examples (pairs) that this rank takes. */
struct train_share {
	int from, n;
};
struct train_share trainer_share(const struct trainer *tr, int n);
/* Sums over the ranks of `data`, in double. */
void trainer_add_up(struct trainer *tr, double *x, size_t n);
/* What the ranks have of the gradient becomes all of it where they need it; its norm squared. */
double trainer_join_gradients(struct trainer *tr);
/* The ranks' parts of what was updated become everybody's. */
void trainer_spread_update(struct trainer *tr);
/* Returns when a copy that was begun has all it needs: before anything it copies is changed. */
void trainer_copied(struct trainer *tr);
/* Of the back end or of the other ranks. */
enum rc trainer_fault(struct trainer *tr, struct err *e);

/* RC_INVALID with step and, layer by layer, the norms of weights and gradients; logged as well. */
enum rc trainer_not_finite(struct trainer *tr, int step, const char *what, double loss,
			   struct err *e);
/* Clips, checks and applies the summed gradient. */
enum rc trainer_update(struct trainer *tr, int step, struct train_metrics *out, struct err *e);

/* --- Files (train_state.c) --------------------------------------------------------------------- */

/* The files "optimizer" in `dir`: the moments of whole tensors. */
enum rc trainer_write_tensors(const char *dir, const struct tensor_ref *refs, size_t n,
			      const float *m, const float *v, struct err *e);
/* state.json; `shards` 0 where the files have whole tensors, else how many ranks left `parts` files each.
 * `cursor` may be NULL. */
enum rc trainer_write_count(const char *dir, int64_t adam_steps, int shards, int parts,
			    const json_t *cursor, struct err *e);
