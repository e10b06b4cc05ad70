/* Judge training data, and what is held out to measure the judge (rules in worker/method/eft.h and
 * eft_check.h).
 *
 * in   eft (dataset of ranked and judge rows), eval (ranked, when given), ift (instruction data, which
 *      must share no prompt with it), model (the baseline, when judgements are to be generated)
 * out  eft  judge rows {"id","prompt","response","score"}
 *      eval ranked rows: those given, else the held-out share of the ranked ones
 *
 * Mode "given": judge rows as they are; ranked rows only serve as eval. Mode "build": the model
 * judges every reply of the training prompts through the judge template, samples_per_item times;
 * the n-th judgements of a prompt's replies are kept when their scores agree with the human order,
 * without those whose justification is not fit to learn from; then the commonest scores are thinned
 * out. A baseline that cannot judge at all yields no rows: that is counted and warned of, and M1 then
 * learns from the instruction data alone.
 * Streams: (seed, RNG_EFT, 0, item = prompt id, sample = reply * samples + n); thinning draws from
 * (seed, RNG_EFT, 1, 0, 0).
 */
#include "worker/stages/stages.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/method/eft.h"
#include "worker/method/eft_check.h"
#include "worker/method/judge_template.h"
#include "worker/method/seed.h"
#include "worker/stage.h"
#include "worker/stages/eft_apart.h"
#include "worker/stages/textgen.h"

#include <stdlib.h>
#include <string.h>

#define EFT_ROWS_MAX (4u << 20)
#define EFT_CHUNK 16 /* prompts between two progress marks */
#define EFT_SAMPLES_MAX 64

struct eft {
	struct stage_ctx *ctx;
	struct judge_template tmpl;
	struct textgen *gen;
	struct textgen_sampling sampling;
	struct eft_checker *checker; /* owned */
	int samples;
	double factor;
	json_t *train, *judge, *eval; /* owned arrays of rows */
	struct stage_rows kept;       /* judge rows before thinning; never an output */
	/* counters; saved with every mark */
	int64_t next, judgements, order[4], reasons[JUDGE_N_REASONS], checks[EFT_N_CHECKS];
};

/* --- what came in ---------------------------------------------------------------------------- */

/* Judge rows, and ranked rows for training or for measuring. */
static void sort_rows(struct eft *s, const json_t *rows, double share)
{
	size_t n = json_array_size(rows), i;
	bool *held = mem_array(n + 1, sizeof(*held)), fixed_eval = s->eval != NULL;
	json_t *row;

	if (!s->eval)
		s->eval = json_array();
	seed_hold_out(rows, s->ctx->seed, share, held);
	json_array_foreach(rows, i, row) {
		if (!json_object_get(row, "replies"))
			json_array_append(s->judge, row);
		else if (fixed_eval || !held[i])
			json_array_append(s->train, row);
		else
			json_array_append(s->eval, row);
	}
	free(held);
}

static enum rc read_inputs(struct eft *s, bool build, struct err *e)
{
	double share = jx_get_f64(stage_section(s->ctx, "data"), "eft_eval_share", 0.25);
	const char *role = stage_in(s->ctx, "eft") ? "eft" : "ranked";
	json_t *rows = NULL;
	enum rc rc = RC_OK;

	s->train = json_array();
	s->judge = json_array();
	if (stage_in(s->ctx, "eval"))
		rc = stage_in_rows(s->ctx, "eval", EFT_ROWS_MAX, &s->eval, e);
	if (rc == RC_OK)
		rc = stage_in_rows(s->ctx, role, EFT_ROWS_MAX, &rows, e);
	if (rc != RC_OK)
		return rc;
	sort_rows(s, rows, build ? share : 1);
	json_decref(rows);
	if (build && json_array_size(s->train) == 0)
		return err_set(e, RC_INVALID,
			       "eft.mode is \"build\", but data.eft has no ranked prompts to "
			       "train on; give some, or use mode \"given\" with judge rows");
	if (!build && json_array_size(s->judge) == 0)
		return err_set(e, RC_INVALID,
			       "eft.mode is \"given\", but data.eft has no judge rows; use mode "
			       "\"build\" for ranked replies");
	return RC_OK;
}

