/* Prints the speed of the matrix products in every format beside what the machine could do at that
 * moment: with many rows a share of the multiply-add peak, with few the bytes of weights read and
 * the share of a plain read of as many bytes, measured between the runs.
 * Usage: bench_kernels [threads [M N K]]
 */
#include "kernels/kernels.h"
#include "tests/bench/clock.h"
#include "tests/bench/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 4
#define SLICE_S 0.04 /* of one product in a round */
#define READ_BOUND 4 /* rows up to which reading weights is what takes the time */

static float *floats(size_t n)
{
	float *p = memory(n * sizeof *p);

	for (size_t i = 0; i < n; i++)
		p[i] = (float)(((i * 2654435761u) >> 8) % 2000) / 1000.0f - 1.0f;
	return p;
}

/* --- What is measured ------------------------------------------------------------------------- */

struct shape {
	const struct kern *k;
	struct kern_pool *pool;
	enum kern_format f;
	int m, n, kk;
	float *a, *w, *c;
	void *packed;
};

static void run_packed(struct shape *s)
{
	s->k->gemm_packed(s->pool, s->f, s->c, s->n, s->a, s->kk, s->packed, s->m, s->n, s->kk,
			  false);
}
static void run_nt(struct shape *s)
{
	s->k->gemm_nt(s->pool, s->f, s->c, s->n, s->a, s->kk, s->w, s->kk, s->m, s->n, s->kk,
		      false);
}
static void run_nn(struct shape *s)
{
	s->k->gemm_nn(s->pool, s->f, s->a, s->kk, s->c, s->n, s->w, s->kk, s->m, s->n, s->kk,
		      false);
}
static void run_tn(struct shape *s)
{
	s->k->gemm_tn(s->pool, s->f, s->w, s->kk, s->c, s->n, s->a, s->kk, s->m, s->n, s->kk, true);
}
static void run_pack(struct shape *s)
{
	s->k->pack(s->pool, s->f, s->packed, s->n, s->kk, s->w, s->kk, 0, s->n);
}

/* Fewest seconds of one run in a slice of time. */
static double fewest(void (*run)(struct shape *), struct shape *s)
{
	double best = 1e9, end = now_s() + SLICE_S;
	int reps = 1;

	run(s);
	do {
		double t = now_s();

		for (int i = 0; i < reps; i++)
			run(s);
		t = now_s() - t;
		if (t < 4e-4)
			reps *= 2;
		else
			best = fmin(best, t / reps);
	} while (now_s() < end || best == 1e9);
	return best;
}

/* --- The table -------------------------------------------------------------------------------- */

static const char *const format_names[] = {"f32", "bf16", "q8"};

static double peak_of(const struct limits *l, enum kern_format f)
{
	double wide = f == KERN_BF16 ? l->bf16 : f == KERN_Q8 ? l->int8 : l->f32;

	return wide > 0 ? wide : l->f32;
}

/* One line: the packed product, the three that pack as they go, and packing itself. */
static void bench_format(struct shape *s, const struct limits *l)
{
	void (*const runs[])(struct shape *) = {run_packed, run_nt, run_nn, run_tn, run_pack};
	enum { PACKED = 0, PACK = 4, N_RUNS = 5 };
	size_t bytes = s->k->pack_size(s->f, s->n, s->kk);
	double best[N_RUNS], read = 0, flop = 2.0 * s->m * s->n * s->kk;

	s->packed = memory(bytes);
	for (int i = 0; i < N_RUNS; i++)
		best[i] = 1e9;
	for (int r = 0; r < ROUNDS; r++) {
		for (int i = 0; i < N_RUNS; i++)
			if (s->f != KERN_Q8 || i == PACKED || i == PACK)
				best[i] = fmin(best[i], fewest(runs[i], s));
		if (s->m <= READ_BOUND)
			read = fmax(read, limits_read(s->pool, bytes, SLICE_S));
	}
	printf("%5d x%6d x%5d %-4s", s->m, s->n, s->kk, format_names[s->f]);
	for (int i = 0; i < PACK; i++)
		if (best[i] < 1e9)
			printf(" %7.0f %3.0f%%", flop / best[i] * 1e-9,
			       100 * flop / best[i] * 1e-9 / peak_of(l, s->f));
		else
			printf("       -     ");
	printf("  %6.1f", 4e-9 * s->n * s->kk / best[PACK]);
	if (read > 0)
		printf("   %6.1f of %.1f GB/s, %.0f%%", (double)bytes / best[PACKED] * 1e-9, read,
		       100 * (double)bytes / best[PACKED] * 1e-9 / read);
	printf("\n");
	fflush(stdout);
	free(s->packed);
}

static void bench_shape(const struct kern *k, struct kern_pool *pool, const int mnk[3],
			const struct limits *l)
{
	struct shape s = {.k = k, .pool = pool, .m = mnk[0], .n = mnk[1], .kk = mnk[2]};

	for (s.f = KERN_F32; s.f <= KERN_Q8; s.f++) {
		s.a = floats((size_t)s.m * (size_t)s.kk);
		s.w = floats((size_t)s.n * (size_t)s.kk);
		s.c = floats((size_t)s.m * (size_t)s.n);
		if (s.f != KERN_Q8 || s.kk % KERN_Q8_BLOCK == 0)
			bench_format(&s, l);
		free(s.a);
		free(s.w);
		free(s.c);
	}
}

int main(int argc, char **argv)
{
	static const int shapes[][3] = {
		{2048, 2048, 2048}, {2048, 288, 288},  {2048, 768, 288}, {1024, 32000, 288},
		{2048, 2048, 768},  {512, 5632, 2048}, {64, 5632, 2048}, {16, 5632, 2048},
		{4, 5632, 2048},    {1, 5632, 2048},   {64, 2048, 768},	 {16, 2048, 768},
		{4, 2048, 768},	    {1, 2048, 768},    {1, 32000, 768},	 {16, 768, 288},
		{1, 768, 288},
	};
	const struct kern *k = kern_cpu();
	int threads = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 0, given[3];
	struct kern_pool *pool = kern_pool_new(threads);
	struct limits l = limits_measure(pool, 0.3);

	clock_of_threads(kern_pool_threads(pool));
	printf("%s, %d threads; peaks f32 %.0f, bf16 %.0f, int8 %.0f GFLOP/s; reads memory %.1f, "
	       "last cache %.1f GB/s\n",
	       k->name, kern_pool_threads(pool), l.f32, l.bf16, l.int8, l.dram, l.l3);
	printf("GFLOP/s and share of the format's peak; packing in GB/s of floats read\n");
	printf("    M x     N x    K       gemm_packed     gemm_nt     gemm_nn     gemm_tn    pack "
	       "  "
	       "weights read\n");
	for (int i = 0; argc > 4 && i < 3; i++)
		given[i] = (int)strtol(argv[2 + i], NULL, 10);
	if (argc > 4)
		bench_shape(k, pool, given, &l);
	else
		for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
			bench_shape(k, pool, shapes[i], &l);
	kern_pool_free(pool);
	return 0;
}
