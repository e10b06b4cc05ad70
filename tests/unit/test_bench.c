/* Benchmarks and the win rate without the effect of length. */
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "tests/stub_endpoint.h"
#include "tests/talking_model.h"
#include "worker/method/bench.h"
#include "worker/method/lcwr.h"
#include "worker/stage.h"

static struct err e;

static void reads(const char *text, const char *want)
{
	json_t *row = json_loads(text, 0, NULL), *out;

	CHECK(row != NULL);
	CHECK_RC(bench_read(row, &out, &e), RC_OK);
	char *got = jx_text(out);
	CHECK_STR(got, want);
	free(got);
	json_decref(out);
	json_decref(row);
}

static void refuses(const char *text, const char *needle)
{
	json_t *row = json_loads(text, 0, NULL), *out;

	CHECK_RC(bench_read(row, &out, &e), RC_INVALID);
	if (!strstr(e.text, needle))
		CHECK_STR(e.text, needle);
	json_decref(row);
}

void test_bench__rows_as_they_are_published(void)
{
	reads("{\"id\":\"x\",\"question\":{\"stem\":\"Q\",\"choices\":[{\"text\":\"a\",\"label\":\"A\"},"
	      "{\"text\":\"b\",\"label\":\"B\"}]},\"answerKey\":\"B\"}",
	      "{\"answer\":1,\"choices\":[\"a\",\"b\"],\"kind\":\"choice\",\"question\":\"Q\"}");
	reads("{\"question\":\"Q\",\"choices\":{\"text\":[\"a\",\"b\",\"c\"],\"label\":[\"1\",\"2\",\"3\"]},"
	      "\"answerKey\":\"3\"}",
	      "{\"answer\":2,\"choices\":[\"a\",\"b\",\"c\"],\"kind\":\"choice\",\"question\":\"Q\"}");
	reads("{\"question\":\"Q\",\"choices\":[\"a\",\"b\",\"c\",\"d\"],\"answer\":0,\"subject\":\"law\"}",
	      "{\"answer\":0,\"category\":\"law\",\"choices\":[\"a\",\"b\",\"c\",\"d\"],\"kind\":\"choice\","
	      "\"question\":\"Q\"}");
	reads("{\"question\":\"Q\",\"choices\":[\"a\",\"b\"],\"answer\":\"B\"}",
	      "{\"answer\":1,\"choices\":[\"a\",\"b\"],\"kind\":\"choice\",\"question\":\"Q\"}");
	reads("{\"question\":\"Q\",\"answer\":\"5 apples and 3\\n#### 1,234\"}",
	      "{\"answer\":\"1234\",\"kind\":\"exact\",\"question\":\"Q\"}");
	reads("{\"prompt\":\"Q\",\"response\":\"R\"}",
	      "{\"kind\":\"likelihood\",\"question\":\"Q\",\"response\":\"R\"}");
	reads("{\"question_id\":81,\"category\":\"math\",\"turns\":[\"a\",\"b\"],"
	      "\"reference\":[\"1\",\"2\"]}",
	      "{\"category\":\"math\",\"kind\":\"chat\",\"reference\":[\"1\",\"2\"],"
	      "\"turns\":[\"a\",\"b\"]}");
	refuses("{\"turns\":[\"a\",\"b\"],\"reference\":[\"1\"]}", "each turn");
	refuses("{\"turns\":[]}", "0 turns");
	refuses("{\"question\":\"Q\",\"choices\":[\"a\",\"b\"],\"answer\":2}", "names none of the 2");
	refuses("{\"question\":\"Q\",\"choices\":[\"a\"],\"answer\":0}", "1 choices");
	refuses("{\"question\":\"Q\",\"choices\":[\"a\",7],\"answer\":0}", "choice 2");
	refuses("{\"question\":\"Q\",\"answer\":\"none\"}", "no number");
	refuses("{\"question\":\"Q\"}", "answer");
	refuses("{\"x\":1}", "prompt");
}

void test_bench__the_number_an_answer_ends_in(void)
{
	static const char *const cases[][2] = {
		{"The answer is 42.", "42"},	  {"#### 7 and 9", "7"},
		{"a 3 then 1,000,000", "1000000"}, {"costs $18.50", "18.5"},
		{"18.00 dollars", "18"},	  {"-5", "-5"},
		{"5-3", "3"},			  {"minus -0", "0"},
		{"007", "7"},			  {"3.14159 is pi", "3.14159"},
		{"0.50", "0.5"},		  {"1, 2, 3", "3"},
		{"none", NULL},			  {"", NULL},
	};
	char got[BENCH_NUMBER_MAX];

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		CHECK_EQ(bench_number(cases[i][0], got), cases[i][1] != NULL);
		if (cases[i][1])
			CHECK_STR(got, cases[i][1]);
	}
}

