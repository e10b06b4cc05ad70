/* Tensor operations: one table of functions over plain row-major arrays.
 *
 * Knows nothing of models, files or this project: it includes nothing of ours. A back end fills
 * `struct kern`; kern_cpu() picks plain C, AVX2, AVX-512 or AVX-512 with BF16 when the program starts.
 *
 * Memory: every array an operation takes lies in memory of the back end, made by its alloc() and
 * filled by its put(); the argument blocks themselves and what is said to be "the program's" lie in
 * ordinary memory. On a table with `host` the two are the same. Pointers are of three kinds:
 *  - `void *` activations (and the weights and working copies beside them in a product): numbers in
 *    the table's format `act`, float or bfloat16. kern_at() steps through them.
 *  - `float *`: always floats, whatever `act` is: norm weights, biases, 1/rms, log-sum-exps,
 *    log-probabilities, logits to draw from, rotary tables, gradients of weights, moments, masters.
 *  - `int32_t *`, `uint8_t *`: indices and flags.
 * The first argument is the back end's context: on a CPU its threads.
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
 * F feed-forward width, V vocabulary. `ld*` are row strides in elements.
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
#define KERN_SCRATCH_BACK (-5)
#define KERN_SCRATCH_GATED (-6)
void *kern_pool_scratch(struct kern_pool *p, int slot, size_t size);

/* --- Formats ---------------------------------------------------------------------------------- */

/* How the factors of a product are kept. Sums are always float, in the order said above. */
enum kern_format {
	KERN_F32,
	KERN_BF16, /* both factors rounded to bfloat16, to nearest even; products are exact */
	KERN_Q8,   /* Packed weights only: 32 neighbours along k are int8 with one float scale, the
		      other factor likewise on the fly. A block is summed in int32, blocks in float.
		      K must be a multiple of KERN_Q8_BLOCK. */
	KERN_FP8,  /* Packed weights only, where has_format() says so: E4M3, 448 at most, with a float
		      scale for each row of W. The other factor is bfloat16 or, in large products of
		      "cuda", E4M3 with a scale for each of its rows. */
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
	int longest;	   /* rows of the longest sequence, or more */
	/* Two endings of one beginning in a sequence, [n_seqs][2] or NULL: rows at and after fork[1]
	 * do not see the keys in [fork[0], fork[1]); both count from the sequence's first row. A
	 * window must be 0 then. fork[0] = fork[1]: no fork. */
	const int32_t *fork;
	float scale;
	const void *q, *k, *v; /* [T][ldq], [T][ldk], [T][ldv]: heads side by side in a row */
	int ldq, ldk, ldv;
	void *out;  /* [T][H*D] "=" (backward reads it) */
	float *lse; /* [H][T] natural log of the softmax denominator, "=" (backward reads it) */
	/* Backward only, all "=". */
	const void *dout;   /* [T][H*D] */
	void *dq, *dk, *dv; /* strides ldq, ldk, ldv */
};

/* Attention over a paged cache. A row's bits do not depend on the other rows: decoding, and prefill
 * in any chunks, give the same. Row r belongs to the sequence whose blocks are blocks[first[r]],
 * blocks[first[r] + 1], ...; neighbouring rows with the same first[], or whose texts begin with the
 * same blocks, read what they share once. Blocks are kern_kv_bytes() long, those of `k` and of `v`;
 * what lies where in one is the back end's own. */
struct kern_paged {
	enum kern_format kv; /* F32 or BF16: then scaled queries and weights are rounded as well */
	int rows;
	int heads, kv_heads, head_dim;
	int window;
	float scale;
	const void *q; /* [rows][ldq] */
	int ldq;
	const void *k, *v;     /* one layer of the cache */
	const int32_t *blocks; /* block numbers, sequence after sequence */
	const int32_t *first;  /* [rows] */
	const int32_t *n_keys; /* [rows] keys seen: positions 0 .. n_keys-1 */
	int most_keys;	       /* the largest of them, or more */
	int runs; /* how often first[] changes from row to row, plus one; 0: not known */
	void *out;	       /* [rows][H*D] "=" */
};

