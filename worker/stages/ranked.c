#include "worker/stages/ranked.h"

#include "base/jsonx.h"
#include "base/mem.h"

#include <math.h>

enum rc ranked_items(const json_t *row, int samples, const char *what, struct judging_item **items,
		     size_t *n, struct err *e)
{
	const char *id, *prompt, *text;
	int64_t rank;
	json_t *replies, *r;
	size_t i;
	enum rc rc;

	if ((rc = jx_str(row, "id", &id, e)) != RC_OK ||
	    (rc = jx_str(row, "prompt", &prompt, e)) != RC_OK ||
	    (rc = jx_arr(row, "replies", &replies, e)) != RC_OK)
		return err_wrap(e, "input %s", what);
	*items = mem_grow(*items, *n + json_array_size(replies) * (size_t)samples + 1,
			  sizeof **items);
	json_array_foreach(replies, i, r)
	{
		if ((rc = jx_str(r, "text", &text, e)) != RC_OK ||
		    (rc = jx_i64(r, "rank", 0, 1 << 20, &rank, e)) != RC_OK)
			return err_wrap(e, "input %s: %s", what, id);
		for (int p = 0; p < samples; p++)
			(*items)[(*n)++] =
				(struct judging_item){.id = id,
						      .prompt = prompt,
						      .response = text,
						      .meta = json_object_get(row, "meta"),
						      .candidate = (int)i,
						      .pass = p};
	}
	return RC_OK;
}

json_t *ranked_scores(const struct judging_item *items, int samples)
{
	json_t *list = json_array();

	for (int p = 0; p < samples; p++)
		json_array_append_new(list, judging_score(&items[p]));
	return list;
}

void ranked_sum(const json_t *scores, struct rank_score *out)
{
	const json_t *score;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)scores, i, score)
	{
		if (!json_is_number(score))
			continue;
		out->sum_milli += llround(json_number_value(score) * 1000);
		out->n++;
	}
}
