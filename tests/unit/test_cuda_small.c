/* CUDA products with few rows of activations, in the emulator: against double precision, and the bits
 * of a row do not depend on how many others there are.
 */
#include "kernels/gpu.h"
#include "tests/cuda_util.h"

struct shape {
	int n, k;
};

/* Slices: 8, 1 (tails of rows of W and of k), 2 with an uneven last one, many rows of W. */
static const struct shape shapes[] = {{80, 2048}, {37, 48}, {130, 560}, {64, 64}};
#define N_SHAPES (sizeof shapes / sizeof shapes[0])
#define LDA_MORE 8
#define LDC_MORE 3

/* A weight on the device, and what it stands for on the host. */
struct weight {
	struct shape s;
	enum kern_format f;
	float *as; /* [n][k] */
	void *dev;
	size_t bytes;
};

/* E4M3 by its definition. */
static float e4m3(unsigned b)
{
	float part = (float)(b & 7) / 8, sign = b & 0x80 ? -1 : 1;
	int power = (int)(b >> 3 & 15);

	return sign * (power ? ldexpf(1 + part, power - 7) : ldexpf(part, -6));
}

/* A byte, and the number it is with that scale. */
static unsigned char eight_bits(enum kern_format f, float *x, size_t at, float scale)
{
	unsigned code = (unsigned)(at * 37 % 254);
	int q = (int)lrintf(*x * 127);

	if (f == KERN_Q8) {
		*x = rounded_bf16((float)q * scale);
		return (unsigned char)q;
	}
	code += code >= 127; /* All codes but those of what is no number. */
	*x = e4m3(code) * scale;
	return (unsigned char)code;
}

static struct weight make_weight(struct shape s, enum kern_format f, uint32_t seed)
{
	size_t n = (size_t)(s.n * s.k), scales = cu_q8_scales_at(s.n, s.k);
	struct weight w = {s, f, numbers(n, seed), NULL, 0};

	if (f == KERN_BF16) {
		w.dev = dev_act(f, w.as, n);
		return w;
	}
	w.bytes = scales + (size_t)s.n * sizeof(float);
	char *packed = calloc(1, w.bytes);
	CHECK(packed);
	for (int i = 0; i < s.n; i++) {
		float scale = 0.001f + 0.0001f * (float)i;

		memcpy(packed + scales + (size_t)i * sizeof scale, &scale, sizeof scale);
		for (int c = 0; c < s.k; c++) {
			size_t at = (size_t)i * (size_t)s.k + (size_t)c;

			packed[at] = (char)eight_bits(f, &w.as[at], at, scale);
		}
	}
	w.dev = dev_put(packed, w.bytes);
	free(packed);
	return w;
}

static void free_weight(struct weight *w)
{
	guarded_free(w->as);
	dev_free(w->dev);
}

/* C of rows [0, m) in `out` as floats, added to `before` if that is given. The caller frees. */
static float *run(const struct weight *w, enum kern_format out, const float *a, int m, float *before,
		  unsigned *counts)
{
	int lda = w->s.k + LDA_MORE, ldc = w->s.n + LDC_MORE;
	size_t n_a = (size_t)(unsigned)(m * lda), n_c = (size_t)(unsigned)(m * ldc);
	float *copy = copy_of(a, n_a), *got;
	void *da = dev_act(KERN_BF16, copy, n_a);
	void *dc = before ? dev_act(out, before, n_c) : dev_new(n_c * act_size(out));
	void *scratch = dev_new(cu_small_scratch(m, w->s.n, w->s.k));

	CHECK(cu_small_takes(KERN_BF16, w->f, da, lda, w->dev, w->s.k));
	cu_small(NULL, w->f, out, dc, ldc, da, lda, w->dev, m, w->s.n, w->s.k, before != NULL, scratch,
		 counts);
	got = dev_floats(out, dc, n_c);
	guarded_free(copy);
	dev_free(da);
	dev_free(dc);
	dev_free(scratch);
	return got;
}

static void check_product(const struct weight *w, enum kern_format out, int m, bool acc,
			  unsigned *counts)
{
	int lda = w->s.k + LDA_MORE, ldc = w->s.n + LDC_MORE;
	float *a = numbers((size_t)(m * lda), 3), *before = numbers((size_t)(m * ldc), 4);
	float *got = run(w, out, a, m, acc ? before : NULL, counts), *some;
	size_t all = (size_t)(m * w->s.n);
	double *want = malloc(all * sizeof *want);

	some = malloc(all * sizeof *some);
	CHECK(want && some);
	for (int i = 0; i < m; i++)
		for (int j = 0; j < w->s.n; j++) {
			double sum = acc ? (double)before[i * ldc + j] : 0;

			for (int c = 0; c < w->s.k; c++)
				sum += (double)rounded_bf16(a[i * lda + c]) *
				       (double)w->as[j * w->s.k + c];
			want[i * w->s.n + j] = sum;
			some[i * w->s.n + j] = got[i * ldc + j];
		}
	CHECK_ERROR(some, want, all, out == KERN_F32 ? 2e-6 : 3e-3);
	/* What lies between rows is left alone. */
	for (int i = 0; i < m; i++)
		for (int j = w->s.n; j < ldc; j++)
			CHECK(acc ? got[i * ldc + j] == before[i * ldc + j]
				  : got[i * ldc + j] != got[i * ldc + j]);
	guarded_free(a);
	guarded_free(before);
	free(got);
	free(want);
	free(some);
}

