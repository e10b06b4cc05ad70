#include "server/user.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/hold.h"
#include "server/password.h"
#include "server/reply.h"
#include "server/route.h"
#include "server/server.h"
#include "store/store.h"

#include <string.h>

#define NS_USER "user"

bool user_name_valid(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n < USER_NAME_MAX && name[0] != '.' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static void doc_path(const char *name, char path[64])
{
	str_fmt(path, 64, "users/%s.json", name);
}

/* From Redis, else from the store and into Redis again. Deleted ones are there, marked. */
static enum rc record(struct server *s, const char *name, json_t **out, struct err *e)
{
	char path[64];
	enum rc rc;

	*out = NULL;
	if (!user_name_valid(name))
		return err_set(e, RC_NOTFOUND, "no user \"%.40s\"", name);
	rc = queue_kv_get(s->queue, NS_USER, name, out, e);
	if (rc != RC_NOTFOUND)
		return rc;
	doc_path(name, path);
	rc = store_doc_get(s->store, path, out, e);
	if (!rc)
		queue_kv_put(s->queue, NS_USER, name, *out, 0, NULL);
	return rc;
}

enum rc user_get(struct server *s, const char *name, json_t **out, struct err *e)
{
	enum rc rc = record(s, name, out, e);

	if (!rc && jx_get_bool(*out, "deleted", false))
		rc = RC_NOTFOUND;
	if (rc == RC_NOTFOUND) {
		json_decref(*out);
		*out = NULL;
		return err_set(e, RC_NOTFOUND, "no user \"%.40s\"", name);
	}
	return rc;
}

/* The store first: what Redis says may be lost. Takes rec. */
static enum rc keep(struct server *s, const char *name, json_t *rec, struct err *e)
{
	char path[64];
	enum rc rc;

	doc_path(name, path);
	rc = store_doc_put(s->store, path, rec, e);
	if (!rc)
		rc = queue_kv_put(s->queue, NS_USER, name, rec, 0, e);
	json_decref(rec);
	return rc;
}

/* Rises with every change, also of two within a millisecond. */
static int64_t next_stamp(const json_t *old)
{
	int64_t now = clk_now_ms(), last = jx_get_i64(old, "stamp", 0);

	return now > last ? now : last + 1;
}

/* RC_CHANGED unless the record is what `match` ("u:<name>=<stamp>", or NULL) names. */
static enum rc still(const char *name, const json_t *rec, const char *match, struct err *e)
{
	char is[80];

	str_fmt(is, sizeof is, "u:%s=%lld", name, (long long)jx_get_i64(rec, "stamp", 0));
	return !match || strcmp(match, is) == 0
		       ? RC_OK
		       : err_set(e, RC_CHANGED, "user %s is no longer what If-Match names; read it again",
				 name);
}

static enum rc put_held(struct server *s, const char *name, enum role role, const char *hash,
			const char *match, struct err *e)
{
	json_t *old = NULL, *rec;
	int64_t stamp;
	enum rc rc = record(s, name, &old, e);

	if (rc && rc != RC_NOTFOUND)
		return rc;
	rc = still(name, old, match, e);
	if (!rc) {
		stamp = next_stamp(old);
		rec = json_pack("{s:s, s:s, s:s, s:I, s:I}", "name", name, "role", role_text(role),
				"hash", hash[0] ? hash : jx_get_str(old, "hash", ""),
				"created_ms", (json_int_t)jx_get_i64(old, "created_ms", stamp),
				"stamp", (json_int_t)stamp);
		rc = keep(s, name, rec, e);
	}
	json_decref(old);
	return rc;
}

enum rc user_put(struct server *s, const char *name, enum role role, const char *password,
		 const char *match, struct err *e)
{
	char hash[PASSWORD_HASH_MAX] = "";
	struct hold h;
	enum rc rc = user_name_valid(name) ? RC_OK : err_set(e, RC_INVALID, "no user name");

	if (!rc && password)
		rc = password_hash(password, hash, e);
	if (!rc)
		rc = hold_take(s, NS_USER, name, &h, e);
	if (rc)
		return rc;
	rc = put_held(s, name, role, hash, match, e);
	hold_drop(&h);
	return rc;
}

static enum rc delete_held(struct server *s, const char *name, const char *match, struct err *e)
{
	json_t *old = NULL;
	enum rc rc = user_get(s, name, &old, e);

	if (!rc)
		rc = still(name, old, match, e);
	if (!rc)
		rc = keep(s, name,
			  json_pack("{s:s, s:b, s:I}", "name", name, "deleted", 1, "stamp",
				    (json_int_t)next_stamp(old)),
			  e);
	json_decref(old);
	return rc;
}

enum rc user_delete(struct server *s, const char *name, const char *match, struct err *e)
{
	struct hold h;
	enum rc rc = user_name_valid(name) ? hold_take(s, NS_USER, name, &h, e)
					   : err_set(e, RC_NOTFOUND, "no user \"%.40s\"", name);

	if (rc)
		return rc;
	rc = delete_held(s, name, match, e);
	hold_drop(&h);
	return rc;
}

void user_revision(const json_t *rec, char out[24])
{
	str_fmt(out, 24, "%lld", (long long)jx_get_i64(rec, "stamp", 0));
}

json_t *user_json(const json_t *rec)
{
	char revision[24];

	user_revision(rec, revision);
	return json_pack("{s:s, s:s, s:s, s:o, s:o}", "name", jx_get_str(rec, "name", ""), "revision",
			 revision, "role",
			 jx_get_str(rec, "role", ""), "created_at",
			 json_time(jx_get_i64(rec, "created_ms", 0)), "changed_at",
			 json_time(jx_get_i64(rec, "stamp", 0)));
}

enum rc user_list(struct server *s, json_t **items, struct err *e)
{
	char **names = NULL, name[USER_NAME_MAX];
	size_t n = 0;
	enum rc rc = store_doc_list(s->store, "users", &names, &n, e);

	*items = NULL;
	if (rc && rc != RC_NOTFOUND)
		return rc;
	*items = json_array();
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(names[i]);
		json_t *rec = NULL;

		if (len < 6 || len - 5 >= sizeof name || !str_ends(names[i], ".json"))
			continue;
		str_fmt(name, sizeof name, "%.*s", (int)(len - 5), names[i]);
		if (!user_get(s, name, &rec, NULL))
			json_array_append_new(*items, user_json(rec));
		json_decref(rec);
	}
	fs_list_free(names);
	return RC_OK;
}

enum rc user_check(struct server *s, const char *name, const char *password, struct ident *out,
		   int64_t *stamp, struct err *e)
{
	json_t *rec = NULL;
	enum rc rc = user_get(s, name, &rec, e);

	if (rc && rc != RC_NOTFOUND)
		return rc;
	if (!password_check(password, rec ? jx_get_str(rec, "hash", "") : NULL)) {
		json_decref(rec);
		return err_set(e, RC_DENIED, "user and password do not belong together");
	}
	memset(out, 0, sizeof *out);
	out->role = role_parse(jx_get_str(rec, "role", ""));
	str_fmt(out->id, sizeof out->id, USER_ID_PREFIX "%s", name);
	str_copy(out->name, sizeof out->name, name);
	*stamp = jx_get_i64(rec, "stamp", 0);
	json_decref(rec);
	return RC_OK;
}

bool user_stands(struct server *s, const char *name, int64_t stamp)
{
	json_t *rec = NULL;
	bool ok = user_get(s, name, &rec, NULL) == RC_OK && jx_get_i64(rec, "stamp", 0) == stamp;

	json_decref(rec);
	return ok;
}
