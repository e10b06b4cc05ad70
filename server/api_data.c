/* Datasets: lists, rows with filters and cursor, statistics, export. */
#include "server/api.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "server/index.h"
#include "server/listing.h"
#include "server/reply.h"
#include "server/rows.h"
#include "server/server.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_DEFAULT 50
#define PAGE_MAX 500
#define EXPORT_SLICE (256u * 1024)
#define PAGE_BYTES (8 << 20) /* a page ends early when rows are huge */

/* --- lists --------------------------------------------------------------------------------- */

struct list_ctx {
	json_t *items;
	const char *stage;
	int64_t iter;
};

static void see_run(void *p, const json_t *run, const json_t *jobs)
{
	struct list_ctx *c = p;
	const json_t *job, *out;
	size_t i, k;

	(void)run;
	json_array_foreach(jobs, i, job)
	{
		if (c->stage && c->stage[0] && strcmp(jx_get_str(job, "stage", ""), c->stage) != 0)
			continue;
		if (c->iter >= 0 && jx_get_i64(job, "iter", -1) != c->iter)
			continue;
		json_array_foreach(json_object_get(job, "outputs"), k,
				   out) if (strcmp(jx_get_str(out, "kind", ""), "dataset") == 0)
			json_array_append_new(c->items, listing_dataset(out, job));
	}
}

void api_dataset_list(struct req *r)
{
	struct list_ctx c = {.stage = req_query(r, "stage")};
	struct err e = {0};
	int64_t limit, from;

	if (!req_query_i64(r, "iter", -1, 0, 1000000, &c.iter) ||
	    !req_query_i64(r, "limit", 1000, 1, 10000, &limit) ||
	    !req_query_i64(r, "cursor", 0, 0, INT32_MAX, &from))
		return;
	c.items = json_array();
	if (listing_runs(r->srv, req_query(r, "run"), see_run, &c, &e))
		reply_err(r, &e);
	else
		reply_page(r, c.items, from, limit);
	json_decref(c.items);
}

void api_dataset_get(struct req *r)
{
	struct err e = {0};
	json_t *entry = NULL, *v;
	struct rows *rows = NULL;

	if (index_get(r->srv, r->args[0], &entry, &e) ||
	    rows_open(r->srv->store, r->args[0], &rows, &e)) {
		reply_err(r, &e);
	} else {
		v = listing_dataset(entry, entry);
		json_object_set(v, "job", json_object_get(entry, "job"));
		json_object_set_new(v, "created_at", json_time(jx_get_i64(entry, "created_ms", 0)));
		json_object_set_new(v, "rows", json_integer((json_int_t)rows->n));
		json_object_set(v, "meta", rows->meta);
		json_put(v, "inputs", json_incref(json_object_get(entry, "inputs")));
		reply_json(r, 200, v);
	}
	rows_release(rows);
	json_decref(entry);
}

/* --- rows ---------------------------------------------------------------------------------- */

static bool parse_sort(struct req *r, struct rows_filter *f)
{
	static const char *const names[] = {"score", "margin", "length"};
	const char *text = req_query(r, "sort");

	if (!text || !text[0] || strcmp(text, "n") == 0)
		return true;
	f->descending = text[0] == '-';
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(names[i], text + f->descending) == 0)
			f->sort = names[i][0];
	if (!f->sort)
		reply_problem(
			r, 400, "invalid",
			"sort \"%s\"; expected score, margin or length, with - for descending",
			text);
	return f->sort;
}

static bool parse_flags(struct req *r, struct rows_filter *f)
{
	const char *p = req_query(r, "flag");

	while (p && *p) {
		size_t len = strcspn(p, ",");
		char *one = arena_strn(&r->arena, p, len);

		if (one[0] && !rows_flag_of(one, &f->flags)) {
			reply_problem(r, 400, "invalid", "flag \"%s\" is unknown", one);
			return false;
		}
		p += len + (p[len] == ',');
	}
	return true;
}