/* --- the stage ------------------------------------------------------------------------------- */

void test_bench__a_model_is_put_to_it(void)
{
	static const struct said words[] = {{"\xc4\xa0yes", 6}, {"\xc4\xa0no", 2}, {"\xc4\xa0" "42", 30}};
	const char *dir = test_tmpdir();
	struct stage_ctx ctx;

	put_model(dir, words, 3, 16, 1);
	put_file(dir, "in/bench/data.jsonl",
		 "{\"id\":\"s/1\",\"set\":\"s\",\"kind\":\"choice\",\"question\":\"Q\",\"choices\":"
		 "[\" yes\",\" no\"],"
		 "\"answer\":0}\n"
		 "{\"id\":\"s/2\",\"set\":\"s\",\"kind\":\"choice\",\"question\":\"Q\",\"choices\":"
		 "[\" yes\",\" no\"],"
		 "\"answer\":1}\n"
		 "{\"id\":\"g/1\",\"set\":\"g\",\"kind\":\"exact\",\"question\":\"Q\",\"answer\":\"42\"}\n"
		 "{\"id\":\"v/1\",\"set\":\"v\",\"kind\":\"likelihood\",\"question\":\"Q\","
		 "\"response\":\" yes\"}\n");
	put_file(dir, "job.json", "{\"id\":\"r.0.bench.1.0\",\"stage\":\"bench\",\"iter\":0,\"seed\":\"7\","
				  "\"params\":{\"name\":\"M1\"},\"spec\":{\"eval\":{\"max_new_tokens\":3}}}");
	CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
	CHECK_RC(stage_ctx_run(&ctx, &e), RC_OK);
	CHECK_NEAR(jx_get_f64(ctx.metrics, "bench.s.accuracy", -1), 0.5, 0);
	CHECK_EQ(jx_get_i64(ctx.metrics, "bench.s.n", -1), 2);
	CHECK_NEAR(jx_get_f64(ctx.metrics, "bench.g.accuracy", -1), 1, 0);
	/* The tokenizer spells the word in four bytes, e^-40 to the 39 of all words and the end, which comes
	 * last. */
	CHECK_NEAR(jx_get_f64(ctx.metrics, "bench.v.nll", -1), 4 * 40.0 / 5 + log(39), 1e-3);
	stage_ctx_close(&ctx);
}

/* --- length-controlled win rate -------------------------------------------------------------- */

void test_bench__length_control_recovers_what_made_the_data(void)
{
	struct lcwr_item list[200];
	double sum = 0, sd = 0, mean = 0, rate;

	/* Ours is longer wherever it likes to win. */
	for (int i = 0; i < 200; i++)
		list[i] = (struct lcwr_item){.ours = 100 + (i * 37) % 90, .theirs = 100 + (i * 11) % 50};
	for (int i = 0; i < 200; i++)
		mean += (list[i].theirs - list[i].ours) / 200;
	for (int i = 0; i < 200; i++)
		sd += (list[i].theirs - list[i].ours - mean) * (list[i].theirs - list[i].ours - mean) / 199;
	sd = sqrt(sd);
	for (int i = 0; i < 200; i++) {
		list[i].won = lcwr_q(-0.4, -1.5, (list[i].theirs - list[i].ours) / sd, 0);
		sum += list[i].won / 200;
	}
	CHECK(lcwr_fit(list, 200, &rate) == NULL);
	CHECK_NEAR(rate, lcwr_q(-0.4, 0, 0, 0), 1e-9);
	CHECK(sum > rate + 0.05); /* the plain rate was length */
	/* The figures of the oracle. */
	CHECK_NEAR(lcwr_q(0, 0, 0, 0), 0.5, 0);
	CHECK_NEAR(lcwr_q(-1.2, -0.8, -0.5, 0.3), 0.3704454572731313, 1e-12);
	CHECK_NEAR(lcwr_q(-1.2, -0.8, 1.5, -0.3), 0.09760544175014503, 1e-12);
}

static void refused(const struct lcwr_item *list, size_t n, const char *needle)
{
	double rate = 0;
	const char *why = lcwr_fit(list, n, &rate);

	CHECK(why != NULL);
	CHECK(strstr(why, needle) != NULL);
	CHECK(isnan(rate));
}

