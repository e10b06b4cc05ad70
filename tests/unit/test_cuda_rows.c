/* Row and element kernels of kernels/cuda beside the CPU, in both formats of activations, over odd
 * shapes, in several orders of threads. Device memory has guard words and begins as NaN: see
 * tests/cuemu/cuemu.h.
 */
#include "kernels/cuda/launch.h"
#include "tests/cuemu/cuemu.h"
#include "tests/kern_util.h"
#include "tests/ref64.h"

#include <cuda_runtime.h>

#define ORDERS 3

static const struct shape {
	int rows, width, pad; /* pad: elements between rows where there are strides */
} shapes[] = {{1, 1, 0},     {3, 7, 3},	  {5, 64, 0}, {9, 96, 16},
	      {2, 1000, 24}, {17, 40, 8}, {67, 24, 8}};
#define EACH_SHAPE(s) for (const struct shape *s = shapes; s < shapes + 7; s++)
#define EACH_ACT(a) for (enum kern_format a = KERN_F32; a <= KERN_BF16; a++)

static const struct kern *cpu(void)
{
	return kern_cpu();
}

static struct kern_pool *threads(void)
{
	static struct kern_pool *p;

	if (!p)
		p = kern_pool_new(1);
	return p;
}

static float to_bf16(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof u);
	u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
	memcpy(&x, &u, sizeof x);
	return x;
}

/* n numbers that the format can hold. */
static float *some(enum kern_format act, size_t n, uint32_t seed)
{
	float *x = numbers(n, seed);

	for (size_t i = 0; i < n && act == KERN_BF16; i++)
		x[i] = to_bf16(x[i]);
	return x;
}

static void *dev(const void *x, size_t bytes)
{
	void *p;

	CHECK_EQ(cudaMalloc(&p, bytes ? bytes : 1), cudaSuccess);
	CHECK_EQ(cudaMemcpy(p, x, bytes, cudaMemcpyHostToDevice), cudaSuccess);
	return p;
}

static void *dev_room(size_t bytes)
{
	void *p;

	CHECK_EQ(cudaMalloc(&p, bytes ? bytes : 1), cudaSuccess);
	return p;
}

/* Activations of the host's floats. */
static void *dev_act(enum kern_format act, const float *x, size_t n)
{
	uint16_t *half = malloc(n * sizeof *half + 2);
	void *p;

	for (size_t i = 0; i < n; i++) {
		uint32_t u;

		memcpy(&u, x + i, sizeof u);
		half[i] = (uint16_t)(u >> 16);
	}
	p = act == KERN_F32 ? dev(x, n * sizeof *x) : dev(half, n * sizeof *half);
	free(half);
	return p;
}

static float *host_act(enum kern_format act, const void *p, size_t n)
{
	float *x = guarded(n);
	uint16_t *half = malloc(n * sizeof *half + 2);

	cudaMemcpy(act == KERN_F32 ? (void *)x : half, p, n * (act == KERN_F32 ? 4 : 2),
		   cudaMemcpyDeviceToHost);
	for (size_t i = 0; i < n && act == KERN_BF16; i++) {
		uint32_t u = (uint32_t)half[i] << 16;

		memcpy(x + i, &u, sizeof u);
	}
	free(half);
	return x;
}

/* Takes the device's array; `want` is from numbers the format holds. */
static void check_act(enum kern_format act, void *p, const float *want, size_t n, double f32_tol)
{
	float *got = host_act(act, p, n);
	double tol = act == KERN_F32 ? f32_tol : 1.0 / 128;

	for (size_t i = 0; i < n; i++)
		if (!(fabs((double)got[i] - (double)want[i]) <=
		      tol * (1 + fabs((double)want[i])))) {
			printf("# element %zu of %zu: got %.9g, expected %.9g\n", i, n,
			       (double)got[i], (double)want[i]);
			test_fail(__FILE__, __LINE__, "CUDA and CPU differ");
		}
	guarded_free(got);
	cudaFree(p);
}

static void check_floats(void *p, const float *want, size_t n, double tol)
{
	check_act(KERN_F32, p, want, n, tol);
}

static int32_t *ids_below(int n, int below, uint32_t seed)
{
	int32_t *ids = malloc((size_t)n * sizeof *ids);

	for (int i = 0; i < n; i++) {
		seed = seed * 1664525u + 1013904223u;
		ids[i] = (int32_t)((seed >> 8) % (uint32_t)below);
	}
	return ids;
}

