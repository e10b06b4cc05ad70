#include "tests/test.h"

#include "kernels/kernels.h"
#include "worker/model/sample.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct err e;

static struct sample_name name_of(uint32_t sample)
{
	return (struct sample_name){
		.seed = 7, .stage = RNG_TEST, .iter = 1, .item = 99, .sample = sample};
}

static float max_of(const float *x, int n)
{
	float m = x[0];

	for (int i = 1; i < n; i++)
		m = x[i] > m ? x[i] : m;
	return m;
}

/* The second of two rows, so that row and stride count too. */
static int pick(const float *logits, int n, struct sampling s, double u)
{
	struct kern_pool *pool = kern_pool_new(1);
	float *rows = calloc(2 * (size_t)n + 3, sizeof *rows);
	struct kern_draw d = {.row = 1, .temperature = s.temperature, .top_p = s.top_p,
			      .top_k = s.top_k, .u = u};

	memcpy(rows + n + 3, logits, (size_t)n * sizeof *rows);
	kern_cpu()->draw(pool, &d, 1, rows, n + 3, n);
	kern_pool_free(pool);
	free(rows);
	return d.id;
}

static void some_logits(float *x, int n, uint64_t item, float spread)
{
	struct rng r;

	rng_open(&r, 3, RNG_TEST, 0, item, 0);
	for (int i = 0; i < n; i++)
		x[i] = spread * rng_normal(&r);
}

/* The plain definition: sort all, cut, renormalise. p[i] is the exact probability of token i. */
static const float *sort_by;

static int by_rank(const void *pa, const void *pb)
{
	int a = *(const int *)pa, b = *(const int *)pb;

	return sort_by[a] != sort_by[b] ? (sort_by[a] < sort_by[b]) - (sort_by[a] > sort_by[b]) : a - b;
}

static void exact(const float *x, int n, struct sampling s, double *p)
{
	int *order = malloc((size_t)n * sizeof(int)), keep = n;
	double total = 0, sum = 0;
	float max = max_of(x, n);

	for (int i = 0; i < n; i++)
		order[i] = i;
	sort_by = x;
	qsort(order, (size_t)n, sizeof(int), by_rank);
	if (s.top_k > 0 && s.top_k < n)
		keep = s.top_k;
	memset(p, 0, (size_t)n * sizeof(*p));
	for (int i = 0; i < keep; i++)
		total += p[order[i]] = exp((double)((x[order[i]] - max) / s.temperature));
	for (int i = 0; i < keep; i++) {
		if (sum >= (double)s.top_p * total && s.top_p < 1)
			p[order[i]] = 0;
		sum += p[order[i]];
	}
	for (int i = 0; i < n; i++)
		p[i] /= sum;
	free(order);
}

void test_sample__greedy_takes_the_lowest_of_equals(void)
{
	const float x[] = {1, 5, 2, 5, 5};

	CHECK_EQ(pick(x, 5, (struct sampling){.temperature = 0, .top_p = 1}, 0.99), 1);
}

void test_sample__frequencies_are_the_probabilities(void)
{
	static const struct sampling settings[] = {
		{1, 1, 0}, {0.7f, 0.9f, 0}, {1.3f, 1, 7}, {0.5f, 0.8f, 12}, {1, 0.3f, 0}};
	enum { N = 40, DRAWS = 20000 };
	float x[N];
	double p[N];

	some_logits(x, N, 1, 1.5f);
	for (size_t k = 0; k < sizeof(settings) / sizeof(*settings); k++) {
		int count[N] = {0}, cells = 0;
		double chi = 0;
		exact(x, N, settings[k], p);
		for (uint32_t i = 0; i < DRAWS; i++) {
			struct sample_name name = name_of(i);
			count[pick(x, N, settings[k], sample_uniform(&name, i % 5))]++;
		}
		for (int i = 0; i < N; i++) {
			CHECK(p[i] > 0 || !count[i]); /* Nothing outside the nucleus. */
			double want = p[i] * DRAWS;
			if (want < 5)
				continue;
			chi += (count[i] - want) * (count[i] - want) / want;
			cells++;
		}
		printf("setting %zu: %d cells, chi-square %.1f\n", k, cells, chi);
		CHECK(chi < cells + 4 * sqrt(2.0 * cells) + 6);
	}
}

/* Every token of the nucleus is reachable, its share of [0, 1) is its probability. */
void test_sample__nucleus_is_exact(void)
{
	enum { N = 5000 };
	static float x[N];
	static double p[N];

	for (uint64_t item = 0; item < 6; item++) {
		struct sampling s = {.temperature = 0.8f, .top_p = 0.5f + 0.08f * (float)item, .top_k = 0};
		double low = 0;
		int kept = 0;
		some_logits(x, N, item, item % 2 ? 3.0f : 0.5f);
		if (item == 3)
			s.top_k = 50;
		exact(x, N, s, p);
		for (int i = 0; i < N; i++) {
			if (!(p[i] > 0))
				continue;
			kept++;
			if (p[i] > 1e-6 && kept % 7 == 0)
				CHECK_EQ(pick(x, N, s, low + p[i] / 2), i);
			low += p[i];
		}
		printf("top_p %.2f of %d: %d kept\n", (double)s.top_p, N, kept);
		CHECK_NEAR(low, 1.0, 1e-9);
	}
}

void test_sample__ties_at_the_cut_go_to_low_ids(void)
{
	float x[64];

	for (int i = 0; i < 64; i++)
		x[i] = 1;
	for (int u = 0; u < 100; u++)
		CHECK(pick(x, 64, (struct sampling){1, 1, 3}, u / 100.0) < 3);
	for (int u = 0; u < 100; u++)
		CHECK(pick(x, 64, (struct sampling){1, 0.25f, 0}, u / 100.0) < 16);
	CHECK_EQ(pick(x, 64, (struct sampling){1, 0.25f, 0}, 0.99), 15);
}

void test_sample__extreme_logits_do_not_break(void)
{
	float x[] = {-INFINITY, 1000, -1000, 999, -INFINITY};

	for (int u = 0; u < 20; u++) {
		int id = pick(x, 5, (struct sampling){1, 0.9f, 0}, u / 20.0);
		CHECK(id == 1 || id == 3);
	}
	CHECK_EQ(pick(x, 5, (struct sampling){0.01f, 1, 0}, 0.999999), 1);
}

void test_sample__draws_are_named_not_counted(void)
{
	struct sample_name a = name_of(3), b = name_of(4);
	double first = sample_uniform(&a, 17);

	sample_uniform(&b, 17);
	sample_uniform(&a, 16);
	CHECK_NEAR(sample_uniform(&a, 17), first, 0);
	CHECK(sample_uniform(&b, 17) != first);
	CHECK(sample_uniform(&a, 18) != first);
	CHECK_RC(sampling_check(&(struct sampling){-1, 1, 0}, &e), RC_INVALID);
	CHECK_RC(sampling_check(&(struct sampling){1, 0, 0}, &e), RC_INVALID);
	CHECK_RC(sampling_check(&(struct sampling){1, (float)NAN, 0}, &e), RC_INVALID);
	CHECK_RC(sampling_check(&(struct sampling){0, 1, 5}, &e), RC_OK);
}
