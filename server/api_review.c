/* Human review of preference pairs: what was said, saying it, taking it back, agreement, export. */
#include "server/api.h"

#include "base/jsonx.h"
#include "base/str.h"
#include "server/listing.h"
#include "server/pair_key.h"
#include "server/reply.h"
#include "server/review.h"
#include "server/rows.h"
#include "server/server.h"

#include <string.h>

#define PAGE_DEFAULT 1000
#define PAGE_MAX 10000

/* --- one dataset ----------------------------------------------------------------------------- */

static void answer_list(struct req *r, const struct rows *rows, const json_t *lines, int64_t from,
			int64_t limit)
{
	const char *by = req_query(r, "by");
	json_t *items = json_array(), *line, *body;
	int64_t at = 0;
	char next[24];
	size_t i;

	json_array_foreach(lines, i, line)
	{
		if (by && by[0] && strcmp(jx_get_str(line, "by", ""), by) != 0)
			continue;
		if (at >= from && at < from + limit)
			json_array_append_new(items, review_json(line, rows));
		at++;
	}
	str_fmt(next, sizeof next, "%lld", (long long)(from + limit));
	body = json_pack("{s:o, s:o, s:o}", "items", items, "next_cursor",
			 from + limit < at ? json_string(next) : json_null(), "summary",
			 review_summary(lines, (int64_t)rows->n_pairs));
	reply_json(r, 200, body);
}

void api_review_list(struct req *r)
{
	struct rows *rows = NULL;
	json_t *lines = NULL;
	struct err e = {0};
	int64_t limit, from;

	if (!req_query_i64(r, "limit", PAGE_DEFAULT, 1, PAGE_MAX, &limit) ||
	    !req_query_i64(r, "cursor", 0, 0, INT32_MAX, &from))
		return;
	if (rows_open(r->srv->store, r->args[0], &rows, &e) ||
	    review_list(r->srv, rows, &lines, &e))
		reply_err(r, &e);
	else
		answer_list(r, rows, lines, from, limit);
	json_decref(lines);
	rows_release(rows);
}

/* --- one pair -------------------------------------------------------------------------------- */

struct one {
	struct rows *rows;
	json_t *row, *mine; /* mine: what this person has said of it, or NULL */
	char key[PAIR_KEY_SIZE];
};

static void one_close(struct one *o)
{
	json_decref(o->row);
	json_decref(o->mine);
	rows_release(o->rows);
}

static json_t *find_mine(const struct req *r, const json_t *lines, const char *key)
{
	json_t *line;
	size_t i;

	json_array_foreach(lines, i, line)
		if (strcmp(jx_get_str(line, "key", ""), key) == 0 &&
		    strcmp(jx_get_str(line, "by", ""), r->who.name) == 0)
			return json_incref(line);
	return NULL;
}

/* The pair of the path; false after answering that there is none. */
static bool one_open(struct req *r, struct one *o)
{
	json_t *lines = NULL;
	struct err e = {0};
	int64_t n = -1;

	*o = (struct one){0};
	if (!str_to_i64(r->args[1], &n) || n < 0) {
		reply_problem(r, 404, "not-found", "no row \"%s\"", r->args[1]);
	} else if (rows_open(r->srv->store, r->args[0], &o->rows, &e)) {
		reply_err(r, &e);
	} else if (n >= (int64_t)o->rows->n) {
		reply_problem(r, 404, "not-found", "row %lld of %zu", (long long)n, o->rows->n);
	} else if (o->row = rows_json(o->rows, (uint32_t)n), !pair_key(o->row, o->key)) {
		reply_problem(r, 404, "no-pair", "row %lld holds no pair to review", (long long)n);
	} else if (review_list(r->srv, o->rows, &lines, &e)) {
		reply_err(r, &e);
	} else {
		o->mine = find_mine(r, lines, o->key);
		json_decref(lines);
		return true;
	}
	one_close(o);
	return false;
}

void api_review_get(struct req *r)
{
	struct one o;

	if (!one_open(r, &o))
		return;
	if (o.mine)
		reply_json(r, 200, review_json(o.mine, o.rows));
	else
		reply_problem(r, 404, "not-found", "%s has not reviewed this pair", r->who.name);
	one_close(&o);
}