static void norms(enum kern_format act, const struct shape *s, unsigned order)
{
	size_t n = (size_t)s->rows * (size_t)s->width, rows = (size_t)s->rows, w = (size_t)s->width;
	float *x = some(act, n, 1), *dy = some(act, n, 2), *weight = numbers(w, 3), *y = guarded(n);
	float *rinv = guarded(rows), *dx = some(act, n, 4), *dw = numbers(w, 5);
	void *gx = dev_act(act, x, n), *gdy = dev_act(act, dy, n), *gw = dev(weight, w * 4);
	void *gy = dev_room(n * 4), *gr = dev_room(rows * 4), *gdx = dev_act(act, dx, n);
	void *gdw = dev(dw, w * 4);
	void *scratch = dev_room(cu_rmsnorm_back_scratch(s->rows, s->width));

	cuemu_order(order);
	cpu()->rmsnorm(threads(), y, rinv, x, weight, s->rows, s->width, 1e-5f);
	cu_rmsnorm(NULL, act, gy, gr, gx, gw, s->rows, s->width, 1e-5f);
	cpu()->rmsnorm_back(threads(), dx, dw, dy, x, weight, rinv, s->rows, s->width);
	cu_rmsnorm_back(NULL, act, gdx, gdw, gdy, gx, gw, gr, s->rows, s->width, scratch);
	check_act(act, gy, y, n, 1e-5);
	check_floats(gr, rinv, rows, 1e-5);
	check_act(act, gdx, dx, n, 1e-5);
	check_floats(gdw, dw, w, 1e-5);
	cudaFree(gx);
	cudaFree(gdy);
	cudaFree(gw);
	cudaFree(scratch);
}

void test_cuda_rows__norms_are_the_cpus(void)
{
	EACH_ACT(act)
	EACH_SHAPE(s)
	for (unsigned order = 0; order < ORDERS; order++)
		norms(act, s, order);
	/* Wider than registers hold: read a second time. Without dw. */
	norms(KERN_F32, &(struct shape){2, 4 * 1024 + 3, 0}, 2);
	norms(KERN_BF16, &(struct shape){1, 1024 * 32 + 8, 0}, 0);
}

/* The fused form has the bits of the two operations; a row's bits do not depend on other rows. */
void test_cuda_rows__norm_after_an_addition(void)
{
	EACH_ACT(act)
	EACH_SHAPE(s)
	{
		size_t n = (size_t)s->rows * (size_t)s->width,
		       bytes = n * (act == KERN_F32 ? 4 : 2);
		float *x = some(act, n, 1), *add = some(act, n, 2);
		float *weight = numbers((size_t)s->width, 3);
		void *gx = dev_act(act, x, n), *gadd = dev_act(act, add, n), *gy = dev_room(bytes);
		void *hx = dev_act(act, x, n), *hy = dev_room(bytes);
		void *gw = dev(weight, (size_t)s->width * 4), *gr = dev_room((size_t)s->rows * 4);
		char *a = malloc(bytes), *b = malloc(bytes);
		size_t row = bytes / (size_t)s->rows;

		cu_add_rmsnorm(NULL, act, gy, gr, gx, gadd, gw, s->rows, s->width, 1e-6f);
		cu_add(NULL, act, hx, gadd, n);
		cu_rmsnorm(NULL, act, hy, NULL, hx, gw, s->rows, s->width, 1e-6f);
		cudaMemcpy(a, gy, bytes, cudaMemcpyDeviceToHost);
		cudaMemcpy(b, hy, bytes, cudaMemcpyDeviceToHost);
		CHECK(memcmp(a, b, bytes) == 0);
		cu_rmsnorm(NULL, act, hy, NULL, hx, gw, 1, s->width, 1e-6f);
		cudaMemcpy(b, hy, row, cudaMemcpyDeviceToHost);
		CHECK(memcmp(a, b, row) == 0);
		cudaMemcpy(a, gx, bytes, cudaMemcpyDeviceToHost);
		cudaMemcpy(b, hx, bytes, cudaMemcpyDeviceToHost);
		CHECK(memcmp(a, b, bytes) == 0);
	}
}

