/* Products in all formats, brought to those of blas.h: factors that are not in the format asked for are
 * rounded into scratch first, int8 weights are widened. E4M3 weights are widened as well, or multiplied as
 * they are by rows that are brought to E4M3. */
#include "kernels/cuda/blas.h"
#include "kernels/cuda/ops.h"

static size_t bytes_of(enum kern_format f)
{
	return f == KERN_BF16 ? 2 : 4;
}

/* What a factor in `act` spans; gaps between rows go along. */
static size_t span(int rows, int cols, int ld)
{
	return ((size_t)rows - 1) * (size_t)ld + (size_t)cols;
}

/* Where the two factors are found in format `in`, which is `act` or, on a float table, bfloat16. */
static bool bring(struct kern_pool *p, struct cu_gemm *g, size_t n_a, size_t n_b)
{
	size_t room_a = (n_a * 2 + 255) / 256 * 256;
	char *there;

	if (g->in == p->act)
		return true;
	there = cu_scratch(p, CU_SCRATCH_FACTOR, room_a + n_b * 2);
	if (!there)
		return false;
	cu_narrow(p->stream, there, g->a, n_a);
	cu_narrow(p->stream, there + room_a, g->b, n_b);
	g->a = there;
	g->b = there + room_a;
	return true;
}

static void multiply(struct kern_pool *p, struct cu_gemm *g)
{
	size_t n_a, n_b;

	if (g->m <= 0 || g->n <= 0 || g->k <= 0)
		return;
	n_a = g->kind == CU_TN ? span(g->k, g->m, g->lda) : span(g->m, g->k, g->lda);
	n_b = g->kind == CU_NT ? span(g->n, g->k, g->ldb) : span(g->k, g->n, g->ldb);
	if (bring(p, g, n_a, n_b))
		cu_gemm(p->blas, p->stream, g);
}

/* How factors are multiplied: a table of bfloat16 has nothing else. */
static enum kern_format factors(const struct kern_pool *p, enum kern_format f)
{
	return p->act == KERN_BF16 ? KERN_BF16 : f;
}

void cu_product_nt(struct kern_pool *p, enum kern_format f, enum kern_format out, void *c, int ldc,
		   const void *a, int lda, const void *w, int ldw, int m, int n, int k, bool acc)
{
	struct cu_gemm g = {CU_NT, factors(p, f), out, m, n, k, a, w, lda, ldw, c, ldc, acc};

	multiply(p, &g);
}

void cu_gemm_nt(struct kern_pool *p, enum kern_format f, void *c, int ldc, const void *a, int lda,
		const void *w, int ldw, int m, int n, int k, bool acc)
{
	cu_product_nt(p, f, p->act, c, ldc, a, lda, w, ldw, m, n, k, acc);
}

void cu_gemm_nn(struct kern_pool *p, enum kern_format f, void *c, int ldc, const void *a, int lda,
		const void *w, int ldw, int m, int n, int k, bool acc)
{
	struct cu_gemm g = {CU_NN, factors(p, f), p->act, m, k, n, a, w, lda, ldw, c, ldc, acc};

	multiply(p, &g);
}

void cu_gemm_tn(struct kern_pool *p, enum kern_format f, float *c, int ldc, const void *b, int ldb,
		const void *a, int lda, int m, int n, int k, bool acc)
{
	struct cu_gemm g = {CU_TN, factors(p, f), KERN_F32, n, k, m, b, a, ldb, lda, c, ldc, acc};

	multiply(p, &g);
}

/* --- packed weights --------------------------------------------------------------------------- */

/* The weight as an array in format `*f` with rows of k: as it lies, or in `act` in scratch. A table of
 * bfloat16 rounds floats; nobody keeps them there for speed. */
static const void *opened(struct kern_pool *p, enum kern_format *f, const void *wp, int n, int k)
{
	size_t all = (size_t)n * (size_t)k;
	enum kern_format from = *f;
	void *there;

	if (from == KERN_BF16 || from == p->act)
		return wp;
	*f = p->act;
	there = cu_scratch(p, CU_SCRATCH_FACTOR, all * bytes_of(p->act));
	if (there && (from == KERN_Q8 || from == KERN_FP8))
		cu_unpack_8(p->stream, p->act, from, there, wp, n, k);
	else if (there)
		cu_narrow(p->stream, there, wp, all);
	return there;
}

/* On a float table a bfloat16 weight is there already, and the other factor alone is rounded. */
static void with_weight(struct kern_pool *p, enum cu_product kind, enum kern_format f,
			enum kern_format out, void *c, int ldc, const void *a, int lda,
			const void *wp, int m, int n, int k, bool acc)
{
	int inner = kind == CU_NT ? k : n, cols = kind == CU_NT ? n : k;
	struct cu_gemm g = {kind, f, out, m, cols, inner, a, NULL, lda, k, c, ldc, acc};

	if (m <= 0)
		return;
	g.b = opened(p, &g.in, wp, n, k);
	if (!g.b)
		return;
	if (g.in != p->act) {
		size_t n_a = span(m, inner, lda);
		void *there = cu_scratch(p, CU_SCRATCH_FACTOR, n_a * 2);

		if (!there)
			return;
		cu_narrow(p->stream, there, a, n_a);
		g.a = there;
	}
	cu_gemm(p->blas, p->stream, &g);
}

