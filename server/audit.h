/* Who changed what, when, from where: one line of audit/<day>.jsonl in the store for every request
 * that may change something (every method but GET and HEAD, outside the worker protocol), whether it
 * was let through or refused. Bodies are never kept, they may hold secrets; what an operator decided
 * about a run stands in the run's own record.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

struct req;
struct server;

/* Durable before the answer goes out; a store that cannot take it is told to the log, no more. */
void audit_note(struct req *r, int status);

struct audit_query {
	const char *who, *path; /* exact name; part of the path; NULL any */
	int64_t limit;
	const char *cursor; /* NULL: from the newest */
};
/* Newest first. *next: heap, NULL at the end. RC_INVALID when the cursor is none of ours. */
enum rc audit_list(struct server *s, const struct audit_query *q, json_t **items, char **next,
		   struct err *e);
