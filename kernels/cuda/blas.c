#include "kernels/cuda/blas.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKSPACE ((size_t)32 << 20)
#define KNOWN 512 /* algorithms; a power of 2 */

struct key {
	int kind, in, out, m, n, k, lda, ldb, ldc, align, acc;
};

struct known {
	struct key key;
	bool used;
	cublasLtMatmulAlgo_t algo;
};

struct cu_blas {
	cublasLtHandle_t lt;
	cublasLtMatmulDesc_t desc[3]; /* by enum cu_product */
	cublasLtMatmulPreference_t pref;
	void *workspace;
	bool steady;
	struct known known[KNOWN];
};

static void failed(const char *what, int status)
{
	char name[64];

	snprintf(name, sizeof name, "%s: cuBLAS status %d", what, status);
	cu_launched(name, cudaErrorUnknown);
}

/* --- life ------------------------------------------------------------------------------------- */

/* In columns, as cuBLAS counts, everything is turned: C^T = B'^T A'^T, so B comes first. */
static cublasStatus_t make_desc(cublasLtMatmulDesc_t *d, enum cu_product kind)
{
	cublasOperation_t first = kind == CU_NT ? CUBLAS_OP_T : CUBLAS_OP_N;
	cublasOperation_t second = kind == CU_TN ? CUBLAS_OP_T : CUBLAS_OP_N;
	cublasStatus_t s = cublasLtMatmulDescCreate(d, CUBLAS_COMPUTE_32F, CUDA_R_32F);

	if (s == CUBLAS_STATUS_SUCCESS)
		s = cublasLtMatmulDescSetAttribute(*d, CUBLASLT_MATMUL_DESC_TRANSA, &first,
						   sizeof first);
	if (s == CUBLAS_STATUS_SUCCESS)
		s = cublasLtMatmulDescSetAttribute(*d, CUBLASLT_MATMUL_DESC_TRANSB, &second,
						   sizeof second);
	return s;
}

