/* What every stage that generates owes to engine.weights: it keeps the weights so, says so in all
 * its outputs, and ends with the figures of its speed.
 */
#include "base/jsonx.h"
#include "store/artifact.h"
#include "tests/talking_model.h"
#include "worker/stage.h"

#include <stdio.h>

#define S(k)                                                                                       \
	{                                                                                          \
		"\xc4\xa0Score:\xc4\xa0" k ".", 1                                                  \
	}
static const struct said verdicts[] = {S("1"), S("2"), S("3"), S("4"), S("5")};
static const struct said speech[] = {
	{"\xc4\xa0"
	 "explain",
	 1},
	{"\xc4\xa0"
	 "rivers",
	 1},
	{"\xc4\xa0"
	 "winter",
	 1},
	{"\xc4\xa0"
	 "cook",
	 1},
	{"\xc4\xa0"
	 "birds",
	 1},
	{"\xc4\x8a"
	 "10."
	 "\xc4\xa0",
	 2},
};

/* A stage, its inputs but for the model, and an output made by the model. */
static const struct job {
	const char *stage, *role, *section;
	const struct said *words;
	int n_words;
	const char *in[2][2]; /* role, rows */
} jobs[] = {
	{"prompts",
	 "prompts",
	 "\"data\":{\"lang\":\"en\"},\"prompts\":{\"generator\":\"current\",\"count\":6,\"max_"
	 "requests\":"
	 "200,\"min_words\":2,\"rouge_max\":1,\"max_new_tokens\":60,\"temperature\":1,\"top_p\":1}",
	 speech,
	 6,
	 {{"ift", "{\"id\":\"a\",\"prompt\":\"A seed prompt to show\",\"response\":\"r\"}\n"}}},
	{"generate",
	 "responses",
	 "\"generate\":{\"n\":4,\"max_new_tokens\":20,\"temperature\":1,\"top_p\":1,\"chunk\":2}",
	 speech,
	 6,
	 {{"prompts", "{\"id\":\"a\",\"prompt\":\"Why?\"}\n{\"id\":\"b\",\"prompt\":\"How?\"}\n"
		      "{\"id\":\"c\",\"prompt\":\"When?\"}\n"}}},
	{"judge",
	 "judgements",
	 "\"judge\":{\"kind\":\"model\",\"max_new_tokens\":20,\"temperature\":1,\"top_p\":1}",
	 verdicts,
	 5,
	 {{"responses",
	   "{\"id\":\"a\",\"prompt\":\"Why?\",\"candidates\":[{\"index\":0,\"text\":\"So.\"},"
	   "{\"index\":1,\"text\":\"Because.\"}]}\n"}}},
	{"eft",
	 "eft",
	 "\"data\":{\"eft_eval_share\":0},\"eft\":{\"mode\":\"build\",\"samples_per_item\":8,"
	 "\"temperature\":1,\"top_p\":1,\"max_new_tokens\":20}",
	 verdicts,
	 5,
	 {{"eft", "{\"id\":\"a\",\"prompt\":\"Why?\",\"replies\":[{\"text\":\"So.\",\"rank\":0},"
		  "{\"text\":\"No.\",\"rank\":1}]}\n"}}},
	{"eval",
	 "rm",
	 "\"eval\":{\"max_new_tokens\":20,\"judge_samples\":2,\"head_to_head\":{\"judge\":\"none\"}"
	 "}",
	 verdicts,
	 5,
	 {{"eval", "{\"id\":\"a\",\"prompt\":\"Why?\",\"replies\":[{\"text\":\"So.\",\"rank\":0},"
		   "{\"text\":\"No.\",\"rank\":1}]}\n"},
	  {"test", "{\"id\":\"t\",\"prompt\":\"How?\"}\n"}}},
};

static char dir[512];
static struct err e;