/* One line more. `verdict` NULL: taken back. */
static enum rc say(struct req *r, const struct one *o, const char *verdict, const char *note,
		   bool blind, json_t **line, struct err *e)
{
	*line = json_pack("{s:s, s:s, s:O, s:s, s:s?, s:s, s:b, s:s, s:s}", "key", o->key, "dataset",
			  r->args[0], "n", json_object_get(o->row, "n"), "id",
			  jx_get_str(o->row, "id", ""), "verdict", verdict, "note", note, "blind",
			  (int)blind, "by", r->who.name, "identity", r->who.id);
	return review_add(r->srv, *line, e);
}

/* PUT {"verdict", "note"?, "blind"?} */
void api_review_put(struct req *r)
{
	static const char *const known[] = {"verdict", "note", "blind", NULL};
	const char *verdict = "", *note = "";
	bool blind = false;
	json_t *body = req_json(r), *line = NULL;
	struct err e = {0};
	struct one o;

	if (!body || !one_open(r, &o)) {
		json_decref(body);
		return;
	}
	if (jx_only(body, known, &e) || jx_str(body, "verdict", &verdict, &e) ||
	    jx_opt_str(body, "note", &note, &e) || jx_opt_bool(body, "blind", &blind, &e))
		reply_err(r, &e);
	else if (strcmp(verdict, "agree") && strcmp(verdict, "disagree") && strcmp(verdict, "skip"))
		reply_problem(r, 422, "invalid",
			      "verdict is \"%.40s\"; expected agree, disagree or skip", verdict);
	else if (strlen(note) > REVIEW_NOTE_MAX)
		reply_problem(r, 422, "invalid", "note has %zu bytes; at most %d are kept", strlen(note),
			      REVIEW_NOTE_MAX);
	else if (say(r, &o, verdict, note, blind, &line, &e))
		reply_err(r, &e);
	else
		reply_json(r, o.mine ? 200 : 201, review_json(line, o.rows));
	json_decref(line);
	json_decref(body);
	one_close(&o);
}

void api_review_delete(struct req *r)
{
	json_t *line = NULL;
	struct err e = {0};
	struct one o;

	if (!one_open(r, &o))
		return;
	if (!o.mine)
		reply_problem(r, 404, "not-found", "%s has not reviewed this pair", r->who.name);
	else if (say(r, &o, NULL, "", false, &line, &e))
		reply_err(r, &e);
	else
		req_send(r, 204, NULL, NULL, 0);
	json_decref(line);
	one_close(&o);
}

/* --- one run --------------------------------------------------------------------------------- */

struct gather {
	json_t *iterations; /* [{"iter", "job", "digest", "pairs"}] of pair jobs that have a result */
};

static void see_jobs(void *ctx, const json_t *run, const json_t *jobs)
{
	struct gather *g = ctx;
	const json_t *job, *out;
	size_t i, k;

	(void)run;
	json_array_foreach(jobs, i, job)
	{
		json_t *shown = NULL;
		int64_t pairs = 0;

		if (strcmp(jx_get_str(job, "stage", ""), "pair") == 0)
			json_array_foreach(json_object_get(job, "outputs"), k, out)
			{
				json_t *d = json_object_get(out, "digest");

				if (strcmp(jx_get_str(out, "role", ""), "pairs") == 0)
					pairs = jx_get_i64(json_object_get(out, "meta"), "rows", 0);
				if (!shown || strcmp(jx_get_str(out, "role", ""), "samples") == 0)
					shown = d;
			}
		if (shown)
			json_array_append_new(
				g->iterations,
				json_pack("{s:O?, s:O?, s:O, s:I}", "iter", json_object_get(job, "iter"),
					  "job", json_object_get(job, "id"), "digest", shown, "pairs",
					  (json_int_t)pairs));
	}
}

/* What was said of an iteration's pairs, those of results that were made again included: what people
 * had excluded must not make them agree more. iter -1: of the whole run. */
static enum rc said_of(struct server *s, const json_t *results, int64_t iter, json_t **lines,
		       struct err *e)
{
	json_t *digests = json_array(), *result;
	size_t i;
	enum rc rc;

