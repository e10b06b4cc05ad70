/* Login, logout, who am I, and the two resources that need no login. */
#include "server/api.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "base/version.h"
#include "server/assets.h"
#include "server/auth.h"
#include "server/reply.h"
#include "server/route.h"
#include "server/server.h"
#include "server/throttle.h"
#include "server/user.h"

#include <stdlib.h>

static json_t *session_json(const struct req *r, const struct ident *who)
{
	return json_pack("{s:s, s:s, s:o, s:s, s:b}", "user", who->name, "role",
			 role_text(who->role), "server_time", json_time(clk_now_ms()), "version",
			 version_text(), "no_auth", r->srv->no_auth);
}

struct login {
	const char *code, *token, *user, *password;
};

static bool login_parse(const json_t *body, struct login *in)
{
	static const char *const known[] = {"code", "token", "user", "password", NULL};

	in->code = jx_get_str(body, "code", NULL);
	in->token = jx_get_str(body, "token", NULL);
	in->user = jx_get_str(body, "user", NULL);
	in->password = jx_get_str(body, "password", NULL);
	return !jx_only(body, known, NULL) && !in->user == !in->password &&
	       !!in->code + !!in->token + !!in->user == 1;
}

static enum rc login_check(struct server *s, const struct login *in, struct ident *who,
			   int64_t *stamp, struct err *e)
{
	if (in->code)
		return auth_login_take(s, in->code, who, e);
	if (in->token)
		return auth_token_check(s, in->token, who, e);
	return user_check(s, in->user, in->password, who, stamp, e);
}

static void log_in(struct req *r, const struct login *in)
{
	struct ident who = {0};
	struct err e = {0};
	int64_t stamp = 0;
	enum rc rc = login_check(r->srv, in, &who, &stamp, &e);

	r->who = who; /* for the audit log */
	if (rc == RC_DENIED) {
		throttle_login_failed(r, in->user);
		if (in->user && user_name_valid(in->user))
			str_copy(r->who.name, sizeof r->who.name, in->user);
		reply_problem(r, 401, "unauthenticated", "%s", e.text);
	} else if (!rc && who.role == ROLE_WORKER) {
		reply_problem(r, 403, "denied", "a worker token opens no session");
	} else if (rc || auth_session_open(r, &who, stamp, &e)) {
		reply_err(r, &e);
	} else {
		reply_json(r, 201, session_json(r, &who));
	}
}

/* {"code": one-time code}, {"token": secret} or {"user", "password"} -> session cookie. */
void api_session_post(struct req *r)
{
	struct login in;
	json_t *body;

	if (!throttle_login_allowed(r, NULL) || !(body = req_json(r)))
		return;
	if (!login_parse(body, &in))
		reply_problem(r, 400, "invalid",
			      "expected \"code\", \"token\", or \"user\" and \"password\"");
	else if (!in.user || throttle_login_allowed(r, in.user))
		log_in(r, &in);
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
