/* Element-wise kernels, AdamW, sums and draws of kernels/cuda beside the CPU. What is said to be
 * the CPU's to the bit is compared so where the CPU has fused multiply-add.
 */
#include "kernels/cuda/launch.h"
#include "tests/cuemu/cuemu.h"
#include "tests/kern_util.h"

#include <cuda_runtime.h>

static const size_t sizes[] = {1, 3, 4, 8, 31, 1000, 4096, 4097, 8192 + 5, 20001};
#define EACH_SIZE(n) for (size_t s_ = 0, n = 0; s_ < 10 && (n = sizes[s_]); s_++)

static const struct kern *fused(void)
{
	return kern_cpu_named("avx2");
}

static struct kern_pool *threads(void)
{
	static struct kern_pool *p;

	if (!p)
		p = kern_pool_new(1);
	return p;
}

static void *dev_room(size_t bytes)
{
	void *p;

	CHECK_EQ(cudaMalloc(&p, bytes ? bytes : 1), cudaSuccess);
	return p;
}

static void *dev(const void *x, size_t bytes)
{
	void *p = dev_room(bytes);

	CHECK_EQ(cudaMemcpy(p, x, bytes, cudaMemcpyHostToDevice), cudaSuccess);
	return p;
}

/* Takes the device's array. */
static float *host(void *p, size_t n)
{
	float *x = guarded(n);

	CHECK_EQ(cudaMemcpy(x, p, n * sizeof *x, cudaMemcpyDeviceToHost), cudaSuccess);
	cudaFree(p);
	return x;
}

static uint16_t half_of(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof u);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static float of_half(uint16_t h)
{
	uint32_t u = (uint32_t)h << 16;
	float x;

	memcpy(&x, &u, sizeof x);
	return x;
}

static void check_halves(void *p, const float *want, size_t n)
{
	uint16_t *got = malloc(n * sizeof *got);

	CHECK_EQ(cudaMemcpy(got, p, n * sizeof *got, cudaMemcpyDeviceToHost), cudaSuccess);
	for (size_t i = 0; i < n; i++)
		CHECK_EQ(got[i], half_of(want[i]));
	free(got);
	cudaFree(p);
}

void test_cuda_step__formats_of_numbers(void)
{
	EACH_SIZE(n)
	for (size_t shift = 0; shift < 2; shift++) { /* 1: not aligned */
		float *x = numbers(n + shift, 1);
		char *gx = dev(x, (n + shift) * 4), *gy = dev_room((n + shift) * 2);
		float *gz = dev_room((n + shift) * 4), *back;

		cu_narrow(NULL, gy + 2 * shift, (float *)(void *)gx + shift, n);
		cu_widen(NULL, gz + shift, gy + 2 * shift, n);
		back = host(gz, n + shift);
		for (size_t i = 0; i < n; i++)
			CHECK(back[shift + i] == of_half(half_of(x[shift + i])));
		cudaFree(gx);
		cudaFree(gy);
	}
}

void test_cuda_step__sums_and_scales(void)
{
	EACH_SIZE(n)
	{
		float *x = numbers(n, 1), *y = numbers(n, 2), *got, *hx = guarded(n),
		      *hy = guarded(n);
		void *gx = dev(x, n * 4), *gy = dev(y, n * 4), *nx = dev_room(n * 2);
		void *ny = dev_room(n * 2);

		cu_narrow(NULL, nx, gx, n);
		cu_narrow(NULL, ny, gy, n);
		cu_add(NULL, KERN_F32, gy, gx, n);
		cu_scale(NULL, KERN_F32, gy, n, 0.37f);
		cu_add(NULL, KERN_BF16, ny, nx, n);
		cu_scale(NULL, KERN_BF16, ny, n, 0.37f);
		for (size_t i = 0; i < n; i++) {
			hx[i] = of_half(half_of(x[i]));
			hy[i] = of_half(half_of(of_half(half_of(y[i])) + hx[i])) * 0.37f;
			y[i] = (y[i] + x[i]) * 0.37f;
		}
		got = host(gy, n);
		check_same(got, y, n);
		check_halves(ny, hy, n);
		cudaFree(gx);
		cudaFree(nx);
	}
}

void test_cuda_step__dropout_has_the_cpus_masks(void)
{
	const uint32_t key[2] = {7, 0xdeadbeef}, stream[2] = {3, 9};

	EACH_SIZE(n)
	for (size_t shift = 0; shift < 2; shift++) {
		float *x = numbers(n + shift, 1), *got;
		void *gx = dev(x, (n + shift) * 4), *nx = dev_room((n + shift) * 2);
		float *h = guarded(n);

		cu_narrow(NULL, nx, gx, n);
		cu_dropout(NULL, KERN_F32, (float *)gx + shift, n, 0.3f, key, stream);
		cu_dropout(NULL, KERN_BF16, nx, n, 0.3f, key, stream);
		for (size_t i = 0; i < n; i++)
			h[i] = of_half(half_of(x[i]));
		kern_cpu()->dropout(threads(), x + shift, n, 0.3f, key, stream);
		kern_cpu()->dropout(threads(), h, n, 0.3f, key, stream);
		got = host(gx, n + shift);
		check_same(got, x, n + shift);
		check_halves(nx, h, n);
	}
}

