/* Human review: Cohen's kappa, names of pairs, what counts of what people said, and its summary. */
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "server/kappa.h"
#include "server/pair_key.h"
#include "server/review.h"
#include "server/rows.h"
#include "server/server.h"
#include "store/store.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct err e;

/* --- kappa ----------------------------------------------------------------------------------- */

/* Figures as printed where the tables come from. */
static const struct {
	int k;
	int64_t counts[16];
	double share, kappa, se, tol; /* se < 0: not printed */
} published[] = {
	/* Fleiss, Statistical Methods for Rates and Proportions (1981), table 13.1 */
	{3, {75, 1, 4, 5, 4, 1, 0, 0, 10}, 0.89, 0.676, 0.088, 6e-4},
	/* Boyd and others: two radiologists, 85 mammograms, as in Stata's manual: 63.53 %, 0.4728 */
	{4, {21, 12, 0, 0, 4, 17, 1, 0, 3, 9, 15, 2, 0, 0, 0, 1}, 0.6353, 0.4728, -1, 6e-5},
	/* Wikipedia, Cohen's kappa: grants, and two tables of the same share */
	{2, {20, 5, 10, 15}, 0.7, 0.4, -1, 1e-12},
	{2, {45, 15, 25, 15}, 0.6, 0.1304, -1, 5e-5},
	{2, {25, 35, 5, 35}, 0.6, 0.2593, -1, 5e-5},
};

void test_review__kappa_as_published(void)
{
	for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
		struct kappa k = kappa_of(published[i].counts, published[i].k);

		CHECK_NEAR(k.share, published[i].share, published[i].tol);
		CHECK_NEAR(k.kappa, published[i].kappa, published[i].tol);
		if (published[i].se > 0)
			CHECK_NEAR(k.se, published[i].se, published[i].tol);
		CHECK(k.low < k.share && k.share < k.high);
		CHECK(k.kappa_low < k.kappa && k.kappa < k.kappa_high);
	}
}

/* One line of the script: k, counts, kappa, se. */
static void check_line(const char *at)
{
	int64_t counts[36];
	char *end;
	int k = (int)strtol(at, &end, 10);
	struct kappa got;

	for (int i = 0; i < k * k; i++)
		counts[i] = strtoll(end, &end, 10);
	got = kappa_of(counts, k);
	CHECK_NEAR(got.kappa, strtod(end, &end), 1e-11);
	CHECK_NEAR(got.se, strtod(end, &end), 2e-6);
}

void test_review__kappa_as_python_counts_it(void)
{
	static const char *const argv[] = {"python3", "-B", "tests/unit/kappa_vectors.py", NULL};
	const struct proc_opts o = {.argv = argv, .pipe_out = true};
	struct buf out = BUF_INIT;
	int status, n = 0;

	if (proc_run(&o, NULL, 0, 1 << 20, 60000, &out, &status, &e) || status)
		SKIP("python3 does not run");
	buf_putc(&out, 0);
	for (char *line = out.data; *line; line += strcspn(line, "\n") + 1, n++)
		check_line(line);
	CHECK_EQ(n, 208);
	buf_release(&out);
}

void test_review__kappa_where_it_is_not_defined(void)
{
	struct kappa none = kappa_of((const int64_t[4]){0}, 2), one = kappa_of((const int64_t[4]){9}, 2);
	struct kappa full = kappa_of((const int64_t[4]){5, 0, 0, 5}, 2);
	struct kappa against = kappa_of((const int64_t[4]){0, 5, 5, 0}, 2);

	CHECK(isnan(none.share) && isnan(none.kappa) && isnan(none.low));
	CHECK_NEAR(one.share, 1, 0);
	CHECK(isnan(one.kappa) && isnan(one.kappa_low));
	/* Ten of ten is no certainty: 2 x (Wilson's 0.722) - 1. */
	CHECK_NEAR(full.kappa, 1, 1e-12);
	CHECK_NEAR(full.kappa_low, 0.4449, 1e-3);
	CHECK_NEAR(full.kappa_high, 1, 0);
	CHECK_NEAR(against.kappa, -1, 1e-12);
	CHECK(against.kappa_low >= -1);
}

/* --- names of pairs -------------------------------------------------------------------------- */

static json_t *json_of(const char *text)
{
	json_t *v = NULL;

	CHECK_RC(jx_parse(text, strlen(text), "test", &v, &e), RC_OK);
	return v;
}

static bool key_of(const char *text, char key[PAIR_KEY_SIZE])
{
	json_t *v = json_of(text);
	bool is = pair_key(v, key);

	json_decref(v);
	return is;
}

