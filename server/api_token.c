/* Tokens: made, listed, revoked. The secret is shown once, in the answer that makes it. */
#include "server/api.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "queue/queue.h"
#include "server/auth.h"
#include "server/reply.h"
#include "server/route.h"
#include "server/server.h"

#include <string.h>

#define TOKEN_NAME_MAX 63
#define EXPIRES_MAX_S (10LL * 366 * 86400)

static json_t *token_json(const json_t *rec)
{
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "id", jx_get_str(rec, "id", ""), "name",
			 jx_get_str(rec, "name", ""), "role", jx_get_str(rec, "role", ""),
			 "created_at", json_time(jx_get_i64(rec, "created_ms", 0)), "expires_at",
			 json_time(jx_get_i64(rec, "expires_ms", 0)), "last_used_at",
			 json_time(jx_get_i64(rec, "used_ms", 0)));
}

void api_token_list(struct req *r)
{
	struct err e = {0};
	json_t *all = NULL, *items, *rec;
	const char *id;
	int64_t limit, from;

	if (!req_query_i64(r, "limit", 1000, 1, 10000, &limit) ||
	    !req_query_i64(r, "cursor", 0, 0, INT32_MAX, &from))
		return;
	if (queue_kv_list(r->srv->queue, "token", &all, &e)) {
		reply_err(r, &e);
		return;
	}
	items = json_array();
	json_object_foreach(all, id, rec) if (!jx_get_bool(rec, "revoked", false))
		json_array_append_new(items, token_json(rec));
	json_decref(all);
	reply_page(r, items, from, limit);
	json_decref(items);
}

void api_token_create(struct req *r)
{
	static const char *const known[] = {"name", "role", "expires_s", NULL};
	char secret[AUTH_TOKEN_MAX], id[17];
	struct err e = {0};
	json_t *body = req_json(r);
	const char *name = "", *role = "";
	int64_t expires_s = 0;

	if (!body)
		return;
	if (jx_only(body, known, &e) || jx_str(body, "name", &name, &e) ||
	    jx_str(body, "role", &role, &e) ||
	    jx_opt_i64(body, "expires_s", 0, EXPIRES_MAX_S, &expires_s, &e)) {
		reply_err(r, &e);
	} else if (!name[0] || strlen(name) > TOKEN_NAME_MAX || role_parse(role) == ROLE_NONE) {
		reply_invalid(r,
			      "expected a name of 1 to 63 bytes and a role of viewer, operator, "
			      "admin, worker",
			      NULL);
	} else if (auth_token_create(r->srv, name, role_parse(role), expires_s, secret, id, &e)) {
		reply_err(r, &e);
	} else {
		log_info("auth", "token_created", "id=%s role=%s by=%s", id, role, r->who.name);
		reply_json(r, 201,
			   json_pack("{s:s, s:s, s:s, s:s}", "id", id, "name", name, "role", role,
				     "secret", secret));
	}
	json_decref(body);
}

void api_token_delete(struct req *r)
{
	struct err e = {0};
	json_t *rec = NULL;
	const char *id = r->args[0];
	enum rc rc = queue_kv_get(r->srv->queue, "token", id, &rec, &e);

	if (rc == RC_NOTFOUND || (!rc && (!rec || jx_get_bool(rec, "revoked", false)))) {
		reply_problem(r, 404, "not-found", "no token \"%s\"", id);
	} else if (rc) {
		reply_err(r, &e);
	} else {
		/* A tombstone: the token file on disk must not bring it back. */
		json_object_set_new(rec, "revoked", json_true());
		if (queue_kv_put(r->srv->queue, "token", id, rec, 0, &e)) {
			reply_err(r, &e);
		} else {
			log_info("auth", "token_revoked", "id=%s by=%s", id, r->who.name);
			req_send(r, 204, NULL, NULL, 0);
		}
	}
	json_decref(rec);
}