static void put_job(const struct job *j, const char *weights, int dim)
{
	char text[2048], path[64];

	put_model(dir, j->words, j->n_words, dim, 2);
	for (int i = 0; i < 2 && j->in[i][0]; i++) {
		str_fmt(path, sizeof path, "in/%s/data.jsonl", j->in[i][0]);
		put_file(dir, path, j->in[i][1]);
	}
	str_fmt(text, sizeof text,
		"{\"id\":\"r.1.%s.0.0\",\"stage\":\"%s\",\"iter\":1,\"seed\":\"3\",\"params\":{"
		"\"name\":"
		"\"M1\"},\"spec\":{\"template\":\"plain\",%s%s%s%s}}",
		j->stage, j->stage, weights ? "\"engine\":{\"weights\":\"" : "",
		weights ? weights : "", weights ? "\"}," : "", j->section);
	put_file(dir, "job.json", text);
}

static const json_t *output(const struct stage_ctx *ctx, const char *role)
{
	const json_t *o;
	size_t i;

	json_array_foreach(ctx->outputs, i,
			   o) if (strcmp(jx_get_str(o, "role", ""), role) == 0) return o;
	CHECK(!"the output is there");
	return NULL;
}

static const char *precision(const json_t *meta)
{
	return jx_get_str(json_object_get(meta, "precision"), "weights", "none");
}

/* In what the server is told, and in the artifact itself. */
static void check_output(const struct stage_ctx *ctx, const char *role, const char *weights)
{
	const json_t *o = output(ctx, role);
	struct artifact *a;

	CHECK_STR(precision(json_object_get(o, "meta")), weights);
	CHECK(jx_get_str(json_object_get(json_object_get(o, "meta"), "templates"), "plain", NULL));
	CHECK_RC(artifact_open_file(jx_get_str(o, "path", ""), NULL, &a, &e), RC_OK);
	CHECK_STR(precision(a->meta), weights);
	CHECK(strncmp(jx_get_str(a->meta, "engine", ""), "cpu-", 4) == 0);
	artifact_close(a);
}

static void check_speed(const json_t *m)
{
	double seconds = jx_get_f64(m, "gen.seconds", 0);

	CHECK(seconds > 0);
	CHECK(jx_get_i64(m, "gen.sampled_tokens", 0) > 0);
	CHECK_NEAR(jx_get_f64(m, "speed.tokens_per_s", 0) * seconds,
		   (double)jx_get_i64(m, "gen.sampled_tokens", 0), 1e-6);
	CHECK_NEAR(jx_get_f64(m, "speed.prompt_tokens_per_s", 0) * seconds,
		   (double)jx_get_i64(m, "gen.prompt_tokens", 0), 1e-6);
	CHECK(jx_get_f64(m, "speed.reused_share", -1) >= 0);
	CHECK(jx_get_f64(m, "speed.reused_share", -1) < 1);
}

static void run_job(const struct job *j, const char *weights, const char *said, int dim)
{
	struct stage_ctx ctx;

	str_fmt(dir, sizeof dir, "%s/%s-%s-%d", test_tmpdir(), j->stage, said, dim);
	put_job(j, weights, dim);
	CHECK_RC(stage_ctx_open(&ctx, dir, -1, 2, &e), RC_OK);
	enum rc rc = stage_ctx_run(&ctx, &e);
	if (rc)
		printf("%s with %s: %s\n", j->stage, said, e.text);
	CHECK_RC(rc, RC_OK);
	check_output(&ctx, j->role, said);
	if (strcmp(j->stage, "eval") == 0)
		check_output(&ctx, "generations", said);
	check_speed(ctx.metrics);
	/* Four samples of a prompt of few tokens: three of four prompts come for nothing. */
	if (strcmp(j->stage, "generate") == 0)
		CHECK_NEAR(jx_get_f64(ctx.metrics, "speed.reused_share", 0), 0.75, 1e-12);
	stage_ctx_close(&ctx);
}

void test_stage_engine__weights_are_honoured_and_said(void)
{
	for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
		run_job(&jobs[i], NULL, "f32", 64);
		run_job(&jobs[i], "bf16", "bf16", 64);
		run_job(&jobs[i], "q8", "q8", 64);
	}
}

