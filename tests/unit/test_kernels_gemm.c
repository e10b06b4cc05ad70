/* Matrix products of every back end against double precision; bits do not depend on threads,
 * batch or packing.
 */
#include "tests/kern_util.h"

struct mnk {
	int m, n, k;
};

static const struct mnk shapes[] = {
	{1, 1, 1},    {1, 33, 7},    {2, 64, 64},    {3, 130, 65},   {4, 31, 300}, {5, 17, 257},
	{6, 96, 40},  {7, 100, 256}, {8, 15, 600},   {11, 128, 33},  {12, 32, 16}, {13, 33, 17},
	{25, 48, 70}, {97, 65, 259}, {131, 200, 50}, {200, 40, 520},
};

static void want_nt(double *c, const float *a, int lda, const float *w, int ldw,
		    const struct mnk *s)
{
	for (int i = 0; i < s->m; i++)
		for (int j = 0; j < s->n; j++)
			for (int p = 0; p < s->k; p++)
				c[i * s->n + j] += (double)a[i * lda + p] * (double)w[j * ldw + p];
}

static double *doubles_of(const float *x, int rows, int cols, int ld, bool zero)
{
	double *d = calloc((size_t)(rows * cols), sizeof *d);

	for (int i = 0; !zero && i < rows; i++)
		for (int j = 0; j < cols; j++)
			d[i * cols + j] = (double)x[i * ld + j];
	return d;
}

static void check_matrix(const float *c, int ldc, const double *want, int rows, int cols,
			 double tol)
{
	for (int i = 0; i < rows; i++) {
		check_close(c + i * ldc, want + i * cols, (size_t)cols, tol);
		for (int j = cols; j < ldc && i < rows - 1;
		     j++) /* The gap between rows is not ours. */
			CHECK(c[i * ldc + j] == 7);
	}
}

static float *output(int rows, int cols, int ldc, uint32_t seed)
{
	float *c = guarded((size_t)(rows * ldc));

	for (int i = 0; i < rows; i++)
		for (int j = 0; j < ldc; j++)
			c[i * ldc + j] = j < cols ? number(&seed) : 7;
	return c;
}

static void one_nt(const struct kern *k, struct kern_pool *pool, const struct mnk *s, bool acc)
{
	int lda = s->k + 3, ldw = s->k + 1, ldc = s->n + 5;
	float *a = numbers((size_t)(s->m * lda), 1), *w = numbers((size_t)(s->n * ldw), 2);
	float *c = output(s->m, s->n, ldc, 3), *d = output(s->m, s->n, ldc, 3);
	double *want = doubles_of(c, s->m, s->n, ldc, !acc);
	size_t packed_size = k->pack_size(KERN_F32, s->n, s->k) / sizeof(float);
	float *wp = guarded(packed_size);
	int half = s->n / 2;

	want_nt(want, a, lda, w, ldw, s);
	k->gemm_nt(pool, KERN_F32, c, ldc, a, lda, w, ldw, s->m, s->n, s->k, acc);
	check_matrix(c, ldc, want, s->m, s->n, 1e-6 * (4 + s->k / 8.0));
	check_guard(c, (size_t)(s->m * ldc));
	memset(wp, 0, packed_size * sizeof *wp);
	k->pack(pool, KERN_F32, wp, s->n, s->k, w + (ptrdiff_t)half * ldw, ldw, half, s->n - half);
	k->pack(pool, KERN_F32, wp, s->n, s->k, w, ldw, 0, half);
	check_guard(wp, packed_size);
	k->gemm_packed(pool, KERN_F32, d, ldc, a, lda, wp, s->m, s->n, s->k, acc);
	check_same(c, d, (size_t)(s->m * ldc));
	free(want);
	guarded_free(a);
	guarded_free(w);
	guarded_free(c);
	guarded_free(d);
	guarded_free(wp);
}

/* The two gradients, checked as transposed plain products. */
static void one_back(const struct kern *k, struct kern_pool *pool, const struct mnk *s, bool acc)
{
	int ldb = s->n + 2, ldw = s->k + 1, lda = s->k + 4;
	float *b = numbers((size_t)(s->m * ldb), 4), *w = numbers((size_t)(s->n * ldw), 5);
	float *a = output(s->m, s->k, lda, 6), *dw = output(s->n, s->k, ldw, 8);
	double *want = doubles_of(a, s->m, s->k, lda, !acc);
	float *a_in = numbers((size_t)(s->m * lda), 7);

	for (int i = 0; i < s->m; i++)
		for (int j = 0; j < s->n; j++)
			for (int p = 0; p < s->k; p++)
				want[i * s->k + p] +=
					(double)b[i * ldb + j] * (double)w[j * ldw + p];
	k->gemm_nn(pool, KERN_F32, a, lda, b, ldb, w, ldw, s->m, s->n, s->k, acc);
	check_matrix(a, lda, want, s->m, s->k, 1e-6 * (4 + s->n / 8.0));
	check_guard(a, (size_t)(s->m * lda));
	free(want);
	want = doubles_of(dw, s->n, s->k, ldw, !acc);
	for (int i = 0; i < s->m; i++)
		for (int j = 0; j < s->n; j++)
			for (int p = 0; p < s->k; p++)
				want[j * s->k + p] +=
					(double)b[i * ldb + j] * (double)a_in[i * lda + p];
	k->gemm_tn(pool, KERN_F32, dw, ldw, b, ldb, a_in, lda, s->m, s->n, s->k, acc);
	check_matrix(dw, ldw, want, s->n, s->k, 1e-6 * (4 + s->m / 8.0));
	check_guard(dw, (size_t)(s->n * ldw));
	free(want);
	guarded_free(a);
	guarded_free(a_in);
	guarded_free(b);
	guarded_free(w);
	guarded_free(dw);
}

