/* The stages prompts and eft with a real engine, on a model made here that says random words with
 * chosen probabilities.
 */
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "tests/test.h"
#include "tests/talking_model.h"
#include "worker/method/judge_template.h"
#include "worker/stage.h"

#include <math.h>
#include <stdio.h>

static char dir[512];

static json_t *out_rows(const char *role)
{
	char path[1024];
	struct err e = {0};
	json_t *rows = json_array();

	str_fmt(path, sizeof path, "%s/out/%s/data.jsonl", dir, role);
	CHECK_RC(stage_read_rows(path, 1000000, rows, &e), RC_OK);
	return rows;
}

static void copy_digest(const struct stage_ctx *ctx, const char *role, char out[80])
{
	const json_t *o;
	size_t i;

	out[0] = 0;
	json_array_foreach(ctx->outputs, i, o)
		if (strcmp(jx_get_str(o, "role", ""), role) == 0)
			str_copy(out, 80, jx_get_str(o, "digest", ""));
}

/* Runs the job; `stop_at_once` asks it to give up at the first mark, as a preemption does. */
static enum rc run(int threads, bool stop_at_once, char digest[80], const char *role,
		   json_t **metrics)
{
	struct stage_ctx ctx;
	struct err e = {0};
	enum rc rc;

	CHECK_RC(stage_ctx_open(&ctx, dir, -1, threads, &e), RC_OK);
	if (stop_at_once)
		atomic_store(&ctx.stop, STAGE_PREEMPTED);
	rc = stage_ctx_run(&ctx, &e);
	if (rc != RC_OK && rc != RC_CANCELLED)
		printf("%s\n", e.text);
	copy_digest(&ctx, role, digest);
	if (metrics)
		*metrics = json_incref(ctx.metrics);
	stage_ctx_close(&ctx);
	return rc;
}

/* What the agent does with a checkpoint: its parts come back under resume/. */
static void resume_from_checkpoint(const char *role)
{
	char from[1024], to[1024], cmd[1200];
	json_t *ckpt, *progress;
	struct err e = {0};
	char *text;

	str_fmt(from, sizeof from, "%s/ckpt/1/ckpt.json", dir);
	CHECK_RC(jx_load(from, 1 << 20, &ckpt, &e), RC_OK);
	progress = json_object_get(ckpt, "progress");
	text = jx_text(progress);
	put_file(dir, "resume.json", text);
	free(text);
	json_decref(ckpt);
	str_fmt(cmd, sizeof cmd, "resume/%s/state.json", role);
	str_fmt(from, sizeof from, "%s/work/rows-%s", dir, role);
	put_file(dir, cmd, "{}");
	str_fmt(to, sizeof to, "%s/resume/%s", dir, role);
	for (int i = 0; i < 2; i++) {
		char a[1100], b[1100];
		str_fmt(a, sizeof a, "%s/%s", from, i ? "data.jsonl" : "state.json");
		str_fmt(b, sizeof b, "%s/%s", to, i ? "data.jsonl" : "state.json");
		CHECK_RC(fs_remove_tree(b, &e), RC_OK);
		CHECK_RC(fs_copy(a, b, &e), RC_OK);
	}
	str_fmt(to, sizeof to, "%s/ckpt", dir);
	CHECK_RC(fs_remove_tree(to, &e), RC_OK);
}

/* --- prompts --------------------------------------------------------------------------------- */

#define W(word) {"\xc4\xa0" word, 1}
static const struct said speech[] = {
	W("write"),
	W("explain"),
	W("list"),
	W("compare"),
	W("why"),
	W("seven"),
	W("rivers"),
	W("poems"),
	W("simple"),
	W("about"),
	W("old"),
	W("music"),
	W("trees"),
	W("for"),
	W("children"),
	W("winter"),
	W("describe"),
	W("the"),
	W("best"),
	W("way"),
	W("to"),
	W("cook"),
	W("rice"),
	W("learn"),
	W("chess"),
	W("rules"),
	W("image"),
	W("of"),
	W("birds"),
	W("how"),
	{"\xc4\x8a"
	 "10."
	 "\xc4\xa0",
	 4},
};