	json_array_foreach(results, i, result) if (iter < 0 || jx_get_i64(result, "iter", 0) == iter)
		json_array_extend(digests, json_object_get(result, "all"));
	rc = review_list_of(s, digests, lines, e);
	json_decref(digests);
	return rc;
}

/* All lines of a run; each iteration gets its summary. */
static enum rc run_lines(struct req *r, struct gather *g, json_t **lines, int64_t *pairs, struct err *e)
{
	json_t *it, *own, *results = NULL;
	size_t i;
	enum rc rc;

	*pairs = 0;
	g->iterations = json_array();
	rc = listing_runs(r->srv, r->args[0], see_jobs, g, e);
	if (!rc)
		rc = review_results(r->srv, r->args[0], INT64_MAX, &results, e);
	json_array_foreach(g->iterations, i, it)
	{
		int64_t n = jx_get_i64(it, "pairs", 0);

		own = NULL;
		if (!rc)
			rc = said_of(r->srv, results, jx_get_i64(it, "iter", 0), &own, e);
		json_object_del(it, "pairs");
		json_object_set_new(it, "summary", review_summary(own, n));
		json_decref(own);
		*pairs += n;
	}
	if (!rc)
		rc = said_of(r->srv, results, -1, lines, e);
	json_decref(results);
	return rc;
}

/* --- export ---------------------------------------------------------------------------------- */

/* With the texts, where the dataset still lies in the store. */
static json_t *whole(struct server *s, const json_t *line)
{
	json_t *v = review_json(line, NULL), *row;
	int64_t n = jx_get_i64(line, "n", -1);
	struct rows *rows = NULL;
	const char *texts[3];

	if (rows_open(s->store, jx_get_str(line, "dataset", ""), &rows, NULL) == RC_OK && n >= 0 &&
	    n < (int64_t)rows->n) {
		row = rows_json(rows, (uint32_t)n);
		if (pair_texts(row, texts)) {
			json_put(v, "prompt", json_string(texts[0]));
			json_put(v, "chosen", json_string(texts[1]));
			json_put(v, "rejected", json_string(texts[2]));
			json_put(v, "margin", json_incref(json_object_get(row, "row_margin")));
		}
		json_decref(row);
	}
	rows_release(rows);
	return v;
}

static void send_lines(struct req *r, const char *name, const json_t *lines)
{
	struct buf b = BUF_INIT;
	const json_t *line;
	size_t i;

	json_array_foreach(lines, i, line)
	{
		json_t *v = whole(r->srv, line);

		jx_dump(v, &b);
		buf_putc(&b, '\n');
		json_decref(v);
	}
	req_add_header(r, "Content-Disposition", "attachment; filename=\"reviews-%.40s.jsonl\"", name);
	req_add_header(r, "Content-Security-Policy", "sandbox; default-src 'none'");
	req_send(r, 200, "application/jsonl", b.data, b.len);
	buf_release(&b);
}

void api_review_export(struct req *r)
{
	struct rows *rows = NULL;
	json_t *lines = NULL;
	struct err e = {0};
	char name[13];

	if (rows_open(r->srv->store, r->args[0], &rows, &e) ||
	    review_list(r->srv, rows, &lines, &e)) {
		reply_err(r, &e);
	} else {
		str_fmt(name, sizeof name, "%.12s", r->args[0]);
		send_lines(r, name, lines);
	}
	json_decref(lines);
	rows_release(rows);
}

static void send_summary(struct req *r, const struct gather *g, const json_t *lines, int64_t pairs)
{
	reply_json(r, 200,
		   json_pack("{s:O, s:o}", "iterations", g->iterations, "summary",
			     review_summary(lines, pairs)));
}

static void answer_run(struct req *r, bool export)
{
	struct gather g = {0};
	json_t *lines = NULL;
	struct err e = {0};
	int64_t pairs;

	if (run_lines(r, &g, &lines, &pairs, &e))
		reply_err(r, &e);
	else if (export)
		send_lines(r, r->args[0], lines);
	else
		send_summary(r, &g, lines, pairs);
	json_decref(g.iterations);
	json_decref(lines);
}

void api_run_reviews(struct req *r)
{
	answer_run(r, false);
}

void api_run_reviews_export(struct req *r)
{
	answer_run(r, true);
}