void test_cuda_small__against_double(void)
{
	static const int rows[] = {1, 5, 8, 16, 31, 70};
	static const enum kern_format formats[] = {KERN_BF16, KERN_Q8, KERN_FP8};
	unsigned *counts = dev_zeros(CU_SMALL_COUNTS);

	for (size_t i = 0; i < 3 * N_SHAPES; i++) {
		struct weight w = make_weight(shapes[i / 3], formats[i % 3], (uint32_t)i);

		for (size_t j = 0; j < sizeof rows / sizeof rows[0]; j++) {
			if (rows[j] > 31 && i / 3 != 2)
				continue;
			cuemu_order((unsigned)j);
			check_product(&w, j % 2 ? KERN_F32 : KERN_BF16, rows[j], j % 3 == 1, counts);
		}
		free_weight(&w);
	}
	dev_free(counts);
}

void test_cuda_small__bits_of_a_row_do_not_depend_on_the_others(void)
{
	static const enum kern_format formats[] = {KERN_BF16, KERN_Q8, KERN_FP8};
	static const int rows[] = {1, 7, 16, 30, 66};
	unsigned *counts = dev_zeros(CU_SMALL_COUNTS);

	for (int i = 0; i < 6; i++) {
		struct weight w = make_weight(shapes[i / 3 * 2], formats[i % 3], 5);
		int lda = w.s.k + LDA_MORE, ldc = w.s.n + LDC_MORE;
		float *a = numbers((size_t)(66 * lda), 6), *want = run(&w, KERN_F32, a, 66, NULL, counts);

		for (size_t j = 0; j < sizeof rows / sizeof rows[0]; j++) {
			float *got;

			cuemu_order((unsigned)(j + 1));
			got = run(&w, KERN_F32, a, rows[j], NULL, counts);
			for (int r = 0; r < rows[j]; r++)
				check_same(got + r * ldc, want + r * ldc, (size_t)w.s.n);
			free(got);
		}
		guarded_free(a);
		free(want);
		free_weight(&w);
	}
	dev_free(counts);
}

/* Through the table: few rows go to our kernel, many to cuBLAS, and all are right. */
void test_cuda_small__the_table_sends_few_rows_here(void)
{
	enum { N = 48, K = 64, M = 70 };
	static const enum kern_format formats[] = {KERN_BF16, KERN_Q8, KERN_FP8};
	const struct kern *k = pawl_gpu.tables[0];
	struct kern_open open = {0};
	char why[200];
	struct kern_pool *pool = k->open(&open, why, sizeof why);
	float *w = numbers((size_t)N * K, 1), *a = numbers((size_t)M * K, 2), got[2][M * N];
	double want[M * N] = {0};

	CHECK(pool && k->act == KERN_BF16);
	for (int i = 0; i < N * K; i++)
		w[i] = rounded_bf16(w[i]);
	for (int i = 0; i < M * K; i++)
		a[i] = rounded_bf16(a[i]);
	for (int i = 0; i < M * N; i++)
		for (int c = 0; c < K; c++)
			want[i] += (double)a[i / N * K + c] * (double)w[i % N * K + c];
	float *dw = k->alloc(pool, (size_t)N * K * 4), *da = k->alloc(pool, (size_t)M * K * 4);
	void *half = k->alloc(pool, (size_t)M * K * 2);
	float *c = k->alloc(pool, sizeof got[0]);

	k->put(pool, dw, w, (size_t)N * K * 4);
	k->put(pool, da, a, (size_t)M * K * 4);
	k->narrow(pool, half, da, (size_t)M * K);
	for (int f = 0; f < 3; f++) {
		void *wp = k->alloc(pool, k->pack_size(formats[f], N, K));

		k->pack(pool, formats[f], wp, N, K, dw, K, 0, N);
		for (int few = 0; few < 2; few++) {
			int m = few ? 9 : M;
			unsigned long before;

			k->get(pool, got[0], c, 4);
			before = cuemu_kernels();
			k->logits(pool, formats[f], c, N, half, K, wp, m, N, K);
			k->get(pool, got[few], c, sizeof got[0]);
			/* cuBLAS is no kernel of ours; 70 rows are few for int8. Of FP8 they are
			 * brought to E4M3 before, and to size after. */
			CHECK_EQ(cuemu_kernels() - before, few || f == 1 ? 1 : f);
			CHECK_ERROR(got[few], want, (size_t)(m * N), f == 2 ? 0.06 : f ? 0.01 : 1e-6);
		}
		if (f == 1)
			check_same(got[0], got[1], 9 * N);
		k->release(pool, wp, k->pack_size(formats[f], N, K));
	}
	CHECK(!k->fault(pool));
	k->release(pool, dw, (size_t)N * K * 4);
	k->release(pool, da, (size_t)M * K * 4);
	k->release(pool, half, (size_t)M * K * 2);
	k->release(pool, c, sizeof got[0]);
	k->close(pool);
	guarded_free(w);
	guarded_free(a);
}
