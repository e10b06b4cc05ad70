/* From judgements to preference pairs (the rule is worker/method/pairs.h).
 *
 * in   responses.<s> and judgements.<s>.<p>, for every shard s and pass p, all by one judge; before.<s>.<p>
 *      (what the model before said: pairs get a "label", 1 where both rank alike); params.section
 *      (whose template: "judge"), params.kind "positive" adds the output positives; reviews (what people
 *      said: pair_reviews.h)
 * out  pairs   {"id","prompt","prompt_tokens","chosen":{"index","text","tokens","score"},
 *              "rejected":{...},"margin"}
 *      samples everything, for people: {"id","prompt","candidates":[{"index","text","n_tokens",
 *              "finish","mean","variance","valid","judgements":[{"pass","score","reason","text"}]}],
 *              "chosen","rejected","drop"}
 * positives {"id","prompt","prompt_tokens","tokens","response"} every finished answer whose mean is
 *              perfect
 * A job of seconds: it is not checkpointed but repeated. params.kind "spin" is another job: pair_spin.c.
 */
#include "worker/stages/stages.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/method/judge_template.h"
#include "worker/method/pairs.h"
#include "worker/method/rank.h"
#include "worker/stage.h"
#include "worker/stages/pair_reviews.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PAIR_ROWS_MAX (4u << 20)
#define PAIR_CANDIDATES_MAX 1024
#define PAIR_PASSES_MAX 64

struct pairing {
	struct stage_ctx *ctx;
	struct pair_rule rule;
	struct pair_counts counts;
	struct stage_rows pairs, samples, positives;
	struct pair_reviews reviews;
	bool keep_positives, rejected_past;
	int64_t max_milli;
	/* one shard */
	json_t *by_id[PAIR_PASSES_MAX]; /* {prompt id: judgement row} */
	int pass[PAIR_PASSES_MAX], n_passes, n_before; /* those of the model before come last */
	/* all of the job */
	double variance_sum, label_sum;
	int64_t n_variance, n_label;
	double *lengths, *scores; /* of judged candidates; owned */
	size_t n_judged, cap_judged;
};

/* --- settings -------------------------------------------------------------------------------- */

/* One number, or one per iteration with the last going on. */
static double length_control(const struct stage_ctx *ctx)
{
	const json_t *v = json_object_get(stage_section(ctx, "pair"), "length_control");
	size_t n = json_array_size(v), at = ctx->iter > 0 ? (size_t)ctx->iter - 1 : 0;

	if (n > 0)
		v = json_array_get(v, at < n ? at : n - 1);
	return json_is_number(v) ? json_number_value(v) : 0;
}

static enum rc configure(struct pairing *p, struct err *e)
{
	const char *section = jx_get_str(p->ctx->params, "section", "judge");
	const json_t *judge = stage_section(p->ctx, section), *pair = stage_section(p->ctx, "pair");
	struct judge_template tmpl;
	double rho = length_control(p->ctx);
	enum rc rc = judge_template_of(json_object_get(judge, "template"), &tmpl, e);

	if (rc != RC_OK)
		return rc;
	pair_counts_init(&p->counts, tmpl.rule.min_milli, tmpl.rule.max_milli);
	p->max_milli = tmpl.rule.max_milli;
	p->keep_positives = strcmp(jx_get_str(p->ctx->params, "kind", ""), "positive") == 0;
	p->rejected_past = strcmp(jx_get_str(pair, "cross", "any"), "rejected_past") == 0;
	judge_template_release(&tmpl);
	if (!(rho >= 0 && rho < 0.5))
		return err_set(e, RC_INVALID, "pair.length_control is %g, expected 0 <= rho < 0.5",
			       rho);
	p->rule.rho_ppm = llround(rho * 1e6);
	if (p->rule.rho_ppm >= 500000)
		p->rule.rho_ppm = 499999;
	p->rule.min_valid = (int)jx_get_i64(judge, "min_valid", strcmp(section, "judge") == 0 ? 2 : 1);
	if (p->rule.min_valid < 1)
		p->rule.min_valid = 1;
	p->rule.max_tokens = (int)jx_get_i64(pair, "max_response_tokens", 0);
	return RC_OK;
}

/* --- one shard's judgements ------------------------------------------------------------------ */

static void drop_shard(struct pairing *p)
{
	for (int i = 0; i < p->n_passes; i++)
		json_decref(p->by_id[i]);
	p->n_passes = p->n_before = 0;
}

