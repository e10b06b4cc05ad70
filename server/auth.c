#include "server/auth.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/reply.h"
#include "server/route.h"
#include "server/server.h"
#include "server/user.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define NS_TOKEN "token"
#define NS_SESSION "session"
#define NS_LOGIN "login"
#define SESSION_IDLE_S (12 * 3600)
#define SESSION_MAX_S (7 * 24 * 3600)
#define SESSION_REFRESH_S 300
#define USED_REFRESH_MS 60000
#define KNOWN_MS 1000 /* how late another server may hear of a revocation */
#define KNOWN_SLOTS 1024

static void random_hex(char *out, size_t bytes)
{
	uint8_t raw[32];

	random_bytes(raw, bytes);
	for (size_t i = 0; i < bytes; i++)
		snprintf(out + 2 * i, 3, "%02x", raw[i]);
}

static void hash_text(const char *text, char out[SHA256_HEX_SIZE])
{
	sha256_of(text, strlen(text), out);
}

/* --- tokens -------------------------------------------------------------------------------- */

/* Splits pawl_<role>_<id>_<secret>; id is 16 hex digits. */
static bool token_split(const char *token, enum role *role, char id[17])
{
	char role_name[16];
	const char *p = token, *bar;

	if (strlen(token) >= AUTH_TOKEN_MAX || !str_starts(p, "pawl_"))
		return false;
	p += 5;
	bar = strchr(p, '_');
	if (!bar || (size_t)(bar - p) >= sizeof role_name)
		return false;
	str_fmt(role_name, sizeof role_name, "%.*s", (int)(bar - p), p);
	*role = role_parse(role_name);
	p = bar + 1;
	bar = strchr(p, '_');
	if (*role == ROLE_NONE || !bar || bar - p != 16 || strspn(p, "0123456789abcdef") != 16)
		return false;
	str_fmt(id, 17, "%.16s", p);
	return strlen(bar + 1) == 64;
}

static enum rc token_register(struct server *s, const char *token, const char *name, enum role role,
			      const char *id, int64_t expires_s, struct err *e)
{
	char hash[SHA256_HEX_SIZE];
	int64_t now = clk_now_ms();
	json_t *rec;
	enum rc rc;

	hash_text(token, hash);
	rec = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "id", id, "name", name, "role",
			role_text(role), "hash", hash, "created_ms", (json_int_t)now, "expires_ms",
			(json_int_t)(expires_s > 0 ? now + expires_s * 1000 : 0), "used_ms",
			(json_int_t)0);
	rc = queue_kv_put(s->queue, NS_TOKEN, id, rec, expires_s > 0 ? expires_s + 86400 : 0, e);
	json_decref(rec);
	return rc;
}

enum rc auth_token_create(struct server *s, const char *name, enum role role, int64_t expires_s,
			  char secret[AUTH_TOKEN_MAX], char id[17], struct err *e)
{
	char hex[65];

	random_hex(id, 8);
	random_hex(hex, 32);
	str_fmt(secret, AUTH_TOKEN_MAX, "pawl_%s_%s_%s", role_text(role), id, hex);
	return token_register(s, secret, name, role, id, expires_s, e);
}

/* Remembers when a token was used last, at most once a minute. */
static void token_touch(struct server *s, const char *id, json_t *rec, int64_t now)
{
	int64_t expires = jx_get_i64(rec, "expires_ms", 0);

	if (now - jx_get_i64(rec, "used_ms", 0) < USED_REFRESH_MS)
		return;
	json_object_set_new(rec, "used_ms", json_integer(now));
	queue_kv_put(s->queue, NS_TOKEN, id, rec, expires ? (expires - now) / 1000 + 86400 : 0,
		     NULL);
}

enum rc auth_token_check(struct server *s, const char *token, struct ident *out, struct err *e)
{
	char id[17], hash[SHA256_HEX_SIZE];
	json_t *rec = NULL;
	int64_t now = clk_now_ms(), expires;
	enum role role;
	enum rc rc;

	if (!token_split(token, &role, id))
		return err_set(e, RC_DENIED, "not a token of this service");
	rc = queue_kv_get(s->queue, NS_TOKEN, id, &rec, e);
	if (rc && rc != RC_NOTFOUND)
		return rc;
	hash_text(token, hash);
	expires = jx_get_i64(rec, "expires_ms", 0);
	if (!rec || jx_get_bool(rec, "revoked", false) || (expires && expires < now) ||
	    strlen(jx_get_str(rec, "hash", "")) != 64 ||
	    !ct_equal(hash, jx_get_str(rec, "hash", ""), 64)) {
		json_decref(rec);
		return err_set(e, RC_DENIED, "unknown, expired or revoked token");
	}
	memset(out, 0, sizeof *out);
	out->role = role_parse(jx_get_str(rec, "role", ""));
	str_copy(out->id, sizeof out->id, id);
	str_copy(out->name, sizeof out->name, jx_get_str(rec, "name", ""));
	token_touch(s, id, rec, now);
	json_decref(rec);
	return RC_OK;
}

