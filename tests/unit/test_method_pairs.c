#include "base/rng.h"
#include "tests/test.h"
#include "worker/method/pairs.h"

#include <stdio.h>
#include <string.h>

static const struct pair_rule plain = {.min_valid = 2};
static const int32_t some_tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static struct pair_candidate cand(const char *text, int first, int n, int64_t a, int64_t b,
				  int64_t c)
{
	struct pair_candidate out = {.text = text, .tokens = some_tokens + first, .n_tokens = n,
				     .finished = true};
	int64_t s[] = {a, b, c};

	for (int i = 0; i < 3; i++)
		if (s[i] >= 0)
			pair_mean_add(&out.mean, s[i]);
	return out;
}

void test_method_pairs__best_and_worst(void)
{
	struct pair_candidate l[] = {
		cand("a", 0, 1, 3000, 3000, 4000), cand("b", 1, 1, 5000, 5000, 4000),
		cand("c", 2, 1, 1000, 0, 1000), cand("d", 3, 1, 2000, 2000, 2000)};
	struct pair_pick p = pair_pick(&plain, l, 4);

	CHECK_EQ(p.chosen, 1);
	CHECK_EQ(p.rejected, 2);
	CHECK_EQ(p.drop, PAIR_NONE);
}

void test_method_pairs__means_are_compared_exactly(void)
{
	/* (0.1 + 0.2 + 0.3) / 3 and (0.3 + 0.2 + 0.1) / 3 differ in double; here they tie. */
	struct pair_candidate l[] = {cand("a", 0, 1, 100, 200, 300),
				     cand("b", 1, 1, 300, 200, 100)};
	struct pair_candidate m[] = {cand("a", 0, 1, 1000, 2000, -1),
				     cand("b", 1, 1, 1000, 2000, 1500)};
	struct pair_candidate n[] = {cand("a", 0, 1, 3333, 3333, 3333),
				     cand("b", 1, 1, 3333, 3333, 3334)};

	CHECK_EQ(pair_pick(&plain, l, 2).drop, PAIR_TIE);
	CHECK_EQ(pair_pick(&plain, m, 2).drop, PAIR_TIE); /* 2 judgements against 3 */
	CHECK_EQ(pair_pick(&plain, n, 2).chosen, 1);
}

void test_method_pairs__exclusions(void)
{
	struct pair_candidate l[] = {
		cand("best but unjudged", 0, 1, 5000, -1, -1), cand(" \n ", 1, 1, 5000, 5000, 5000),
		cand("cut", 2, 1, 5000, 5000, 5000), cand("long", 3, 9, 5000, 5000, 5000),
		cand("kept  high", 4, 2, 4000, 4000, 4000), cand("same tokens", 4, 2, 0, 0, 0),
		cand(" kept high ", 6, 2, 0, 0, 0), cand("kept low", 7, 2, 1000, 1000, 1000)};
	struct pair_rule rule = {.min_valid = 2, .max_tokens = 8};
	struct pair_pick p;

	l[2].finished = false;
	p = pair_pick(&rule, l, 8);
	CHECK_EQ(p.chosen, 4);
	CHECK_EQ(p.rejected, 7);
	CHECK_EQ(l[0].out, PAIR_UNJUDGED);
	CHECK_EQ(l[1].out, PAIR_EMPTY);
	CHECK_EQ(l[2].out, PAIR_UNFINISHED);
	CHECK_EQ(l[3].out, PAIR_TOO_LONG);
	CHECK_EQ(l[5].out, PAIR_DUPLICATE);
	CHECK_EQ(l[6].out, PAIR_DUPLICATE);
	CHECK_EQ(pair_pick(&rule, l, 4).drop, PAIR_UNJUDGED);
	CHECK_EQ(pair_pick(&rule, l + 4, 3).drop, PAIR_DUPLICATE);
	CHECK_EQ(pair_pick(&rule, l + 4, 1).drop, PAIR_TOO_FEW);
	CHECK_EQ(pair_pick(&rule, l, 0).drop, PAIR_TOO_FEW);
}

