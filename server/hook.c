#include "server/hook.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/conf.h"
#include "base/fetch.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/hold.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/user.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NS_HOOK "hook"
#define FILE_MAX 65536
#define POST_MS 10000
#define ANSWER_MAX 65536

const char *const notice_kinds[] = {
	"run.done",  "run.failed",  "run.cancelled",  "run.alarm",	   "job.failed",
	"job.stuck", "worker.lost", "attention.disk", "attention.workers", "test",
	NULL};

/* --- checks ------------------------------------------------------------------------------------
 */

static bool kind_known(const char *kind)
{
	for (size_t i = 0; notice_kinds[i]; i++)
		if (strcmp(notice_kinds[i], kind) == 0)
			return true;
	return strcmp(kind, "*") == 0;
}

static enum rc events_check(const json_t *events, struct err *e)
{
	const json_t *v;
	size_t i;

	if (!json_is_array(events) || json_array_size(events) == 0 || json_array_size(events) > 32)
		return err_set(e, RC_INVALID, "events: expected a list of kinds, or [\"*\"]");
	json_array_foreach(events, i,
			   v) if (!json_is_string(v) ||
				  !kind_known(json_string_value(
					  v))) return err_set(e, RC_INVALID,
							      "events/%zu: no such kind of notice",
							      i);
	return RC_OK;
}

static enum rc url_check(const char *url, struct err *e)
{
	const char *host = str_starts(url, "https://")	? url + 8
			   : str_starts(url, "http://") ? url + 7
							: NULL;

	if (!host || !*host || *host == '/' || strlen(url) >= HOOK_URL_MAX)
		return err_set(e, RC_INVALID, "url: expected http:// or https:// and a host");
	for (const char *p = url; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			return err_set(e, RC_INVALID, "url: a blank or control character");
	if (memchr(host, '@', strcspn(host, "/")))
		return err_set(e, RC_INVALID,
			       "url: no name and password here; check the signature instead");
	return RC_OK;
}

static enum rc secret_check(const char *secret, struct err *e)
{
	size_t n = strlen(secret);

	return n >= HOOK_SECRET_MIN && n <= HOOK_SECRET_MAX
		       ? RC_OK
		       : err_set(e, RC_INVALID, "secret: expected %d to %d bytes", HOOK_SECRET_MIN,
				 HOOK_SECRET_MAX);
}

static enum rc record_check(const json_t *rec, struct err *e)
{
	enum rc rc = url_check(jx_get_str(rec, "url", ""), e);

	if (!rc)
		rc = events_check(json_object_get(rec, "events"), e);
	if (!rc)
		rc = secret_check(jx_get_str(rec, "secret", ""), e);
	return rc;
}

/* --- where they are kept -----------------------------------------------------------------------
 */

static void folder_of(const struct server *s, char out[SERVER_URL_MAX + 80], const char *name)
{
	str_fmt(out, SERVER_URL_MAX + 80, "%s/hooks%s%.40s%s", s->data_dir, name[0] ? "/" : "",
		name, name[0] ? ".json" : "");
}

/* Nobody else may read the file, at no time. */
static enum rc file_write(struct server *s, const char *name, const json_t *rec, struct err *e)
{
	char path[SERVER_URL_MAX + 80], *text;
	enum rc rc;

	folder_of(s, path, "");
	rc = fs_mkdirs(path, e);
	if (!rc && chmod(path, 0700) != 0)
		rc = err_set(e, RC_IO, "%s: cannot set mode 0700: %m", path);
	folder_of(s, path, name);
	text = jx_text(rec);
	if (!rc)
		rc = fs_write_durable(path, text, strlen(text), e);
	if (!rc && chmod(path, 0600) != 0)
		rc = err_set(e, RC_IO, "%s: cannot set mode 0600: %m", path);
	free(text);
	return rc;
}

static enum rc keep(struct server *s, const char *name, const json_t *rec, struct err *e)
{
	enum rc rc = file_write(s, name, rec, e);