/* Several tensors of several sizes and settings, more than one launch takes. */
void test_cuda_step__adamw_is_the_cpus(void)
{
	enum { N = 100 };
	struct kern_adamw a[N], b[N];
	float *master[N], *copy[N];

	if (!fused())
		SKIP("no fused multiply-add on this processor");
	for (int i = 0; i < N; i++) {
		size_t n = sizes[i % 10] / (i < 10 ? 1 : 7) + 1;
		float *p = numbers(n, 1 + (uint32_t)i), *m = numbers(n, 2), *v = numbers(n, 3);
		float *g = numbers(n, 4), lr = i < 30 ? 1e-3f : 2e-3f;
		void *half = i % 3 ? dev_room(n * 2) : NULL;

		for (size_t j = 0; j < n; j++)
			v[j] *= v[j];
		a[i] = (struct kern_adamw){n,  p,    m,	    v,	   g,	 NULL, 0.7f,
					   lr, 0.9f, 0.95f, 1e-8f, 0.1f, 0.1f, 0.05f};
		b[i] = a[i];
		b[i].p = dev(p, n * 4);
		b[i].m = dev(m, n * 4);
		b[i].v = dev(v, n * 4);
		b[i].g = dev(g, n * 4);
		b[i].working = half;
		fused()->adamw(threads(), &a[i], 1);
	}
	cu_adamw(NULL, KERN_BF16, b, N);
	CHECK_EQ(cuemu_kernels(), 0);
	for (int i = 0; i < N; i++) {
		size_t n = a[i].n;

		master[i] = host(b[i].p, n);
		copy[i] = host(b[i].m, n);
		check_same(master[i], a[i].p, n);
		check_same(copy[i], a[i].m, n);
		check_same(host(b[i].v, n), a[i].v, n);
		if (b[i].working)
			check_halves(b[i].working, a[i].p, n);
	}
	CHECK_EQ(cuemu_kernels(), 3); /* 30, 48 and 22 */
}

void test_cuda_step__sums_of_squares_are_the_cpus(void)
{
	EACH_SIZE(n)
	for (unsigned order = 0; order < 3; order++) {
		float *x = numbers(n, 5);
		void *gx = dev(x, n * 4), *scratch = dev_room(cu_sumsq_scratch(n)),
		     *out = dev_room(8);
		double got, want = kern_cpu()->sumsq(threads(), x, n);

		cuemu_order(order);
		cu_sumsq(NULL, out, gx, n, scratch);
		cudaMemcpy(&got, out, sizeof got, cudaMemcpyDeviceToHost);
		CHECK(memcmp(&got, &want, sizeof got) == 0);
		cudaFree(gx);
		cudaFree(scratch);
		cudaFree(out);
	}
}

void test_cuda_step__exponential_is_the_cpus(void)
{
	enum { N = 4000 };
	float x[N], y[N], *got;
	void *gx, *gy;

	if (!fused())
		SKIP("no fused multiply-add on this processor");
	for (int i = 0; i < N; i++)
		x[i] = (float)(i - N / 2) * 0.0573f;
	x[0] = -INFINITY;
	x[1] = INFINITY;
	gx = dev(x, sizeof x);
	gy = dev_room(sizeof y);
	fused()->vexp(threads(), y, x, N);
	cu_exp(NULL, gy, gx, N);
	got = host(gy, N);
	check_same(got, y, N);
	x[0] = NAN;
	cudaMemcpy(gx, x, sizeof x, cudaMemcpyHostToDevice);
	gy = dev_room(sizeof y);
	cu_exp(NULL, gy, gx, N);
	CHECK(isnan(host(gy, N)[0]));
}

void test_cuda_step__log_sum_exp_of_rows(void)
{
	static const int widths[] = {1, 2, 31, 513, 2000};

	for (int i = 0; i < 5; i++) {
		int w = widths[i], ld = w + 3;
		float *x = numbers(4 * (size_t)ld, 3), *max = guarded(4), *lse = guarded(4);
		void *gx = dev(x, 4 * (size_t)ld * 4), *gm = dev_room(16), *gl = dev_room(16);
		double want[4];

		cu_row_lse(NULL, gm, gl, gx, ld, 4, w);
		kern_cpu()->row_lse(threads(), max, lse, x, ld, 4, w);
		for (int r = 0; r < 4; r++)
			want[r] = (double)lse[r];
		check_same(host(gm, 4), max, 4);
		check_close(host(gl, 4), want, 4, 1e-6);
		cudaFree(gx);
	}
}

