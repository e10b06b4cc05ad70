/* Prints the memory traffic of the row-wise and element-wise operations, in cache and out of it,
 * beside a plain copy's of the same size at the same moment: what moves as fast as the copy is
 * bound by memory. Usage: bench_rows [threads] [name of a table]
 */
#include "kernels/kernels.h"
#include "tests/bench/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECONDS_EACH 0.15

enum { WIDTH = 768, VOCAB = 32000 };

struct run {
	const struct kern *k;
	struct kern_pool *pool;
	float *a, *b, *c, *d; /* n floats each */
	int rows;	      /* of WIDTH */
	size_t n;
	double sum;
};

static void run_rmsnorm(struct run *r)
{
	r->k->rmsnorm(r->pool, r->b, NULL, r->a, r->c, r->rows, WIDTH, 1e-5f);
}
static void run_rmsnorm_back(struct run *r)
{
	r->k->rmsnorm_back(r->pool, r->d, r->c, r->b, r->a, r->c, r->c, r->rows, WIDTH);
}
static void run_swiglu(struct run *r)
{
	r->k->swiglu(r->pool, r->c, r->a, r->b, WIDTH, r->rows, WIDTH);
}
static void run_swiglu_back(struct run *r)
{
	r->k->swiglu_back(r->pool, r->d, r->d, r->c, r->a, r->b, WIDTH, r->rows, WIDTH);
}
static void run_row_lse(struct run *r)
{
	r->k->row_lse(r->pool, r->b, r->c, r->a, VOCAB, (int)(r->n / VOCAB), VOCAB);
}
static void run_adamw(struct run *r)
{
	r->k->adamw(r->pool, &(struct kern_adamw){.n = r->n,
						  .p = r->a,
						  .m = r->b,
						  .v = r->c,
						  .g = r->d,
						  .grad_scale = 1,
						  .lr = 1e-6f,
						  .beta1 = 0.9f,
						  .beta2 = 0.999f,
						  .eps = 1e-8f,
						  .bias1 = 1,
						  .bias2 = 1}, 1);
}
static void run_sumsq(struct run *r)
{
	r->sum += r->k->sumsq(r->pool, r->a, r->n);
}
static void run_add(struct run *r)
{
	r->k->add(r->pool, r->b, r->a, r->n);
}

static const struct {
	const char *name;
	void (*run)(struct run *);
	int reads, writes; /* arrays of n floats */
} ops[] = {
	{"rmsnorm", run_rmsnorm, 1, 1}, {"rmsnorm_back", run_rmsnorm_back, 5, 1},
	{"swiglu", run_swiglu, 2, 1},	{"swiglu_back", run_swiglu_back, 3, 2},
	{"row_lse", run_row_lse, 1, 0}, {"adamw", run_adamw, 4, 3},
	{"sumsq", run_sumsq, 1, 0},	{"add", run_add, 2, 1},
};

static void copy_item(void *ctx, int item, int thread)
{
	struct run *r = ctx;
	size_t share = r->n / 32;

	(void)thread;
	memcpy(r->b + (size_t)item * share, r->a + (size_t)item * share, share * sizeof *r->a);
}

/* Gigabytes per second of the operation and of the copy, best of many. */
static void measure(struct run *r, size_t op, double *mine, double *copy)
{
	double bytes = (double)r->n * sizeof(float), end, t;

	*mine = *copy = 0;
	for (end = now_s() + SECONDS_EACH; now_s() < end;) {
		t = now_s();
		kern_pool_run(r->pool, copy_item, r, 32);
		*copy = fmax(*copy, 2e-9 * bytes / (now_s() - t));
		for (size_t i = 0; i < r->n; i++)
			r->b[i] = r->a[i];
		t = now_s();
		ops[op].run(r);
		*mine = fmax(*mine,
			     1e-9 * bytes * (ops[op].reads + ops[op].writes) / (now_s() - t));
	}
}

static float *numbers(size_t n)
{
	float *p = aligned_alloc(64, (n * sizeof *p + 63) / 64 * 64);

	for (size_t i = 0; i < n; i++)
		p[i] = (float)(((i * 2654435761u) >> 8) % 2000) / 1000.0f + 0.001f;
	return p;
}

int main(int argc, char **argv)
{
	static const int sizes[] = {128, 16000}; /* rows of WIDTH: 384 KiB, 47 MiB an array */
	const struct kern *k = argc > 2 ? kern_cpu_named(argv[2]) : kern_cpu();
	struct kern_pool *pool = kern_pool_new(argc > 1 ? (int)strtol(argv[1], NULL, 10) : 0);

	if (!k) {
		fprintf(stderr, "bench_rows: no such table here\n");
		return 1;
	}
	clock_of_threads(kern_pool_threads(pool));
	printf("%s, %d threads; GB/s (a copy at the same moment)\n", k->name,
	       kern_pool_threads(pool));
	printf("%-14s %21s %21s\n", "", "384 KiB", "47 MiB");
	for (size_t op = 0; op < sizeof ops / sizeof ops[0]; op++) {
		printf("%-14s", ops[op].name);
		for (int s = 0; s < 2; s++) {
			size_t n = (size_t)sizes[s] * WIDTH;
			struct run r = {k,	    pool,     numbers(n), numbers(n), numbers(n),
					numbers(n), sizes[s], n,	  0};
			double mine, copy;

			measure(&r, op, &mine, &copy);
			printf("   %7.1f (%7.1f)", mine, copy);
			free(r.a);
			free(r.b);
			free(r.c);
			free(r.d);
		}
		printf("\n");
	}
	kern_pool_free(pool);
	return 0;
}
