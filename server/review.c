#include "server/review.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/index.h"
#include "server/pair_key.h"
#include "server/reply.h"
#include "server/rows.h"
#include "server/server.h"
#include "store/store.h"

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

/* The dataset and, of a pair job, what was written beside it. */
static json_t *siblings(struct server *s, const char *digest)
{
	json_t *entry = NULL, *job = NULL, *list = json_pack("[s]", digest), *out;
	const char *other;
	bool ours = false;
	size_t i;

	if (index_get(s, digest, &entry, NULL) == RC_OK)
		queue_job(s->queue, jx_get_str(entry, "job", ""), &job, NULL);
	if (strcmp(jx_get_str(job, "stage", ""), "pair") != 0)
		goto out;
	json_array_foreach(json_object_get(job, "outputs"), i, out)
		ours |= strcmp(jx_get_str(out, "digest", ""), digest) == 0;
	json_array_foreach(ours ? json_object_get(job, "outputs") : NULL, i, out)
	{
		other = jx_get_str(out, "digest", "");
		if (strcmp(other, digest) != 0 && sha256_hex_valid(other))
			json_array_append_new(list, json_string(other));
	}
out:
	json_decref(entry);
	json_decref(job);
	return list;
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

enum rc review_list(struct server *s, const char *digest, json_t **out, struct err *e)
{
	json_t *all = siblings(s, digest);
	enum rc rc = review_list_of(s, all, out, e);

	json_decref(all);
	return rc;
}

int64_t review_row(const struct rows *r, const char *key)
{
	uint64_t number = pair_key_number(key);

	for (size_t i = 0; i < r->n; i++)
		if (r->row[i].pair == number && number)
			return (int64_t)i;
	return -1;
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
