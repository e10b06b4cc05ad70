#include "worker/stages/textgen.h"

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "kernels/kernels.h"
#include "worker/model/infer.h"
#include "worker/model/template.h"
#include "worker/model/token.h"
#include "worker/model/weights.h"
#include "worker/stage.h"

#include <stdlib.h>
#include <string.h>

/* One sample while it grows, for requests that stop at a text. */
struct watcher {
	struct token_stream stream;
	struct buf text;
};

struct request {
	struct tokens prompt;
	int number; /* in the engine; -1 when the prompt is too long */
	int n;
	bool raw;
	char *stop_text;            /* owned, or NULL */
	struct watcher *watch;      /* [n] with stop_text */
	struct textgen_result *out; /* [n], owned */
};

struct textgen {
	struct stage_ctx *ctx; /* borrowed */
	struct tokenizer *tok;
	struct template *tmpl;
	struct infer *infer;
	struct request **reqs; /* pointers: the engine calls back with them */
	int n, cap;
	enum kern_format weights;
	int64_t tokens_counted; /* told to the job already */
	int64_t tokens_needed;  /* of prompts, once for each sample */
};

enum rc textgen_open(struct stage_ctx *ctx, const char *model_dir, const char *template_name,
		     struct textgen **out, struct err *e)
{
	struct textgen *g = mem_new(sizeof *g);
	struct infer_opts opts = {0};

	g->ctx = ctx;
	enum rc rc = weights_format_parse(
		jx_get_str(stage_section(ctx, "engine"), "weights", "f32"), &opts.weights, e);
	if (rc == RC_OK)
		rc = tokenizer_load(model_dir, &g->tok, e);
	if (rc == RC_OK)
		rc = template_open(template_name, g->tok, &g->tmpl, e);
	if (rc == RC_OK)
		rc = stage_engine_open(ctx, opts.weights, e);
	opts.coll = ctx->coll;
	if (rc == RC_OK)
		rc = infer_open(model_dir, stage_kern(ctx), stage_pool(ctx), &opts, &g->infer, e);
	if (rc == RC_OK && tokenizer_vocab(g->tok) > infer_config(g->infer)->vocab)
		rc = err_set(e, RC_INVALID, "%s: the tokenizer has ids up to %d, the model only %d",
			     model_dir, tokenizer_vocab(g->tok) - 1, infer_config(g->infer)->vocab);
	if (rc != RC_OK) {
		textgen_close(g);
		return rc;
	}
	g->weights = opts.weights;
	*out = g;
	return RC_OK;
}

static void free_request(struct request *r)
{
	for (int i = 0; i < r->n; i++) {
		if (r->watch)
			buf_release(&r->watch[i].text);
		free(r->out[i].text);
		free(r->out[i].tokens);
	}
	tokens_release(&r->prompt);
	free(r->watch);
	free(r->out);
	free(r->stop_text);
	free(r);
}

void textgen_clear(struct textgen *g)
{
	if (g->infer)
		infer_clear(g->infer);
	for (int i = 0; i < g->n; i++)
		free_request(g->reqs[i]);
	g->n = 0;
}

void textgen_close(struct textgen *g)
{
	if (!g)
		return;
	textgen_clear(g);
	if (g->infer)
		infer_free(g->infer);
	if (g->tmpl)
		template_free(g->tmpl);
	if (g->tok)
		tokenizer_free(g->tok);
	free(g->reqs);
	free(g);
}

/* Turns one after the other; one BOS in front, and before every turn where the family has it so. */
static enum rc later_turn(struct textgen *g, const struct textgen_req *q, struct tokens *out,
			  struct err *e)
{
	bool each = strcmp(template_name(g->tmpl), "llama-2") == 0;
	enum rc rc = template_prompt(g->tmpl, NULL, q->before[0], out, e);

