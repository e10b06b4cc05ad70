/* What the forward and the backward half of the decoder share; nobody else includes this. */
#pragma once

#include "worker/model/llama.h"
#include "worker/model/weights.h"

/* The products of a layer: parts with the same input are one product. */
enum llama_product { LLAMA_QKV, LLAMA_OUT, LLAMA_GATE_UP, LLAMA_FFN_OUT };

/* y[rows][out] = x[rows][in] . w^T, w[out][in]. */
struct llama_linear {
	const void *w; /* plain in `act`, or packed */
	size_t grad;   /* offset into the slab of gradients */
	int in, out;
	int layer;
	unsigned parts; /* of enum model_part, in the order of the output's columns */
};

/* Kept by the forward pass of one layer. T rows; Q = (H + 2G) D. `void *` is in `act`. */
struct llama_acts {
	float *r1, *r2; /* [T] 1/rms of the two norms */
	void *qkv;	/* [T][Q] after bias and rotation */
	void *att;	/* [T][H D] */
	float *lse;	/* [H][T] */
	void *mid;	/* [T][C] residual after attention */
	void *gu;	/* [T][2F] gate and up; their gradients on the way back */
};

/* Where the weights of a layer are read. */
struct llama_weights {
	const void *product[4]; /* by enum llama_product */
	const float *norm_attn, *norm_ffn, *bias;
};

/* The lists of a pack, side by side in one array: of the program first, then put as a whole. */
struct llama_lists {
	int32_t *ids, *pos;    /* [T] */
	int32_t *cu, *fork;    /* [T + 1], [2 T]: sequences at most */
	int32_t *row, *target; /* [N] */
	int32_t *from;	       /* [T][2] targets of a row, -1 none: see kern's spread() */
	/* With ranks: rows of the embedding that a token is, -1 where another rank has it, and -1. */
	int32_t *word;		  /* [T][2] */
	int32_t *own_row, *own_id; /* [T] tokens that this rank has, and their rows of it */
};

struct llama {
	const struct model *m;
	const struct kern *k;
	struct kern_pool *pool;
	struct llama_opts o;
	struct rope_table rope;
	float *cos, *sin; /* rope's, or copies of the back end's */
	int q_dim, kv_dim, qkv_dim;

	struct llama_weights *w; /* owned; [n_layers] */
	const void *embed, *head;
	const float *norm_out;
	bool packed; /* the products of the layers are */
	enum kern_format packed_as;
	struct weights own; /* of a frozen model that nobody brought to the back end */
	const void *lora;   /* the adapter's slab in `act` */
	void *own_lora;

	char *slab; /* owned, of the back end; everything below points into it */
	size_t slab_bytes;
	struct llama_acts *acts; /* owned; one per layer, or one in all */
	void **xs;		 /* owned; residual at the entry of each layer and at the end */
	void *h;		 /* [T][C] */
	void *y;		 /* [T][max(F, H D)] */
	struct llama_lists there, here; /* the same lists in the back end and in the program */
	int32_t *lists;			/* owned; `here` points into it */
	size_t lists_bytes;
	/* Head rows, one per target (N of them at most). */
	void *hx, *hn;		/* [N][C] before and after the norm */
	float *rf, *g;		/* [N] 1/rms; slopes */
	float *logp;		/* [N] */
	float *slopes;		/* [N], owned; the program's: g as the loss gives it */
	uint8_t *hit;		/* [N] */
	float *entropy, *logit; /* [N]; not of one that goes forward only */
	float *probs, *sum;	/* [probs_rows][V], [N][2]: the softmax of the answers at work */
	/* With ranks: [N] slopes, [N][3]: see kern_logprob. The others are owned and the program's: of
	 * the targets at work; this rank's share of the softmax, then times the slope; what the ranks
	 * put together, [N][6]. */
	float *hot, *parts;
	float *parts_here, *fade;
	float *spread_here; /* [N][2] entropy and mean logit of targets */
	double *agreed;
	int n_own; /* of own_row */
	int n_targets, probs_rows;
	int n_words;	    /* rows of embedding and head */
	/* Backward only. */
	void *dx;	 /* [T][C] */
	void *dh;	 /* [max(T, N)][C] */
	void *dy;	 /* [T][max(F, H D)] */
	void *dqkv;	 /* [T][Q] */
	void *down, *up; /* with an adapter: [T][3 r] s x A^T, and s dy B on the way back */
	void *dropped;	 /* with an adapter's dropout: [T][max(F, H D, C)] */
	/* Of the call at work; borrowed. */
	const struct pack *pack;
	const struct llama_dropout *drop;
};

/* The n-th activation from p on. */
static inline void *llama_at(const struct llama *l, const void *p, size_t n)
{
	return kern_at(l->k, p, n);
}

/* llama_weights.c: where they are read, copied there if need be. */
enum rc llama_weights_bind(struct llama *l, struct err *e);
void llama_weights_release(struct llama *l);

struct llama_linear llama_linear_of(const struct llama *l, int layer, enum llama_product which);
/* y = x . w^T, or y += with acc. */
void llama_linear(struct llama *l, const struct llama_linear *a, void *y, const void *x, int rows,
		  bool acc);
/* dw (a slab of gradients) = or += dy^T . x, then dx = dy . w. With an adapter dw is a slab like
 * its own, and the weights have no gradient. */
void llama_linear_back(struct llama *l, const struct llama_linear *a, float *dw, void *dx,
		       const void *dy, const void *x, int rows, bool acc);

void *llama_x(struct llama *l, int layer);
struct llama_acts *llama_acts_of(struct llama *l, int layer);
/* x_out may be NULL when only the activations are wanted again. */
void llama_layer_forward(struct llama *l, const struct pack *p, const struct llama_dropout *d,
			 int layer, void *x_out);
/* Brings the pack's lists to the back end, then runs the layers. */
void llama_body_forward(struct llama *l, const struct pack *p, const struct llama_dropout *d);
/* The rows of all targets, normed, side by side for the head. */
void llama_gather_rows(struct llama *l, const struct pack *p);
/* The head's arguments for targets [from, to), forward only; results in l->logp and l->hit. */
struct kern_logprob llama_head_args(struct llama *l, int from, int to);
/* Brings logp and hit of targets [from, to) to the caller's arrays, which begin at target 0. */
void llama_head_results(struct llama *l, int from, int to, float *logp, uint8_t *hit);
/* Site 0: after attention, 1: after the feed-forward part. In place. */
void llama_drop(struct llama *l, const struct pack *p, const struct llama_dropout *d, int layer,
		int site, void *x);
struct kern_attn llama_attn_args(struct llama *l, const struct pack *p, struct llama_acts *a);

/* llama_ranks.c; without ranks llama_sum() does nothing. */
/* x[n] in `act` = sum over ranks. */
void llama_sum(struct llama *l, void *x, size_t n);
/* Fills the lists that only ranks have, and targets as they count them. */
void llama_list_words(struct llama *l, const struct pack *p);
void llama_embed(struct llama *l, const struct pack *p, void *x);
/* dw += gradient of the embedding from l->dx; l->h is overwritten. */
void llama_embed_back(struct llama *l, float *dw, int rows);
/* What every rank found for targets [from, to) becomes logp and hit, as llama_head_results(). */
void llama_head_join(struct llama *l, int from, int to, float *logp, uint8_t *hit);
/* Slopes in targets [from, to) to where the head reads them; once for each llama_head_join(). */
void llama_put_slopes(struct llama *l, const float *g, int from, int to);