void test_method_pairs__ties_at_the_top(void)
{
	struct pair_candidate l[] = {
		cand("wide", 0, 2, 3000, 5000, 4000), cand("calm", 2, 9, 4000, 4000, 4000),
		cand("calm too", 3, 1, 4000, 4000, 4000), cand("low", 5, 3, 1000, 1000, 1000),
		cand("low too", 6, 8, 1000, 1000, 1000)};
	struct pair_rule rho = {.min_valid = 2, .rho_ppm = 100000};
	struct pair_pick p = pair_pick(&plain, l, 5), q = pair_pick(&rho, l, 5);

	CHECK_EQ(p.chosen, 1); /* lowest variance, then lowest index */
	CHECK_EQ(p.rejected, 3);
	CHECK_EQ(q.chosen, 2); /* shortest of the top tier */
	CHECK_EQ(q.rejected, 4); /* longest of the bottom tier */
}

void test_method_pairs__length_control_widens_the_tiers(void)
{
	struct pair_candidate l[] = {cand("a", 0, 10, 5000, 5000, 5000),
				     cand("b", 1, 3, 4000, 4000, 4000), cand("c", 2, 4, 0, 0, 0),
				     cand("d", 3, 12, 1000, 1000, 1000)};
	struct pair_rule edge = {.min_valid = 2, .rho_ppm = 200000},
			 under = {.min_valid = 2, .rho_ppm = 199999};

	CHECK_EQ(pair_pick(&edge, l, 4).chosen, 1); /* 4 >= 0.8 * 5 holds exactly */
	CHECK_EQ(pair_pick(&edge, l, 4).rejected, 3);
	CHECK_EQ(pair_pick(&under, l, 4).chosen, 0);
	CHECK_EQ(pair_pick(&under, l, 4).rejected, 2);
}

/* --- against a model that looks at every ordered pair ---------------------------------------- */

static int slow_excluded(const struct pair_rule *r, const struct pair_candidate *l, int i)
{
	if (l[i].mean.n < r->min_valid || !l[i].finished || l[i].text[0] == 0 ||
	    (r->max_tokens && l[i].n_tokens > r->max_tokens))
		return 1;
	for (int k = 0; k < i; k++)
		if (!slow_excluded(r, l, k) && strcmp(l[k].text, l[i].text) == 0)
			return 1;
	return 0;
}

/* Means over six judgements at most are exact when multiplied by 60. */
static int64_t mean60(const struct pair_candidate *c)
{
	return c->mean.sum * 60 / c->mean.n;
}

static double variance(const struct pair_candidate *c)
{
	double m = (double)c->mean.sum / c->mean.n;

	return (double)c->mean.sum_sq / c->mean.n - m * m;
}

/* Is a pair (i, k) at least as good as (a, b) by the default rule? Variances only when they differ
 * clearly, so that rounding plays no part. */
static int slow_better(const struct pair_candidate *l, int i, int a, int want_high)
{
	if (mean60(&l[i]) != mean60(&l[a]))
		return (mean60(&l[i]) > mean60(&l[a])) == want_high;
	if (variance(&l[i]) < variance(&l[a]) - 1e-3)
		return 1;
	if (variance(&l[i]) > variance(&l[a]) + 1e-3)
		return 0;
	return i < a;
}

