/* ProTeGi's pure parts: the bandits against the golden figures, drawing, questions and answers. */
#include "base/jsonx.h"
#include "tests/test.h"
#include "worker/method/protegi.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *golden(const char *name)
{
	struct err e = {0};
	json_t *file, *part;

	CHECK_RC(jx_load(test_data("oracles/dpo_rouge_rank_golden.json"), 1 << 20, &file, &e),
		 RC_OK);
	part = json_incref(json_object_get(file, name));
	json_decref(file);
	return part;
}

void test_protegi__ucb_golden(void)
{
	json_t *list = golden("ucb"), *row;
	size_t i;

	CHECK(json_array_size(list) == 4);
	json_array_foreach(list, i, row)
		CHECK_NEAR(protegi_ucb(jx_get_f64(row, "score", -1), jx_get_i64(row, "count", -1),
				       jx_get_i64(row, "t", -1), 1.0),
			   jx_get_f64(row, "value", -1), 1e-12);
	json_decref(list);
}

void test_protegi__successive_rejects_golden(void)
{
	json_t *all = golden("successive_rejects_nk"), *list = json_object_get(all, "K8_B2048"), *v;
	size_t k;

	CHECK(json_array_size(list) == 7);
	json_array_foreach(list, k, v)
		CHECK_EQ(protegi_sr_trials(8, 1, 2048, (int)k + 1), json_integer_value(v));
	json_decref(all);
}

/* Whoever leaves after round k had n_k; those who stay had the last one: never above the budget,
 * but for the rounding up of each. */
void test_protegi__successive_rejects_spends_its_budget(void)
{
	for (int arms = 2; arms <= 40; arms += 3)
		for (int keep = 1; keep < arms && keep <= 8; keep++) {
			int64_t budget = 40 * arms + 17, spent = 0, last = 0;

			for (int k = 1; k <= arms - keep; k++) {
				int64_t n = protegi_sr_trials(arms, keep, budget, k);
				CHECK(n >= last);
				last = n;
				spent += n;
			}
			spent += keep * last;
			CHECK(spent <= budget);
			CHECK(spent >= budget - 2 * arms);
		}
	CHECK_EQ(protegi_sr_trials(8, 4, 0, 1), 1); /* no budget: one each */
}

void test_protegi__ranks_by_exact_means(void)
{
	/* 1/3 three ways, 2/3, nothing tried, all wrong. */
	const struct protegi_arm arms[] = {{3, 3, 1}, {9, 9, 3}, {4, 6, 4},
					   {0, 0, 0}, {5, 5, 0}, {9, 12, 4}};
	int order[6];

	protegi_rank(arms, 6, order);
	CHECK_EQ(order[0], 2);
	CHECK_EQ(order[1], 1); /* more evaluations first, then the older */
	CHECK_EQ(order[2], 5);
	CHECK_EQ(order[3], 0);
	CHECK_EQ(order[4], 4); /* tried and wrong, before what was never tried */
	CHECK_EQ(order[5], 3);
	CHECK_NEAR(protegi_mean(&arms[2]), 2.0 / 3, 1e-15);
	CHECK_NEAR(protegi_mean(&arms[3]), 0, 0);
}

void test_protegi__ucb_explores_then_exploits(void)
{
	struct protegi_arm arms[5] = {
		{32, 64, 60}, {32, 64, 10}, {32, 64, 40}, {0, 0, 0}, {0, 0, 0}};
	struct rng r;
	int out[5];

	rng_open(&r, 7, RNG_TEST, 0, 0, 0);
	CHECK_EQ(protegi_ucb_pick(arms, 5, 100, 2, 1.0, 3, &r, out), 3);
	CHECK_EQ(out[0], 3); /* not tried yet: before all others */
	CHECK_EQ(out[1], 4);
	CHECK_EQ(out[2], 0);
	arms[3] = arms[4] = (struct protegi_arm){32, 64, 20};
	CHECK_EQ(protegi_ucb_pick(arms, 5, 100, 3, 0.1, 2, &r, out), 2);
	CHECK_EQ(out[0], 0);
	CHECK_EQ(out[1], 2);
	arms[0].n = 100; /* has seen all there is */
	CHECK_EQ(protegi_ucb_pick(arms, 5, 100, 4, 0.1, 2, &r, out), 2);
	CHECK_EQ(out[0], 2);
	CHECK_EQ(protegi_ucb_pick(arms, 5, 0, 4, 0.1, 2, &r, out), 0);
}

