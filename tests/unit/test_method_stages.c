/* The stages import, eft, prompts and pair, run by hand in a folder. */
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "tests/test.h"
#include "worker/model/model_export.h"
#include "worker/model/model_source.h"
#include "worker/stage.h"

#include <stdio.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static char dir[512];

static void put(const char *name, const char *text)
{
	char path[1024], folder[1024];
	struct err e = {0};
	char *slash;

	str_fmt(path, sizeof path, "%s/%s", dir, name);
	str_copy(folder, sizeof folder, path);
	slash = strrchr(folder, '/');
	*slash = 0;
	CHECK_RC(fs_mkdirs(folder, &e), RC_OK);
	CHECK_RC(fs_write_durable(path, text, strlen(text), &e), RC_OK);
}

/* A job in a fresh folder; `spec` may name files by "@", which stands for the folder. */
static void job(const char *stage, int iter, int shard, const char *spec)
{
	struct buf b = BUF_INIT;

	buf_printf(
		&b,
		"{\"id\":\"r.%d.%s.%d.0\",\"stage\":\"%s\",\"iter\":%d,\"shard\":%d,\"seed\":\"7\","
		"\"spec\":",
		iter, stage, shard, stage, iter, shard);
	for (; *spec; spec++) {
		if (*spec == '@')
			buf_puts(&b, dir);
		else
			buf_putc(&b, *spec);
	}
	buf_puts(&b, "}");
	put("job.json", b.data);
	buf_release(&b);
}

static enum rc run(struct stage_ctx *ctx, struct err *e)
{
	enum rc rc = stage_ctx_open(ctx, dir, -1, 1, e);

	return rc == RC_OK ? stage_ctx_run(ctx, e) : rc;
}

static json_t *out_rows(const char *role)
{
	char path[1024];
	struct err e = {0};
	json_t *rows = json_array();

	str_fmt(path, sizeof path, "%s/out/%s/data.jsonl", dir, role);
	CHECK_RC(stage_read_rows(path, 1000000, rows, &e), RC_OK);
	return rows;
}

static int64_t meta_i64(const struct stage_ctx *ctx, const char *role, const char *key)
{
	const json_t *o;
	size_t i;

	json_array_foreach(ctx->outputs, i, o)
		if (strcmp(jx_get_str(o, "role", ""), role) == 0)
			return jx_get_i64(json_object_get(o, "meta"), key, -1);
	return -1;
}

static void fails(const char *needle)
{
	struct stage_ctx ctx;
	struct err e = {0};

	CHECK_RC(run(&ctx, &e), RC_INVALID);
	if (!strstr(e.text, needle))
		CHECK_STR(e.text, needle);
	stage_ctx_close(&ctx);
}

static void begin(void)
{
	str_copy(dir, sizeof dir, test_tmpdir());
}

/* --- import ---------------------------------------------------------------------------------- */

static const char import_spec[] =
	"{\"data\":{\"ift\":[{\"path\":\"@/a.jsonl\"}],\"eft\":[{\"path\":\"@/"
	"e.jsonl\",\"format\":\"auto\"}],"
	"\"test\":[{\"path\":\"@/t.jsonl\"}],\"ift_max\":3200,\"lang\":\"en\"}}";

static void import_files(void)
{
	put("a.jsonl",
	    "{\"prompt\":\"One?\",\"response\":\"1\"}\n\n{\"prompt\":\"Two?\",\"response\":\"2\"}\n"
	    "{\"prompt\":\"Three?\",\"response\":\"3\"}\n");
	put("e.jsonl", "{\"prompt\":\"J\",\"response\":\"ok. Score: 2\",\"score\":2}\n");
	put("t.jsonl", "{\"prompt\":\"two? \",\"answer\":\"2\"}\n");
}

