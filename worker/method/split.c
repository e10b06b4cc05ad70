#include "base/jsonx.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "worker/method/seed.h"
#include "worker/method/uni.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static uint64_t hash64(const char *a, size_t len, uint64_t salt)
{
	struct sha256 s;
	uint8_t digest[SHA256_SIZE], word[8];
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		word[i] = (uint8_t)(salt >> 8 * i);
	sha256_init(&s);
	sha256_add(&s, word, sizeof(word));
	sha256_add(&s, a, len);
	sha256_end(&s, digest);
	for (int i = 0; i < 8; i++)
		v = v << 8 | digest[i];
	return v;
}

static uint64_t salted_key(const char *text, uint64_t salt)
{
	char *flat = uni_squeeze(text, strlen(text)), utf8[4];
	struct buf low = BUF_INIT;
	size_t len = strlen(flat);
	uint64_t key;
	uint32_t cp;

	for (size_t i = 0; i < len;) {
		i += (size_t)uni_next(flat + i, len - i, &cp);
		buf_append(&low, utf8, (size_t)utf8_encode(uni_lower(cp), utf8));
	}
	key = hash64(low.data ? low.data : "", low.len, salt);
	buf_release(&low);
	free(flat);
	return key;
}

uint64_t seed_key(const char *text)
{
	return salted_key(text, 0);
}

/* A conversation goes where its first message goes. */
static uint64_t row_key(const json_t *row, uint64_t salt)
{
	return salted_key(jx_get_str(row, "thread", jx_get_str(row, "prompt", "")), salt);
}

uint64_t seed_row_key(const json_t *row)
{
	return row_key(row, 0);
}

/* --- sets of keys ---------------------------------------------------------------------------- */

struct keys {
	uint64_t *v; /* owned, sorted */
	size_t n;
};

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static struct keys keys_of(const json_t *rows)
{
	struct keys k = {mem_array(json_array_size(rows) + 1, sizeof(uint64_t)),
			 json_array_size(rows)};
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
		k.v[i] = row_key(row, 0);
	qsort(k.v, k.n, sizeof(*k.v), by_value);
	return k;
}

static bool keys_have(const struct keys *k, uint64_t key)
{
	return k->n > 0 && bsearch(&key, k->v, k->n, sizeof(key), by_value) != NULL;
}

/* --- one list -------------------------------------------------------------------------------- */

/* Judge rows embed their prompt in the template, so they take no part in splits by prompt. */
static bool is_judge_row(const json_t *row)
{
	return json_object_get(row, "score") != NULL;
}

static void keep_rows(struct seed *s, const bool *keep, enum seed_skip why)
{
	json_t *out = json_array(), *row;
	size_t i;

	json_array_foreach(s->rows, i, row) {
		if (keep[i])
			json_array_append(out, row);
		else
			s->skipped[why]++;
	}
	json_decref(s->rows);
	s->rows = out;
}

/* Same prompt and same other contents, whatever the id. Prompts and test: same prompt. */
static void drop_repeats(struct seed *s)
{
	size_t n = json_array_size(s->rows);
	bool *keep = mem_array(n + 1, sizeof(bool));
	json_t *seen = json_object();

	for (size_t i = 0; i < n; i++) {
		json_t *row = json_array_get(s->rows, i), *bare = json_copy(row);
		char digest[SHA256_HEX_SIZE];
		char *text;
		json_object_del(bare, "id");
		json_object_del(bare, "source");
		if (s->role == SEED_PROMPTS || s->role == SEED_TEST)
			json_object_del(bare, "meta");
		text = jx_text(bare);
		sha256_of(text, strlen(text), digest);
		keep[i] = json_object_get(seen, digest) == NULL;
		json_object_set_new(seen, digest, json_true());
		free(text);
		json_decref(bare);
	}
	keep_rows(s, keep, SEED_SKIP_REPEATED);
	json_decref(seen);
	free(keep);
}

static void give_ids(struct seed *s)
{
	json_t *seen = json_object(), *row; /* id: the next number to try behind it */
	size_t i;

	json_array_foreach(s->rows, i, row) {
		const char *own = jx_get_str(row, "id", NULL);
		char id[256], base[224];
		if (own) {
			str_copy(base, sizeof(base), own);
		} else {
			char *text = jx_text(row);
			str_fmt(base, sizeof(base), "%016llx",
				(unsigned long long)hash64(text, strlen(text), 0));
			free(text);
		}
		str_copy(id, sizeof(id), base);
		for (int64_t k = jx_get_i64(seen, base, 2); json_object_get(seen, id); k++) {
			str_fmt(id, sizeof(id), "%s-%lld", base, (long long)k);
			json_object_set_new(seen, base, json_integer(k + 1));
		}
		if (!json_object_get(seen, id))
			json_object_set_new(seen, id, json_integer(2));
		json_object_set_new(row, "id", json_string(id));
	}
	json_decref(seen);
}

