/* The routes of quotas. */
#include "server/api.h"

#include "base/log.h"
#include "queue/queue.h"
#include "server/quota.h"
#include "server/reply.h"
#include "server/server.h"

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

void api_quota_put(struct req *r)
{
	json_t *body = req_json(r), *kept = NULL;
	struct err e = {0};

	if (!body)
		return;
	if (quota_set(r->srv, r->args[0], body, &kept, &e)) {
		reply_err(r, &e);
	} else {
		log_info("quota", "set", "owner=%s by=%s", r->args[0], r->who.name);
		json_object_set_new(kept, "owner", json_string(r->args[0]));
		reply_json(r, 200, kept);
	}
	json_decref(body);
}
