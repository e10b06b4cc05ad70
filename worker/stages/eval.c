/* How good is this model: as a judge (against human order), on the test prompts (against the truth
 * when a command knows it), and against its predecessor.
 *
 * in   model; eval (ranked rows) · test (prompt rows) · prev (`generations` of the previous model),
 *      each optional; params.name
 * out  rm {"id","prompt","replies":[{"text","rank","scores":[x|null],"mean":x|null}]}
 *      generations {"id","prompt","greedy":{"text","n_tokens","finish","truth"},"sampled":{…}}
 *      h2h {"id","verdict":"win|tie|loss"|null,"forward","backward"}
 * The figures are computed from the finished rows, so a resumed job has those of an undisturbed one.
 */
#include "worker/stages/eval.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "worker/method/rank.h"
#include "worker/stages/ranked.h"
#include "worker/stages/stages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void eval_number(struct eval *s, const char *name, double value)
{
	stage_final(s->ctx, name, isfinite(value) ? json_real(value) : json_null());
}

/* --- reward model: judging ------------------------------------------------------------------- */

static json_t *reply_json(const struct eval *s, const json_t *reply, const struct judging_item *items)
{
	json_t *scores = ranked_scores(items, s->samples), *mean = NULL;
	struct rank_score sum = {0};

	ranked_sum(scores, &sum);
	if (sum.n > 0)
		mean = json_real((double)sum.sum_milli / 1000 / sum.n);
	return json_pack("{s:O, s:O, s:o, s:o?}", "text", json_object_get(reply, "text"), "rank",
			 json_object_get(reply, "rank"), "scores", scores, "mean", mean);
}

static enum rc add_ranked(struct eval *s, struct stage_rows *rows, const json_t *row,
			  const struct judging_item **at, struct err *e)
{
	json_t *list = json_array(), *r;
	size_t i;

	json_array_foreach(json_object_get(row, "replies"), i, r) {
		json_array_append_new(list, reply_json(s, r, *at));
		*at += s->samples;
	}
	json_t *v = json_pack("{s:O, s:O, s:o}", "id", json_object_get(row, "id"), "prompt",
			      json_object_get(row, "prompt"), "replies", list);
	enum rc rc = stage_rows_add(rows, v, e);
	json_decref(v);
	return rc;
}

static enum rc judge_chunk(struct eval *s, struct stage_rows *rows, size_t at, size_t end,
			   struct err *e)
{
	struct judging_item *items = NULL;
	const struct judging_item *next;
	size_t n = 0;
	enum rc rc = RC_OK;

	for (size_t i = at; rc == RC_OK && i < end; i++)
		rc = ranked_items(json_array_get(s->ranked, i), s->samples, "eval", &items, &n, e);
	if (rc == RC_OK)
		rc = judging_run(&s->judging, items, (int)n, e);
	next = items;
	for (size_t i = at; rc == RC_OK && i < end; i++)
		rc = add_ranked(s, rows, json_array_get(s->ranked, i), &next, e);
	for (size_t i = 0; i < n; i++)
		judging_item_release(&items[i]);
	free(items);
	if (rc != RC_OK)
		return rc;
	s->done = rows->n;
	stage_progress(s->ctx, s->done, s->total, "rows");
	return stage_rows_mark(rows, judging_counters(&s->judging), e);
}

/* --- reward model: figures ------------------------------------------------------------------- */

static void tally_row(const struct eval *s, const json_t *row, struct rank_tally *t)
{
	const json_t *replies = json_object_get(row, "replies"), *r;
	size_t n = json_array_size(replies), i;
	int *human = mem_array(n + 1, sizeof *human);
	struct rank_score *scores = mem_array(n + 1, sizeof *scores);

	json_array_foreach(replies, i, r) {
		human[i] = (int)jx_get_i64(r, "rank", 0);
		ranked_sum(json_object_get(r, "scores"), &scores[i]);
	}
	rank_tally_add(t, human, scores, (int)n, s->judging.tmpl.rule.max_milli);
	free(human);
	free(scores);
}

static void report_ranks(struct eval *s, const json_t *rows)
{
	struct rank_tally t;
	const json_t *row;
	size_t i;

	rank_tally_init(&t);
	json_array_foreach(rows, i, row)
		tally_row(s, row, &t);
	struct rank_result r = rank_tally_result(&t);
	eval_number(s, "rm.pairwise_accuracy", r.pairwise);
	eval_number(s, "rm.pairwise_half_ties", r.pairwise_half_ties);
	eval_number(s, "rm.exact_match", r.exact);
	eval_number(s, "rm.five_best", r.five_best);
	stage_final(s->ctx, "rm.five_best_n", json_integer(r.five_best_n));
	eval_number(s, "rm.spearman", r.spearman);
	eval_number(s, "rm.kendall", r.kendall);
	eval_number(s, "rm.ties", r.ties);
	eval_number(s, "rm.coverage", r.coverage);
	stage_final(s->ctx, "rm.instructions", json_integer(r.instructions));
	stage_final(s->ctx, "rm.pairs", json_integer(r.pairs));
	rank_tally_release(&t);
}

