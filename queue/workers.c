/* Workers, small things with a life span, and the auditor. */
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/internal.h"
#include "queue/keys.h"

#include <stdlib.h>
#include <string.h>

#define WORKERS_PAGE 256

enum rc queue_worker_register(struct queue *q, const char *worker, const json_t *info, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;

	if (!word_valid(worker, WORKER_ID_MAX))
		return err_set(e, RC_INVALID, "worker id \"%.70s\": expected a short word", worker);
	call_begin(&c, "worker_register");
	redis_cmd_add(&c, worker);
	cmd_json(&c, info);
	redis_cmd_add(&c, jx_get_str(info, "name", worker));
	redis_cmd_i64(&c, WORKERS_KEPT);
	redis_cmd_f64(&c, jx_get_f64(info, "price_per_hour", 0));
	return call_end(q, &c, NULL, e);
}

enum rc queue_worker_beat(struct queue *q, const char *worker, enum queue_action *action,
			  struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	enum rc rc;

	call_begin(&c, "worker_beat");
	redis_cmd_add(&c, worker);
	rc = call_end(q, &c, &p, e);
	if (!rc)
		*action = strcmp(reply_text(p), "drain") ? QUEUE_CONTINUE : QUEUE_DRAIN;
	reply_free(p);
	return rc;
}

enum rc queue_worker_status(struct queue *q, const char *worker, const json_t *gpus, const char *unhealthy,
			    struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;

	call_begin(&c, "worker_status");
	redis_cmd_add(&c, worker);
	cmd_json(&c, gpus);
	redis_cmd_add(&c, unhealthy);
	return call_end(q, &c, NULL, e);
}

enum rc queue_worker_cordon(struct queue *q, const char *worker, struct err *e)
{
	return call_words(q, "worker_set", (const char *[]){worker, "cordon", NULL}, NULL, e);
}

enum rc queue_worker_drain(struct queue *q, const char *worker, struct err *e)
{
	return call_words(q, "worker_set", (const char *[]){worker, "drain", NULL}, NULL, e);
}

enum rc queue_worker_take(struct queue *q, const char *worker, struct err *e)
{
	return call_words(q, "worker_set", (const char *[]){worker, "take", NULL}, NULL, e);
}

enum rc queue_worker_gone(struct queue *q, const char *worker, struct err *e)
{
	return call_words(q, "worker_set", (const char *[]){worker, "gone", NULL}, NULL, e);
}

static const char *worker_state(const struct redis_reply *h, const char *job)
{
	if (hash_i64(h, "gone", 0))
		return "gone";
	if (hash_i64(h, "lost", 0))
		return "lost";
	if (*hash_get(h, "ill", ""))
		return "unhealthy";
	if (hash_i64(h, "drain", 0))
		return hash_i64(h, "drain", 0) == 2 ? "cordoned" : "draining";
	return job[0] ? "busy" : "idle";
}

static json_t *worker_json(const char *id, const struct redis_reply *h, const struct redis_reply *jobs)
{
	const char *job = reply_text(reply_at(jobs, 0));

	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o}", "id", id, "name",
			 hash_get(h, "name", ""), "state", worker_state(h, job), "job",
			 json_text_or_null(job), "last_beat_ms", json_ms_or_null(hash_i64(h, "lb", 0)),
			 "started_ms", json_ms_or_null(hash_i64(h, "started", 0)), "jobs_done",
			 (json_int_t)hash_i64(h, "done", 0), "preemptions",
			 (json_int_t)hash_i64(h, "pre", 0), "info", hash_json(h, "info"), "gpus",
			 hash_json(h, "gpus"), "unhealthy", json_text_or_null(hash_get(h, "ill", "")));
}

static enum rc workers_page(struct queue *q, const struct redis_reply *ids, size_t at, size_t n,
			    json_t *out, struct err *e)
{
	struct redis_cmd c[2 * WORKERS_PAGE];
	struct redis_reply *p[2 * WORKERS_PAGE];
	enum rc rc;

	for (size_t i = 0; i < n; i++) {
		const char *id = reply_text(reply_at(ids, at + i));
		c[2 * i] = c[2 * i + 1] = (struct redis_cmd)REDIS_CMD_INIT;
		cmd_key(&c[2 * i], "HGETALL", KEY_WORKER, id, "");
		cmd_key(&c[2 * i + 1], "SMEMBERS", KEY_WORKER_JOBS, id, "");
	}
	rc = redis_pipe(q->redis, c, 2 * n, p, e);
	for (size_t i = 0; !rc && i < n; i++) {
		if (reply_n(p[2 * i]))
			json_array_append_new(out, worker_json(reply_text(reply_at(ids, at + i)),
							       p[2 * i], p[2 * i + 1]));
		reply_free(p[2 * i]);
		reply_free(p[2 * i + 1]);
	}
	return rc;
}

