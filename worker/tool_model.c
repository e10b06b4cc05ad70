/* pawl-worker model: look at, score and sample a model directory from a shell. */
#include "worker/tool_model.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/model/weights.h"
#include "worker/tools.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
	"usage: pawl-worker model COMMAND --model DIR [options]\n"
	"\n"
	"  info        what the directory holds, as one JSON object; weights are not read\n"
	"  export      the directory with weights of another type, in files of a bounded size:\n"
	"              --out DIR (new), --dtype f32|bf16|f16 (f32), --max-shard-bytes N (5 GiB)\n"
	"  merge       the model with an adapter of PEFT in its weights: --adapter DIR, --out DIR (new)\n"
	"  tokenize    {\"text\"} -> {\"tokens\"}         --special: special tokens in the text count;\n"
	"                                             --template NAME: {\"prompt\"} in that template\n"
	"  detokenize  {\"tokens\"} -> {\"text\"}         --special: write special tokens out\n"
	"  generate    {\"prompt\"} -> {\"text\",\"tokens\",\"finish\",\"logp\"}\n"
	"  score       {\"prompt\",\"response\"} -> {\"logp\",\"n_tokens\"}\n"
	"  logits      {\"text\"} or {\"tokens\"} -> --out FILE, float32 [tokens][vocabulary]\n"
	"\n"
	"Lines of JSON on standard input, or one with --prompt TEXT (also --text TEXT).\n"
	"\n"
	"  --template NAME    chat template (plain)      --system TEXT     system text of it\n"
	"  --raw              no template: BOS and the text; score adds no end token\n"
	"  --max-tokens N     (256)                      --temperature T   (0.7; 0: greedy)\n"
	"  --top-p P          (0.9)                      --top-k K         (0: off)\n"
	"  --seed S           (1)                        --samples N       of each prompt (1)\n"
	"  --stream           text as it comes           --threads N       (0: all cores)\n"
	"  --kv-tokens N      bound of the key/value cache\n"
	"  --weights F        f32, bf16, q8 or fp8: how the model is kept in memory (f32)\n";

/* One table of options: where each goes and what it may be. */
enum option_type { OPT_TEXT, OPT_FLAG, OPT_INT, OPT_REAL };

struct option {
	const char *name;
	enum option_type type;
	size_t at; /* in struct tool_args */
	double min, max;
};

#define OPTION(name, type, field, min, max) {name, type, offsetof(struct tool_args, field), min, max}

static const struct option options[] = {
	OPTION("--model", OPT_TEXT, model, 0, 0),
	OPTION("--template", OPT_TEXT, template, 0, 0),
	OPTION("--system", OPT_TEXT, system, 0, 0),
	OPTION("--prompt", OPT_TEXT, prompt, 0, 0),
	OPTION("--text", OPT_TEXT, prompt, 0, 0),
	OPTION("--out", OPT_TEXT, out, 0, 0),
	OPTION("--adapter", OPT_TEXT, adapter, 0, 0),
	OPTION("--weights", OPT_TEXT, weights, 0, 0),
	OPTION("--dtype", OPT_TEXT, dtype, 0, 0),
	OPTION("--max-shard-bytes", OPT_INT, max_shard_bytes, 1, 9007199254740992.0),
	OPTION("--raw", OPT_FLAG, raw, 0, 0),
	OPTION("--special", OPT_FLAG, special, 0, 0),
	OPTION("--stream", OPT_FLAG, stream, 0, 0),
	OPTION("--max-tokens", OPT_INT, max_tokens, 1, 1 << 24),
	OPTION("--top-k", OPT_INT, top_k, 0, 1 << 24),
	OPTION("--samples", OPT_INT, samples, 1, 4096),
	OPTION("--threads", OPT_INT, threads, 0, 4096),
	OPTION("--kv-tokens", OPT_INT, kv_tokens, 0, INT32_MAX),
	OPTION("--seed", OPT_INT, seed, 0, 9007199254740992.0),
	OPTION("--temperature", OPT_REAL, temperature, 0, 100),
	OPTION("--top-p", OPT_REAL, top_p, 0, 1),
};

static const struct option *find_option(const char *name)
{
	for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++)
		if (!strcmp(options[i].name, name))
			return &options[i];
	return NULL;
}

static enum rc set_option(struct tool_args *a, const struct option *o, const char *value,
			  struct err *e)
{
	char *at = (char *)a + o->at;
	int64_t i = 0;
	double d = 0;
	bool ok = true;

	if (o->type == OPT_INT)
		ok = str_to_i64(value, &i) && (double)i >= o->min && (double)i <= o->max;
	if (o->type == OPT_REAL)
		ok = str_to_f64(value, &d) && d >= o->min && d <= o->max;
	if (!ok)
		return err_set(e, RC_INVALID, "%s: \"%s\" is not a number from %g to %g", o->name, value,
			       o->min, o->max);
	switch (o->type) {
	case OPT_TEXT:
		memcpy(at, &value, sizeof(value));
		break;
	case OPT_FLAG:
		*(bool *)(void *)at = true;
		break;
	case OPT_INT:
		memcpy(at, &i, sizeof(i));
		break;
	case OPT_REAL:
		memcpy(at, &d, sizeof(d));
		break;
	}
	return RC_OK;
}