/* --- judging one chunk ----------------------------------------------------------------------- */

static enum rc ask_row(struct eft *s, const json_t *row, struct err *e)
{
	const char *id, *prompt, *text;
	json_t *replies, *reply;
	size_t i;
	int index;
	enum rc rc;

	if ((rc = jx_str(row, "id", &id, e)) != RC_OK ||
	    (rc = jx_str(row, "prompt", &prompt, e)) != RC_OK ||
	    (rc = jx_arr(row, "replies", &replies, e)) != RC_OK)
		return err_wrap(e, "input eft");
	json_array_foreach(replies, i, reply) {
		struct buf ask = BUF_INIT;
		if ((rc = jx_str(reply, "text", &text, e)) != RC_OK)
			return err_wrap(e, "input eft: prompt %s", id);
		judge_template_render(&s->tmpl, prompt, text, &ask);
		struct textgen_req q = {.prompt = ask.data,
					.sampling = s->sampling,
					.stage = RNG_EFT,
					.item = stage_item(id),
					.sample = (uint32_t)i * (uint32_t)s->samples,
					.n = s->samples};
		rc = textgen_add(s->gen, &q, &index, e);
		buf_release(&ask);
		if (rc != RC_OK)
			return rc;
	}
	return RC_OK;
}

static enum rc keep_sample(struct eft *s, const json_t *row, int first, int sample,
			   const int64_t *milli, struct err *e)
{
	const char *id = jx_get_str(row, "id", ""), *prompt = jx_get_str(row, "prompt", "");
	json_t *replies = json_object_get(row, "replies"), *reply;
	enum rc rc = RC_OK;
	size_t i;

	json_array_foreach(replies, i, reply) {
		const struct textgen_result *r = textgen_result(s->gen, first + (int)i, sample);
		enum eft_check fit = eft_checker_look(s->checker, r->text, milli[i]);
		struct buf ask = BUF_INIT;
		json_t *out;

		s->checks[fit]++;
		if (fit != EFT_CHECK_GOOD)
			continue;
		judge_template_render(&s->tmpl, prompt, jx_get_str(reply, "text", ""), &ask);
		out = json_pack("{s:o, s:s, s:s, s:f}", "id",
				json_sprintf("%s/%zu/%d", id, i, sample), "prompt", ask.data,
				"response", r->text, "score", (double)milli[i] / 1000);
		rc = stage_rows_add(&s->kept, out, e);
		json_decref(out);
		buf_release(&ask);
		if (rc != RC_OK)
			break;
	}
	return rc;
}

/* `first`: number of the row's first request. */
static enum rc weigh_row(struct eft *s, const json_t *row, int first, struct err *e)
{
	json_t *replies = json_object_get(row, "replies"), *reply;
	int n = (int)json_array_size(replies), *rank = mem_array((size_t)n + 1, sizeof(*rank));
	int64_t *milli = mem_array((size_t)n + 1, sizeof(*milli));
	bool *valid = mem_array((size_t)n + 1, sizeof(*valid));
	enum rc rc = RC_OK;
	size_t i;

	json_array_foreach(replies, i, reply)
		rank[i] = (int)jx_get_i64(reply, "rank", 0);
	for (int k = 0; rc == RC_OK && k < s->samples; k++) {
		for (int a = 0; a < n; a++) {
			const struct textgen_result *r = textgen_result(s->gen, first + a, k);
			struct judge_score score = {JUDGE_TOO_LONG, 0};
			if (!r->too_long)
				score = judge_parse(&s->tmpl.rule, r->text, strlen(r->text),
						    r->stopped);
			s->judgements++;
			s->reasons[score.reason]++;
			valid[a] = score.reason == JUDGE_OK;
			milli[a] = score.milli;
		}
		enum eft_order order = eft_order_check(rank, milli, valid, n);
		s->order[order]++;
		if (order == EFT_AGREES)
			rc = keep_sample(s, row, first, k, milli, e);
	}
	free(rank);
	free(milli);
	free(valid);
	return rc;
}