/* What happens to rows of queries, keys and values as they come out of their product: bias(), then
 * rope() of the first heads. */
struct kern_turn {
	const float *bias;	/* one for each column; or NULL */
	const int32_t *pos;	/* [rows] */
	const float *cos, *sin; /* [positions][D/2] */
	int heads, head_dim;
};

/* Output head fused with the log-softmax: logp[t] = logits[t][target[t]] - logsumexp(logits[t]),
 * logits = h . w^T. With `g` (dL/dlogp per row) the same pass writes the gradients too. Logits are
 * made chunk by chunk and never kept, unless the caller lends `probs` and `sum`: then a call
 * without g leaves there what a later call with g and `kept` starts from instead of multiplying
 * again. The bits are the same on all three ways.
 *
 * Several ranks share a vocabulary: each calls this for its words, with -1 for targets that are
 * not among them (their logp and hit mean nothing). `parts` is what they put together; then g is
 * dL/dlogp times this rank's share of the whole softmax, and `hot` dL/dlogp itself, which the
 * target's slope takes. */
struct kern_logprob {
	enum kern_format format; /* of the products: F32 or BF16 */
	int rows, width, vocab;
	const void *h;	       /* [rows][C] */
	const void *w;	       /* [V][C] */
	const int32_t *target; /* [rows], in [0, V), or -1 */
	/* What a row's logits say, all "=" and not touched when kept. */
	float *logp;	       /* [rows] */
	uint8_t *hit;	       /* [rows] 1 when the target has the largest logit; or NULL */
	float *entropy;	       /* [rows] of the softmax, in nats; or NULL */
	float *logit;	       /* [rows] mean over the vocabulary; NULL where entropy is */
	const float *g;	       /* [rows] or NULL: forward only */
	void *dh;	       /* [rows][C] "=" */
	float *dw;	       /* [V][C] "+="; or NULL */
	float *probs, *sum;    /* [rows][V] and [rows][2], the caller's; or NULL */
	bool kept;	       /* `probs` and `sum` are from the same call without g */
	float *parts;	       /* [rows][3] "=" largest logit, log-sum-exp, the target's logit (0
				* for -1); or NULL. Not touched when kept */
	const float *hot;      /* [rows]; NULL: g */
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
	void *working;	  /* the parameters as products read them, "="; NULL where that is p itself */
	float grad_scale; /* multiplies g (clipping) */
	float lr, beta1, beta2, eps, decay;
	float bias1, bias2; /* 1 - beta^step */
};

/* What will be asked of a table, for scratch(). Sizes of a decoder, rows of its passes. */
struct kern_sizes {
	enum kern_format weights;
	bool packed; /* they are; else plain, in `act` */
	int width, ffn, heads, kv_heads, head_dim, vocab;
	int rows;	/* of the largest pass */
	int keys;	/* generation: of the longest sequence. Training: 0 */
	int targets;	/* training: rows of the output head that are worked on at a time */
	size_t trained; /* floats */
};

/* --- The table -------------------------------------------------------------------------------- */

/* What a context is opened for. */
struct kern_open {
	int threads; /* on a CPU; 0: one per core */
	int device;  /* on a GPU: its number */
};

struct kern {
	const char *name; /* "cpu-avx512": part of the engine fingerprint */
	enum kern_format act; /* F32 or BF16 */
	bool host;	      /* the back end's memory is the program's: arrays may be read and written */

	/* --- context and memory --- */

