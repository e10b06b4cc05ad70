/* Rows of a dataset: summaries of every shape, filters, sorting, statistics. */
#include "base/buf.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "server/refusal.h"
#include "server/rows.h"
#include "store/artifact.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct store *open_store(void)
{
	struct store *s = NULL;
	struct err e = {0};
	char url[600];

	str_fmt(url, sizeof url, "file://%s/store", test_tmpdir());
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	return s;
}

static struct rows *dataset(struct store *s, const char *lines)
{
	struct artifact_writer *w = NULL;
	struct artifact_ref ref;
	struct rows *r = NULL;
	struct err e = {0};
	char tmp[700];
	json_t *meta = json_pack("{s:i}", "rows", 3);

	CHECK_RC(store_tmp(s, tmp, sizeof tmp, &e), RC_OK);
	CHECK_RC(artifact_begin("dataset", tmp, &w, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "data.jsonl", lines, strlen(lines), &e), RC_OK);
	CHECK_RC(artifact_publish(w, meta, s, &ref, &e), RC_OK);
	CHECK_RC(rows_open(s, ref.digest, &r, &e), RC_OK);
	json_decref(meta);
	return r;
}

static const char samples[] =
	"{\"candidates\":[{\"finish\":\"stop\",\"mean\":5,\"n_tokens\":10,\"text\":\"a\","
	"\"tokens\":[1,2]},"
	"{\"finish\":\"length\",\"mean\":1,\"n_tokens\":30,\"text\":\"b\"}],\"chosen\":0,\"drop\":"
	"null,"
	"\"id\":\"p0\",\"prompt\":\"Add Two\",\"rejected\":1}\n"
	"{\"candidates\":[{\"finish\":\"stop\",\"mean\":3,\"n_tokens\":5,\"text\":\"c\"},"
	"{\"finish\":\"stop\",\"mean\":3,\"n_tokens\":7,\"text\":\"d\"}],\"chosen\":null,\"drop\":"
	"\"tie\",\"id\":\"p1\","
	"\"prompt\":\"x\",\"rejected\":null}\n"
	"{\"candidates\":[{\"finish\":\"stop\",\"judgements\":[{\"pass\":0,\"reason\":\"no_match\","
	"\"score\":null}],"
	"\"mean\":null,\"n_tokens\":1,\"text\":\"\"}],\"chosen\":null,\"drop\":\"unjudged\",\"id\":"
	"\"p2\","
	"\"prompt\":\"y\",\"rejected\":null}\n";

static size_t count(const struct rows *r, const struct rows_filter *f, uint32_t *first)
{
	size_t n;
	uint32_t *pick = rows_select(r, f, &n);

	if (first)
		*first = n ? pick[0] : 999;
	free(pick);
	return n;
}

void test_server_rows__filters_and_sorts(void)
{
	const double none = (double)NAN;
	struct store *s = open_store();
	struct rows *r = dataset(s, samples);
	struct rows_filter f = {.min_score = none,
				.max_score = none,
				.min_margin = none,
				.max_margin = none,
				.min_length = none,
				.max_length = none};
	uint32_t first;

	CHECK_EQ(r->n, 3);
	CHECK_EQ(count(r, &f, &first), 3);
	f.min_score = 3;
	CHECK_EQ(count(r, &f, NULL), 2);
	f.min_margin = 2;
	CHECK_EQ(count(r, &f, NULL), 1);
	f.min_score = f.min_margin = none;
	f.q = "add tw";
	CHECK_EQ(count(r, &f, &first), 1);
	CHECK_EQ(first, 0);
	f.q = NULL;
	f.min_length = 6; /* means of 20, 6 and 1 tokens */
	CHECK_EQ(count(r, &f, &first), 2);
	f.max_length = 10;
	CHECK_EQ(count(r, &f, &first), 1);
	CHECK_EQ(first, 1);
	f.min_length = f.max_length = none;
	CHECK(rows_flag_of("tie", &f.flags) && !rows_flag_of("nonsense", &f.flags));
	CHECK_EQ(count(r, &f, &first), 1);
	CHECK_EQ(first, 1);
	f.flags = 0;
	f.sort = 's';
	CHECK_EQ(count(r, &f, &first), 3);
	CHECK_EQ(first, 1);
	f.descending = true;
	CHECK_EQ(count(r, &f, &first), 3);
	CHECK_EQ(first, 0);
	rows_release(r);
	store_close(s);
}