static cublasStatus_t make_preference(cublasLtMatmulPreference_t *p)
{
	uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
	size_t bytes = WORKSPACE;
	cublasStatus_t s = cublasLtMatmulPreferenceCreate(p);

	if (s == CUBLAS_STATUS_SUCCESS)
		s = cublasLtMatmulPreferenceSetAttribute(
			*p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
	if (s == CUBLAS_STATUS_SUCCESS)
		s = cublasLtMatmulPreferenceSetAttribute(
			*p, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes);
	return s;
}

struct cu_blas *cu_blas_new(bool steady)
{
	struct cu_blas *b = calloc(1, sizeof *b);

	if (!b)
		return NULL;
	b->steady = steady;
	if (cublasLtCreate(&b->lt) != CUBLAS_STATUS_SUCCESS ||
	    make_preference(&b->pref) != CUBLAS_STATUS_SUCCESS ||
	    cudaMalloc(&b->workspace, WORKSPACE) != cudaSuccess)
		goto failed;
	for (int i = 0; i < 3; i++)
		if (make_desc(&b->desc[i], (enum cu_product)i) != CUBLAS_STATUS_SUCCESS)
			goto failed;
	return b;
failed:
	cu_blas_free(b);
	return NULL;
}

void cu_blas_free(struct cu_blas *b)
{
	if (!b)
		return;
	for (int i = 0; i < 3; i++)
		if (b->desc[i])
			cublasLtMatmulDescDestroy(b->desc[i]);
	if (b->pref)
		cublasLtMatmulPreferenceDestroy(b->pref);
	if (b->workspace)
		cudaFree(b->workspace);
	if (b->lt)
		cublasLtDestroy(b->lt);
	free(b);
}

/* --- a product -------------------------------------------------------------------------------- */

static cudaDataType_t type_of(enum kern_format f)
{
	return f == KERN_FP8 ? CUDA_R_8F_E4M3 : f == KERN_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static size_t size_of(enum kern_format f)
{
	return f == KERN_FP8 ? 1 : f == KERN_BF16 ? 2 : 4;
}

/* The largest power of 2, 16 at most, that divides address and stride. */
static uint32_t alignment(const void *p, int ld, enum kern_format f)
{
	uintptr_t bits = (uintptr_t)p | (uintptr_t)ld * size_of(f) | 16;

	return (uint32_t)(bits & (~bits + 1));
}

/* Four matrices as cuBLAS sees them, for `rows` rows of the result. */
struct layouts {
	cublasLtMatrixLayout_t first, second, c;
};

static void layouts_free(struct layouts *l)
{
	if (l->first)
		cublasLtMatrixLayoutDestroy(l->first);
	if (l->second)
		cublasLtMatrixLayoutDestroy(l->second);
	if (l->c)
		cublasLtMatrixLayoutDestroy(l->c);
}

static cublasStatus_t layouts_make(struct layouts *l, const struct cu_gemm *g, int m)
{
	uint64_t mm = (uint64_t)m, n = (uint64_t)g->n, k = (uint64_t)g->k;
	cudaDataType_t in = type_of(g->in);
	cublasStatus_t s;

	*l = (struct layouts){0};
	s = g->kind == CU_NT ? cublasLtMatrixLayoutCreate(&l->first, in, k, n, g->ldb)
			     : cublasLtMatrixLayoutCreate(&l->first, in, n, k, g->ldb);
	if (s == CUBLAS_STATUS_SUCCESS)
		s = g->kind == CU_TN ? cublasLtMatrixLayoutCreate(&l->second, in, mm, k, g->lda)
				     : cublasLtMatrixLayoutCreate(&l->second, in, k, mm, g->lda);
	if (s == CUBLAS_STATUS_SUCCESS)
		s = cublasLtMatrixLayoutCreate(&l->c, type_of(g->out), n, mm, g->ldc);
	return s;
}

/* So many rows the algorithm is looked up for. */
static int row_class(const struct cu_blas *b, int m)
{
	if (b->steady)
		return 512;
	return m <= 16 ? 16 : m <= 64 ? 64 : m <= 256 ? 256 : 4096;
}

static cublasStatus_t look_up(struct cu_blas *b, const struct cu_gemm *g, const struct key *key,
			      cublasLtMatmulAlgo_t *algo)
{
	static const cublasLtMatmulPreferenceAttributes_t which[] = {
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
	uint32_t align = (uint32_t)key->align;
	cublasLtMatmulHeuristicResult_t found;
	struct layouts l;
	int n = 0;
	cublasStatus_t s = layouts_make(&l, g, key->m);

	for (size_t i = 0; i < 4 && s == CUBLAS_STATUS_SUCCESS; i++)
		s = cublasLtMatmulPreferenceSetAttribute(b->pref, which[i], &align, sizeof align);
	if (s == CUBLAS_STATUS_SUCCESS)
		s = cublasLtMatmulAlgoGetHeuristic(b->lt, b->desc[g->kind], l.first, l.second, l.c,
						   l.c, b->pref, 1, &found, &n);
	layouts_free(&l);
	if (s == CUBLAS_STATUS_SUCCESS && n == 0)
		s = CUBLAS_STATUS_NOT_SUPPORTED;
	if (s == CUBLAS_STATUS_SUCCESS)
		*algo = found.algo;
	return s;
}

static uint32_t hash(const struct key *key)
{
	const unsigned char *p = (const unsigned char *)key;
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < sizeof *key; i++)
		h = (h ^ p[i]) * 16777619u;
	return h;
}

/* A full table forgets what lies in the way. */
static const cublasLtMatmulAlgo_t *algorithm(struct cu_blas *b, const struct cu_gemm *g)
{
	uint32_t a = alignment(g->a, g->lda, g->in), w = alignment(g->b, g->ldb, g->in);
	uint32_t c = alignment(g->c, g->ldc, g->out), least = a < w ? a : w;
	/* Of the gradients of weights the rows are weights; what varies is k. */
	bool turned = g->kind == CU_TN;
	struct key key = {g->kind, g->in, g->out, turned ? g->m : row_class(b, g->m), g->n,
			  g->k,	   g->lda, g->ldb, g->ldc, (int)(least < c ? least : c), g->acc};
	uint32_t at = hash(&key) % KNOWN;
	struct known *here;

	for (int i = 0; i < 8; i++) {
		here = &b->known[(at + (uint32_t)i) % KNOWN];
		if (here->used && memcmp(&here->key, &key, sizeof key) == 0)
			return &here->algo;
		if (!here->used)
			break;
	}
	here->used = false;
	here->key = key;
	int s = (int)look_up(b, g, &key, &here->algo);
	if (s != CUBLAS_STATUS_SUCCESS) {
		failed("no algorithm for a product", s);
		return NULL;
	}
	here->used = true;
	return &here->algo;
}

void cu_gemm(struct cu_blas *b, cu_stream stream, const struct cu_gemm *g)
{
	const float one = 1, beta = g->acc ? 1 : 0;
	const cublasLtMatmulAlgo_t *algo;
	struct layouts l;
	cublasStatus_t s;

	if (g->m <= 0 || g->n <= 0 || g->k <= 0)
		return;
	algo = algorithm(b, g);
	if (!algo)
		return;
	s = layouts_make(&l, g, g->m);
	if (s == CUBLAS_STATUS_SUCCESS)
		s = cublasLtMatmul(b->lt, b->desc[g->kind], &one, g->b, l.first, g->a, l.second,
				   &beta, g->c, l.c, g->c, l.c, algo, b->workspace, WORKSPACE,
				   stream);
	layouts_free(&l);
	if (s != CUBLAS_STATUS_SUCCESS)
		failed("a product", (int)s);
}