void test_review__a_pair_has_one_name(void)
{
	char a[PAIR_KEY_SIZE], b[PAIR_KEY_SIZE];

	CHECK(key_of("{\"prompt\":\"P\",\"chosen\":{\"text\":\"x\"},\"rejected\":{\"text\":\"y\"}}", a));
	CHECK(key_of("{\"prompt\":\"P\",\"candidates\":[{\"index\":4,\"text\":\"y\"},"
		     "{\"index\":0,\"text\":\"z\"},{\"index\":7,\"text\":\"x\"}],"
		     "\"chosen\":7,\"rejected\":4,\"drop\":null}", b));
	CHECK_STR(a, b);
	CHECK(key_of("{\"prompt\":\"P\",\"chosen\":\"x\",\"rejected\":\"y\"}", b));
	CHECK_STR(a, b);
	/* Turned round, or cut elsewhere, it is another. */
	CHECK(key_of("{\"prompt\":\"P\",\"chosen\":\"y\",\"rejected\":\"x\"}", b));
	CHECK(strcmp(a, b) != 0);
	CHECK(key_of("{\"prompt\":\"Px\",\"chosen\":\"\",\"rejected\":\"y\"}", b));
	CHECK(strcmp(a, b) != 0);
	CHECK(!key_of("{\"prompt\":\"P\",\"candidates\":[],\"chosen\":null,\"rejected\":null}", b));
	CHECK(!key_of("{\"prompt\":\"P\",\"candidates\":[],\"chosen\":1,\"rejected\":2}", b));
	CHECK(!key_of("{\"prompt\":\"P\",\"response\":\"x\"}", b));
}

void test_review__the_shown_order_says_nothing(void)
{
	int first = 0;
	char key[PAIR_KEY_SIZE], *text;

	for (int i = 0; i < 2000; i++) {
		text = mem_printf("{\"prompt\":\"%d\",\"chosen\":\"a\",\"rejected\":\"b\"}", i);
		CHECK(key_of(text, key));
		first += pair_key_chosen_first(key);
		free(text);
	}
	CHECK_NEAR(first, 1000, 112); /* five standard deviations */
}

/* --- what counts ----------------------------------------------------------------------------- */

/* A key whose order is known: its last digit is even when the chosen answer is the first. */
static json_t *said(const char *key, const char *by, const char *verdict)
{
	return json_pack("{s:s, s:s, s:s?}", "key", key, "by", by, "verdict", verdict);
}

static const char *const keys[] = {"00000000000000010000000000000000", "00000000000000020000000000000001",
				   "00000000000000030000000000000002", "00000000000000040000000000000003"};

static int64_t cell(const json_t *agreement, size_t row, size_t column)
{
	return json_integer_value(json_array_get(
		json_array_get(json_object_get(agreement, "table"), row), column));
}

void test_review__summary(void)
{
	json_t *lines = json_array(), *v, *one, *a;

	/* ann: agree, agree, disagree, skip; bob: agree, disagree, disagree */
	json_array_append_new(lines, said(keys[0], "ann", "agree"));
	json_array_append_new(lines, said(keys[1], "ann", "agree"));
	json_array_append_new(lines, said(keys[2], "ann", "disagree"));
	json_array_append_new(lines, said(keys[3], "ann", "skip"));
	json_array_append_new(lines, said(keys[0], "bob", "agree"));
	json_array_append_new(lines, said(keys[1], "bob", "disagree"));
	json_array_append_new(lines, said(keys[2], "bob", "disagree"));
	v = review_summary(lines, 10);
	CHECK_EQ(jx_get_i64(v, "pairs", 0), 10);
	CHECK_EQ(jx_get_i64(v, "reviewed", 0), 3);
	CHECK_EQ(jx_get_i64(v, "split", 0), 1); /* keys[1] */
	a = json_object_get(v, "agreement");
	CHECK_EQ(jx_get_i64(a, "n", 0), 2);
	CHECK_EQ(jx_get_i64(a, "agree", 0), 1);
	CHECK_EQ(cell(a, 0, 0), 1); /* keys[0]: both say the first */
	CHECK_EQ(cell(a, 0, 1), 1); /* keys[2]: the judge the first, people the second */
	CHECK_EQ(json_array_size(json_object_get(v, "reviewers")), 2);
	one = json_array_get(json_object_get(v, "reviewers"), 0);
	CHECK_STR(jx_get_str(one, "by", ""), "ann");
	CHECK_EQ(jx_get_i64(one, "reviewed", 0), 3);
	CHECK_EQ(jx_get_i64(one, "skipped", 0), 1);
	a = json_object_get(one, "agreement");
	CHECK_EQ(cell(a, 1, 1), 1); /* keys[1]: the chosen one is the second */
	CHECK_NEAR(jx_get_f64(a, "kappa", -1), 0.4, 1e-12); /* 2/3 against 4/9 */
	CHECK_EQ(json_array_size(json_object_get(v, "between")), 1);
	a = json_object_get(json_array_get(json_object_get(v, "between"), 0), "agreement");
	CHECK_EQ(jx_get_i64(a, "n", 0), 3);
	CHECK_EQ(jx_get_i64(a, "agree", 0), 2);
	json_decref(v);
	v = review_majority(lines);
	CHECK_EQ(jx_get_i64(v, keys[0], 9), 1);
	CHECK_EQ(jx_get_i64(v, keys[1], 9), 0);
	CHECK_EQ(jx_get_i64(v, keys[2], 9), -1);
	CHECK(!json_object_get(v, keys[3]));
	json_decref(v);
	json_decref(lines);
}

