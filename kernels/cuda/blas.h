/* Matrix products by cuBLASLt: one handle, one workspace, algorithms looked up once for each kind of
 * product, size class of its rows, and alignment. Split sums are added in one order; nothing is
 * atomic, so the same call gives the same bits.
 *
 * With `steady` one algorithm serves all numbers of rows, so that a row's bits do not depend on how
 * many others there are; without it the fastest of four classes (16, 64, 256, more rows) does.
 */
#pragma once

#include "kernels/cuda/launch.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cu_blas;

/* Which side is turned: names as in kernels.h. */
enum cu_product {
	CU_NT, /* C[m,n] = A[m,k] . B[n,k]^T */
	CU_NN, /* C[m,n] = A[m,k] . B[k,n] */
	CU_TN, /* C[m,n] = A[k,m]^T . B[k,n] */
};

/* Row-major, strides in elements; `in` is the format of both factors, `out` of the result. FP8 factors:
 * CU_NT alone, n and k multiples of 16. */
struct cu_gemm {
	enum cu_product kind;
	enum kern_format in, out;
	int m, n, k;
	const void *a, *b;
	int lda, ldb;
	void *c;
	int ldc;
	bool acc; /* C is added to */
};

/* NULL when cuBLASLt cannot be started or there is no memory. */
struct cu_blas *cu_blas_new(bool steady);
void cu_blas_free(struct cu_blas *b);
/* Nothing when a size is 0. Errors go where those of a launch do. */
void cu_gemm(struct cu_blas *b, cu_stream s, const struct cu_gemm *g);

#ifdef __cplusplus
}
#endif
