/* One pass of judgements over one shard of candidates.
 *
 * in   responses (dataset of `generate`), model (checkpoint: the one in training or another; not needed
 *      by a command or an endpoint); params.pass, params.section (default "judge")
 * out  judgements {"id","pass","items":[{"index","score"|null,"reason"|null,"text","attempts"}]}
 * Streams: (seed, RNG_JUDGE, iteration, prompt id, candidate x pass x attempt).
 */
#include "worker/stages/stages.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "worker/stage.h"
#include "worker/stages/judging.h"
#include "worker/stages/textgen.h"

#include <stdlib.h>
#include <string.h>

#define RESPONSES_MAX (4u << 20)

struct judge {
	struct stage_ctx *ctx;
	struct textgen *gen;
	struct judging judging;
	json_t *responses;
	int pass, chunk;
	struct stage_rows rows;
};

static json_t *item_json(const struct judging_item *it)
{
	json_t *reason = it->reason == JUDGE_OK ? json_null()
						: json_string(judge_reason_text(it->reason));

	return json_pack("{s:i, s:o, s:o, s:s, s:i}", "index", it->candidate, "score",
			 judging_score(it), "reason", reason, "text", it->text ? it->text : "",
			 "attempts", it->attempts);
}

static enum rc add_row(struct judge *s, const json_t *response, const struct judging_item *items,
		       size_t n, struct err *e)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, item_json(&items[i]));
	json_t *row = json_pack("{s:O, s:i, s:o}", "id", json_object_get(response, "id"), "pass",
				s->pass, "items", list);
	enum rc rc = stage_rows_add(&s->rows, row, e);
	json_decref(row);
	return rc;
}

/* Fills items of one response row; returns how many. */
static enum rc collect(struct judge *s, const json_t *row, struct judging_item *items, size_t *n,
		       struct err *e)
{
	const json_t *list, *c;
	const char *id, *prompt, *text;
	int64_t index;
	size_t i;
	enum rc rc;

	if ((rc = jx_str(row, "id", &id, e)) != RC_OK || (rc = jx_str(row, "prompt", &prompt, e)) != RC_OK ||
	    (rc = jx_arr(row, "candidates", (json_t **)&list, e)) != RC_OK)
		return err_wrap(e, "input responses");
	json_array_foreach((json_t *)list, i, c) {
		if ((rc = jx_str(c, "text", &text, e)) != RC_OK ||
		    (rc = jx_i64(c, "index", 0, 1 << 20, &index, e)) != RC_OK)
			return err_wrap(e, "input responses: %s", id);
		items[(*n)++] = (struct judging_item){.id = id,
						      .prompt = prompt,
						      .response = text,
						      .meta = json_object_get(row, "meta"),
						      .candidate = (int)index,
						      .pass = s->pass};
	}
	return RC_OK;
}

static size_t candidates_of(const json_t *row)
{
	return json_array_size(json_object_get(row, "candidates"));
}

static enum rc one_chunk(struct judge *s, size_t at, size_t end, struct err *e)
{
	size_t total = 0, n = 0, done = 0;
	enum rc rc = RC_OK;

	for (size_t i = at; i < end; i++)
		total += candidates_of(json_array_get(s->responses, i));
	struct judging_item *items = mem_array(total + 1, sizeof *items);
	for (size_t i = at; rc == RC_OK && i < end; i++)
		rc = collect(s, json_array_get(s->responses, i), items, &n, e);
	if (rc == RC_OK)
		rc = judging_run(&s->judging, items, (int)n, e);
	for (size_t i = at; rc == RC_OK && i < end; i++) {
		const json_t *row = json_array_get(s->responses, i);

		rc = add_row(s, row, items + done, candidates_of(row), e);
		done += candidates_of(row);
	}
	for (size_t i = 0; i < n; i++)
		judging_item_release(&items[i]);
	free(items);
	stage_progress(s->ctx, s->rows.n, (int64_t)json_array_size(s->responses), "prompts");
	return rc == RC_OK ? stage_rows_mark(&s->rows, judging_counters(&s->judging), e) : rc;
}

static enum rc open_judge(struct judge *s, struct err *e)
{
	const json_t *c = stage_section(s->ctx, jx_get_str(s->ctx->params, "section", "judge"));
	const char *model = stage_in(s->ctx, "model"), *kind = jx_get_str(c, "kind", "model");
	bool by_model = strcmp(kind, "model") == 0 || strcmp(kind, "checkpoint") == 0;
	enum rc rc = RC_OK;

	s->pass = (int)jx_get_i64(s->ctx->params, "pass", s->ctx->pass);
	s->chunk = (int)jx_get_i64(c, "chunk", 64);
	if (s->pass < 0 || s->pass >= JUDGE_PASSES_MAX || s->chunk < 1)
		return err_set(e, RC_INVALID, "judge: pass %d, chunk %d", s->pass, s->chunk);
	if (by_model && !model)
		return err_set(e, RC_INVALID, "judge: input model is missing");
	if (by_model)
		rc = textgen_open(s->ctx, model, jx_get_str(s->ctx->spec, "template", "plain"), &s->gen, e);
	if (rc == RC_OK)
		rc = judging_open(&s->judging, s->ctx, c, s->gen, RNG_JUDGE, e);
	if (rc == RC_OK && s->rows.state)
		judging_counters_load(&s->judging, s->rows.state);
	return rc;
}

static enum rc finish(struct judge *s, struct err *e)
{
	const struct judging *j = &s->judging;
	json_t *meta = judging_counters(j);
	json_t *templates = json_object();

	json_object_set_new(templates, j->tmpl.name, json_string(j->tmpl.sha256));
	json_object_set_new(meta, "templates", templates);
	if (s->gen)
		textgen_meta(s->gen, meta);
	else
		json_object_set_new(meta, "judge", judging_identity(j));
	stage_final(s->ctx, "judge.by", judging_identity(j));
	asker_report(&j->asker, s->ctx, "judge");
	stage_final(s->ctx, "judge.items", json_integer(j->items));
	stage_final(s->ctx, "judge.failed", json_integer(j->failed));
	stage_final(s->ctx, "judge.retries", json_integer(j->retries));
	stage_final(s->ctx, "judge.parse_fail",
		    json_real(j->items > 0 ? (double)j->failed / (double)j->items : 0));
	stage_final(s->ctx, "judge.score_hist", json_incref(json_object_get(meta, "hist")));
	if (s->gen)
		textgen_report(s->gen);
	return stage_rows_finish(&s->rows, meta, e);
}

enum rc stage_judge(struct stage_ctx *ctx, struct err *e)
{
	struct judge s = {.ctx = ctx, .rows.fd = -1};
	enum rc rc = stage_in_rows(ctx, "responses", RESPONSES_MAX, &s.responses, e);

	if (rc == RC_OK)
		rc = stage_rows_open(ctx, "judgements", &s.rows, e);
	if (rc == RC_OK)
		rc = open_judge(&s, e);
	size_t n = json_array_size(s.responses);
	for (size_t at = (size_t)s.rows.n; rc == RC_OK && at < n; at += (size_t)s.chunk)
		rc = one_chunk(&s, at, at + (size_t)s.chunk < n ? at + (size_t)s.chunk : n, e);
	if (rc == RC_OK)
		rc = finish(&s, e);
	stage_rows_release(&s.rows);
	judging_close(&s.judging);
	textgen_close(s.gen);
	json_decref(s.responses);
	return rc;
}
