#include "base/jsonx.h"
#include "base/rng.h"
#include "tests/test.h"
#include "worker/method/rank.h"
#include "worker/method/winrate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static struct rank_tally one(const int *h, const double *s, int n)
{
	struct rank_tally t;
	struct rank_score sc[16];

	rank_tally_init(&t);
	for (int i = 0; i < n; i++)
		sc[i] = (struct rank_score){llround(s[i] * 3000), 3};
	rank_tally_add(&t, h, sc, n, 5000);
	return t;
}

static const struct {
	int n, h[4];
	double s[4];
	int pairs, agree, tied, exact, fives, fives_best;
	double rho, tau;
} golden[] = {
	{3, {0, 1, 2}, {5, 4, 3}, 3, 3, 0, 1, 1, 1, 1.0, 1.0},
	{3, {0, 1, 2}, {4, 4, 4}, 3, 0, 3, 0, 0, 0, NAN, NAN},
	{3, {0, 1, 2}, {5, 5, 3}, 3, 2, 1, 0, 2, 1, 0.8660254037844387, 0.8164965809277261},
	{2, {0, 1}, {3, 4}, 1, 0, 0, 0, 0, 0, -1.0, -1.0},
	{4, {0, 1, 2, 3}, {4, 4.333333333333333, 2, 2}, 6, 4, 1, 0, 0, 0, 0.7378647873726218,
	 0.5477225575051661},
	{4, {0, 1, 2, 3}, {5, 3, 4, 1}, 6, 5, 0, 0, 1, 1, 0.8, 0.6666666666666666},
};

static void near_or_nan(double got, double want)
{
	if (isnan(want))
		CHECK(isnan(got));
	else
		CHECK_NEAR(got, want, 1e-12);
}

void test_method_rank__golden(void)
{
	for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
		struct rank_tally t = one(golden[i].h, golden[i].s, golden[i].n);
		struct rank_result r = rank_tally_result(&t);
		CHECK_EQ(t.pairs, golden[i].pairs);
		CHECK_EQ(t.agree, golden[i].agree);
		CHECK_EQ(t.tied, golden[i].tied);
		CHECK_EQ(t.exact, golden[i].exact);
		CHECK_EQ(t.perfect, golden[i].fives);
		CHECK_EQ(t.perfect_best, golden[i].fives_best);
		near_or_nan(r.spearman, golden[i].rho);
		near_or_nan(r.kendall, golden[i].tau);
		near_or_nan(r.spearman_pooled, golden[i].rho);
		rank_tally_release(&t);
	}
}

void test_method_rank__golden_file(void)
{
	struct err e = {0};
	json_t *file, *row;
	size_t i;

	CHECK_RC(jx_load(test_data("oracles/dpo_rouge_rank_golden.json"), 1 << 20, &file, &e),
		 RC_OK);
	json_array_foreach(json_object_get(file, "rank"), i, row) {
		json_t *hj = json_object_get(row, "human_rank"),
		       *sj = json_object_get(row, "score");
		int h[8], n = (int)json_array_size(hj);
		double s[8];
		struct rank_tally t;
		struct rank_result r;
		for (int k = 0; k < n; k++) {
			h[k] = (int)json_integer_value(json_array_get(hj, (size_t)k));
			s[k] = json_number_value(json_array_get(sj, (size_t)k));
		}
		t = one(h, s, n);
		r = rank_tally_result(&t);
		CHECK_EQ(t.agree, jx_get_i64(row, "agree", -1));
		CHECK_EQ(t.tied, jx_get_i64(row, "tied", -1));
		CHECK_EQ(t.exact, jx_get_i64(row, "exact_match", -1));
		near_or_nan(r.spearman, jx_get_f64(row, "spearman", NAN));
		near_or_nan(r.kendall, jx_get_f64(row, "kendall_tau_b", NAN));
		rank_tally_release(&t);
	}
	CHECK_EQ(i, 6);
	json_decref(file);
}

void test_method_rank__unjudged_replies_count_as_wrong(void)
{
	struct rank_tally t;
	struct rank_result r;
	int h[] = {0, 1, 2};
	struct rank_score s[] = {{15000, 3}, {0, 0}, {6000, 3}};

	rank_tally_init(&t);
	rank_tally_add(&t, h, s, 3, 5000);
	r = rank_tally_result(&t);
	CHECK_NEAR(r.pairwise, 1.0 / 3, 1e-15);
	CHECK_NEAR(r.coverage, 2.0 / 3, 1e-15);
	CHECK_EQ(t.unjudged_pairs, 2);
	CHECK_EQ(t.exact, 0);
	CHECK_NEAR(r.spearman, 1.0, 1e-15); /* over the two that are judged */
	rank_tally_release(&t);
	r = rank_tally_result(&t); /* empty */
	CHECK(isnan(r.pairwise) && isnan(r.kendall) && isnan(r.five_best) && isnan(r.coverage));
}

/* --- tau against its definition -------------------------------------------------------------- */