/* --- counters -------------------------------------------------------------------------------- */

static json_t *order_json(const struct eft *s)
{
	json_t *v = json_object();

	for (int i = 0; i < 4; i++)
		json_object_set_new(v, eft_order_text((enum eft_order)i),
				    json_integer(s->order[i]));
	return v;
}

static json_t *reasons_json(const struct eft *s)
{
	json_t *v = json_object();

	for (int i = 0; i < JUDGE_N_REASONS; i++)
		json_object_set_new(v, judge_reason_text((enum judge_reason)i),
				    json_integer(s->reasons[i]));
	return v;
}

static json_t *checks_json(const struct eft *s)
{
	json_t *v = json_object();

	for (int i = 0; i < EFT_N_CHECKS; i++)
		json_object_set_new(v, eft_check_text((enum eft_check)i), json_integer(s->checks[i]));
	return v;
}

static json_t *state_json(const struct eft *s)
{
	return json_pack("{s:I, s:I, s:o, s:o, s:o}", "next", (json_int_t)s->next, "judgements",
			 (json_int_t)s->judgements, "order", order_json(s), "reasons",
			 reasons_json(s), "justifications", checks_json(s));
}

static void state_load(struct eft *s, const json_t *v)
{
	const json_t *order = json_object_get(v, "order"), *reasons = json_object_get(v, "reasons");
	const json_t *checks = json_object_get(v, "justifications");

	s->next = jx_get_i64(v, "next", 0);
	s->judgements = jx_get_i64(v, "judgements", 0);
	for (int i = 0; i < 4; i++)
		s->order[i] = jx_get_i64(order, eft_order_text((enum eft_order)i), 0);
	for (int i = 0; i < JUDGE_N_REASONS; i++)
		s->reasons[i] = jx_get_i64(reasons, judge_reason_text((enum judge_reason)i), 0);
	for (int i = 0; i < EFT_N_CHECKS; i++)
		s->checks[i] = jx_get_i64(checks, eft_check_text((enum eft_check)i), 0);
}

/* --- building -------------------------------------------------------------------------------- */

static enum rc one_chunk(struct eft *s, int64_t end, struct err *e)
{
	int first = 0;
	enum rc rc = RC_OK;

	textgen_clear(s->gen);
	for (int64_t i = s->next; rc == RC_OK && i < end; i++)
		rc = ask_row(s, json_array_get(s->train, (size_t)i), e);
	if (rc == RC_OK)
		rc = textgen_run(s->gen, e);
	for (int64_t i = s->next; rc == RC_OK && i < end; i++) {
		const json_t *row = json_array_get(s->train, (size_t)i);
		rc = weigh_row(s, row, first, e);
		first += (int)json_array_size(json_object_get(row, "replies"));
	}
	if (rc != RC_OK)
		return rc;
	s->next = end;
	stage_progress(s->ctx, s->next, (int64_t)json_array_size(s->train), "prompts");
	return stage_rows_mark(&s->kept, state_json(s), e);
}

static enum rc judge_all(struct eft *s, struct err *e)
{
	const char *model = stage_in(s->ctx, "model");
	int64_t n = (int64_t)json_array_size(s->train);
	enum rc rc;

	if (!model)
		return err_set(e, RC_INVALID,
			       "eft.mode \"build\" needs the baseline model, but the job has no "
			       "input model");
	rc = textgen_open(s->ctx, model, jx_get_str(s->ctx->spec, "template", "plain"), &s->gen, e);
	if (rc == RC_OK)
		rc = stage_rows_open(s->ctx, "kept", &s->kept, e);
	if (rc == RC_OK)
		state_load(s, s->kept.state);
	while (rc == RC_OK && s->next < n)
		rc = one_chunk(s, s->next + EFT_CHUNK < n ? s->next + EFT_CHUNK : n, e);
	if (rc == RC_OK && s->reasons[JUDGE_TOO_LONG] > 0)
		log_warn("eft", "judge prompts longer than the context",
			 "n=%lld of=%lld context=%d", (long long)s->reasons[JUDGE_TOO_LONG],
			 (long long)s->judgements, textgen_context(s->gen));
	return rc;
}

