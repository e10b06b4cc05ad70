/* Who asks. Tokens `pawl_<role>_<id>_<secret>` (secret: 256 bits) and browser sessions, both kept
 * in Redis as SHA-256 of the secret; compared in constant time. A revoked token leaves a tombstone
 * so that a token file on disk cannot bring it back.
 *
 * DATA/tokens/admin and DATA/tokens/worker (0600) hold the first tokens; when Redis has lost them
 * they are registered again from the files.
 * A request with a session cookie that changes something must come from our own pages:
 * Sec-Fetch-Site, else Origin, decides. Bearer requests carry no ambient right and skip that.
 */
#pragma once

#include "base/err.h"
#include "server/http.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define AUTH_TOKEN_MAX 128
#define AUTH_LOGIN_TTL_S 600
#define AUTH_FIRST_LOGIN_TTL_S 86400 /* printed at start: the operator may come back tomorrow */

struct server;

/* Creates or re-registers the token files. */
enum rc auth_start(struct server *s, struct err *e);
/* True when the request may use a route of `need`; otherwise answered 401, 403 or 503. */
bool auth_check(struct req *r, enum role need);

/* Whether the identity of a long request still stands (token not revoked, session not closed). */
bool auth_still(struct req *r);

enum rc auth_token_create(struct server *s, const char *name, enum role role, int64_t expires_s,
			  char secret[AUTH_TOKEN_MAX], char id[17], struct err *e);
/* The identity behind a token, or RC_DENIED. */
enum rc auth_token_check(struct server *s, const char *token, struct ident *out, struct err *e);
/* One-time link "<public_url>/login?code=..."; heap string. */
enum rc auth_login_link(struct server *s, int64_t ttl_s, char **url, struct err *e);
/* Uses up a code; RC_DENIED when unknown or used. */
enum rc auth_login_take(struct server *s, const char *code, struct ident *out, struct err *e);
/* Opens a session and adds the Set-Cookie header. `stamp`: of the user's record, 0 for tokens. */
enum rc auth_session_open(struct req *r, const struct ident *who, int64_t stamp, struct err *e);
void auth_session_close(struct req *r);
