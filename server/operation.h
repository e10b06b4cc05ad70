/* What takes longer than a request should: it is written down, answered with 202 and a Location, and done by
 * a thread of one server. Kept in Redis for a week. A server that dies leaves it to the next, which goes on
 * where it was (bulk) or begins again (the rest): each may safely be done twice.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct server;
struct req;
struct operations;

enum rc operations_start(struct server *s, struct operations **out, struct err *e);
void operations_stop(struct operations *o); /* NULL is fine */

/* Whether the client asks for it: "Prefer: respond-async". */
bool operation_wanted(const struct req *r);
/* Writes it down and answers. params are taken; total 0: unknown. */
void operation_answer(struct req *r, const char *kind, json_t *params, int64_t total);
/* {"id","kind","state":"queued|running|done|failed|cancelled","by","created_ms",…}; RC_NOTFOUND. */
enum rc operation_get(struct server *s, const char *id, json_t **out, struct err *e);
enum rc operation_list(struct server *s, json_t **items, struct err *e); /* newest first */
/* It ends before its next step; one that has ended is RC_CONFLICT. */
enum rc operation_cancel(struct server *s, const char *id, struct err *e);
json_t *operation_json(const json_t *record);