	return rc ? rc : queue_kv_put(s->queue, NS_HOOK, name, rec, 0, e);
}

static void bring_back(struct server *s, const char *file)
{
	char path[SERVER_URL_MAX + 80], name[HOOK_NAME_MAX];
	json_t *rec = NULL, *known = NULL;
	size_t len = strlen(file);

	if (len < 6 || len - 5 >= sizeof name || !str_ends(file, ".json"))
		return;
	str_fmt(name, sizeof name, "%.*s", (int)(len - 5), file);
	folder_of(s, path, name);
	if (user_name_valid(name) &&
	    queue_kv_get(s->queue, NS_HOOK, name, &known, NULL) == RC_NOTFOUND &&
	    !jx_load(path, FILE_MAX, &rec, NULL) &&
	    !queue_kv_put(s->queue, NS_HOOK, name, rec, 0, NULL))
		log_info("hook", "brought_back", "hook=%s", name);
	json_decref(known);
	json_decref(rec);
}

/* One of server.hooks_file: {"url","events","secret_file"}. */
static enum rc from_file(struct server *s, const char *name, const json_t *v, struct err *e)
{
	static const char *const known[] = {"url", "events", "secret_file", NULL};
	const char *file = jx_get_str(v, "secret_file", "");
	struct buf secret = BUF_INIT;
	json_t *rec = NULL;
	enum rc rc = user_name_valid(name) ? jx_only(v, known, e)
					   : err_set(e, RC_INVALID, "no name of a hook");

	if (!rc)
		rc = fs_read(file, HOOK_SECRET_MAX + 2, &secret, e);
	if (!rc) {
		if (secret.data)
			secret.data[strcspn(secret.data, "\r\n")] = 0;
		rec = json_pack("{s:s, s:O?, s:O?, s:s, s:b, s:I, s:b}", "name", name, "url",
				json_object_get(v, "url"), "events", json_object_get(v, "events"),
				"secret", secret.data ? secret.data : "", "enabled", 1, "stamp",
				(json_int_t)clk_now_ms(), "file", 1);
		rc = record_check(rec, e);
	}
	if (!rc)
		rc = queue_kv_put(s->queue, NS_HOOK, name, rec, 0, e);
	json_decref(rec);
	buf_release(&secret);
	return rc ? err_wrap(e, "server.hooks_file: %.40s", name) : RC_OK;
}

/* What the file no longer names goes. */
static enum rc file_forget(struct server *s, const json_t *named, struct err *e)
{
	json_t *all = NULL, *rec;
	const char *name;
	void *next;
	enum rc rc = queue_kv_list(s->queue, NS_HOOK, &all, e);

	json_object_foreach_safe(all, next, name, rec)
	{
		if (!rc && jx_get_bool(rec, "file", false) && !json_object_get(named, name))
			rc = queue_kv_del(s->queue, NS_HOOK, name, e);
	}
	json_decref(all);
	return rc;
}

enum rc hooks_start(struct server *s, struct err *e)
{
	const char *file = conf_str(s->conf, "server.hooks_file");
	char path[SERVER_URL_MAX + 80], **names = NULL;
	json_t *doc = NULL, *v;
	const char *name;
	size_t n = 0;
	enum rc rc = RC_OK;

	folder_of(s, path, "");
	if (!fs_list(path, &names, &n, NULL)) {
		for (size_t i = 0; i < n; i++)
			bring_back(s, names[i]);
		fs_list_free(names);
	}
	if (file[0])
		rc = jx_load(file, FILE_MAX, &doc, e);
	json_object_foreach(doc, name, v) if (!rc) rc = from_file(s, name, v, e);
	if (!rc)
		rc = file_forget(s, doc, e);
	json_decref(doc);
	return rc;
}

enum rc hooks_all(struct server *s, json_t **out, struct err *e)
{
	const char *name;
	json_t *rec;
	void *next;
	enum rc rc = queue_kv_list(s->queue, NS_HOOK, out, e);

	json_object_foreach_safe(*out, next, name, rec)
	{
		if (jx_get_bool(rec, "deleted", false))
			json_object_del(*out, name);
	}
	return rc;
}

enum rc hook_get(struct server *s, const char *name, json_t **out, struct err *e)
{
	enum rc rc = RC_NOTFOUND;

