#include "worker/stages/judging.h"

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "worker/stage.h"
#include "worker/stages/contest.h"
#include "worker/stages/endpoint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define ANSWER_MAX (256u << 20)
#define ARGS_MAX 64
#define COMMAND_TIMEOUT_S 600

/* --- commands -------------------------------------------------------------------------------- */

static enum rc read_argv(const json_t *argv, const char *out[ARGS_MAX + 1], struct err *e)
{
	size_t n = json_array_size(argv);

	if (n == 0 || n > ARGS_MAX)
		return err_set(e, RC_INVALID, "command: %zu words, expected 1 to %d", n, ARGS_MAX);
	for (size_t i = 0; i < n; i++) {
		out[i] = json_string_value(json_array_get(argv, i));
		if (!out[i])
			return err_set(e, RC_INVALID, "command: word %zu is not a string", i);
	}
	out[n] = NULL;
	return RC_OK;
}

static enum rc read_answers(const struct buf *text, size_t want, const char *name, json_t **out,
			    struct err *e)
{
	json_t *list = json_array();
	size_t at = 0;

	while (at < text->len) {
		const char *line = text->data + at, *nl = memchr(line, '\n', text->len - at);
		size_t len = nl ? (size_t)(nl - line) : text->len - at;
		json_t *v;

		at += len + 1;
		if (str_trim((struct str){line, len}).len == 0)
			continue;
		if (jx_parse(line, len, name, &v, e) != RC_OK) {
			err_wrap(e, "answer %zu", json_array_size(list) + 1);
			json_decref(list);
			return RC_INVALID;
		}
		json_array_append_new(list, v);
	}
	if (json_array_size(list) != want) {
		size_t got = json_array_size(list);

		json_decref(list);
		return err_set(e, RC_INVALID, "%s: %zu answers to %zu lines", name, got, want);
	}
	*out = list;
	return RC_OK;
}

enum rc judging_command(const json_t *argv, const json_t *rows, int64_t timeout_ms, json_t **answers,
			struct err *e)
{
	const char *words[ARGS_MAX + 1];
	struct buf in = BUF_INIT, out = BUF_INIT;
	const json_t *row;
	char how[64];
	size_t i;
	int status = 0;

	enum rc rc = read_argv(argv, words, e);
	if (rc != RC_OK)
		return rc;
	json_array_foreach((json_t *)rows, i, row) {
		jx_dump(row, &in);
		buf_putc(&in, '\n');
	}
	struct proc_opts o = {.argv = words, .own_group = true};
	rc = proc_run(&o, in.data ? in.data : "", in.len, ANSWER_MAX, timeout_ms, &out, &status, e);
	if (rc == RC_OK && status != 0) {
		proc_status_text(status, how, sizeof how);
		rc = err_set(e, RC_IO, "%s", how);
	}
	if (rc == RC_OK)
		rc = read_answers(&out, json_array_size(rows), words[0], answers, e);
	buf_release(&in);
	buf_release(&out);
	return rc == RC_OK ? RC_OK : err_wrap(e, "command %s", words[0]);
}

/* --- settings -------------------------------------------------------------------------------- */

const char *judging_reference(const json_t *meta)
{
	const char *text = jx_get_str(meta, "reference", NULL);

	return text ? text : jx_get_str(meta, "answer", NULL);
}

/* The one found for this run (one row {"template":{…}}), else the section's, else the default. */
static enum rc choose_template(struct judging *j, const json_t *c, struct err *e)
{
	const json_t *given = json_object_get(c, "template");
	json_t *rows = NULL;
	enum rc rc;

	j->tell = stage_in(j->ctx, "template") != NULL;
	if (!j->tell)
		return judge_template_of(given, &j->tmpl, e);
	rc = stage_in_rows(j->ctx, "template", 1, &rows, e);
	if (rc == RC_OK && !json_array_size(rows))
		rc = err_set(e, RC_INVALID, "input template has no row");
	if (rc == RC_OK)
		rc = judge_template_of(json_object_get(json_array_get(rows, 0), "template"), &j->tmpl, e);
	json_decref(rows);
	return rc;
}

enum rc judging_open(struct judging *j, struct stage_ctx *ctx, const json_t *c, struct textgen *gen,
		     enum rng_stage stage, struct err *e)
{
	if (!c)
		c = stage_section(ctx, "judge");
	*j = (struct judging){.ctx = ctx, .gen = gen, .stage = stage, .iter = (uint32_t)ctx->iter};
	j->by_command = strcmp(jx_get_str(c, "kind", "model"), "command") == 0;
	j->command = json_object_get(c, "command");
	j->command_timeout_ms = jx_get_i64(c, "timeout_s", COMMAND_TIMEOUT_S) * 1000;
	j->max_retries = (int)jx_get_i64(c, "max_retries", 2);
	if (j->max_retries >= JUDGE_TRIES_MAX)
		j->max_retries = JUDGE_TRIES_MAX - 1;
	j->sampling = (struct textgen_sampling){
		.temperature = (float)jx_get_f64(c, "temperature", 0.7),
		.top_p = (float)jx_get_f64(c, "top_p", 0.9),
		.max_new = (int)jx_get_i64(c, "max_new_tokens", 256),
	};
	enum rc rc = choose_template(j, c, e);
	j->random_order = strcmp(jx_get_str(c, "order", "both"), "random") == 0;
	j->by_endpoint = !gen && strcmp(jx_get_str(c, "kind", "model"), "http") == 0;
	if (rc == RC_OK && !j->by_command && !gen && !j->by_endpoint)
		rc = err_set(e, RC_INVALID, "judge: input model is missing");
	if (rc == RC_OK && !j->by_command)
		rc = asker_open(&j->asker, ctx, gen, json_object_get(c, "http"), e);
	return rc;
}