void test_method_stages__import_data(void)
{
	struct stage_ctx ctx;
	struct err e = {0};
	json_t *rows;

	begin();
	import_files();
	job("import", 0, 1, import_spec);
	CHECK_RC(run(&ctx, &e), RC_OK);
	CHECK_EQ(json_array_size(ctx.outputs), 3);
	CHECK_EQ(meta_i64(&ctx, "ift", "rows"), 2); /* "Two?" is a test prompt */
	CHECK_EQ(meta_i64(&ctx, "ift", "read"), 3);
	rows = out_rows("test");
	CHECK_STR(jx_get_str(json_object_get(json_array_get(rows, 0), "meta"), "answer", ""), "2");
	json_decref(rows);
	rows = out_rows("eft");
	CHECK_EQ(jx_get_i64(json_array_get(rows, 0), "score", -1), 2);
	json_decref(rows);
	stage_ctx_close(&ctx);
}

void test_method_stages__import_refuses_with_file_and_line(void)
{
	begin();
	import_files();
	job("import", 0, 1, import_spec);
	put("a.jsonl", "{\"prompt\":\"One?\",\"response\":\"1\"}\n{\"prompt\":\"Two?\",\n");
	fails("a.jsonl:2");
	put("a.jsonl",
	    "{\"prompt\":\"One?\",\"response\":\"1\"}\n\n{\"prompt\":\"Two?\",\"response\":7}\n");
	fails("a.jsonl:3: field \"response\"");
	put("a.jsonl", "");
	fails("a.jsonl: no rows");
	put("a.jsonl", "{\"prompt\":\" \",\"response\":\"1\"}\n");
	fails("data.ift: none of 1 rows");
	job("import", 0, 1, "{\"data\":{\"ift\":[{\"path\":\"@/a.jsonl\",\"format\":\"csv\"}]}}");
	fails("format \"csv\" is unknown");
	job("import", 0, 1, "{\"data\":{\"ift\":[{\"path\":\"@/a.jsonl\",\"fromat\":\"auto\"}]}}");
	fails("fromat");
}

void test_method_stages__import_model(void)
{
	char model[PATH_MAX], spec[PATH_MAX + 32], path[1024];
	struct stage_ctx ctx;
	struct err e = {0};

	CHECK(realpath(test_data("models/stories260K/model.safetensors"), model) != NULL);
	begin();
	str_fmt(spec, sizeof spec, "{\"base_model\":\"%.*s\"}", (int)(strrchr(model, '/') - model),
		model);
	job("import", 0, 0, spec);
	CHECK_RC(run(&ctx, &e), RC_OK);
	CHECK_STR(jx_get_str(json_array_get(ctx.outputs, 0), "kind", ""), "checkpoint");
	str_fmt(path, sizeof path, "%s/out/model/tokenizer.json", dir);
	CHECK(fs_exists(path));
	str_fmt(path, sizeof path, "%s/out/model/oracle_logits.bin", dir);
	CHECK(!fs_exists(path));
	stage_ctx_close(&ctx);
	job("import", 0, 0, "{}");
	fails("base_model is missing");
}

/* An export, in shards, with the manifest that `tar xf` of a checkpoint leaves there. */
void test_method_stages__import_of_an_export(void)
{
	const struct export_opts o = {ST_BF16, 300000};
	struct model *a = NULL, *b = NULL;
	struct stage_ctx ctx;
	struct err e = {0};
	char from[1024], to[1024];

	begin();
	str_copy(from, sizeof from, test_data("models/stories260K/config.json"));
	*strrchr(from, '/') = 0;
	str_fmt(to, sizeof to, "%s/given", dir);
	CHECK_RC(model_export(from, to, &o, NULL, &e), RC_OK);
	put("given/manifest.json", "{}");
	job("import", 0, 0, "{\"base_model\":\"@/given\"}");
	CHECK_RC(run(&ctx, &e), RC_OK);
	str_fmt(from, sizeof from, "%s/out/model", dir);
	CHECK_RC(model_load(to, &a, &e), RC_OK);
	CHECK_RC(model_load(from, &b, &e), RC_OK);
	CHECK(!memcmp(a->params, b->params, a->n_params * sizeof(*a->params)));
	str_fmt(from, sizeof from, "%s/out/model/manifest.json", dir);
	CHECK(!fs_exists(from));
	stage_ctx_close(&ctx);
	model_free(a);
	model_free(b);
	put("given/model-00002-of-00002.safetensors", "");
	fails("model-00002-of-00002.safetensors");
}

