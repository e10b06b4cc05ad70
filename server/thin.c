#include "server/thin.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define FIGURES_MAX 64 /* names beyond these are kept with the entries, but keep none themselves */

struct names {
	const char *name[FIGURES_MAX]; /* borrowed from the entries */
	size_t n;
};

static void note_names(struct names *f, json_t *entry)
{
	const char *key;
	json_t *v;
	size_t i;

	json_object_foreach(entry, key, v)
	{
		if (!json_is_number(v) || strcmp(key, "step") == 0 ||
		    strncmp(key, THIN_TOTAL, sizeof THIN_TOTAL - 1) == 0)
			continue;
		for (i = 0; i < f->n && strcmp(f->name[i], key) != 0; i++)
			;
		if (i == f->n && f->n < FIGURES_MAX)
			f->name[f->n++] = key;
	}
}

/* Marks the entries of [from, to) that hold an extreme of `name`. */
static void mark_extremes(const json_t *all, const char *name, size_t from, size_t to, char *kept)
{
	size_t low = to, high = to;
	double least = 0, most = 0;

	for (size_t i = from; i < to; i++) {
		const json_t *v = json_object_get(json_array_get(all, i), name);
		double x = json_number_value(v);

		if (!json_is_number(v))
			continue;
		if (low == to || x < least)
			low = i, least = x;
		if (high == to || x > most)
			high = i, most = x;
	}
	if (low < to)
		kept[low] = kept[high] = 1;
}

json_t *thin(json_t *all, int64_t max)
{
	size_t n = json_array_size(all), stretches;
	struct names f = {.n = 0};
	json_t *out, *entry;
	char *kept;
	size_t i;

	if (n <= (size_t)max)
		return json_incref(all);
	json_array_foreach(all, i, entry) note_names(&f, entry);
	stretches = (size_t)max / (2 * (f.n ? f.n : 1));
	stretches = stretches ? stretches : 1;
	kept = mem_array(n, 1);
	kept[0] = kept[n - 1] = 1;
	for (size_t s = 0; s < stretches; s++)
		for (size_t k = 0; k < f.n; k++)
			mark_extremes(all, f.name[k], s * n / stretches, (s + 1) * n / stretches,
				      kept);
	out = json_array();
	json_array_foreach(all, i, entry) if (kept[i]) json_array_append(out, entry);
	free(kept);
	return out;
}
