/* The evaluation's second half: answers to the test prompts, their truth, and the duel with the
 * previous model. */
#include "worker/stages/eval.h"

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "worker/method/winrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SCORER_TIMEOUT_S 600
/* Sample numbers of the streams of this half; judging uses numbers from 0 with the same items. */
#define SAMPLE_TEXT 0x40000000u
#define SAMPLE_DUEL 0x50000000u

static const char *const kinds[] = {"greedy", "sampled"};

/* --- answers --------------------------------------------------------------------------------- */

static enum rc ask(struct eval *s, const json_t *row, int index[2], struct err *e)
{
	const char *id, *prompt;
	enum rc rc = jx_str(row, "id", &id, e);

	if (rc == RC_OK)
		rc = jx_str(row, "prompt", &prompt, e);
	if (rc != RC_OK)
		return err_wrap(e, "input test");
	for (int k = 0; rc == RC_OK && k < 2; k++) {
		struct textgen_req q = {.prompt = prompt,
					.sampling = s->sampled,
					.stage = RNG_EVAL,
					.iter = (uint32_t)s->ctx->iter,
					.item = stage_item(id),
					.sample = SAMPLE_TEXT,
					.n = 1};
		if (k == 0)
			q.sampling.temperature = 0;
		rc = textgen_add(s->gen, &q, &index[k], e);
	}
	return rc;
}

static json_t *answer_json(const struct textgen_result *r)
{
	return json_pack("{s:s, s:i, s:s, s:n}", "text", r->text, "n_tokens", r->n_tokens, "finish",
			 r->stopped ? "stop" : "length", "truth");
}

/* [{"id","prompt","response","meta"}] for all answers of the chunk, two per row. */
static json_t *scorer_rows(const struct eval *s, const json_t *made, size_t at)
{
	json_t *list = json_array();
	const json_t *row;
	size_t i;

	json_array_foreach(made, i, row) {
		json_t *meta = json_object_get(json_array_get(s->test, at + i), "meta");

		for (int k = 0; k < 2; k++)
			json_array_append_new(
				list, json_pack("{s:O, s:O, s:O, s:s, s:O?}", "id",
						json_object_get(row, "id"), "prompt",
						json_object_get(row, "prompt"), "response",
						json_object_get(json_object_get(row, kinds[k]), "text"),
						"kind", kinds[k], "meta", meta));
	}
	return list;
}

static enum rc score_chunk(const struct eval *s, json_t *made, size_t at, struct err *e)
{
	const json_t *scorer = json_object_get(stage_section(s->ctx, "eval"), "scorer");
	const json_t *argv = json_object_get(scorer, "command");
	json_t *answers = NULL, *row;
	size_t i;

	if (json_array_size(argv) == 0 || json_array_size(made) == 0)
		return RC_OK;
	json_t *rows = scorer_rows(s, made, at);
	enum rc rc = judging_command(argv, rows,
				     jx_get_i64(scorer, "timeout_s", SCORER_TIMEOUT_S) * 1000, &answers, e);
	json_decref(rows);
	if (rc != RC_OK)
		return err_wrap(e, "eval.scorer");
	json_array_foreach(made, i, row) {
		for (size_t k = 0; k < 2; k++) {
			json_t *truth = json_array_get(answers, 2 * i + k);

			json_object_del(truth, "id");
			json_object_set(json_object_get(row, kinds[k]), "truth", truth);
		}
	}
	json_decref(answers);
	return RC_OK;
}

static enum rc text_chunk(struct eval *s, struct stage_rows *rows, size_t at, size_t end,
			  struct err *e)
{
	int (*index)[2] = mem_array(end - at + 1, sizeof *index);
	json_t *made = json_array(), *row;
	enum rc rc = RC_OK;
	size_t i;

