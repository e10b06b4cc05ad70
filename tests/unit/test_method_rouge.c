#include "base/jsonx.h"
#include "base/rng.h"
#include "tests/test.h"
#include "worker/method/rouge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *a, *b;
	int lcs, len_a, len_b;
	double f;
} golden[] = {
	{"Write a poem about the sea.", "Write a poem about the sea!", 6, 6, 6, 1.0},
	{"Write a short poem about the blue sea.", "Write a poem about the sea.", 6, 8, 6,
	 0.8571428571428571},
	{"Give me three tips for staying healthy in winter",
	 "List five ways to stay healthy during winter", 2, 9, 8, 0.23529411764705882},
	{"Translate 'bonjour' into English", "translate bonjour to english", 3, 4, 4, 0.75},
	{"写一首关于大海的诗", "写一首关于大海的诗", 0, 0, 0, 0.0},
	{"It's 3.5km, isn't it?", "Its 3 5km isnt it", 3, 7, 5, 0.5},
	{"a b c d e f g h i j", "a b c d e f g x y z", 7, 10, 10, 0.7},
	{"a b c d e f g x", "a b c d e f g h i j k l", 7, 8, 12, 0.7000000000000001},
};

static int exactly(double a, double b)
{
	return memcmp(&a, &b, sizeof a) == 0;
}

void test_method_rouge__golden(void)
{
	for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
		struct rouge_pair p = rouge_compare(ROUGE_ASCII, golden[i].a, golden[i].b);
		CHECK_EQ(p.lcs, golden[i].lcs);
		CHECK_EQ(p.len_a, golden[i].len_a);
		CHECK_EQ(p.len_b, golden[i].len_b);
		CHECK(exactly(p.f, golden[i].f));
	}
}

void test_method_rouge__golden_file(void)
{
	struct err e = {0};
	json_t *file, *row;
	size_t i;

	CHECK_RC(jx_load(test_data("oracles/dpo_rouge_rank_golden.json"), 1 << 20, &file, &e),
		 RC_OK);
	json_array_foreach(json_object_get(file, "rouge_l"), i, row) {
		struct rouge_pair p = rouge_compare(ROUGE_ASCII, jx_get_str(row, "a", ""),
						    jx_get_str(row, "b", ""));
		CHECK_EQ(p.lcs, jx_get_i64(row, "lcs", -1));
		CHECK(exactly(p.f, json_number_value(json_object_get(row, "f"))));
		CHECK_EQ(p.f > 0.7, jx_get_bool(row, "drop_gt_0_7", false));
	}
	CHECK_EQ(i, 8);
	json_decref(file);
}

/* In double, 272 of the (m, n, L) whose F is 0.7 exactly come out above it. */
void test_method_rouge__equality_at_0_7(void)
{
	int above = 0;

	for (int m = 1; m <= 150; m++)
		for (int n = 1; n <= 150; n++)
			for (int l = 1; l <= m && l <= n; l++)
				if (20 * l == 7 * (m + n))
					above += rouge_f(l, m, n) > 0.7;
	CHECK_EQ(above, 272);
}

void test_method_rouge__unicode(void)
{
	struct rouge_pair p =
		rouge_compare(ROUGE_UNICODE, "写一首关于大海的诗", "写一首关于大海的歌");

	CHECK_EQ(p.len_a, 9);
	CHECK_EQ(p.lcs, 8);
	CHECK_EQ(rouge_compare(ROUGE_UNICODE, "Привет, МИР! École", "привет мир école").lcs, 3);
	CHECK_EQ(rouge_compare(ROUGE_ASCII, "\xe2\x84\xaa" "ey", "key").lcs, 1); /* Kelvin sign */
	CHECK_EQ(rouge_compare(ROUGE_ASCII, "\xff\xff a \xc3", "a").lcs, 1);
}

/* --- the pool and its bounds against a plain table ------------------------------------------- */

static int slow_lcs(const char *a, const char *b)
{
	/* Words are single letters separated by blanks. */
	int m = ((int)strlen(a) + 1) / 2, n = ((int)strlen(b) + 1) / 2;
	static int t[210][210];

	for (int i = 0; i <= m; i++)
		for (int k = 0; k <= n; k++)
			t[i][k] = !i || !k ? 0
				  : a[2 * i - 2] == b[2 * k - 2] ? t[i - 1][k - 1] + 1
				  : t[i - 1][k] > t[i][k - 1] ? t[i - 1][k] : t[i][k - 1];
	return t[m][n];
}

static void random_text(struct rng *r, char *out, uint32_t words_max, uint32_t letters)
{
	uint32_t n = 1 + rng_below(r, words_max);

	for (uint32_t i = 0; i < n; i++) {
		*out++ = (char)('a' + rng_below(r, letters));
		*out++ = ' ';
	}
	out[-1] = 0;
}

void test_method_rouge__pool_finds_the_true_maximum(void)
{
	static char texts[60][420], query[420];
	int64_t run, asked;

	for (uint32_t round = 0; round < 30; round++) {
		struct rouge_pool *p = rouge_pool_new(ROUGE_ASCII);
		struct rng r;
		rng_open(&r, 1, RNG_TEST, 0, round, 0);
		for (int i = 0; i < 60; i++) {
			random_text(&r, texts[i], 200, 4 + round % 20);
			rouge_pool_add(p, texts[i]);
		}
		for (int k = 0; k < 20; k++) {
			double best = 0;
			int which, want = -1;
			random_text(&r, query, 200, 6 + round % 20);
			for (int i = 0; i < 60; i++) {
				double f = rouge_f(slow_lcs(query, texts[i]),
						   ((int)strlen(query) + 1) / 2,
						   ((int)strlen(texts[i]) + 1) / 2);
				if (f > best) {
					best = f;
					want = i;
				}
			}
			CHECK(exactly(rouge_pool_max(p, query, &which), best));
			CHECK_EQ(which, want);
		}
		rouge_pool_stats(p, &run, &asked);
		CHECK(run < asked);
		rouge_pool_free(p);
	}
}
