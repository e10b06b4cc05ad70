/* Judge and writer of the stage `protegi`, and the log of what they said. */
#include "worker/stages/protegi.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/stages/ranked.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- the log -----------------------------------------------------------------------------------
 */

/* The next row, borrowed, when the checkpoint has it; NULL when it must be asked. It has to be the
 * answer to this question. */
static enum rc recall(struct protegi *s, const char *ask, int round, const char *list, int n,
		      const json_t **row, struct err *e)
{
	*row = json_array_get(s->replay, s->at);
	if (!*row)
		return RC_OK;
	if (strcmp(jx_get_str(*row, "ask", ""), ask) != 0 ||
	    jx_get_i64(*row, "round", -1) != round ||
	    json_array_size(json_object_get(*row, list)) != (size_t)n)
		return err_set(e, RC_CORRUPT,
			       "row %zu of the checkpoint does not answer \"%s\" of round %d",
			       s->at, ask, round);
	s->at++;
	return RC_OK;
}

/* Takes `row`. A chunk has ended. */
static enum rc note(struct protegi *s, json_t *row, struct err *e)
{
	enum rc rc = stage_rows_add(&s->log, row, e);

	json_decref(row);
	s->at++;
	if (rc != RC_OK)
		return rc;
	return stage_rows_mark(&s->log,
			       json_pack("{s:o, s:o*}", "judging", judging_counters(&s->judging),
					 "writer",
					 s->writer_is_command ? NULL : asker_charges(&s->writer)),
			       e);
}

/* --- the judge ---------------------------------------------------------------------------------
 */

/* What is judged: prompts of a list, through candidates. */
struct lot {
	const char *ask, *what;
	const json_t *rows;
	const uint32_t *order; /* NULL: as they stand */
	int samples;
	enum rng_stage stage;
};

struct trial {
	int candidate;
	int64_t k; /* place in the order of prompts */
};

static const json_t *row_of(const struct lot *l, int64_t k)
{
	return json_array_get(l->rows, l->order ? l->order[k] : (size_t)k);
}

static json_t *trial_json(const struct lot *l, const struct trial *t,
			  const struct judging_item **at)
{
	const json_t *row = row_of(l, t->k);
	json_t *scores = json_array();
	size_t n = json_array_size(json_object_get(row, "replies"));

	for (size_t i = 0; i < n; i++, *at += l->samples)
		json_array_append_new(scores, ranked_scores(*at, l->samples));
	return json_pack("{s:i, s:I, s:O, s:o}", "candidate", t->candidate, "k", (json_int_t)t->k,
			 "id", json_object_get(row, "id"), "scores", scores);
}

/* All as one batch, each through its own template. */
static enum rc ask_judge(struct protegi *s, const struct lot *l, const struct trial *t,
			 int n_trials, json_t **out, struct err *e)
{
	struct judging_item *items = NULL;
	const struct judging_item *next;
	size_t n = 0;
	enum rc rc = RC_OK;

	for (int i = 0; rc == RC_OK && i < n_trials; i++) {
		size_t from = n;

		rc = ranked_items(row_of(l, t[i].k), l->samples, l->what, &items, &n, e);
		for (; from < n; from++)
			items[from].tmpl = &s->list[t[i].candidate].tmpl;
	}
	s->judging.stage = l->stage;
	if (rc == RC_OK)
		rc = judging_run(&s->judging, items, (int)n, e);
	*out = json_array();
	next = items;
	for (int i = 0; rc == RC_OK && i < n_trials; i++)
		json_array_append_new(*out, trial_json(l, &t[i], &next));
	for (size_t i = 0; i < n; i++)
		judging_item_release(&items[i]);
	free(items);
	return rc;
}

/* Pairs of one prompt, and those in the right order. */
static void count(const struct protegi *s, const json_t *row, const json_t *scores,
		  struct protegi_arm *arm)
{
	const json_t *replies = json_object_get(row, "replies"), *r;
	size_t n = json_array_size(replies), i;
	int *human = mem_array(n + 1, sizeof *human);
	struct rank_score *sum = mem_array(n + 1, sizeof *sum);
	struct rank_tally t;

