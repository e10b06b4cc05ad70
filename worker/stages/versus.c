/* Two models' greedy answers to the test prompts, against each other in both orders.
 *
 * in   ours and theirs (`generations` of `eval`), or model and other (checkpoints that are asked here);
 *      test (prompt rows, whose own meta.reference or meta.answer stands for theirs where there is
 *      neither: an answer to measure against, as AlpacaEval does); params.name: whom we are compared with
 * out  h2h, figures h2h.*, as those of `eval`
 * The judge is that of eval.head_to_head; a model judges by itself: the one that is called ours.
 */
#include "worker/stages/stages.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "worker/stage.h"
#include "worker/stages/dueling.h"
#include "worker/stages/judging.h"
#include "worker/stages/textgen.h"

#include <stdlib.h>
#include <string.h>

#define VERSUS_ROWS_MAX (1u << 20)

struct versus {
	struct stage_ctx *ctx;
	struct textgen *gen;
	json_t *test, *answers[2]; /* ours, theirs; owned */
	int chunk, max_new;
};

static enum rc answer_chunk(struct versus *s, struct textgen *gen, size_t at, size_t end,
			    struct stage_rows *rows, struct err *e)
{
	int *index = mem_array(end - at + 1, sizeof *index);
	enum rc rc = RC_OK;

	textgen_clear(gen);
	for (size_t i = at; rc == RC_OK && i < end; i++) {
		const json_t *row = json_array_get(s->test, i);
		struct textgen_req q = {.prompt = jx_get_str(row, "prompt", ""),
					.sampling = {.top_p = 1, .max_new = s->max_new},
					.stage = RNG_EVAL,
					.iter = (uint32_t)s->ctx->iter,
					.item = stage_item(jx_get_str(row, "id", "")),
					.n = 1};

		rc = textgen_add(gen, &q, &index[i - at], e);
	}
	if (rc == RC_OK)
		rc = textgen_run(gen, e);
	for (size_t i = at; rc == RC_OK && i < end; i++) {
		const json_t *row = json_array_get(s->test, i);
		json_t *v = json_pack("{s:O, s:O, s:{s:s}}", "id", json_object_get(row, "id"), "prompt",
				      json_object_get(row, "prompt"), "greedy", "text",
				      textgen_result(gen, index[i - at], 0)->text);

		rc = stage_rows_add(rows, v, e);
		json_decref(v);
	}
	free(index);
	return rc == RC_OK ? stage_rows_mark(rows, NULL, e) : rc;
}

/* Working rows, never an output: a checkpoint holds them. */
static enum rc answer(struct versus *s, const char *role, const char *rows_role, json_t **out,
		      struct err *e)
{
	struct stage_rows rows = {.fd = -1};
	struct textgen *gen = NULL;
	size_t n = json_array_size(s->test);
	enum rc rc = stage_rows_open(s->ctx, rows_role, &rows, e);

	if (rc == RC_OK && (size_t)rows.n < n)
		rc = textgen_open(s->ctx, stage_in(s->ctx, role),
				  jx_get_str(s->ctx->spec, "template", "plain"), &gen, e);
	for (size_t at = (size_t)rows.n; rc == RC_OK && at < n; at += (size_t)s->chunk)
		rc = answer_chunk(s, gen, at, at + (size_t)s->chunk < n ? at + (size_t)s->chunk : n, &rows,
				  e);
	if (rc == RC_OK)
		rc = stage_rows_load(&rows, out, e);
	stage_rows_release(&rows);
	textgen_close(gen);
	return rc;
}

static enum rc references(const struct versus *s, json_t **out, struct err *e)
{
	const json_t *row;
	size_t i;

	*out = json_array();
	json_array_foreach(s->test, i, row) {
		const char *text = judging_reference(json_object_get(row, "meta"));

		if (text)
			json_array_append_new(*out, json_pack("{s:O, s:{s:s}}", "id",
							      json_object_get(row, "id"), "greedy", "text",
							      text));
	}
	return json_array_size(*out) > 0
		       ? RC_OK
		       : err_set(e, RC_INVALID, "versus: no test prompt has a \"reference\" or \"answer\" "
						"to be measured against");
}

static enum rc load(struct versus *s, struct err *e)
{
	static const char *const given[] = {"ours", "theirs"}, *const models[] = {"model", "other"};
	enum rc rc = stage_in_rows(s->ctx, "test", VERSUS_ROWS_MAX, &s->test, e);

	for (int k = 0; rc == RC_OK && k < 2; k++) {
		if (stage_in(s->ctx, given[k]))
			rc = stage_in_rows(s->ctx, given[k], VERSUS_ROWS_MAX, &s->answers[k], e);
		else if (stage_in(s->ctx, models[k]))
			rc = answer(s, models[k], given[k], &s->answers[k], e);
		else if (k == 1)
			rc = references(s, &s->answers[k], e);
		else
			rc = err_set(e, RC_INVALID, "versus: input %s (or %s) is missing", given[k],
				     models[k]);
	}
	return rc;
}

static enum rc judge(struct versus *s, struct err *e)
{
	const json_t *h2h = json_object_get(stage_section(s->ctx, "eval"), "head_to_head");
	struct stage_rows rows = {.fd = -1};
	struct dueling d = {0};
	size_t n;
	struct duel *list = dueling_match(s->answers[0], s->answers[1], s->test, &n);
	enum rc rc = RC_OK;

	if (strcmp(jx_get_str(h2h, "judge", "none"), "model") == 0)
		rc = stage_in(s->ctx, "model")
			     ? textgen_open(s->ctx, stage_in(s->ctx, "model"),
					    jx_get_str(s->ctx->spec, "template", "plain"), &s->gen, e)
			     : err_set(e, RC_INVALID, "versus: input model is missing: it is the judge");
	if (rc == RC_OK)
		rc = dueling_open(&d, s->ctx, h2h, s->gen, e);
	if (rc == RC_OK)
		rc = stage_rows_open(s->ctx, "h2h", &rows, e);
	if (rc == RC_OK)
		rc = dueling_all(&d, &rows, list, n, s->chunk, 0, (int64_t)n, e);
	if (rc == RC_OK)
		rc = dueling_finish(&d, &rows, list, n, jx_get_str(s->ctx->params, "name", "other"), e);
	dueling_close(&d);
	stage_rows_release(&rows);
	free(list);
	return rc;
}

enum rc stage_versus(struct stage_ctx *ctx, struct err *e)
{
	struct versus s = {.ctx = ctx};
	enum rc rc;

	s.chunk = (int)jx_get_i64(stage_section(ctx, "judge"), "chunk", 64);
	s.max_new = (int)jx_get_i64(stage_section(ctx, "eval"), "max_new_tokens", 256);
	if (s.chunk < 1)
		return err_set(e, RC_INVALID, "versus: chunk %d", s.chunk);
	rc = load(&s, e);
	if (rc == RC_OK)
		rc = judge(&s, e);
	textgen_close(s.gen);
	json_decref(s.test);
	json_decref(s.answers[0]);
	json_decref(s.answers[1]);
	return rc;
}