/* --- eft ------------------------------------------------------------------------------------- */

void test_method_stages__eft_given(void)
{
	struct stage_ctx ctx;
	struct err e = {0};

	begin();
	put("in/eft/data.jsonl",
	    "{\"id\":\"a\",\"prompt\":\"J\",\"response\":\"Score: 2\",\"score\":2}\n"
	    "{\"id\":\"b\",\"prompt\":\"Q\",\"replies\":[{\"text\":\"x\",\"rank\":0},{\"text\":"
	    "\"y\",\"rank\":1}]}\n");
	job("eft", 0, 0, "{\"eft\":{\"mode\":\"given\"}}");
	CHECK_RC(run(&ctx, &e), RC_OK);
	CHECK_EQ(meta_i64(&ctx, "eft", "rows"), 1);
	CHECK_EQ(meta_i64(&ctx, "eval", "rows"), 1);
	stage_ctx_close(&ctx);
	job("eft", 0, 0, "{\"eft\":{\"mode\":\"build\"},\"data\":{\"eft_eval_share\":0}}");
	fails("needs the baseline model");
	put("in/eft/data.jsonl", "{\"id\":\"b\",\"prompt\":\"Q\",\"replies\":[]}\n");
	job("eft", 0, 0, "{\"eft\":{\"mode\":\"given\"}}");
	fails("no judge rows");
}

/* --- prompts --------------------------------------------------------------------------------- */

void test_method_stages__prompts_from_file(void)
{
	struct stage_ctx ctx;
	struct err e = {0};
	json_t *rows;

	begin();
	put("in/prompts/data.jsonl",
	    "{\"id\":\"1\",\"prompt\":\"A\",\"meta\":{\"k\":1}}\n{\"id\":\"2\",\"prompt\":\"B\"}\n"
	    "{\"id\":\"3\",\"prompt\":\"C\"}\n{\"id\":\"4\",\"prompt\":\"D\"}\n");
	put("in/earlier.1/data.jsonl", "{\"id\":\"1\",\"prompt\":\"a\"}\n");
	job("prompts", 2, 0, "{\"iterations\":2,\"prompts\":{\"generator\":\"file\",\"count\":2}}");
	CHECK_RC(run(&ctx, &e), RC_OK);
	rows = out_rows("prompts");
	CHECK_EQ(json_array_size(rows), 2);
	CHECK_STR(jx_get_str(json_array_get(rows, 0), "id", ""), "2");
	CHECK_STR(jx_get_str(json_array_get(rows, 1), "id", ""), "3");
	json_decref(rows);
	stage_ctx_close(&ctx);
	job("prompts", 2, 0, "{\"iterations\":3,\"prompts\":{\"generator\":\"file\",\"count\":2}}");
	fails("lower prompts.count to 1");
}

/* --- pair ------------------------------------------------------------------------------------ */

#define CAND(i, text, tok, fin)                                                             \
	"{\"index\":" #i ",\"text\":\"" text "\",\"tokens\":[" tok "],\"finish\":\"" fin "\"}"

