// cuBLASLt: plain loops, run when the stream is.
#include <cublasLt.h>

#include "tests/cuemu/internal.hpp"

#include <cuda_bf16.h>

#include <math.h>

using cuemu::fault;

struct cublasLtContext {
	int unused;
};
struct cuemu_matmul {
	bool turn_a = false, turn_b = false;
};
struct cuemu_matrix {
	cudaDataType_t type;
	uint64_t rows, cols;
	int64_t ld;
};
struct cuemu_preference {
	uint32_t align[4];
};

namespace
{

// E4M3, written without the device's code.
float e4m3(uint8_t b)
{
	float part = (float)(b & 7) / 8, sign = b & 0x80 ? -1.0f : 1.0f;
	int e = b >> 3 & 15;

	if ((b & 0x7f) == 0x7f)
		return NAN;
	return sign * (e == 0 ? ldexpf(part, -6) : ldexpf(1 + part, e - 7));
}

float element(const void *p, const cuemu_matrix &m, uint64_t r, uint64_t c)
{
	size_t at = r + c * (uint64_t)m.ld;

	if (m.type == CUDA_R_16BF)
		return (float)((const __nv_bfloat16 *)p)[at];
	if (m.type == CUDA_R_8F_E4M3)
		return e4m3(((const uint8_t *)p)[at]);
	return ((const float *)p)[at];
}

struct work {
	bool turn_a, turn_b;
	cuemu_matrix la, lb, lc;
	const void *a, *b;
	void *c;
	float alpha, beta;

	void operator()() const
	{
		uint64_t k = turn_a ? la.rows : la.cols;

		for (uint64_t j = 0; j < lc.cols; j++)
			for (uint64_t i = 0; i < lc.rows; i++) {
				float sum = 0;

				for (uint64_t x = 0; x < k; x++)
					sum += (turn_a ? element(a, la, x, i) : element(a, la, i, x)) *
					       (turn_b ? element(b, lb, j, x) : element(b, lb, x, j));
				sum *= alpha;
				if (beta != 0)
					sum += beta * element(c, lc, i, j);
				size_t at = i + j * (uint64_t)lc.ld;
				if (lc.type == CUDA_R_16BF)
					((__nv_bfloat16 *)c)[at] = __nv_bfloat16(sum);
				else
					((float *)c)[at] = sum;
			}
	}
};

} // namespace

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
	*h = new cublasLtContext;
	return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
	delete h;
	return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t,
					cudaDataType_t)
{
	*d = new cuemu_matmul;
	return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
					      cublasLtMatmulDescAttributes_t what, const void *value,
					      size_t size)
{
	if (size != sizeof(cublasOperation_t))
		return CUBLAS_STATUS_INVALID_VALUE;
	bool turn = *(const cublasOperation_t *)value == CUBLAS_OP_T;
	(what == CUBLASLT_MATMUL_DESC_TRANSA ? d->turn_a : d->turn_b) = turn;
	return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
	delete d;
	return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType_t type,
					  uint64_t rows, uint64_t cols, int64_t ld)
{
	if (ld < (int64_t)rows)
		return CUBLAS_STATUS_INVALID_VALUE;
	*l = new cuemu_matrix{type, rows, cols, ld};
	return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
	delete l;
	return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
	*p = new cuemu_preference{{256, 256, 256, 256}};
	return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
						    cublasLtMatmulPreferenceAttributes_t what,
						    const void *value, size_t)
{
	if (what >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES)
		p->align[what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES] = *(const uint32_t *)value;
	return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
	delete p;
	return CUBLAS_STATUS_SUCCESS;
}

// The algorithm remembers what it was promised: the alignments.
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
					      cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
					      cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
					      cublasLtMatmulPreference_t p, int wanted,
					      cublasLtMatmulHeuristicResult_t *results, int *found)
{
	*found = wanted > 0 ? 1 : 0;
	if (*found) {
		results[0] = {};
		for (int i = 0; i < 4; i++)
			results[0].algo.data[i] = p->align[i];
	}
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha,
			      const void *a, cublasLtMatrixLayout_t la, const void *b,
			      cublasLtMatrixLayout_t lb, const void *beta, const void *c,
			      cublasLtMatrixLayout_t lc, void *out, cublasLtMatrixLayout_t,
			      const cublasLtMatmulAlgo_t *algo, void *, size_t, cudaStream_t s)
{
	const void *const p[] = {a, b, c, out};

	for (int i = 0; i < 4; i++) {
		if (algo && (uintptr_t)p[i] % algo->data[i])
			fault("cuBLASLt: matrix %d at %p is aligned to less than %u", i, p[i],
			      (unsigned)algo->data[i]);
		if (!cuemu::memory_is_device(p[i]))
			fault("cuBLASLt: matrix %d at %p is not the device's", i, p[i]);
	}
	if (c != out || la->type != lb->type || lc->type == CUDA_R_8F_E4M3)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	// Documented: the first turned, sizes and strides of sixteen.
	if (la->type == CUDA_R_8F_E4M3 &&
	    (!d->turn_a || d->turn_b || la->rows % 16 || la->cols % 16 || la->ld % 16 || lb->ld % 16))
		return CUBLAS_STATUS_NOT_SUPPORTED;
	uint64_t m = d->turn_a ? la->cols : la->rows, n = d->turn_b ? lb->rows : lb->cols;
	uint64_t k = d->turn_a ? la->rows : la->cols, k2 = d->turn_b ? lb->cols : lb->rows;
	if (m != lc->rows || n != lc->cols || k != k2)
		return CUBLAS_STATUS_INVALID_VALUE;
	cuemu::enqueue(s, work{d->turn_a, d->turn_b, *la, *lb, *lc, a, b, out,
			       *(const float *)alpha, *(const float *)beta});
	return CUBLAS_STATUS_SUCCESS;
}

} // extern "C"
