#include "server/rows.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "server/pair_key.h"
#include "server/refusal.h"
#include "store/artifact.h"

#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CACHE 8
#define ROWS_MAX 10000000u
#define POINTS_MAX 2000000u

struct rows_map {
	struct fs_map file;
};

static const char *const flag_names[ROW_FLAGS] = {
	"tie",	      "unjudged",  "duplicate", "unfinished", "empty",	 "too_long", "too_few",
	"parse_fail", "truncated", "wrong",	"chosen",     "dropped", "refusal"};

const char *rows_flag_text(enum row_flag f)
{
	return flag_names[f];
}

bool rows_flag_of(const char *text, uint32_t *mask)
{
	for (int i = 0; i < ROW_FLAGS; i++)
		if (strcmp(flag_names[i], text) == 0) {
			*mask |= 1u << i;
			return true;
		}
	return false;
}

/* --- summaries ----------------------------------------------------------------------------- */

/* n_tokens, else the number of token ids, else bytes of text. */
static int32_t text_length(const json_t *v)
{
	const json_t *tokens = json_object_get(v, "tokens");

	if (json_is_integer(json_object_get(v, "n_tokens")))
		return (int32_t)jx_get_i64(v, "n_tokens", -1);
	if (tokens)
		return (int32_t)json_array_size(tokens);
	return (int32_t)strlen(jx_get_str(v, "text", ""));
}

static void add_point(struct rows *r, double length, double score)
{
	if (isnan(score) || r->n_points >= POINTS_MAX)
		return;
	if ((r->n_points & (r->n_points - 1)) == 0) /* Grows at powers of two. */
		r->point = mem_grow(r->point, r->n_points ? r->n_points * 2 : 1, sizeof *r->point);
	r->point[r->n_points++] = (struct row_point){(float)length, (float)score};
}

static void note_refusal(struct row *row, const json_t *answer)
{
	if (refusal_is(jx_get_str(answer, "text", NULL)))
		row->flags |= 1u << ROW_REFUSAL;
}

static void sum_pair(struct rows *rs, struct row *row, const json_t *v)
{
	const json_t *chosen = json_object_get(v, "chosen"),
		     *rejected = json_object_get(v, "rejected");
	double a = jx_get_f64(chosen, "score", NAN), b = jx_get_f64(rejected, "score", NAN);

	row->score = (float)a;
	row->margin = (float)jx_get_f64(v, "margin", a - b);
	row->length = text_length(chosen);
	row->flags |= 1u << ROW_CHOSEN;
	note_refusal(row, chosen);
	note_refusal(row, rejected);
	add_point(rs, row->length, a);
	add_point(rs, text_length(rejected), b);
}

static void sum_judgements(struct row *row, const json_t *list)
{
	const json_t *j;
	size_t i;

	json_array_foreach(list, i, j) if (json_is_string(json_object_get(j, "reason")))
		row->flags |= 1u << ROW_PARSE_FAIL;
}

/* samples (judged) and responses (not yet). */
static void sum_candidates(struct rows *rs, struct row *row, const json_t *v)
{
	const json_t *list = json_object_get(v, "candidates"), *c;
	double best = NAN, worst = NAN;
	int64_t length = 0;
	size_t i;

	json_array_foreach(list, i, c)
	{
		double mean = jx_get_f64(c, "mean", NAN);

		length += text_length(c);
		if (strcmp(jx_get_str(c, "finish", ""), "length") == 0)
			row->flags |= 1u << ROW_TRUNCATED;
		note_refusal(row, c);
		sum_judgements(row, json_object_get(c, "judgements"));
		add_point(rs, text_length(c), mean);
		best = isnan(best) || mean > best ? mean : best;
		worst = isnan(worst) || mean < worst ? mean : worst;
	}
	rows_flag_of(jx_get_str(v, "drop", ""), &row->flags);
	if (json_is_integer(json_object_get(v, "chosen")))
		row->flags |= 1u << ROW_CHOSEN;
	if (json_is_string(json_object_get(v, "drop")))
		row->flags |= 1u << ROW_DROPPED;
	row->score = (float)best;
	row->margin = (float)(best - worst);
	row->length = i ? (int32_t)(length / (int64_t)i) : -1;
}

