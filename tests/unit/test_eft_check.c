/* Which justifications may be learned from, and whether judge data is apart from all else. */
#include "base/jsonx.h"
#include "base/str.h"
#include "tests/talking_model.h"
#include "worker/method/eft_check.h"
#include "worker/stage.h"

#include <string.h>

static struct err e;

static enum eft_check look(const struct eft_rules *r, const char *name, const char *text)
{
	struct judge_template t;
	struct judge_score s;

	CHECK_RC(judge_template_named(name, &t, &e), RC_OK);
	s = judge_parse(&t.rule, text, strlen(text), true);
	CHECK_EQ(s.reason, JUDGE_OK);
	struct eft_checker *c = eft_checker_new(&t, r);
	enum eft_check out = eft_checker_look(c, text, s.milli);
	eft_checker_free(c);
	judge_template_release(&t);
	return out;
}

static const struct eft_rules rules = {.min_words = 3, .max_words = 12, .leak_words = 12,
				       .same_score = true};

void test_eft_check__length_is_that_of_the_justification(void)
{
	CHECK_EQ(look(&rules, "additive-5", "Score: 4"), EFT_CHECK_SHORT);
	CHECK_EQ(look(&rules, "additive-5", "Too bad. Score: 1"), EFT_CHECK_SHORT);
	CHECK_EQ(look(&rules, "additive-5", "Clear and complete. Score: 4"), EFT_CHECK_GOOD);
	CHECK_EQ(look(&rules, "additive-5", "a b c d e f g h i j k l. Score: 4"), EFT_CHECK_GOOD);
	CHECK_EQ(look(&rules, "additive-5", "a b c d e f g h i j k l m. Score: 4"), EFT_CHECK_LONG);
	/* Scripts without blanks: every sign is a word. */
	CHECK_EQ(look(&rules, "additive-5", "好。得分：3"), EFT_CHECK_SHORT);
	CHECK_EQ(look(&rules, "additive-5", "回答清楚。得分：3"), EFT_CHECK_GOOD);
	CHECK_EQ(look(&rules, "additive-5", "回答清楚完整而且有用但是太长了。得分：3"), EFT_CHECK_LONG);
	/* In brackets, too. */
	CHECK_EQ(look(&rules, "mt-single-v1", "Clear and complete. [[7]]"), EFT_CHECK_GOOD);
}

void test_eft_check__another_score_than_its_own(void)
{
	static const char *const bad[] = {
		"I would say score: 2. No, that is too hard. Score: 4",
		"It deserves 3 out of 5 from me. Score: 4",
		"Worth a solid **3**/5 I think. Score: 4",
		"Relevant (+1) and complete (+1) but dull. Score: 4",
	};
	static const char *const good[] = {
		"It deserves 4 out of 5 from me. Score: 4",
		"Relevant +1, complete +1, useful +1, clear +1. Score: 4",
		"That 2+2 is 4 and C++11 is old is right. Score: 3",
		"On 3/5/2020, page 2/50, it says so. Score: 4",
		"One point for each of the first three. Score: 3",
		"Score: 4. I keep to it, because it is so. Score: 4",
	};
	struct eft_rules loose = rules;

	loose.max_words = 0;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (look(&loose, "additive-5", bad[i]) != EFT_CHECK_CONTRADICTS)
			CHECK_STR(bad[i], "contradicts");
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (look(&loose, "additive-5", good[i]) != EFT_CHECK_GOOD)
			CHECK_STR(good[i], "good");
	loose.same_score = false;
	CHECK_EQ(look(&loose, "additive-5", bad[0]), EFT_CHECK_GOOD);
}

void test_eft_check__the_template_recited(void)
{
	struct eft_rules r = rules;

	r.max_words = 0;
	/* Twelve words of it in a row, in any case and with other line breaks. */
	CHECK_EQ(look(&r, "additive-5",
		      "Grant a Fourth\npoint if the response is clearly written from an AI. Score: 4"),
		 EFT_CHECK_LEAK);
	CHECK_EQ(look(&r, "additive-5", "Grant a fourth point if the response is clearly written. Score: 4"),
		 EFT_CHECK_GOOD);
	/* The words around a slot are not in a row. */
	CHECK_EQ(look(&r, "additive-5", "insightful answer User response response After it all. Score: 4"),
		 EFT_CHECK_GOOD);
	CHECK_EQ(look(&r, "additive-5", "It ends <response> too soon. Score: 4"), EFT_CHECK_LEAK);
	CHECK_EQ(look(&r, "additive-5", "I was given {prompt} to read. Score: 4"), EFT_CHECK_LEAK);
	r.leak_words = 0;
	CHECK_EQ(look(&r, "additive-5", "It ends <response> too soon. Score: 4"), EFT_CHECK_GOOD);
}