static bool parse_filter(struct req *r, struct rows_filter *f)
{
	memset(f, 0, sizeof *f);
	f->q = req_query(r, "q");
	return parse_sort(r, f) && parse_flags(r, f) &&
	       req_query_f64(r, "min_score", (double)NAN, &f->min_score) &&
	       req_query_f64(r, "max_score", (double)NAN, &f->max_score) &&
	       req_query_f64(r, "min_margin", (double)NAN, &f->min_margin) &&
	       req_query_f64(r, "max_margin", (double)NAN, &f->max_margin) &&
	       req_query_f64(r, "min_length", (double)NAN, &f->min_length) &&
	       req_query_f64(r, "max_length", (double)NAN, &f->max_length);
}

void api_dataset_rows(struct req *r)
{
	struct rows_filter f;
	struct rows *rows = NULL;
	struct err e = {0};
	json_t *body, *items;
	int64_t limit, from, bytes = 0;
	uint32_t *pick;
	size_t n, i;
	char next[24];

	if (!parse_filter(r, &f) || !req_query_i64(r, "limit", PAGE_DEFAULT, 1, PAGE_MAX, &limit) ||
	    !req_query_i64(r, "cursor", 0, 0, INT32_MAX, &from))
		return;
	if (rows_open(r->srv->store, r->args[0], &rows, &e)) {
		reply_err(r, &e);
		return;
	}
	pick = rows_select(rows, &f, &n);
	items = json_array();
	for (i = (size_t)from; i < n && (int64_t)i < from + limit && bytes < PAGE_BYTES; i++) {
		json_array_append_new(items, rows_json(rows, pick[i]));
		bytes += rows->row[pick[i]].len;
	}
	str_fmt(next, sizeof next, "%zu", i);
	body = json_pack("{s:o, s:o, s:I, s:I}", "items", items, "next_cursor",
			 i < n ? json_string(next) : json_null(), "matched", (json_int_t)n, "total",
			 (json_int_t)rows->n);
	reply_json(r, 200, body);
	free(pick);
	rows_release(rows);
}

void api_dataset_row(struct req *r)
{
	struct rows *rows = NULL;
	struct err e = {0};
	int64_t n = -1;

	if (!str_to_i64(r->args[1], &n) || n < 0) {
		reply_problem(r, 404, "not-found", "no row \"%s\"", r->args[1]);
		return;
	}
	if (rows_open(r->srv->store, r->args[0], &rows, &e))
		reply_err(r, &e);
	else if (n >= (int64_t)rows->n)
		reply_problem(r, 404, "not-found", "row %lld of %zu", (long long)n, rows->n);
	else
		reply_json(r, 200, rows_json(rows, (uint32_t)n));
	rows_release(rows);
}

void api_dataset_stats(struct req *r)
{
	struct rows *rows = NULL;
	struct err e = {0};

	if (rows_open(r->srv->store, r->args[0], &rows, &e))
		reply_err(r, &e);
	else
		reply_json(r, 200, rows_stats(rows));
	rows_release(rows);
}

static void send_rows(struct req *r, const struct rows *rows, const uint32_t *pick, size_t n)
{
	struct buf b = BUF_INIT;

	for (size_t i = 0; i < n; i++) {
		const struct row *row = &rows->row[pick[i]];

		buf_append(&b, rows->data + row->offset, (size_t)row->len);
		buf_putc(&b, '\n');
		if (b.len < EXPORT_SLICE && i + 1 < n)
			continue;
		if (atomic_load(&r->srv->stopping)) {
			req_abort(r);
			break;
		}
		if (!req_write(r, b.data, b.len))
			break;
		buf_clear(&b);
	}
	buf_release(&b);
}

/* Lines as they are, token ids included. */
void api_dataset_export(struct req *r)
{
	struct rows_filter f;
	struct rows *rows = NULL;
	struct err e = {0};
	uint32_t *pick;
	int64_t total = 0;
	size_t n;

	if (!parse_filter(r, &f))
		return;
	if (rows_open(r->srv->store, r->args[0], &rows, &e)) {
		reply_err(r, &e);
		return;
	}
	pick = rows_select(rows, &f, &n);
	for (size_t i = 0; i < n; i++)
		total += rows->row[pick[i]].len + 1;
	req_add_header(r, "Content-Disposition", "attachment; filename=\"%.12s.jsonl\"",
		       rows->digest);
	req_add_header(r, "Content-Security-Policy", "sandbox; default-src 'none'");
	req_begin(r, 200, "application/jsonl", total);
	send_rows(r, rows, pick, n);
	free(pick);
	rows_release(rows);
}