static enum rc parse_args(int argc, char **argv, struct tool_args *a, struct err *e)
{
	for (int i = 0; i < argc; i++) {
		const struct option *o = find_option(argv[i]);
		enum rc rc;
		if (!o)
			return err_set(e, RC_INVALID, "unknown option \"%s\"", argv[i]);
		if (o->type != OPT_FLAG && i + 1 >= argc)
			return err_set(e, RC_INVALID, "%s needs a value", argv[i]);
		rc = set_option(a, o, o->type == OPT_FLAG ? NULL : argv[++i], e);
		if (rc)
			return rc;
	}
	if (!a->model)
		return err_set(e, RC_INVALID, "--model DIR is missing");
	return RC_OK;
}

/* --- what the commands share ------------------------------------------------------------------ */

static enum rc open_session(struct tool_session *s, int parts, struct err *e)
{
	const struct tool_args *a = &s->args;
	struct infer_opts o = {.kv_tokens = a->kv_tokens};
	enum rc rc = RC_OK;

	if (parts & TOOL_BARE)
		return RC_OK;
	rc = tokenizer_load(a->model, &s->tok, e);
	if (!rc)
		rc = template_open(a->template ? a->template : "plain", s->tok, &s->tmpl, e);
	if (!rc)
		rc = weights_format_parse(a->weights ? a->weights : "f32", &o.weights, e);
	if (rc || !(parts & TOOL_ENGINE))
		return rc;
	rc = engine_open(&s->compute, o.weights, (int)a->threads, e);
	if (!rc)
		rc = infer_open(a->model, s->compute.kern, s->compute.pool, &o, &s->infer, e);
	if (!rc && tokenizer_vocab(s->tok) > infer_config(s->infer)->vocab)
		rc = err_set(e, RC_INVALID, "%s: the tokenizer has ids up to %d, the model only %d",
			     a->model, tokenizer_vocab(s->tok) - 1, infer_config(s->infer)->vocab);
	return rc;
}

static void close_session(struct tool_session *s)
{
	if (s->infer)
		infer_free(s->infer);
	engine_close(&s->compute);
	if (s->tmpl)
		template_free(s->tmpl);
	tokenizer_free(s->tok);
	jsonl_close(s->lines);
}

enum rc tool_next(struct tool_session *s, json_t **line, struct err *e)
{
	*line = NULL;
	if (s->args.prompt) {
		if (s->n_lines++ == 0)
			*line = json_pack("{s:s,s:s}", "prompt", s->args.prompt, "text", s->args.prompt);
		if (s->n_lines == 1 && !*line)
			return err_set(e, RC_INVALID, "--prompt is not valid UTF-8");
		return RC_OK;
	}
	if (!s->lines) {
		enum rc rc = jsonl_open("/dev/stdin", &s->lines, e);
		if (rc)
			return rc;
	}
	s->n_lines++;
	return jsonl_next(s->lines, line, e);
}

void tool_print(json_t *v)
{
	char *text = json_dumps(v, JSON_COMPACT);

	if (text)
		puts(text);
	free(text);
	json_decref(v);
}

json_t *tool_ids(const int32_t *ids, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_integer(ids[i]));
	return list;
}

enum rc tool_read_ids(const json_t *line, struct tokens *out, struct err *e)
{
	json_t *list;
	enum rc rc = jx_arr(line, "tokens", &list, e);

	for (size_t i = 0; !rc && i < json_array_size(list); i++) {
		const json_t *v = json_array_get(list, i);
		if (!json_is_integer(v) || json_integer_value(v) < 0 ||
		    json_integer_value(v) >= TOKEN_VOCAB_MAX)
			rc = err_set(e, RC_INVALID, "tokens[%zu] is not a token id", i);
		else
			tokens_push(out, (int32_t)json_integer_value(v));
	}
	return rc;
}

static const struct command {
	const char *name;
	enum rc (*run)(struct tool_session *s, struct err *e);
	int parts;
} commands[] = {
	{"info", tool_info, TOOL_BARE},
	{"export", tool_export, TOOL_BARE},
	{"merge", tool_merge, TOOL_BARE},
	{"tokenize", tool_tokenize, 0},
	{"detokenize", tool_detokenize, 0},
	{"generate", tool_generate, TOOL_ENGINE},
	{"score", tool_score, TOOL_ENGINE},
	{"logits", tool_logits, TOOL_ENGINE},
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

int tool_model_main(int argc, char **argv)
{
	const struct command *c = argc > 1 ? find_command(argv[1]) : NULL;
	struct tool_session s = {.args = TOOL_ARGS_DEFAULT};
	struct err e;
	enum rc rc;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help"))) {
		fputs(usage_text, stdout);
		return 0;
	}
	if (!c) {
		fputs(usage_text, stderr);
		return 2;
	}
	if (parse_args(argc - 2, argv + 2, &s.args, &e)) {
		fprintf(stderr, "pawl-worker model %s: %s\n", c->name, e.text);
		return 2;
	}
	rc = open_session(&s, c->parts, &e);
	if (!rc)
		rc = c->run(&s, &e);
	if (rc)
		fprintf(stderr, "pawl-worker model %s: %s\n", c->name, e.text);
	close_session(&s);
	return !rc ? 0 : rc == RC_NOTFOUND ? 3 : 1;
}