static enum rc load_pass(struct pairing *p, const char *role, struct err *e)
{
	json_t *rows, *row, *map;
	const char *id;
	int64_t pass = 0;
	size_t i;
	enum rc rc;

	if (p->n_passes == PAIR_PASSES_MAX)
		return err_set(e, RC_INVALID, "more than %d judgement passes", PAIR_PASSES_MAX);
	if ((rc = stage_in_rows(p->ctx, role, PAIR_ROWS_MAX, &rows, e)) != RC_OK)
		return rc;
	map = json_object();
	json_array_foreach(rows, i, row) {
		if ((rc = jx_str(row, "id", &id, e)) != RC_OK ||
		    (rc = jx_opt_i64(row, "pass", 0, 1 << 16, &pass, e)) != RC_OK) {
			err_wrap(e, "input %s: row %zu", role, i + 1);
			break;
		}
		json_object_set(map, id, row);
	}
	json_decref(rows);
	p->by_id[p->n_passes] = map;
	p->pass[p->n_passes++] = (int)pass;
	return rc;
}

static enum rc load_roles(struct pairing *p, const char *kind, const char *shard, size_t *n, struct err *e)
{
	char prefix[80], **roles = NULL;
	enum rc rc;

	str_fmt(prefix, sizeof(prefix), "%s.%.40s.", kind, shard);
	if ((rc = stage_in_roles(p->ctx, prefix, &roles, n, e)) != RC_OK)
		return rc;
	for (size_t i = 0; rc == RC_OK && i < *n; i++)
		rc = load_pass(p, roles[i], e);
	fs_list_free(roles);
	return rc;
}

static enum rc load_shard(struct pairing *p, const char *shard, struct err *e)
{
	size_t n = 0;
	enum rc rc = load_roles(p, "judgements", shard, &n, e);

	if (rc == RC_OK && n == 0)
		rc = err_set(e, RC_INVALID, "input judgements.%.40s.* is missing", shard);
	if (rc == RC_OK)
		rc = load_roles(p, "before", shard, &n, e);
	p->n_before = (int)n;
	return rc;
}

/* Judges are never mixed in silence: all judgements are by one, through one template. */
static enum rc check_judge(const struct pairing *p, struct err *e)
{
	static const char *const keys[] = {"judge", "templates"};
	const json_t *first = NULL, *in, *meta;
	size_t i;

	json_array_foreach(json_object_get(p->ctx->job, "inputs"), i, in) {
		meta = json_object_get(in, "meta");
		if (!meta || (!str_starts(jx_get_str(in, "role", ""), "judgements.") &&
			      !str_starts(jx_get_str(in, "role", ""), "before.")))
			continue;
		for (int k = 0; first && k < 2; k++) {
			json_t *a = json_object_get(first, keys[k]), *b = json_object_get(meta, keys[k]);

			if ((a || b) && !(a && b && json_equal(a, b)))
				return err_set(e, RC_INVALID,
					       "input %s is by another %s than the judgements before it",
					       jx_get_str(in, "role", ""), k ? "template" : "judge");
		}
		first = meta;
	}
	return RC_OK;
}

/* --- one prompt ------------------------------------------------------------------------------ */

/* The item of one candidate in a judgement row, or NULL. */
static const json_t *item_of(const json_t *row, int64_t index)
{
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(row, "items"), i, item)
		if (jx_get_i64(item, "index", -1) == index)
			return item;
	return NULL;
}

/* Sums the passes into c->mean; returns what they said. */
static json_t *hear(struct pairing *p, const char *id, int64_t index, struct pair_candidate *c)
{
	json_t *said = json_array();

	for (int k = 0; k < p->n_passes - p->n_before; k++) {
		const json_t *item = item_of(json_object_get(p->by_id[k], id), index);
		const json_t *score = json_object_get(item, "score");
		bool valid = json_is_number(score);
		int64_t milli = valid ? llround(json_number_value(score) * 1000) : 0;
		if (!item)
			continue;
		pair_counts_judgement(&p->counts, valid, milli);
		if (valid)
			pair_mean_add(&c->mean, milli);
		json_array_append_new(said, json_pack("{s:i, s:O, s:O?, s:s}", "pass", p->pass[k],
						      "score", score ? score : json_null(),
						      "reason", json_object_get(item, "reason"),
						      "text", jx_get_str(item, "text", "")));
	}
	return said;
}

/* What the model before said of it. */
static struct pair_mean hear_before(const struct pairing *p, const char *id, int64_t index)
{
	struct pair_mean m = {0};

