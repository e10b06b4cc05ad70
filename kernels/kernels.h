/* Tensor operations: one table of functions over plain row-major float arrays.
 *
 * Knows nothing of models, files or this project: it includes nothing of ours. A back end fills
 * `struct kern`; kern_cpu() picks plain C, AVX2, AVX-512 or AVX-512 with BF16 when the program starts.
 *
 * Invariants every back end keeps:
 *  - Each output element is reduced in one fixed order. The result does not depend on the number
 *    of threads, on how many other rows are in the batch, or on tiling. A matrix product is one
 *    accumulator chain over k ascending. Long sums use 16 lanes (element i goes to lane i mod 16),
 *    folded 8, 4, 2, 1. So the CPU back ends differ from each other only by fused multiply-add.
 *  - "=" ops write every element of their output, "+=" ops add to it; `acc` chooses where offered
 *    (with acc the chain starts from the value that is there).
 *  - No floating-point atomics. No op allocates except scratch, which the pool keeps and reuses.
 *
 * Letters: T packed tokens (rows), C model width, H query heads, G key/value heads, D head size,
 * F feed-forward width, V vocabulary. `ld*` are row strides in floats.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KERN_HEAD_MAX 256 /* Largest head size D; a multiple of 2. */
#define KERN_PAGE 16	  /* Tokens in one block of a paged key/value cache. */

/* --- Threads ---------------------------------------------------------------------------------- */

struct kern_pool;

/* n threads in all, the caller being one of them; 0 means one per core. Never NULL. */
struct kern_pool *kern_pool_new(int n);
void kern_pool_free(struct kern_pool *p);
int kern_pool_threads(const struct kern_pool *p);

/* Runs fn(ctx, item, thread) once for every item in [0, n) and returns when all are done. Items
 * must be independent: each thread takes a contiguous share. One caller at a time; not nested. */
void kern_pool_run(struct kern_pool *p, void (*fn)(void *ctx, int item, int thread), void *ctx,
		   int n);

/* Scratch of at least `size` bytes, 64-byte aligned, contents undefined, valid until the next call
 * for the same slot. Slots 0..threads-1 belong to that thread inside kern_pool_run(); slots
 * below 0 to the calling thread, and to the ops: callers of ops use none. */
#define KERN_SCRATCH_PACK (-1)
#define KERN_SCRATCH_BIG (-2)
#define KERN_SCRATCH_LIST (-3)
#define KERN_SCRATCH_LEFT (-4)
void *kern_pool_scratch(struct kern_pool *p, int slot, size_t size);

/* --- Formats ---------------------------------------------------------------------------------- */

/* How the factors of a product are kept. Sums are always float, in the order said above. */
enum kern_format {
	KERN_F32,
	KERN_BF16, /* both factors rounded to bfloat16, to nearest even; products are exact */
	KERN_Q8,   /* Packed weights only: 32 neighbours along k are int8 with one float scale, the
		      other factor likewise on the fly. A block is summed in int32, blocks in float.
		      K must be a multiple of KERN_Q8_BLOCK. */
};
#define KERN_Q8_BLOCK 32

/* --- Argument blocks -------------------------------------------------------------------------- */

/* Packed causal attention over sequences [cu[s], cu[s+1]). Query head h reads key/value head
 * h / (H/G). A token sees itself and the tokens before it in its sequence, at most `window` of
 * them in all when window > 0. */
struct kern_attn {
	int n_seqs, n_tokens;
	const int32_t *cu; /* [n_seqs + 1], cu[0] = 0, ascending */
	int heads, kv_heads, head_dim;
	int window;
	/* Two endings of one beginning in a sequence, [n_seqs][2] or NULL: rows at and after fork[1]
	 * do not see the keys in [fork[0], fork[1]); both count from the sequence's first row. A
	 * window must be 0 then. fork[0] = fork[1]: no fork. */
	const int32_t *fork;
	float scale;
	const float *q, *k, *v; /* [T][ldq], [T][ldk], [T][ldv]: heads side by side in a row */
	int ldq, ldk, ldv;
	float *out; /* [T][H*D] "=" (backward reads it) */
	float *lse; /* [H][T] natural log of the softmax denominator, "=" (backward reads it) */
	/* Backward only, all "=". */
	const float *dout;   /* [T][H*D] */
	float *dq, *dk, *dv; /* strides ldq, ldk, ldv */
};

/* Attention over a paged cache. A row's bits do not depend on the other rows: decoding, and prefill
 * in any chunks, give the same. Neighbouring rows with the same table pointer read the cache once.
 * Block b of `k` and of `v` is kern_kv_bytes() long. F32: `k` is [G][D][16] (tokens innermost), `v`
 * [G][16][D]. BF16: in pairs along what is summed, `k` [G][D/2][16][2], `v` [G][8][D][2]; scaled
 * queries and weights are rounded as well. */
