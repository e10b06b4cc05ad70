/* People and what was done: users with their roles, and the audit log. */
#include "server/api.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "base/str.h"
#include "server/audit.h"
#include "server/guard.h"
#include "server/reply.h"
#include "server/route.h"
#include "server/saved.h"
#include "server/server.h"
#include "server/user.h"

#include <stdlib.h>
#include <string.h>

void api_user_list(struct req *r)
{
	struct err e = {0};
	json_t *items = NULL;

	if (user_list(r->srv, &items, &e))
		reply_err(r, &e);
	else
		reply_list(r, items, NULL);
}

static void answer_record(struct req *r, const json_t *rec, int status)
{
	char revision[24];

	user_revision(rec, revision);
	reply_revision(r, 'u', jx_get_str(rec, "name", ""), revision);
	reply_json(r, status, user_json(rec));
}

static void answer_user(struct req *r, const char *name, int status)
{
	struct err e = {0};
	json_t *rec = NULL;

	if (user_get(r->srv, name, &rec, &e))
		reply_err(r, &e);
	else
		answer_record(r, rec, status);
	json_decref(rec);
}

void api_user_get(struct req *r)
{
	answer_user(r, r->args[0], 200);
}

/* PUT {"role", "password"?}: makes a user, or changes what is given. */
void api_user_put(struct req *r)
{
	static const char *const known[] = {"role", "password", NULL};
	const char *name = r->args[0], *role = NULL, *password = NULL;
	json_t *body = req_json(r), *old = NULL;
	struct err e = {0};
	enum role as;
	enum rc rc;

	if (!body)
		return;
	rc = user_get(r->srv, name, &old, &e);
	if ((rc && rc != RC_NOTFOUND) || jx_only(body, known, &e) ||
	    jx_opt_str(body, "role", &role, &e) || jx_opt_str(body, "password", &password, &e)) {
		reply_err(r, &e);
		goto out;
	}
	as = role_parse(role ? role : jx_get_str(old, "role", ""));
	if (!user_name_valid(name) || as == ROLE_NONE || as == ROLE_WORKER ||
	    (!old && !password)) {
		reply_invalid(r,
			      "expected a name of a-z, 0-9, dot, dash, underscore (at most 31), a role of "
			      "viewer, operator, admin, and for a new user a password",
			      NULL);
	} else if (user_put(r->srv, name, as, password, guard_match(r), &e)) {
		reply_err(r, &e);
	} else {
		log_info("auth", old ? "user_changed" : "user_made", "user=%s role=%s by=%s", name,
			 role_text(as), r->who.name);
		answer_user(r, name, old ? 200 : 201);
	}
out:
	json_decref(old);
	json_decref(body);
}

void api_user_delete(struct req *r)
{
	char identity[USER_NAME_MAX + sizeof USER_ID_PREFIX];
	struct err e = {0};

	if (user_delete(r->srv, r->args[0], guard_match(r), &e)) {
		reply_err(r, &e);
		return;
	}
	str_fmt(identity, sizeof identity, USER_ID_PREFIX "%s", r->args[0]);
	if (saved_forget(r->srv, identity, &e))
		log_warn("filter", "not_forgotten", "user=%s error=%s", r->args[0], e.text);
	log_info("auth", "user_deleted", "user=%s by=%s", r->args[0], r->who.name);
	req_send(r, 204, NULL, NULL, 0);
}

void api_audit_list(struct req *r)
{
	struct audit_query q = {.who = req_query(r, "who"),
				.path = req_query(r, "path"),
				.cursor = req_query(r, "cursor")};
	struct err e = {0};
	json_t *items = NULL;
	char *next = NULL;

	if (!req_query_i64(r, "limit", 100, 1, 1000, &q.limit))
		return;
	if (audit_list(r->srv, &q, &items, &next, &e))
		reply_err(r, &e);
	else
		reply_list(r, items, next);
	free(next);
}
