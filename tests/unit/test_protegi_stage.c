/* The stage `protegi` with judge and writer behind an endpoint: what is edited, refused and charged. */
#include "base/fs.h"
#include "tests/stub_endpoint.h"
#include "worker/stage.h"

#include <limits.h>

static struct err e;
static char dir[512];

/* Judges answers by a good word only when told what to look for; writes one good template, one without
 * its slots, and one like the start. */
static void say(const char *user, struct buf *out)
{
	bool good = strstr(user, "A: fine") != NULL;

	if (strstr(user, "reasons why"))
		buf_puts(out, "<START>it is vague<END><START>it is rude<END>");
	else if (strstr(user, "new prompts are"))
		buf_puts(out, strstr(user, "problem with this prompt is that it is rude")
				      ? "<START>Say anything.<END>"
				      : "<START>Be exact.\nQ: {prompt}\nA: {response}<END>");
	else if (strstr(user, "Generate a variation"))
		buf_puts(out, "  Judge.\nQ: {prompt}\nA: {response}\n");
	else
		buf_printf(out, "Score: %d", strstr(user, "Be exact.") && good ? 5 : 3);
}

static void put(const char *name, const char *text)
{
	char path[1024];

	str_fmt(path, sizeof path, "%s/%s", dir, name);
	CHECK_RC(fs_write_durable(path, text, strlen(text), &e), RC_OK);
}

/* Prompts with two ranked answers, the better one said to be fine. */
static void put_ranked(const char *role, int n)
{
	struct buf b = BUF_INIT;
	char path[1024];

	str_fmt(path, sizeof path, "%s/in/%s", dir, role);
	CHECK_RC(fs_mkdirs(path, &e), RC_OK);
	for (int i = 0; i < n; i++)
		buf_printf(&b,
			   "{\"id\":\"%s%d\",\"prompt\":\"p %d\",\"replies\":["
			   "{\"text\":\"poor\",\"rank\":1},{\"text\":\"fine\",\"rank\":0}]}\n",
			   role, i, i);
	str_fmt(path, sizeof path, "in/%s/data.jsonl", role);
	put(path, b.data);
	buf_release(&b);
}

static void put_job(int port, const char *bandit)
{
	struct buf b = BUF_INIT;
	char http[256];

	str_fmt(http, sizeof http,
		"{\"url\":\"http://127.0.0.1:%d/v1\",\"model\":\"m\",\"timeout_s\":20,\"retries\":2,"
		"\"backoff_ms\":1,\"parallel\":1,\"price_in\":10.0,\"price_out\":100.0}", port);
	buf_printf(&b,
		   "{\"id\":\"r.0.protegi.0.0\",\"stage\":\"protegi\",\"iter\":0,\"shard\":0,\"seed\":\"7\","
		   "\"spec\":{"
		   "\"judge\":{\"kind\":\"http\",\"http\":%s,\"chunk\":5,\"template\":{\"name\":\"t\","
		   "\"text\":\"Judge.\\nQ: {prompt}\\nA: {response}\"}},\"eval\":{\"judge_samples\":1},"
		   "\"protegi\":{\"rounds\":2,\"beam\":2,\"budget\":60,\"minibatch\":4,\"gradients\":1,"
		   "\"reasons_per_gradient\":2,\"paraphrases\":1,\"samples_per_eval\":4,\"bandit\":\"%s\","
		   "\"writer\":{\"kind\":\"http\",\"http\":%s}}}}",
		   http, bandit, http);
	put("job.json", b.data);
	buf_release(&b);
}

static json_t *rows_of(const char *role)
{
	char path[1024];
	json_t *rows = json_array();

	str_fmt(path, sizeof path, "%s/out/%s/data.jsonl", dir, role);
	CHECK_RC(stage_read_rows(path, 100000, rows, &e), RC_OK);
	return rows;
}

static double figure(const struct stage_ctx *ctx, const char *name)
{
	return jx_get_f64(ctx->metrics, name, -1);
}

