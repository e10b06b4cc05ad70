/* Judges behind an endpoint that times out, limits, breaks and lies: nothing is lost, nothing is
 * charged twice.
 */
#include "tests/stub_endpoint.h"
#include "worker/stage.h"
#include "worker/stages/contest.h"
#include "worker/stages/endpoint.h"
#include "worker/stages/judging.h"

static struct err e;

static void say_score(const char *user, struct buf *out)
{
	const char *at = strstr(user, "item ");

	buf_printf(out, "Fine. Score: %ld", at ? strtol(at + 5, NULL, 10) % 6 : 0);
}

static json_t *settings(const struct stub *s, int retries)
{
	return json_pack("{s:o, s:s, s:i, s:i, s:i, s:i, s:f, s:f}", "url",
			 json_sprintf("http://127.0.0.1:%d/v1/", s->port), "model", "judge-1", "timeout_s",
			 1, "retries", retries, "backoff_ms", 1, "parallel", 3, "price_in", 10.0,
			 "price_out", 100.0);
}

static struct endpoint *open_it(const struct stage_ctx *ctx, const json_t *c)
{
	struct endpoint *ep;

	CHECK_RC(endpoint_open(ctx, c, &ep, &e), RC_OK);
	return ep;
}

static void fill(struct endpoint_call *calls, int n, char texts[][32])
{
	for (int i = 0; i < n; i++) {
		str_fmt(texts[i], 32, "item %d", i);
		calls[i] = (struct endpoint_call){
			.user = texts[i], .top_p = 1, .max_new = 16, .name = (uint64_t)i};
	}
}

static int64_t charge(const struct endpoint *ep, const char *key)
{
	json_t *v = endpoint_charges(ep);
	int64_t n = jx_get_i64(v, key, -1);

	json_decref(v);
	return n;
}

void test_endpoint__every_trouble_is_survived_and_charged_once(void)
{
	static const enum stub_trick script[] = {STUB_HANG, STUB_429, STUB_500, STUB_CUT, STUB_NO_JSON,
						 STUB_WRONG_JSON, STUB_ANSWER};
	struct stub s = {.script = script, .n_script = 7, .say = say_score};
	struct stage_ctx ctx = {.run = "r1"};
	struct endpoint_call calls[8];
	char texts[8][32];

	stub_start(&s);
	json_t *c = settings(&s, 20);
	struct endpoint *ep = open_it(&ctx, c);
	fill(calls, 8, texts);
	CHECK_RC(endpoint_run(ep, calls, 8, &e), RC_OK);
	for (int i = 0; i < 8; i++) {
		char want[32];

		str_fmt(want, sizeof want, "Fine. Score: %d", i % 6);
		CHECK_STR(calls[i].text, want); /* its own answer, not a neighbour's */
		CHECK(calls[i].stopped);
		free(calls[i].text);
	}
	CHECK_EQ(charge(ep, "answers"), 8);
	CHECK_EQ(charge(ep, "prompt_tokens"), 800);
	CHECK_EQ(charge(ep, "completion_tokens"), 56);
	CHECK_EQ(charge(ep, "tries"), 14);
	CHECK_EQ(charge(ep, "timeouts"), 1);
	CHECK_EQ(charge(ep, "limited"), 1);
	CHECK_EQ(charge(ep, "errors"), 2); /* 500, and the answer cut off */
	CHECK_EQ(charge(ep, "malformed"), 2);
	json_t *v = endpoint_charges(ep);
	CHECK_NEAR(jx_get_f64(v, "cost", 0), (800 * 10.0 + 56 * 100.0) / 1e6, 1e-12);
	struct endpoint *again = open_it(&ctx, c);
	endpoint_charges_load(again, v); /* as a resumed job does */
	CHECK_EQ(charge(again, "completion_tokens"), 56);
	json_decref(v);
	endpoint_close(again);
	/* Tries of one call carry one key, so that an endpoint may tell them. */
	for (int i = 0; i < 14; i++)
		for (int k = 7; k < 14; k++)
			CHECK(strlen(s.keys[i]) == 64);
	endpoint_close(ep);
	stub_stop(&s);
	json_decref(c);
}

static void one_call(enum stub_trick trick, int retries, enum rc want, struct endpoint_call *out)
{
	enum stub_trick script[] = {trick};
	struct stub s = {.script = script, .n_script = 1, .say = say_score};
	struct stage_ctx ctx = {.run = "r1"};

	stub_start(&s);
	json_t *c = settings(&s, retries);
	struct endpoint *ep = open_it(&ctx, c);
	*out = (struct endpoint_call){.user = "item 3", .top_p = 1, .max_new = 16, .name = 9};
	CHECK_RC(endpoint_run(ep, out, 1, &e), want);
	if (want != RC_OK) /* What did not succeed is charged nowhere. */
		CHECK_EQ(charge(ep, "calls"), 0);
	for (int i = 1; i < atomic_load(&s.requests); i++)
		CHECK_STR(s.keys[i], s.keys[0]);
	endpoint_close(ep);
	stub_stop(&s);
	json_decref(c);
}

void test_endpoint__who_stays_away_sends_the_job_back(void)
{
	struct endpoint_call c;

	one_call(STUB_500, 2, RC_UNREACHABLE, &c);
	CHECK(strstr(e.text, "status 500") && strstr(e.text, "oops"));
	CHECK_EQ(c.tries, 3);
	one_call(STUB_HANG, 0, RC_TIMEOUT, &c);
	one_call(STUB_401, 5, RC_INVALID, &c);
	CHECK(strstr(e.text, "bad key"));
	CHECK_EQ(c.tries, 1); /* a refusal is not asked for again */
}