	for (int k = p->n_passes - p->n_before; k < p->n_passes; k++) {
		const json_t *item = item_of(json_object_get(p->by_id[k], id), index);

		if (json_is_number(json_object_get(item, "score")))
			pair_mean_add(&m, llround(jx_get_f64(item, "score", 0) * 1000));
	}
	return m;
}

/* (tau + 1) / 2 over the candidates both have judged, at least one half: doubt damps a pair, it never
 * turns it round. One half as well where a ranking says nothing. */
static double agreement(const struct pairing *p, const char *id, const json_t *candidates,
			const struct pair_candidate *list, int n)
{
	double *now = mem_array((size_t)n + 1, sizeof(*now)), *then = mem_array((size_t)n + 1, sizeof(*then));
	int m = 0;

	for (int i = 0; i < n; i++) {
		struct pair_mean b = hear_before(
			p, id, jx_get_i64(json_array_get(candidates, (size_t)i), "index", -1));
		if (list[i].out != PAIR_NONE || b.n == 0)
			continue;
		now[m] = pair_mean_value(&list[i].mean);
		then[m++] = pair_mean_value(&b);
	}
	double tau = m > 1 ? rank_kendall(now, then, m) : NAN;
	free(now);
	free(then);
	return isfinite(tau) && tau > 0 ? (tau + 1) / 2 : 0.5;
}

/* For the health of the judge: does it like length, is it of one mind? */
static void note_candidate(struct pairing *p, const struct pair_candidate *c)
{
	if (c->mean.n == 0)
		return;
	if (p->n_judged == p->cap_judged) {
		p->cap_judged = p->cap_judged ? 2 * p->cap_judged : 1024;
		p->lengths = mem_grow(p->lengths, p->cap_judged, sizeof(*p->lengths));
		p->scores = mem_grow(p->scores, p->cap_judged, sizeof(*p->scores));
	}
	p->lengths[p->n_judged] = c->n_tokens;
	p->scores[p->n_judged++] = pair_mean_value(&c->mean);
	if (c->mean.n > 1) {
		p->variance_sum += pair_mean_variance(&c->mean);
		p->n_variance++;
	}
}

static enum rc read_candidate(struct pairing *p, const char *id, const json_t *v,
			      struct pair_candidate *c, json_t **shown, struct err *e)
{
	const char *finish = "length";
	json_t *tokens;
	int64_t index;
	enum rc rc;

	if ((rc = jx_i64(v, "index", 0, 1 << 20, &index, e)) != RC_OK ||
	    (rc = jx_str(v, "text", &c->text, e)) != RC_OK ||
	    (rc = jx_opt_str(v, "finish", &finish, e)) != RC_OK ||
	    (rc = jx_arr(v, "tokens", &tokens, e)) != RC_OK)
		return rc;
	int32_t *ids = mem_array(json_array_size(tokens) + 1, sizeof(*ids));
	c->tokens = ids;
	c->n_tokens = (int)json_array_size(tokens);
	for (int i = 0; i < c->n_tokens; i++)
		ids[i] = (int32_t)json_integer_value(json_array_get(tokens, (size_t)i));
	c->finished = strcmp(finish, "stop") == 0;
	json_t *said = hear(p, id, index, c);
	bool any = c->mean.n > 0;
	*shown = json_pack("{s:I, s:s, s:i, s:s, s:o, s:o, s:i, s:o}", "index", (json_int_t)index,
			   "text", c->text, "n_tokens", c->n_tokens, "finish", finish, "mean",
			   any ? json_real(pair_mean_value(&c->mean)) : json_null(), "variance",
			   any ? json_real(pair_mean_variance(&c->mean)) : json_null(), "valid",
			   c->mean.n, "judgements", said);
	return RC_OK;
}

static json_t *side(const json_t *candidates, int at, const struct pair_candidate *c)
{
	const json_t *v = json_array_get(candidates, (size_t)at);

	return json_pack("{s:O, s:s, s:O, s:f, s:O*}", "index", json_object_get(v, "index"), "text",
			 c->text, "tokens", json_object_get(v, "tokens"), "score",
			 pair_mean_value(&c->mean), "source_model",
			 json_object_get(v, "source_model"));
}

static json_t *index_of(const json_t *candidates, int at)
{
	return at < 0 ? json_null()
		      : json_incref(
				json_object_get(json_array_get(candidates, (size_t)at), "index"));
}

