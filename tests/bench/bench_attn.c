/* Prints the speed of attention over packed sequences and over paged caches beside the fused
 * multiply-add peak of the same moment: tiles in the cache are timed between the runs, so that a
 * slow minute of the machine is not mistaken for slow code. Only pairs that see each other count as
 * work (4 D flop forward, 10 D backward). Usage: bench_attn [threads] [name of a table]
 */
#include "kernels/kernels.h"
#include "tests/bench/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SECONDS_EACH 0.2

static float *random_floats(size_t n)
{
	float *p = aligned_alloc(64, (n * sizeof *p + 63) / 64 * 64);

	for (size_t i = 0; i < n; i++)
		p[i] = (float)(((i * 2654435761u) >> 8) % 2000) / 1000.0f - 1.0f;
	return p;
}

/* --- The peak: 12 x 32 of C, 256 long, on every thread -----------------------------------------
 */

struct peak {
	const struct kern *k;
	struct kern_pool *pool, **one;
	float *a, *w, *c;
};

static struct peak make_peak(const struct kern *k, struct kern_pool *pool)
{
	int n = kern_pool_threads(pool);
	struct peak p = {k,
			 pool,
			 calloc((size_t)n, sizeof *p.one),
			 random_floats(12 * 256),
			 random_floats(64 * 256),
			 random_floats((size_t)n * 12 * 32)};

	for (int i = 0; i < n; i++)
		p.one[i] = kern_pool_new(1);
	return p;
}

static void peak_item(void *ctx, int item, int thread)
{
	struct peak *p = ctx;

	(void)thread;
	for (int i = 0; i < 300; i++)
		p->k->gemm_packed(p->one[item], KERN_F32, p->c + (ptrdiff_t)item * 12 * 32, 32,
				  p->a, 256, p->w, 12, 32, 256, false);
}

static double peak_gflops(struct peak *p)
{
	int n = kern_pool_threads(p->pool);
	double t = now_s();

	kern_pool_run(p->pool, peak_item, p, n);
	return 2.0 * 12 * 32 * 256 * 300 * n / (now_s() - t) * 1e-9;
}

/* --- Packed sequences --------------------------------------------------------------------------
 */

struct packed {
	int seqs, len, heads, kv_heads, dim;
	bool fork; /* half of each is a beginning with two endings of a quarter */
};

static double visible_pairs(const struct packed *c)
{
	double n = c->len, hidden = c->fork ? (double)(c->len / 4) * (c->len / 4) : 0;

	return c->seqs * (n * (n + 1) / 2 - hidden) * c->heads;
}

static struct kern_attn make_args(const struct packed *c)
{
	int rows = c->seqs * c->len, d = c->dim, ld = (c->heads + 2 * c->kv_heads) * d;
	float *qkv = random_floats((size_t)rows * (size_t)ld);
	float *grad = random_floats((size_t)rows * (size_t)ld);
	float *out = random_floats((size_t)(rows * c->heads * d));
	int32_t *cu = calloc((size_t)c->seqs + 1, sizeof *cu);
	int32_t *fork = calloc((size_t)c->seqs * 2, sizeof *fork);

	for (int i = 0; i < c->seqs; i++) {
		cu[i + 1] = cu[i] + c->len;
		fork[2 * i] = c->len - 2 * (c->len / 4);
		fork[2 * i + 1] = c->len - c->len / 4;
	}
	return (struct kern_attn){.n_seqs = c->seqs,
				  .n_tokens = rows,
				  .cu = cu,
				  .heads = c->heads,
				  .kv_heads = c->kv_heads,
				  .head_dim = d,
				  .fork = c->fork ? fork : NULL,
				  .scale = 1 / sqrtf((float)d),
				  .q = qkv,
				  .k = qkv + c->heads * d,
				  .v = qkv + (c->heads + c->kv_heads) * d,
				  .ldq = ld,
				  .ldk = ld,
				  .ldv = ld,
				  .out = out,
				  .lse = random_floats((size_t)(rows * c->heads)),
				  .dout = random_floats((size_t)(rows * c->heads * d)),
				  .dq = grad,
				  .dk = grad + c->heads * d,
				  .dv = grad + (c->heads + c->kv_heads) * d};
}

