/* Operations that are made of several launches or need the context's scratch; table.c lists them. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/cuda/context.h"

/* head.cu: logits[rows][vocab] to log-probabilities of `target`; sum and hit may be NULL. With `keep`
 * exp(logit - largest) stays in place of the logits. */
void cu_head_rows(cu_stream, float *x, const int32_t *target, float *logp, uint8_t *hit, float *sum,
		  float *parts, int rows, int vocab, bool keep);
/* d[rows][vocab] in `act` = hot onehot - g x / sum, a target of -1 having none; d may be x when act is
 * F32. */
void cu_head_slope(cu_stream, enum kern_format act, void *d, const float *x, const float *sum,
		   const float *g, const float *hot, const int32_t *target, int rows, int vocab);

/* unpack.cu: W[n][k] of eight bits (Q8 or FP8, see cu_pack_size()) in `act`. */
void cu_unpack_8(cu_stream, enum kern_format act, enum kern_format f, void *out, const void *wp, int n,
		 int k);

/* pack.cu: rows of bfloat16 as E4M3 [rows][k], each with a scale. */
void cu_rows_fp8(cu_stream, void *q, float *scale, const void *a, int lda, int rows, int k);
/* c[rows][width] in `out` = d times the scales of its row (a) and column (w), added to c with `acc`. */
void cu_scale_sums(cu_stream, enum kern_format out, void *c, int ldc, const float *d, const float *a,
		   const float *w, int rows, int width, bool acc);

#define CU_FP8_ROWS 2048 /* that are brought to E4M3 at a time */
/* Bytes that a product of so many rows takes when both factors are E4M3. */
size_t cu_fp8_scratch(int rows, int n, int k);

/* products.c: as in struct kern; `c` is in `out`. */
void cu_product_nt(struct kern_pool *p, enum kern_format f, enum kern_format out, void *c, int ldc,
		   const void *a, int lda, const void *w, int ldw, int m, int n, int k, bool acc);
void cu_gemm_nt(struct kern_pool *p, enum kern_format f, void *c, int ldc, const void *a, int lda,
		const void *w, int ldw, int m, int n, int k, bool acc);
void cu_gemm_nn(struct kern_pool *p, enum kern_format f, void *c, int ldc, const void *a, int lda,
		const void *w, int ldw, int m, int n, int k, bool acc);
void cu_gemm_tn(struct kern_pool *p, enum kern_format f, float *c, int ldc, const void *b, int ldb,
		const void *a, int lda, int m, int n, int k, bool acc);
void cu_gemm_packed(struct kern_pool *p, enum kern_format f, void *c, int ldc, const void *a,
		    int lda, const void *wp, int m, int n, int k, bool acc);
void cu_gemm_logits(struct kern_pool *p, enum kern_format f, float *c, int ldc, const void *a,
		    int lda, const void *wp, int m, int n, int k);
void cu_gemm_packed_back(struct kern_pool *p, enum kern_format f, void *c, int ldc, const void *a,
			 int lda, const void *wp, int m, int n, int k, bool acc);

/* scratch.c */
size_t cu_scratch_most(enum kern_format act, const struct kern_sizes *s);

/* head.c */
/* The most that it takes for so many rows. */
size_t cu_head_scratch(enum kern_format act, int rows, int vocab);
void cu_logprob(struct kern_pool *p, const struct kern_logprob *a);

#ifdef __cplusplus
}
#endif
