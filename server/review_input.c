#include "server/review_input.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/str.h"
#include "server/decision.h"
#include "server/index.h"
#include "server/pair_key.h"
#include "server/review.h"
#include "server/rows.h"
#include "server/server.h"
#include "store/artifact.h"

#include <limits.h>
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
	enum rc rc = review_results(n->s, run, iter, &list, e);

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