/* judgements ("items") and judged ranked data ("replies"): the mean of what was scored. */
static void sum_scored(struct rows *rs, struct row *row, const json_t *list, const char *key)
{
	const json_t *it;
	double sum = 0, lo = NAN, hi = NAN;
	size_t i, n = 0;

	json_array_foreach(list, i, it)
	{
		double s = jx_get_f64(it, key, NAN);

		if (isnan(s)) {
			row->flags |= json_is_string(json_object_get(it, "reason"))
					      ? 1u << ROW_PARSE_FAIL
					      : 0;
			continue;
		}
		add_point(rs, -1, s);
		lo = isnan(lo) || s < lo ? s : lo;
		hi = isnan(hi) || s > hi ? s : hi;
		sum += s;
		n++;
	}
	row->score = n ? (float)(sum / (double)n) : NAN;
	row->margin = (float)(hi - lo);
}

static void sum_generation(struct rows *rs, struct row *row, const json_t *v)
{
	const json_t *g = json_object_get(v, "greedy"), *truth = json_object_get(g, "truth");

	row->length = text_length(g);
	row->score = (float)jx_get_f64(truth, "score", NAN);
	if (truth && !jx_get_bool(truth, "correct", true))
		row->flags |= 1u << ROW_WRONG;
	note_refusal(row, g);
	note_refusal(row, json_object_get(v, "sampled"));
	if (strcmp(jx_get_str(g, "finish", ""), "length") == 0)
		row->flags |= 1u << ROW_TRUNCATED;
	add_point(rs, row->length, row->score);
}

static void summarize(struct rows *rs, struct row *row, const json_t *v)
{
	char key[PAIR_KEY_SIZE];

	row->score = row->margin = NAN;
	row->length = -1;
	if (pair_key(v, key)) {
		row->pair = pair_key_number(key);
		rs->n_pairs++;
	}
	if (json_is_object(json_object_get(v, "chosen")))
		sum_pair(rs, row, v);
	else if (json_is_array(json_object_get(v, "candidates")))
		sum_candidates(rs, row, v);
	else if (json_is_array(json_object_get(v, "items")))
		sum_scored(rs, row, json_object_get(v, "items"), "score");
	else if (json_is_array(json_object_get(v, "replies")))
		sum_scored(rs, row, json_object_get(v, "replies"), "mean");
	else if (json_is_object(json_object_get(v, "greedy")))
		sum_generation(rs, row, v);
	else if (json_is_number(json_object_get(v, "score")))
		add_point(rs, (double)strlen(jx_get_str(v, "response", "")),
			  row->score = (float)json_number_value(json_object_get(v, "score")));
	if (row->length < 0 && json_is_string(json_object_get(v, "response"))) {
		row->length = (int32_t)strlen(jx_get_str(v, "response", ""));
		row->flags |= refusal_is(jx_get_str(v, "response", "")) ? 1u << ROW_REFUSAL : 0;
	}
}

/* --- opening ------------------------------------------------------------------------------- */

static void rows_free(struct rows *r)
{
	if (r->map)
		fs_unmap(&r->map->file);
	free(r->map);
	json_decref(r->meta);
	free(r->row);
	free(r->point);
	free(r->pair);
	free(r);
}

static enum rc read_rows(struct rows *r, int64_t size, struct err *e)
{
	const char *p = r->data, *end = r->data + size;
	size_t cap = 0;

	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;
		json_t *v;

		if (stop > p) {
			if (r->n == cap)
				r->row =
					mem_grow(r->row, cap = cap ? cap * 2 : 256, sizeof *r->row);
			if (r->n >= ROWS_MAX || stop - p > INT32_MAX)
				return err_set(e, RC_UNSUPPORTED,
					       "dataset %s has too many or too long rows",
					       r->digest);
			r->row[r->n] =
				(struct row){.offset = p - r->data, .len = (int32_t)(stop - p)};
			v = json_loadb(p, (size_t)(stop - p), 0, NULL);
			summarize(r, &r->row[r->n], v);
			json_decref(v);
			r->n++;
		}
		p = stop + 1;
	}
	return RC_OK;
}