struct kern_paged {
	enum kern_format kv; /* F32 or BF16 */
	int rows;
	int heads, kv_heads, head_dim;
	int window;
	float scale;
	const float *q; /* [rows][ldq] */
	int ldq;
	const void *k, *v;	     /* one layer of the cache */
	const int32_t *const *table; /* [rows] block numbers of the row's sequence */
	const int32_t *n_keys;	     /* [rows] keys seen: positions 0 .. n_keys-1 */
	float *out;		     /* [rows][H*D] "=" */
};

/* Output head fused with the log-softmax: logp[t] = logits[t][target[t]] - logsumexp(logits[t]),
 * logits = h . w^T. With `g` (dL/dlogp per row) the same pass writes the gradients too. Logits are
 * made chunk by chunk and never kept, unless the caller lends `probs` and `sum`: then a call
 * without g leaves exp(logit - largest) and the sums of it there, and a later call with g and
 * `kept` starts from them instead of multiplying again. The bits are the same on all three ways. */
struct kern_logprob {
	enum kern_format format; /* of the products: F32 or BF16 */
	int rows, width, vocab;
	const float *h;	       /* [rows][C] */
	const float *w;	       /* [V][C] */
	const int32_t *target; /* [rows], in [0, V) */
	float *logp;	       /* [rows] "="; not touched when kept */
	uint8_t *hit;	       /* [rows] "=" 1 when the target has the largest logit; or NULL */
	const float *g;	       /* [rows] or NULL: forward only */
	float *dh;	       /* [rows][C] "=" */
	float *dw;	       /* [V][C] "+="; or NULL */
	float *probs, *sum;    /* [rows][V] and [rows], the caller's; or NULL */
	bool kept;	       /* `probs` and `sum` are from the same call without g */
};

/* One token drawn from a row of logits. Settings apply in this order: temperature, top-k, top-p of
 * what top-k left. Tokens are ranked by (weight descending, id ascending); a nucleus is the
 * shortest prefix of the ranking whose mass reaches top_p; u points into the kept mass in the order
 * of ids. */
struct kern_draw {
	int row;
	float temperature; /* 0: the lowest id among the largest logits */
	float top_p;	   /* in (0, 1]; 1: off */
	int top_k;	   /* 0: off */
	double u;	   /* uniform in [0, 1) */
	int32_t id;	   /* "=" */
	float logp;	   /* "=" log-probability of id at temperature 1 */
	float lse;	   /* "=" log-sum-exp of the row; not finite: the others mean nothing */
};

struct kern_adamw {
	size_t n;
	float *p, *m, *v; /* parameters and moments, in place */
	const float *g;
	float grad_scale; /* multiplies g (clipping) */
	float lr, beta1, beta2, eps, decay;
	float bias1, bias2; /* 1 - beta^step */
};

/* --- The table -------------------------------------------------------------------------------- */

struct kern {
	const char *name; /* "cpu-avx512": part of the engine fingerprint */

	/* Products of float arrays, multiplied as F32 or BF16. */
	/* C[M,N] = A[M,K] . W[N,K]^T                (a linear layer) */
	void (*gemm_nt)(struct kern_pool *, enum kern_format, float *c, int ldc, const float *a,
			int lda, const float *w, int ldw, int m, int n, int k, bool acc);
	/* C[M,K] = A[M,N] . W[N,K]                  (gradient of its input) */
	void (*gemm_nn)(struct kern_pool *, enum kern_format, float *c, int ldc, const float *a,
			int lda, const float *w, int ldw, int m, int n, int k, bool acc);
	/* C[N,K] = B[M,N]^T . A[M,K]                (gradient of its weight; the chain runs over M)
	 */
	void (*gemm_tn)(struct kern_pool *, enum kern_format, float *c, int ldc, const float *b,
			int ldb, const float *a, int lda, int m, int n, int k, bool acc);

	/* A weight W[N,K] kept for gemm_packed(); F32 and BF16 give the bits of gemm_nt(). */
	size_t (*pack_size)(enum kern_format, int n, int k); /* bytes, a multiple of 64 */
	/* Fills rows [row, row + rows) of it from w[rows][ldw], in any order and portions. `wp` begins
	 * as zeros, 64-byte aligned. */
	void (*pack)(struct kern_pool *, enum kern_format, void *wp, int n, int k, const float *w,
		     int ldw, int row, int rows);
	void (*gemm_packed)(struct kern_pool *, enum kern_format, float *c, int ldc, const float *a,
			    int lda, const void *wp, int m, int n, int k, bool acc);
	/* out[t] = W[id[t]], as it is kept: an embedding that is the output head as well. */
	void (*embed_packed)(struct kern_pool *, enum kern_format, float *out, const void *wp,
			     int n, int k, const int32_t *ids, int rows);