/* --- token files --------------------------------------------------------------------------- */

static enum rc token_file_create(struct server *s, const char *path, enum role role, struct err *e)
{
	char secret[AUTH_TOKEN_MAX], id[17], line[AUTH_TOKEN_MAX + 1];
	enum rc rc = auth_token_create(s, role_text(role), role, 0, secret, id, e);

	if (rc)
		return rc;
	str_fmt(line, sizeof line, "%s\n", secret);
	rc = fs_write_durable(path, line, strlen(line), e);
	if (!rc && chmod(path, 0600) != 0)
		rc = err_set(e, err_from_errno(errno), "%s: cannot set mode 0600: %m", path);
	if (!rc)
		log_info("auth", "token_file", "path=%s role=%s id=%s", path, role_text(role), id);
	return rc;
}

/* Redis may have lost the token (rebuild), or an admin may have revoked it. */
static enum rc token_file_check(struct server *s, const char *path, char *token, enum role role,
				struct err *e)
{
	char id[17];
	enum role have;
	json_t *rec = NULL;
	enum rc rc;

	token[strcspn(token, "\r\n")] = 0;
	if (!token_split(token, &have, id) || have != role)
		return err_set(e, RC_INVALID, "%s: expected one line pawl_%s_<id>_<secret>", path,
			       role_text(role));
	rc = queue_kv_get(s->queue, NS_TOKEN, id, &rec, e);
	if (rc == RC_NOTFOUND || (!rc && !rec))
		rc = token_register(s, token, role_text(role), role, id, 0, e);
	else if (!rc && jx_get_bool(rec, "revoked", false))
		rc = token_file_create(s, path, role, e);
	json_decref(rec);
	return rc;
}

static enum rc token_file(struct server *s, enum role role, struct err *e)
{
	char path[SERVER_URL_MAX + 32];
	struct buf text = BUF_INIT;
	enum rc rc;

	str_fmt(path, sizeof path, "%s/tokens/%s", s->data_dir, role_text(role));
	if (!fs_exists(path))
		return token_file_create(s, path, role, e);
	rc = fs_read(path, 4096, &text, e);
	if (!rc)
		rc = token_file_check(s, path, text.data ? text.data : (char[]){0}, role, e);
	buf_release(&text);
	return rc;
}

enum rc auth_start(struct server *s, struct err *e)
{
	char dir[SERVER_URL_MAX + 32];
	enum rc rc;
	mode_t old = umask(077);

	str_fmt(dir, sizeof dir, "%s/tokens", s->data_dir);
	rc = fs_mkdirs(dir, e);
	if (!rc && chmod(dir, 0700) != 0)
		rc = err_set(e, err_from_errno(errno), "%s: cannot set mode 0700: %m", dir);
	if (!rc)
		rc = token_file(s, ROLE_ADMIN, e);
	if (!rc)
		rc = token_file(s, ROLE_WORKER, e);
	umask(old);
	return rc;
}

/* --- login links and sessions -------------------------------------------------------------- */

enum rc auth_login_link(struct server *s, int64_t ttl_s, char **url, struct err *e)
{
	char code[65], hash[SHA256_HEX_SIZE];
	json_t *rec;
	enum rc rc;

	random_hex(code, 32);
	hash_text(code, hash);
	rec = json_pack("{s:s, s:s}", "role", "admin", "name", "admin");
	rc = queue_kv_put(s->queue, NS_LOGIN, hash, rec, ttl_s, e);
	json_decref(rec);
	if (!rc)
		*url = mem_printf("%s/login?code=%s", s->public_url, code);
	return rc;
}

enum rc auth_login_take(struct server *s, const char *code, struct ident *out, struct err *e)
{
	char hash[SHA256_HEX_SIZE];
	json_t *rec = NULL;
	enum rc rc;

	hash_text(code, hash);
	rc = queue_kv_take(s->queue, NS_LOGIN, hash, &rec, e);
	if (rc && rc != RC_NOTFOUND)
		return rc;
	if (!rec)
		return err_set(e, RC_DENIED,
			       "this login link was used already or has expired; "
			       "ask for a new one with `pawl login` or restart the server");
	memset(out, 0, sizeof *out);
	out->role = role_parse(jx_get_str(rec, "role", ""));
	str_copy(out->id, sizeof out->id, "login-link");
	str_copy(out->name, sizeof out->name, jx_get_str(rec, "name", ""));
	json_decref(rec);
	return RC_OK;
}

