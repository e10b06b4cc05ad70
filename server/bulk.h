/* One decision for many: jobs by id or by filter, runs by id. Each is decided as if it were asked for alone
 * (durable first, then the queue), so one that cannot be done hinders no other; asking again for the rest is
 * safe.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define BULK_MAX 2000	     /* ids of one request: each is a durable write, a few seconds in all */
#define BULK_ASYNC_MAX 10000 /* of one operation: all jobs of a run */

struct server;

struct bulk {
	struct server *s; /* borrowed */
	const char *who;  /* borrowed */
	bool of_jobs;
	const char *action; /* of `body` */
	json_t *body;	    /* owned */
	json_t *detail;	    /* owned */
	json_t *ids;	    /* owned; strings */
	json_t *failures;   /* owned; of the first hundred */
	int64_t done, failed;
	bool dry_run;
};

/* Reads {"action","ids"|"filter","priority"?,"add"?,"remove"?,"dry_run"?}; RC_INVALID names what is wrong.
 * bulk_release in any case. body is taken. */
enum rc bulk_init(struct bulk *b, json_t *body, struct err *e);
void bulk_release(struct bulk *b);
void bulk_decide(struct bulk *b, size_t i); /* the i-th of ids */
/* {"dry_run","matched","done","failed","failures"}. */
json_t *bulk_json(const struct bulk *b);
