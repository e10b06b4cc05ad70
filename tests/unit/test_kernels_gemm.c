/* Matrix products of every back end against double precision; bits do not depend on threads,
 * batch or packing.
 */
#include "tests/kern_util.h"

struct mnk {
	int m, n, k;
};

static const struct mnk shapes[] = {
	{1, 1, 1},     {1, 33, 7},    {2, 64, 64},    {3, 130, 65},   {4, 31, 300},
	{5, 17, 257},  {6, 96, 40},   {7, 100, 256},  {8, 15, 600},   {9, 70, 96},
	{10, 33, 160}, {11, 128, 33}, {12, 32, 16},   {13, 33, 17},   {25, 48, 70},
	{64, 40, 544}, {97, 65, 259}, {131, 200, 50}, {200, 40, 520},
};
#define N_SHAPES (sizeof shapes / sizeof shapes[0])

#define EACH_FORMAT(f) for (enum kern_format f = KERN_F32; f <= KERN_Q8; f++)

/* --- What a format keeps of a number, by other means than the kernels use --------------------- */

/* Eight bits of significand, ties to even. */
static double to_bf16(float x)
{
	int e;
	double m = frexp((double)x, &e);

	return ldexp(nearbyint(m * 256), e - 8);
}

static void keep_block(double *out, const float *x)
{
	float max = 0;

	for (int i = 0; i < KERN_Q8_BLOCK; i++)
		max = fmaxf(max, fabsf(x[i]));
	for (int i = 0; i < KERN_Q8_BLOCK; i++)
		out[i] =
			max > 0 ? (double)nearbyintf(x[i] * (127.0f / max)) * (double)(max / 127.0f)
				: 0;
}

/* x[rows][ld] as [rows][cols] of what is kept; blocks run along a row. */
static double *kept(enum kern_format f, const float *x, int rows, int cols, int ld)
{
	double *d = calloc((size_t)(rows * cols), sizeof *d);

	CHECK(d);
	for (int i = 0; i < rows; i++)
		for (int j = 0; j < cols; j++)
			if (f != KERN_Q8)
				d[i * cols + j] = f == KERN_F32 ? (double)x[i * ld + j]
								: to_bf16(x[i * ld + j]);
			else if (j % KERN_Q8_BLOCK == 0)
				keep_block(d + i * cols + j, x + i * ld + j);
	return d;
}

static bool format_takes(enum kern_format f, int k)
{
	return f != KERN_Q8 || k % KERN_Q8_BLOCK == 0;
}

/* want[m][n] += a[m][k] . w[n][k]^T; both [][k] without gaps. */
static void add_product(double *want, const double *a, const double *w, int m, int n, int k)
{
	for (int i = 0; i < m; i++)
		for (int j = 0; j < n; j++)
			for (int p = 0; p < k; p++)
				want[i * n + j] += a[i * k + p] * w[j * k + p];
}

static double *turned(double *x, int rows, int cols)
{
	double *d = calloc((size_t)(rows * cols), sizeof *d);

	CHECK(d);
	for (int i = 0; i < rows; i++)
		for (int j = 0; j < cols; j++)
			d[j * rows + i] = x[i * cols + j];
	free(x);
	return d;
}

