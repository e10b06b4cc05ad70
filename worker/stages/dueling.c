#include "worker/stages/dueling.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "worker/method/lcwr.h"
#include "worker/stage.h"
#include "worker/stages/endpoint.h"
#include "worker/stages/judging.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_TIMEOUT_S 600
#define SAMPLE_DUEL 0x50000000u /* judging uses numbers from 0 with the same items */
#define TEMPLATE_DEFAULT "mt-pair-v2"

enum rc dueling_open(struct dueling *d, struct stage_ctx *ctx, const json_t *c, struct textgen *gen,
		     struct err *e)
{
	const json_t *tmpl = json_object_get(c, "template");
	json_t *named = json_string(TEMPLATE_DEFAULT);

	*d = (struct dueling){.ctx = ctx, .c = c};
	d->by_command = strcmp(jx_get_str(c, "judge", "none"), "command") == 0;
	d->max_new = (int)jx_get_i64(stage_section(ctx, "judge"), "max_new_tokens", 256);
	bool http = strcmp(jx_get_str(c, "judge", "none"), "http") == 0;
	enum rc rc = judge_template_of(tmpl && !json_is_null(tmpl) ? tmpl : named, &d->tmpl, e);
	json_decref(named);
	if (rc == RC_OK && d->tmpl.form != JUDGE_PAIR)
		rc = err_set(e, RC_INVALID,
			     "head_to_head.template \"%s\" scores one answer; expected one that compares "
			     "two", d->tmpl.name);
	if (rc == RC_OK && !d->by_command)
		rc = asker_open(&d->asker, ctx, http ? NULL : gen, json_object_get(c, "http"), e);
	return rc;
}

void dueling_close(struct dueling *d)
{
	asker_close(&d->asker);
	judge_template_release(&d->tmpl);
}

struct duel *dueling_match(const json_t *ours, const json_t *theirs, const json_t *test, size_t *n)
{
	json_t *by_id = json_object();
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)theirs, i, row)
		json_object_set(by_id, jx_get_str(row, "id", ""), json_object_get(row, "greedy"));
	struct duel *list = mem_array(json_array_size(ours) + 1, sizeof *list);
	*n = 0;
	json_array_foreach((json_t *)(uintptr_t)ours, i, row) {
		const char *id = jx_get_str(row, "id", "");
		const json_t *other = json_object_get(by_id, id);

		if (!other)
			continue;
		list[(*n)++] = (struct duel){
			.id = id,
			.prompt = jx_get_str(row, "prompt", ""),
			.ours = jx_get_str(json_object_get(row, "greedy"), "text", ""),
			.theirs = jx_get_str(other, "text", ""),
			.meta = json_object_get(json_array_get(test, i), "meta")};
	}
	json_decref(by_id); /* Texts are borrowed from the rows. */
	return list;
}

/* Equal texts are a tie without asking: a judge would only show its taste for a position. */
static bool same_text(const struct duel *d)
{
	return strcmp(d->ours, d->theirs) == 0;
}

static struct asker_q question(const struct dueling *d, const struct duel *v, int k)
{
	return (struct asker_q){.tmpl = &d->tmpl,
				.shown = {.prompt = v->prompt,
					  .response_a = k ? v->theirs : v->ours,
					  .response_b = k ? v->ours : v->theirs,
					  .reference = judging_reference(v->meta)},
				.sampling = {.top_p = 1, .max_new = d->max_new},
				.stage = RNG_EVAL,
				.iter = (uint32_t)d->ctx->iter,
				.item = stage_item(v->id),
				.sample = SAMPLE_DUEL + (uint32_t)k};
}

static enum rc by_asker(struct dueling *d, struct duel *list, size_t n, struct err *e)
{
	struct asker_q *q = mem_array(2 * n + 1, sizeof *q);
	int asked = 0, at = 0;