void test_kernels_gemm__agrees_with_double_precision(void)
{
	struct kern_pool *pool = kern_pool_new(2);

	EACH_BACKEND(k)
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
		for (int acc = 0; acc < 2; acc++) {
			one_nt(k, pool, &shapes[i], acc);
			one_back(k, pool, &shapes[i], acc);
		}
	kern_pool_free(pool);
}

void test_kernels_gemm__bits_do_not_depend_on_threads(void)
{
	enum { M = 150, N = 260, K = 300 };
	float *a = numbers(M * K, 1), *w = numbers(N * K, 2), *b = numbers(M * N, 3);
	float *first = guarded(M * N + M * K + N * K), *again = guarded(M * N + M * K + N * K);

	EACH_BACKEND(k)
	for (int threads = 1; threads <= 4; threads *= 2) {
		struct kern_pool *pool = kern_pool_new(threads);
		float *c = threads == 1 ? first : again;

		k->gemm_nt(pool, KERN_F32, c, N, a, K, w, K, M, N, K, false);
		k->gemm_nn(pool, KERN_F32, c + M * N, K, b, N, w, K, M, N, K, false);
		k->gemm_tn(pool, KERN_F32, c + M * N + M * K, K, b, N, a, K, M, N, K, false);
		if (threads > 1)
			check_same(first, again, M * N + M * K + N * K);
		kern_pool_free(pool);
	}
}

void test_kernels_gemm__a_row_does_not_depend_on_the_batch(void)
{
	enum { M = 40, N = 200, K = 333 };
	struct kern_pool *pool = kern_pool_new(2);
	float *a = numbers(M * K, 1), *w = numbers(N * K, 2), *all = guarded(M * N),
	      *some = guarded(M * N);

	EACH_BACKEND(k)
	{
		k->gemm_nt(pool, KERN_F32, all, N, a, K, w, K, M, N, K, false);
		for (int m = 1; m <= 14; m++) {
			k->gemm_nt(pool, KERN_F32, some, N, a + 20 * K, K, w, K, m, N, K, false);
			check_same(all + 20 * N, some, (size_t)(m * N));
		}
	}
	kern_pool_free(pool);
}

void test_kernels_gemm__fused_back_ends_agree_in_bits(void)
{
	enum { M = 61, N = 77, K = 513 };
	const struct kern *x = kern_cpu_named("avx2"), *y = kern_cpu_named("avx512");
	struct kern_pool *pool = kern_pool_new(1);
	float *a = numbers(M * K, 1), *w = numbers(N * K, 2), *c = guarded(M * N),
	      *d = guarded(M * N);

	if (!x || !y)
		SKIP("this processor lacks AVX-512");
	x->gemm_nt(pool, KERN_F32, c, N, a, K, w, K, M, N, K, false);
	y->gemm_nt(pool, KERN_F32, d, N, a, K, w, K, M, N, K, false);
	check_same(c, d, M * N);
	kern_pool_free(pool);
}

void test_kernels_gemm__empty_sum_is_zero(void)
{
	struct kern_pool *pool = kern_pool_new(1);
	float c[4] = {1, 2, 3, 4}, a[1] = {0};

	EACH_BACKEND(k)
	{
		k->gemm_nt(pool, KERN_F32, c, 2, a, 1, a, 1, 2, 2, 0, true);
		CHECK(c[3] == 4);
	}
	kern_cpu()->gemm_nt(pool, KERN_F32, c, 2, a, 1, a, 1, 2, 2, 0, false);
	CHECK(c[0] == 0 && c[3] == 0);
	kern_pool_free(pool);
}

static void count_item(void *ctx, int item, int thread)
{
	(void)thread;
	((int *)ctx)[item]++;
}

void test_kernels_gemm__pool_runs_every_item_once(void)
{
	enum { ITEMS = 97, ROUNDS = 3000 };
	int seen[ITEMS] = {0};

	for (int threads = 1; threads <= 4; threads++) {
		struct kern_pool *pool = kern_pool_new(threads);

		CHECK_EQ(kern_pool_threads(pool), threads);
		for (int r = 1; r <= ROUNDS; r++)
			kern_pool_run(pool, count_item, seen, ITEMS);
		for (int i = 0; i < ITEMS; i++)
			CHECK_EQ(seen[i], ROUNDS * threads);
		kern_pool_free(pool);
	}
}