/* --- what a judge prompt is about ------------------------------------------------------------ */

static void asked(const char *name, const char *prompt, const char *want)
{
	struct judge_template t;
	struct buf ask = BUF_INIT, got = BUF_INIT;

	CHECK_RC(judge_template_named(name, &t, &e), RC_OK);
	judge_template_render(&t, prompt, "Some answer.\nUser: x", &ask);
	CHECK(judge_template_asked(&t, ask.data, &got));
	CHECK_STR(got.len ? got.data : "", want);
	judge_template_release(&t);
	buf_release(&ask);
	buf_release(&got);
}

void test_eft_check__the_prompt_in_a_judge_prompt(void)
{
	struct judge_template t;
	struct buf got = BUF_INIT;

	asked("additive-5", "Why is the sky blue?", "Why is the sky blue?");
	asked("additive-5", "", "");
	asked("additive-5", "close </response> it", "close < /response> it");
	asked("mt-single-v1", "Two\n\nlines", "Two\n\nlines");
	CHECK_RC(judge_template_named("additive-5", &t, &e), RC_OK);
	CHECK(!judge_template_asked(&t, "Check this packing list.", &got));
	CHECK(!judge_template_asked(&t, t.text, &got) || got.len > 0);
	judge_template_release(&t);
	buf_release(&got);
}

/* --- the stage ------------------------------------------------------------------------------- */

static const char *dir;

static void judge_row(const char *prompt)
{
	struct judge_template t;
	struct buf ask = BUF_INIT;
	json_t *row;
	char *text;

	CHECK_RC(judge_template_named("additive-5", &t, &e), RC_OK);
	judge_template_render(&t, prompt, "An answer.", &ask);
	row = json_pack("{s:s, s:s, s:s, s:i}", "id", "j1", "prompt", ask.data, "response", "Score: 2",
			"score", 2);
	text = json_dumps(row, 0);
	put_file(dir, "in/eft/data.jsonl", text);
	free(text);
	json_decref(row);
	judge_template_release(&t);
	buf_release(&ask);
}

/* NULL: it goes through. */
static json_t *given(const char *refused)
{
	struct stage_ctx ctx;
	json_t *metrics = NULL;

	put_file(dir, "job.json",
		 "{\"id\":\"r.0.eft.0.0\",\"stage\":\"eft\",\"iter\":0,\"seed\":\"5\",\"spec\":{\"eft\":{"
		 "\"mode\":\"given\"}}}");
	CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
	enum rc rc = stage_ctx_run(&ctx, &e);
	CHECK_RC(rc, refused ? RC_INVALID : RC_OK);
	if (refused && !strstr(e.text, refused))
		CHECK_STR(e.text, refused);
	if (!refused)
		metrics = json_incref(ctx.metrics);
	stage_ctx_close(&ctx);
	return metrics;
}

void test_eft_check__judge_data_shares_no_prompt(void)
{
	json_t *m;

	dir = test_tmpdir();
	put_file(dir, "in/ift/data.jsonl",
		 "{\"id\":\"i1\",\"prompt\":\"Tell </response> me\",\"response\":\"r\"}\n"
		 "{\"id\":\"i2\",\"prompt\":\"What is a  cat?\",\"response\":\"r\"}\n");
	put_file(dir, "in/eval/data.jsonl",
		 "{\"id\":\"h1\",\"prompt\":\"What is a dog?\",\"replies\":[{\"text\":\"a\",\"rank\":0},"
		 "{\"text\":\"b\",\"rank\":1}]}\n");
	judge_row("Something else");
	m = given(NULL);
	CHECK_EQ(jx_get_i64(m, "eft.apart", -1), 2);
	CHECK_EQ(jx_get_i64(m, "eft.apart_unknown", -1), 0);
	json_decref(m);
	judge_row("what is a cat?"); /* in any case and spacing */
	given("judge row j1 and instruction row i2 have one prompt");
	judge_row("Tell </response> me");
	given("judge row j1 and instruction row i1 have one prompt");
	judge_row("What is a dog?");
	given("judge row j1 and held-out row h1 have one prompt");
	put_file(dir, "in/eft/data.jsonl",
		 "{\"id\":\"j1\",\"prompt\":\"Of another template: What is a dog?\",\"response\":\"Score: "
		 "2\",\"score\":2}\n");
	m = given(NULL);
	CHECK_EQ(jx_get_i64(m, "eft.apart_unknown", -1), 1);
	json_decref(m);
	put_file(dir, "in/eval/data.jsonl",
		 "{\"id\":\"h1\",\"prompt\":\"WHAT is a cat?\",\"replies\":[{\"text\":\"a\",\"rank\":0},"
		 "{\"text\":\"b\",\"rank\":1}]}\n");
	given("held-out row h1 and instruction row i2 have one prompt");
}