	for (size_t i = 0; i < n; i++)
		for (int k = 0; !same_text(&list[i]) && k < 2; k++)
			q[asked++] = question(d, &list[i], k);
	enum rc rc = asker_run(&d->asker, q, asked, e);
	for (size_t i = 0; rc == RC_OK && i < n; i++)
		for (int k = 0; k < 2; k++) {
			if (same_text(&list[i])) {
				list[i].verdict[k] = VERDICT_TIE;
				continue;
			}
			list[i].verdict[k] = winrate_parse(q[at].text, strlen(q[at].text));
			at++;
		}
	asker_release(q, asked);
	free(q);
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
static enum rc by_command(const struct dueling *d, struct duel *list, size_t n, struct err *e)
{
	json_t *rows = json_array(), *answers = NULL;

	for (size_t i = 0; i < n; i++)
		for (int k = 0; k < 2; k++)
			json_array_append_new(
				rows, json_pack("{s:s, s:s, s:s, s:s, s:O?}", "id", list[i].id, "prompt",
						list[i].prompt, "a", k ? list[i].theirs : list[i].ours, "b",
						k ? list[i].ours : list[i].theirs, "meta", list[i].meta));
	enum rc rc = judging_command(json_object_get(d->c, "command"), rows,
				     jx_get_i64(d->c, "timeout_s", COMMAND_TIMEOUT_S) * 1000, &answers, e);
	for (size_t i = 0; rc == RC_OK && i < n; i++)
		for (size_t k = 0; k < 2; k++)
			list[i].verdict[k] = verdict_of(json_array_get(answers, 2 * i + k));
	json_decref(rows);
	json_decref(answers);
	return rc == RC_OK ? RC_OK : err_wrap(e, "eval.head_to_head");
}

enum rc dueling_run(struct dueling *d, struct duel *list, size_t n, struct err *e)
{
	return d->by_command ? by_command(d, list, n, e) : by_asker(d, list, n, e);
}

static json_t *verdict_json(enum verdict v, const char *a, const char *b)
{
	return v == VERDICT_A     ? json_string(a)
	       : v == VERDICT_B   ? json_string(b)
	       : v == VERDICT_TIE ? json_string("tie")
				  : json_null();
}

static enum rc add_rows(struct stage_rows *rows, const struct duel *list, size_t n, struct err *e)
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

enum rc dueling_all(struct dueling *d, struct stage_rows *rows, struct duel *list, size_t n, int chunk,
		    int64_t done, int64_t total, struct err *e)
{
	enum rc rc = RC_OK;

	asker_charges_load(&d->asker, rows->state);
	for (size_t at = (size_t)rows->n; rc == RC_OK && at < n; at += (size_t)chunk) {
		size_t len = at + (size_t)chunk < n ? (size_t)chunk : n - at;

		rc = dueling_run(d, list + at, len, e);
		if (rc == RC_OK)
			rc = add_rows(rows, list + at, len, e);
		if (rc == RC_OK)
			rc = stage_rows_mark(rows, asker_charges(&d->asker), e);
		stage_progress(d->ctx, done + rows->n, total, "rows");
	}
	return rc;
}

/* --- figures --------------------------------------------------------------------------------- */

static enum verdict verdict_read(const json_t *row)
{
	const char *v = jx_get_str(row, "verdict", "");