/* A job that must fail before it generates, with these words. */
static void refused(const char *weights, int dim, enum rc want, const char *words)
{
	struct stage_ctx ctx;

	for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
		str_fmt(dir, sizeof dir, "%s/%s", test_tmpdir(), jobs[i].stage);
		put_job(&jobs[i], weights, dim);
		CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
		CHECK_RC(stage_ctx_run(&ctx, &e), want);
		CHECK(strstr(e.text, words) != NULL);
		CHECK_EQ(json_array_size(ctx.outputs), 0);
		stage_ctx_close(&ctx);
	}
}

void test_stage_engine__weights_that_cannot_be_are_refused(void)
{
	refused("q4", 64, RC_INVALID, "expected f32, bf16, q8 or fp8");
	refused("q8", 16, RC_UNSUPPORTED, "multiples of 32");
	refused("fp8", 64, RC_UNSUPPORTED, "which has no 8-bit floats; q8 is possible");
}

/* The format reaches the products: other bits, nearly the same probabilities. */
void test_stage_engine__weights_change_the_probabilities_a_little(void)
{
	static const char *const names[] = {"f32", "bf16", "q8"};
	const struct job *j = &jobs[1];
	double first[3];

	for (int f = 0; f < 3; f++) {
		struct stage_ctx ctx;
		json_t *rows = json_array();
		char path[PATH_MAX];

		str_fmt(dir, sizeof dir, "%s/%s", test_tmpdir(), names[f]);
		put_job(j, names[f], 64);
		CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
		CHECK_RC(stage_ctx_run(&ctx, &e), RC_OK);
		stage_ctx_close(&ctx);
		str_fmt(path, sizeof path, "%s/out/responses/data.jsonl", dir);
		CHECK_RC(stage_read_rows(path, 10, rows, &e), RC_OK);
		const json_t *c = json_object_get(json_array_get(rows, 0), "candidates");
		first[f] = jx_get_f64(json_array_get(c, 0), "logp", 1);
		CHECK(first[f] < 0);
		json_decref(rows);
	}
	printf("logp %.9g %.9g %.9g\n", first[0], first[1], first[2]);
	for (int f = 1; f < 3; f++) {
		CHECK(first[f] != first[0]);
		CHECK_NEAR(first[f], first[0], 0.02 * fabs(first[0]));
	}
}

/* Training says its format in the checkpoint, beside the fingerprint of the engine. */
void test_stage_engine__training_says_its_format(void)
{
	struct stage_ctx ctx;
	struct artifact *a;
	char from[600], to[600];

	str_copy(dir, sizeof dir, test_tmpdir());
	put_model(dir, speech, 6, 16, 2);
	str_fmt(from, sizeof from, "%s/in/model", dir);
	str_fmt(to, sizeof to, "%s/in/base", dir);
	CHECK_EQ(rename(from, to), 0);
	put_file(dir, "in/ift/data.jsonl",
		 "{\"id\":\"a\",\"prompt\":\"Why?\",\"response\":\"So.\"}\n");
	put_file(
		dir, "job.json",
		"{\"stage\":\"sft\",\"seed\":\"3\",\"params\":{\"variant\":\"baseline\"},\"spec\":{"
		"\"template\":\"plain\",\"engine\":{\"train\":\"bf16\"},\"sft\":{\"lr\":1e-3,"
		"\"batch\":1,"
		"\"epochs\":1}}}");
	CHECK_RC(stage_ctx_open(&ctx, dir, -1, 1, &e), RC_OK);
	CHECK_RC(stage_ctx_run(&ctx, &e), RC_OK);
	CHECK(jx_get_f64(ctx.metrics, "speed.tokens_per_s", 0) > 0);
	CHECK_RC(artifact_open_file(jx_get_str(output(&ctx, "model"), "path", ""), NULL, &a, &e),
		 RC_OK);
	CHECK_STR(jx_get_str(json_object_get(a->meta, "precision"), "train", "none"), "bf16");
	CHECK(strncmp(jx_get_str(a->meta, "engine", ""), "cpu-", 4) == 0);
	artifact_close(a);
	stage_ctx_close(&ctx);
}
