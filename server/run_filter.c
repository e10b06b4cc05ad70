#include "server/run_filter.h"

#include "base/jsonx.h"

#include <string.h>
#include <strings.h>

bool list_has(const char *list, const char *word)
{
	size_t n = strlen(word);

	if (!list || !list[0])
		return true;
	while (*list) {
		size_t len = strcspn(list, ",");

		if (len == n && strncmp(list, word, n) == 0)
			return true;
		list += len + (list[len] == ',');
	}
	return false;
}

/* Whether each of the comma list is among them. */
static bool has_tags(const json_t *tags, const char *list)
{
	const json_t *tag;
	size_t i;

	while (list && *list) {
		size_t len = strcspn(list, ",");
		bool has = false;

		json_array_foreach(tags, i, tag) has |=
			json_string_length(tag) == len &&
			strncmp(json_string_value(tag), list, len) == 0;
		if (!has)
			return false;
		list += len + (list[len] == ',');
	}
	return true;
}

bool run_filter_hits(const struct run_filter *f, const json_t *run)
{
	const char *q = f->q;

	if (!list_has(f->states, jx_get_str(run, "state", "")) ||
	    !has_tags(json_object_get(run, "tags"), f->tags) ||
	    (f->starred && !jx_get_bool(run, "starred", false)))
		return false;
	return !q || !q[0] || strcasestr(jx_get_str(run, "name", ""), q) ||
	       strcasestr(jx_get_str(run, "id", ""), q) ||
	       strcasestr(jx_get_str(run, "notes", ""), q);
}

const char *run_filter_state(const struct run_filter *f)
{
	return f->states && f->states[0] && !strchr(f->states, ',') ? f->states : NULL;
}
