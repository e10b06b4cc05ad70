#include "worker/tool_model.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The commands themselves. Each reads lines until there are none; an error names the line. */

#define BATCH 256 /* Prompts of one run of the engine: bounds memory for endless input. */

/* --- text and tokens -------------------------------------------------------------------------- */

static enum rc for_each_line(struct tool_session *s,
			     enum rc (*each)(struct tool_session *, json_t *, struct err *),
			     struct err *e)
{
	json_t *line;
	enum rc rc = tool_next(s, &line, e);

	while (!rc && line) {
		rc = each(s, line, e);
		if (rc)
			err_wrap(e, "line %lld", (long long)s->n_lines);
		json_decref(line);
		if (!rc)
			rc = tool_next(s, &line, e);
	}
	return rc;
}

/* BOS and the bare text. */
static enum rc raw_ids(struct tool_session *s, const char *text, struct tokens *out, struct err *e)
{
	if (tokenizer_bos(s->tok) >= 0)
		tokens_push(out, tokenizer_bos(s->tok));
	return tokenizer_encode(s->tok, text, strlen(text), 0, out, e);
}

static enum rc prompt_ids(struct tool_session *s, const json_t *line, struct tokens *out,
			  struct err *e)
{
	const char *prompt, *system = s->args.system;
	enum rc rc = jx_str(line, "prompt", &prompt, e);

	if (!rc)
		rc = jx_opt_str(line, "system", &system, e);
	if (rc)
		return rc;
	return s->args.raw ? raw_ids(s, prompt, out, e) : template_prompt(s->tmpl, system, prompt, out, e);
}

static enum rc tokenize_line(struct tool_session *s, json_t *line, struct err *e)
{
	struct tokens ids = TOKENS_INIT;
	const char *text;
	enum rc rc;

	if (s->args.template) {
		rc = prompt_ids(s, line, &ids, e);
	} else {
		rc = jx_str(line, "text", &text, e);
		if (!rc)
			rc = tokenizer_encode(s->tok, text, strlen(text),
					      s->args.special ? TOKEN_SPECIALS : 0, &ids, e);
	}
	if (!rc)
		tool_print(json_pack("{s:o,s:I}", "tokens", tool_ids(ids.ids, ids.n), "n",
				     (json_int_t)ids.n));
	tokens_release(&ids);
	return rc;
}

enum rc tool_tokenize(struct tool_session *s, struct err *e)
{
	return for_each_line(s, tokenize_line, e);
}

static enum rc detokenize_line(struct tool_session *s, json_t *line, struct err *e)
{
	struct tokens ids = TOKENS_INIT;
	struct buf text = BUF_INIT;
	enum rc rc = tool_read_ids(line, &ids, e);

	if (!rc) {
		tokenizer_decode_text(s->tok, ids.ids, ids.n,
				      s->args.special ? TOKEN_KEEP_SPECIALS : 0, &text);
		tool_print(json_pack("{s:s%}", "text", text.data ? text.data : "", text.len));
	}
	buf_release(&text);
	tokens_release(&ids);
	return rc;
}

enum rc tool_detokenize(struct tool_session *s, struct err *e)
{
	return for_each_line(s, detokenize_line, e);
}

/* --- generate --------------------------------------------------------------------------------- */

struct streamer {
	struct token_stream stream;
};

/* Writes the text of the one sample as it grows. */
static bool on_token(void *ctx, int sample, int32_t id)
{
	struct streamer *w = ctx;
	struct buf b = BUF_INIT;

	(void)sample;
	token_stream_push(&w->stream, id, &b);
	if (b.len)
		fwrite(b.data, 1, b.len, stdout);
	fflush(stdout);
	buf_release(&b);
	return false;
}