static double *doubles_of(const float *x, int rows, int cols, int ld, bool zero)
{
	double *d = calloc((size_t)(rows * cols), sizeof *d);

	CHECK(d);
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

/* --- Against double precision ----------------------------------------------------------------- */

/* Error of a float sum of k products of numbers below 1. */
static double tolerance(int k)
{
	return 1e-6 * (4 + k / 8.0);
}

static void one_nt(const struct kern *k, struct kern_pool *pool, enum kern_format f,
		   const struct mnk *s, bool acc)
{
	int lda = s->k + 3, ldw = s->k + 1, ldc = s->n + 5;
	float *a = numbers((size_t)(s->m * lda), 1), *w = numbers((size_t)(s->n * ldw), 2);
	float *c = output(s->m, s->n, ldc, 3), *d = output(s->m, s->n, ldc, 3);
	double *want = doubles_of(c, s->m, s->n, ldc, !acc);
	double *ka = kept(f, a, s->m, s->k, lda), *kw = kept(f, w, s->n, s->k, ldw);
	struct slab wp = slab_packed(k, pool, f, w, ldw, s->n, s->k);

	add_product(want, ka, kw, s->m, s->n, s->k);
	k->gemm_packed(pool, f, c, ldc, a, lda, wp.p, s->m, s->n, s->k, acc);
	check_matrix(c, ldc, want, s->m, s->n, tolerance(s->k));
	check_guard(c, (size_t)(s->m * ldc));
	if (f != KERN_Q8) {
		k->gemm_nt(pool, f, d, ldc, a, lda, w, ldw, s->m, s->n, s->k, acc);
		check_same(c, d, (size_t)(s->m * ldc));
		check_guard(d, (size_t)(s->m * ldc));
	}
	free(want);
	free(ka);
	free(kw);
	guarded_free(a);
	guarded_free(w);
	guarded_free(c);
	guarded_free(d);
	slab_free(wp);
}

/* The two gradients, checked as transposed plain products. */
static void one_back(const struct kern *k, struct kern_pool *pool, enum kern_format f,
		     const struct mnk *s, bool acc)
{
	int ldb = s->n + 2, ldw = s->k + 1, lda = s->k + 4;
	float *b = numbers((size_t)(s->m * ldb), 4), *w = numbers((size_t)(s->n * ldw), 5);
	float *a = output(s->m, s->k, lda, 6), *dw = output(s->n, s->k, ldw, 8);
	float *a_in = numbers((size_t)(s->m * lda), 7);
	double *want = doubles_of(a, s->m, s->k, lda, !acc), *kb = kept(f, b, s->m, s->n, ldb),
	       *kw = turned(kept(f, w, s->n, s->k, ldw), s->n, s->k),
	       *ka = turned(kept(f, a_in, s->m, s->k, lda), s->m, s->k);

	add_product(want, kb, kw, s->m, s->k, s->n);
	k->gemm_nn(pool, f, a, lda, b, ldb, w, ldw, s->m, s->n, s->k, acc);
	check_matrix(a, lda, want, s->m, s->k, tolerance(s->n));
	check_guard(a, (size_t)(s->m * lda));
	free(want);
	want = doubles_of(dw, s->n, s->k, ldw, !acc);
	kb = turned(kb, s->m, s->n);
	add_product(want, kb, ka, s->n, s->k, s->m);
	k->gemm_tn(pool, f, dw, ldw, b, ldb, a_in, lda, s->m, s->n, s->k, acc);
	check_matrix(dw, ldw, want, s->n, s->k, tolerance(s->m));
	check_guard(dw, (size_t)(s->n * ldw));
	free(want);
	free(ka);
	free(kb);
	free(kw);
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
	EACH_FORMAT(f)
	for (size_t i = 0; i < 2 * N_SHAPES; i++) {
		const struct mnk *s = &shapes[i / 2];

		if (format_takes(f, s->k))
			one_nt(k, pool, f, s, i % 2);
		if (f != KERN_Q8)
			one_back(k, pool, f, s, i % 2);
	}
	kern_pool_free(pool);
}

/* Against the numbers before they were rounded: what a format may cost. */
void test_kernels_gemm__errors_stay_within_the_format(void)
{
	enum { M = 9, N = 50, K = 320 };
	struct kern_pool *pool = kern_pool_new(2);
	float *a = numbers(M * K, 1), *w = numbers(N * K, 2), *c = guarded(M * N);

	EACH_BACKEND(k)
	EACH_FORMAT(f)
	{
		/* Half a unit of each factor: 2^-9 of it, or 1/254 of the largest of its block. */
		double each = f == KERN_F32 ? 1e-7 : f == KERN_BF16 ? 1 / 512.0 : 1 / 254.0;
		struct slab wp = slab_packed(k, pool, f, w, K, N, K);

		k->gemm_packed(pool, f, c, N, a, K, wp.p, M, N, K, false);
		for (int i = 0; i < M * N; i++) {
			double want = 0, bound = 1e-5;

			for (int p = 0; p < K; p++) {
				double x = (double)a[i / N * K + p], y = (double)w[i % N * K + p];

				want += x * y;
				bound += f == KERN_Q8 ? each * (fabs(x) + fabs(y) + each)
						      : each * fabs(x * y) * (2 + each);
			}
			CHECK(fabs((double)c[i] - want) <= bound);
		}
		slab_free(wp);
	}
	kern_pool_free(pool);
}

/* --- Bits ------------------------------------------------------------------------------------- */

void test_kernels_gemm__bits_do_not_depend_on_threads(void)
{
	enum { M = 150, N = 260, K = 320, ALL = 2 * M * N + M * K + N * K };
	float *a = numbers(M * K, 1), *w = numbers(N * K, 2), *b = numbers(M * N, 3);
	float *first = guarded(ALL), *again = guarded(ALL);

	EACH_BACKEND(k)
	EACH_FORMAT(f)
	for (int threads = 1; threads <= 4; threads *= 2) {
		struct kern_pool *pool = kern_pool_new(threads);
		float *c = threads == 1 ? first : again;
		struct slab wp = slab_packed(k, pool, f, w, K, N, K);

		memset(c, 0, ALL * sizeof *c);
		k->gemm_packed(pool, f, c, N, a, K, wp.p, M, N, K, false);
		c += M * N;
		if (f != KERN_Q8) {
			k->gemm_nt(pool, f, c, N, a, K, w, K, M, N, K, false);
			k->gemm_nn(pool, f, c + M * N, K, b, N, w, K, M, N, K, false);
			k->gemm_tn(pool, f, c + M * N + M * K, K, b, N, a, K, M, N, K, false);
		}
		if (threads > 1)
			check_same(first, again, ALL);
		slab_free(wp);
		kern_pool_free(pool);
	}
}

void test_kernels_gemm__a_row_does_not_depend_on_the_batch(void)
{
	enum { M = 120, N = 200, K = 352, FROM = 20 };
	struct kern_pool *pool = kern_pool_new(2);
	float *a = numbers(M * K, 1), *w = numbers(N * K, 2), *all = guarded(M * N),
	      *some = guarded(M * N);

	EACH_BACKEND(k)
	EACH_FORMAT(f)
	{
		struct slab wp = slab_packed(k, pool, f, w, K, N, K);

		k->gemm_packed(pool, f, all, N, a, K, wp.p, M, N, K, false);
		for (int m = 1; m <= 64; m += m < 14 ? 1 : 25) {
			k->gemm_packed(pool, f, some, N, a + FROM * K, K, wp.p, m, N, K, false);
			check_same(all + FROM * N, some, (size_t)(m * N));
			if (f == KERN_Q8)
				continue;
			k->gemm_nt(pool, f, some, N, a + FROM * K, K, w, K, m, N, K, false);
			check_same(all + FROM * N, some, (size_t)(m * N));
		}
		slab_free(wp);
	}
	kern_pool_free(pool);
}

/* Which tables give the same bits, by format: all that fuse; and all for exact products. */
void test_kernels_gemm__back_ends_agree_in_bits(void)
{
	enum { M = 61, N = 77, K = 544 };
	static const struct {
		enum kern_format format;
		const char *x, *y;
	} pairs[] = {
		{KERN_F32, "avx2", "avx512"}, {KERN_F32, "avx512", "avx512bf16"},
		{KERN_BF16, "plain", "avx2"}, {KERN_BF16, "avx2", "avx512"},
		{KERN_Q8, "avx2", "avx512"},  {KERN_Q8, "avx512", "avx512bf16"},
	};
	struct kern_pool *pool = kern_pool_new(1);
	float *a = numbers(M * K, 1), *w = numbers(N * K, 2), *c = guarded(M * N),
	      *d = guarded(M * N);
	int seen = 0;

	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		const struct kern *x = kern_cpu_named(pairs[i].x), *y = kern_cpu_named(pairs[i].y);
		enum kern_format f = pairs[i].format;

		if (!x || !y)
			continue;
		struct slab xp = slab_packed(x, pool, f, w, K, N, K),
			    yp = slab_packed(y, pool, f, w, K, N, K);
		x->gemm_packed(pool, f, c, N, a, K, xp.p, M, N, K, false);
		y->gemm_packed(pool, f, d, N, a, K, yp.p, M, N, K, false);
		check_same(c, d, M * N);
		slab_free(xp);
		slab_free(yp);
		seen++;
	}
	kern_pool_free(pool);
	if (!seen)
		SKIP("this processor lacks AVX2");
}

