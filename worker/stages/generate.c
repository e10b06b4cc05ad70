/* Candidates: spec.generate.n answers of the current model to each prompt of the shard.
 *
 * in   model (checkpoint), prompts (dataset {"id","prompt","meta"}); params.from, params.to: rows
 *      past (checkpoint, optional): another model, which adds generate.past_n answers of its own; their
 *      candidates say so: "source_model":"past"
 * out  responses {"id","prompt","prompt_tokens","candidates":[{"index","text","tokens","finish",
 *      "logp"}],"meta"}
 * Streams: (seed, RNG_GENERATE, iteration, item = prompt id, sample = candidate), so neither the
 * shard nor the chunk a prompt falls into changes its candidates.
 */
#include "worker/stages/stages.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "worker/stage.h"
#include "worker/stages/textgen.h"

#include <string.h>

#define PROMPTS_MAX (4u << 20)

struct generate {
	struct stage_ctx *ctx;
	struct textgen *gen, *past; /* past: NULL without another model */
	json_t *prompts;
	int64_t from, to;
	int n, n_past, chunk;
	struct textgen_sampling sampling;
	/* Counters of this attempt's rows and the resumed. */
	int64_t candidates, finished, tokens, too_long;
	struct stage_rows rows;
};

static json_t *ids_json(const int32_t *ids, int n)
{
	json_t *list = json_array();

	for (int i = 0; i < n; i++)
		json_array_append_new(list, json_integer(ids[i]));
	return list;
}

static json_t *candidate_json(struct generate *s, const struct textgen_result *r, int index)
{
	s->candidates++;
	s->finished += r->stopped;
	s->tokens += r->n_tokens;
	return json_pack("{s:i, s:s, s:o, s:s, s:f}", "index", index, "text", r->text, "tokens",
			 ids_json(r->tokens, r->n_tokens), "finish", r->stopped ? "stop" : "length",
			 "logp", r->logp);
}

static void add_candidates(struct generate *s, const struct textgen *gen, int index, int first, int n,
			   json_t *list)
{
	for (int k = 0; k < n; k++) {
		const struct textgen_result *r = textgen_result(gen, index, k);

		if (r->too_long) /* No room to answer: no candidates, and pair says too_few. */
			continue;
		json_t *c = candidate_json(s, r, first + k);
		if (gen == s->past)
			json_object_set_new(c, "source_model", json_string("past"));
		json_array_append_new(list, c);
	}
}

static enum rc add_row(struct generate *s, const json_t *prompt, int index, struct err *e)
{
	json_t *list = json_array();
	int n_ids;
	const int32_t *ids = textgen_prompt(s->gen, index, &n_ids);

	add_candidates(s, s->gen, index, 0, s->n, list);
	if (s->past)
		add_candidates(s, s->past, index, s->n, s->n_past, list);
	s->too_long += json_array_size(list) == 0;
	json_t *row = json_pack("{s:O, s:O, s:o, s:o, s:O*}", "id", json_object_get(prompt, "id"), "prompt",
				json_object_get(prompt, "prompt"), "prompt_tokens",
				ids_json(ids, n_ids), "candidates", list, "meta",
				json_object_get(prompt, "meta"));
	enum rc rc = stage_rows_add(&s->rows, row, e);
	json_decref(row);
	return rc;
}

static enum rc request(struct generate *s, struct textgen *gen, const json_t *prompt, struct err *e)
{
	bool past = gen == s->past;
	const char *id, *text;
	int index;
	enum rc rc = jx_str(prompt, "id", &id, e);

	if (rc == RC_OK)
		rc = jx_str(prompt, "prompt", &text, e);
	if (rc != RC_OK)
		return err_wrap(e, "input prompts");
	struct textgen_req q = {.prompt = text,
				.sampling = s->sampling,
				.stage = RNG_GENERATE,
				.iter = (uint32_t)s->ctx->iter,
				.item = stage_item(id),
				.sample = past ? (uint32_t)s->n : 0,
				.n = past ? s->n_past : s->n};
	return textgen_add(gen, &q, &index, e);
}

static json_t *state_json(const struct generate *s)
{
	return json_pack("{s:I, s:I, s:I, s:I}", "candidates", (json_int_t)s->candidates, "finished",
			 (json_int_t)s->finished, "tokens", (json_int_t)s->tokens, "too_long",
			 (json_int_t)s->too_long);
}

static enum rc one_chunk(struct generate *s, int64_t at, int64_t end, struct err *e)
{
	struct textgen *models[] = {s->gen, s->past};
	enum rc rc = RC_OK;

