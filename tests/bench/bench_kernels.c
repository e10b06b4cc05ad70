/* Prints GFLOP/s of the matrix products and attention beside the fused multiply-add peak measured
 * in the same run, so that a slow machine is not mistaken for slow code.
 * Usage: bench_kernels [threads]
 */
#include "kernels/kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECONDS_EACH 0.25

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *random_floats(size_t n)
{
	float *p = aligned_alloc(64, (n * sizeof *p + 63) / 64 * 64);

	for (size_t i = 0; i < n; i++)
		p[i] = (float)(((i * 2654435761u) >> 8) % 2000) / 1000.0f - 1.0f;
	return p;
}

struct shape {
	const struct kern *k;
	struct kern_pool *pool;
	int m, n, kk;
	float *a, *w, *c, *packed;
};

static void run_nt(struct shape *s)
{
	s->k->gemm_nt(s->pool, KERN_F32, s->c, s->n, s->a, s->kk, s->w, s->kk, s->m, s->n, s->kk, false);
}
static void run_packed(struct shape *s)
{
	s->k->gemm_packed(s->pool, KERN_F32, s->c, s->n, s->a, s->kk, s->packed, s->m, s->n, s->kk, false);
}
static void run_nn(struct shape *s)
{
	s->k->gemm_nn(s->pool, KERN_F32, s->a, s->kk, s->c, s->n, s->w, s->kk, s->m, s->n, s->kk, false);
}
static void run_tn(struct shape *s)
{
	s->k->gemm_tn(s->pool, KERN_F32, s->w, s->kk, s->c, s->n, s->a, s->kk, s->m, s->n, s->kk, false);
}

/* Best of several short runs: the figure of the machine when nobody disturbs it. */
static double gflops(void (*run)(struct shape *), struct shape *s, double flop)
{
	double best = 0, end;
	int reps = 1;

	run(s);
	for (end = now_s() + SECONDS_EACH; now_s() < end;) {
		double t = now_s();

		for (int i = 0; i < reps; i++)
			run(s);
		t = now_s() - t;
		if (t < 2e-3) {
			reps *= 2;
			continue;
		}
		best = fmax(best, flop * reps / t * 1e-9);
	}
	return best;
}

/* A product that lives in the first-level cache on every thread: the practical FMA peak. */
struct peak {
	const struct kern *k;
	struct kern_pool **one;
	float *a, *w, *c;
};
static void peak_item(void *ctx, int item, int thread)
{
	struct peak *p = ctx;
	float *c = p->c + item * 12 * 32;

	(void)thread;
	for (int i = 0; i < 2000; i++)
		p->k->gemm_packed(p->one[item], KERN_F32, c, 32, p->a, 256, p->w, 12, 32, 256, false);
}

static double measured_peak(const struct kern *k, struct kern_pool *pool)
{
	int n = kern_pool_threads(pool);
	struct peak p = {.k = k,
			 .one = calloc((size_t)n, sizeof *p.one),
			 .a = random_floats(12 * 256),
			 .w = random_floats(64 * 256),
			 .c = random_floats((size_t)n * 12 * 32)};
	double best = 0;

	for (int i = 0; i < n; i++)
		p.one[i] = kern_pool_new(1);
	for (int r = 0; r < 20; r++) {
		double t = now_s();

		kern_pool_run(pool, peak_item, &p, n);
		best = fmax(best, 2.0 * 12 * 32 * 256 * 2000 * n / (now_s() - t) * 1e-9);
	}
	for (int i = 0; i < n; i++)
		kern_pool_free(p.one[i]);
	free(p.one);
	free(p.a);
	free(p.w);
	free(p.c);
	return best;
}

