/* Login, logout, who am I, and the two resources that need no login. */
#include "server/api.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/version.h"
#include "server/assets.h"
#include "server/auth.h"
#include "server/reply.h"
#include "server/route.h"
#include "server/server.h"

#include <stdlib.h>

static json_t *session_json(const struct req *r, const struct ident *who)
{
	return json_pack("{s:s, s:s, s:o, s:s, s:b}", "user", who->name, "role",
			 role_text(who->role), "server_time", json_time(clk_now_ms()), "version",
			 version_text(), "no_auth", r->srv->no_auth);
}

/* {"code": one-time code} or {"token": secret} -> session cookie. */
void api_session_post(struct req *r)
{
	static const char *const known[] = {"code", "token", NULL};
	struct ident who = {0};
	struct err e = {0};
	json_t *body;
	const char *code, *token;
	enum rc rc;

	if (!auth_login_allowed(r) || !(body = req_json(r)))
		return;
	code = jx_get_str(body, "code", NULL);
	token = jx_get_str(body, "token", NULL);
	if (jx_only(body, known, &e) || !code == !token) {
		reply_problem(r, 400, "invalid", "expected either \"code\" or \"token\"");
		goto out;
	}
	rc = code ? auth_login_take(r->srv, code, &who, &e)
		  : auth_token_check(r->srv, token, &who, &e);
	if (rc == RC_DENIED) {
		auth_login_failed(r);
		reply_problem(r, 401, "unauthenticated", "%s", e.text);
	} else if (!rc && who.role == ROLE_WORKER) {
		reply_problem(r, 403, "denied", "a worker token opens no session");
	} else if (rc || (rc = auth_session_open(r, &who, &e))) {
		reply_err(r, &e);
	} else {
		reply_json(r, 201, session_json(r, &who));
	}
out:
	json_decref(body);
}

void api_session_get(struct req *r)
{
	reply_json(r, 200, session_json(r, &r->who));
}

void api_session_delete(struct req *r)
{
	auth_session_close(r);
	req_send(r, 204, NULL, NULL, 0);
}

void api_login_link(struct req *r)
{
	struct err e = {0};
	char *url = NULL;

	if (auth_login_link(r->srv, AUTH_LOGIN_TTL_S, &url, &e))
		reply_err(r, &e);
	else
		reply_json(
			r, 201,
			json_pack("{s:s, s:i}", "url", url, "expires_seconds", AUTH_LOGIN_TTL_S));
	free(url);
}

void api_health(struct req *r)
{
	bool ok = atomic_load(&r->srv->redis_ok);

	reply_json(r, ok ? 200 : 503,
		   json_pack("{s:s, s:b}", "status", ok ? "ok" : "degraded", "redis", ok));
}

void api_openapi(struct req *r)
{
	assets_send_openapi(r);
}