void test_protegi__first_step_is_random_but_repeatable(void)
{
	struct protegi_arm arms[20] = {{0, 0, 0}};
	int seen[20] = {0}, out[8], again[8];

	for (uint64_t item = 0; item < 200; item++) {
		struct rng r, s;

		rng_open(&r, 7, RNG_TEST, 1, item, 0);
		rng_open(&s, 7, RNG_TEST, 1, item, 0);
		CHECK_EQ(protegi_ucb_pick(arms, 20, 10, 1, 1, 8, &r, out), 8);
		CHECK_EQ(protegi_ucb_pick(arms, 20, 10, 1, 1, 8, &s, again), 8);
		CHECK(memcmp(out, again, sizeof out) == 0);
		for (int k = 0; k < 8; k++) {
			CHECK(k == 0 || out[k] > out[k - 1]);
			seen[out[k]]++;
		}
	}
	for (int i = 0; i < 20; i++) /* 80 each on average */
		CHECK(seen[i] > 50 && seen[i] < 110);
}

void test_protegi__draws_without_repetition(void)
{
	struct rng r;
	int out[10];

	rng_open(&r, 1, RNG_TEST, 2, 0, 0);
	CHECK_EQ(protegi_draw(3, 10, &r, out), 3);
	CHECK(out[0] == 0 && out[1] == 1 && out[2] == 2);
	CHECK_EQ(protegi_draw(0, 10, &r, out), 0);
	CHECK_EQ(protegi_draw(10, 0, &r, out), 0);
}

static void parsed(const char *text, int max, const char *want)
{
	char *out[8], got[256] = "";
	int n = protegi_parse(text, max, out);

	for (int i = 0; i < n; i++) {
		strncat(got, out[i], 60);
		strncat(got, "|", 2);
		free(out[i]);
	}
	CHECK_STR(got, want);
}

void test_protegi__answers_are_read_by_their_tags(void)
{
	parsed("<START>one<END><START>two<END>", 8, "one|two|");
	parsed("Sure!\n<START>\n  one line\nand more \n<END> ok <START>2<END>", 8,
	       "one line\nand more|2|");
	parsed("<START>a<END><START>b<END><START>c<END>", 2, "a|b|");
	parsed("<START>a<END><START>cut off", 8, "a|");
	parsed("<START> <END><START>b<END>", 8, "b|");
	parsed("<END>x<START>a<START>b<END>", 8, "a<START>b|"); /* the first end ends it */
	parsed("no tags", 8, "");
	parsed("", 8, "");
}

static void variant(const char *text, const char *want)
{
	char *got = protegi_variant(text);

	if (want)
		CHECK_STR(got ? got : "(nothing)", want);
	else
		CHECK(got == NULL);
	free(got);
}

void test_protegi__a_paraphrase_needs_no_tags(void)
{
	variant("  Rate it. \n", "Rate it.");
	variant("Here: <START>Rate it.<END> bye", "Rate it.");
	variant(" \n", NULL);
}

void test_protegi__questions(void)
{
	const struct protegi_error errors[] = {
		{"Pack a tent", "tent", "rope", true, 2, 3},
		{"Pack {response}", "x", "<START>", false, NAN, 4.5},
	};
	struct buf b = BUF_INIT;

	protegi_ask_reasons("Rate {response} to {prompt}", errors, 2, 3, &b);
	CHECK_STR(
		b.data,
		"I'm trying to write a prompt for a judge that scores answers.\n\n"
		"My current prompt is:\n\"Rate {response} to {prompt}\"\n\n"
		"But this prompt gets the following examples wrong:\n\n"
		"## Example 1\nText: \"Pack a tent\"\nAnswer A: \"tent\"\nAnswer B: \"rope\"\n"
		"Label: A is better\nPrediction: A 2, B 3\n\n"
		"## Example 2\nText: \"Pack {response}\"\nAnswer A: \"x\"\nAnswer B: \"<START>\"\n"
		"Label: B is better\nPrediction: A no readable score, B 4.5\n\n"
		"give 3 reasons why the prompt could have gotten these examples wrong.\n"
		"Wrap each reason with <START> and <END>");
	buf_clear(&b);
	protegi_ask_edits("J", errors, 1, "it is vague", 2, &b);
	CHECK(strstr(b.data, "## Example 1") && !strstr(b.data, "## Example 2"));
	CHECK(strstr(b.data, "the problem with this prompt is that it is vague\n"));
	CHECK(strstr(b.data, "I wrote 2 different improved prompts."));
	CHECK(strstr(b.data, "\n\nThe 2 new prompts are:\n"));
	buf_clear(&b);
	protegi_ask_variant("J {prompt}", &b);
	CHECK_STR(b.data,
		  "Generate a variation of the following instruction while keeping the semantic "
		  "meaning.\n\nInput: J {prompt}\n\nOutput:");
	buf_release(&b);
}