static void bench_shape(const struct kern *k, struct kern_pool *pool, const int mnk[3], double peak)
{
	int m = mnk[0], n = mnk[1], kk = mnk[2];
	struct shape s = {k,
			  pool,
			  m,
			  n,
			  kk,
			  random_floats((size_t)m * (size_t)kk),
			  random_floats((size_t)n * (size_t)kk),
			  random_floats((size_t)m * (size_t)n),
			  random_floats(k->pack_size(KERN_F32, n, kk) / sizeof(float))};
	double flop = 2.0 * m * n * kk;
	void (*const runs[])(struct shape *) = {run_nt, run_packed, run_nn, run_tn};

	memset(s.packed, 0, k->pack_size(KERN_F32, n, kk));
	k->pack(pool, KERN_F32, s.packed, n, kk, s.w, kk, 0, n);
	printf("%5d x %5d x %5d ", m, n, kk);
	for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
		double g = gflops(runs[i], &s, flop);

		printf("  %7.1f %3.0f %%", g, 100 * g / peak);
	}
	printf("\n");
	free(s.a);
	free(s.w);
	free(s.c);
	free(s.packed);
}

static void bench_attention(const struct kern *k, struct kern_pool *pool, int seqs, int len)
{
	enum { HEADS = 8, KV = 4, DIM = 64 };
	int rows = seqs * len, ldq = (HEADS + 2 * KV) * DIM;
	float *qkv = random_floats((size_t)rows * (size_t)ldq),
	      *grad = random_floats((size_t)rows * (size_t)ldq);
	float *out = random_floats((size_t)rows * HEADS * DIM),
	      *lse = random_floats((size_t)rows * HEADS);
	int32_t *cu = calloc((size_t)seqs + 1, sizeof *cu);
	struct kern_attn a = {.n_seqs = seqs,
			      .n_tokens = rows,
			      .cu = cu,
			      .heads = HEADS,
			      .kv_heads = KV,
			      .head_dim = DIM,
			      .scale = 0.125f,
			      .q = qkv,
			      .k = qkv + HEADS * DIM,
			      .v = qkv + (HEADS + KV) * DIM,
			      .ldq = ldq,
			      .ldk = ldq,
			      .ldv = ldq,
			      .out = out,
			      .lse = lse,
			      .dout = out,
			      .dq = grad,
			      .dk = grad + HEADS * DIM,
			      .dv = grad + (HEADS + KV) * DIM};
	double pairs = 0.5 * seqs * (double)len * (len + 1) * HEADS * DIM * 2, t, fwd = 1e9,
	       bwd = 1e9;

	for (int i = 0; i <= seqs; i++)
		cu[i] = i * len;
	for (int r = 0; r < 10; r++) {
		t = now_s();
		k->attn(pool, &a);
		fwd = fmin(fwd, now_s() - t);
		t = now_s();
		k->attn_back(pool, &a);
		bwd = fmin(bwd, now_s() - t);
	}
	printf("attention %d x %d tokens: forward %.1f GFLOP/s, backward %.1f (causal half "
	       "counted)\n",
	       seqs, len, 2 * pairs / fwd * 1e-9, 5 * pairs / bwd * 1e-9);
	free(qkv);
	free(grad);
	free(out);
	free(lse);
	free(cu);
}

int main(int argc, char **argv)
{
	static const int shapes[][3] = {
		{2048, 2048, 2048}, {1280, 384, 128}, {1280, 768, 288}, {1280, 2048, 512},
		{512, 1024, 1024},  {256, 512, 512},  {64, 2048, 2048}, {64, 512, 512},
		{16, 2048, 2048},   {16, 512, 512},   {8, 384, 128},	{4, 2048, 2048},
		{1, 2048, 2048},    {1, 512, 512},
	};
	const struct kern *k = kern_cpu();
	struct kern_pool *pool = kern_pool_new(argc > 1 ? (int)strtol(argv[1], NULL, 10) : 0);
	double peak = measured_peak(k, pool);

	printf("%s, %d threads, peak %.0f GFLOP/s (tile in cache)\n", k->name,
	       kern_pool_threads(pool), peak);
	printf("    M x     N x     K   gemm_nt         packed          gemm_nn         gemm_tn\n");
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
		bench_shape(k, pool, shapes[i], peak);
	bench_attention(k, pool, 16, 80);
	bench_attention(k, pool, 4, 512);
	kern_pool_free(pool);
	return 0;
}