/* Not a number and infinity are not hidden by a format, and stay in their row. */
void test_kernels_gemm__not_a_number_stays_one_in_its_row(void)
{
	enum { M = 5, N = 40, K = 64 };
	struct kern_pool *pool = kern_pool_new(1);
	float *a = numbers(M * K, 1), *w = numbers(N * K, 2), *c = guarded(M * N);

	a[1 * K + 33] = NAN;
	a[3 * K + 2] = INFINITY;
	EACH_BACKEND(k)
	EACH_FORMAT(f)
	{
		struct slab wp = slab_packed(k, pool, f, w, K, N, K);

		k->gemm_packed(pool, f, c, N, a, K, wp.p, M, N, K, false);
		for (int i = 0; i < M * N; i++)
			CHECK(isfinite(c[i]) == (i / N != 1 && i / N != 3));
		slab_free(wp);
	}
	kern_pool_free(pool);
}

/* --- Packing ---------------------------------------------------------------------------------- */

void test_kernels_gemm__portions_of_a_weight_come_in_any_order(void)
{
	enum { N = 211, K = 96 };
	struct kern_pool *pool = kern_pool_new(4);
	float *w = numbers(N * K, 9);
	uint32_t seed = 5;

	EACH_BACKEND(k)
	EACH_FORMAT(f)
	{
		struct slab whole = slab_packed(k, pool, f, w, K, N, K);
		struct slab singly = slab_new(k, f, N, K), portions = slab_new(k, f, N, K);
		int ends[N + 1] = {0}, n = 0;

		for (int r = N - 1; r >= 0; r--)
			k->pack(pool, f, singly.p, N, K, w + r * K, K, r, 1);
		check_same(whole.p, singly.p, whole.words);
		while (ends[n] < N) {
			int to = ends[n] + 1 + (int)((number(&seed) + 1) * 40);

			ends[++n] = to < N ? to : N;
		}
		for (int i = 0; i < n; i++) {
			int p = i % 2 ? i / 2 : n - 1 - i / 2, row = ends[p];

			k->pack(pool, f, portions.p, N, K, w + row * K, K, row, ends[p + 1] - row);
		}
		check_same(whole.p, portions.p, whole.words);
		slab_free(whole);
		slab_free(singly);
		slab_free(portions);
	}
	kern_pool_free(pool);
}