	for (int k = 0; rc == RC_OK && k < 2 && models[k]; k++) {
		textgen_clear(models[k]);
		for (int64_t i = at; rc == RC_OK && i < end; i++)
			rc = request(s, models[k], json_array_get(s->prompts, (size_t)i), e);
		if (rc == RC_OK)
			rc = textgen_run(models[k], e);
	}
	for (int64_t i = at; rc == RC_OK && i < end; i++)
		rc = add_row(s, json_array_get(s->prompts, (size_t)i), (int)(i - at), e);
	stage_progress(s->ctx, s->rows.n, s->to - s->from, "prompts");
	return rc == RC_OK ? stage_rows_mark(&s->rows, state_json(s), e) : rc;
}

static enum rc configure(struct generate *s, struct err *e)
{
	const json_t *c = stage_section(s->ctx, "generate"), *p = s->ctx->params;
	int64_t total = (int64_t)json_array_size(s->prompts);

	s->n = (int)jx_get_i64(p, "n", jx_get_i64(c, "n", 4));
	s->n_past = (int)jx_get_i64(c, "past_n", 2);
	s->chunk = (int)jx_get_i64(c, "chunk", 64);
	s->sampling = (struct textgen_sampling){
		.temperature = (float)jx_get_f64(c, "temperature", 0.7),
		.top_p = (float)jx_get_f64(c, "top_p", 0.9),
		.top_k = (int)jx_get_i64(c, "top_k", 0),
		.max_new = (int)jx_get_i64(c, "max_new_tokens", 512),
		.stop_repeats = (int)jx_get_i64(c, "stop_repeats", 0),
	};
	s->from = jx_get_i64(p, "from", 0);
	s->to = jx_get_i64(p, "to", total);
	if (s->to > total)
		s->to = total;
	if (s->from < 0 || s->from > s->to || s->n < 1 || s->chunk < 1)
		return err_set(e, RC_INVALID, "generate: rows %lld to %lld of %lld, n %d, chunk %d",
			       (long long)s->from, (long long)s->to, (long long)total, s->n, s->chunk);
	s->candidates = jx_get_i64(s->rows.state, "candidates", 0);
	s->finished = jx_get_i64(s->rows.state, "finished", 0);
	s->tokens = jx_get_i64(s->rows.state, "tokens", 0);
	s->too_long = jx_get_i64(s->rows.state, "too_long", 0);
	return RC_OK;
}

static enum rc finish(struct generate *s, struct err *e)
{
	if (s->too_long > 0 && s->too_long == s->to - s->from)
		return err_set(e, RC_INVALID,
			       "generate: no prompt of rows %lld to %lld leaves room for an answer in "
			       "the context of %d tokens",
			       (long long)s->from, (long long)s->to, textgen_context(s->gen));
	if (s->too_long > 0)
		log_warn("generate", "prompts longer than the context", "n=%lld of=%lld context=%d",
			 (long long)s->too_long, (long long)(s->to - s->from), textgen_context(s->gen));
	json_t *meta = state_json(s);

	stage_final(s->ctx, "generate.too_long", json_integer(s->too_long));
	textgen_meta(s->gen, meta);
	stage_final(s->ctx, "generate.candidates", json_integer(s->candidates));
	stage_final(s->ctx, "generate.finished", json_integer(s->finished));
	if (s->candidates > 0)
		stage_final(s->ctx, "generate.mean_tokens",
			    json_real((double)s->tokens / (double)s->candidates));
	textgen_report(s->gen);
	return stage_rows_finish(&s->rows, meta, e);
}

enum rc stage_generate(struct stage_ctx *ctx, struct err *e)
{
	struct generate s = {.ctx = ctx, .rows.fd = -1};
	const char *model = stage_in(ctx, "model");
	enum rc rc = model ? stage_in_rows(ctx, "prompts", PROMPTS_MAX, &s.prompts, e)
			   : err_set(e, RC_INVALID, "generate: input model is missing");

	if (rc == RC_OK)
		rc = stage_rows_open(ctx, "responses", &s.rows, e);
	if (rc == RC_OK)
		rc = configure(&s, e);
	if (rc == RC_OK)
		rc = textgen_open(ctx, model, jx_get_str(ctx->spec, "template", "plain"), &s.gen, e);
	if (rc == RC_OK && stage_in(ctx, "past"))
		rc = textgen_open(ctx, stage_in(ctx, "past"),
				  jx_get_str(ctx->spec, "template", "plain"), &s.past, e);
	for (int64_t at = s.from + s.rows.n; rc == RC_OK && at < s.to; at += s.chunk)
		rc = one_chunk(&s, at, at + s.chunk < s.to ? at + s.chunk : s.to, e);
	if (rc == RC_OK)
		rc = finish(&s, e);
	stage_rows_release(&s.rows);
	textgen_close(s.gen);
	textgen_close(s.past);
	json_decref(s.prompts);
	return rc;
}
