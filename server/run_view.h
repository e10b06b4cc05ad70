/* A run as answers show it, with stages and models summed over its jobs. Summing thousands of jobs
 * takes a while and pages ask often, so the sum is kept for a moment: an ended run's until it
 * changes, a live one's for RUN_VIEW_MS.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

#define RUN_VIEW_MS 1000

struct server;

/* RC_NOTFOUND when there is no such run. `single` adds the specification. */
enum rc run_view(struct server *s, const char *run, bool single, json_t **out, struct err *e);
/* After an action: the next look sums again. */
void run_view_forget(const char *run);