static void prompts_job(void)
{
	struct buf b = BUF_INIT;

	put_model(dir, speech, (int)(sizeof speech / sizeof speech[0]), 16, 1.2f);
	for (int i = 0; i < 12; i++)
		buf_printf(
			&b,
			"{\"id\":\"%d\",\"prompt\":\"Seed prompt number %d\",\"response\":\"r\"}\n",
			i, i);
	put_file(dir, "in/ift/data.jsonl", b.data);
	put_file(dir, "in/earlier.1/data.jsonl",
	    "{\"id\":\"1-00000\",\"prompt\":\"Write simple poems about old rivers\"}\n");
	put_file(dir, "job.json", "{\"id\":\"r.2.prompts.0.0\",\"stage\":\"prompts\",\"iter\":2,\"seed\":"
			"\"11\",\"spec\":{"
			"\"template\":\"plain\",\"data\":{\"lang\":\"en\"},\"prompts\":{"
			"\"generator\":\"current\","
			"\"count\":40,\"max_requests\":400,\"max_new_tokens\":100,\"temperature\":"
			"1,\"top_p\":1}}}");
	buf_release(&b);
}

void test_method_engine__prompts_by_the_model_itself(void)
{
	char one[80], two[80];
	json_t *metrics, *rows, *row;
	size_t i;

	str_copy(dir, sizeof dir, test_tmpdir());
	prompts_job();
	CHECK_EQ(run(1, false, one, "prompts", &metrics), RC_OK);
	CHECK_EQ(jx_get_i64(metrics, "prompts.rows", -1), 40);
	CHECK(jx_get_i64(metrics, "prompts.accepted", 0) == 40);
	CHECK(jx_get_i64(metrics, "prompts.keyword", 0) > 0);
	CHECK(jx_get_i64(metrics, "prompts.too_short", 0) > 0);
	CHECK(jx_get_i64(metrics, "prompts.unfinished", 0) > 0);
	json_decref(metrics);
	rows = out_rows("prompts");
	json_array_foreach(rows, i, row) {
		const char *p = jx_get_str(row, "prompt", "");
		CHECK(p[0] >= 'A' && p[0] <= 'Z');
		CHECK(!strstr(p, "image") && !strchr(p, '\n'));
	}
	CHECK_EQ(i, 40);
	CHECK_STR(jx_get_str(json_array_get(rows, 0), "id", ""), "2-00000");
	json_decref(rows);
	CHECK_EQ(run(2, false, two, "prompts", NULL), RC_OK); /* another number of threads */
	CHECK_STR(two, one);
}

void test_method_engine__prompts_resume_to_the_same_bytes(void)
{
	char whole[80], parts[80];
	int stops = 0;

	str_copy(dir, sizeof dir, test_tmpdir());
	prompts_job();
	CHECK_EQ(run(1, false, whole, "prompts", NULL), RC_OK);
	while (run(1, stops < 3, parts, "prompts", NULL) == RC_CANCELLED) {
		resume_from_checkpoint("prompts");
		stops++;
	}
	CHECK(stops >= 2);
	CHECK_STR(parts, whole);
}

