/* What stands between the table of routes and a handler, the same for all of them: rate, If-Match,
 * Idempotency-Key, audit. auth.c has let the request through before. */
#pragma once

#include <stdbool.h>

struct req;
struct route;

/* False after answering: 429, 412, 428, 422, or the answer of an earlier try with the same key. */
bool guard_before(struct req *r, const struct route *rt);
/* What If-Match named, for queue_match(); NULL when the request has none. Borrowed. */
const char *guard_match(const struct req *r);
/* Keeps the answer for a retry with the same key. */
void guard_after(struct req *r, const struct route *rt);
/* Whether requests of this route are written to the audit log. */
bool guard_audits(const struct route *rt);