/* __Host- binds the cookie to this very host and path, but browsers take it over TLS alone. */
static bool is_secure(const struct req *r)
{
	return str_starts(r->srv->public_url, "https://");
}

static const char *cookie_name(const struct req *r)
{
	return is_secure(r) ? "__Host-pawl_sid" : "pawl_sid";
}

enum rc auth_session_open(struct req *r, const struct ident *who, int64_t stamp, struct err *e)
{
	char sid[65], hash[SHA256_HEX_SIZE];
	int64_t now = clk_now_ms();
	json_t *rec;
	enum rc rc;

	random_hex(sid, 32);
	hash_text(sid, hash);
	rec = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "role", role_text(who->role), "name",
			who->name, "token", who->id, "stamp", (json_int_t)stamp, "created_ms",
			(json_int_t)now, "seen_ms", (json_int_t)now);
	rc = queue_kv_put(r->srv->queue, NS_SESSION, hash, rec, SESSION_IDLE_S, e);
	json_decref(rec);
	if (!rc)
		req_add_header(r, "Set-Cookie",
			       "%s=%s; HttpOnly; SameSite=Strict; Path=/; Max-Age=%d%s",
			       cookie_name(r), sid, SESSION_MAX_S, is_secure(r) ? "; Secure" : "");
	return rc;
}

void auth_session_close(struct req *r)
{
	char hash[SHA256_HEX_SIZE];
	const char *sid = req_cookie(r, cookie_name(r));

	if (!sid)
		return;
	hash_text(sid, hash);
	queue_kv_del(r->srv->queue, NS_SESSION, hash, NULL);
	req_add_header(r, "Set-Cookie", "%s=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0%s",
		       cookie_name(r), is_secure(r) ? "; Secure" : "");
}

/* A session dies with the token it was opened by, and when its user changes. */
static bool session_stands(struct server *s, const json_t *session)
{
	const char *token_id = jx_get_str(session, "token", "");
	json_t *rec = NULL;
	int64_t expires;
	bool alive;

	if (!token_id[0] || strcmp(token_id, "login-link") == 0)
		return true;
	if (str_starts(token_id, USER_ID_PREFIX))
		return user_stands(s, token_id + strlen(USER_ID_PREFIX),
				   jx_get_i64(session, "stamp", 0));
	if (queue_kv_get(s->queue, NS_TOKEN, token_id, &rec, NULL) || !rec)
		return false;
	expires = jx_get_i64(rec, "expires_ms", 0);
	alive = !jx_get_bool(rec, "revoked", false) && (!expires || expires > clk_now_ms());
	json_decref(rec);
	return alive;
}

static enum rc session_check(struct req *r, const char *sid, struct err *e)
{
	struct server *s = r->srv;
	char hash[SHA256_HEX_SIZE];
	json_t *rec = NULL;
	int64_t now = clk_now_ms();
	enum rc rc;

	hash_text(sid, hash);
	rc = queue_kv_get(s->queue, NS_SESSION, hash, &rec, e);
	if (rc && rc != RC_NOTFOUND)
		return rc;
	if (!rec || now - jx_get_i64(rec, "created_ms", 0) > SESSION_MAX_S * 1000LL ||
	    !session_stands(s, rec)) {
		json_decref(rec);
		return err_set(e, RC_DENIED, "the session has ended; log in again");
	}
	r->who.role = role_parse(jx_get_str(rec, "role", ""));
	r->who.by_cookie = true;
	str_copy(r->who.id, sizeof r->who.id, jx_get_str(rec, "token", ""));
	str_copy(r->who.name, sizeof r->who.name, jx_get_str(rec, "name", ""));
	if (now - jx_get_i64(rec, "seen_ms", 0) > SESSION_REFRESH_S * 1000LL) {
		json_object_set_new(rec, "seen_ms", json_integer(now));
		queue_kv_put(s->queue, NS_SESSION, hash, rec, SESSION_IDLE_S, NULL);
	}
	json_decref(rec);
	return RC_OK;
}

/* --- the check ----------------------------------------------------------------------------- */

static bool is_unsafe(const struct req *r)
{
	return strcmp(r->method, "GET") != 0 && strcmp(r->method, "HEAD") != 0;
}

/* Whether an unsafe request comes from our own pages. */
static bool same_origin(const struct req *r)
{
	const char *site = req_header(r, "Sec-Fetch-Site");
	const char *origin = req_header(r, "Origin"), *host = req_header(r, "Host");
	const char *at;

	if (site)
		return strcmp(site, "same-origin") == 0;
	if (!origin)
		return false;
	if (strcasecmp(origin, r->srv->public_url) == 0)
		return true;
	at = strstr(origin, "://");
	return at && host && strcasecmp(at + 3, host) == 0;
}