static enum rc finish_ranks(struct eval *s, struct stage_rows *rows, struct err *e)
{
	const struct judging *j = &s->judging;
	json_t *all = NULL, *meta = judging_counters(j), *templates = json_object();

	enum rc rc = stage_rows_load(rows, &all, e);
	if (rc != RC_OK) {
		json_decref(meta);
		json_decref(templates);
		return rc;
	}
	report_ranks(s, all);
	json_decref(all);
	stage_final(s->ctx, "judge.score_hist", json_incref(json_object_get(meta, "hist")));
	eval_number(s, "judge.parse_fail", j->items > 0 ? (double)j->failed / (double)j->items : NAN);
	json_object_set_new(templates, j->tmpl.name, json_string(j->tmpl.sha256));
	json_object_set_new(meta, "templates", templates);
	if (!j->by_command)
		textgen_meta(s->gen, meta);
	return stage_rows_finish(rows, meta, e);
}

enum rc eval_reward_model(struct eval *s, struct err *e)
{
	struct stage_rows rows = {.fd = -1};
	size_t n = json_array_size(s->ranked);
	enum rc rc;

	if (n == 0)
		return RC_OK;
	rc = stage_rows_open(s->ctx, "rm", &rows, e);
	if (rc == RC_OK && rows.state)
		judging_counters_load(&s->judging, rows.state);
	for (size_t at = (size_t)rows.n; rc == RC_OK && at < n; at += (size_t)s->chunk)
		rc = judge_chunk(s, &rows, at, at + (size_t)s->chunk < n ? at + (size_t)s->chunk : n, e);
	if (rc == RC_OK)
		rc = finish_ranks(s, &rows, e);
	stage_rows_release(&rows);
	return rc;
}

/* --- the stage ------------------------------------------------------------------------------- */

static enum rc optional_rows(struct eval *s, const char *role, json_t **out, struct err *e)
{
	if (!stage_in(s->ctx, role)) {
		*out = json_array();
		return RC_OK;
	}
	return stage_in_rows(s->ctx, role, EVAL_ROWS_MAX, out, e);
}

static enum rc open_eval(struct eval *s, struct err *e)
{
	const json_t *c = stage_section(s->ctx, "eval");
	const char *model = stage_in(s->ctx, "model");
	enum rc rc;

	s->samples = (int)jx_get_i64(c, "judge_samples", 3);
	s->chunk = (int)jx_get_i64(stage_section(s->ctx, "judge"), "chunk", 64);
	s->sampled = (struct textgen_sampling){
		.temperature = (float)jx_get_f64(c, "temperature", 0.7),
		.top_p = (float)jx_get_f64(c, "top_p", 0.9),
		.max_new = (int)jx_get_i64(c, "max_new_tokens", 256),
	};
	if (!model)
		return err_set(e, RC_INVALID, "eval: input model is missing");
	if (s->samples < 1 || s->samples > JUDGE_PASSES_MAX || s->chunk < 1)
		return err_set(e, RC_INVALID, "eval: judge_samples %d, chunk %d", s->samples, s->chunk);
	if ((rc = optional_rows(s, "eval", &s->ranked, e)) != RC_OK ||
	    (rc = optional_rows(s, "test", &s->test, e)) != RC_OK ||
	    (rc = optional_rows(s, "prev", &s->previous, e)) != RC_OK)
		return rc;
	s->total = (int64_t)(json_array_size(s->ranked) + json_array_size(s->test) +
			     (json_array_size(s->previous) > 0 ? json_array_size(s->test) : 0));
	rc = textgen_open(s->ctx, model, jx_get_str(s->ctx->spec, "template", "plain"), &s->gen, e);
	return rc == RC_OK ? judging_open(&s->judging, s->ctx, NULL, s->gen, RNG_EVAL, e) : rc;
}

enum rc stage_eval(struct stage_ctx *ctx, struct err *e)
{
	struct eval s = {.ctx = ctx};
	enum rc rc = open_eval(&s, e);

	if (rc == RC_OK)
		rc = eval_reward_model(&s, e);
	if (rc == RC_OK)
		rc = eval_generations(&s, e);
	if (rc == RC_OK)
		rc = eval_head_to_head(&s, e);
	if (rc == RC_OK)
		textgen_report(s.gen);
	judging_close(&s.judging);
	textgen_close(s.gen);
	json_decref(s.ranked);
	json_decref(s.test);
	json_decref(s.previous);
	json_decref(s.generations);
	return rc;
}