/* --- across lists ---------------------------------------------------------------------------- */

static void drop_overlap(struct seed *s, const struct keys *taken)
{
	size_t n = json_array_size(s->rows);
	bool *keep = mem_array(n + 1, sizeof(bool));

	for (size_t i = 0; i < n; i++) {
		const json_t *row = json_array_get(s->rows, i);
		keep[i] = is_judge_row(row) || !keys_have(taken, row_key(row, 0));
	}
	keep_rows(s, keep, SEED_SKIP_OVERLAP);
	free(keep);
}

/* A prompt in both lists stays in the one its coin says. */
static void part(struct seed *ift, struct seed *eft, uint64_t seed)
{
	struct keys a = keys_of(ift->rows), b = keys_of(eft->rows);
	struct seed *lists[] = {ift, eft};
	const struct keys *other[] = {&b, &a};

	for (uint64_t side = 0; side < 2; side++) {
		size_t n = json_array_size(lists[side]->rows);
		bool *keep = mem_array(n + 1, sizeof(bool));
		for (size_t i = 0; i < n; i++) {
			const json_t *row = json_array_get(lists[side]->rows, i);
			keep[i] = is_judge_row(row) || !keys_have(other[side], row_key(row, 0)) ||
				  (row_key(row, seed ^ UINT64_C(0x9e3779b97f4a7c15)) & 1) == side;
		}
		keep_rows(lists[side], keep, SEED_SKIP_OVERLAP);
		free(keep);
	}
	free(a.v);
	free(b.v);
}

static void cut(struct seed *s, uint64_t seed, int64_t max)
{
	size_t n = json_array_size(s->rows);
	uint64_t *order;
	bool *keep;

	if (max <= 0 || n <= (size_t)max)
		return;
	order = mem_array(n, sizeof(*order));
	keep = mem_array(n, sizeof(*keep));
	for (size_t i = 0; i < n; i++)
		order[i] = hash64(jx_get_str(json_array_get(s->rows, i), "id", ""),
				  strlen(jx_get_str(json_array_get(s->rows, i), "id", "")), seed);
	{
		uint64_t *sorted = mem_array(n, sizeof(*sorted));
		memcpy(sorted, order, n * sizeof(*sorted));
		qsort(sorted, n, sizeof(*sorted), by_value);
		for (size_t i = 0; i < n; i++)
			keep[i] = order[i] < sorted[max];
		free(sorted);
	}
	keep_rows(s, keep, SEED_SKIP_SURPLUS);
	free(order);
	free(keep);
}

void seed_split(struct seed lists[SEED_N_ROLES], uint64_t seed, int64_t ift_max)
{
	static const struct {
		enum seed_role from, keeps;
	} yields[] = {
		{SEED_IFT, SEED_TEST}, {SEED_EFT, SEED_TEST}, {SEED_PROMPTS, SEED_TEST},
		{SEED_EVAL, SEED_TEST}, {SEED_IFT, SEED_EVAL}, {SEED_EFT, SEED_EVAL},
		{SEED_PROMPTS, SEED_EVAL},
	};

	for (int r = 0; r < SEED_N_ROLES; r++) {
		if (!lists[r].rows)
			continue;
		drop_repeats(&lists[r]);
		give_ids(&lists[r]);
	}
	for (size_t i = 0; i < sizeof(yields) / sizeof(yields[0]); i++) {
		struct keys taken;
		if (!lists[yields[i].from].rows || !lists[yields[i].keeps].rows)
			continue;
		taken = keys_of(lists[yields[i].keeps].rows);
		drop_overlap(&lists[yields[i].from], &taken);
		free(taken.v);
	}
	if (lists[SEED_IFT].rows && lists[SEED_EFT].rows)
		part(&lists[SEED_IFT], &lists[SEED_EFT], seed);
	if (lists[SEED_IFT].rows)
		cut(&lists[SEED_IFT], seed, ift_max);
}

void seed_hold_out(const json_t *rows, uint64_t seed, double share, bool *eval)
{
	double edge = ldexp(share < 0 ? 0 : share > 1 ? 1 : share, 53);
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
		eval[i] = (double)(row_key(row, seed ^ UINT64_C(0xbf58476d1ce4e5b9)) >> 11) < edge;
}