/* Who was asked for a moment ago need not be looked up again: for KNOWN_MS, and only until this server
 * handles a request that may change rights. Slots hold digests of secrets, never secrets. */
static struct {
	pthread_mutex_t lock;
	struct {
		char hash[SHA256_HEX_SIZE];
		int64_t until_ms;
		long rights;
		struct ident who;
	} slot[KNOWN_SLOTS];
} known = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t known_place(const char *hash)
{
	return strtoul((char[]){hash[0], hash[1], hash[2], 0}, NULL, 16) % KNOWN_SLOTS;
}

static bool known_get(struct req *r, const char *hash, bool by_cookie, long rights)
{
	size_t i = known_place(hash);
	bool hit;

	pthread_mutex_lock(&known.lock);
	hit = strcmp(known.slot[i].hash, hash) == 0 && known.slot[i].rights == rights &&
	      known.slot[i].who.by_cookie == by_cookie && clk_mono_ms() < known.slot[i].until_ms;
	if (hit)
		r->who = known.slot[i].who;
	pthread_mutex_unlock(&known.lock);
	return hit;
}

static void known_put(const struct req *r, const char *hash, long rights)
{
	size_t i = known_place(hash);

	pthread_mutex_lock(&known.lock);
	str_copy(known.slot[i].hash, sizeof known.slot[i].hash, hash);
	known.slot[i].until_ms = clk_mono_ms() + KNOWN_MS;
	known.slot[i].rights = rights;
	known.slot[i].who = r->who;
	pthread_mutex_unlock(&known.lock);
}

static enum rc look_up(struct req *r, struct err *e);

static enum rc identify(struct req *r, struct err *e)
{
	const char *head = req_header(r, "Authorization");
	bool bearer = head && strncasecmp(head, "Bearer ", 7) == 0;
	const char *secret = bearer ? head + 7 : req_cookie(r, cookie_name(r));
	long rights = atomic_load(&r->srv->rights);
	char hash[SHA256_HEX_SIZE];
	enum rc rc;

	if (!secret)
		return look_up(r, e);
	hash_text(secret, hash);
	if (known_get(r, hash, !bearer, rights))
		return RC_OK;
	rc = look_up(r, e);
	if (!rc)
		known_put(r, hash, rights);
	return rc;
}

static enum rc look_up(struct req *r, struct err *e)
{
	const char *bearer = req_header(r, "Authorization"), *sid;

	if (bearer && strncasecmp(bearer, "Bearer ", 7) == 0)
		return auth_token_check(r->srv, bearer + 7, &r->who, e);
	sid = req_cookie(r, cookie_name(r));
	if (sid)
		return session_check(r, sid, e);
	return err_set(e, RC_DENIED, "log in, or send Authorization: Bearer <token>");
}

static bool refuse(struct req *r, const struct err *e)
{
	if (e->code != RC_DENIED) {
		reply_err(r, e);
		return false;
	}
	atomic_fetch_add(&r->srv->stats.auth_failed, 1);
	req_add_header(r, "WWW-Authenticate", "Bearer realm=\"pawl\"");
	reply_problem(r, 401, "unauthenticated", "%s", e->text);
	return false;
}

bool auth_check(struct req *r, enum role need)
{
	struct err e = {0};

	if (r->srv->no_auth) {
		r->who.role = need == ROLE_WORKER ? ROLE_WORKER : ROLE_ADMIN;
		str_copy(r->who.name, sizeof r->who.name, "anyone");
		/* Without tokens every browser tab has the right; foreign pages must not use it. */
		r->who.by_cookie = req_header(r, "Origin") || req_header(r, "Sec-Fetch-Site");
	} else if (identify(r, &e)) {
		return need == ROLE_NONE ? true : refuse(r, &e);
	}
	if (need == ROLE_NONE)
		return true;
	if (!role_covers(r->who.role, need)) {
		reply_problem(r, 403, "denied", "this needs the role %s; \"%s\" has %s",
			      role_text(need), r->who.name, role_text(r->who.role));
		return false;
	}
	if (r->who.by_cookie && is_unsafe(r) && !same_origin(r)) {
		reply_problem(r, 403, "cross-site",
			      "a request with a session cookie must come from this site");
		return false;
	}
	return true;
}

bool auth_still(struct req *r)
{
	struct err e = {0};

	/* Redis being away is no reason to end a stream. */
	return r->srv->no_auth || identify(r, &e) == RC_OK || e.code != RC_DENIED;
}