static json_t *pair_row(struct pairing *p, const json_t *row, const json_t *candidates,
			const struct pair_candidate *list, const struct pair_pick *pick)
{
	const struct pair_candidate *a = &list[pick->chosen], *b = &list[pick->rejected];
	json_t *tokens = json_object_get(row, "prompt_tokens");
	json_t *pair = json_pack("{s:O, s:O, s:O, s:o, s:o, s:f}", "id", json_object_get(row, "id"),
				 "prompt", json_object_get(row, "prompt"), "prompt_tokens",
				 tokens ? tokens : json_null(), "chosen",
				 side(candidates, pick->chosen, a), "rejected",
				 side(candidates, pick->rejected, b), "margin",
				 pair_mean_value(&a->mean) - pair_mean_value(&b->mean));

	if (p->n_before > 0) {
		double label = agreement(p, jx_get_str(row, "id", ""), candidates, list,
					 (int)json_array_size(candidates));
		json_object_set_new(pair, "label", json_real(label));
		p->label_sum += label;
		p->n_label++;
	}
	return pair;
}

/* pinned: the pair as people saw it, or NULL. */
static enum rc write_rows(struct pairing *p, const json_t *row, const json_t *candidates,
			  json_t *shown, const struct pair_candidate *list,
			  const struct pair_pick *pick, const json_t *pinned, struct err *e)
{
	json_t *id = json_object_get(row, "id"), *prompt = json_object_get(row, "prompt");
	bool kept = pick->drop == PAIR_NONE;
	json_t *sample =
		json_pack("{s:O, s:O, s:O, s:o, s:o, s:o}", "id", id, "prompt", prompt,
			  "candidates", shown, "chosen", index_of(candidates, pick->chosen),
			  "rejected", index_of(candidates, pick->rejected), "drop",
			  kept ? json_null() : json_string(pair_drop_text(pick->drop)));
	enum rc rc = stage_rows_add(&p->samples, sample, e);

	json_decref(sample);
	if (rc != RC_OK || !kept)
		return rc;
	json_t *pair = pinned ? pair_reviews_row(pinned) : pair_row(p, row, candidates, list, pick);
	rc = stage_rows_add(&p->pairs, pair, e);
	json_decref(pair);
	return rc;
}

static enum rc add_positives(struct pairing *p, const json_t *row, const json_t *candidates,
			     const struct pair_candidate *list, int n, struct err *e)
{
	enum rc rc = RC_OK;

	for (int i = 0; rc == RC_OK && p->keep_positives && i < n; i++) {
		const json_t *v = json_array_get(candidates, (size_t)i);

		if (list[i].out != PAIR_NONE || list[i].mean.sum != p->max_milli * list[i].mean.n)
			continue;
		json_t *out = json_pack("{s:O, s:O, s:O?, s:O, s:s}", "id", json_object_get(row, "id"),
					"prompt", json_object_get(row, "prompt"), "prompt_tokens",
					json_object_get(row, "prompt_tokens"), "tokens",
					json_object_get(v, "tokens"), "response", list[i].text);
		rc = stage_rows_add(&p->positives, out, e);
		json_decref(out);
	}
	return rc;
}

/* The rejected one must come from the other model, the chosen one must not. */
static void cross(const json_t *candidates, struct pair_candidate *list, int n, struct pair_pick *pick)
{
	int best = -1, worst = -1;

	for (int i = 0; i < n; i++) {
		bool past = json_object_get(json_array_get(candidates, (size_t)i), "source_model") != NULL;

		if (list[i].out != PAIR_NONE)
			continue;
		if (!past && (best < 0 || pair_mean_cmp(&list[i].mean, &list[best].mean) > 0))
			best = i;
		if (past && (worst < 0 || pair_mean_cmp(&list[i].mean, &list[worst].mean) < 0))
			worst = i;
	}
	*pick = (struct pair_pick){best, worst, PAIR_NONE};
	if (best < 0 || worst < 0)
		*pick = (struct pair_pick){-1, -1, PAIR_TOO_FEW};
	else if (pair_mean_cmp(&list[best].mean, &list[worst].mean) <= 0)
		*pick = (struct pair_pick){-1, -1, PAIR_TIE};
}