	textgen_clear(s->gen);
	for (i = at; rc == RC_OK && i < end; i++)
		rc = ask(s, json_array_get(s->test, i), index[i - at], e);
	if (rc == RC_OK)
		rc = textgen_run(s->gen, e);
	for (i = at; rc == RC_OK && i < end; i++) {
		const json_t *in = json_array_get(s->test, i);

		json_array_append_new(
			made, json_pack("{s:O, s:O, s:o, s:o}", "id", json_object_get(in, "id"), "prompt",
					json_object_get(in, "prompt"), "greedy",
					answer_json(textgen_result(s->gen, index[i - at][0], 0)), "sampled",
					answer_json(textgen_result(s->gen, index[i - at][1], 0))));
	}
	free(index);
	if (rc == RC_OK)
		rc = score_chunk(s, made, at, e);
	if (rc == RC_OK)
		json_array_foreach(made, i, row) {
			if ((rc = stage_rows_add(rows, row, e)) != RC_OK)
				break;
		}
	json_decref(made);
	s->done = (int64_t)json_array_size(s->ranked) + rows->n;
	stage_progress(s->ctx, s->done, s->total, "rows");
	return rc == RC_OK ? stage_rows_mark(rows, NULL, e) : rc;
}

/* --- their figures --------------------------------------------------------------------------- */

struct truth_sum {
	double score, tokens;
	int64_t n_score, n_correct, correct, n;
};

static void add_answer(struct truth_sum *t, const json_t *answer)
{
	const json_t *truth = json_object_get(answer, "truth");
	const json_t *score = json_object_get(truth, "score"), *ok = json_object_get(truth, "correct");

	t->n++;
	t->tokens += (double)jx_get_i64(answer, "n_tokens", 0);
	if (json_is_number(score)) {
		t->score += json_number_value(score);
		t->n_score++;
	}
	if (json_is_boolean(ok)) {
		t->correct += json_is_true(ok);
		t->n_correct++;
	}
}

static void report_truth(struct eval *s)
{
	static const char *const names[2][3] = {
		{"truth.greedy_score", "truth.greedy_accuracy", "length.greedy"},
		{"truth.sampled_score", "truth.sampled_accuracy", "length.sampled"}};

	for (int k = 0; k < 2; k++) {
		struct truth_sum t = {0};
		const json_t *row;
		size_t i;

		json_array_foreach(s->generations, i, row)
			add_answer(&t, json_object_get(row, kinds[k]));
		if (t.n_score > 0)
			eval_number(s, names[k][0], t.score / (double)t.n_score);
		if (t.n_correct > 0)
			eval_number(s, names[k][1], (double)t.correct / (double)t.n_correct);
		if (t.n > 0)
			eval_number(s, names[k][2], t.tokens / (double)t.n);
	}
}

enum rc eval_generations(struct eval *s, struct err *e)
{
	struct stage_rows rows = {.fd = -1};
	size_t n = json_array_size(s->test);
	enum rc rc;

	if (n == 0) {
		s->generations = json_array();
		return RC_OK;
	}
	rc = stage_rows_open(s->ctx, "generations", &rows, e);
	for (size_t at = (size_t)rows.n; rc == RC_OK && at < n; at += (size_t)s->chunk)
		rc = text_chunk(s, &rows, at, at + (size_t)s->chunk < n ? at + (size_t)s->chunk : n, e);
	if (rc == RC_OK)
		rc = stage_rows_load(&rows, &s->generations, e);
	if (rc == RC_OK) {
		json_t *meta = json_pack("{s:s}", "name", jx_get_str(s->ctx->params, "name", ""));

		report_truth(s);
		textgen_meta(s->gen, meta);
		rc = stage_rows_finish(&rows, meta, e);
	}
	stage_rows_release(&rows);
	return rc;
}

/* --- duel ------------------------------------------------------------------------------------ */

struct duel {
	const char *id, *prompt, *ours, *theirs; /* borrowed */
	const json_t *meta;
	enum verdict verdict[2]; /* ours shown as A, then as B; already in terms of A and B */
};

/* Pairs rows of the same id; *n of them in the order of our rows. */
static struct duel *match(const struct eval *s, size_t *n)
{
	json_t *by_id = json_object();
	const json_t *row;
	size_t i;

