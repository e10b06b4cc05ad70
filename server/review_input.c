#include "server/review_input.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "server/decision.h"
#include "server/index.h"
#include "server/pair_key.h"
#include "server/review.h"
#include "server/rows.h"
#include "server/server.h"
#include "store/artifact.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what was fixed -------------------------------------------------------------------------- */

static void fixed_path(const char *run, char out[DOC_PATH_MAX])
{
	str_fmt(out, DOC_PATH_MAX, "runs/%.64s/reviews.jsonl", run);
}

/* When a job of the run was last declared invalid. */
static enum rc invalid_since(struct server *s, const char *run, int64_t *at, struct err *e)
{
	json_t *all = NULL, *d;
	size_t i;
	enum rc rc = decision_list(s, run, &all, e);

	*at = 0;
	json_array_foreach(all, i, d)
		if (strcmp(jx_get_str(d, "what", ""), "invalidate") == 0)
			*at = jx_get_i64(d, "at_ms", *at);
	json_decref(all);
	return rc;
}

static json_t *as_input(const json_t *line)
{
	return json_pack("{s:s, s:s, s:O?, s:O?, s:O?}", "role", REVIEW_ROLE, "kind", "dataset",
			 "digest", json_object_get(line, "digest"), "size",
			 json_object_get(line, "size"), "meta", json_object_get(line, "meta"));
}

/* *out: the last one fixed for the job since then, or NULL. */
static enum rc find_fixed(struct server *s, const char *run, const char *job, int64_t since, json_t **out,
			  struct err *e)
{
	json_t *lines = NULL, *line;
	const json_t *last = NULL;
	char path[DOC_PATH_MAX];
	enum rc rc;
	size_t i;

	fixed_path(run, path);
	rc = store_doc_lines(s->store, path, &lines, e);
	json_array_foreach(lines, i, line)
		if (strcmp(jx_get_str(line, "job", ""), job) == 0 &&
		    jx_get_i64(line, "at_ms", 0) >= since)
			last = line;
	*out = last ? as_input(last) : NULL;
	json_decref(lines);
	return rc;
}

json_t *review_fixed(struct server *s, const char *run, const char *job)
{
	json_t *input = NULL;

	return find_fixed(s, run, job, 0, &input, NULL) ? NULL : input;
}

/* --- the pairs of the run so far ------------------------------------------------------------- */

/* "<run>.<iter>.pair.<shard>.<pass>.<fence>.json" of this iteration or an earlier one; -1 for others. */
static int64_t iter_of(const char *name, const char *run, int64_t most)
{
	long long iter;
	int end = 0;

	if (!str_starts(name, run) || sscanf(name + strlen(run), ".%lld.pair.%n", &iter, &end) != 1 ||
	    !end || iter > most)
		return -1;
	return iter;
}

/* Every result pair jobs ever had, declared invalid or not: {"iter","fence","pairs","all":[digests]}. */
static json_t *result_of(const json_t *manifest, int64_t iter)
{
	json_t *all = json_array(), *pairs = NULL, *out;
	size_t i;

	json_array_foreach(json_object_get(manifest, "outputs"), i, out)
	{
		json_array_append(all, json_object_get(out, "digest"));
		if (strcmp(jx_get_str(out, "role", ""), "pairs") == 0)
			pairs = json_object_get(out, "digest");
	}
	return json_pack("{s:I, s:O?, s:O*, s:o}", "iter", (json_int_t)iter, "fence",
			 json_object_get(manifest, "fence"), "pairs", pairs, "all", all);
}

static int by_iter_and_fence(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	int64_t d = jx_get_i64(x, "iter", 0) - jx_get_i64(y, "iter", 0);

	if (!d)
		d = jx_get_i64(x, "fence", 0) - jx_get_i64(y, "fence", 0);
	return d < 0 ? -1 : d > 0;
}