/* Three iterations of a model that knows five words: what one accepted no later one accepts again. */
void test_method_engine__prompts_of_iterations_never_repeat(void)
{
	static const struct said few[] = {W("write"), W("poems"), W("about"), W("old"), W("rivers")};
	json_t *seen = json_object(), *rows, *row, *metrics;
	int64_t refused = 0;
	struct err e = {0};
	char digest[80];
	size_t i;

	str_copy(dir, sizeof dir, test_tmpdir());
	put_model(dir, few, 5, 16, 1.2f);
	put_file(dir, "in/ift/data.jsonl",
		 "{\"id\":\"a\",\"prompt\":\"Write poems\",\"response\":\"r\"}\n");
	json_object_set_new(seen, "Write poems", json_true());
	for (int t = 1; t <= 3; t++) {
		char *job = mem_printf("{\"id\":\"r.%d.prompts.0.0\",\"stage\":\"prompts\",\"iter\":%d,"
				       "\"seed\":\"11\",\"spec\":{\"template\":\"plain\",\"data\":{"
				       "\"lang\":\"en\"},\"prompts\":{\"generator\":\"current\",\"count\":40,"
				       "\"max_requests\":3000,\"max_new_tokens\":8,\"min_words\":2,"
				       "\"rouge_max\":1,\"temperature\":1,\"top_p\":1}}}", t, t);

		put_file(dir, "job.json", job);
		free(job);
		CHECK_EQ(run(1, false, digest, "prompts", &metrics), RC_OK);
		refused += jx_get_i64(metrics, "prompts.duplicate", 0);
		json_decref(metrics);
		rows = out_rows("prompts");
		CHECK_EQ(json_array_size(rows), 40);
		json_array_foreach(rows, i, row) {
			const char *prompt = jx_get_str(row, "prompt", "");

			CHECK(json_object_get(seen, prompt) == NULL);
			json_object_set_new(seen, prompt, json_true());
		}
		json_decref(rows);
		char from[1024], to[1024];
		str_fmt(from, sizeof from, "%s/out/prompts/data.jsonl", dir);
		str_fmt(to, sizeof to, "in/earlier.%d/data.jsonl", t);
		put_file(dir, to, "");
		str_fmt(to, sizeof to, "%s/in/earlier.%d/data.jsonl", dir, t);
		CHECK_RC(fs_remove_tree(to, &e), RC_OK);
		CHECK_RC(fs_copy(from, to, &e), RC_OK);
	}
	CHECK(refused > 10); /* It was tried. */
	json_decref(seen);
}

/* --- eft ------------------------------------------------------------------------------------- */

#define S(k) {"\xc4\xa0Score:\xc4\xa0" k ".", 1}
/* Justifications are looked at in a test of their own. */
#define ANY_JUSTIFICATION "\"min_words\":0,\"same_score\":false,"
static const struct said verdicts[] = {S("1"),
				       S("2"),
				       S("3"),
				       {"\xc4\xa0Score:\xc4\xa0"
					"4.",
					6},
				       S("5")};

static void eft_job(const char *checks)
{
	struct buf b = BUF_INIT;

	put_model(dir, verdicts, 5, 16, 10);
	for (int i = 0; i < 120; i++)
		buf_printf(&b,
			   "{\"id\":\"q%d\",\"prompt\":\"Question "
			   "%d\",\"replies\":[{\"text\":\"good %d\",\"rank\":0},"
			   "{\"text\":\"bad %d\",\"rank\":1}]}\n",
			   i, i, i, i);
	put_file(dir, "in/eft/data.jsonl", b.data);
	buf_clear(&b);
	buf_printf(&b,
		   "{\"id\":\"r.0.eft.0.0\",\"stage\":\"eft\",\"iter\":0,\"seed\":\"5\",\"spec\":{"
		   "\"template\":\"plain\",\"data\":{\"eft_eval_share\":0.25},\"eft\":{\"mode\":"
		   "\"build\",%s\"samples_per_item\":3,\"temperature\":1,\"top_p\":1,"
		   "\"max_new_tokens\":40}}}", checks);
	put_file(dir, "job.json", b.data);
	buf_release(&b);
}