	if (rc == RC_OK)
		rc = template_response(g->tmpl, q->before[1], out, e);
	size_t at = out->n;
	if (rc == RC_OK)
		rc = template_prompt(g->tmpl, NULL, q->prompt, out, e);
	if (rc == RC_OK && !each && at < out->n && out->ids[at] == tokenizer_bos(g->tok)) {
		memmove(out->ids + at, out->ids + at + 1, (out->n - at - 1) * sizeof *out->ids);
		out->n--;
	}
	return rc;
}

static enum rc make_prompt(struct textgen *g, const struct textgen_req *q, struct tokens *out,
			   struct err *e)
{
	if (!q->raw && q->before[0])
		return later_turn(g, q, out, e);
	if (!q->raw)
		return template_prompt(g->tmpl, NULL, q->prompt, out, e);
	if (tokenizer_bos(g->tok) >= 0)
		tokens_push(out, tokenizer_bos(g->tok));
	return tokenizer_encode(g->tok, q->prompt, strlen(q->prompt), 0, out, e);
}

/* Ends a sample once its text holds the stop text. */
static bool on_token(void *ctx, int sample, int32_t id)
{
	struct request *r = ctx;
	struct watcher *w = &r->watch[sample];
	size_t stop_len = strlen(r->stop_text), had = w->text.len;

	token_stream_push(&w->stream, id, &w->text);
	size_t from = had > stop_len ? had - stop_len : 0;
	return w->text.len > 0 && strstr(w->text.data + from, r->stop_text) != NULL;
}

static void start_watching(struct textgen *g, struct request *r)
{
	r->watch = mem_array((size_t)r->n, sizeof *r->watch);
	for (int i = 0; i < r->n; i++)
		token_stream_begin(&r->watch[i].stream, g->tok, 0);
}

static enum rc submit(struct textgen *g, const struct textgen_req *q, struct request *r,
		      struct err *e)
{
	int n_stops;
	const int32_t *stops = template_stops(g->tmpl, &n_stops);
	struct infer_req req = {
		.prompt = r->prompt.ids,
		.n_prompt = (int)r->prompt.n,
		.sampling = {q->sampling.temperature, q->sampling.top_p, q->sampling.top_k},
		.max_new = q->sampling.max_new,
		.stop_repeats = q->sampling.stop_repeats,
		.stops = stops,
		.n_stops = n_stops,
		.name = {g->ctx->seed, q->stage, q->iter, q->item, q->sample},
		.n = q->n,
	};

	if (q->stop_text) {
		start_watching(g, r);
		req.on_token = on_token;
		req.ctx = r;
	}
	g->tokens_needed += (int64_t)req.n_prompt * req.n;
	return infer_add(g->infer, &req, &r->number, e);
}

enum rc textgen_add(struct textgen *g, const struct textgen_req *q, int *index, struct err *e)
{
	struct request *r = mem_new(sizeof *r);
	enum rc rc = RC_OK;

	r->n = q->n;
	r->raw = q->raw;
	r->number = -1;
	r->out = mem_array((size_t)q->n, sizeof *r->out);
	r->stop_text = q->stop_text ? mem_str(q->stop_text) : NULL;
	rc = make_prompt(g, q, &r->prompt, e);
	bool fits = rc == RC_OK && r->prompt.n > 0 &&
		    r->prompt.n < (size_t)infer_context(g->infer);
	if (fits)
		rc = submit(g, q, r, e);
	if (rc != RC_OK) {
		free_request(r);
		return rc;
	}
	for (int i = 0; i < q->n; i++)
		r->out[i].too_long = !fits;
	if (g->n == g->cap) {
		g->cap = g->cap ? 2 * g->cap : 64;
		g->reqs = mem_grow(g->reqs, (size_t)g->cap, sizeof *g->reqs);
	}
	*index = g->n;
	g->reqs[g->n++] = r;
	return RC_OK;
}

/* --- results --------------------------------------------------------------------------------- */

static bool must_stop(void *ctx)
{
	return stage_must_abort(ctx);
}

