/* Which runs a list or a bulk operation is about. Pure. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

struct run_filter {
	const char *states, *tags; /* comma lists, NULL or "" for any; all of the tags, one of the states */
	const char *q;		   /* in name, id or notes; NULL or "" for any */
	bool starred;		   /* only those */
};

/* `run` as queue_runs() tells it. */
bool run_filter_hits(const struct run_filter *f, const json_t *run);
/* The one state it asks for; NULL when it asks for several or none. */
const char *run_filter_state(const struct run_filter *f);
/* Whether `word` is in the comma list; an absent list holds everything. */
bool list_has(const char *list, const char *word);