static void pair_inputs(void)
{
	put("in/responses.0/data.jsonl",
	    "{\"id\":\"p\",\"prompt\":\"P\",\"prompt_tokens\":[1,2],\"candidates\":[" CAND(
		    0, "good", "5,2",
		    "stop") "," CAND(1, "bad", "6,2",
				     "stop") "," CAND(2, "cut", "7",
						      "length") "]}\n"
								"{\"id\":\"q\",\"prompt\":\"Q\","
								"\"prompt_tokens\":[1],"
								"\"candidates\":[" CAND(
									0, "a", "5",
									"stop") "," CAND(1, "b",
											 "6",
											 "stop") "]"
												 "}"
												 "\n");
	put("in/judgements.0.0/data.jsonl",
	    "{\"id\":\"q\",\"pass\":0,\"items\":[{\"index\":0,\"score\":3},{\"index\":1,\"score\":"
	    "3}]}\n"
	    "{\"id\":\"p\",\"pass\":0,\"items\":[{\"index\":1,\"score\":1,\"reason\":null,\"text\":"
	    "\"s\"},"
	    "{\"index\":0,\"score\":4,\"text\":\"t\"},{\"index\":2,\"score\":5}]}\n");
	put("in/judgements.0.1/data.jsonl", "{\"id\":\"p\",\"pass\":1,\"items\":[{\"index\":0,"
					    "\"score\":5},{\"index\":1,\"score\":2},"
					    "{\"index\":2,\"score\":5}]}\n"
					    "{\"id\":\"q\",\"pass\":1,\"items\":[{\"index\":0,"
					    "\"score\":null,\"reason\":\"no_match\"},"
					    "{\"index\":1,\"score\":3}]}\n");
	put("in/responses.1/data.jsonl",
	    "{\"id\":\"r\",\"prompt\":\"R\",\"prompt_tokens\":[1],\"candidates\":["
	    CAND(0, "a", "5", "stop") "," CAND(1, "b", "6", "stop") "]}\n");
	put("in/judgements.1.0/data.jsonl", "{\"id\":\"r\",\"pass\":0,\"items\":[{\"index\":0,"
					    "\"score\":0},{\"index\":1,\"score\":0}]}\n");
	put("in/judgements.1.1/data.jsonl", "{\"id\":\"r\",\"pass\":1,\"items\":[{\"index\":0,"
					    "\"score\":1},{\"index\":1,\"score\":1}]}\n");
}

void test_method_stages__pair(void)
{
	struct stage_ctx ctx;
	struct err e = {0};
	json_t *rows, *row;

	begin();
	pair_inputs();
	job("pair", 1, 0, "{\"judge\":{\"min_valid\":2}}");
	CHECK_RC(run(&ctx, &e), RC_OK);
	rows = out_rows("pairs");
	CHECK_EQ(json_array_size(rows), 1);
	row = json_array_get(rows, 0);
	CHECK_STR(jx_get_str(json_object_get(row, "chosen"), "text", ""), "good");
	CHECK_STR(jx_get_str(json_object_get(row, "rejected"), "text", ""), "bad");
	CHECK_NEAR(jx_get_f64(row, "margin", 0), 3.0, 1e-12);
	CHECK_EQ(json_array_size(json_object_get(json_object_get(row, "chosen"), "tokens")), 2);
	json_decref(rows);
	rows = out_rows("samples");
	CHECK_EQ(json_array_size(rows), 3);
	row = json_array_get(rows, 1);
	CHECK_STR(jx_get_str(row, "drop", ""), "unjudged");
	CHECK_STR(jx_get_str(json_array_get(rows, 2), "drop", ""), "tie");
	CHECK_EQ(jx_get_i64(json_array_get(rows, 0), "chosen", -1), 0);
	row = json_array_get(json_object_get(json_array_get(rows, 0), "candidates"), 0);
	CHECK_EQ(json_array_size(json_object_get(row, "judgements")), 2);
	CHECK_NEAR(jx_get_f64(row, "variance", -1), 0.25, 1e-12);
	json_decref(rows);
	CHECK_EQ(jx_get_i64(ctx.metrics, "pair.kept", -1), 1);
	CHECK_EQ(jx_get_i64(ctx.metrics, "pair.tie", -1), 1);
	CHECK_EQ(jx_get_i64(ctx.metrics, "pair.unjudged", -1), 1);
	CHECK_EQ(meta_i64(&ctx, "pairs", "rows"), 1);
	stage_ctx_close(&ctx);
}

void test_method_stages__pair_refuses(void)
{
	begin();
	pair_inputs();
	job("pair", 1, 0, "{\"pair\":{\"length_control\":0.5}}");
	fails("length_control");
	job("pair", 1, 0, "{\"pair\":{\"length_control\":[0,0.6]}}");
	{
		struct stage_ctx ctx; /* the first iteration's 0 is fine */
		struct err e = {0};
		CHECK_RC(run(&ctx, &e), RC_OK);
		stage_ctx_close(&ctx);
	}
	put("in/responses.2/data.jsonl", "");
	job("pair", 1, 0, "{}");
	fails("judgements.2.");
}