static void search(const char *bandit, struct stage_ctx *ctx, int *requests)
{
	static const enum stub_trick script[] = {STUB_ANSWER};
	struct stub s = {.script = script, .n_script = 1, .say = say};

	str_copy(dir, sizeof dir, test_tmpdir());
	stub_start(&s);
	put_ranked("eft", 12);
	put_ranked("eval", 6);
	put_job(s.port, bandit);
	CHECK_RC(stage_ctx_open(ctx, dir, -1, 1, &e), RC_OK);
	CHECK_RC(stage_ctx_run(ctx, &e), RC_OK);
	*requests = atomic_load(&s.requests);
	stub_stop(&s);
}

static void found_by(const char *bandit)
{
	struct stage_ctx ctx;
	int requests;

	search(bandit, &ctx, &requests);
	json_t *rows = rows_of("candidates"), *won = rows_of("template"), *trials = rows_of("trials");
	CHECK_EQ(json_array_size(rows), 3); /* the paraphrase is the start again */
	const json_t *best = json_array_get(rows, 1), *bad = json_array_get(rows, 2);
	CHECK_STR(jx_get_str(best, "state", ""), "winner");
	CHECK_STR(jx_get_str(best, "text", ""), "Be exact.\nQ: {prompt}\nA: {response}");
	CHECK_STR(jx_get_str(best, "reason", ""), "it is vague");
	CHECK_STR(jx_get_str(best, "parent", ""), "c0");
	CHECK_STR(jx_get_str(bad, "state", ""), "refused");
	CHECK(strstr(jx_get_str(bad, "why", ""), "must contain \"{prompt}\"") != NULL);
	CHECK_EQ(jx_get_i64(bad, "trials", -1), 0);
	CHECK_NEAR(figure(&ctx, "protegi.held_out_start"), 0, 0); /* all ties */
	CHECK_NEAR(figure(&ctx, "protegi.held_out"), 1, 0);
	const json_t *t = json_object_get(json_array_get(won, 0), "template");
	CHECK_STR(jx_get_str(t, "text", ""), jx_get_str(best, "text", "-"));
	CHECK_EQ(jx_get_i64(t, "version", 0), 2);
	/* Two answers of each evaluation and of both tests were judged, and each question paid once. */
	CHECK_EQ(figure(&ctx, "judge.calls"), 2 * figure(&ctx, "protegi.evaluations") + 2 * 2 * 6);
	CHECK_EQ(figure(&ctx, "judge.calls") + figure(&ctx, "writer.calls"), requests);
	CHECK(figure(&ctx, "writer.cost") > 0 && figure(&ctx, "protegi.evaluations") <= 60);
	json_decref(rows);
	json_decref(won);
	json_decref(trials);
	stage_ctx_close(&ctx);
}

void test_protegi_stage__finds_what_people_prefer_by_ucb(void)
{
	found_by("ucb");
}

void test_protegi_stage__finds_what_people_prefer_by_successive_rejects(void)
{
	found_by("sr");
}

void test_protegi_stage__finds_what_people_prefer_by_trying_all(void)
{
	found_by("all");
}


/* Without ranked prompts that are not held out there is nothing to search on: all of `eft` is in `eval`. */
void test_protegi_stage__says_what_is_missing(void)
{
	struct stage_ctx ctx;
	char from[1024], to[1024];

	str_copy(dir, sizeof dir, test_tmpdir());
	put_ranked("eft", 3);
	str_fmt(from, sizeof from, "%s/in/eft", dir);
	str_fmt(to, sizeof to, "%s/in/eval", dir);
	CHECK(symlink(from, to) == 0);
	put_job(1, "ucb");
	CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
	CHECK_RC(stage_ctx_run(&ctx, &e), RC_INVALID);
	CHECK(strstr(e.text, "not held out") != NULL);
	stage_ctx_close(&ctx);
}