enum rc queue_workers(struct queue *q, json_t **out, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *ids = NULL;
	json_t *list = json_array();
	size_t n;
	enum rc rc;

	*out = NULL;
	redis_cmd_words(&c, "ZRANGE " KEY_WORKERS " 0 -1");
	rc = redis_call(q->redis, &c, &ids, e);
	for (size_t at = 0; !rc && at < reply_n(ids); at += n) {
		n = reply_n(ids) - at < WORKERS_PAGE ? reply_n(ids) - at : WORKERS_PAGE;
		rc = workers_page(q, ids, at, n, list, e);
	}
	reply_free(ids);
	if (rc)
		json_decref(list);
	else
		*out = list;
	return rc;
}

/* --- quotas ------------------------------------------------------------------------------------ */

enum rc queue_quota_set(struct queue *q, const char *owner, const struct queue_quota *quota, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;

	if (!word_valid(owner, OWNER_MAX))
		return err_set(e, RC_INVALID, "owner \"%.70s\": expected a short word", owner);
	if (quota->runs < 0 || quota->running < 0 || !(quota->gpu_hours >= 0))
		return err_set(e, RC_INVALID, "quota of %s: expected numbers of 0 (no limit) or more", owner);
	call_begin(&c, "quota_set");
	redis_cmd_add(&c, owner);
	redis_cmd_i64(&c, quota->runs);
	redis_cmd_i64(&c, quota->running);
	redis_cmd_f64(&c, quota->gpu_hours);
	return call_end(q, &c, NULL, e);
}

static json_t *quota_json(const struct redis_reply *limits, const struct redis_reply *use,
			  const struct redis_reply *open, int64_t today)
{
	double hours = 0, seconds = 0;
	json_t *v;

	str_to_f64(hash_get(limits, "gpu_hours", "0"), &hours);
	if (hash_i64(use, "day", -1) == today)
		str_to_f64(hash_get(use, "seconds", "0"), &seconds);
	v = json_pack("{s:I, s:I, s:f, s:I, s:I, s:f}", "runs", (json_int_t)hash_i64(limits, "runs", 0),
		      "running", (json_int_t)hash_i64(limits, "running", 0), "gpu_hours", hours, "used_runs",
		      (json_int_t)reply_i64(open), "used_running", (json_int_t)hash_i64(use, "running", 0),
		      "used_gpu_hours", seconds / 3600);
	json_object_set_new(v, "revision", json_sprintf("%s.%s.%s", hash_get(limits, "runs", ""),
							hash_get(limits, "running", ""),
							hash_get(limits, "gpu_hours", "")));
	return v;
}

enum rc queue_quotas(struct queue *q, json_t **out, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT, three[3];
	struct redis_reply *owners = NULL, *p[3];
	int64_t today = clk_now_ms() / 86400000;
	json_t *list = json_object();
	enum rc rc;

	redis_cmd_words(&c, "SMEMBERS " KEY_QUOTAS);
	rc = redis_call(q->redis, &c, &owners, e);
	for (size_t i = 0; !rc && i < reply_n(owners); i++) {
		const char *owner = reply_text(reply_at(owners, i));

		memset(three, 0, sizeof(three));
		cmd_key(&three[0], "HGETALL", KEY_QUOTA, owner, "");
		cmd_key(&three[1], "HGETALL", KEY_OWNER, owner, "");
		cmd_key(&three[2], "SCARD", KEY_OWNER_RUNS, owner, "");
		rc = redis_pipe(q->redis, three, 3, p, e);
		if (rc)
			break;
		json_object_set_new(list, owner, quota_json(p[0], p[1], p[2], today));
		for (int k = 0; k < 3; k++)
			reply_free(p[k]);
	}
	reply_free(owners);
	if (rc) {
		json_decref(list);
		list = NULL;
	}
	*out = list;
	return rc;
}