/* --- Drawing -----------------------------------------------------------------------------------
 */

/* kind 0: as a model's; 1: few values, many ties; 2: one token has nearly all. */
static float *logits(int n, int vocab, int ld, int kind, uint32_t seed)
{
	float *x = numbers((size_t)n * (size_t)ld, seed);

	for (int r = 0; r < n; r++)
		for (int i = 0; i < vocab; i++) {
			float *p = &x[r * ld + i];

			*p = kind == 1 ? (float)(int)(*p * 3) : *p * *p * *p * 12;
			if (kind == 2 && i == vocab / 3)
				*p += 20;
		}
	return x;
}

static void check_draws(int n, int vocab, int kind, struct kern_draw *draws)
{
	int ld = vocab + 5;
	float *x = logits(n, vocab, ld, kind, 77u + (uint32_t)kind);
	struct kern_draw *want = malloc((size_t)n * sizeof *want);
	void *gx = dev(x, (size_t)n * (size_t)ld * 4), *gd = dev(draws, (size_t)n * sizeof *draws);

	memcpy(want, draws, (size_t)n * sizeof *want);
	(fused() ? fused() : kern_cpu())->draw(threads(), want, n, x, ld, vocab);
	cu_draw(NULL, gd, n, gx, ld, vocab);
	cudaMemcpy(draws, gd, (size_t)n * sizeof *draws, cudaMemcpyDeviceToHost);
	for (int i = 0; i < n; i++) {
		if (draws[i].id != want[i].id)
			printf("# draw %d: temperature %g, top_k %d, top_p %g, u %g, kind %d, "
			       "vocab %d\n",
			       i, (double)draws[i].temperature, draws[i].top_k,
			       (double)draws[i].top_p, draws[i].u, kind, vocab);
		CHECK_EQ(draws[i].id, want[i].id);
		CHECK_NEAR((double)draws[i].lse, (double)want[i].lse,
			   2e-6 * (1 + fabs((double)want[i].lse)));
		CHECK_NEAR((double)draws[i].logp, (double)want[i].logp, 1e-5);
	}
	cudaFree(gx);
	cudaFree(gd);
	guarded_free(x);
	free(want);
}

void test_cuda_step__draws_are_the_cpus(void)
{
	static const int vocabs[] = {1, 40, 700, 5000};
	static const float temperatures[] = {0, 1, 0.7f, 1.9f};
	static const float top_ps[] = {1, 0.9f, 0.5f, 1e-9f};
	static const int top_ks[] = {0, 1, 5, 50};
	enum { N = 12 };
	struct kern_draw d[N];
	uint32_t seed = 1;

	for (int v = 0; v < 4; v++)
		for (int kind = 0; kind < 3; kind++) {
			for (int i = 0; i < N; i++) {
				seed = seed * 1664525u + 1013904223u;
				d[i] = (struct kern_draw){.row = N - 1 - i,
							  .temperature =
								  temperatures[(seed >> 10) % 4],
							  .top_p = top_ps[(seed >> 14) % 4],
							  .top_k = top_ks[(seed >> 18) % 4],
							  .u = (double)(seed >> 8) / 16777216.0};
			}
			cuemu_order((unsigned)(v + kind) % 3);
			check_draws(N, vocabs[v], kind, d);
		}
}

/* Too large for shared memory: weights are made anew at every pass. */
void test_cuda_step__draws_from_a_large_vocabulary(void)
{
	struct kern_draw d[3] = {
		{.row = 0, .temperature = 1, .top_p = 1, .u = 0.731},
		{.row = 1, .temperature = 0.8f, .top_p = 0.95f, .top_k = 40, .u = 0.2},
		{.row = 2, .temperature = 0, .top_p = 1},
	};

	check_draws(3, 60000, 0, d);
}

void test_cuda_step__a_row_without_numbers_draws_nothing(void)
{
	float x[3][8] = {{0}};
	struct kern_draw d[3];
	void *gx, *gd;

	for (int i = 0; i < 8; i++) {
		x[0][i] = (float)i;
		x[1][i] = -INFINITY;
	}
	x[0][5] = NAN;
	x[2][3] = INFINITY;
	for (int i = 0; i < 3; i++)
		d[i] = (struct kern_draw){.row = i, .temperature = 1, .top_p = 1, .id = 9};
	gx = dev(x, sizeof x);
	gd = dev(d, sizeof d);
	cu_draw(NULL, gd, 3, gx, 8, 8);
	cudaMemcpy(d, gd, sizeof d, cudaMemcpyDeviceToHost);
	for (int i = 0; i < 3; i++)
		CHECK(d[i].id == 0 && !isfinite(d[i].lse));
}