void judging_close(struct judging *j)
{
	asker_close(&j->asker);
	judge_template_release(&j->tmpl);
}

/* --- by model -------------------------------------------------------------------------------- */

/* One name per (candidate, pass, attempt) of an item. */
static uint32_t sample_of(const struct judging_item *it, int attempt)
{
	return ((uint32_t)it->candidate * JUDGE_PASSES_MAX + (uint32_t)it->pass) * JUDGE_TRIES_MAX +
	       (uint32_t)attempt;
}

static const struct judge_template *shown_by(const struct judging *j, const struct judging_item *it)
{
	return it->tmpl ? it->tmpl : &j->tmpl;
}

static struct asker_q question_of(const struct judging *j, const struct judging_item *it)
{
	return (struct asker_q){.tmpl = shown_by(j, it),
				.shown = {.prompt = it->prompt,
					  .response = it->response,
					  .reference = judging_reference(it->meta)},
				.sampling = j->sampling,
				.stage = j->stage,
				.iter = j->iter,
				.item = stage_item(it->id),
				.sample = sample_of(it, it->attempts)};
}

static void hear(struct judging *j, struct judging_item *it, const struct asker_q *a)
{
	it->attempts++;
	free(it->text);
	it->text = mem_str(a->text);
	it->milli = 0;
	it->reason = a->too_long ? JUDGE_TOO_LONG : JUDGE_NO_ANSWER;
	if (a->too_long || !a->answered)
		return;
	struct judge_score s = judge_parse(&j->tmpl.rule, a->text, strlen(a->text), a->stopped);
	it->reason = s.reason;
	it->milli = s.milli;
}

static bool wants_retry(const struct judging *j, const struct judging_item *it)
{
	return it->attempts == 0 ||
	       (it->reason != JUDGE_OK && it->reason != JUDGE_TOO_LONG && it->attempts <= j->max_retries);
}

/* A template that shows a reference is not asked about what has none. */
static void refuse_unreferenced(struct judging *j, struct judging_item *items, int n)
{
	for (int i = 0; i < n; i++)
		if (shown_by(j, &items[i])->reference && items[i].attempts == 0 &&
		    !judging_reference(items[i].meta)) {
			items[i].attempts = j->max_retries + 1;
			items[i].reason = JUDGE_NO_REFERENCE;
		}
}

/* Everything once, then what could not be read again, until nothing is left to try. */
static enum rc by_asker(struct judging *j, struct judging_item *items, int n, struct err *e)
{
	struct asker_q *q = mem_array((size_t)n + 1, sizeof *q);
	int *of = mem_array((size_t)n + 1, sizeof *of), asked;
	enum rc rc = RC_OK;

	refuse_unreferenced(j, items, n);
	do {
		asked = 0;
		for (int i = 0; i < n; i++) {
			if (!wants_retry(j, &items[i]))
				continue;
			j->retries += items[i].attempts > 0;
			of[asked] = i;
			q[asked++] = question_of(j, &items[i]);
		}
		if (asked > 0)
			rc = asker_run(&j->asker, q, asked, e);
		for (int k = 0; rc == RC_OK && k < asked; k++)
			hear(j, &items[of[k]], &q[k]);
		asker_release(q, asked);
	} while (rc == RC_OK && asked > 0);
	free(q);
	free(of);
	return rc;
}

/* --- by command ------------------------------------------------------------------------------ */

static json_t *question(const struct judging *j, const struct judging_item *it)
{
	json_t *v = json_pack("{s:s, s:s, s:s, s:i, s:i, s:O?}", "id", it->id, "prompt", it->prompt,
			      "response", it->response, "candidate", it->candidate, "pass", it->pass,
			      "meta", it->meta);
	struct judge_shown shown = {.prompt = it->prompt,
				    .response = it->response,
				    .reference = judging_reference(it->meta)};
	struct buf ask = BUF_INIT;

	if (j->tell && j->tmpl.form == JUDGE_SCORE) {
		judge_template_whole(shown_by(j, it), &shown, &ask);
		json_object_set_new(v, "ask", json_string(ask.data));
	}
	buf_release(&ask);
	return v;
}

