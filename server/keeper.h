/* Keeps the store tidy: what runs that are over give up (retention.h), and what nothing names any
 * more (gc.h), now and then and when asked. Several servers may do it at once. */
#pragma once

#include "base/err.h"
#include "server/retention.h"

#include <jansson.h>
#include <stdbool.h>

struct keeper;

/* What would go or, without `dry_run`, goes now; *out is the answer of the API. */
enum rc keeper_collect(struct server *s, const struct retention *p, bool dry_run, json_t **out,
		       struct err *e);
/* Every server.garbage_hours hours, the first time after that long; 0: never. */
enum rc keeper_start(struct server *s, struct keeper **out, struct err *e);
void keeper_stop(struct keeper *k); /* after s->stopping was set; NULL is fine */