static void sort_results(json_t *list)
{
	size_t n = json_array_size(list);
	json_t **all = mem_array(n + 1, sizeof *all);

	for (size_t i = 0; i < n; i++)
		all[i] = json_incref(json_array_get(list, i));
	qsort(all, n, sizeof *all, by_iter_and_fence);
	for (size_t i = 0; i < n; i++)
		json_array_set_new(list, i, all[i]);
	free(all);
}

static enum rc results(struct server *s, const char *run, int64_t most, json_t **out, struct err *e)
{
	char folder[DOC_PATH_MAX], path[DOC_PATH_MAX], **names = NULL;
	json_t *manifest;
	size_t n = 0;
	enum rc rc;

	*out = json_array();
	str_fmt(folder, sizeof folder, "jobs/%.64s", run);
	rc = store_doc_list(s->store, folder, &names, &n, e);
	for (size_t i = 0; !rc && i < n; i++) {
		int64_t iter = iter_of(names[i], run, most);

		if (iter < 0)
			continue;
		str_fmt(path, sizeof path, "%.80s/%.100s", folder, names[i]);
		manifest = NULL;
		rc = store_doc_get(s->store, path, &manifest, e);
		if (!rc)
			json_array_append_new(*out, result_of(manifest, iter));
		json_decref(manifest);
	}
	fs_list_free(names);
	sort_results(*out);
	return rc;
}

/* --- fixing ---------------------------------------------------------------------------------- */

struct snapshot {
	struct server *s;
	bool pin, exclude;
	json_t *wanted; /* {first 16 digits of the key: +1 or -1}; taken out when found */
	struct buf data;
	int64_t pinned, excluded;
};

static void want(struct snapshot *n, const json_t *lines)
{
	json_t *votes = review_majority(lines), *v;
	const char *key;
	char name[17];

	json_object_foreach(votes, key, v)
	{
		int said = (int)json_integer_value(v);

		str_fmt(name, sizeof name, "%.16s", key);
		if ((said > 0 && n->pin) || (said < 0 && n->exclude))
			json_object_set(n->wanted, name, v);
	}
	json_decref(votes);
}

/* The rows of one `pairs` that are wanted and were in none before. */
static enum rc take_rows(struct snapshot *n, const json_t *result, struct err *e)
{
	struct rows *rows = NULL;
	char name[17];
	enum rc rc = rows_open(n->s->store, jx_get_str(result, "pairs", ""), &rows, e);

	if (rc == RC_NOTFOUND) { /* Put aside by a person; what was said of it cannot be used. */
		log_warn("review", "pairs_gone", "dataset=%s", jx_get_str(result, "pairs", ""));
		return RC_OK;
	}
	for (size_t i = 0; !rc && i < rows->n; i++) {
		const struct row *row = &rows->row[i];
		json_t *said, *pair = NULL, *line;

		str_fmt(name, sizeof name, "%016llx", (unsigned long long)row->pair);
		said = row->pair ? json_object_get(n->wanted, name) : NULL;
		if (!said)
			continue;
		bool pin = json_integer_value(said) > 0;
		rc = jx_parse(rows->data + row->offset, (size_t)row->len, "a pair", &pair, e);
		line = json_pack("{s:s, s:O, s:o*}", "action", pin ? "pin" : "exclude", "iter",
				 json_object_get(result, "iter"), "pair", pair);
		jx_dump(line, &n->data);
		buf_putc(&n->data, '\n');
		json_decref(line);
		*(pin ? &n->pinned : &n->excluded) += 1;
		json_object_del(n->wanted, name);
	}
	rows_release(rows);
	return rc;
}

static enum rc publish(struct snapshot *n, json_t **input, struct err *e)
{
	json_t *meta = json_pack("{s:I, s:I, s:I}", "rows", (json_int_t)(n->pinned + n->excluded),
				 "pinned", (json_int_t)n->pinned, "excluded", (json_int_t)n->excluded);
	struct artifact_writer *w = NULL;
	struct artifact_ref ref;
	char tmp[PATH_MAX];
	enum rc rc = store_tmp(n->s->store, tmp, sizeof tmp, e);