	/* NULL says why in `why`. */
	struct kern_pool *(*open)(const struct kern_open *, char *why, size_t size);
	void (*close)(struct kern_pool *); /* NULL is allowed */
	/* The machine's name, for people and for the engine fingerprint; the program's memory. */
	void (*describe)(struct kern_pool *, char *out, size_t size);
	/* Why nothing computed since can be trusted, or NULL while all is well. Errors stay. Known at
	 * the latest when get(), draw() or sumsq() returns. */
	const char *(*fault)(struct kern_pool *);
	/* The queue its operations run in (cudaStream_t), for kernels/collective_nccl.c; NULL, or
	 * returning NULL, where there is none. */
	void *(*stream)(struct kern_pool *);
	size_t (*room)(struct kern_pool *); /* bytes alloc() may still take; 0: ask the machine */
	/* Zeros, 64-byte aligned; NULL when memory is short. */
	void *(*alloc)(struct kern_pool *, size_t bytes);
	void (*release)(struct kern_pool *, void *p, size_t bytes);
	/* From and to the program's memory. What put() reads may change once it has returned. */
	void (*put)(struct kern_pool *, void *to, const void *from, size_t bytes);
	void (*get)(struct kern_pool *, void *to, const void *from, size_t bytes);
	void (*copy)(struct kern_pool *, void *to, const void *from, size_t bytes);
	void (*zero)(struct kern_pool *, void *p, size_t bytes);
	/* The program's memory, from which and to which copies are fastest. */
	void *(*pin)(struct kern_pool *, size_t bytes);
	void (*unpin)(struct kern_pool *, void *p, size_t bytes);
	/* Begins a get() into pinned memory behind all that was asked for before. Operations may go on
	 * meanwhile, but none may write `from` before snapped() was called. */
	void (*snap)(struct kern_pool *, void *to, const void *from, size_t bytes);
	void (*snapped)(struct kern_pool *); /* returns when all of them are done; on any thread */
	/* Operations recorded once and run again as a whole: same pointers and sizes, other contents.
	 * All three NULL where that saves nothing. graph_run() is false when there is none of that
	 * key; then graph_begin(), the operations, graph_end(), which also runs them. Between these
	 * two neither put(), get(), alloc() nor an operation that returns a value. */
	bool (*graph_run)(struct kern_pool *, uint64_t key);
	void (*graph_begin)(struct kern_pool *, uint64_t key);
	void (*graph_end)(struct kern_pool *);
	/* Floats to `act` (nearest even) and back. */
	void (*narrow)(struct kern_pool *, void *act, const float *x, size_t n);
	void (*widen)(struct kern_pool *, float *x, const void *act, size_t n);

	/* --- products --- */

	/* Multiplied as F32 or BF16; with act BF16 only the latter. */
	/* C[M,N] = A[M,K] . W[N,K]^T                (a linear layer) */
	void (*gemm_nt)(struct kern_pool *, enum kern_format, void *c, int ldc, const void *a,
			int lda, const void *w, int ldw, int m, int n, int k, bool acc);
	/* C[M,K] = A[M,N] . W[N,K]                  (gradient of its input) */
	void (*gemm_nn)(struct kern_pool *, enum kern_format, void *c, int ldc, const void *a,
			int lda, const void *w, int ldw, int m, int n, int k, bool acc);
	/* C[N,K] = B[M,N]^T . A[M,K]                (gradient of its weight; the chain runs over M)
	 */
	void (*gemm_tn)(struct kern_pool *, enum kern_format, float *c, int ldc, const void *b,
			int ldb, const void *a, int lda, int m, int n, int k, bool acc);