/* Somebody who never agrees with the judge, and one who always names the first answer: without the
 * order that says nothing both would have a kappa of zero. */
void test_review__kappa_tells_chance_from_dissent(void)
{
	json_t *lines = json_array(), *v, *people;
	char key[PAIR_KEY_SIZE];

	for (int i = 0; i < 400; i++) {
		str_fmt(key, sizeof key, "%016d%015d%d", i + 1, 0, i % 2);
		json_array_append_new(lines, said(key, "no", "disagree"));
		json_array_append_new(lines, said(key, "first", i % 2 ? "disagree" : "agree"));
	}
	v = review_summary(lines, 400);
	people = json_object_get(v, "reviewers"); /* by name */
	CHECK_NEAR(jx_get_f64(json_object_get(json_array_get(people, 0), "agreement"), "kappa", 9), 0,
		   1e-12);
	CHECK_NEAR(jx_get_f64(json_object_get(json_array_get(people, 1), "agreement"), "kappa", 9), -1,
		   1e-12);
	json_decref(v);
	json_decref(lines);
}

/* --- kept ------------------------------------------------------------------------------------ */

static void say(struct server *s, const char *dataset, const char *key, const char *by, const char *verdict)
{
	json_t *line = said(key, by, verdict);

	json_object_set_new(line, "dataset", json_string(dataset));
	CHECK_RC(review_add(s, line, &e), RC_OK);
	json_decref(line);
}

static json_t *standing(struct server *s, const json_t *digests)
{
	json_t *out = NULL;

	CHECK_RC(review_list_of(s, digests, &out, &e), RC_OK);
	return out;
}

void test_review__the_last_word_counts(void)
{
	static const char d1[] = "1111111111111111111111111111111111111111111111111111111111111111";
	static const char d2[] = "2222222222222222222222222222222222222222222222222222222222222222";
	struct server s = {0};
	json_t *both = json_pack("[s, s]", d1, d2), *one = json_pack("[s]", d2), *out;
	char url[600];

	str_fmt(url, sizeof url, "file://%s/store", test_tmpdir());
	CHECK_RC(store_open(url, true, &s.store, &e), RC_OK);
	out = standing(&s, both);
	CHECK_EQ(json_array_size(out), 0);
	json_decref(out);
	say(&s, d1, keys[0], "ann", "agree");
	say(&s, d1, keys[1], "ann", "skip");
	say(&s, d1, keys[0], "bob", "disagree");
	/* What is said in the next millisecond is said last. */
	for (int64_t ms = clk_now_ms(); clk_now_ms() == ms;)
		;
	say(&s, d2, keys[0], "ann", "disagree");
	out = standing(&s, both);
	CHECK_EQ(json_array_size(out), 3);
	CHECK_STR(jx_get_str(json_array_get(out, 2), "verdict", ""), "disagree"); /* ann's, the last */
	CHECK_STR(jx_get_str(json_array_get(out, 2), "by", ""), "ann");
	CHECK_EQ(strlen(jx_get_str(json_array_get(out, 2), "v", "")), 16);
	json_decref(out);
	say(&s, d1, keys[1], "ann", NULL); /* taken back */
	out = standing(&s, both);
	CHECK_EQ(json_array_size(out), 2);
	json_decref(out);
	out = standing(&s, one);
	CHECK_EQ(json_array_size(out), 1);
	json_decref(out);
	json_decref(both);
	json_decref(one);
	store_close(s.store);
}
