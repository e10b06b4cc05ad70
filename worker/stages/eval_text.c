/* The evaluation's second half: answers to the test prompts, their truth, and the duel with the
 * previous model. */
#include "worker/stages/eval.h"

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "worker/stages/dueling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SCORER_TIMEOUT_S 600
/* Sample numbers of the streams of this half; judging uses numbers from 0 with the same items. */
#define SAMPLE_TEXT 0x40000000u

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

/* Pairs rows of the same id; *n of them in the order of our rows. */
static struct duel *match(const struct eval *s, size_t *n)
{
	return dueling_match(s->generations, s->previous, s->test, n);
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

enum rc eval_head_to_head(struct eval *s, struct err *e)
{
	const json_t *h2h = json_object_get(stage_section(s->ctx, "eval"), "head_to_head");
	struct stage_rows rows = {.fd = -1};
	struct dueling d;
	size_t n;

	if (strcmp(jx_get_str(h2h, "judge", "none"), "none") == 0 ||
	    json_array_size(s->previous) == 0)
		return RC_OK;
	struct duel *list = match(s, &n);
	enum rc rc = dueling_open(&d, s->ctx, h2h, s->gen, e);
	if (rc == RC_OK && n > 0)
		rc = stage_rows_open(s->ctx, "h2h", &rows, e);
	if (rc == RC_OK && n > 0)
		rc = dueling_all(&d, &rows, list, n, s->chunk, s->total - (int64_t)n, s->total, e);
	if (rc == RC_OK && n > 0)
		rc = dueling_finish(&d, &rows, list, n, opponent(s), e);
	dueling_close(&d);
	stage_rows_release(&rows);
	free(list);
	return rc;
}