	json_array_foreach(s->previous, i, row)
		json_object_set(by_id, jx_get_str(row, "id", ""), json_object_get(row, "greedy"));
	struct duel *list = mem_array(json_array_size(s->generations) + 1, sizeof *list);
	*n = 0;
	json_array_foreach(s->generations, i, row) {
		const char *id = jx_get_str(row, "id", "");
		const json_t *theirs = json_object_get(by_id, id);

		if (!theirs)
			continue;
		list[(*n)++] = (struct duel){
			.id = id,
			.prompt = jx_get_str(row, "prompt", ""),
			.ours = jx_get_str(json_object_get(row, "greedy"), "text", ""),
			.theirs = jx_get_str(theirs, "text", ""),
			.meta = json_object_get(json_array_get(s->test, i), "meta")};
	}
	json_decref(by_id); /* Texts are borrowed from s->previous and s->generations. */
	return list;
}

/* Equal texts are a tie without asking: a judge would only show its taste for a position. */
static bool same_text(const struct duel *d)
{
	return strcmp(d->ours, d->theirs) == 0;
}

static enum rc duel_by_model(struct eval *s, struct duel *list, size_t n, struct err *e)
{
	int (*index)[2] = mem_array(n + 1, sizeof *index);
	struct textgen_sampling greedy = {.top_p = 1, .max_new = s->judging.sampling.max_new};
	enum rc rc = RC_OK;

	textgen_clear(s->gen);
	for (size_t i = 0; rc == RC_OK && i < n; i++) {
		for (int k = 0; rc == RC_OK && !same_text(&list[i]) && k < 2; k++) {
			struct buf prompt = BUF_INIT;

			winrate_prompt(list[i].prompt, k ? list[i].theirs : list[i].ours,
				       k ? list[i].ours : list[i].theirs, &prompt);
			struct textgen_req q = {.prompt = prompt.data,
						.sampling = greedy,
						.stage = RNG_EVAL,
						.iter = (uint32_t)s->ctx->iter,
						.item = stage_item(list[i].id),
						.sample = SAMPLE_DUEL + (uint32_t)k,
						.n = 1};
			rc = textgen_add(s->gen, &q, &index[i][k], e);
			buf_release(&prompt);
		}
	}
	if (rc == RC_OK)
		rc = textgen_run(s->gen, e);
	for (size_t i = 0; rc == RC_OK && i < n; i++)
		for (int k = 0; k < 2; k++) {
			const struct textgen_result *r;

			if (same_text(&list[i])) {
				list[i].verdict[k] = VERDICT_TIE;
				continue;
			}
			r = textgen_result(s->gen, index[i][k], 0);
			list[i].verdict[k] = winrate_parse(r->text, strlen(r->text));
		}
	free(index);
	return rc;
}

static enum verdict verdict_of(const json_t *answer)
{
	const char *w = jx_get_str(answer, "winner", "");

	return strcmp(w, "a") == 0     ? VERDICT_A
	       : strcmp(w, "b") == 0   ? VERDICT_B
	       : strcmp(w, "tie") == 0 ? VERDICT_TIE
				       : VERDICT_NONE;
}

/* {"id","prompt","a","b","meta"} on its input; {"winner":"a|b|tie"} back. */
static enum rc duel_by_command(const struct eval *s, const json_t *h2h, struct duel *list, size_t n,
			       struct err *e)
{
	json_t *rows = json_array(), *answers = NULL;

	(void)s;
	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < 2; k++)
			json_array_append_new(
				rows, json_pack("{s:s, s:s, s:s, s:s, s:O?}", "id", list[i].id, "prompt",
						list[i].prompt, "a", k ? list[i].theirs : list[i].ours, "b",
						k ? list[i].ours : list[i].theirs, "meta", list[i].meta));
	enum rc rc = judging_command(json_object_get(h2h, "command"), rows,
				     jx_get_i64(h2h, "timeout_s", SCORER_TIMEOUT_S) * 1000, &answers, e);
	for (size_t i = 0; rc == RC_OK && i < n; i++)
		for (size_t k = 0; k < 2; k++)
			list[i].verdict[k] = verdict_of(json_array_get(answers, 2 * i + k));
	json_decref(rows);
	json_decref(answers);
	return rc == RC_OK ? RC_OK : err_wrap(e, "eval.head_to_head");
}

static json_t *verdict_json(enum verdict v, const char *a, const char *b)
{
	return v == VERDICT_A     ? json_string(a)
	       : v == VERDICT_B   ? json_string(b)
	       : v == VERDICT_TIE ? json_string("tie")
				  : json_null();
}