void test_server_rows__refusals(void)
{
	static const char *const yes[] = {"I cannot help with that.",
					  "  \"I\xe2\x80\x99m sorry, but I can\xe2\x80\x99t do it",
					  "As an AI language model, I",
					  "Unfortunately, I am unable to open files."};
	static const char *const no[] = {"I'm sorry to hear that. Rest and drink.",
					 "Cannot is one word.", "", "Sorry is spelled s-o-r-r-y.",
					 "I can try: 4."};
	struct store *s = open_store();
	struct rows *r = dataset(
		s, "{\"candidates\":[{\"text\":\"Yes.\"},{\"text\":\"I can't say.\"}]}\n"
		   "{\"chosen\":{\"text\":\"Yes.\"},\"rejected\":{\"text\":\"No.\"}}\n"
		   "{\"greedy\":{\"text\":\"Two\"},\"sampled\":{\"text\":\"I won't tell\"}}\n"
		   "{\"response\":\"I refuse.\"}\n");
	uint32_t mask = 0;

	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
		CHECK(refusal_is(yes[i]));
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		CHECK(!refusal_is(no[i]));
	CHECK(!refusal_is(NULL));
	CHECK(rows_flag_of("refusal", &mask));
	for (size_t i = 0; i < 4; i++)
		CHECK_EQ(!!(r->row[i].flags & mask), i != 1);
	rows_release(r);
	store_close(s);
}

void test_server_rows__json_has_no_token_ids(void)
{
	struct store *s = open_store();
	struct rows *r = dataset(s, samples);
	json_t *v = rows_json(r, 0), *c = json_array_get(json_object_get(v, "candidates"), 0);

	CHECK(json_object_get(c, "tokens") == NULL);
	CHECK_STR(jx_get_str(c, "text", ""), "a");
	CHECK_EQ(jx_get_i64(v, "n", -1), 0);
	CHECK_NEAR(jx_get_f64(v, "row_margin", 0), 4, 1e-6);
	CHECK_EQ(json_array_size(json_object_get(v, "flags")), 2); /* truncated, chosen */
	json_decref(v);
	rows_release(r);
	store_close(s);
}

void test_server_rows__statistics(void)
{
	struct store *s = open_store();
	struct rows *r = dataset(s, samples);
	json_t *v = rows_stats(r), *h = json_object_get(v, "histogram");

	CHECK_EQ(json_array_size(h), 3); /* 1, 3, 5 */
	CHECK_EQ(jx_get_i64(json_array_get(h, 1), "n", 0), 2);
	CHECK_NEAR(jx_get_f64(json_object_get(v, "scores"), "mean", 0), 3, 1e-6);
	CHECK_EQ(json_array_size(json_object_get(v, "points")), 4);
	CHECK_EQ(jx_get_i64(json_object_get(v, "flags"), "parse_fail", 0), 1);
	CHECK_EQ(jx_get_i64(json_object_get(v, "counters"), "rows", 0), 3);
	json_decref(v);
	rows_release(r);
	store_close(s);
}

/* Lines of every other stage, and lines that are nothing at all. */
void test_server_rows__takes_any_shape(void)
{
	static const char lines[] = "{\"chosen\":{\"score\":4,\"text\":\"a\",\"tokens\":[1,2,3]},"
				    "\"margin\":3,\"rejected\":{\"score\":1,\"text\":\"b\"}}\n"
				    "{\"id\":\"x\",\"items\":[{\"index\":0,\"score\":2},{\"index\":"
				    "1,\"reason\":\"no_match\",\"score\":null}],\"pass\":0}\n"
				    "{\"greedy\":{\"finish\":\"length\",\"n_tokens\":9,\"text\":"
				    "\"t\",\"truth\":{\"correct\":false,\"score\":0}}}\n"
				    "{\"prompt\":\"p\",\"response\":\"Score: 3\",\"score\":3}\n"
				    "[1,2]\n"
				    "not json\n"
				    "\n"
				    "{}";
	struct store *s = open_store();
	struct rows *r = dataset(s, lines);
	json_t *v;

	CHECK_EQ(r->n, 7);
	CHECK_NEAR((double)r->row[0].margin, 3, 0);
	CHECK_EQ(r->row[0].length, 3);
	CHECK_NEAR((double)r->row[1].score, 2, 0);
	CHECK(r->row[1].flags == 1u << ROW_PARSE_FAIL);
	CHECK(r->row[2].flags == (1u << ROW_TRUNCATED | 1u << ROW_WRONG));
	CHECK_NEAR((double)r->row[3].score, 3, 0);
	CHECK(isnan(r->row[6].score));
	for (uint32_t i = 0; i < r->n; i++) {
		v = rows_json(r, i);
		CHECK(json_is_object(v));
		json_decref(v);
	}
	v = rows_stats(r);
	CHECK(json_is_object(v));
	json_decref(v);
	rows_release(r);
	store_close(s);
}