static enum rc add_prompt(struct tool_session *s, const json_t *line, struct streamer *w,
			  struct err *e)
{
	const struct tool_args *a = &s->args;
	struct tokens ids = TOKENS_INIT;
	struct infer_req q = {
		.sampling = {(float)a->temperature, (float)a->top_p, (int)a->top_k},
		.max_new = (int)a->max_tokens,
		.name = {(uint64_t)a->seed, RNG_GENERATE, 0, (uint64_t)s->n_lines, 0},
		.n = (int)a->samples,
	};
	enum rc rc = prompt_ids(s, line, &ids, e);

	if (!rc) {
		q.prompt = ids.ids;
		q.n_prompt = (int)ids.n;
		q.stops = template_stops(s->tmpl, &q.n_stops);
		if (a->stream) {
			token_stream_begin(&w->stream, s->tok, a->raw ? TOKEN_CONTINUES : 0);
			q.on_token = on_token;
			q.ctx = w;
		}
		rc = infer_add(s->infer, &q, NULL, e);
	}
	tokens_release(&ids);
	return rc;
}

static void print_answer(struct tool_session *s, const json_t *line, int index, int sample)
{
	struct infer_result r = infer_result(s->infer, index, sample);
	struct buf text = BUF_INIT;
	json_t *v = json_object(), *id = json_object_get(line, "id");

	if (s->args.raw)
		tokenizer_decode_text(s->tok, r.tokens, (size_t)r.n_tokens, TOKEN_CONTINUES, &text);
	else
		template_text(s->tmpl, r.tokens, (size_t)r.n_tokens, &text);
	if (id)
		json_object_set(v, "id", id);
	json_object_set(v, "prompt", json_object_get(line, "prompt"));
	json_object_set_new(v, "sample", json_integer(sample));
	json_object_set_new(v, "text", json_stringn_nocheck(text.data ? text.data : "", text.len));
	json_object_set_new(v, "tokens", tool_ids(r.tokens, (size_t)r.n_tokens));
	json_object_set_new(v, "finish", json_string(r.finish == INFER_STOP ? "stop" : "length"));
	json_object_set_new(v, "logp", json_real(r.logp));
	tool_print(v);
	buf_release(&text);
}

/* Runs what was added for `lines` and prints it in order. */
static enum rc answer_batch(struct tool_session *s, json_t *lines, struct err *e)
{
	enum rc rc = infer_run(s->infer, NULL, NULL, e);

	for (size_t i = 0; !rc && !s->args.stream && i < json_array_size(lines); i++)
		for (int k = 0; k < (int)s->args.samples; k++)
			print_answer(s, json_array_get(lines, i), (int)i, k);
	if (!rc && s->args.stream && json_array_size(lines))
		putchar('\n');
	infer_clear(s->infer);
	json_array_clear(lines);
	return rc;
}

enum rc tool_generate(struct tool_session *s, struct err *e)
{
	json_t *lines = json_array(), *line;
	struct streamer w;
	size_t batch = s->args.stream ? 1 : BATCH;
	enum rc rc = RC_OK;

	if (s->args.stream && s->args.samples > 1)
		rc = err_set(e, RC_INVALID, "--stream shows one sample, not %lld",
			     (long long)s->args.samples);
	while (!rc && !(rc = tool_next(s, &line, e)) && line) {
		rc = add_prompt(s, line, &w, e);
		if (rc)
			err_wrap(e, "line %lld", (long long)s->n_lines);
		json_array_append_new(lines, line);
		if (!rc && json_array_size(lines) == batch)
			rc = answer_batch(s, lines, e);
	}
	if (!rc)
		rc = answer_batch(s, lines, e);
	json_decref(lines);
	return rc;
}

/* --- score ------------------------------------------------------------------------------------ */

static enum rc response_ids(struct tool_session *s, const json_t *line, struct tokens *out,
			    struct err *e)
{
	const char *text;
	enum rc rc = jx_str(line, "response", &text, e);

