#include "worker/stages/bench_chat.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/stage.h"
#include "worker/stages/textgen.h"

#include <stdlib.h>
#include <string.h>

enum rc bench_chat_open(struct bench_chat *c, struct stage_ctx *ctx, struct textgen *gen, int max_new,
			struct err *e)
{
	const json_t *h2h = json_object_get(stage_section(ctx, "eval"), "head_to_head");
	bool http = strcmp(jx_get_str(h2h, "judge", "none"), "http") == 0;

	*c = (struct bench_chat){.ctx = ctx, .gen = gen, .max_new = max_new};
	return asker_open(&c->asker, ctx, http ? NULL : gen, json_object_get(h2h, "http"), e);
}

void bench_chat_close(struct bench_chat *c)
{
	asker_close(&c->asker);
}

/* Temperature of the answers to a category, as MT-Bench has them; greedy where it names none. */
static float temperature_of(const char *category)
{
	static const struct {
		const char *category;
		float temperature;
	} known[] = {{"writing", 0.7f}, {"roleplay", 0.7f}, {"stem", 0.1f}, {"humanities", 0.1f}};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(known[i].category, category) == 0)
			return known[i].temperature;
	return 0;
}

/* The answer of turn `at`, heap. */
static enum rc say(struct bench_chat *c, const json_t *row, int at, const char *first, char **out,
		   struct err *e)
{
	const json_t *turns = json_object_get(row, "turns");
	struct textgen_req q = {.prompt = json_string_value(json_array_get(turns, (size_t)at)),
				.sampling = {.temperature = temperature_of(jx_get_str(row, "category", "")),
					     .top_p = 1,
					     .max_new = c->max_new},
				.stage = RNG_EVAL,
				.iter = (uint32_t)c->ctx->iter,
				.item = stage_item(jx_get_str(row, "id", "")),
				.sample = (uint32_t)at,
				.n = 1};
	enum rc rc;
	int index;

	if (at > 0) {
		q.before[0] = json_string_value(json_array_get(turns, 0));
		q.before[1] = first;
	}
	textgen_clear(c->gen);
	if ((rc = textgen_add(c->gen, &q, &index, e)) == RC_OK && (rc = textgen_run(c->gen, e)) == RC_OK)
		*out = mem_str(textgen_result(c->gen, index, 0)->text);
	return rc;
}

static const char *text_at(const json_t *list, size_t i)
{
	return json_string_value(json_array_get(list, i));
}

static enum rc grade(struct bench_chat *c, const json_t *row, int at, char *const said[2], json_t **out,
		     struct err *e)
{
	static const char *const names[2][2] = {{"mt-single-v1", "mt-single-v1-multi-turn"},
						{"mt-single-math-v1", "mt-single-math-v1-multi-turn"}};
	const json_t *turns = json_object_get(row, "turns"), *refs = json_object_get(row, "reference");
	int max_new = (int)jx_get_i64(stage_section(c->ctx, "judge"), "max_new_tokens", 256);
	struct judge_score s = {JUDGE_NO_ANSWER, 0};
	struct judge_template tmpl;
	enum rc rc = judge_template_named(names[refs != NULL][at], &tmpl, e);

	if (rc != RC_OK)
		return rc;
	struct asker_q q = {.tmpl = &tmpl,
			    .shown = {.prompt = text_at(turns, 0),
				      .prompt_2 = text_at(turns, 1),
				      .response = said[0],
				      .response_2 = said[1],
				      .reference = text_at(refs, 0),
				      .reference_2 = text_at(refs, 1)},
			    .sampling = {.top_p = 1, .max_new = max_new},
			    .stage = RNG_EVAL,
			    .iter = (uint32_t)c->ctx->iter,
			    .item = stage_item(jx_get_str(row, "id", "")),
			    .sample = 16 + (uint32_t)at};
	rc = asker_run(&c->asker, &q, 1, e);
	if (rc == RC_OK && q.answered && !q.too_long)
		s = judge_parse(&tmpl.rule, q.text, strlen(q.text), q.stopped);
	*out = s.reason == JUDGE_OK ? json_real((double)s.milli / 1000) : json_null();
	asker_release(&q, 1);
	judge_template_release(&tmpl);
	return rc;
}

enum rc bench_chat_row(struct bench_chat *c, const json_t *row, json_t *out, struct err *e)
{
	int n = (int)json_array_size(json_object_get(row, "turns"));
	json_t *grades = json_array(), *texts = json_array(), *one;
	char *said[2] = {NULL, NULL};
	enum rc rc = RC_OK;

	for (int at = 0; rc == RC_OK && at < n && at < 2; at++) {
		rc = say(c, row, at, said[0], &said[at], e);
		if (rc != RC_OK)
			break;
		rc = grade(c, row, at, said, &one, e);
		json_array_append_new(texts, json_string(said[at]));
		json_array_append_new(grades, rc == RC_OK ? one : json_null());
	}
	json_object_set_new(out, "said", texts);
	json_object_set_new(out, "grades", grades);
	free(said[0]);
	free(said[1]);
	return rc;
}

void bench_grades_add(struct bench_grades *g, const json_t *grades)
{
	for (size_t k = 0; k < json_array_size(grades) && k < 2; k++) {
		const json_t *v = json_array_get(grades, k);

		g->n[k] += json_is_number(v);
		g->ungraded += !json_is_number(v);
		g->sum[k] += json_number_value(v);
	}
}

void bench_grades_report(const struct bench_grades *g, struct stage_ctx *ctx, const char *set)
{
	int64_t n = g->n[0] + g->n[1];
	char name[96];

	if (n + g->ungraded == 0)
		return;
	str_fmt(name, sizeof name, "bench.%.60s.ungraded", set);
	stage_final(ctx, name, json_integer(g->ungraded));
	str_fmt(name, sizeof name, "bench.%.60s.score", set);
	stage_final(ctx, name, n ? json_real((g->sum[0] + g->sum[1]) / (double)n) : json_null());
	for (int k = 0; k < 2; k++) {
		str_fmt(name, sizeof name, "bench.%.60s.score_turn_%d", set, k + 1);
		if (g->n[k])
			stage_final(ctx, name, json_real(g->sum[k] / (double)g->n[k]));
	}
}