/* Reads back what is kept, which is what a product with one 1 gives. */
void test_kernels_gemm__a_packed_row_is_read_as_it_is_kept(void)
{
	enum { N = 75, K = 160, ROWS = 4 };
	static const int32_t ids[ROWS] = {0, 74, 33, 31};
	struct kern_pool *pool = kern_pool_new(2);
	float *w = numbers(N * K, 9), *out = guarded(ROWS * K), one[K] = {0}, c[N];

	memset(w + 33 * K, 0, K * sizeof *w);
	EACH_BACKEND(k)
	EACH_FORMAT(f)
	{
		struct slab wp = slab_packed(k, pool, f, w, K, N, K);
		double *want = kept(f, w, N, K, K);

		k->embed_packed(pool, f, out, wp.p, N, K, ids, ROWS);
		check_guard(out, ROWS * K);
		for (int r = 0; r < ROWS; r++)
			check_close(out + r * K, want + ids[r] * K, K, 1e-7);
		for (int p = 0; p < K; p += 7) {
			one[p] = 1;
			k->gemm_packed(pool, f, c, N, one, K, wp.p, 1, N, K, false);
			one[p] = 0;
			for (int r = 0; r < ROWS; r++)
				if (f == KERN_Q8)
					CHECK(fabsf(c[ids[r]] - out[r * K + p]) <= 2e-7f);
				else
					CHECK(c[ids[r]] == out[r * K + p]);
		}
		free(want);
		slab_free(wp);
	}
	kern_pool_free(pool);
}