	rank_tally_init(&t);
	json_array_foreach((json_t *)(uintptr_t)replies, i, r)
	{
		human[i] = (int)jx_get_i64(r, "rank", 0);
		ranked_sum(json_array_get(scores, i), &sum[i]);
	}
	rank_tally_add(&t, human, sum, (int)n, s->start.rule.max_milli);
	arm->n++;
	arm->pairs += t.pairs;
	arm->right += t.agree;
	rank_tally_release(&t);
	free(human);
	free(sum);
}

static enum rc take(struct protegi *s, const struct lot *l, const struct trial *t, int n,
		    const json_t *row, struct err *e)
{
	const json_t *list = json_object_get(row, "trials");
	bool test = l->rows == s->held;

	for (int i = 0; i < n; i++) {
		struct protegi_candidate *c = &s->list[t[i].candidate];
		const json_t *x = json_array_get(list, (size_t)i),
			     *scores = json_object_get(x, "scores");

		if (jx_get_i64(x, "candidate", -1) != t[i].candidate ||
		    jx_get_i64(x, "k", -1) != t[i].k)
			return err_set(e, RC_CORRUPT, "row %zu of the checkpoint has other trials",
				       s->at);
		count(s, row_of(l, t[i].k), scores, test ? &c->held : &c->arm);
		if (!test)
			json_array_append(c->seen, (json_t *)(uintptr_t)scores);
	}
	return RC_OK;
}

static enum rc one_chunk(struct protegi *s, int round, const struct lot *l, const struct trial *t,
			 int n, struct err *e)
{
	const json_t *row;
	json_t *list = NULL, *made = NULL;
	enum rc rc = recall(s, l->ask, round, "trials", n, &row, e);

	if (rc == RC_OK && !row) {
		rc = ask_judge(s, l, t, n, &list, e);
		if (rc == RC_OK)
			row = made = json_pack("{s:s, s:i, s:O}", "ask", l->ask, "round", round,
					       "trials", list);
	}
	if (rc == RC_OK)
		rc = take(s, l, t, n, row, e);
	json_decref(list);
	if (rc != RC_OK) {
		json_decref(made);
		return rc;
	}
	stage_progress(s->ctx, s->spent, s->budget, "evaluations");
	return made ? note(s, made, e) : RC_OK;
}

static enum rc in_chunks(struct protegi *s, int round, const struct lot *l, const struct trial *t,
			 int n, struct err *e)
{
	enum rc rc = RC_OK;

	for (int at = 0; rc == RC_OK && at < n; at += s->chunk)
		rc = one_chunk(s, round, l, t + at, n - at < s->chunk ? n - at : s->chunk, e);
	return rc;
}

enum rc protegi_evaluate(struct protegi *s, int round, const struct protegi_goal *goals, int n,
			 struct err *e)
{
	const struct lot l = {"judge", "eft", s->train, s->order, s->samples, RNG_PROTEGI};
	int64_t all = (int64_t)json_array_size(s->train);
	struct trial *t = NULL;
	int many = 0;

	for (int i = 0; i < n; i++) {
		int64_t from = s->list[goals[i].candidate].arm.n,
			to = goals[i].to < all ? goals[i].to : all;

		for (; from < to && s->spent < s->budget; from++, s->spent++) {
			t = mem_grow(t, (size_t)many + 1, sizeof *t);
			t[many++] = (struct trial){goals[i].candidate, from};
		}
	}
	enum rc rc = in_chunks(s, round, &l, t, many, e);
	free(t);
	return rc;
}

enum rc protegi_test(struct protegi *s, const int *who, int n, struct err *e)
{
	int64_t samples = jx_get_i64(stage_section(s->ctx, "eval"), "judge_samples", 3);
	const struct lot l = {"test", "eval", s->held, NULL, (int)samples, RNG_EVAL};
	int64_t all = (int64_t)json_array_size(s->held);
	struct trial *t = mem_array((size_t)n * (size_t)all + 1, sizeof *t);