void test_bench__length_control_is_refused_with_a_reason(void)
{
	struct lcwr_item list[40];

	for (int i = 0; i < 40; i++)
		list[i] = (struct lcwr_item){.won = i % 3 == 0, .ours = i, .theirs = 2 * i};
	refused(list, 29, "fewer than 30");
	for (int i = 0; i < 40; i++)
		list[i].theirs = list[i].ours + 5;
	refused(list, 40, "same length");
	for (int i = 0; i < 40; i++)
		list[i] = (struct lcwr_item){.won = i < 20, .ours = 40 - i, .theirs = 20};
	refused(list, 40, "separates");
	for (int i = 0; i < 40; i++)
		list[i].won = 1;
	refused(list, 40, "one");
}

/* A model against itself: every verdict a tie, whatever the lengths: one half. */
void test_bench__against_oneself_is_one_half(void)
{
	struct lcwr_item list[40];
	double rate;

	for (int i = 0; i < 40; i++)
		list[i] = (struct lcwr_item){.won = 0.5, .ours = i * 7 % 13, .theirs = i * 5 % 11};
	CHECK(lcwr_fit(list, 40, &rate) == NULL);
	CHECK_NEAR(rate, 0.5, 1e-12);
}

/* --- conversations --------------------------------------------------------------------------- */

/* Grades by what it is shown: 3 for a first turn, 9 where both turns are there, 7 and 8 by reference. */
static void say_grade(const char *user, struct buf *out)
{
	bool second = strstr(user, "Conversation with User") != NULL;

	if (strstr(user, "the reference of two"))
		buf_puts(out, second ? "[[8]]" : "[[7]]");
	else if (second)
		buf_puts(out, strstr(user, "And then?") && strstr(user, "First question") ? "[[9]]" : "lost");
	else
		buf_puts(out, strstr(user, "[Question]\nFirst question") ? "Rating: [[3]]" : "no grade");
}

void test_bench__two_turns_are_graded_as_mt_bench_does(void)
{
	static const struct said words[] = {{"\xc4\xa0yes", 6}, {"\xc4\xa0no", 2}};
	static const enum stub_trick script[] = {STUB_ANSWER};
	struct stub s = {.script = script, .n_script = 1, .say = say_grade};
	const char *dir = test_tmpdir();
	struct stage_ctx ctx;

	stub_start(&s);
	put_model(dir, words, 2, 16, 1);
	put_file(dir, "in/bench/data.jsonl",
		 "{\"id\":\"m/1\",\"set\":\"m\",\"kind\":\"chat\",\"category\":\"writing\","
		 "\"turns\":[\"First question\",\"And then?\"]}\n"
		 "{\"id\":\"m/2\",\"set\":\"m\",\"kind\":\"chat\",\"category\":\"math\",\"turns\":[\"Third\","
		 "\"Fourth\"],\"reference\":[\"the reference of two\",\"it\"]}\n"
		 "{\"id\":\"m/3\",\"set\":\"m\",\"kind\":\"chat\",\"turns\":[\"Alone\"]}\n");
	char *job = mem_printf("{\"id\":\"r.0.bench.1.0\",\"stage\":\"bench\",\"iter\":0,\"seed\":\"7\","
			       "\"spec\":{\"eval\":{\"max_new_tokens\":3,\"head_to_head\":{\"judge\":"
			       "\"http\",\"http\":{\"url\":\"http://127.0.0.1:%d/v1\",\"model\":\"j\"}}}}}",
			       s.port);
	put_file(dir, "job.json", job);
	free(job);
	CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
	CHECK_RC(stage_ctx_run(&ctx, &e), RC_OK);
	CHECK_EQ(atomic_load(&s.requests), 5);
	CHECK_NEAR(jx_get_f64(ctx.metrics, "bench.m.score", -1), (3 + 9 + 7 + 8) / 4.0, 1e-12);
	CHECK_NEAR(jx_get_f64(ctx.metrics, "bench.m.score_turn_1", -1), 5, 1e-12);
	CHECK_NEAR(jx_get_f64(ctx.metrics, "bench.m.score_turn_2", -1), 8.5, 1e-12);
	CHECK_EQ(jx_get_i64(ctx.metrics, "bench.m.ungraded", -1), 1); /* missing, never zero */
	const json_t *by = json_object_get(ctx.metrics, "bench.m.categories");
	CHECK_EQ(json_object_size(by), 2); /* the third question has none */
	CHECK_NEAR(jx_get_f64(json_object_get(by, "writing"), "mean", -1), 6, 1e-12);
	CHECK_NEAR(jx_get_f64(json_object_get(by, "math"), "mean", -1), 7.5, 1e-12);
	CHECK_EQ(jx_get_i64(json_object_get(by, "math"), "n", -1), 2);
	stage_ctx_close(&ctx);
	stub_stop(&s);
}