/* More right factor than is packed at a time. */
void test_kernels_gemm__a_wide_weight_is_packed_in_portions(void)
{
	enum { M = 2, N = 9001, K = 260 };
	const struct kern *k = kern_cpu();
	struct kern_pool *pool = kern_pool_new(2);
	float *a = numbers(M * K, 1), *w = numbers(N * K, 2), *c = guarded(M * N),
	      *d = guarded(M * N);
	struct slab wp = slab_packed(k, pool, KERN_F32, w, K, N, K);

	k->gemm_packed(pool, KERN_F32, c, N, a, K, wp.p, M, N, K, false);
	k->gemm_nt(pool, KERN_F32, d, N, a, K, w, K, M, N, K, false);
	check_same(c, d, M * N);
	check_guard(d, M * N);
	slab_free(wp);
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

/* The gradient of the input through a packed weight: that of the weight as it is kept. */
void test_kernels_gemm__packed_back_is_the_product_with_what_is_kept(void)
{
	enum { M = 37, N = 600, K = 96 };
	struct kern_pool *pool = kern_pool_new(2);
	float *a = numbers(M * N, 1), *w = numbers(N * K, 2), *kept = guarded(N * K);
	int32_t ids[N];

	for (int i = 0; i < N; i++)
		ids[i] = i;
	EACH_BACKEND(k)
	EACH_FORMAT(f)
	for (int acc = 0; acc < 2; acc++) {
		struct slab wp = slab_packed(k, pool, f, w, K, N, K);
		float *got = numbers(M * K, 3), *want = numbers(M * K, 3);

		k->embed_packed(pool, f, kept, wp.p, N, K, ids, N);
		k->gemm_packed_back(pool, f, got, K, a, N, wp.p, M, N, K, acc);
		k->gemm_nn(pool, f == KERN_Q8 ? KERN_F32 : f, want, K, a, N, kept, K, M, N, K, acc);
		check_same(got, want, M * K);
		check_guard(got, M * K);
		guarded_free(got);
		guarded_free(want);
		slab_free(wp);
	}
	guarded_free(a);
	guarded_free(w);
	guarded_free(kept);
	kern_pool_free(pool);
}

void test_kernels_gemm__norm_and_product_in_one(void)
{
	static const int rows[] = {1, 3, 13, 200};
	/* Heads as wide as a panel, two and parts of one, and none that any block of columns fits.
	 */
	static const int head_dims[] = {0, 32, 64, 16, 20};
	enum { M = 200, N = 320, K = 352, POSITIONS = 50 };
	struct kern_pool *pool = kern_pool_new(2);
	float *x = numbers(M * K, 1), *w = numbers(N * K, 2), *norm = numbers(K, 3);
	float *b = numbers(N, 4), *cs = numbers(POSITIONS * 32, 5),
	      *sn = numbers(POSITIONS * 32, 6);
	float *a = guarded(M * K), *want = guarded(M * N), *got = guarded(M * N);
	int32_t pos[M];

	for (int r = 0; r < M; r++)
		pos[r] = r * 7 % POSITIONS;
	EACH_BACKEND(k)
	EACH_FORMAT(f)
	for (int i = 0; i < 20; i++) {
		int m = rows[i % 4], d = head_dims[i / 4], heads = d ? N / d * 3 / 5 : 0;
		struct kern_turn t = {i % 2 ? b : NULL, pos, cs, sn, heads, d};
		struct slab wp = slab_packed(k, pool, f, w, K, N, K);

		k->rmsnorm(pool, a, NULL, x, norm, m, K, 1e-5f);
		k->gemm_packed(pool, f, want, N, a, K, wp.p, m, N, K, false);
		if (d && t.bias)
			k->bias(pool, want, N, b, m, N);
		if (d)
			k->rope(pool, want, N, m, heads, d, pos, cs, sn, false);
		k->norm_packed(pool, f, got, N, x, norm, 1e-5f, wp.p, m, N, K, d ? &t : NULL);
		check_same(want, got, (size_t)(m * N));
		check_guard(got, M * N);
		slab_free(wp);
	}
	guarded_free(b);
	guarded_free(cs);
	guarded_free(sn);
	guarded_free(x);
	guarded_free(w);
	guarded_free(norm);
	guarded_free(a);
	guarded_free(want);
	guarded_free(got);
	kern_pool_free(pool);
}

/* Norm, gated product and the way back to the model's width, or nothing at all. */
void test_kernels_gemm__feed_forward_in_one(void)
{
	static const int rows[] = {1, 3, 13, 200}, widths[] = {32, 96, 100, 416};
	enum { M = 200, F = 416, K = 352 };
	struct kern_pool *pool = kern_pool_new(2);
	float *x = numbers(M * K, 1), *norm = numbers(K, 3), *w = numbers(2 * F * K, 2);
	float *a = guarded(M * K), *gu = guarded(2 * M * F), *y = guarded(M * F);
	float *want = guarded(M * K), *got = guarded(M * K);
	int done = 0, refused = 0;

	EACH_BACKEND(k)
	EACH_FORMAT(f)
	for (int i = 0; i < 32; i++) {
		int m = rows[i % 4], width = widths[i / 4 % 4];
		bool acc = i >= 16;
		struct slab w13, w2;

		if (f == KERN_Q8 && width % KERN_Q8_BLOCK != 0)
			continue;
		w13 = slab_packed(k, pool, f, w, K, 2 * width, K);
		w2 = slab_packed(k, pool, f, w + 7, width, K, width);
		memcpy(want, x, (size_t)(m * K) * sizeof *x);
		memcpy(got, x, (size_t)(m * K) * sizeof *x);
		k->rmsnorm(pool, a, NULL, x, norm, m, K, 1e-5f);
		k->gemm_packed(pool, f, gu, 2 * width, a, K, w13.p, m, 2 * width, K, false);
		k->swiglu(pool, y, gu, gu + width, 2 * width, m, width);
		if (k->ffn_packed(pool, f, got, got, norm, 1e-5f, w13.p, w2.p, m, width, K, acc)) {
			k->gemm_packed(pool, f, want, K, y, width, w2.p, m, K, width, acc);
			done++;
		} else {
			refused++;
		}
		check_same(want, got, (size_t)(m * K));
		check_guard(got, M * K);
		slab_free(w13);
		slab_free(w2);
	}
	CHECK(done > 3 * refused && refused > 0);
	guarded_free(x);
	guarded_free(norm);
	guarded_free(w);
	guarded_free(a);
	guarded_free(gu);
	guarded_free(y);
	guarded_free(want);
	guarded_free(got);
	kern_pool_free(pool);
}
