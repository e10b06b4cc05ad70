/* Webhooks, their deliveries, and the feed of notices. */
#include "server/api.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/str.h"
#include "server/guard.h"
#include "server/hook.h"
#include "server/notify.h"
#include "server/reply.h"
#include "server/server.h"

#include <string.h>

static json_t *shown(const json_t *hook, const json_t *waiting)
{
	json_t *v = hook_json(hook);

	json_object_set_new(v, "waiting",
			    json_integer(jx_get_i64(waiting, jx_get_str(hook, "name", ""), 0)));
	return v;
}

void api_hook_list(struct req *r)
{
	json_t *all = NULL, *waiting = NULL, *items, *v;
	struct err e = {0};
	const char *name;

	if (hooks_all(r->srv, &all, &e) || notify_waiting(r->srv, &waiting, &e)) {
		reply_err(r, &e);
	} else {
		items = json_array();
		json_object_foreach(all, name, v) json_array_append_new(items, shown(v, waiting));
		reply_list(r, items, NULL);
	}
	json_decref(waiting);
	json_decref(all);
}

static void answer_hook(struct req *r, const json_t *hook, int status, bool with_secret)
{
	json_t *waiting = NULL, *v;
	struct err e = {0};
	char revision[24];

	if (notify_waiting(r->srv, &waiting, &e)) {
		reply_err(r, &e);
	} else {
		v = shown(hook, waiting);
		if (with_secret)
			json_object_set(v, "secret", json_object_get(hook, "secret"));
		hook_revision(hook, revision);
		reply_revision(r, 'h', jx_get_str(hook, "name", ""), revision);
		reply_json(r, status, v);
	}
	json_decref(waiting);
}

void api_hook_get(struct req *r)
{
	struct err e = {0};
	json_t *hook = NULL;

	if (hook_get(r->srv, r->args[0], &hook, &e))
		reply_err(r, &e);
	else
		answer_hook(r, hook, 200, false);
	json_decref(hook);
}

/* The secret is shown when it is new, and never again. */
void api_hook_put(struct req *r)
{
	json_t *body = req_json(r), *hook = NULL;
	struct err e = {0};
	bool made = false;

	if (!body)
		return;
	if (hook_put(r->srv, r->args[0], body, guard_match(r), &made, &hook, &e)) {
		reply_err(r, &e);
	} else {
		log_info("hook", made ? "made" : "changed", "hook=%s by=%s", r->args[0],
			 r->who.name);
		answer_hook(r, hook, made ? 201 : 200, made && !json_object_get(body, "secret"));
	}
	json_decref(hook);
	json_decref(body);
}

void api_hook_delete(struct req *r)
{
	struct err e = {0};

	if (hook_delete(r->srv, r->args[0], guard_match(r), &e)) {
		reply_err(r, &e);
		return;
	}
	log_info("hook", "deleted", "hook=%s by=%s", r->args[0], r->who.name);
	req_send(r, 204, NULL, NULL, 0);
}

/* One notice, now, past the outbox. */
void api_hook_test(struct req *r)
{
	int64_t began = clk_mono_ms();
	json_t *hook = NULL, *notice;
	struct err e = {0};
	char id[40];
	int status = 0;
	enum rc rc;

	if (hook_get(r->srv, r->args[0], &hook, &e)) {
		reply_err(r, &e);
		return;
	}
	str_fmt(id, sizeof id, "%lld-test", (long long)clk_now_ms());
	notice = notice_new(r->srv, id, "test", clk_now_ms(), "", "A test of this webhook");
	rc = hook_post(r->srv, hook, notice, &status, &e);
	reply_json(r, 200,
		   json_pack("{s:b, s:i, s:s?, s:I}", "delivered", rc == RC_OK, "status", status,
			     "error", rc ? e.text : NULL, "ms",
			     (json_int_t)(clk_mono_ms() - began)));
	json_decref(notice);
	json_decref(hook);
}

void api_hook_deliveries(struct req *r)
{
	json_t *hook = NULL, *items = NULL;
	int64_t limit, from;
	struct err e = {0};

	if (hook_get(r->srv, r->args[0], &hook, &e) ||
	    notify_deliveries(r->srv, r->args[0], &items, &e))
		reply_err(r, &e);
	else if (req_query_i64(r, "limit", 50, 1, 200, &limit) &&
		 req_query_i64(r, "cursor", 0, 0, 1000000, &from))
		reply_page(r, items, from, limit);
	json_decref(items);
	json_decref(hook);
}

void api_notices(struct req *r)
{
	json_t *items = NULL;
	int64_t limit;
	struct err e = {0};

	if (notify_feed(r->srv, &items, &e))
		reply_err(r, &e);
	else if (req_query_i64(r, "limit", 50, 1, 200, &limit))
		reply_after(r, items, req_query(r, "cursor"), limit);
	json_decref(items);
}
