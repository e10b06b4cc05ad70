/* Which handler answers a request, and who may ask. One table (route.c) of method, pattern, role,
 * known query parameters and handler; openapi.json is checked against it both ways by a test.
 * Roles: viewer < operator < admin; worker stands apart and reaches the worker protocol alone.
 * Nothing is reachable without a role but login, health, the API's description and static files.
 */
#pragma once

#include "server/http.h"

#include <stdbool.h>
#include <stddef.h>

enum route_flags {
	ROUTE_ALWAYS = 1,  /* gets through when threads are short, and at any rate */
	ROUTE_SHARED = 4,  /* the same answer for every role: kept while nothing changes (answers.h) */
	ROUTE_LONG = 16,   /* holds a thread for as long as the client reads: slots.h */
	ROUTE_OWN = 32,	   /* changes what nobody else sees: no audit log that one could fill */
	ROUTE_MATCH = 8,   /* without If-Match, what is there is not changed: 428 */
	ROUTE_OWN_KEYS = 2 /* Idempotency-Key: the handler's, or none, for the answer is a secret */
};

struct route {
	const char *method;
	const char *pattern; /* "{}" stands for one non-empty segment; they become req.args */
	enum role role;	     /* ROLE_NONE: everybody */
	const char *query;   /* known query parameters, space separated */
	void (*fn)(struct req *r);
	unsigned flags;
};

const struct route *route_table(size_t *n);
/* The route of (method, path) or NULL; *allowed counts routes of the same path. `args` gets up to
 * HTTP_ARGS_MAX segments in `a` memory. HEAD finds GET. */
const struct route *route_find(const char *method, const char *path, struct arena *a,
			       const char **args, int *allowed);
bool route_always(const char *method, const char *path);
bool role_covers(enum role have, enum role need);
const char *role_text(enum role role);
enum role role_parse(const char *text); /* ROLE_NONE when unknown */
/* The entry point http.c calls for every request that passed the gate. */
void route_handle(struct req *r);