void test_method_pairs__agrees_with_brute_force(void)
{
	static const char *const texts[] = {"", "a", "b", "c", "d", "e", "f", "g"};
	int kept = 0;

	for (uint32_t t = 0; t < 20000; t++) {
		struct pair_candidate l[6];
		struct pair_rule rule = {.min_valid = 1 + (int)(t % 3),
					 .max_tokens = t % 5 ? 0 : 4};
		struct pair_pick p;
		struct rng r;
		int n, best = -1, worst = -1;
		rng_open(&r, 3, RNG_TEST, 0, t, 0);
		n = (int)rng_below(&r, 7);
		for (int i = 0; i < n; i++) {
			l[i] = (struct pair_candidate){.text = texts[rng_below(&r, 8)],
						       .n_tokens = 1 + (int)rng_below(&r, 6),
						       .finished = rng_below(&r, 10) > 0};
			/* Tokens differ always, so that texts alone decide about duplicates. */
			l[i].tokens = some_tokens + i;
			l[i].n_tokens = 1 + i % 6;
			for (uint32_t k = rng_below(&r, 5); k > 0; k--)
				pair_mean_add(&l[i].mean, rng_below(&r, 4) * 500);
		}
		p = pair_pick(&rule, l, n);
		for (int i = 0; i < n; i++) {
			if (slow_excluded(&rule, l, i))
				continue;
			if (best < 0 || slow_better(l, i, best, 1))
				best = i;
			if (worst < 0 || slow_better(l, i, worst, 0))
				worst = i;
		}
		if (best < 0 || mean60(&l[best]) == mean60(&l[worst])) {
			CHECK(p.chosen == -1 && p.rejected == -1 && p.drop != PAIR_NONE);
			continue;
		}
		kept++;
		CHECK_EQ(p.chosen, best);
		CHECK_EQ(p.rejected, worst);
	}
	CHECK(kept > 3000);
}

/* With length control, chosen stays strictly above rejected for any tier width below one half. */
void test_method_pairs__length_control_never_inverts(void)
{
	static const char *const texts[] = {"a", "b", "c", "d", "e"};

	for (uint32_t t = 0; t < 20000; t++) {
		struct pair_candidate l[5];
		struct pair_rule rule = {.min_valid = 1};
		struct pair_pick p;
		struct rng r;
		rng_open(&r, 4, RNG_TEST, 0, t, 0);
		rule.rho_ppm = rng_below(&r, 500000);
		for (int i = 0; i < 5; i++) {
			l[i] = (struct pair_candidate){.text = texts[i],
						       .tokens = some_tokens + i,
						       .n_tokens = 1 + (int)rng_below(&r, 9),
						       .finished = true};
			for (uint32_t k = 1 + rng_below(&r, 3); k > 0; k--)
				pair_mean_add(&l[i].mean, rng_below(&r, 6) * 1000);
		}
		p = pair_pick(&rule, l, 5);
		if (p.drop == PAIR_NONE)
			CHECK(pair_mean_cmp(&l[p.chosen].mean, &l[p.rejected].mean) > 0);
	}
}

void test_method_pairs__counters_add_up(void)
{
	struct pair_candidate l[] = {cand("a", 0, 4, 4000, 4000, 5000),
				     cand("b", 1, 2, 0, 1000, -1), cand("c", 2, 2, -1, -1, -1)};
	struct pair_counts c;
	struct pair_pick p = pair_pick(&plain, l, 3);
	int64_t scores[] = {4000, 4000, 5000, 0, 1000};

	pair_counts_init(&c, 0, 5000);
	for (int i = 0; i < 5; i++)
		pair_counts_judgement(&c, true, scores[i]);
	for (int i = 0; i < 4; i++)
		pair_counts_judgement(&c, false, 0);
	pair_counts_prompt(&c, l, 3, &p);
	CHECK_EQ(c.bins, 6);
	CHECK_EQ(c.hist[4], 2);
	CHECK_EQ(c.at_max, 1);
	CHECK_EQ(c.kept, 1);
	CHECK_EQ(c.out[PAIR_UNJUDGED], 1);
	CHECK_EQ(c.judged, 2);
	CHECK_EQ(c.chosen_longer, 1);
	CHECK(pair_counts_alarm(&c) == NULL); /* too few to say */
	for (int i = 0; i < 200; i++)
		pair_counts_judgement(&c, true, 4000);
	CHECK(strstr(pair_counts_alarm(&c), "same") != NULL);
	for (int i = 0; i < 50; i++)
		pair_counts_judgement(&c, false, 0);
	CHECK(strstr(pair_counts_alarm(&c), "readable") != NULL);
}