/* Counts by whole point from the template's least, as judges report theirs. */
static void report_hist(const struct eft *s, const char *name, const struct eft_hist *h)
{
	int64_t min = s->tmpl.rule.min_milli / 1000, bins = s->tmpl.rule.max_milli / 1000 - min + 1;
	json_t *v = json_array();

	for (int64_t i = 0; i < bins; i++)
		json_array_append_new(v, json_integer(0));
	for (int i = 0; i < h->n; i++) {
		size_t at = (size_t)(h->milli[i] / 1000 - min);

		json_array_set_new(v, at,
				   json_integer(json_integer_value(json_array_get(v, at)) + h->count[i]));
	}
	stage_final(s->ctx, name, v);
}

static json_t *hist_json(const struct eft_hist *h)
{
	json_t *v = json_array();

	for (int i = 0; i < h->n; i++)
		json_array_append_new(v,
				      json_pack("{s:f, s:I}", "score", (double)h->milli[i] / 1000,
						"count", (json_int_t)h->count[i]));
	return v;
}

/* Thins the kept rows out and appends the rest to s->judge. */
static enum rc thin_out(struct eft *s, json_t *meta, struct err *e)
{
	struct eft_hist before, after;
	json_t *rows = NULL, *row;
	struct rng r;
	size_t n, i;
	enum rc rc = stage_rows_load(&s->kept, &rows, e);

	if (rc != RC_OK)
		return rc;
	n = json_array_size(rows);
	int64_t *milli = mem_array(n + 1, sizeof(*milli));
	bool *keep = mem_array(n + 1, sizeof(*keep));
	json_array_foreach(rows, i, row)
		milli[i] = (int64_t)(jx_get_f64(row, "score", 0) * 1000 + 0.5);
	rng_open(&r, s->ctx->seed, RNG_EFT, 1, 0, 0);
	if (!eft_resample(milli, n, s->factor, &r, keep, &before, &after)) {
		rc = err_set(
			e, RC_INVALID,
			"more than %d different scores: use a judge template with whole points",
			EFT_CLASSES_MAX);
	} else {
		json_array_foreach(rows, i, row)
			if (keep[i])
				json_array_append(s->judge, row);
		json_object_set_new(meta, "hist_before", hist_json(&before));
		json_object_set_new(meta, "hist_after", hist_json(&after));
		report_hist(s, "eft.hist_before", &before);
		report_hist(s, "eft.hist_after", &after);
	}
	free(milli);
	free(keep);
	json_decref(rows);
	return rc;
}

static enum rc build(struct eft *s, json_t *meta, struct err *e)
{
	size_t given = json_array_size(s->judge);
	char name[64];
	enum rc rc = judge_all(s, e);

	if (rc == RC_OK)
		rc = thin_out(s, meta, e);
	if (rc != RC_OK)
		return rc;
	json_object_set_new(meta, "prompts", json_integer((json_int_t)json_array_size(s->train)));
	json_object_set_new(meta, "judgements", json_integer(s->judgements));
	json_object_set_new(meta, "order", order_json(s));
	json_object_set_new(meta, "reasons", reasons_json(s));
	json_object_set_new(meta, "justifications", checks_json(s));
	textgen_meta(s->gen, meta);
	stage_final(s->ctx, "eft.judgements", json_integer(s->judgements));
	stage_final(s->ctx, "eft.agree", json_integer(s->order[EFT_AGREES]));
	stage_final(s->ctx, "eft.readable", json_integer(s->reasons[JUDGE_OK]));
	stage_final(s->ctx, "eft.tied", json_integer(s->order[EFT_TIED]));
	stage_final(s->ctx, "eft.reversed", json_integer(s->order[EFT_DISAGREES]));
	for (int i = EFT_CHECK_GOOD + 1; i < EFT_N_CHECKS; i++) {
		str_fmt(name, sizeof name, "eft.justification_%s", eft_check_text((enum eft_check)i));
		stage_final(s->ctx, name, json_integer(s->checks[i]));
	}
	stage_final(s->ctx, "eft.parse_fail",
		    json_real(s->judgements
				      ? 1 - (double)s->reasons[JUDGE_OK] / (double)s->judgements
				      : 0));
	textgen_report(s->gen);
	if (json_array_size(s->judge) == given)
		log_warn("eft",
			 "no judgement of the baseline agrees with the human order; it adds nothing",
			 "judgements=%lld readable=%lld tied=%lld reversed=%lld",
			 (long long)s->judgements, (long long)s->reasons[JUDGE_OK],
			 (long long)s->order[EFT_TIED], (long long)s->order[EFT_DISAGREES]);
	return RC_OK;
}

