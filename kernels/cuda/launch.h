/* The operations of kernels.h on a CUDA device: each function here puts kernels into a stream and
 * returns. They mirror the table's arguments, with three differences: a stream instead of the
 * context, `act` (KERN_F32 or KERN_BF16) says what `void *` activations are, and scratch is the
 * caller's, its size asked of a function beside.
 *
 * Every pointer is the device's (alignment of cudaMalloc or of whole rows), unless it is said to be
 * the program's. What lies beyond the named elements is neither read nor written. An operation on
 * no rows does nothing. The same call gives the same bits; a row's bits do not depend on the other
 * rows. No operation waits, allocates or keeps state, so all may be captured into a graph.
 *
 * Knows nothing of models. Includes no header of CUDA's: C sources may include it without them.
 */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/kernels.h"

struct CUstream_st;
typedef struct CUstream_st *cu_stream; /* cudaStream_t */

/* --- rows (rows.cu, norm.cu) --- */

/* A vector access of 128 bits is used where rows, strides and pointers are multiples of 16 bytes.
 */
void cu_embed(cu_stream, enum kern_format act, void *out, const void *w, const int32_t *ids,
	      int rows, int width);
void cu_embed_back(cu_stream, enum kern_format act, float *dw, const void *dout, const int32_t *ids,
		   int rows, int width);
void cu_gather(cu_stream, enum kern_format act, void *out, const void *x, const int32_t *row,
	       int rows, int width);
void cu_spread(cu_stream, enum kern_format act, void *out, const void *x, const int32_t *from,
	       int rows, int width);
void cu_rmsnorm(cu_stream, enum kern_format act, void *y, float *rinv, const void *x,
		const float *w, int rows, int width, float eps);
/* x += add, then y = rmsnorm(x): the bits of cu_add() and cu_rmsnorm(), in one pass. */
void cu_add_rmsnorm(cu_stream, enum kern_format act, void *y, float *rinv, void *x, const void *add,
		    const float *w, int rows, int width, float eps);
size_t cu_rmsnorm_back_scratch(int rows, int width); /* bytes; none is needed without dw */
void cu_rmsnorm_back(cu_stream, enum kern_format act, void *dx, float *dw, const void *dy,
		     const void *x, const float *w, const float *rinv, int rows, int width,
		     void *scratch);
void cu_rope(cu_stream, enum kern_format act, void *x, int ldx, int rows, int heads, int head_dim,
	     const int32_t *pos, const float *cos, const float *sin, bool back);
void cu_swiglu(cu_stream, enum kern_format act, void *y, const void *gate, const void *up, int ldg,
	       int rows, int width);
void cu_swiglu_back(cu_stream, enum kern_format act, void *dgate, void *dup, const void *dy,
		    const void *gate, const void *up, int ldg, int rows, int width);
void cu_bias(cu_stream, enum kern_format act, void *y, int ldy, const float *b, int rows,
	     int width);
size_t cu_bias_back_scratch(int rows, int width); /* bytes */
void cu_bias_back(cu_stream, enum kern_format act, float *db, const void *dy, int ldy, int rows,
		  int width, void *scratch);

/* --- elements and steps (step.cu) --- */

void cu_add(cu_stream, enum kern_format act, void *y, const void *x, size_t n);
void cu_scale(cu_stream, enum kern_format act, void *x, size_t n, float by);
void cu_dropout(cu_stream, enum kern_format act, void *x, size_t n, float p, const uint32_t key[2],
		const uint32_t stream[2]); /* key and stream are the program's */
void cu_narrow(cu_stream, void *bf16, const float *x, size_t n);
void cu_widen(cu_stream, float *x, const void *bf16, size_t n);
void cu_exp(cu_stream, float *y, const float *x, size_t n);
/* n tensors; `a` is the program's and may change at once. Neighbours in it that differ in pointers
 * and sizes alone share a launch. `act` is the format of `working`. */
void cu_adamw(cu_stream, enum kern_format act, const struct kern_adamw *a, int n);
size_t cu_sumsq_scratch(size_t n); /* bytes */
/* *out = the sum of squares, a double on the device: the bits of the CPU's. */
void cu_sumsq(cu_stream, double *out, const float *x, size_t n, void *scratch);

/* --- weights and cache (pack.cu) --- */

