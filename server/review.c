#include "server/review.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/index.h"
#include "server/logs.h"
#include "server/pair_key.h"
#include "server/reply.h"
#include "server/rows.h"
#include "server/server.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void path_of(const char *digest, char out[DOC_PATH_MAX])
{
	str_fmt(out, DOC_PATH_MAX, "reviews/%.64s.jsonl", digest);
}

enum rc review_add(struct server *s, json_t *line, struct err *e)
{
	const char *digest = jx_get_str(line, "dataset", "");
	char path[DOC_PATH_MAX], id[17];
	json_t *have = NULL;
	uint8_t bytes[8];
	enum rc rc;

	path_of(digest, path);
	rc = store_doc_lines(s->store, path, &have, e);
	if (!rc && json_array_size(have) >= REVIEWS_MAX)
		rc = err_set(e, RC_CONFLICT, "dataset %s has %d lines of reviews, no more are kept",
			     digest, REVIEWS_MAX);
	json_decref(have);
	if (rc)
		return rc;
	random_bytes(bytes, sizeof bytes);
	for (size_t i = 0; i < sizeof bytes; i++)
		str_fmt(id + 2 * i, 3, "%02x", bytes[i]);
	json_object_set_new(line, "v", json_string(id));
	json_object_set_new(line, "at_ms", json_integer(clk_now_ms()));
	return store_doc_append(s->store, path, line, e);
}

/* --- reading -------------------------------------------------------------------------------- */

/* The dataset, and all that pair jobs of its run ever wrote. */
static enum rc relatives(struct server *s, const char *digest, json_t **out, struct err *e)
{
	json_t *entry = NULL, *list = NULL, *result;
	const char *run;
	enum rc rc = RC_OK;
	size_t i;

	*out = json_pack("[s]", digest);
	if (index_get(s, digest, &entry, NULL))
		return RC_OK;
	run = jx_get_str(entry, "run", "");
	if (run_id_valid(run))
		rc = review_results(s, run, INT64_MAX, &list, e);
	json_array_foreach(list, i, result) json_array_extend(*out, json_object_get(result, "all"));
	json_decref(entry);
	json_decref(list);
	return rc;
}

static int by_time(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	int64_t d = jx_get_i64(x, "at_ms", 0) - jx_get_i64(y, "at_ms", 0);

	return d ? (d < 0 ? -1 : 1) : strcmp(jx_get_str(x, "v", ""), jx_get_str(y, "v", ""));
}

/* {"key by": line}, the later one; equal times: the later document's. */
static void keep_last(json_t *last, const json_t *lines)
{
	char name[PAIR_KEY_SIZE + 80];
	json_t *line;
	size_t i;

	json_array_foreach(lines, i, line)
	{
		const json_t *old;

		str_fmt(name, sizeof name, "%.32s %.64s", jx_get_str(line, "key", ""),
			jx_get_str(line, "by", ""));
		old = json_object_get(last, name);
		if (!old || jx_get_i64(old, "at_ms", 0) <= jx_get_i64(line, "at_ms", 0))
			json_object_set(last, name, line);
	}
}

/* The lines that are no withdrawals, by time. */
static json_t *in_order(json_t *last)
{
	json_t **lines = mem_array(json_object_size(last) + 1, sizeof *lines), *out = json_array(), *line;
	const char *name;
	size_t n = 0;

	json_object_foreach(last, name, line) if (json_is_string(json_object_get(line, "verdict")))
		lines[n++] = line;
	qsort(lines, n, sizeof *lines, by_time);
	for (size_t i = 0; i < n; i++)
		json_array_append(out, lines[i]);
	free(lines);
	return out;
}

enum rc review_list_of(struct server *s, const json_t *digests, json_t **out, struct err *e)
{
	json_t *last = json_object(), *lines, *d;
	char path[DOC_PATH_MAX];
	size_t i;
	enum rc rc = RC_OK;

	json_array_foreach(digests, i, d)
	{
		lines = NULL;
		path_of(json_string_value(d), path);
		if (!rc)
			rc = store_doc_lines(s->store, path, &lines, e);
		keep_last(last, lines);
		json_decref(lines);
	}
	*out = rc ? NULL : in_order(last);
	json_decref(last);
	return rc;
}

/* Those of pairs the dataset holds. */
static json_t *held(json_t *lines, const struct rows *rows)
{
	json_t *out = json_array(), *line;
	size_t i;

	json_array_foreach(lines, i, line) if (review_row(rows, jx_get_str(line, "key", "")) >= 0)
		json_array_append(out, line);
	return out;
}

enum rc review_list(struct server *s, const struct rows *rows, json_t **out, struct err *e)
{
	json_t *digests = NULL, *lines = NULL;
	enum rc rc = relatives(s, rows->digest, &digests, e);

	if (!rc)
		rc = review_list_of(s, digests, &lines, e);
	*out = rc ? NULL : held(lines, rows);
	json_decref(digests);
	json_decref(lines);
	return rc;
}

int64_t review_row(const struct rows *r, const char *key)
{
	return rows_pair(r, pair_key_number(key));
}

/* --- the pairs of a run -------------------------------------------------------------------- */

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

enum rc review_results(struct server *s, const char *run, int64_t most, json_t **out, struct err *e)
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

/* --- for the API ---------------------------------------------------------------------------- */

/* Which of the two, in the order of pair_key_chosen_first, is the better one; NULL: nobody says. */
static const char *better(const char *key, const char *verdict)
{
	bool chosen = strcmp(verdict, "agree") == 0;

	if (!chosen && strcmp(verdict, "disagree") != 0)
		return NULL;
	return pair_key_chosen_first(key) == chosen ? "first" : "second";
}

json_t *review_json(const json_t *line, const struct rows *rows)
{
	const char *key = jx_get_str(line, "key", ""), *verdict = jx_get_str(line, "verdict", "");
	int64_t n = rows ? review_row(rows, key) : jx_get_i64(line, "n", -1);
	const char *human = better(key, verdict);
	json_t *v = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:o}", "key", key, "id",
			      jx_get_str(line, "id", ""), "dataset", jx_get_str(line, "dataset", ""),
			      "by", jx_get_str(line, "by", ""), "verdict", verdict, "note",
			      jx_get_str(line, "note", ""), "blind", jx_get_bool(line, "blind", false),
			      "judge", better(key, "agree"), "at",
			      json_time(jx_get_i64(line, "at_ms", 0)));

	json_put(v, "n", n >= 0 ? json_integer(n) : NULL);
	json_put(v, "human", human ? json_string(human) : NULL);
	return v;
}