static void bench_packed(const struct kern *k, struct kern_pool *pool, struct peak *peak,
			 const struct packed *c)
{
	struct kern_attn a = make_args(c);
	double flop = visible_pairs(c) * c->dim, fwd = 1e9, bwd = 1e9, best = 0, end, t;

	for (end = now_s() + SECONDS_EACH; now_s() < end;) {
		best = fmax(best, peak_gflops(peak));
		t = now_s();
		k->attn(pool, &a);
		fwd = fmin(fwd, now_s() - t);
		t = now_s();
		k->attn_back(pool, &a);
		bwd = fmin(bwd, now_s() - t);
	}
	double f = 4 * flop / fwd * 1e-9, b = 10 * flop / bwd * 1e-9;

	printf("%3d x %4d tokens %2d/%2d heads of %3d%s: forward %6.1f %3.0f %%   backward %6.1f "
	       "%3.0f %%   of %.0f\n",
	       c->seqs, c->len, c->heads, c->kv_heads, c->dim, c->fork ? " forked" : "       ", f,
	       100 * f / best, b, 100 * b / best, best);
	free((void *)(uintptr_t)a.q);
	free((void *)(uintptr_t)a.cu);
	free((void *)(uintptr_t)a.fork);
	free((void *)(uintptr_t)a.dout);
	free(a.out);
	free(a.lse);
	free(a.dq);
}

/* --- Paged cache -------------------------------------------------------------------------------
 */

struct paged {
	int seqs, keys, rows; /* rows: the last so many of each sequence */
	int heads, kv_heads, dim;
};

static struct kern_paged make_paged(const struct paged *c, enum kern_format kv, size_t *bytes)
{
	int pages = (c->keys + KERN_PAGE - 1) / KERN_PAGE, n = c->seqs * c->rows;
	int32_t *page = calloc((size_t)(c->seqs * pages), sizeof *page);
	int32_t *n_keys = calloc((size_t)n, sizeof *n_keys);
	int32_t *first = calloc((size_t)n, sizeof *first);
	int width = c->heads * c->dim;

	*bytes = (size_t)(c->seqs * pages) * kern_kv_bytes(kv, c->kv_heads, c->dim);
	for (int i = 0; i < c->seqs * pages; i++)
		page[i] = i;
	for (int i = 0; i < n; i++) {
		n_keys[i] = c->keys - c->rows + i % c->rows + 1;
		first[i] = i / c->rows * pages;
	}
	return (struct kern_paged){.kv = kv,
				   .rows = n,
				   .heads = c->heads,
				   .kv_heads = c->kv_heads,
				   .head_dim = c->dim,
				   .scale = 1 / sqrtf((float)c->dim),
				   .q = random_floats((size_t)(n * width)),
				   .ldq = width,
				   .k = calloc(1, *bytes),
				   .v = calloc(1, *bytes),
				   .blocks = page,
				   .first = first,
				   .most_keys = c->keys,
				   .n_keys = n_keys,
				   .out = random_floats((size_t)(n * width))};
}

static void fill_paged(const struct kern *k, struct kern_pool *pool, const struct paged *c,
		       const struct kern_paged *a)
{
	int width = c->kv_heads * c->dim;
	float *x = random_floats((size_t)(c->keys * width));
	int32_t *first = calloc((size_t)c->keys, sizeof *first);
	int32_t *pos = calloc((size_t)c->keys, sizeof *pos);

	for (int s = 0; s < c->seqs; s++) {
		for (int i = 0; i < c->keys; i++) {
			first[i] = a->first[s * c->rows];
			pos[i] = i;
		}
		k->kv_store(pool, a->kv, (void *)(uintptr_t)a->k, (void *)(uintptr_t)a->v, x, width,
			    x, width, a->blocks, first, pos, c->keys, c->kv_heads, c->dim);
	}
	free(x);
	free(first);
	free(pos);
}

/* Reads memory as fast as loads go: the limit of decoding. */
struct reading {
	const char *p;
	size_t share;
	uint64_t sums[64][16]; /* a line each */
};

static void read_item(void *ctx, int item, int thread)
{
	typedef uint64_t words __attribute__((vector_size(16)));
	struct reading *r = ctx;
	const words *p = (const words *)(const void *)(r->p + (size_t)item * r->share);
	words a = {0}, b = {0}, c = {0}, d = {0};

	for (size_t i = 0; i < r->share / sizeof *p; i += 4) {
		a ^= p[i];
		b ^= p[i + 1];
		c ^= p[i + 2];
		d ^= p[i + 3];
	}
	a ^= b ^ c ^ d;
	r->sums[thread % 64][0] ^= a[0] ^ a[1];
}