	/* Whether weights can be packed so on this device; `why` says what is missing. NULL where all
	 * but FP8 can, and it cannot. */
	bool (*has_format)(struct kern_pool *, enum kern_format, char *why, size_t size);
	/* A weight W[N,K] kept for gemm_packed(); F32 and BF16 give the bits of gemm_nt(). */
	size_t (*pack_size)(enum kern_format, int n, int k); /* bytes, a multiple of 64 */
	/* Fills rows [row, row + rows) of it from w[rows][ldw], in any order and portions. `wp` begins
	 * as zeros, 64-byte aligned. */
	void (*pack)(struct kern_pool *, enum kern_format, void *wp, int n, int k, const float *w,
		     int ldw, int row, int rows);
	void (*gemm_packed)(struct kern_pool *, enum kern_format, void *c, int ldc, const void *a,
			    int lda, const void *wp, int m, int n, int k, bool acc);
	/* The same with floats as the result: the logits of rows. */
	void (*logits)(struct kern_pool *, enum kern_format, float *c, int ldc, const void *a,
		       int lda, const void *wp, int m, int n, int k);
	/* Two that say several operations at once, so that what lies between them need not go through
	 * memory; the bits of those. NULL where that saves nothing.
	 * C[M,N] = rmsnorm(X[M,K]) . W[N,K]^T, then as `t` says (NULL: nothing more) */
	void (*norm_packed)(struct kern_pool *, enum kern_format, void *c, int ldc, const void *x,
			    const float *norm, float eps, const void *wp, int m, int n, int k,
			    const struct kern_turn *t);
	/* C[M,K] = or += (silu(A Wg^T) * (A Wu^T)) . Wd[K,F]^T, A = rmsnorm(X[M,K]): Wg the first F
	 * rows of w13[2 F][K], Wu the others. C may be X. False when sizes do not allow it: nothing
	 * was done. */
	bool (*ffn_packed)(struct kern_pool *, enum kern_format, void *c, const void *x,
			   const float *norm, float eps, const void *w13, const void *w2, int m,
			   int width, int k, bool acc);
	/* C[M,K] = A[M,N] . W[N,K], W as it is kept: the bits of gemm_nn(); Q8 is multiplied as F32 or,
	 * with act BF16, as BF16. */
	void (*gemm_packed_back)(struct kern_pool *, enum kern_format, void *c, int ldc,
				 const void *a, int lda, const void *wp, int m, int n, int k,
				 bool acc);
	/* out[t] = W[id[t]], as it is kept: an embedding that is the output head as well. */
	void (*embed_packed)(struct kern_pool *, enum kern_format, void *out, const void *wp, int n,
			     int k, const int32_t *ids, int rows);

	/* --- rows --- */

	/* y = x * r * w, r = 1/sqrt(mean(x^2) + eps); rinv[T] keeps r for the way back, or NULL. */
	void (*rmsnorm)(struct kern_pool *, void *y, float *rinv, const void *x, const float *w,
			int rows, int width, float eps);
	/* dx += , dw += unless it is NULL */
	void (*rmsnorm_back)(struct kern_pool *, void *dx, float *dw, const void *dy, const void *x,
			     const float *w, const float *rinv, int rows, int width);

	/* Rotates pairs (i, i + D/2) of each head in place by the angle of pos[t]; cos and sin are
	 * [positions][D/2]. `back` turns the other way, which is the gradient. */
	void (*rope)(struct kern_pool *, void *x, int ldx, int rows, int heads, int head_dim,
		     const int32_t *pos, const float *cos, const float *sin, bool back);

	/* y = silu(gate) * up, rows of width F with strides ldg (gate and up) and F (y). */
	void (*swiglu)(struct kern_pool *, void *y, const void *gate, const void *up, int ldg,
		       int rows, int width);
	/* dgate =, dup = (both stride ldg); may overwrite gate and up in place. */
	void (*swiglu_back)(struct kern_pool *, void *dgate, void *dup, const void *dy,
			    const void *gate, const void *up, int ldg, int rows, int width);

	void (*attn)(struct kern_pool *, const struct kern_attn *);
	void (*attn_back)(struct kern_pool *, const struct kern_attn *);
	void (*attn_paged)(struct kern_pool *, const struct kern_paged *);
	/* C[rows][N] = or += (what attn_paged() writes to a->out) . W[N,H*D]^T, which need not go
	 * through memory: a->out is not touched. The bits of both one after the other. False when
	 * sizes do not allow it: nothing was done. NULL where it saves nothing. */
	bool (*paged_packed)(struct kern_pool *, const struct kern_paged *, enum kern_format, void *c,
			     int ldc, const void *wp, int n, bool acc);
	/* Stores rows of keys and values at position pos[r] of the sequence of first[r]: see
	 * struct kern_paged. */
	void (*kv_store)(struct kern_pool *, enum kern_format kv, void *kcache, void *vcache,
			 const void *k, int ldk, const void *v, int ldv, const int32_t *blocks,
			 const int32_t *first, const int32_t *pos, int rows, int kv_heads,
			 int head_dim);