	if (!rc)
		rc = artifact_begin("dataset", tmp, &w, e);
	if (!rc)
		rc = artifact_add_mem(w, "data.jsonl", n->data.data ? n->data.data : "", n->data.len, e);
	if (rc)
		artifact_abort(w);
	else
		rc = artifact_publish(w, meta, n->s->store, &ref, e);
	if (!rc)
		*input = json_pack("{s:s, s:I, s:O}", "digest", ref.digest, "size",
				   (json_int_t)ref.size, "meta", meta);
	json_decref(meta);
	return rc;
}

static enum rc take_snapshot(struct snapshot *n, const char *run, int64_t iter, json_t **line,
			     struct err *e)
{
	json_t *list = NULL, *digests = json_array(), *lines = NULL, *result;
	size_t i;
	enum rc rc = results(n->s, run, iter, &list, e);

	json_array_foreach(list, i, result) json_array_extend(digests, json_object_get(result, "all"));
	if (!rc)
		rc = review_list_of(n->s, digests, &lines, e);
	want(n, lines);
	json_array_foreach(list, i, result)
		if (!rc && json_object_size(n->wanted) && json_object_get(result, "pairs"))
			rc = take_rows(n, result, e);
	if (!rc)
		rc = publish(n, line, e);
	json_decref(list);
	json_decref(digests);
	json_decref(lines);
	return rc;
}

/* *input: what the job is to have from now on. */
static enum rc fix(struct server *s, const json_t *job, const char *how, json_t **input, struct err *e)
{
	bool both = strcmp(how, "both") == 0;
	struct snapshot n = {.s = s,
			     .pin = both || strcmp(how, "pin") == 0,
			     .exclude = both || strcmp(how, "exclude") == 0,
			     .wanted = json_object()};
	const char *run = jx_get_str(job, "run", ""), *id = jx_get_str(job, "id", "");
	char path[DOC_PATH_MAX];
	json_t *line = NULL;
	enum rc rc = take_snapshot(&n, run, jx_get_i64(job, "iter", 0), &line, e);

	if (!rc) {
		json_object_set_new(line, "job", json_string(id));
		json_object_set_new(line, "at_ms", json_integer(clk_now_ms()));
		fixed_path(run, path);
		rc = store_doc_append(s->store, path, line, e);
	}
	if (!rc) {
		*input = as_input(line);
		log_info("review", "fixed", "job=%s digest=%s pinned=%lld excluded=%lld", id,
			 jx_get_str(line, "digest", ""), (long long)n.pinned, (long long)n.excluded);
	}
	json_decref(line);
	json_decref(n.wanted);
	buf_release(&n.data);
	return rc;
}

enum rc review_attach(struct server *s, const json_t *claim, struct err *e)
{
	const json_t *spec = json_object_get(json_object_get(claim, "record"), "spec");
	const char *how = jx_get_str(json_object_get(spec, "pair"), "reviews", "off");
	const json_t *job = json_object_get(claim, "job");
	const char *kind = jx_get_str(json_object_get(job, "params"), "kind", "");
	json_t *input = NULL;
	int64_t since;
	enum rc rc;

	if (strcmp(jx_get_str(job, "stage", ""), "pair") != 0 || strcmp(how, "off") == 0 || kind[0])
		return RC_OK;
	rc = invalid_since(s, jx_get_str(job, "run", ""), &since, e);
	if (!rc)
		rc = find_fixed(s, jx_get_str(job, "run", ""), jx_get_str(job, "id", ""), since, &input, e);
	if (!rc && !input)
		rc = fix(s, job, how, &input, e);
	if (!rc)
		json_array_append_new(json_object_get(job, "inputs"), input);
	return rc;
}