static double slow_tau(const double *x, const double *y, int n)
{
	int64_t c = 0, d = 0, tx = 0, ty = 0, all = (int64_t)n * (n - 1) / 2;

	for (int i = 0; i < n; i++)
		for (int k = i + 1; k < n; k++) {
			double s = (x[i] - x[k]) * (y[i] - y[k]);
			c += s > 0;
			d += s < 0;
			tx += x[i] == x[k];
			ty += y[i] == y[k];
		}
	if (tx == all || ty == all)
		return NAN;
	return (double)(c - d) / sqrt((double)(all - tx) * (double)(all - ty));
}

static double slow_rank(const double *v, int n, int at)
{
	int below = 0, same = 0;

	for (int i = 0; i < n; i++) {
		below += v[i] < v[at];
		same += v[i] == v[at];
	}
	return below + (same + 1) / 2.0;
}

void test_method_rank__random_lists_against_the_definition(void)
{
	for (uint32_t t = 0; t < 3000; t++) {
		double x[40], y[40], rx[40], ry[40];
		struct rng r;
		int n;
		rng_open(&r, 9, RNG_TEST, 0, t, 0);
		n = 2 + (int)rng_below(&r, 38);
		for (int i = 0; i < n; i++) {
			x[i] = rng_below(&r, 1 + t % 12);
			y[i] = rng_below(&r, 1 + t % 7);
		}
		for (int i = 0; i < n; i++) {
			rx[i] = slow_rank(x, n, i);
			ry[i] = slow_rank(y, n, i);
		}
		near_or_nan(rank_kendall(x, y, n), slow_tau(x, y, n));
		near_or_nan(rank_spearman(x, y, n), rank_pearson(rx, ry, n));
	}
}

/* maszhongming/UniEval publishes these to six digits, computed with SciPy. */
void test_method_rank__unieval_correlations(void)
{
	static const struct {
		const char *name;
		double r, rho, tau;
	} want[] = {
		{"naturalness", 0.443666, 0.513986, 0.373973},
		{"coherence", 0.595143, 0.612942, 0.465915},
		{"engagingness", 0.55651, 0.604739, 0.455941},
		{"groundedness", 0.536209, 0.574954, 0.451533},
		{"understandability", 0.380038, 0.467807, 0.360741},
		{"overall", 0.632796, 0.662583, 0.487272},
	};
	struct err e = {0};
	json_t *file, *row;
	static double x[1000], y[1000];
	size_t i;

	CHECK_RC(jx_load(test_data("oracles/unieval/topical_chat_result.json"), 4 << 20, &file, &e),
		 RC_OK);
	for (size_t d = 0; d < 6; d++) {
		int n = 0;
		json_array_foreach(file, i, row) {
			CHECK(n < 1000);
			x[n] = json_number_value(json_object_get(
				json_object_get(row, "predict_scores"), want[d].name));
			y[n++] = json_number_value(json_object_get(json_object_get(row, "scores"),
								   want[d].name));
		}
		CHECK_NEAR(rank_pearson(x, y, n), want[d].r, 5.1e-7);
		CHECK_NEAR(rank_spearman(x, y, n), want[d].rho, 5.1e-7);
		CHECK_NEAR(rank_kendall(x, y, n), want[d].tau, 5.1e-7);
	}
	json_decref(file);
}

/* --- win rates ------------------------------------------------------------------------------- */

void test_method_rank__verdicts(void)
{

	CHECK_EQ(winrate_parse("I like [[A]] but in the end [[B]].", 34), VERDICT_B);
	CHECK_EQ(winrate_parse("[[C]]", 5), VERDICT_TIE);
	CHECK_EQ(winrate_parse("[[D]] [A]]", 10), VERDICT_NONE);
	CHECK_EQ(winrate_parse("]]", 2), VERDICT_NONE);
	CHECK_EQ(winrate_combine(VERDICT_A, VERDICT_B), VERDICT_A);
	CHECK_EQ(winrate_combine(VERDICT_B, VERDICT_A), VERDICT_B);
	CHECK_EQ(winrate_combine(VERDICT_A, VERDICT_A), VERDICT_TIE); /* follows the position */
	CHECK_EQ(winrate_combine(VERDICT_TIE, VERDICT_TIE), VERDICT_TIE);
	CHECK_EQ(winrate_combine(VERDICT_A, VERDICT_NONE), VERDICT_NONE);
}

void test_method_rank__wilson(void)
{
	struct winrate w = {.win = 5, .tie = 10, .loss = 0, .none = 3};
	struct winrate_result r = winrate_result(&w);
	double low, high;

	CHECK_EQ(r.n, 15);
	CHECK_NEAR(r.rate, 10.0 / 15, 1e-15);
	winrate_wilson(8, 10, 1.959963984540054, &low, &high); /* a textbook case */
	CHECK_NEAR(low, 0.4901625, 1e-6);
	CHECK_NEAR(high, 0.9433178, 1e-6);
	winrate_wilson(0, 10, 1.959963984540054, &low, &high);
	CHECK_NEAR(low, 0, 1e-12);
	CHECK_NEAR(high, 0.2775328, 1e-6);
	winrate_wilson(0, 0, 1.96, &low, &high);
	CHECK(low == 0 && high == 1);
}
