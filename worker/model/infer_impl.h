/* Inside of generation: what it takes (infer_plan.c), the paged cache (infer_cache.c), one pass of the
 * network over rows of tokens (infer_pass.c), and the scheduler that fills passes (infer.c).
 */
#pragma once

#include "kernels/kernels.h"
#include "worker/model/infer.h"
#include "worker/model/weights.h"

/* --- plan (infer_plan.c) ------------------------------------------------------------------------ */

enum rc plan_opts_check(const struct infer_opts *o, struct err *e);
/* What stands for the zeros of the options. */
struct infer_opts plan_filled(const struct model_config *cfg, const struct kern *kern,
			      const struct infer_opts *o);
enum kern_format plan_cache_format(const struct infer_opts *o);
int plan_blocks(int64_t tokens);
/* Blocks in memory for so many in use. */
int plan_blocks_kept(const struct kern *kern, int n_blocks);
/* Longest sequence that positions and cache allow. */
int plan_context(const struct model_config *cfg, const struct infer_opts *o);
/* Of filled options: says what is needed, refuses with the numbers. */
enum rc plan_check(const struct model_config *cfg, const struct kern *kern, int threads,
		   const struct infer_opts *o, struct err *e);

/* --- cache ------------------------------------------------------------------------------------ */

/* A block holds the keys and values of 16 tokens in every layer. It is free, held by `refs` > 0
 * sequences, or kept: registered as the continuation of a known beginning, refs 0, first to be
 * taken when no block is free. A registered block is full and never written again. */
struct kv_block {
	int refs;
	uint64_t uid, parent; /* uid 0: not registered; parent 0: begins a text */
	int32_t tokens[KERN_PAGE];
	int next_hash;        /* -1 ends */
	int prev, next;       /* list of free blocks, or of kept ones from old to new; -1 ends */
};

struct kv {
	enum kern_format format;
	int n_blocks, n_layers;
	size_t stride;        /* bytes of one block in one layer, keys or values alone */
	const struct kern *kern; /* borrowed, as the pool is */
	struct kern_pool *pool;
	char *k, *v;          /* owned, of the back end; [layer][per_layer][stride] */
	size_t bytes;         /* of each */
	struct kv_block *blocks; /* owned */
	int *buckets;         /* owned; -1 empty */
	uint32_t mask;
	int free, oldest, newest; /* list heads; -1 empty */
	int n_available;      /* free and kept */
	/* Behind them, where passes are recorded, one that is nobody's: for rows that fill a pass up. */
	int32_t spare;
	int per_layer; /* blocks in memory */
	uint64_t last_uid;
};

enum rc kv_init(struct kv *kv, const struct kern *kern, struct kern_pool *pool,
		const struct model_config *cfg, enum kern_format format, int n_blocks, struct err *e);
void kv_release(struct kv *kv);
int kv_take(struct kv *kv); /* refs 1; -1 when every block is held */
void kv_hold(struct kv *kv, int b);
void kv_drop(struct kv *kv, int b);
/* The block that continues `parent` with these 16 tokens, held; -1 when none is known. */
int kv_find(struct kv *kv, uint64_t parent, const int32_t *tokens);
/* Makes `b` findable. Returns the uid of that content, which may be another block's. */
uint64_t kv_register(struct kv *kv, int b, uint64_t parent, const int32_t *tokens);
void kv_copy(struct kv *kv, int to, int from);

/* --- pass ------------------------------------------------------------------------------------- */

/* Side by side in one array, `blocks` last. */
struct pass_lists {
	int32_t *ids, *pos, *n_keys, *first; /* [cap] */
	int32_t *out;                        /* [cap] rows whose logits are wanted */
	int32_t *word;                       /* [cap][2] with ranks: the row, or -1 where the token
					      * is another rank's, and -1 */
	int32_t *blocks;                     /* block numbers, sequence after sequence */
};

/* Rows of one pass; each is one token of some sequence. */
struct pass {
	int n, cap;
	struct pass_lists here, there; /* the same lists in the program and in the back end */
	const int32_t **table; /* [n] block numbers of the row's sequence */
	int n_out, cap_out, n_blocks, most_keys, runs;
	void *x, *xn, *qkv, *att, *gu, *y; /* activations, [cap][...] */
	void *xo;                          /* [cap_out][C] */
	float *logits, *lse;               /* [cap_out][V], [2][cap_out] */
	char *slab;            /* owns all of the activations, in the back end's memory */
	size_t slab_bytes;
	int32_t *lists;        /* owns `here` */
	size_t lists_bytes;
	float *logits_here;    /* owned; the program's copy of some rows, made when first wanted */
};

/* --- scheduler -------------------------------------------------------------------------------- */

enum seq_state {
	SEQ_LATER,  /* waits for the first of its group to have computed the prompt */
	SEQ_QUEUED, /* holds nothing: new, or its blocks were taken away */
	SEQ_ACTIVE, /* holds blocks for tokens [0, n_done) */
	SEQ_DONE,
};

/* One answer in the making. tokens = prompt, then what was drawn. */
struct seq {
	enum seq_state state;
	int req, sample;
	int n_later;       /* of the first of a group: others that wait for it, right behind it */
	int32_t *tokens;   /* owned */
	int n_tokens, n_done;
	int32_t *blocks;   /* owned, full length from the start: passes point into it */
	int n_blocks;
	uint64_t chain;    /* uid of the last full prompt block */
	int n_chained;     /* how many blocks that chain has */
	double logp;
	enum infer_finish finish;
	/* of the current pass */
	int n_rows;        /* the last of its n_done tokens */
	int out;           /* row of logits, -1 none */
};

struct request {
	struct infer_req q; /* prompt and stops owned */
	int first_seq;
};

struct infer {
	struct model_config cfg;
	struct weights weights; /* owned */
	const struct kern *kern; /* borrowed */
	struct kern_pool *pool; /* borrowed */
	struct coll *coll;      /* borrowed, or NULL */
	struct kv kv;
	struct pass pass;
	struct rope_table rope;
	float *cos, *sin; /* rope's, or copies of the back end's */
	bool share;
	int context, max_batch, chunk;
	struct request *reqs; /* owned */
	int n_reqs, cap_reqs;
	struct seq *seqs; /* owned */
	int n_seqs, cap_seqs;
	int n_started;    /* seqs before this one were taken up at least once */
	int *active, n_active; /* owned; oldest first */
	struct seq **order; /* owned; the active ones as they stand in the pass */
	int n_reserved;   /* batch places taken: active ones and those that wait for them */
	int *draws, n_draws; /* owned; sequences that draw from the logits of this pass */
	struct kern_draw *drawn; /* owned; what each of them drew */
	struct infer_stats stats;
};

/* `context`: of the longest sequence, in tokens. */
size_t pass_bytes(const struct model_config *cfg, const struct kern *k, const struct infer_opts *o,
		  int context);
enum rc pass_init(struct infer *f, struct err *e);
void pass_release(struct infer *f);
void pass_add(struct pass *p, int32_t id, int32_t pos, const int32_t *table);
void pass_run(struct infer *f);
/* Normalised hidden states of the rows out[from .. from + n) into xo. */
void pass_hidden(struct infer *f, int from, int n);
/* Their logits. */
void pass_logits(struct infer *f, int from, int n);
/* The first n rows of them in the program's memory, until the next call. */
const float *pass_logits_here(struct infer *f, int n);