	*out = NULL;
	if (user_name_valid(name))
		rc = queue_kv_get(s->queue, NS_HOOK, name, out, e);
	if (!rc && jx_get_bool(*out, "deleted", false)) {
		json_decref(*out);
		*out = NULL;
		rc = RC_NOTFOUND;
	}
	return rc == RC_NOTFOUND ? err_set(e, rc, "no webhook \"%.40s\"", name) : rc;
}

/* --- changes -----------------------------------------------------------------------------------
 */

void hook_revision(const json_t *hook, char out[24])
{
	str_fmt(out, 24, "%lld", (long long)jx_get_i64(hook, "stamp", 0));
}

static enum rc still(const char *name, const json_t *old, const char *match, struct err *e)
{
	char is[80];

	str_fmt(is, sizeof is, "h:%s=%lld", name, (long long)jx_get_i64(old, "stamp", 0));
	if (match && strcmp(match, is) != 0)
		return err_set(e, RC_CHANGED,
			       "webhook %s is no longer what If-Match names; read it again", name);
	if (jx_get_bool(old, "file", false))
		return err_set(e, RC_DENIED,
			       "webhook %s is one of server.hooks_file; change it there", name);
	return RC_OK;
}

static json_t *stamped(const char *name, const json_t *old)
{
	int64_t now = clk_now_ms(), last = jx_get_i64(old, "stamp", 0);

	return json_pack("{s:s, s:I}", "name", name, "stamp",
			 (json_int_t)(now > last ? now : last + 1));
}

static json_t *record_new(const char *name, const json_t *old, const json_t *body)
{
	static const char *const fields[] = {"url", "events", "secret", "enabled"};
	json_t *rec = stamped(name, old);
	char a[17], b[17], secret[40];

	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		json_t *v = json_object_get(body, fields[i]);

		v = v ? v : json_object_get(old, fields[i]);
		if (v)
			json_object_set(rec, fields[i], v);
	}
	holder_make(a);
	holder_make(b);
	str_fmt(secret, sizeof secret, "%s%s", a, b);
	if (!json_object_get(rec, "secret"))
		json_object_set_new(rec, "secret", json_string(secret));
	if (!json_object_get(rec, "enabled"))
		json_object_set_new(rec, "enabled", json_true());
	return rec;
}

static enum rc put_held(struct server *s, const char *name, const json_t *body, const char *match,
			bool *made, json_t **out, struct err *e)
{
	json_t *old = NULL, *all = NULL, *rec = NULL;
	enum rc rc = hook_get(s, name, &old, e);

	*made = rc == RC_NOTFOUND;
	rc = *made ? hooks_all(s, &all, e) : rc;
	if (!rc && json_object_size(all) >= HOOKS_MAX)
		rc = err_set(e, RC_CONFLICT, "there are %d webhooks already", HOOKS_MAX);
	if (!rc)
		rc = still(name, old, match, e);
	if (!rc) {
		rec = record_new(name, old, body);
		rc = record_check(rec, e);
	}
	if (!rc)
		rc = keep(s, name, rec, e);
	if (!rc)
		*out = json_incref(rec);
	json_decref(rec);
	json_decref(all);
	json_decref(old);
	return rc;
}

enum rc hook_put(struct server *s, const char *name, const json_t *body, const char *match,
		 bool *made, json_t **out, struct err *e)
{
	static const char *const known[] = {"url", "events", "secret", "enabled", NULL};
	const char *text = NULL;
	struct hold h;
	bool on;
	enum rc rc =
		user_name_valid(name)
			? jx_only(body, known, e)
			: err_set(e, RC_INVALID,
				  "name: expected a-z, 0-9, dot, dash, underscore, at most 31");

	*out = NULL;
	if (!rc && !(rc = jx_opt_str(body, "url", &text, e)) &&
	    !(rc = jx_opt_str(body, "secret", &text, e)) &&
	    !(rc = jx_opt_bool(body, "enabled", &on, e)))
		rc = hold_take(s, NS_HOOK, name, &h, e);
	if (rc)
		return rc;
	rc = put_held(s, name, body, match, made, out, e);
	hold_drop(&h);
	return rc;
}

/* Redis keeps that it is gone, so that another server's file does not bring it back. */
enum rc hook_delete(struct server *s, const char *name, const char *match, struct err *e)
{
	char path[SERVER_URL_MAX + 80];
	json_t *old = NULL, *rec;
	struct hold h;
	enum rc rc = hook_get(s, name, &old, e);

