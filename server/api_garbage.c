/* Garbage of the store: what would go, and letting it go. */
#include "server/api.h"

#include "server/keeper.h"
#include "server/operation.h"
#include "server/reply.h"
#include "server/server.h"

#include <stdlib.h>
#include <string.h>

#define KEEP_MAX 1000000

/* As configured, unless the query says otherwise. False after an answer. */
static bool policy_of(struct req *r, struct retention *p)
{
	const char *best = req_query(r, "keep_best"), *states = req_query(r, "keep_states");

	*p = retention_of(r->srv);
	if (!req_query_i64(r, "keep_last", p->last, 0, KEEP_MAX, &p->last) ||
	    !req_query_i64(r, "keep_every", p->every, 0, KEEP_MAX, &p->every))
		return false;
	if (best)
		p->best = best;
	if (states)
		p->states = strcmp(states, "true") == 0;
	return true;
}

static void collect(struct req *r, const struct retention *p, bool dry_run)
{
	struct err e = {0};
	json_t *v = NULL;

	if (keeper_collect(r->srv, p, dry_run, &v, &e))
		reply_err(r, &e);
	else
		reply_json(r, 200, v);
}

void api_garbage_get(struct req *r)
{
	struct retention p;

	if (policy_of(r, &p))
		collect(r, &p, true);
}

/* As configured: what another policy gave up would be taken back by the next look. */
void api_garbage_post(struct req *r)
{
	struct retention p = retention_of(r->srv);

	if (operation_wanted(r))
		operation_answer(r, "garbage", json_object(), 0);
	else
		collect(r, &p, false);
}