static void hear_command(struct judging *j, struct judging_item *it, const json_t *answer)
{
	const struct judge_rule *rule = &j->tmpl.rule;
	const json_t *score = json_object_get(answer, "score");

	it->attempts = 1;
	free(it->text);
	it->text = mem_str(jx_get_str(answer, "text", ""));
	it->reason = JUDGE_NO_MATCH;
	if (!json_is_number(score))
		return;
	double milli = json_number_value(score) * 1000;
	it->reason = JUDGE_OUT_OF_RANGE;
	if (!(milli >= (double)rule->min_milli - 0.5 && milli <= (double)rule->max_milli + 0.5))
		return;
	it->reason = JUDGE_OK;
	it->milli = llround(milli);
}

static enum rc by_command(struct judging *j, struct judging_item *items, int n, struct err *e)
{
	json_t *rows = json_array(), *answers = NULL;

	for (int i = 0; i < n; i++)
		json_array_append_new(rows, question(j, &items[i]));
	enum rc rc = n > 0 ? judging_command(j->command, rows, j->command_timeout_ms, &answers, e)
			   : RC_OK;
	for (int i = 0; rc == RC_OK && i < n; i++)
		hear_command(j, &items[i], json_array_get(answers, (size_t)i));
	json_decref(rows);
	json_decref(answers);
	return rc;
}

/* --- both ------------------------------------------------------------------------------------ */

static void count(struct judging *j, const struct judging_item *it)
{
	j->items++;
	j->reasons[it->reason]++;
	if (it->reason != JUDGE_OK) {
		j->failed++;
		return;
	}
	int64_t bin = (it->milli - j->tmpl.rule.min_milli + 500) / 1000;
	if (bin >= 0 && bin < JUDGE_BINS)
		j->hist[bin]++;
}

enum rc judging_run(struct judging *j, struct judging_item *items, int n, struct err *e)
{
	enum rc rc = j->by_command		     ? by_command(j, items, n, e)
		     : j->tmpl.form == JUDGE_PAIR ? judging_contest(j, items, n, e)
						  : by_asker(j, items, n, e);

	for (int i = 0; rc == RC_OK && i < n; i++)
		count(j, &items[i]);
	return rc;
}

void judging_item_release(struct judging_item *item)
{
	free(item->text);
	item->text = NULL;
}

json_t *judging_points(int64_t milli)
{
	return milli % 1000 == 0 ? json_integer(milli / 1000) : json_real((double)milli / 1000);
}

json_t *judging_score(const struct judging_item *item)
{
	return item->reason == JUDGE_OK ? judging_points(item->milli) : json_null();
}

static int bins_of(const struct judging *j)
{
	int64_t n = (j->tmpl.rule.max_milli - j->tmpl.rule.min_milli + 500) / 1000 + 1;

	return n > JUDGE_BINS ? JUDGE_BINS : (int)n;
}

json_t *judging_counters(const struct judging *j)
{
	json_t *reasons = json_object(), *hist = json_array();

	for (int i = 0; i < JUDGE_N_REASONS; i++)
		if (i != JUDGE_OK && j->reasons[i] > 0)
			json_object_set_new(reasons, judge_reason_text((enum judge_reason)i),
					    json_integer(j->reasons[i]));
	for (int i = 0; i < bins_of(j); i++)
		json_array_append_new(hist, json_integer(j->hist[i]));
	return json_pack("{s:I, s:I, s:I, s:o, s:o, s:o*}", "items", (json_int_t)j->items, "failed",
			 (json_int_t)j->failed, "retries", (json_int_t)j->retries, "reasons", reasons,
			 "hist", hist, "charges", asker_charges(&j->asker));
}

json_t *judging_identity(const struct judging *j)
{
	json_t *v = json_pack("{s:s, s:s, s:s}", "kind",
			      j->by_command ? "command" : j->by_endpoint ? "http" : "model", "template",
			      j->tmpl.name, "sha256", j->tmpl.sha256);

	if (j->by_command)
		json_object_set(v, "command", (json_t *)(uintptr_t)j->command);
	if (j->by_endpoint)
		json_object_set_new(v, "endpoint", endpoint_json(j->asker.ep));
	return v;
}

void judging_counters_load(struct judging *j, const json_t *v)
{
	const json_t *hist = json_object_get(v, "hist"), *reasons = json_object_get(v, "reasons");

	j->items = jx_get_i64(v, "items", 0);
	j->failed = jx_get_i64(v, "failed", 0);
	j->retries = jx_get_i64(v, "retries", 0);
	for (int i = 0; i < JUDGE_N_REASONS; i++)
		j->reasons[i] = jx_get_i64(reasons, judge_reason_text((enum judge_reason)i), 0);
	for (int i = 0; i < bins_of(j); i++)
		j->hist[i] = json_integer_value(json_array_get(hist, (size_t)i));
	j->reasons[JUDGE_OK] = j->items - j->failed;
	asker_charges_load(&j->asker, json_object_get(v, "charges"));
}