	/* y = x * r * w, r = 1/sqrt(mean(x^2) + eps); rinv[T] keeps r for the way back, or NULL. */
	void (*rmsnorm)(struct kern_pool *, float *y, float *rinv, const float *x, const float *w,
			int rows, int width, float eps);
	/* dx += , dw += unless it is NULL */
	void (*rmsnorm_back)(struct kern_pool *, float *dx, float *dw, const float *dy,
			     const float *x, const float *w, const float *rinv, int rows,
			     int width);

	/* Rotates pairs (i, i + D/2) of each head in place by the angle of pos[t]; cos and sin are
	 * [positions][D/2]. `back` turns the other way, which is the gradient. */
	void (*rope)(struct kern_pool *, float *x, int ldx, int rows, int heads, int head_dim,
		     const int32_t *pos, const float *cos, const float *sin, bool back);

	/* y = silu(gate) * up, rows of width F with strides ldg (gate and up) and F (y). */
	void (*swiglu)(struct kern_pool *, float *y, const float *gate, const float *up, int ldg,
		       int rows, int width);
	/* dgate =, dup = (both stride ldg); may overwrite gate and up in place. */
	void (*swiglu_back)(struct kern_pool *, float *dgate, float *dup, const float *dy,
			    const float *gate, const float *up, int ldg, int rows, int width);

	void (*attn)(struct kern_pool *, const struct kern_attn *);
	void (*attn_back)(struct kern_pool *, const struct kern_attn *);
	void (*attn_paged)(struct kern_pool *, const struct kern_paged *);
	/* Stores rows of keys and values at position pos[r] of the sequence with block table[r]. */
	void (*kv_store)(struct kern_pool *, enum kern_format kv, void *kcache, void *vcache,
			 const float *k, int ldk, const float *v, int ldv,
			 const int32_t *const *table, const int32_t *pos, int rows, int kv_heads,
			 int head_dim);

	/* out[t] = w[id[t]]; the gradient adds rows in token order. */
	void (*embed)(struct kern_pool *, float *out, const float *w, const int32_t *ids, int rows,
		      int width);
	void (*embed_back)(struct kern_pool *, float *dw, const float *dout, const int32_t *ids,
			   int rows, int width);

	void (*logprob)(struct kern_pool *, const struct kern_logprob *);

	void (*add)(struct kern_pool *, float *y, const float *x, size_t n); /* y += x */
	void (*scale)(struct kern_pool *, float *x, size_t n, float by);     /* x *= by */
	void (*bias)(struct kern_pool *, float *y, int ldy, const float *b, int rows, int width);
	void (*bias_back)(struct kern_pool *, float *db, const float *dy, int ldy, int rows,
			  int width);
	/* x[i] = keep(i) ? x[i] / (1 - p) : 0, keep(i) from Philox4x32-10 (key, i / 4), word i % 4.
	 */
	void (*dropout)(struct kern_pool *, float *x, size_t n, float p, const uint32_t key[2],
			const uint32_t stream[2]);

	void (*adamw)(struct kern_pool *, const struct kern_adamw *);
	/* Sum of squares in double; blocks of 4096 elements, added in order. */
	double (*sumsq)(struct kern_pool *, const float *x, size_t n);
	/* y[i] = exp(x[i]), the exponential all ops use; relative error below 2e-7. */
	void (*vexp)(float *y, const float *x, size_t n);
	void (*draw)(struct kern_pool *, struct kern_draw *draws, int n, const float *logits,
		     int ld, int vocab);
	/* Row-wise largest value and log-sum-exp of x[rows][ldx] (for scoring). */
	void (*row_lse)(struct kern_pool *, float *max, float *lse, const float *x, int ldx,
			int rows, int width);
};

/* Bytes of one block of a paged cache in one layer, keys or values alone. */
static inline size_t kern_kv_bytes(enum kern_format kv, int kv_heads, int head_dim)
{
	return (size_t)kv_heads * (size_t)head_dim * KERN_PAGE * (kv == KERN_F32 ? 4 : 2);
}

/* The best back end this processor runs; PAWL_KERNELS=plain|avx2|avx512|avx512bf16 forces one (an unknown or
 * unsupported name is ignored with a line on stderr). Static storage. */
const struct kern *kern_cpu(void);
/* By name; NULL when this processor or this build lacks it. */
const struct kern *kern_cpu_named(const char *name);