void test_endpoint__unreadable_for_good_is_no_answer(void)
{
	struct endpoint_call c;

	one_call(STUB_NO_JSON, 2, RC_OK, &c);
	CHECK(c.text == NULL);
	CHECK_EQ(c.tries, 3);
	one_call(STUB_LENGTH, 2, RC_OK, &c);
	CHECK(c.text && !c.stopped);
	free(c.text);
}

void test_endpoint__the_key_comes_from_a_file_and_settings_are_checked(void)
{
	static const enum stub_trick script[] = {STUB_ANSWER};
	struct stub s = {.script = script, .n_script = 1, .say = say_score};
	struct endpoint_call call = {.user = "item 1", .top_p = 1, .max_new = 4};
	struct stage_ctx ctx = {.run = "r1"};
	struct endpoint *ep;
	char path[512];
	FILE *f;

	str_fmt(path, sizeof path, "%s/key", test_tmpdir());
	CHECK((f = fopen(path, "w")) != NULL);
	fputs("secret-1\n", f);
	fclose(f);
	stub_start(&s);
	json_t *c = settings(&s, 0);
	json_object_set_new(c, "key_file", json_string(path));
	ep = open_it(&ctx, c);
	CHECK_RC(endpoint_run(ep, &call, 1, &e), RC_OK);
	CHECK_STR(s.auth, "Bearer secret-1");
	free(call.text);
	endpoint_close(ep);
	json_object_set_new(c, "key_file", json_string("/nowhere/key"));
	CHECK(endpoint_open(&ctx, c, &ep, &e) != RC_OK && strstr(e.text, "/nowhere/key"));
	json_object_set_new(c, "url", json_string("ftp://x"));
	CHECK_RC(endpoint_open(&ctx, c, &ep, &e), RC_INVALID);
	stub_stop(&s);
	json_decref(c);
}

/* --- judging through it ---------------------------------------------------------------------- */

/* Prefers the longer answer; of equal ones the first, whatever it says. */
static void say_longer(const char *user, struct buf *out)
{
	const char *a = strstr(user, "Assistant A's Answer]\n") + 22;
	const char *b = strstr(user, "Start of Assistant B's Answer]\n") + 31;

	buf_puts(out, strcspn(a, "\n") >= strcspn(b, "\n") ? "so [[A]]" : "so [[B]]");
}

static void judge(const char *template, const char *order, void (*say)(const char *, struct buf *),
		  struct judging_item *items, int n, int requests)
{
	static const enum stub_trick script[] = {STUB_ANSWER};
	struct stub s = {.script = script, .n_script = 1, .say = say};
	struct stage_ctx ctx = {.run = "r1", .seed = 5};
	struct judging j;

	stub_start(&s);
	json_t *c = json_pack("{s:s, s:s, s:s, s:o}", "kind", "http", "template", template, "order",
			      order, "http", settings(&s, 1));
	CHECK_RC(judging_open(&j, &ctx, c, NULL, RNG_JUDGE, &e), RC_OK);
	CHECK_RC(judging_run(&j, items, n, &e), RC_OK);
	CHECK_EQ(atomic_load(&s.requests), requests);
	json_t *id = judging_identity(&j);
	CHECK_STR(jx_get_str(id, "kind", ""), "http");
	CHECK_STR(jx_get_str(json_object_get(id, "endpoint"), "model", ""), "judge-1");
	json_decref(id);
	judging_close(&j);
	stub_stop(&s);
	json_decref(c);
}

static void release(struct judging_item *items, int n)
{
	for (int i = 0; i < n; i++)
		judging_item_release(&items[i]);
}

void test_endpoint__answers_are_scored(void)
{
	struct judging_item items[2] = {{.id = "a", .prompt = "item 4", .response = "x"},
					{.id = "b", .prompt = "item 5", .response = "y"}};

	judge("additive-5", "both", say_score, items, 2, 2);
	CHECK_EQ(items[0].milli, 4000);
	CHECK_EQ(items[1].milli, 5000);
	CHECK_STR(items[1].text, "Fine. Score: 5");
	release(items, 2);
}

void test_endpoint__a_contest_in_both_orders(void)
{
	/* Longest first, twins of equal length, and one that says the same as another. */
	struct judging_item items[4] = {{.id = "a", .prompt = "p", .response = "cc", .candidate = 0},
					{.id = "a", .prompt = "p", .response = "dddd", .candidate = 1},
					{.id = "a", .prompt = "p", .response = "ee", .candidate = 2},
					{.id = "a", .prompt = "p", .response = "cc", .candidate = 3}};

	judge("mt-pair-v2", "both", say_longer, items, 4, 10); /* 6 meetings, 1 of equal texts */
	CHECK_EQ(items[1].milli, 10000);
	for (int i = 0; i < 4; i++) /* who only follows the position makes ties: 1 of 3 points */
		if (i != 1)
			CHECK_EQ(items[i].milli, 3333);
	CHECK_STR(items[0].text, "against 1: loss; against 2: tie; against 3: tie");
	release(items, 4);
	for (int i = 0; i < 4; i++)
		items[i].attempts = 0;
	judge("mt-pair-v2", "random", say_longer, items, 4, 5);
	CHECK_EQ(items[1].milli, 10000);
	release(items, 4);
}

void test_endpoint__without_a_reference_nothing_is_asked(void)
{
	json_t *meta = json_pack("{s:s}", "answer", "42");
	struct judging_item items[2] = {{.id = "a", .prompt = "item 3", .response = "x"},
					{.id = "b", .prompt = "item 3", .response = "x", .meta = meta}};

	judge("reference-1-10", "both", say_score, items, 2, 1);
	CHECK_EQ(items[0].reason, JUDGE_NO_REFERENCE);
	CHECK_EQ(items[1].milli, 3000);
	release(items, 2);
	json_decref(meta);
}