static int by_pair(const void *a, const void *b)
{
	const struct row_pair *x = a, *y = b;

	if (x->pair != y->pair)
		return x->pair < y->pair ? -1 : 1;
	return x->row < y->row ? -1 : x->row > y->row;
}

static void sort_pairs(struct rows *r)
{
	size_t n = 0;

	r->pair = mem_array(r->n_pairs + 1, sizeof *r->pair);
	for (size_t i = 0; i < r->n; i++)
		if (r->row[i].pair && n < r->n_pairs)
			r->pair[n++] = (struct row_pair){r->row[i].pair, (uint32_t)i};
	r->n_pairs = n;
	qsort(r->pair, n, sizeof *r->pair, by_pair);
}

int64_t rows_pair(const struct rows *r, uint64_t pair)
{
	size_t lo = 0, hi = r->n_pairs;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (r->pair[mid].pair < pair)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < r->n_pairs && r->pair[lo].pair == pair ? (int64_t)r->pair[lo].row : -1;
}

static enum rc rows_read(struct store *s, const char *digest, struct rows **out, struct err *e)
{
	struct rows *r = mem_new(sizeof *r);
	const struct artifact_member *m;
	struct artifact *a = NULL;
	enum rc rc = artifact_open(s, digest, &a, e);

	str_copy(r->digest, sizeof r->digest, digest);
	if (rc)
		goto out;
	m = artifact_find(a, "data.jsonl");
	if (!m || strcmp(a->kind, "dataset") != 0) {
		rc = err_set(e, RC_INVALID, "artifact %s is a %s, not a dataset", digest, a->kind);
		goto out;
	}
	r->meta = a->meta ? json_deep_copy(a->meta) : json_object();
	r->map = mem_new(sizeof *r->map);
	rc = fs_map(m->file, &r->map->file, e);
	if (!rc) {
		r->data = (const char *)r->map->file.data + m->offset;
		rc = read_rows(r, m->size, e);
		sort_pairs(r);
	}
out:
	artifact_close(a);
	if (rc)
		rows_free(r);
	else
		*out = r;
	return rc;
}

static struct {
	pthread_mutex_t lock;
	struct rows *slot[CACHE]; /* most recently used first; each holds one reference */
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Moves slot i to the front. Caller holds the lock. */
static void cache_front(size_t i)
{
	struct rows *r = cache.slot[i];

	memmove(cache.slot + 1, cache.slot, i * sizeof *cache.slot);
	cache.slot[0] = r;
}

enum rc rows_open(struct store *s, const char *digest, struct rows **out, struct err *e)
{
	struct rows *r = NULL, *old = NULL;
	enum rc rc;

