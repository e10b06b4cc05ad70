/* CUDA products with few rows of activations, in the emulator: against double precision, and the bits
 * of a row do not depend on how many others there are.
 */
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
			int q = (int)lrintf(w.as[at] * 127);

			packed[at] = (char)q;
			w.as[at] = rounded_bf16((float)q * scale);
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
	static const enum kern_format formats[] = {KERN_BF16, KERN_Q8};
	unsigned *counts = dev_zeros(CU_SMALL_COUNTS);

	for (size_t i = 0; i < 2 * N_SHAPES; i++) {
		struct weight w = make_weight(shapes[i / 2], formats[i % 2], (uint32_t)i);

		for (size_t j = 0; j < sizeof rows / sizeof rows[0]; j++) {
			if (rows[j] > 31 && i / 2 != 2)
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
	static const enum kern_format formats[] = {KERN_BF16, KERN_Q8};
	static const int rows[] = {1, 7, 16, 30, 66};
	unsigned *counts = dev_zeros(CU_SMALL_COUNTS);

	for (int i = 0; i < 4; i++) {
		struct weight w = make_weight(shapes[i / 2 * 2], formats[i % 2], 5);
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