void test_method_engine__eft_is_built_from_agreeing_judgements(void)
{
	struct judge_template tmpl;
	struct err e = {0};
	json_t *metrics, *rows, *row;
	char digest[80];
	int count[6] = {0}, high[6] = {0};
	size_t i, train;

	str_copy(dir, sizeof dir, test_tmpdir());
	eft_job(ANY_JUSTIFICATION);
	CHECK_EQ(run(1, false, digest, "eft", &metrics), RC_OK);
	rows = out_rows("eval");
	train = 120 - json_array_size(rows);
	CHECK(train > 70 && train < 110);
	json_decref(rows);
	CHECK_EQ(jx_get_i64(metrics, "eft.judgements", -1), (int64_t)train * 2 * 3);
	CHECK(jx_get_i64(metrics, "eft.agree", 0) > 3);
	CHECK_RC(judge_template_named("additive-5", &tmpl, &e), RC_OK);
	rows = out_rows("eft");
	CHECK_EQ((int64_t)json_array_size(rows), jx_get_i64(metrics, "eft.rows", -1));
	json_array_foreach(rows, i, row) {
		const char *text = jx_get_str(row, "response", "");
		struct judge_score s = judge_parse(&tmpl.rule, text, strlen(text), true);
		CHECK_EQ(s.milli, llround(jx_get_f64(row, "score", -1) * 1000));
		CHECK(strstr(jx_get_str(row, "prompt", ""), "<response>") != NULL);
		count[s.milli / 1000]++;
		/* The good reply of a kept pair can never have the lowest score, nor the bad the
		 * highest. */
		if (strstr(jx_get_str(row, "id", ""), "/0/"))
			high[s.milli / 1000]++;
	}
	CHECK_EQ(high[1], 0);
	CHECK_EQ(count[5] - high[5], 0);
	/* No score is more frequent than the second most frequent before thinning. */
	for (int k = 0; k < 6; k++) {
		int above = 0;
		for (int j = 0; j < 6; j++)
			above += j != k && count[j] >= count[k];
		CHECK(above >= 1 || count[k] == 0);
	}
	json_decref(rows);
	json_decref(metrics);
	judge_template_release(&tmpl);
}

static int64_t sum_of(const json_t *metrics, const char *name)
{
	const json_t *list = json_object_get(metrics, name), *v;
	int64_t sum = 0;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, v)
		sum += json_integer_value(v);
	return sum;
}

void test_method_engine__eft_reports_what_it_left_out(void)
{
	json_t *metrics, *rows, *row;
	int64_t kept, before, bare, other;
	char digest[80];
	size_t i;

	str_copy(dir, sizeof dir, test_tmpdir());
	eft_job("");
	CHECK_EQ(run(1, false, digest, "eft", &metrics), RC_OK);
	kept = jx_get_i64(metrics, "eft.rows", -1);
	before = sum_of(metrics, "eft.hist_before");
	bare = jx_get_i64(metrics, "eft.justification_too_short", -1);
	other = jx_get_i64(metrics, "eft.justification_contradicts", -1);
	CHECK(bare > 0 && other > 0); /* "Score: 4." alone, and "Score: 2. Score: 4." */
	CHECK_EQ(jx_get_i64(metrics, "eft.justification_template", -1), 0);
	/* Two judgements of each agreeing sample: kept, or left out for one reason. */
	CHECK_EQ(before + bare + other, 2 * jx_get_i64(metrics, "eft.agree", -1));
	CHECK_EQ(json_array_size(json_object_get(metrics, "eft.hist_before")), 6);
	CHECK_EQ(sum_of(metrics, "eft.hist_after"), kept);
	CHECK(kept <= before);
	rows = out_rows("eft");
	json_array_foreach(rows, i, row) {
		const char *text = jx_get_str(row, "response", "");
		const char *last = text + strlen(text) - strlen(" Score: 4.");

		/* Whoever is left repeats the score it ends with, and nothing else. */
		for (const char *p = text; p < last; p += strlen(last))
			CHECK(strncmp(p, last, strlen(last)) == 0);
		CHECK(last > text);
	}
	CHECK_EQ((int64_t)i, kept);
	json_decref(rows);
	json_decref(metrics);
}

void test_method_engine__eft_resumes_to_the_same_bytes(void)
{
	char whole[80], parts[80];
	int stops = 0;

	str_copy(dir, sizeof dir, test_tmpdir());
	eft_job(ANY_JUSTIFICATION);
	CHECK_EQ(run(1, false, whole, "eft", NULL), RC_OK);
	while (run(2, stops < 2, parts, "eft", NULL) == RC_CANCELLED) {
		resume_from_checkpoint("kept");
		stops++;
	}
	CHECK_EQ(stops, 2);
	CHECK_STR(parts, whole);
}
