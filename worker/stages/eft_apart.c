#include "worker/stages/eft_apart.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/method/seed.h"
#include "worker/stage.h"

#include <stdlib.h>
#include <string.h>

#define IFT_ROWS_MAX (4u << 20)

/* Prompts of one list, sorted by key. */
struct key {
	uint64_t key;
	const char *id; /* borrowed from the row */
};

struct keys {
	struct key *v; /* owned */
	size_t n;
};

static int by_key(const void *a, const void *b)
{
	const struct key *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

static struct keys keys_of(const json_t *rows)
{
	struct keys k = {mem_array(json_array_size(rows) + 1, sizeof(struct key)), json_array_size(rows)};

	for (size_t i = 0; i < k.n; i++) {
		const json_t *row = json_array_get(rows, i);

		k.v[i] = (struct key){seed_row_key(row), jx_get_str(row, "id", "?")};
	}
	qsort(k.v, k.n, sizeof *k.v, by_key);
	return k;
}

static const char *who_has(const struct keys *k, uint64_t key)
{
	struct key want = {key, NULL};
	const struct key *hit = k->n ? bsearch(&want, k->v, k->n, sizeof want, by_key) : NULL;

	return hit ? hit->id : NULL;
}

static enum rc shared(const char *a, const char *id, const char *b, const char *other, struct err *e)
{
	return err_set(e, RC_INVALID,
		       "%s row %.80s and %s row %.80s have one prompt: judge data must be apart from it; "
		       "take it out of one of them", a, id, b, other);
}

/* No row of `rows` among `k`. */
static enum rc apart(const char *what, const json_t *rows, const char *other, const struct keys *k,
		     struct err *e)
{
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)rows, i, row) {
		const char *hit = who_has(k, seed_row_key(row));

		if (hit)
			return shared(what, jx_get_str(row, "id", "?"), other, hit, e);
	}
	return RC_OK;
}

/* The prompts as they stand inside judge prompts: signs that would close a tag are changed there. */
static struct keys shown_keys(const struct judge_template *t, const json_t *rows)
{
	struct keys k = {mem_array(json_array_size(rows) + 1, sizeof(struct key)), 0};
	struct buf ask = BUF_INIT, prompt = BUF_INIT;
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)rows, i, row) {
		buf_clear(&ask);
		buf_clear(&prompt);
		judge_template_render(t, jx_get_str(row, "prompt", ""), "", &ask);
		if (judge_template_asked(t, ask.data, &prompt))
			k.v[k.n++] = (struct key){seed_key(prompt.len ? prompt.data : ""),
						  jx_get_str(row, "id", "?")};
	}
	qsort(k.v, k.n, sizeof *k.v, by_key);
	buf_release(&ask);
	buf_release(&prompt);
	return k;
}

static enum rc judge_apart(const struct judge_template *t, const json_t *judge, const char *other,
			   const json_t *rows, int64_t *unknown, struct err *e)
{
	struct keys k = shown_keys(t, rows);
	struct buf prompt = BUF_INIT;
	const json_t *row;
	enum rc rc = RC_OK;
	size_t i;

	*unknown = 0;
	json_array_foreach((json_t *)(uintptr_t)judge, i, row) {
		const char *hit;

		buf_clear(&prompt);
		if (!judge_template_asked(t, jx_get_str(row, "prompt", ""), &prompt)) {
			(*unknown)++;
			continue;
		}
		hit = who_has(&k, seed_key(prompt.len ? prompt.data : ""));
		if (hit) {
			rc = shared("judge", jx_get_str(row, "id", "?"), other, hit, e);
			break;
		}
	}
	buf_release(&prompt);
	free(k.v);
	return rc;
}

enum rc eft_apart(struct stage_ctx *ctx, const struct judge_template *t, const json_t *train,
		  const json_t *judge, const json_t *eval, struct err *e)
{
	json_t *ift = NULL;
	struct keys k = {NULL, 0}, measured = keys_of(eval);
	int64_t unknown = 0;
	enum rc rc = RC_OK;

	if (stage_in(ctx, "ift"))
		rc = stage_in_rows(ctx, "ift", IFT_ROWS_MAX, &ift, e);
	if (rc == RC_OK) {
		k = keys_of(ift);
		rc = apart("ranked", train, "instruction", &k, e);
	}
	if (rc == RC_OK)
		rc = apart("held-out", eval, "instruction", &k, e);
	if (rc == RC_OK)
		rc = apart("ranked", train, "held-out", &measured, e);
	if (rc == RC_OK)
		rc = judge_apart(t, judge, "instruction", ift, &unknown, e);
	if (rc == RC_OK)
		rc = judge_apart(t, judge, "held-out", eval, &unknown, e);
	if (rc == RC_OK) {
		stage_final(ctx, "eft.apart",
			    json_integer((json_int_t)(json_array_size(train) + json_array_size(eval) +
						      json_array_size(judge)) - unknown));
		stage_final(ctx, "eft.apart_unknown", json_integer(unknown));
	}
	free(k.v);
	free(measured.v);
	json_decref(ift);
	return rc;
}