/* What people said goes before the rule. Returns the pair they pinned, or NULL. */
static const json_t *obey(struct pairing *p, const char *prompt, const json_t *candidates,
			  const struct pair_candidate *list, struct pair_pick *pick)
{
	int chosen, rejected;
	const json_t *pinned =
		pair_reviews_pin(&p->reviews, prompt, candidates, &chosen, &rejected);

	if (pinned)
		*pick = (struct pair_pick){chosen, rejected, PAIR_NONE};
	else if (pick->drop == PAIR_NONE &&
		 pair_reviews_excludes(&p->reviews, prompt, list[pick->chosen].text,
				       list[pick->rejected].text))
		*pick = (struct pair_pick){-1, -1, PAIR_EXCLUDED};
	return pinned;
}

static enum rc one_prompt(struct pairing *p, const json_t *row, struct err *e)
{
	json_t *candidates, *shown = json_array(), *one;
	struct pair_candidate *list;
	const char *id, *prompt;
	int n = 0, made = 0;
	enum rc rc;

	if ((rc = jx_str(row, "id", &id, e)) != RC_OK ||
	    (rc = jx_str(row, "prompt", &prompt, e)) != RC_OK ||
	    (rc = jx_arr(row, "candidates", &candidates, e)) != RC_OK) {
		json_decref(shown);
		return rc;
	}
	n = (int)json_array_size(candidates);
	list = mem_array((size_t)n + 1, sizeof(*list));
	if (n > PAIR_CANDIDATES_MAX)
		rc = err_set(e, RC_INVALID, "%d candidates, at most %d", n, PAIR_CANDIDATES_MAX);
	for (; rc == RC_OK && made < n; made++) {
		rc = read_candidate(p, id, json_array_get(candidates, (size_t)made), &list[made],
				    &one, e);
		if (rc == RC_OK)
			json_array_append_new(shown, one);
	}
	if (rc == RC_OK) {
		struct pair_pick pick = pair_pick(&p->rule, list, n);
		if (p->rejected_past)
			cross(candidates, list, n, &pick);
		const json_t *pinned = obey(p, prompt, candidates, list, &pick);
		pair_counts_prompt(&p->counts, list, n, &pick);
		for (int i = 0; i < n; i++)
			note_candidate(p, &list[i]);
		rc = write_rows(p, row, candidates, shown, list, &pick, pinned, e);
		if (rc == RC_OK)
			rc = add_positives(p, row, candidates, list, n, e);
	}
	for (int i = 0; i < n; i++)
		free((void *)(uintptr_t)list[i].tokens);
	free(list);
	json_decref(shown);
	return rc;
}

/* --- the stage ------------------------------------------------------------------------------- */

static enum rc one_shard(struct pairing *p, const char *role, struct err *e)
{
	json_t *rows = NULL, *row;
	size_t i;
	enum rc rc = stage_in_rows(p->ctx, role, PAIR_ROWS_MAX, &rows, e);

	if (rc == RC_OK)
		rc = load_shard(p, role + strlen("responses."), e);
	json_array_foreach(rows, i, row) {
		if (rc == RC_OK && (rc = one_prompt(p, row, e)) != RC_OK)
			err_wrap(e, "input %s: row %zu", role, i + 1);
	}
	drop_shard(p);
	json_decref(rows);
	return rc;
}

static double ratio(int64_t a, int64_t b)
{
	return b > 0 ? (double)a / (double)b : 0;
}

static json_t *hist_json(const struct pair_counts *c)
{
	json_t *list = json_array();

	for (int i = 0; i < c->bins; i++)
		json_array_append_new(list, json_integer(c->hist[i]));
	return list;
}

static json_t *figures(const struct pairing *p)
{
	const struct pair_counts *c = &p->counts;
	int64_t valid = c->judgements - c->failed;
	json_t *f = json_pack("{s:I, s:I, s:I, s:I, s:o}", "prompts", (json_int_t)c->prompts,
			      "kept", (json_int_t)c->kept, "candidates", (json_int_t)c->candidates,
			      "judgements", (json_int_t)c->judgements, "hist", hist_json(c));

	for (int d = PAIR_TIE; d < PAIR_EXCLUDED; d++)
		json_object_set_new(f, pair_drop_text((enum pair_drop)d), json_integer(c->drop[d]));
	if (p->reviews.rows) {
		json_object_set_new(f, "excluded", json_integer(c->drop[PAIR_EXCLUDED]));
		json_object_set_new(f, "pinned", json_integer(p->reviews.pinned));
		json_object_set_new(f, "carried", json_integer(p->reviews.carried));
	}
	json_object_set_new(f, "parse_fail", json_real(ratio(c->failed, c->judgements)));
	json_object_set_new(f, "at_max", json_real(ratio(c->at_max, valid)));
	if (valid > 0)
		json_object_set_new(f, "mean_score", json_real(ratio(c->sum_milli, valid) / 1000));
	if (c->kept > 0) {
		json_object_set_new(f, "chosen_len", json_real(ratio(c->chosen_tokens, c->kept)));
		json_object_set_new(f, "rejected_len",
				    json_real(ratio(c->rejected_tokens, c->kept)));
		json_object_set_new(f, "chosen_longer",
				    json_real(ratio(c->chosen_longer, c->kept)));
	}
	if (pair_counts_alarm(c)) {
		log_warn("pair", "judge collapse", "iter=%d why=\"%s\"", p->ctx->iter,
			 pair_counts_alarm(c));
		json_object_set_new(f, "alarm", json_string(pair_counts_alarm(c)));
		stage_final(p->ctx, "alarm", json_string(pair_counts_alarm(c)));
	}
	return f;
}

