/* The routes of quotas. */
#include "server/api.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/guard.h"
#include "server/quota.h"
#include "server/reply.h"
#include "server/server.h"

#include <string.h>

void api_quota_list(struct req *r)
{
	struct err e = {0};
	json_t *quotas = NULL, *items, *q;
	const char *owner;

	if (queue_quotas(r->srv->queue, &quotas, &e)) {
		reply_err(r, &e);
		return;
	}
	items = json_array();
	json_object_foreach(quotas, owner, q)
	{
		json_object_set_new(q, "owner", json_string(owner));
		json_array_append(items, q);
	}
	json_decref(quotas);
	reply_list(r, items, NULL);
}

void api_quota_get(struct req *r)
{
	struct err e = {0};
	json_t *quotas = NULL, *q;

	if (queue_quotas(r->srv->queue, &quotas, &e)) {
		reply_err(r, &e);
		return;
	}
	q = json_object_get(quotas, r->args[0]);
	if (!q) {
		reply_problem(r, 404, "not-found", "nothing limits the runs of \"%s\"", r->args[0]);
	} else {
		json_object_set_new(q, "owner", json_string(r->args[0]));
		reply_revision(r, 'q', r->args[0], jx_get_str(q, "revision", ""));
		reply_json(r, 200, json_incref(q));
	}
	json_decref(quotas);
}

/* What the quota must still be, as queue_match takes it; "" for whatever it is. Without an If-Match nothing
 * may limit the owner yet; one that names what is no longer there is refused where all are compared. */
static void expected(const struct req *r, char match[MATCH_TEXT_MAX])
{
	const char *want = req_header(r, "If-Match");

	match[0] = 0;
	if (guard_match(r))
		str_copy(match, MATCH_TEXT_MAX, guard_match(r));
	else if (!want || strcmp(want, "*") != 0)
		str_fmt(match, MATCH_TEXT_MAX, "q:%.70s=%s", r->args[0], want ? "gone" : "..");
}

void api_quota_put(struct req *r)
{
	char match[MATCH_TEXT_MAX];
	json_t *body = req_json(r), *kept = NULL;
	struct err e = {0};

	if (!body)
		return;
	expected(r, match);
	if (quota_set(r->srv, r->args[0], body, match[0] ? match : NULL, &kept, &e)) {
		reply_err(r, &e);
	} else {
		log_info("quota", "set", "owner=%s by=%s", r->args[0], r->who.name);
		json_object_set_new(kept, "owner", json_string(r->args[0]));
		reply_json(r, 200, kept);
	}
	json_decref(body);
}