static size_t rounded(size_t bytes)
{
	return (bytes + 255) / 256 * 256;
}

size_t cu_fp8_scratch(int rows, int n, int k)
{
	size_t m = (size_t)(rows < CU_FP8_ROWS ? rows : CU_FP8_ROWS);

	return rounded(m * (size_t)k) + rounded(m * sizeof(float)) + m * (size_t)n * sizeof(float);
}

/* Both factors E4M3 through cuBLAS: sums as floats, which are brought to size by both scales. False:
 * nothing was done, it takes other rows and columns. */
static bool with_fp8(struct kern_pool *p, enum kern_format f, enum kern_format out, void *c, int ldc,
		     const void *a, int lda, const void *wp, int m, int n, int k, bool acc)
{
	const float *scales = (const float *)(const void *)((const char *)wp + cu_q8_scales_at(n, k));
	size_t size = out == KERN_F32 ? 4 : 2;
	char *q;

	if (f != KERN_FP8 || p->act != KERN_BF16 || n % 16 || k % 16 || m <= 0)
		return false;
	q = cu_scratch(p, CU_SCRATCH_FACTOR, cu_fp8_scratch(m, n, k));
	for (int row = 0, take; q && row < m; row += take) {
		take = m - row < CU_FP8_ROWS ? m - row : CU_FP8_ROWS;
		float *scale = (float *)(void *)(q + rounded((size_t)take * (size_t)k));
		float *sums = (float *)(void *)((char *)scale + rounded((size_t)take * sizeof *scale));
		struct cu_gemm g = {CU_NT, KERN_FP8, KERN_F32, take, n, k, q, wp, k, k, sums, n, false};

		cu_rows_fp8(p->stream, q, scale, (const char *)a + (size_t)row * (size_t)lda * 2, lda,
			    take, k);
		cu_gemm(p->blas, p->stream, &g);
		cu_scale_sums(p->stream, out, (char *)c + (size_t)row * (size_t)ldc * size, ldc, sums,
			      scale, scales, take, n, acc);
	}
	return true;
}

/* Up to so many rows our own kernel reads a weight at the speed of memory; beyond, cuBLAS is faster,
 * for int8 even though it has to be widened first. */
#define FEW_ROWS 64
#define FEW_ROWS_Q8 256
#define STEADY_ROWS 4096 /* more than a pass of generation has */

static int few_rows(const struct kern_pool *p, enum kern_format f)
{
	if (p->steady)
		return STEADY_ROWS;
	return f == KERN_Q8 ? FEW_ROWS_Q8 : FEW_ROWS;
}

/* False: nothing was done, too many rows or not aligned. */
static bool with_few_rows(struct kern_pool *p, enum kern_format f, enum kern_format out, void *c,
			  int ldc, const void *a, int lda, const void *wp, int m, int n, int k,
			  bool acc)
{
	size_t bytes = cu_small_scratch(m, n, k);
	void *scratch, *counts;

	if (m > few_rows(p, f) || n <= 0 ||
	    !cu_small_takes(p->act, f, a, lda, wp, k))
		return false;
	scratch = cu_scratch(p, CU_SCRATCH_FACTOR, bytes ? bytes : 64);
	counts = cu_scratch(p, CU_SCRATCH_ZEROS, CU_SMALL_COUNTS);
	if (scratch && counts)
		cu_small(p->stream, f, out, c, ldc, a, lda, wp, m, n, k, acc, scratch, counts);
	return true;
}

void cu_gemm_packed(struct kern_pool *p, enum kern_format f, void *c, int ldc, const void *a,
		    int lda, const void *wp, int m, int n, int k, bool acc)
{
	if (!with_few_rows(p, f, p->act, c, ldc, a, lda, wp, m, n, k, acc) &&
	    !with_fp8(p, f, p->act, c, ldc, a, lda, wp, m, n, k, acc))
		with_weight(p, CU_NT, f, p->act, c, ldc, a, lda, wp, m, n, k, acc);
}

void cu_gemm_logits(struct kern_pool *p, enum kern_format f, float *c, int ldc, const void *a,
		    int lda, const void *wp, int m, int n, int k)
{
	if (!with_few_rows(p, f, KERN_F32, c, ldc, a, lda, wp, m, n, k, false) &&
	    !with_fp8(p, f, KERN_F32, c, ldc, a, lda, wp, m, n, k, false))
		with_weight(p, CU_NT, f, KERN_F32, c, ldc, a, lda, wp, m, n, k, false);
}

void cu_gemm_packed_back(struct kern_pool *p, enum kern_format f, void *c, int ldc, const void *a,
			 int lda, const void *wp, int m, int n, int k, bool acc)
{
	with_weight(p, CU_NN, f, p->act, c, ldc, a, lda, wp, m, n, k, acc);
}
