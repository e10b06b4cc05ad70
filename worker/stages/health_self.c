#include "worker/stages/health_self.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "worker/stage.h"
#include "worker/stages/judging.h"

#include <math.h>
#include <string.h>

#define SCORER_TIMEOUT_S 600

enum rc health_self_answers(struct stage_ctx *ctx, struct textgen *gen, const json_t *ranked, size_t at,
			    size_t end, char **texts, struct err *e)
{
	int max_new = (int)jx_get_i64(stage_section(ctx, "eval"), "max_new_tokens", 256), index;
	enum rc rc = RC_OK;

	textgen_clear(gen);
	for (size_t i = at; rc == RC_OK && i < end; i++) {
		const json_t *row = json_array_get(ranked, i);
		struct textgen_req q = {.prompt = jx_get_str(row, "prompt", ""),
					.sampling = {.top_p = 1, .max_new = max_new},
					.stage = RNG_EVAL,
					.iter = (uint32_t)ctx->iter,
					.item = stage_item(jx_get_str(row, "id", "")),
					.n = 1};

		rc = textgen_add(gen, &q, &index, e);
	}
	if (rc == RC_OK)
		rc = textgen_run(gen, e);
	for (size_t i = at; rc == RC_OK && i < end; i++) {
		const struct textgen_result *r = textgen_result(gen, (int)(i - at), 0);

		texts[i - at] = r->too_long ? NULL : mem_str(r->text);
	}
	textgen_clear(gen);
	return rc;
}

int health_self_best(const json_t *replies)
{
	int best = -1;
	int64_t lowest = 0;
	const json_t *r;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)replies, i, r) {
		int64_t rank = jx_get_i64(r, "rank", 0);

		if (best < 0 || rank < lowest) {
			best = (int)i;
			lowest = rank;
		}
	}
	return best;
}

static double points_of(double ours, double theirs)
{
	return ours > theirs ? 1 : ours == theirs ? 0.5 : 0;
}

void health_self_take(json_t *probes, const json_t *ranked, const char *own, double own_mean,
		      double best_mean)
{
	const json_t *replies = json_object_get(ranked, "replies");
	int best = health_self_best(replies);

	if (!own || best < 0 || !isfinite(own_mean) || !isfinite(best_mean))
		return;
	json_array_append_new(
		probes, json_pack("{s:O, s:O, s:s, s:O, s:O?, s:f}", "id", json_object_get(ranked, "id"),
				  "prompt", json_object_get(ranked, "prompt"), "own", own, "best",
				  json_object_get(json_array_get(replies, (size_t)best), "text"), "meta",
				  json_object_get(ranked, "meta"), "won", points_of(own_mean, best_mean)));
}

/* Own and best of every prompt, one behind the other, as `eval` asks. */
static json_t *questions(const json_t *probes)
{
	static const char *const kinds[] = {"own", "best"};
	json_t *rows = json_array();
	const json_t *p;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)probes, i, p)
		for (int k = 0; k < 2; k++)
			json_array_append_new(
				rows, json_pack("{s:O, s:O, s:O, s:s, s:O?}", "id", json_object_get(p, "id"),
						"prompt", json_object_get(p, "prompt"), "response",
						json_object_get(p, kinds[k]), "kind", kinds[k], "meta",
						json_object_get(p, "meta")));
	return rows;
}

static double true_share(const json_t *answers, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++) {
		const json_t *own = json_object_get(json_array_get(answers, 2 * i), "score");
		const json_t *best = json_object_get(json_array_get(answers, 2 * i + 1), "score");

		if (!json_is_number(own) || !json_is_number(best))
			return NAN;
		sum += points_of(json_number_value(own), json_number_value(best));
	}
	return sum / (double)n;
}

enum rc health_self_measure(struct stage_ctx *ctx, const json_t *probes, struct health *h, struct err *e)
{
	const json_t *scorer = json_object_get(stage_section(ctx, "eval"), "scorer");
	const json_t *argv = json_object_get(scorer, "command"), *p;
	json_t *answers = NULL, *rows;
	size_t n = json_array_size(probes), i;
	double won = 0;
	enum rc rc;

	h->own = (int64_t)n;
	if (n == 0)
		return RC_OK;
	json_array_foreach((json_t *)(uintptr_t)probes, i, p)
		won += jx_get_f64(p, "won", 0);
	h->self_win = won / (double)n;
	if (json_array_size(argv) == 0)
		return RC_OK;
	rows = questions(probes);
	rc = judging_command(argv, rows, jx_get_i64(scorer, "timeout_s", SCORER_TIMEOUT_S) * 1000, &answers,
			     e);
	if (rc == RC_OK)
		h->self_true = true_share(answers, n);
	else if (rc != RC_CANCELLED)
		log_warn("health", "the scorer does not know these prompts", "why=%s", e ? e->text : "");
	json_decref(rows);
	json_decref(answers);
	if (rc == RC_CANCELLED)
		return rc;
	if (e)
		*e = (struct err){0};
	return RC_OK;
}