/* --- small things with a life span ------------------------------------------------------------- */

static enum rc kv_check(const char *ns, const char *key, struct err *e)
{
	if (!word_valid(ns, 32) || !key[0] || strlen(key) > 200)
		return err_set(e, RC_INVALID, "bad name \"%.40s\" or key of %zu bytes", ns, strlen(key));
	return RC_OK;
}

enum rc queue_kv_put(struct queue *q, const char *ns, const char *key, const json_t *v, int64_t ttl_s,
		     struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	enum rc rc = kv_check(ns, key, e);

	if (rc)
		return rc;
	call_begin(&c, "kv_put");
	redis_cmd_add(&c, ns);
	redis_cmd_add(&c, key);
	cmd_json(&c, v);
	redis_cmd_i64(&c, ttl_s);
	return call_end(q, &c, NULL, e);
}

/* A text reply as JSON, nil as RC_NOTFOUND. Frees the reply. */
static enum rc kv_value(enum rc rc, struct redis_reply *p, const char *ns, json_t **out, struct err *e)
{
	*out = NULL;
	if (!rc && reply_kind(p) != REDIS_TEXT)
		rc = err_set(e, RC_NOTFOUND, "no such %s", ns);
	if (!rc)
		*out = json_of_text(reply_text(p), reply_len(p));
	reply_free(p);
	return rc;
}

enum rc queue_kv_get(struct queue *q, const char *ns, const char *key, json_t **out, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	char *name;
	enum rc rc = kv_check(ns, key, e);

	*out = NULL;
	if (rc)
		return rc;
	name = mem_printf(KEY_KV "%s:%s", ns, key);
	redis_cmd_add(&c, "GET");
	redis_cmd_add(&c, name);
	free(name);
	rc = redis_call(q->redis, &c, &p, e);
	return kv_value(rc, p, ns, out, e);
}

enum rc queue_kv_take(struct queue *q, const char *ns, const char *key, json_t **out, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	enum rc rc = kv_check(ns, key, e);

	*out = NULL;
	if (rc)
		return rc;
	call_begin(&c, "kv_take");
	c.once = true;
	redis_cmd_add(&c, ns);
	redis_cmd_add(&c, key);
	rc = call_end(q, &c, &p, e);
	return kv_value(rc, p, ns, out, e);
}

enum rc queue_kv_del(struct queue *q, const char *ns, const char *key, struct err *e)
{
	enum rc rc = kv_check(ns, key, e);

	return rc ? rc : call_words(q, "kv_take", (const char *[]){ns, key, NULL}, NULL, e);
}

enum rc queue_kv_list(struct queue *q, const char *ns, json_t **out, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	enum rc rc = kv_check(ns, "x", e);

	*out = NULL;
	if (rc)
		return rc;
	call_begin(&c, "kv_list");
	redis_cmd_add(&c, ns);
	rc = call_end(q, &c, &p, e);
	if (rc)
		return rc;
	*out = json_object();
	for (size_t i = 0; i + 1 < reply_n(p); i += 2)
		json_object_set_new(*out, reply_text(reply_at(p, i)),
				    json_of_text(reply_text(reply_at(p, i + 1)),
						 reply_len(reply_at(p, i + 1))));
	reply_free(p);
	return RC_OK;
}

enum rc queue_hold(struct queue *q, const char *name, const char *holder, int64_t ttl_ms, bool *got,
		   struct err *e)
{
	char ttl[24];
	int64_t n = 0;
	enum rc rc = kv_check("hold", name, e);

	*got = false;
	str_fmt(ttl, sizeof(ttl), "%lld", (long long)ttl_ms);
	if (!rc)
		rc = call_words(q, "turn", (const char *[]){name, holder, ttl, NULL}, &n, e);
	*got = !rc && n == 1;
	return rc;
}

/* --- auditor ----------------------------------------------------------------------------------- */

enum rc queue_audit(struct queue *q, json_t **problems, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	enum rc rc;

	*problems = NULL;
	call_begin(&c, "audit");
	rc = call_end(q, &c, &p, e);
	if (rc)
		return rc;
	*problems = json_array();
	for (size_t i = 0; i < reply_n(p); i++)
		json_array_append_new(*problems, json_string(reply_text(reply_at(p, i))));
	reply_free(p);
	return RC_OK;
}