/* --- the stage ------------------------------------------------------------------------------- */

static enum rc configure(struct eft *s, bool *build_mode, struct err *e)
{
	const json_t *c = stage_section(s->ctx, "eft");
	const char *mode = jx_get_str(c, "mode", "given");
	struct eft_rules rules = {.min_words = (int)jx_get_i64(c, "min_words", 1),
				  .max_words = (int)jx_get_i64(c, "max_words", 200),
				  .leak_words = (int)jx_get_i64(c, "leak_words", 12),
				  .same_score = jx_get_bool(c, "same_score", true)};
	enum rc rc;

	s->kept.fd = -1;
	s->samples = (int)jx_get_i64(c, "samples_per_item", 1);
	s->factor = jx_get_f64(c, "max_per_score_factor", 1.0);
	s->sampling = (struct textgen_sampling){
		.temperature = (float)jx_get_f64(c, "temperature", 0.7),
		.top_p = (float)jx_get_f64(c, "top_p", 0.9),
		.max_new = (int)jx_get_i64(c, "max_new_tokens", 256),
	};
	*build_mode = strcmp(mode, "build") == 0;
	if (!*build_mode && strcmp(mode, "given") != 0)
		return err_set(e, RC_INVALID, "eft.mode \"%s\": expected \"build\" or \"given\"",
			       mode);
	if (s->samples < 1 || s->samples > EFT_SAMPLES_MAX || !(s->factor > 0))
		return err_set(e, RC_INVALID,
			       "eft: samples_per_item %d (1 to %d), max_per_score_factor %g (> 0)",
			       s->samples, EFT_SAMPLES_MAX, s->factor);
	rc = judge_template_of(json_object_get(stage_section(s->ctx, "judge"), "template"), &s->tmpl, e);
	if (rc == RC_OK)
		s->checker = eft_checker_new(&s->tmpl, &rules);
	return rc;
}

enum rc stage_eft(struct stage_ctx *ctx, struct err *e)
{
	struct eft s = {.ctx = ctx};
	json_t *meta = json_object();
	bool build_mode = false;
	enum rc rc = configure(&s, &build_mode, e);

	if (rc == RC_OK)
		rc = read_inputs(&s, build_mode, e);
	if (rc == RC_OK)
		rc = eft_apart(ctx, &s.tmpl, s.train, s.judge, s.eval, e);
	if (rc == RC_OK && build_mode)
		rc = build(&s, meta, e);
	if (rc == RC_OK) {
		json_object_set_new(meta, "mode", json_string(build_mode ? "build" : "given"));
		json_object_set_new(meta, "judge_template", json_string(s.tmpl.sha256));
		stage_final(ctx, "eft.rows", json_integer((json_int_t)json_array_size(s.judge)));
		stage_final(ctx, "eft.eval_rows",
			    json_integer((json_int_t)json_array_size(s.eval)));
		rc = stage_rows_put(s.ctx, "eft", s.judge, json_incref(meta), e);
	}
	if (rc == RC_OK)
		rc = stage_rows_put(s.ctx, "eval", s.eval, NULL, e);
	json_decref(meta);
	json_decref(s.train);
	json_decref(s.judge);
	json_decref(s.eval);
	stage_rows_release(&s.kept);
	textgen_close(s.gen);
	eft_checker_free(s.checker);
	judge_template_release(&s.tmpl);
	return rc;
}