	for (int i = 0; i < n; i++)
		for (int64_t k = 0; k < all; k++)
			t[i * all + k] = (struct trial){who[i], k};
	enum rc rc = in_chunks(s, s->rounds, &l, t, n * (int)all, e);
	free(t);
	return rc;
}

/* --- the writer --------------------------------------------------------------------------------
 */

static void render(const struct protegi *s, const struct protegi_question *q, struct buf *out)
{
	const char *text = s->list[q->candidate].text;

	if (strcmp(q->kind, "reasons") == 0)
		protegi_ask_reasons(text, q->errors, q->n_errors, q->want, out);
	else if (strcmp(q->kind, "edits") == 0)
		protegi_ask_edits(text, q->errors, q->n_errors, q->reason, q->want, out);
	else
		protegi_ask_variant(text, out);
}

static json_t *number(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

static json_t *errors_json(const struct protegi_error *x, int n)
{
	json_t *list = json_array();

	for (int i = 0; i < n; i++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "prompt",
						      x[i].prompt, "a", x[i].a, "b", x[i].b,
						      "better", x[i].a_better ? "a" : "b",
						      "score_a", number(x[i].score_a), "score_b",
						      number(x[i].score_b)));
	return list;
}

/* Name of the question among random streams. */
static uint64_t name_of(const struct protegi_question *q)
{
	int kind = strcmp(q->kind, "reasons") == 0 ? 0 : strcmp(q->kind, "edits") == 0 ? 1 : 2;

	return (uint64_t)q->candidate * 4 + (uint64_t)kind;
}

static enum rc write_by_command(struct protegi *s, int round, struct protegi_question *q, int n,
				struct err *e)
{
	const json_t *c = json_object_get(s->c, "writer");
	json_t *rows = json_array(), *answers = NULL;

	for (int i = 0; i < n; i++) {
		struct buf ask = BUF_INIT;
		struct rng r;

		render(s, &q[i], &ask);
		rng_open(&r, s->ctx->seed, RNG_PROTEGI, (uint32_t)round, name_of(&q[i]),
			 (uint32_t)q[i].k);
		json_array_append_new(rows,
				      json_pack("{s:o, s:s, s:s, s:s, s:o, s:s?, s:i, s:I}", "id",
						json_sprintf("%d.%s.%d.%d", round, q[i].kind,
							     q[i].candidate, q[i].k),
						"kind", q[i].kind, "ask", ask.data, "judge",
						s->list[q[i].candidate].text, "errors",
						errors_json(q[i].errors, q[i].n_errors), "reason",
						q[i].reason, "n", q[i].want, "seed",
						(json_int_t)rng_u32(&r)));
		buf_release(&ask);
	}
	enum rc rc = judging_command(json_object_get(c, "command"), rows,
				     jx_get_i64(c, "timeout_s", 600) * 1000, &answers, e);
	for (int i = 0; rc == RC_OK && i < n; i++)
		q[i].answer = mem_str(jx_get_str(json_array_get(answers, (size_t)i), "text", ""));
	json_decref(rows);
	json_decref(answers);
	return rc;
}

static enum rc write_by_asker(struct protegi *s, int round, struct protegi_question *q, int n,
			      struct err *e)
{
	struct asker_q *list = mem_array((size_t)n, sizeof *list);
	struct buf *asks = mem_array((size_t)n, sizeof *asks);

	for (int i = 0; i < n; i++) {
		render(s, &q[i], &asks[i]);
		list[i] = (struct asker_q){.plain = asks[i].data,
					   .sampling = s->writing,
					   .stage = RNG_PROTEGI,
					   .iter = (uint32_t)round,
					   .item = name_of(&q[i]),
					   .sample = (uint32_t)q[i].k};
	}
	enum rc rc = asker_run(&s->writer, list, n, e);
	for (int i = 0; i < n; i++) {
		if (rc == RC_OK)
			q[i].answer = mem_str(list[i].text ? list[i].text : "");
		buf_release(&asks[i]);
	}
	asker_release(list, n);
	free(list);
	free(asks);
	return rc;
}