	if (rc)
		return rc;
	if (s->args.raw)
		return tokenizer_encode(s->tok, text, strlen(text), TOKEN_CONTINUES, out, e);
	return template_response(s->tmpl, text, out, e);
}

static enum rc score_line(struct tool_session *s, json_t *line, struct err *e)
{
	struct tokens ids = TOKENS_INIT;
	float *logp = NULL;
	double sum = 0;
	size_t n_prompt, n;
	enum rc rc = prompt_ids(s, line, &ids, e);

	n_prompt = ids.n;
	if (!rc)
		rc = response_ids(s, line, &ids, e);
	n = ids.n - n_prompt;
	logp = mem_array(n + 1, sizeof(*logp));
	if (!rc && ids.n > INT32_MAX)
		rc = err_set(e, RC_INVALID, "%zu tokens", ids.n);
	if (!rc && n)
		rc = infer_score(s->infer, ids.ids, (int)ids.n, (int)n_prompt, logp, e);
	for (size_t i = 0; i < n; i++)
		sum += (double)logp[i];
	if (!rc) {
		json_t *v = json_object();
		if (json_object_get(line, "id"))
			json_object_set(v, "id", json_object_get(line, "id"));
		json_object_set_new(v, "logp", json_real(sum));
		json_object_set_new(v, "n_tokens", json_integer((json_int_t)n));
		json_object_set_new(v, "n_prompt", json_integer((json_int_t)n_prompt));
		tool_print(v);
	}
	free(logp);
	tokens_release(&ids);
	return rc;
}

enum rc tool_score(struct tool_session *s, struct err *e)
{
	return for_each_line(s, score_line, e);
}

/* --- logits ----------------------------------------------------------------------------------- */

static enum rc given_ids(struct tool_session *s, const json_t *line, struct tokens *out,
			 struct err *e)
{
	const char *text;
	enum rc rc;

	if (json_object_get(line, "tokens"))
		return tool_read_ids(line, out, e);
	rc = jx_str(line, "text", &text, e);
	return rc ? rc : raw_ids(s, text, out, e);
}

static enum rc append_floats(const char *path, bool first, const float *x, size_t n, struct err *e)
{
	FILE *f = fopen(path, first ? "wb" : "ab");

	if (!f)
		return err_set(e, err_from_errno(errno), "open %s: %m", path);
	size_t put = fwrite(x, sizeof(*x), n, f);
	if (fclose(f) || put != n)
		return err_set(e, RC_IO, "write %s: %m", path);
	return RC_OK;
}

static enum rc logits_line(struct tool_session *s, json_t *line, struct err *e)
{
	struct tokens ids = TOKENS_INIT;
	size_t vocab = (size_t)infer_config(s->infer)->vocab, floats;
	float *out = NULL;
	enum rc rc = given_ids(s, line, &ids, e);

	floats = ids.n * vocab;
	if (!rc && ids.n > (size_t)infer_context(s->infer))
		rc = err_set(e, RC_INVALID, "%zu tokens, but the context holds %d", ids.n,
			     infer_context(s->infer));
	if (!rc && !(out = mem_try(floats * sizeof(*out))))
		rc = err_set(e, RC_NOMEM, "%zu logits", floats);
	if (!rc)
		rc = infer_logits(s->infer, ids.ids, (int)ids.n, out, e);
	if (!rc)
		rc = append_floats(s->args.out, s->n_lines == 1, out, floats, e);
	if (!rc)
		tool_print(json_pack("{s:o,s:I,s:I}", "tokens", tool_ids(ids.ids, ids.n), "n",
				     (json_int_t)ids.n, "vocab", (json_int_t)vocab));
	mem_try_free(out, floats * sizeof(*out));
	tokens_release(&ids);
	return rc;
}

enum rc tool_logits(struct tool_session *s, struct err *e)
{
	if (!s->args.out)
		return err_set(e, RC_INVALID, "--out FILE is missing");
	return for_each_line(s, logits_line, e);
}