	/* out[t] = w[id[t]]; the gradient adds rows in token order. */
	void (*embed)(struct kern_pool *, void *out, const void *w, const int32_t *ids, int rows,
		      int width);
	void (*embed_back)(struct kern_pool *, float *dw, const void *dout, const int32_t *ids,
			   int rows, int width);
	/* out[i] = x[row[i]] */
	void (*gather)(struct kern_pool *, void *out, const void *x, const int32_t *row, int rows,
		       int width);
	/* Its gradient: out[t] = 0 + x[from[t][0]] + x[from[t][1]], without those below 0. */
	void (*spread)(struct kern_pool *, void *out, const void *x, const int32_t *from, int rows,
		       int width);

	void (*logprob)(struct kern_pool *, const struct kern_logprob *);

	void (*add)(struct kern_pool *, void *y, const void *x, size_t n); /* y += x */
	void (*scale)(struct kern_pool *, void *x, size_t n, float by);	   /* x *= by */
	void (*bias)(struct kern_pool *, void *y, int ldy, const float *b, int rows, int width);
	void (*bias_back)(struct kern_pool *, float *db, const void *dy, int ldy, int rows,
			  int width);
	/* x[i] = keep(i) ? x[i] / (1 - p) : 0, keep(i) from Philox4x32-10 (key, i / 4), word i % 4.
	 */
	void (*dropout)(struct kern_pool *, void *x, size_t n, float p, const uint32_t key[2],
			const uint32_t stream[2]);

	/* --- steps and draws --- */

	/* Of n arrays that do not overlap; those that differ in pointers and sizes alone and are
	 * neighbours go together where a launch costs something. */
	void (*adamw)(struct kern_pool *, const struct kern_adamw *, int n);
	/* Sum of squares in double; blocks of 4096 elements, added in order. */
	double (*sumsq)(struct kern_pool *, const float *x, size_t n);
	/* y[i] = exp(x[i]), the exponential all ops use; relative error below 2e-7. */
	void (*vexp)(struct kern_pool *, float *y, const float *x, size_t n);
	/* `draws` is the program's; filled when it returns. */
	void (*draw)(struct kern_pool *, struct kern_draw *draws, int n, const float *logits,
		     int ld, int vocab);
	/* Row-wise largest value and log-sum-exp of x[rows][ldx] (for scoring). */
	void (*row_lse)(struct kern_pool *, float *max, float *lse, const float *x, int ldx,
			int rows, int width);

	/* Bytes that operations of these sizes take beside their arrays, from the same memory. NULL:
	 * nothing to speak of, or counted elsewhere. */
	size_t (*scratch)(enum kern_format act, const struct kern_sizes *);
};

/* Bytes of one activation. */
static inline size_t kern_act(const struct kern *k)
{
	return k->act == KERN_F32 ? 4 : 2;
}

/* The n-th activation from p on. */
static inline void *kern_at(const struct kern *k, const void *p, size_t n)
{
	return (char *)(uintptr_t)p + n * kern_act(k);
}

/* Bytes of one block of a paged cache in one layer, keys or values alone. */
static inline size_t kern_kv_bytes(enum kern_format kv, int kv_heads, int head_dim)
{
	return (size_t)kv_heads * (size_t)head_dim * KERN_PAGE * (kv == KERN_F32 ? 4 : 2);
}

/* The best back end this processor runs; PAWL_KERNELS=plain|avx2|avx512|avx512bf16 forces one (an unknown or
 * unsupported name is ignored with a line on stderr, that of a GPU table silently). Static storage. */
const struct kern *kern_cpu(void);
/* By name; NULL when this processor or this build lacks it. */
const struct kern *kern_cpu_named(const char *name);