	if (!sha256_hex_valid(digest))
		return err_set(e, RC_NOTFOUND, "no dataset \"%.80s\"", digest);
	pthread_mutex_lock(&cache.lock);
	for (size_t i = 0; i < CACHE && !r; i++)
		if (cache.slot[i] && strcmp(cache.slot[i]->digest, digest) == 0) {
			r = cache.slot[i];
			r->refs++;
			cache_front(i);
		}
	pthread_mutex_unlock(&cache.lock);
	if (r) {
		*out = r;
		return RC_OK;
	}
	rc = rows_read(s, digest, &r, e); /* Outside the lock: large ones take seconds. */
	if (rc)
		return rc;
	r->refs = 2; /* the caller's and the cache's */
	pthread_mutex_lock(&cache.lock);
	old = cache.slot[CACHE - 1];
	cache.slot[CACHE - 1] = r;
	cache_front(CACHE - 1);
	pthread_mutex_unlock(&cache.lock);
	if (old)
		rows_release(old);
	*out = r;
	return RC_OK;
}

void rows_release(struct rows *r)
{
	bool last;

	if (!r)
		return;
	pthread_mutex_lock(&cache.lock);
	last = --r->refs == 0;
	pthread_mutex_unlock(&cache.lock);
	if (last)
		rows_free(r);
}

/* --- selecting ----------------------------------------------------------------------------- */

static bool contains(const char *hay, size_t n, const char *needle)
{
	size_t m = strlen(needle);
	int lo = tolower((unsigned char)needle[0]), up = toupper((unsigned char)needle[0]);

	for (size_t i = 0; m <= n && i <= n - m; i++) {
		int c = (unsigned char)hay[i];

		if ((c == lo || c == up) && strncasecmp(hay + i, needle, m) == 0)
			return true;
	}
	return m == 0;
}

/* A row without the value fails a bound on it. */
static bool within(float v, double min, double max)
{
	return (isnan(min) || (double)v >= min - 1e-6) && (isnan(max) || (double)v <= max + 1e-6);
}

static bool passes(const struct rows *r, const struct row *row, const struct rows_filter *f)
{
	if (f->flags && !(row->flags & f->flags))
		return false;
	if (!within(row->score, f->min_score, f->max_score) ||
	    !within(row->margin, f->min_margin, f->max_margin) ||
	    !within(row->length < 0 ? NAN : (float)row->length, f->min_length, f->max_length))
		return false;
	return !f->q || !f->q[0] || contains(r->data + row->offset, (size_t)row->len, f->q);
}

struct sort_key {
	float key;
	uint32_t row;
};

static int by_key(const void *a, const void *b)
{
	const struct sort_key *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->row < y->row ? -1 : 1;
}

/* Rows without a value come last in either direction. */
static float key_of(const struct row *row, const struct rows_filter *f)
{
	float v = f->sort == 'm' ? row->margin : f->sort == 'l' ? (float)row->length : row->score;

	if (isnan(v))
		return INFINITY;
	return f->descending ? -v : v;
}

uint32_t *rows_select(const struct rows *r, const struct rows_filter *f, size_t *n)
{
	uint32_t *out = mem_array(r->n + 1, sizeof *out);
	struct sort_key *keys;

	*n = 0;
	for (size_t i = 0; i < r->n; i++)
		if (passes(r, &r->row[i], f))
			out[(*n)++] = (uint32_t)i;
	if (!f->sort)
		return out;
	keys = mem_array(*n + 1, sizeof *keys);
	for (size_t i = 0; i < *n; i++)
		keys[i] = (struct sort_key){key_of(&r->row[out[i]], f), out[i]};
	qsort(keys, *n, sizeof *keys, by_key);
	for (size_t i = 0; i < *n; i++)
		out[i] = keys[i].row;
	free(keys);
	return out;
}

/* --- JSON ---------------------------------------------------------------------------------- */

static void strip_tokens(json_t *v)
{
	json_t *child;
	const char *key;
	size_t i;

	if (json_is_object(v)) {
		json_object_del(v, "tokens");
		json_object_del(v, "prompt_tokens");
		json_object_foreach(v, key, child) strip_tokens(child);
	} else if (json_is_array(v)) {
		json_array_foreach(v, i, child) strip_tokens(child);
	}
}

static json_t *number_or_null(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

json_t *rows_json(const struct rows *r, uint32_t i)
{
	const struct row *row = &r->row[i];
	json_t *v = json_loadb(r->data + row->offset, (size_t)row->len, 0, NULL),
	       *flags = json_array();
	char key[PAIR_KEY_SIZE];

	if (!json_is_object(v)) {
		json_decref(v);
		v = json_object();
	}
	strip_tokens(v);
	for (int k = 0; k < ROW_FLAGS; k++)
		if (row->flags & (1u << k))
			json_array_append_new(flags, json_string(flag_names[k]));
	json_object_set_new(v, "n", json_integer(i));
	json_object_set_new(v, "flags", flags);
	json_object_set_new(v, "row_score", number_or_null((double)row->score));
	json_object_set_new(v, "row_margin", number_or_null((double)row->margin));
	json_object_set_new(v, "row_length",
			    row->length >= 0 ? json_integer(row->length) : json_null());
	if (pair_key(v, key))
		json_object_set_new(v, "pair_first",
				    json_string(pair_key_chosen_first(key) ? "chosen" : "rejected"));
	return v;
}
