#include "worker/stages/pair_reviews.h"

#include "base/jsonx.h"

#include <string.h>

#define REVIEWS_MAX (1u << 20)
#define KEPT "kept" /* of a pinned row: a prompt of this job has it */

static bool is_pin(const json_t *row)
{
	return strcmp(jx_get_str(row, "action", ""), "pin") == 0;
}

static const char *side(const json_t *row, const char *which)
{
	return jx_get_str(json_object_get(json_object_get(row, "pair"), which), "text", "");
}

static enum rc check_row(const json_t *row, const char **prompt, struct err *e)
{
	const char *action, *text;
	json_t *pair, *one;
	enum rc rc = jx_str(row, "action", &action, e);

	if (rc == RC_OK && !is_pin(row) && strcmp(action, "exclude") != 0)
		rc = err_set(e, RC_INVALID, "action is \"%.40s\", expected pin or exclude", action);
	if (rc == RC_OK)
		rc = jx_obj(row, "pair", &pair, e);
	if (rc == RC_OK)
		rc = jx_str(pair, "prompt", prompt, e);
	if (rc == RC_OK && (rc = jx_obj(pair, "chosen", &one, e)) == RC_OK)
		rc = jx_str(one, "text", &text, e);
	if (rc == RC_OK && (rc = jx_obj(pair, "rejected", &one, e)) == RC_OK)
		rc = jx_str(one, "text", &text, e);
	return rc;
}

enum rc pair_reviews_open(struct stage_ctx *ctx, struct pair_reviews *r, struct err *e)
{
	const char *prompt;
	json_t *row, *list;
	size_t i;
	enum rc rc;

	*r = (struct pair_reviews){0};
	if (!stage_in(ctx, "reviews"))
		return RC_OK;
	rc = stage_in_rows(ctx, "reviews", REVIEWS_MAX, &r->rows, e);
	r->by_prompt = json_object();
	json_array_foreach(r->rows, i, row) {
		if (rc != RC_OK)
			break;
		if ((rc = check_row(row, &prompt, e)) != RC_OK) {
			err_wrap(e, "input reviews: row %zu", i + 1);
			break;
		}
		if (!(list = json_object_get(r->by_prompt, prompt)))
			json_object_set_new(r->by_prompt, prompt, list = json_array());
		json_array_append(list, row);
	}
	return rc;
}

static int position(const json_t *candidates, const char *text)
{
	const json_t *c;
	size_t i;

	json_array_foreach(candidates, i, c)
		if (strcmp(jx_get_str(c, "text", ""), text) == 0)
			return (int)i;
	return -1;
}

const json_t *pair_reviews_pin(struct pair_reviews *r, const char *prompt, const json_t *candidates,
			       int *chosen, int *rejected)
{
	json_t *row;
	size_t i;

	json_array_foreach(json_object_get(r->by_prompt, prompt), i, row) {
		if (!is_pin(row) || json_object_get(row, KEPT))
			continue;
		*chosen = position(candidates, side(row, "chosen"));
		*rejected = position(candidates, side(row, "rejected"));
		if (*chosen < 0 || *rejected < 0)
			continue;
		json_object_set_new(row, KEPT, json_true());
		r->pinned++;
		return json_object_get(row, "pair");
	}
	return NULL;
}

bool pair_reviews_excludes(const struct pair_reviews *r, const char *prompt, const char *chosen,
			   const char *rejected)
{
	const json_t *row;
	size_t i;

	json_array_foreach(json_object_get(r->by_prompt, prompt), i, row)
		if (!is_pin(row) && strcmp(side(row, "chosen"), chosen) == 0 &&
		    strcmp(side(row, "rejected"), rejected) == 0)
			return true;
	return false;
}

json_t *pair_reviews_row(const json_t *pinned)
{
	json_t *out = json_copy((json_t *)(uintptr_t)pinned);

	json_object_set_new(out, "pinned", json_true());
	return out;
}

enum rc pair_reviews_carry(struct pair_reviews *r, struct stage_rows *pairs, struct err *e)
{
	const json_t *row;
	enum rc rc = RC_OK;
	size_t i;

	json_array_foreach(r->rows, i, row) {
		if (rc != RC_OK || !is_pin(row) || json_object_get(row, KEPT))
			continue;
		json_t *out = pair_reviews_row(json_object_get(row, "pair"));
		rc = stage_rows_add(pairs, out, e);
		json_decref(out);
		r->carried++;
	}
	return rc;
}

void pair_reviews_release(struct pair_reviews *r)
{
	json_decref(r->rows);
	json_decref(r->by_prompt);
}