/* W[n][k] row by row as floats, as bfloat16 or, Q8, as int8 with one float for each row behind
 * them: W[i][j] = q[i][j] * cu_q8_scales()[i]. */
size_t cu_pack_size(enum kern_format f, int n, int k);
static inline size_t cu_q8_scales_at(int n, int k) /* bytes from the beginning */
{
	return ((size_t)n * (size_t)k + 255) / 256 * 256;
}
void cu_pack(cu_stream, enum kern_format f, void *wp, int n, int k, const float *w, int ldw,
	     int row, int rows);
void cu_embed_packed(cu_stream, enum kern_format act, enum kern_format f, void *out, const void *wp,
		     int n, int k, const int32_t *ids, int rows);
/* Layout of a block: see cu_attn_paged(), [kv_heads][KERN_PAGE][head_dim]. */
void cu_kv_store(cu_stream, enum kern_format act, enum kern_format kv, void *kcache, void *vcache,
		 const void *k, int ldk, const void *v, int ldv, const int32_t *blocks,
		 const int32_t *first, const int32_t *pos, int rows, int kv_heads, int head_dim);

/* --- drawing (draw.cu) --- */

/* `draws` lie on the device. Weights are the CPU's to the bit (its variants with fused
 * multiply-add), sums of them to 1e-7: the token is another only where u or top_p falls between. */
void cu_draw(cu_stream, struct kern_draw *draws, int n, const float *logits, int ld, int vocab);
void cu_row_lse(cu_stream, float *max, float *lse, const float *x, int ldx, int rows, int width);

/* Called after every launch. An error (a kernel that cannot be launched, or one before it that
 * failed) goes to the function given to cu_on_error(), or ends the program with status 70. */
void cu_launched(const char *kernel, int cuda_error);
void cu_on_error(void (*fn)(const char *kernel, const char *why));

/* --- attention over packed sequences (attn.cu) --- */

/* act F32: multiplied one by one in float. act BF16: tensor cores, float sums. Heads of any even size
 * up to KERN_HEAD_MAX; 16-byte aligned rows of heads (head_dim and strides multiples of 8) are twice
 * as fast to read. scale > 0. */
void cu_attn(cu_stream, enum kern_format act, const struct kern_attn *);
size_t cu_attn_back_scratch(const struct kern_attn *); /* bytes */
void cu_attn_back(cu_stream, enum kern_format act, const struct kern_attn *, void *scratch);

/* --- attention over the block cache (paged.cu) --- */

/* Layout of a block, F32 and BF16 alike, keys and values alike: [kv_heads][KERN_PAGE][head_dim], so
 * that a key of a head is one run of memory, as it comes from the product, and all of a head's block
 * is one run for those who read it. Blocks are 16-byte aligned.
 *
 * runs: how often first[] changes from row to row, plus one; 0: not known, then many; negative: splits
 * of keys never run beside each other. It steers how work is cut, not a bit of the result. */
size_t cu_attn_paged_scratch(enum kern_format act, const struct kern_paged *, int runs); /* bytes */
/* Bytes of `counts` for calls of up to so many rows and heads: zeros at first, left as zeros. */
size_t cu_attn_paged_counts(int rows, int heads);
void cu_attn_paged(cu_stream, enum kern_format act, const struct kern_paged *, int runs,
		   void *scratch, unsigned *counts);

/* --- products of few rows (small.cu) --- */

/* C[M,N] = A[M,K] . W[N,K]^T of bfloat16 activations with a packed BF16, Q8 or FP8 weight, read once at
 * the speed of memory: best up to about 64 rows (BF16, FP8) or 256 (Q8). A row's bits do not depend on m, for
 * any m: sums over slices of K, which n and k alone decide, are added in ascending order. */
bool cu_small_takes(enum kern_format act, enum kern_format f, const void *a, int lda, const void *wp,
		    int k); /* else cuBLAS has to */
size_t cu_small_scratch(int m, int n, int k); /* bytes */
#define CU_SMALL_COUNTS (64 << 10) /* bytes of `counts`: zeros at first, left as zeros */
/* `out`: the format of c. */
void cu_small(cu_stream, enum kern_format f, enum kern_format out, void *c, int ldc, const void *a,
	      int lda, const void *wp, int m, int n, int k, bool acc, void *scratch, unsigned *counts);

#ifdef __cplusplus
}
#endif