static void rope(enum kern_format act, int rows, int heads, int dim, int ld, bool back)
{
	size_t n = (size_t)rows * (size_t)ld, half = (size_t)dim / 2;
	float *x = some(act, n, 7), *c = numbers(50 * half, 8), *s = numbers(50 * half, 9);
	int32_t *pos = ids_below(rows, 50, 10);
	void *gx = dev_act(act, x, n), *gc = dev(c, 50 * half * 4), *gs = dev(s, 50 * half * 4);
	void *gp = dev(pos, (size_t)rows * 4);

	cu_rope(NULL, act, gx, ld, rows, heads, dim, gp, gc, gs, back);
	cpu()->rope(threads(), x, ld, rows, heads, dim, pos, c, s, back);
	check_act(act, gx, x, n, 1e-6);
	cudaFree(gc);
	cudaFree(gs);
	cudaFree(gp);
}

void test_cuda_rows__rotary_embedding(void)
{
	EACH_ACT(act)
	for (int back = 0; back < 2; back++) {
		rope(act, 5, 3, 16, 3 * 16 + 32, back);
		rope(act, 2, 9, 128, 9 * 128, back);
		rope(act, 4, 2, 6, 13, back);
		rope(act, 1, 5, 2, 10, back);
	}
}

static void swiglu(enum kern_format act, const struct shape *s)
{
	int ld = 2 * s->width + s->pad;
	size_t n = (size_t)s->rows * (size_t)ld, m = (size_t)s->rows * (size_t)s->width;
	size_t at = (size_t)s->width, size = act == KERN_F32 ? 4 : 2;
	float *x = some(act, n, 1), *dy = some(act, m, 2), *y = guarded(m), *d = copy_of(x, n);
	char *gx = dev_act(act, x, n), *gdy = dev_act(act, dy, m), *gy = dev_room(m * size);

	cu_swiglu(NULL, act, gy, gx, gx + at * size, ld, s->rows, s->width);
	cpu()->swiglu(threads(), y, x, x + at, ld, s->rows, s->width);
	check_act(act, gy, y, m, 1e-6);
	/* In place. */
	cu_swiglu_back(NULL, act, gx, gx + at * size, gdy, gx, gx + at * size, ld, s->rows,
		       s->width);
	cpu()->swiglu_back(threads(), d, d + at, dy, x, x + at, ld, s->rows, s->width);
	check_act(act, gx, d, n, 1e-6);
	cudaFree(gdy);
}

void test_cuda_rows__swiglu(void)
{
	EACH_ACT(act)
	EACH_SHAPE(s)
	swiglu(act, s);
}

static void bias(enum kern_format act, const struct shape *s)
{
	int ld = s->width + s->pad;
	size_t n = (size_t)s->rows * (size_t)ld, w = (size_t)s->width;
	float *y = some(act, n, 1), *b = numbers(w, 2), *db = numbers(w, 3);
	void *gy = dev_act(act, y, n), *gb = dev(b, w * 4), *gdb = dev(db, w * 4);
	void *scratch = dev_room(cu_bias_back_scratch(s->rows, s->width));

	cu_bias_back(NULL, act, gdb, gy, ld, s->rows, s->width, scratch);
	cpu()->bias_back(threads(), db, y, ld, s->rows, s->width);
	check_floats(gdb, db, w, 1e-5);
	cu_bias(NULL, act, gy, ld, gb, s->rows, s->width);
	cpu()->bias(threads(), y, ld, b, s->rows, s->width);
	check_act(act, gy, y, n, 1e-6);
	cudaFree(gb);
	cudaFree(scratch);
}

void test_cuda_rows__bias_and_its_gradient(void)
{
	EACH_ACT(act)
	{
		EACH_SHAPE(s)
		bias(act, s);
		bias(act, &(struct shape){700, 33, 7});
	}
}

/* Sums in the order of tokens: the CPU's bits where activations are floats. */
static void embedding(enum kern_format act, int rows, int vocab, int width, unsigned order)
{
	size_t n = (size_t)rows * (size_t)width, v = (size_t)vocab * (size_t)width;
	float *w = some(act, v, 1), *x = guarded(n), *dx = some(act, n, 2), *dw = numbers(v, 3);
	int32_t *ids = ids_below(rows, vocab, 4);
	void *gw = dev_act(act, w, v), *gx = dev_room(n * 4), *gdx = dev_act(act, dx, n);
	void *gdw = dev(dw, v * 4), *gi = dev(ids, (size_t)rows * 4);
	float *got;

	cuemu_order(order);
	cu_embed(NULL, act, gx, gw, gi, rows, width);
	cu_embed_back(NULL, act, gdw, gdx, gi, rows, width);
	cpu()->embed(threads(), x, w, ids, rows, width);
	cpu()->embed_back(threads(), dw, dx, ids, rows, width);
	check_act(act, gx, x, n, 0);
	got = host_act(KERN_F32, gdw, v);
	check_same(got, dw, v);
	cudaFree(gw);
	cudaFree(gdx);
	cudaFree(gdw);
	cudaFree(gi);
}

