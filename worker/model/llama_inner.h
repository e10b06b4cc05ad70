/* What the forward and the backward half of the decoder share; nobody else includes this. */
#pragma once

#include "worker/model/llama.h"

/* The products of a layer: parts with the same input are one product. */
enum llama_product { LLAMA_QKV, LLAMA_OUT, LLAMA_GATE_UP, LLAMA_FFN_OUT };

/* y[rows][out] = x[rows][in] . w^T, w[out][in]. */
struct llama_linear {
	size_t w; /* offset into the slab of weights and into that of gradients */
	int in, out;
	int layer;
	unsigned parts; /* of enum model_part, in the order of the output's columns */
};

/* Kept by the forward pass of one layer. T rows; Q = (H + 2G) D. */
struct llama_acts {
	float *r1, *r2; /* [T] 1/rms of the two norms */
	float *qkv;	/* [T][Q] after bias and rotation */
	float *att;	/* [T][H D] */
	float *lse;	/* [H][T] */
	float *mid;	/* [T][C] residual after attention */
	float *gu;	/* [T][2F] gate and up; their gradients on the way back */
};

struct llama {
	const struct model *m;
	const struct kern *k;
	struct kern_pool *pool;
	struct llama_opts o;
	struct rope_table rope;
	int q_dim, kv_dim, qkv_dim;

	float *slab; /* owned; everything below points into it */
	size_t slab_floats;
	struct llama_acts *acts; /* owned; one per layer, or one in all */
	float **xs;		 /* owned; residual at the entry of each layer and at the end */
	float *h;		 /* [T][C] */
	float *y;		 /* [T][max(F, H D)] */
	/* Head rows, one per target (N of them at most). */
	float *hx, *hn, *rf; /* [N][C] before and after the norm, [N] 1/rms */
	float *g;	     /* [N] */
	float *probs, *sum;  /* [probs_rows][V], [N]: the softmax of the answers at work */
	int n_targets, probs_rows;
	/* Backward only. */
	float *dx;	  /* [T][C] */
	float *dh;	  /* [max(T, N)][C] */
	float *dy;	  /* [T][max(F, H D)] */
	float *dqkv;	  /* [T][Q] */
	float *down, *up; /* with an adapter: [T][3 r] s x A^T, and s dy B on the way back */
};

struct llama_linear llama_linear_of(const struct llama *l, int layer, enum llama_product which);
/* y = x . w^T, or y += with acc. */
void llama_linear(struct llama *l, const struct llama_linear *a, float *y, const float *x, int rows,
		  bool acc);
/* dw (a slab of gradients) = or += dy^T . x, then dx = dy . w. With an adapter dw is a slab like
 * its own, and the weights have no gradient. */
void llama_linear_back(struct llama *l, const struct llama_linear *a, float *dw, float *dx,
		       const float *dy, const float *x, int rows, bool acc);

float *llama_x(struct llama *l, int layer);
struct llama_acts *llama_acts_of(struct llama *l, int layer);
/* x_out may be NULL when only the activations are wanted again. */
void llama_layer_forward(struct llama *l, const struct pack *p, const struct llama_dropout *d,
			 int layer, float *x_out);
void llama_body_forward(struct llama *l, const struct pack *p, const struct llama_dropout *d);
/* The rows of all targets, normed, side by side for the head. */
void llama_gather_rows(struct llama *l, const struct pack *p);
/* The head's arguments for targets [from, to), forward only. */
struct kern_logprob llama_head_args(struct llama *l, const struct pack *p, int from, int to,
				    float *logp, uint8_t *hit);
/* Site 0: after attention, 1: after the feed-forward part. In place. */
void llama_drop(struct llama *l, const struct pack *p, const struct llama_dropout *d, int layer,
		int site, float *x);
struct kern_attn llama_attn_args(struct llama *l, const struct pack *p, struct llama_acts *a);