	return strcmp(v, "win") == 0	? VERDICT_A
	       : strcmp(v, "loss") == 0 ? VERDICT_B
	       : strcmp(v, "tie") == 0	? VERDICT_TIE
					: VERDICT_NONE;
}

static void number(const struct dueling *d, const char *name, double value)
{
	stage_final(d->ctx, name, isfinite(value) ? json_real(value) : json_null());
}

static void report(const struct dueling *d, const struct winrate *w, const char *opponent)
{
	struct winrate_result r = winrate_result(w);

	stage_final(d->ctx, "h2h.win", json_integer(w->win));
	stage_final(d->ctx, "h2h.tie", json_integer(w->tie));
	stage_final(d->ctx, "h2h.loss", json_integer(w->loss));
	stage_final(d->ctx, "h2h.none", json_integer(w->none));
	stage_final(d->ctx, "h2h.n", json_integer(r.n));
	number(d, "h2h.rate", r.rate);
	number(d, "h2h.low", r.low);
	number(d, "h2h.high", r.high);
	stage_final(d->ctx, "h2h.opponent", json_string(opponent));
	asker_report(&d->asker, d->ctx, "h2h");
}

static double characters(const char *text)
{
	double n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

/* The win rate with the standard error of AlpacaEval, and the one without the effect of length. */
static void report_rates(const struct dueling *d, const json_t *all, const struct duel *list, size_t n)
{
	struct lcwr_item *items = mem_array(n + 1, sizeof *items);
	double sum = 0, sum_sq = 0, rate, m;
	const json_t *row;
	size_t i, k = 0;

	json_array_foreach((json_t *)(uintptr_t)all, i, row) {
		enum verdict v = verdict_read(row);

		if (i >= n || v == VERDICT_NONE)
			continue;
		items[k] = (struct lcwr_item){.won = v == VERDICT_A ? 1 : v == VERDICT_TIE ? 0.5 : 0,
					      .ours = characters(list[i].ours),
					      .theirs = characters(list[i].theirs)};
		sum += items[k].won;
		sum_sq += items[k].won * items[k].won;
		k++;
	}
	const char *why = lcwr_fit(items, k, &rate);
	free(items);
	m = (double)k;
	if (k > 1)
		number(d, "h2h.rate_se", sqrt((sum_sq - sum * sum / m) / (m - 1) / m));
	number(d, "h2h.lc_rate", rate);
	if (why)
		stage_final(d->ctx, "h2h.lc_refused", json_string(why));
}

/* {category: {"n","rate"}} where the prompts have one. */
static json_t *by_category(const json_t *all, const struct duel *list, size_t n)
{
	json_t *out = json_object(), *entry;
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)all, i, row) {
		const char *name = i < n ? jx_get_str(list[i].meta, "category", NULL) : NULL;
		enum verdict v = verdict_read(row);

		if (!name || v == VERDICT_NONE)
			continue;
		if (!(entry = json_object_get(out, name))) {
			entry = json_pack("{s:i, s:f}", "n", 0, "rate", 0.0);
			json_object_set_new(out, name, entry);
		}
		double had = jx_get_f64(entry, "rate", 0), count = (double)jx_get_i64(entry, "n", 0);
		double won = v == VERDICT_A ? 1 : v == VERDICT_TIE ? 0.5 : 0;
		json_object_set_new(entry, "n", json_integer((json_int_t)count + 1));
		json_object_set_new(entry, "rate", json_real((had * count + won) / (count + 1)));
	}
	return out;
}

enum rc dueling_finish(struct dueling *d, struct stage_rows *rows, const struct duel *list, size_t n,
		       const char *opponent, struct err *e)
{
	struct winrate w = {0};
	json_t *all, *row, *meta, *categories;
	size_t i;

	enum rc rc = stage_rows_load(rows, &all, e);
	if (rc != RC_OK)
		return rc;
	json_array_foreach(all, i, row)
		winrate_add(&w, verdict_read(row));
	report(d, &w, opponent);
	report_rates(d, all, list, n);
	categories = by_category(all, list, n);
	if (json_object_size(categories) > 0)
		stage_final(d->ctx, "h2h.categories", json_incref(categories));
	json_decref(categories);
	json_decref(all);
	meta = json_pack("{s:I, s:I, s:I, s:I}", "win", (json_int_t)w.win, "tie", (json_int_t)w.tie, "loss",
			 (json_int_t)w.loss, "none", (json_int_t)w.none);
	if (!d->by_command && d->asker.gen)
		textgen_meta(d->asker.gen, meta);
	else if (!d->by_command)
		json_object_set_new(meta, "judge", endpoint_json(d->asker.ep));
	return stage_rows_finish(rows, meta, e);
}