	json_decref(old);
	if (!rc)
		rc = hold_take(s, NS_HOOK, name, &h, e);
	if (rc)
		return rc;
	old = NULL;
	rc = hook_get(s, name, &old, e);
	if (!rc)
		rc = still(name, old, match, e);
	if (!rc) {
		rec = stamped(name, old);
		json_object_set_new(rec, "deleted", json_true());
		rc = queue_kv_put(s->queue, NS_HOOK, name, rec, 0, e);
		json_decref(rec);
	}
	folder_of(s, path, name);
	if (!rc)
		unlink(path);
	hold_drop(&h);
	json_decref(old);
	return rc;
}

bool hook_wants(const json_t *hook, const char *kind)
{
	const json_t *v;
	size_t i;

	if (!jx_get_bool(hook, "enabled", false))
		return false;
	json_array_foreach(json_object_get(hook, "events"), i, v)
	{
		const char *want = json_string_value(v);

		if (strcmp(want, "*") == 0 || strcmp(want, kind) == 0)
			return true;
	}
	return false;
}

json_t *hook_json(const json_t *hook)
{
	char revision[24];

	hook_revision(hook, revision);
	return json_pack(
		"{s:s, s:s, s:O, s:O, s:s, s:o, s:b}", "name", jx_get_str(hook, "name", ""), "url",
		jx_get_str(hook, "url", ""), "events", json_object_get(hook, "events"), "enabled",
		json_object_get(hook, "enabled"), "revision", revision, "changed_at",
		json_time(jx_get_i64(hook, "stamp", 0)), "file", jx_get_bool(hook, "file", false));
}

/* --- sending -----------------------------------------------------------------------------------
 */

void hook_sign(const char *secret, const char *id, int64_t at_s, const char *body,
	       char out[HOOK_SIGNATURE_MAX])
{
	uint8_t mac[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE], *text = mem_printf("%lld.%s.%s", (long long)at_s, id, body);

	hmac_sha256(secret, strlen(secret), text, strlen(text), mac);
	sha256_hex(mac, hex);
	str_fmt(out, HOOK_SIGNATURE_MAX, "t=%lld,v1=%s", (long long)at_s, hex);
	free(text);
}

/* libcurl's sentences hold the address. */
static enum rc plain_words(enum rc rc, struct err *e)
{
	return err_set(e, rc, "%s",
		       rc == RC_TIMEOUT	  ? "no answer within ten seconds"
		       : rc == RC_INVALID ? "the address cannot be used, or its answer is too long"
					  : "no connection, or the address is not a public one");
}

enum rc hook_post(struct server *s, const json_t *hook, const json_t *notice, int *status,
		  struct err *e)
{
	char signature[HOOK_SIGNATURE_MAX + 24], event[80], delivery[120];
	const char *headers[] = {signature, event, delivery, NULL},
		   *id = jx_get_str(notice, "id", "");
	char *body = jx_text(notice), *at = signature + strlen("Pawl-Signature: ");
	struct fetch_req q = {.method = "POST",
			      .url = jx_get_str(hook, "url", ""),
			      .headers = headers,
			      .body = body,
			      .body_len = strlen(body),
			      .timeout_ms = POST_MS,
			      .resp_max = ANSWER_MAX,
			      .public_only = !conf_bool(s->conf, "server.hooks_private")};
	struct fetch_resp r;
	enum rc rc;

	str_fmt(signature, sizeof signature, "Pawl-Signature: ");
	hook_sign(jx_get_str(hook, "secret", ""), id, clk_now_ms() / 1000, body, at);
	str_fmt(event, sizeof event, "Pawl-Event: %.60s", jx_get_str(notice, "kind", ""));
	str_fmt(delivery, sizeof delivery, "Pawl-Delivery: %.90s", id);
	rc = fetch(&q, &r, e);
	*status = rc ? 0 : r.status;
	if (rc)
		rc = plain_words(rc, e);
	else if (r.status < 200 || r.status > 299)
		rc = err_set(e, RC_CONFLICT, "the answer was %d", r.status);
	fetch_resp_release(&r);
	free(body);
	return rc;
}