void test_cuda_rows__embedding_and_its_gradient(void)
{
	EACH_ACT(act)
	for (unsigned order = 0; order < ORDERS; order++) {
		embedding(act, 1, 3, 8, order);
		embedding(act, 150, 7, 9, order);
		embedding(act, 300, 40, 24, order);
		embedding(act, 6, 2, 1100, order);
	}
}

void test_cuda_rows__gather_and_spread(void)
{
	EACH_ACT(act)
	EACH_SHAPE(s)
	{
		size_t n = (size_t)s->rows * (size_t)s->width, rows = (size_t)s->rows;
		int32_t *from = ids_below(2 * s->rows, s->rows + 1, 9);
		float *x = some(act, n, 1), *y = guarded(n);
		void *gx = dev_act(act, x, n), *gy = dev_room(n * 4), *gf;

		for (size_t i = 0; i < 2 * rows; i++)
			from[i]--;
		gf = dev(from, 2 * rows * 4);
		cu_spread(NULL, act, gy, gx, gf, s->rows, s->width);
		cpu()->spread(threads(), y, x, from, s->rows, s->width);
		check_act(act, gy, y, n, 0);
		cudaFree(gf);
		for (size_t i = 0; i < rows; i++)
			from[i] = from[i] < 0 ? 0 : from[i];
		gy = dev_room(n * 4);
		gf = dev(from, rows * 4);
		cu_gather(NULL, act, gy, gx, gf, s->rows, s->width);
		cpu()->gather(threads(), y, x, from, s->rows, s->width);
		check_act(act, gy, y, n, 0);
		cudaFree(gf);
		cudaFree(gx);
	}
}

/* Stores where the CPU's cache does not: [block][head][position][element], as cu_attn_paged()
 * reads. */
static void kv_store(enum kern_format act, enum kern_format kv, int heads, int dim)
{
	enum { ROWS = 6, BLOCKS = 9 };
	const int32_t blocks[] = {4, 8, 0, 2, 7}, first[ROWS] = {0, 0, 3, 3, 3, 0};
	const int32_t pos[ROWS] = {3, 40, 0, 15, 16, 16};
	size_t width = (size_t)heads * (size_t)dim, ld = width + 8, n = ROWS * ld;
	size_t cache = BLOCKS * width * KERN_PAGE;
	float *k = some(KERN_BF16, n, 1), *v = some(KERN_BF16, n, 2), *want_k = guarded(cache);
	float *want_v = guarded(cache);
	void *gk = dev_act(act, k, n), *gv = dev_act(act, v, n), *gb = dev(blocks, sizeof blocks);
	void *gf = dev(first, sizeof first), *gp = dev(pos, sizeof pos);
	void *ck = dev_act(kv, want_k, cache), *cv = dev_act(kv, want_v, cache);

	memset(want_k, 0, cache * 4);
	memset(want_v, 0, cache * 4);
	cudaMemset(ck, 0, cache * (kv == KERN_F32 ? 4 : 2));
	cudaMemset(cv, 0, cache * (kv == KERN_F32 ? 4 : 2));
	for (size_t r = 0; r < ROWS; r++)
		for (size_t i = 0; i < width; i++) {
			size_t block = (size_t)blocks[first[r] + pos[r] / KERN_PAGE];
			size_t at = ((block * (size_t)heads + i / (size_t)dim) * KERN_PAGE +
				     (size_t)pos[r] % KERN_PAGE) *
					    (size_t)dim +
				    i % (size_t)dim;

			want_k[at] = k[r * ld + i];
			want_v[at] = v[r * ld + i];
		}
	cu_kv_store(NULL, act, kv, ck, cv, gk, (int)ld, gv, (int)ld, gb, gf, gp, ROWS, heads, dim);
	check_act(kv, ck, want_k, cache, 0);
	check_act(kv, cv, want_v, cache, 0);
	cudaFree(gk);
	cudaFree(gv);
	cudaFree(gb);
	cudaFree(gf);
	cudaFree(gp);
}

