/* Saved filters of whoever asks (saved.h). */
#include "server/api.h"

#include "base/log.h"
#include "server/reply.h"
#include "server/saved.h"
#include "server/server.h"

void api_saved_list(struct req *r)
{
	struct err e = {0};
	json_t *items = NULL;

	if (saved_list(r->srv, r->who.id, req_query(r, "page"), &items, &e))
		reply_err(r, &e);
	else
		reply_list(r, items, NULL);
}

void api_saved_put(struct req *r)
{
	json_t *body = req_json(r), *kept = NULL;
	struct err e = {0};
	bool made = false;

	if (!body)
		return;
	if (saved_put(r->srv, r->who.id, r->args[0], body, &made, &kept, &e)) {
		reply_err(r, &e);
	} else {
		log_info("filter", made ? "made" : "changed", "by=%s", r->who.name);
		reply_json(r, made ? 201 : 200, kept);
	}
	json_decref(body);
}

void api_saved_delete(struct req *r)
{
	struct err e = {0};

	if (saved_delete(r->srv, r->who.id, r->args[0], &e)) {
		reply_err(r, &e);
		return;
	}
	log_info("filter", "deleted", "by=%s", r->who.name);
	req_send(r, 204, NULL, NULL, 0);
}