/* Of the judge, for the alarms and the charts; not part of the outputs. */
static void report_health(struct pairing *p)
{
	double r = p->n_judged > 2 ? rank_spearman(p->lengths, p->scores, (int)p->n_judged) : NAN;

	if (isfinite(r))
		stage_final(p->ctx, "health.length_score", json_real(r));
	if (p->n_variance > 0)
		stage_final(p->ctx, "health.variance",
			    json_real(p->variance_sum / (double)p->n_variance));
	if (p->n_label > 0)
		stage_final(p->ctx, "pair.consistency", json_real(p->label_sum / (double)p->n_label));
}

static enum rc finish(struct pairing *p, struct err *e)
{
	json_t *f = figures(p), *v;
	const char *key;
	char name[64];
	enum rc rc;

	json_object_foreach(f, key, v) {
		str_fmt(name, sizeof name, "pair.%s", key);
		stage_final(p->ctx, name, json_incref(v));
	}
	report_health(p);
	rc = stage_rows_finish(&p->pairs, json_deep_copy(f), e);
	if (rc == RC_OK)
		rc = stage_rows_finish(&p->samples, json_deep_copy(f), e);
	if (rc == RC_OK && p->keep_positives) {
		stage_final(p->ctx, "pair.positives", json_integer(p->positives.n));
		rc = stage_rows_finish(&p->positives, json_deep_copy(f), e);
	}
	json_decref(f);
	return rc;
}

static enum rc open_outputs(struct pairing *p, struct err *e)
{
	enum rc rc = stage_rows_open(p->ctx, "pairs", &p->pairs, e);

	if (rc == RC_OK)
		rc = stage_rows_open(p->ctx, "samples", &p->samples, e);
	if (rc == RC_OK && p->keep_positives)
		rc = stage_rows_open(p->ctx, "positives", &p->positives, e);
	return rc;
}

enum rc stage_pair(struct stage_ctx *ctx, struct err *e)
{
	struct pairing p = {.ctx = ctx};
	char **roles = NULL;
	size_t n = 0;

	if (strcmp(jx_get_str(ctx->params, "kind", ""), "spin") == 0)
		return stage_pair_spin(ctx, e);
	p.pairs.fd = p.samples.fd = p.positives.fd = -1;
	enum rc rc = configure(&p, e);
	if (rc == RC_OK)
		rc = check_judge(&p, e);
	if (rc == RC_OK)
		rc = stage_in_roles(ctx, "responses.", &roles, &n, e);
	if (rc == RC_OK && n == 0)
		rc = err_set(e, RC_INVALID, "job %s: input responses.* is missing", ctx->id);
	if (rc == RC_OK)
		rc = pair_reviews_open(ctx, &p.reviews, e);
	if (rc == RC_OK)
		rc = open_outputs(&p, e);
	for (size_t i = 0; rc == RC_OK && i < n; i++) {
		rc = stage_must_abort(ctx) ? stage_stopped(ctx, e) : one_shard(&p, roles[i], e);
		stage_progress(ctx, (int64_t)i + 1, (int64_t)n, "shards");
	}
	if (rc == RC_OK)
		rc = pair_reviews_carry(&p.reviews, &p.pairs, e);
	if (rc == RC_OK)
		rc = finish(&p, e);
	pair_reviews_release(&p.reviews);
	stage_rows_release(&p.pairs);
	stage_rows_release(&p.samples);
	stage_rows_release(&p.positives);
	free(p.lengths);
	free(p.scores);
	fs_list_free(roles);
	return rc;
}