static void take_text(struct textgen *g, const struct request *r, struct textgen_result *out)
{
	struct buf text = BUF_INIT;

	if (r->raw)
		tokenizer_decode_text(g->tok, out->tokens, (size_t)out->n_tokens, 0, &text);
	else
		template_text(g->tmpl, out->tokens, (size_t)out->n_tokens, &text);
	out->text = buf_detach(&text);
	char *cut = r->stop_text ? strstr(out->text, r->stop_text) : NULL;
	if (cut)
		*cut = 0;
}

static void take_result(struct textgen *g, struct request *r, int sample)
{
	struct textgen_result *out = &r->out[sample];

	if (out->too_long) {
		out->text = mem_str("");
		return;
	}
	struct infer_result res = infer_result(g->infer, r->number, sample);
	out->tokens = mem_array((size_t)res.n_tokens + 1, sizeof *out->tokens);
	if (res.n_tokens > 0)
		memcpy(out->tokens, res.tokens, (size_t)res.n_tokens * sizeof *out->tokens);
	out->n_tokens = res.n_tokens;
	out->stopped = res.finish == INFER_STOP;
	out->logp = res.logp;
	take_text(g, r, out);
}

enum rc textgen_run(struct textgen *g, struct err *e)
{
	enum rc rc = infer_run(g->infer, must_stop, g->ctx, e);

	if (rc != RC_OK)
		return rc == RC_CANCELLED ? stage_stopped(g->ctx, e) : rc;
	for (int i = 0; i < g->n; i++)
		for (int k = 0; k < g->reqs[i]->n; k++)
			if (!g->reqs[i]->out[k].text)
				take_result(g, g->reqs[i], k);
	const struct infer_stats *s = infer_stats(g->infer);
	int64_t tokens = s->prompt_tokens + s->sampled_tokens;
	stage_tokens(g->ctx, tokens - g->tokens_counted);
	g->tokens_counted = tokens;
	return RC_OK;
}

const struct textgen_result *textgen_result(const struct textgen *g, int index, int sample)
{
	return &g->reqs[index]->out[sample];
}

const int32_t *textgen_prompt(const struct textgen *g, int index, int *n)
{
	*n = (int)g->reqs[index]->prompt.n;
	return g->reqs[index]->prompt.ids;
}

int textgen_context(const struct textgen *g)
{
	return infer_context(g->infer);
}

void textgen_meta(const struct textgen *g, json_t *meta)
{
	char sha[SHA256_HEX_SIZE];
	json_t *templates = json_object_get(meta, "templates");

	if (!templates) {
		templates = json_object();
		json_object_set_new(meta, "templates", templates);
	}
	if (template_sha256(template_name(g->tmpl), sha, NULL) == RC_OK)
		json_object_set_new(templates, template_name(g->tmpl), json_string(sha));
	json_object_set_new(meta, "precision",
			    json_pack("{s:s}", "weights", weights_format_name(g->weights)));
}

/* After blocks were taken away more can be computed than was asked for. */
static double reused_share(const struct textgen *g)
{
	double share = 1 - (double)infer_stats(g->infer)->prefill_tokens / (double)g->tokens_needed;

	return share > 0 ? share : 0;
}

void textgen_report(const struct textgen *g)
{
	const struct infer_stats *s = infer_stats(g->infer);

	stage_final(g->ctx, "gen.prompt_tokens", json_integer(s->prompt_tokens));
	stage_final(g->ctx, "gen.reused_tokens", json_integer(s->reused_tokens));
	stage_final(g->ctx, "gen.sampled_tokens", json_integer(s->sampled_tokens));
	stage_final(g->ctx, "gen.seconds", json_real(s->seconds));
	if (s->seconds <= 0 || g->tokens_needed == 0) /* Nothing was left to do. */
		return;
	stage_final(g->ctx, "speed.tokens_per_s", json_real((double)s->sampled_tokens / s->seconds));
	stage_final(g->ctx, "speed.prompt_tokens_per_s",
		    json_real((double)s->prompt_tokens / s->seconds));
	stage_final(g->ctx, "speed.reused_share", json_real(reused_share(g)));
}