static enum rc add_duels(struct stage_rows *rows, const struct duel *list, size_t n, struct err *e)
{
	enum rc rc = RC_OK;

	for (size_t i = 0; rc == RC_OK && i < n; i++) {
		const struct duel *d = &list[i];
		json_t *row = json_pack(
			"{s:s, s:o, s:o, s:o}", "id", d->id, "verdict",
			verdict_json(winrate_combine(d->verdict[0], d->verdict[1]), "win", "loss"), "forward",
			verdict_json(d->verdict[0], "a", "b"), "backward",
			verdict_json(d->verdict[1], "a", "b"));

		rc = stage_rows_add(rows, row, e);
		json_decref(row);
	}
	return rc;
}

static const char *opponent(const struct eval *s)
{
	const json_t *list = json_object_get(s->ctx->job, "inputs"), *in;
	size_t i;

	json_array_foreach((json_t *)list, i, in) {
		if (strcmp(jx_get_str(in, "role", ""), "prev") == 0)
			return jx_get_str(json_object_get(in, "meta"), "name", "previous");
	}
	return "previous";
}

static enum rc finish_duels(struct eval *s, struct stage_rows *rows, bool by_model, struct err *e)
{
	struct winrate w = {0};
	json_t *all, *row;
	size_t i;

	enum rc rc = stage_rows_load(rows, &all, e);
	if (rc != RC_OK)
		return rc;
	json_array_foreach(all, i, row) {
		const char *v = jx_get_str(row, "verdict", "");

		winrate_add(&w, strcmp(v, "win") == 0    ? VERDICT_A
				: strcmp(v, "loss") == 0 ? VERDICT_B
				: strcmp(v, "tie") == 0  ? VERDICT_TIE
							 : VERDICT_NONE);
	}
	json_decref(all);
	struct winrate_result r = winrate_result(&w);
	stage_final(s->ctx, "h2h.win", json_integer(w.win));
	stage_final(s->ctx, "h2h.tie", json_integer(w.tie));
	stage_final(s->ctx, "h2h.loss", json_integer(w.loss));
	stage_final(s->ctx, "h2h.none", json_integer(w.none));
	stage_final(s->ctx, "h2h.n", json_integer(r.n));
	eval_number(s, "h2h.rate", r.rate);
	eval_number(s, "h2h.low", r.low);
	eval_number(s, "h2h.high", r.high);
	stage_final(s->ctx, "h2h.opponent", json_string(opponent(s)));
	json_t *meta = json_pack("{s:I, s:I, s:I, s:I}", "win", (json_int_t)w.win, "tie",
				 (json_int_t)w.tie, "loss", (json_int_t)w.loss, "none",
				 (json_int_t)w.none);
	if (by_model)
		textgen_meta(s->gen, meta);
	return stage_rows_finish(rows, meta, e);
}

enum rc eval_head_to_head(struct eval *s, struct err *e)
{
	const json_t *h2h = json_object_get(stage_section(s->ctx, "eval"), "head_to_head");
	const char *judge = jx_get_str(h2h, "judge", "none");
	bool by_command = strcmp(judge, "command") == 0;
	struct stage_rows rows = {.fd = -1};
	size_t n;

	if (strcmp(judge, "none") == 0 || json_array_size(s->previous) == 0)
		return RC_OK;
	struct duel *list = match(s, &n);
	enum rc rc = n > 0 ? stage_rows_open(s->ctx, "h2h", &rows, e) : RC_OK;
	for (size_t at = (size_t)rows.n; rc == RC_OK && at < n; at += (size_t)s->chunk) {
		size_t len = at + (size_t)s->chunk < n ? (size_t)s->chunk : n - at;

		rc = by_command ? duel_by_command(s, h2h, list + at, len, e)
				: duel_by_model(s, list + at, len, e);
		if (rc == RC_OK)
			rc = add_duels(&rows, list + at, len, e);
		if (rc == RC_OK)
			rc = stage_rows_mark(&rows, NULL, e);
		stage_progress(s->ctx, s->total - (int64_t)n + rows.n, s->total, "rows");
	}
	if (rc == RC_OK && n > 0)
		rc = finish_duels(s, &rows, !by_command, e);
	stage_rows_release(&rows);
	free(list);
	return rc;
}