void test_cuda_rows__keys_and_values_are_stored(void)
{
	EACH_ACT(act)
	EACH_ACT(kv)
	{
		kv_store(act, kv, 3, 16);
		kv_store(act, kv, 1, 6);
		kv_store(act, kv, 2, 128);
	}
}

static void round_rows(float *x, int rows, int k)
{
	size_t n = (size_t)rows * (size_t)k;
	double *wide = malloc(n * sizeof *wide);

	for (size_t i = 0; i < n; i++)
		wide[i] = (double)x[i];
	ref64_round_rows(KERN_FP8, wide, wide, rows, k);
	for (size_t i = 0; i < n; i++)
		x[i] = (float)wide[i];
	free(wide);
}

static void pack(enum kern_format f, int n, int k, int ldw)
{
	size_t bytes = cu_pack_size(f, n, k), each = (size_t)k;
	float *w = numbers((size_t)n * (size_t)ldw, 1), *want = guarded((size_t)n * each);
	int32_t *ids = ids_below(11, n, 5);
	void *wp = dev_room(bytes), *gw = dev(w, (size_t)n * (size_t)ldw * 4), *gi = dev(ids, 44);
	void *out = dev_room(11 * each * 4);
	float *rows = guarded(11 * each);
	int half = n / 2;

	cu_pack(NULL, f, wp, n, k, gw, ldw, 0, half);
	cu_pack(NULL, f, wp, n, k, (float *)gw + (size_t)half * (size_t)ldw, ldw, half, n - half);
	for (int i = 0; i < n; i++)
		for (int j = 0; j < k; j++) {
			float x = w[i * ldw + j];

			want[(size_t)i * each + (size_t)j] = f == KERN_BF16 ? to_bf16(x) : x;
		}
	if (f == KERN_FP8)
		round_rows(want, n, k);
	cu_embed_packed(NULL, KERN_F32, f, out, wp, n, k, gi, 11);
	for (size_t i = 0; i < 11; i++)
		memcpy(rows + i * each, want + (size_t)ids[i] * each, each * 4);
	check_floats(out, rows, 11 * each, f == KERN_Q8 ? 0.5 / 127 : f == KERN_FP8 ? 1e-7 : 0);
	out = dev_room(11 * each * 2);
	cu_embed_packed(NULL, KERN_BF16, f, out, wp, n, k, gi, 11);
	check_act(KERN_BF16, out, rows, 11 * each, 0);
	cudaFree(wp);
	cudaFree(gw);
	cudaFree(gi);
}

/* Every number of the format and what lies between two, as the largest of the row has its own scale. */
void test_cuda_rows__e4m3_is_the_nearest(void)
{
	enum { CODES = 127, BETWEEN = 8, K = 2 * CODES * BETWEEN };
	size_t bytes = cu_pack_size(KERN_FP8, 1, K);
	float *w = guarded(K), *want = guarded(K);
	int32_t *id = ids_below(1, 1, 5);
	void *wp = dev_room(bytes), *out = dev_room(K * 4), *gi = dev(id, 4), *gw;

	for (int i = 0; i < K; i++) {
		unsigned code = (unsigned)(i / (2 * BETWEEN));
		int power = (int)(code >> 3);
		double low = power ? ldexp(8 + code % 8, power - 10) : ldexp(code, -9);
		double step = ldexp(1, (power ? power : 1) - 10);
		double x = low + step * (i / 2 % BETWEEN) / BETWEEN;

		x = x > 448 ? 448 : x;
		w[i] = (float)(i % 2 ? -x : x);
		want[i] = (float)ref64_e4m3((double)w[i]);
	}
	gw = dev(w, K * 4);
	cu_pack(NULL, KERN_FP8, wp, 1, K, gw, K, 0, 1);
	cu_embed_packed(NULL, KERN_F32, KERN_FP8, out, wp, 1, K, gi, 1);
	check_floats(out, want, K, 0);
	cudaFree(wp);
	cudaFree(gw);
	cudaFree(gi);
}

void test_cuda_rows__weights_are_packed(void)
{
	for (enum kern_format f = KERN_F32; f <= KERN_FP8; f++) {
		pack(f, 5, 32, 40);
		pack(f, 300, 96, 96);
		pack(f, 1, 320, 321);
	}
}