enum rc protegi_write(struct protegi *s, int round, struct protegi_question *q, int n,
		      struct err *e)
{
	const json_t *row;
	json_t *list;
	enum rc rc;

	if (n == 0)
		return RC_OK;
	rc = recall(s, q[0].kind, round, "texts", n, &row, e);
	if (rc == RC_OK && row) {
		const json_t *texts = json_object_get(row, "texts");

		for (int i = 0; i < n; i++) {
			const char *text = json_string_value(json_array_get(texts, (size_t)i));
			q[i].answer = mem_str(text ? text : "");
		}
		return RC_OK;
	}
	if (rc == RC_OK)
		rc = s->writer_is_command ? write_by_command(s, round, q, n, e)
					  : write_by_asker(s, round, q, n, e);
	if (rc != RC_OK)
		return rc;
	list = json_array();
	for (int i = 0; i < n; i++)
		json_array_append_new(list, json_string(q[i].answer));
	return note(s,
		    json_pack("{s:s, s:i, s:i, s:o}", "ask", q[0].kind, "round", round, "candidate",
			      q[0].candidate, "texts", list),
		    e);
}

/* --- opening -----------------------------------------------------------------------------------
 */

static enum rc open_model(struct protegi *s, const char *role, struct textgen **gen, struct err *e)
{
	const char *dir = stage_in(s->ctx, role);

	return dir ? textgen_open(s->ctx, dir, jx_get_str(s->ctx->spec, "template", "plain"), gen,
				  e)
		   : RC_OK;
}

static enum rc open_writer(struct protegi *s, struct err *e)
{
	const json_t *c = json_object_get(s->c, "writer");
	const char *kind = jx_get_str(c, "kind", "model");
	bool http = strcmp(kind, "http") == 0;
	enum rc rc;

	s->writer_is_command = strcmp(kind, "command") == 0;
	s->writing =
		(struct textgen_sampling){.temperature = (float)jx_get_f64(c, "temperature", 0.7),
					  .top_p = (float)jx_get_f64(c, "top_p", 1),
					  .max_new = (int)jx_get_i64(c, "max_new_tokens", 512)};
	if (s->ctx->ranks.n > 1 && (s->writer_is_command || http || !s->judge_model))
		return err_set(e, RC_INVALID,
			       "protegi: several ranks need a judge and a writer that are models");
	if (s->writer_is_command)
		return RC_OK;
	rc = http ? RC_OK : open_model(s, "writer", &s->writer_model, e);
	if (!http && !s->writer_model)
		s->writer_model = s->judge_model;
	if (rc == RC_OK && !http && !s->writer_model)
		rc = err_set(e, RC_INVALID, "protegi: input writer is missing");
	return rc == RC_OK ? asker_open(&s->writer, s->ctx, s->writer_model,
					json_object_get(c, "http"), e)
			   : rc;
}

enum rc protegi_open(struct protegi *s, struct err *e)
{
	enum rc rc = open_model(s, "model", &s->judge_model, e);

	if (rc == RC_OK)
		rc = judging_open(&s->judging, s->ctx, NULL, s->judge_model, RNG_PROTEGI, e);
	s->judging.tell = true;
	if (rc == RC_OK)
		rc = open_writer(s, e);
	if (rc == RC_OK)
		rc = stage_rows_open(s->ctx, "trials", &s->log, e);
	if (rc == RC_OK && s->log.n > 0)
		rc = stage_rows_load(&s->log, &s->replay, e);
	if (rc == RC_OK && s->log.state) {
		judging_counters_load(&s->judging, json_object_get(s->log.state, "judging"));
		asker_charges_load(&s->writer, json_object_get(s->log.state, "writer"));
	}
	return rc;
}

void protegi_close(struct protegi *s)
{
	stage_rows_release(&s->log);
	json_decref(s->replay);
	asker_close(&s->writer);
	judging_close(&s->judging);
	if (s->writer_model != s->judge_model)
		textgen_close(s->writer_model);
	textgen_close(s->judge_model);
}