static double read_seconds(struct kern_pool *pool, const void *p, size_t bytes)
{
	struct reading r = {.p = p, .share = bytes / 64 / 32 * 64};
	double t = now_s();

	kern_pool_run(pool, read_item, &r, 32);
	return now_s() - t;
}

static void bench_paged(const struct kern *k, struct kern_pool *pool, struct peak *peak,
			const struct paged *c, enum kern_format kv)
{
	size_t bytes;
	struct kern_paged a = make_paged(c, kv, &bytes);
	double pairs = 0, best = 0, run = 1e9, probe = 1e9, end, t;

	fill_paged(k, pool, c, &a);
	for (int i = 0; i < a.rows; i++)
		pairs += a.n_keys[i];
	for (end = now_s() + SECONDS_EACH; now_s() < end;) {
		best = fmax(best, peak_gflops(peak));
		t = read_seconds(pool, a.k, bytes) + read_seconds(pool, a.v, bytes);
		probe = fmin(probe, t);
		t = now_s();
		k->attn_paged(pool, &a);
		run = fmin(run, now_s() - t);
	}
	double f = 4 * pairs * c->heads * c->dim / run * 1e-9;

	printf("%3d x %4d rows of %4d keys %2d/%2d heads of %3d %s: %6.1f GFLOP/s %3.0f %% of "
	       "%.0f, "
	       "cache %5.1f GB/s, reads at %5.1f\n",
	       c->seqs, c->rows, c->keys, c->heads, c->kv_heads, c->dim,
	       kv == KERN_F32 ? "f32 " : "bf16", f, 100 * f / best, best,
	       2e-9 * (double)bytes / run, 2e-9 * (double)bytes / probe);
	free((void *)(uintptr_t)a.blocks);
	free((void *)(uintptr_t)a.first);
	free((void *)(uintptr_t)a.n_keys);
	free((void *)(uintptr_t)a.q);
	free((void *)(uintptr_t)a.k);
	free((void *)(uintptr_t)a.v);
	free(a.out);
}

int main(int argc, char **argv)
{
	static const struct packed packed[] = {
		{16, 64, 6, 6, 48, false},   {16, 80, 8, 4, 64, false},
		{8, 160, 6, 6, 48, false},   {8, 256, 12, 12, 64, false},
		{8, 256, 8, 2, 32, false},   {4, 256, 8, 8, 128, false},
		{4, 512, 12, 12, 64, false}, {2, 1024, 8, 8, 32, false},
		{2, 1024, 32, 4, 64, false}, {1, 1024, 4, 2, 128, false},
		{8, 256, 12, 12, 64, true},
	};
	static const struct paged paged[] = {
		{64, 160, 1, 12, 12, 48},  {64, 160, 1, 12, 12, 64},  {64, 160, 1, 32, 4, 64},
		{1, 160, 1, 6, 6, 48},	   {1, 160, 1, 12, 12, 64},   {1, 2048, 1, 32, 4, 64},
		{1, 512, 512, 12, 12, 64}, {1, 512, 512, 6, 6, 48},   {1, 512, 512, 32, 4, 64},
		{4, 128, 128, 12, 12, 64}, {1, 4096, 64, 32, 8, 128},
	};
	const struct kern *k = argc > 2 ? kern_cpu_named(argv[2]) : kern_cpu();
	struct kern_pool *pool = kern_pool_new(argc > 1 ? (int)strtol(argv[1], NULL, 10) : 0);

	if (!k) {
		fprintf(stderr, "bench_attn: no such table here\n");
		return 1;
	}
	clock_of_threads(kern_pool_threads(pool));
	struct peak peak = make_peak(k, pool);
	printf("%s, %d threads; GFLOP/s and share of the peak\n", k->name, kern_pool_threads(pool));
	for (size_t i = 0; i < sizeof packed / sizeof packed[0]; i++)
		bench_packed(k, pool, &peak, &packed[i]);
	for (size_t i = 0; i < sizeof paged / sizeof paged[0]; i++)
		for (int kv = KERN_F32; kv <= KERN_BF16; kv++)
			bench_paged(k, pool, &peak, &paged[i], (enum kern_format)kv);
	return 0;
}
