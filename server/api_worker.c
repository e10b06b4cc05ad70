/* The worker protocol: register, claim, beat, complete, fail, log.
 *
 * Order of a completion: the outputs' bytes are in the store (checked here), then the manifest
 * document is durable, then the queue says `done`. A crash between any two leaves litter at worst.
 * Every write carries the lease's token; a stale one is 409 of type "stale".
 */
#include "server/alarm.h"
#include "server/api.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/events.h"
#include "server/index.h"
#include "server/logs.h"
#include "server/reply.h"
#include "server/review_input.h"
#include "server/server.h"
#include "server/volumes.h"
#include "store/store.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define NS_WORKER "worker" /* what a claim needs to know of the worker */
#define NS_LEASE "lease"   /* what a completion needs to know of the claim */
#define WORKER_TTL_S (30 * 86400)
#define LEASE_TTL_S (7 * 86400)
#define CLAIM_WAIT_MAX_S 25
#define CLAIM_LOOK_MS 2000 /* delayed jobs become ready without waking us through this server */
#define REUSE_MAX 1000	   /* jobs settled from the store within one claim */
#define STAGES_MAX 16
#define POOLS_MAX 16

/* --- register ------------------------------------------------------------------------------ */

/* "<name>-<6 hex>": readable, and new at every start, so that a dead one's leases stay its own. */
static void worker_id_make(const char *name, char out[WORKER_ID_MAX])
{
	uint8_t raw[3];
	size_t n = 0;

	for (; *name && n < WORKER_ID_MAX - 10; name++)
		if (isalnum((unsigned char)*name) || *name == '-')
			out[n++] = (char)tolower((unsigned char)*name);
	if (n == 0)
		out[n++] = 'w';
	random_bytes(raw, sizeof raw);
	str_fmt(out + n, WORKER_ID_MAX - n, "-%02x%02x%02x", raw[0], raw[1], raw[2]);
}

/* The worker protocol: this version and the one before are taken. 1 did not say which it was. */
#define PROTOCOL 2

static bool protocol_taken(struct req *r, const json_t *info)
{
	int64_t has = jx_get_i64(info, "protocol", 1);

	if (has == PROTOCOL || has == PROTOCOL - 1)
		return true;
	reply_problem(r, 422, "protocol",
		      "this worker speaks version %lld of the worker protocol, this server %d and %d: "
		      "install "
		      "the pawl-worker that came with the server",
		      (long long)has, PROTOCOL - 1, PROTOCOL);
	return false;
}

void api_work_register(struct req *r)
{
	struct server *s = r->srv;
	char id[WORKER_ID_MAX];
	struct err e = {0};
	json_t *info = req_json(r);
	enum rc rc;

	if (!info || !protocol_taken(r, info)) {
		json_decref(info);
		return;
	}
	worker_id_make(jx_get_str(info, "name", "worker"), id);
	rc = queue_worker_register(s->queue, id, info, &e);
	if (!rc)
		rc = queue_kv_put(s->queue, NS_WORKER, id, info, WORKER_TTL_S, &e);
	json_decref(info);
	if (rc) {
		reply_err(r, &e);
		return;
	}
	log_info("worker", "registered", "worker=%s from=%s", id, r->remote);
	reply_json(r, 201,
		   json_pack("{s:s, s:I, s:I, s:s, s:s}", "worker", id, "lease_ms",
			     (json_int_t)s->lease_ms, "beat_ms", (json_int_t)s->beat_ms,
			     "store_url", store_url(s->store), "store_id", store_id(s->store)));
}

/* The worker's registration; NULL after answering 404, upon which it registers again. */
static json_t *worker_info(struct req *r, const json_t *body)
{
	const char *id = jx_get_str(body, "worker", "");
	struct err e = {0};
	json_t *info = NULL;
	enum rc rc = id[0] && strlen(id) < WORKER_ID_MAX
			     ? queue_kv_get(r->srv->queue, NS_WORKER, id, &info, &e)
			     : RC_NOTFOUND;

	if (rc == RC_NOTFOUND)
		reply_problem(r, 404, "unknown-worker",
			      "worker \"%s\" is not known here; register first", id);
	else if (rc)
		reply_err(r, &e);
	return info;
}

/* --- claim --------------------------------------------------------------------------------- */

struct claim_ctx {
	struct req *r;
	const char *worker, *engine, *code;
	const char *stages[STAGES_MAX + 1], *pools[POOLS_MAX + 1];
	const json_t *info;
};

/* The strings of a list; `out` ends with NULL. */
static void words_of(const json_t *list, const char **out, size_t max)
{
	const json_t *v;
	size_t i, n = 0;

	json_array_foreach(list, i, v) if (json_is_string(v) && n < max) out[n++] =
		json_string_value(v);
	out[n] = NULL;
}

static void claim_ctx_open(struct claim_ctx *c, struct req *r, const json_t *body,
			   const json_t *info)
{
	const json_t *list = json_object_get(body, "stages");

	words_of(list ? list : json_object_get(info, "stages"), c->stages, STAGES_MAX);
	words_of(json_object_get(info, "pools"), c->pools, POOLS_MAX);
	c->r = r;
	c->info = info;
	c->worker = jx_get_str(body, "worker", "");
	c->engine = jx_get_str(info, "engine", "");
	c->code = jx_get_str(info, "code", "");
}

/* {"job": {...}, "token", "attempt", "lease_ms"} as workers get it. */
static json_t *claim_json(const json_t *claim, const char *key)
{
	static const char *const names[] = {"id",   "run",    "stage",	"iter", "shard",
					    "pass", "params", "inputs", "loss_every_s", NULL};
	const json_t *from = json_object_get(claim, "job");
	json_t *spec = json_object_get(json_object_get(claim, "record"), "spec");
	json_t *job = json_object(), *resume = json_object_get(claim, "resume");
	char seed[24];

	for (int i = 0; names[i]; i++)
		json_put(job, names[i], json_incref(json_object_get(from, names[i])));
	str_fmt(seed, sizeof seed, "%lld", (long long)jx_get_i64(spec, "seed", 0));
	json_put(job, "seed", json_string(seed));
	json_put(job, "spec", json_incref(spec));
	json_put(job, "resume", json_incref(resume));
	json_put(job, "key", key[0] ? json_string(key) : NULL);
	return json_pack("{s:o, s:O?, s:O?, s:O?}", "job", job, "token",
			 json_object_get(claim, "token"), "attempt",
			 json_object_get(claim, "attempt"), "lease_ms",
			 json_object_get(claim, "lease_ms"));
}

/* Remembers inputs and key for the manifest; the queue keeps inputs as planned. */
static void lease_note(struct claim_ctx *c, const json_t *claim, const char *key)
{
	const json_t *job = json_object_get(claim, "job");
	json_t *note = json_pack("{s:O?, s:s, s:O?, s:O?, s:s, s:O?}", "inputs",
				 json_object_get(job, "inputs"), "key", key, "attempt",
				 json_object_get(claim, "attempt"), "params",
				 json_object_get(job, "params"), "worker", c->worker,
				 "price_per_hour", json_object_get(c->info, "price_per_hour"));

	queue_kv_put(c->r->srv->queue, NS_LEASE, jx_get_str(job, "id", ""), note, LEASE_TTL_S,
		     NULL);
	json_decref(note);
}

/* Whether every output of a manifest still lies in the store. */
static bool outputs_present(struct server *s, const json_t *manifest)
{
	const json_t *outs = json_object_get(manifest, "outputs"), *out;
	size_t i;

	json_array_foreach(outs, i, out) if (volumes_check(s, out, NULL)) return false;
	return json_array_size(outs) > 0;
}

static json_t *reusable_manifest(struct server *s, const char *key)
{
	char path[DOC_PATH_MAX];
	json_t *pointer = NULL, *manifest = NULL;

	key_path(key, path);
	if (store_doc_get(s->store, path, &pointer, NULL) == RC_OK &&
	    store_doc_get(s->store, jx_get_str(pointer, "manifest", ""), &manifest, NULL) ==
		    RC_OK &&
	    (strcmp(jx_get_str(manifest, "key", ""), key) != 0 || !outputs_present(s, manifest))) {
		json_decref(manifest);
		manifest = NULL;
	}
	json_decref(pointer);
	return manifest;
}

/* Completes a claimed job with the result an equal job had before; true when it did. */
static bool claim_reused(struct claim_ctx *c, const json_t *claim, const char *key)
{
	struct server *s = c->r->srv;
	const json_t *job = json_object_get(claim, "job");
	const char *id = jx_get_str(job, "id", ""), *run = jx_get_str(job, "run", "");
	const char *token = jx_get_str(claim, "token", "");
	json_t *m = key[0] ? reusable_manifest(s, key) : NULL, *info;
	char path[DOC_PATH_MAX];
	struct err e = {0};
	bool again;
	enum rc rc;

	if (!m)
		return false;
	json_object_set(m, "reused_from", json_object_get(m, "job"));
	json_object_set(m, "job", json_object_get(job, "id"));
	json_object_set(m, "run", json_object_get(job, "run"));
	json_object_set(m, "inputs", json_object_get(job, "inputs"));
	json_object_set_new(m, "seconds", json_real(0));
	json_object_set_new(m, "ended_ms", json_integer(clk_now_ms()));
	manifest_path(run, id, token, path);
	info = json_pack("{s:f, s:s, s:O?}", "seconds", 0.0, "key", key, "reused_from",
			 json_object_get(m, "reused_from"));
	rc = store_doc_put(s->store, path, m, &e);
	if (!rc)
		rc = queue_complete(s->queue, id, token, json_object_get(m, "outputs"),
				    json_object_get(m, "metrics"), info, NULL, &again, NULL, &e);
	if (!rc) {
		index_manifest(s, m, NULL);
		atomic_fetch_add(&s->stats.reused, 1);
		log_info("worker", "reused", "job=%s from=%s", id,
			 jx_get_str(m, "reused_from", ""));
	} else {
		log_warn("worker", "reuse_failed", "job=%s error=%s", id, e.text);
	}
	json_decref(info);
	json_decref(m);
	return rc == RC_OK;
}

/* A job that could not be handed out: it burns no attempt. */
static enum rc give_back(struct claim_ctx *c, json_t **claim, enum rc rc)
{
	queue_fail(c->r->srv->queue, jx_get_str(json_object_get(*claim, "job"), "id", ""),
		   jx_get_str(*claim, "token", ""), QUEUE_FAIL_PREEMPTED, NULL, NULL);
	json_decref(*claim);
	*claim = NULL;
	return rc;
}

/* One look at the queue; jobs that are settled by reuse are passed over. */
static enum rc claim_once(struct claim_ctx *c, json_t **claim, char key[65], struct err *e)
{
	struct queue_claim_req q = {.worker = c->worker, .stages = c->stages, .pools = c->pools};
	const json_t *spec;

	for (int i = 0; i < REUSE_MAX; i++) {
		enum rc rc = queue_claim(c->r->srv->queue, &q, claim, e);

		if (rc || !*claim)
			return rc;
		rc = review_attach(c->r->srv, *claim, e);
		if (rc)
			return give_back(c, claim, rc);
		spec = json_object_get(json_object_get(*claim, "record"), "spec");
		reuse_key(spec, json_object_get(*claim, "job"), c->engine, c->code, key);
		/* What was declared invalid is really done again. */
		if (jx_get_i64(json_object_get(*claim, "job"), "generation", 0) > 0 ||
		    !claim_reused(c, *claim, key))
			return RC_OK;
		json_decref(*claim);
		*claim = NULL;
	}
	return RC_OK;
}

/* A worker that hung up while it waited must not hold the job until its lease ends. */
static void claim_answer(struct claim_ctx *c, const json_t *claim, const char *key)
{
	struct server *s = c->r->srv;
	const char *id = jx_get_str(json_object_get(claim, "job"), "id", "");

	lease_note(c, claim, key);
	atomic_fetch_add(&s->stats.claims, 1);
	log_info("worker", "claimed", "job=%s worker=%s attempt=%lld", id, c->worker,
		 (long long)jx_get_i64(claim, "attempt", 0));
	reply_json(c->r, 200, claim_json(claim, key));
	if (c->r->broken)
		queue_fail(s->queue, id, jx_get_str(claim, "token", ""), QUEUE_FAIL_PREEMPTED, NULL,
			   NULL);
}

static void claim_wait(struct claim_ctx *c, int64_t wait_s)
{
	struct server *s = c->r->srv;
	int64_t until = clk_mono_ms() + wait_s * 1000;

	for (;;) {
		uint64_t seq = hub_work_seq(s->hub);
		int64_t left = until - clk_mono_ms();
		struct err e = {0};
		json_t *claim = NULL;
		char key[65] = "";

		if (atomic_load(&s->stopping)) {
			req_add_header(c->r, "Retry-After", "2");
			reply_problem(c->r, 503, "stopping", "the server is shutting down");
			return;
		}
		if (claim_once(c, &claim, key, &e)) {
			reply_err(c->r, &e);
			return;
		}
		if (claim) {
			claim_answer(c, claim, key);
			json_decref(claim);
			return;
		}
		if (left <= 0) {
			atomic_fetch_add(&s->stats.claims_empty, 1);
			req_send(c->r, 204, NULL, NULL, 0);
			return;
		}
		hub_wait_work(s->hub, &seq, left < CLAIM_LOOK_MS ? left : CLAIM_LOOK_MS);
	}
}

void api_work_claim(struct req *r)
{
	json_t *body = req_json(r), *info;
	struct claim_ctx c = {0};
	struct err e = {0};
	int64_t wait_s = 0;

	if (!body)
		return;
	if (jx_opt_i64(body, "wait_s", 0, CLAIM_WAIT_MAX_S, &wait_s, &e)) {
		reply_err(r, &e);
	} else if ((info = worker_info(r, body))) {
		claim_ctx_open(&c, r, body, info);
		claim_wait(&c, wait_s);
		json_decref(info);
	}
	json_decref(body);
}

/* --- status of its GPUs -------------------------------------------------------------------- */

#define GPUS_MAX 64
#define UNHEALTHY_MAX 300

static enum rc gpu_check(const json_t *gpu, size_t i, struct err *e)
{
	static const char *const known[] = {"device",	    "name",	   "load",
					    "memory_load",  "memory_mib",  "memory_total_mib",
					    "temperature",  "power",	   "ecc_errors",
					    "xid",	    NULL};
	const char *name = "";
	int64_t device;
	double v = 0;
	enum rc rc = json_is_object(gpu) ? jx_only(gpu, known, e)
					 : err_set(e, RC_INVALID, "expected an object");

	if (!rc)
		rc = jx_i64(gpu, "device", 0, 1 << 20, &device, e);
	if (!rc)
		rc = jx_opt_str(gpu, "name", &name, e);
	if (!rc && strlen(name) > 128)
		rc = err_set(e, RC_INVALID, "name of %zu bytes: expected at most 128", strlen(name));
	for (int k = 2; !rc && known[k]; k++)
		rc = jx_opt_f64(gpu, known[k], -1e6, 1e15, &v, e);
	if (rc)
		err_wrap(e, "gpus[%zu]", i);
	return rc;
}

/* Both are absent in beats of workers without GPUs, and of those that came before them. */
static enum rc status_check(const json_t *body, struct err *e)
{
	const json_t *gpus = json_object_get(body, "gpus"), *gpu;
	const char *why = "";
	enum rc rc = jx_opt_str(body, "unhealthy", &why, e);
	size_t i;

	if (!rc && strlen(why) > UNHEALTHY_MAX)
		rc = err_set(e, RC_INVALID, "unhealthy: %zu bytes, expected at most %d", strlen(why),
			     UNHEALTHY_MAX);
	if (!rc && gpus && (!json_is_array(gpus) || json_array_size(gpus) > GPUS_MAX))
		rc = err_set(e, RC_INVALID, "gpus: expected a list of at most %d", GPUS_MAX);
	json_array_foreach(gpus, i, gpu)
		if (!rc)
			rc = gpu_check(gpu, i, e);
	return rc;
}

static enum rc status_keep(struct server *s, const json_t *body, struct err *e)
{
	const json_t *gpus = json_object_get(body, "gpus");

	if (!gpus)
		return RC_OK;
	return queue_worker_status(s->queue, jx_get_str(body, "worker", ""), gpus,
				   jx_get_str(body, "unhealthy", ""), e);
}

/* --- beat ---------------------------------------------------------------------------------- */

/* job and token of the body; answers 400 when they are not there. */
static bool lease_args(struct req *r, const json_t *body, const char **job, const char **token)
{
	struct err e = {0};

	if (jx_str(body, "job", job, &e) || jx_str(body, "token", token, &e)) {
		reply_err(r, &e);
		return false;
	}
	if (!job_id_valid(*job, NULL) || strlen(*token) >= TOKEN_MAX) {
		reply_problem(r, 400, "invalid", "job or token has not the form of one");
		return false;
	}
	return true;
}

static void answer_lease_err(struct req *r, const struct err *e, const char *job)
{
	if (e->code == RC_STALE) {
		atomic_fetch_add(&r->srv->stats.stale, 1);
		log_info("worker", "stale", "job=%s", job);
	}
	/* 409 is for stale tokens and log gaps alone: workers drop their job upon it. */
	if (e->code == RC_CONFLICT)
		reply_problem(r, 422, "missing-blob", "%s", e->text);
	else
		reply_err(r, e);
}

/* A checkpoint pointer may only name published bytes. */
static enum rc checkpoint_check(struct server *s, const json_t *body, const char *job,
				struct err *e)
{
	const json_t *ckpt = json_object_get(body, "checkpoint");
	json_t *v;
	json_t *outputs = json_object_get(ckpt, "outputs");
	const char *role;

	json_object_foreach(outputs, role, v)
	{
		json_t *out = json_is_string(v) ? json_pack("{s:O}", "digest", v) : json_incref(v);
		struct err why = {0};
		enum rc rc = volumes_check(s, out, &why);

		json_decref(out);
		if (rc) /* What is wrong with it will not pass; a store that is away may. */
			return err_set(e, rc == RC_INVALID ? RC_CONFLICT : rc,
				       "checkpoint of %s: output \"%s\": %s", job, role, why.text);
	}
	return RC_OK;
}

static void answer_action(struct req *r, enum queue_action action)
{
	reply_json(r, 200, json_pack("{s:s}", "action", queue_action_text(action)));
}

static void beat_idle(struct req *r, const json_t *body)
{
	enum queue_action action = QUEUE_CONTINUE;
	struct err e = {0};
	enum rc rc = queue_worker_beat(r->srv->queue, jx_get_str(body, "worker", ""), &action, &e);

	if (!rc)
		rc = status_keep(r->srv, body, &e);
	if (rc == RC_NOTFOUND)
		reply_problem(r, 404, "unknown-worker",
			      "this worker is not known here; register first");
	else if (rc)
		reply_err(r, &e);
	else
		answer_action(r, action);
}

void api_work_beat(struct req *r)
{
	json_t *body = req_json(r), *beat;
	enum queue_action action = QUEUE_CONTINUE;
	const char *job, *token;
	struct err e = {0};

	if (!body)
		return;
	if (status_check(body, &e)) {
		reply_err(r, &e);
	} else if (!json_is_string(json_object_get(body, "job"))) {
		beat_idle(r, body);
	} else if (lease_args(r, body, &job, &token)) {
		beat = json_copy(body);
		json_object_del(beat, "worker");
		json_object_del(beat, "job");
		json_object_del(beat, "token");
		json_object_del(beat, "gpus");
		json_object_del(beat, "unhealthy");
		if (checkpoint_check(r->srv, body, job, &e) ||
		    (jx_get_bool(body, "notice", false) &&
		     queue_notice(r->srv->queue, job, token, &e)) ||
		    queue_beat(r->srv->queue, job, token, beat, &action, &e) ||
		    status_keep(r->srv, body, &e))
			answer_lease_err(r, &e, job);
		else
			answer_action(r, action);
		json_decref(beat);
	}
	json_decref(body);
}

/* --- complete ------------------------------------------------------------------------------ */

static enum rc outputs_check(struct server *s, const json_t *outputs, struct err *e)
{
	const json_t *out, *other;
	size_t i, k;

	if (!json_is_array(outputs) || json_array_size(outputs) > 64)
		return err_set(e, RC_INVALID, "outputs: expected a list of at most 64");
	json_array_foreach(outputs, i, out)
	{
		const char *role = jx_get_str(out, "role", ""),
			   *digest = jx_get_str(out, "digest", "");

		if (!role[0] || strlen(role) > 63 || !sha256_hex_valid(digest) ||
		    !kind_valid(jx_get_str(out, "kind", "")))
			return err_set(e, RC_INVALID,
				       "outputs[%zu]: expected a role, a SHA-256 digest and a kind "
				       "of " KIND_LIST,
				       i);
		json_array_foreach(
			outputs, k,
			other) if (k < i &&
				   strcmp(jx_get_str(other, "role", ""), role) ==
					   0) return err_set(e, RC_INVALID,
							     "outputs[%zu]: role \"%s\" twice", i,
							     role);
		enum rc rc = volumes_check(s, out, e);
		if (rc) {
			err_wrap(e, "outputs[%zu] \"%s\"", i, role);
			return rc;
		}
	}
	return RC_OK;
}

/* What this result cost: attempts that ended before, and this one, all of which is useful. */
static json_t *account_of(struct server *s, const json_t *body, const json_t *job, double price)
{
	double useful = 1000 * jx_get_f64(body, "seconds", 0), lost = 0, cost = useful * price;
	json_t *list = NULL, *a;
	size_t i;

	queue_attempts(s->queue, jx_get_str(job, "id", ""), &list, NULL);
	json_array_foreach(list, i, a)
	{
		double u = jx_get_f64(a, "useful_ms", 0), l = jx_get_f64(a, "lost_ms", 0);

		if (!json_is_string(json_object_get(a, "end")))
			continue; /* This one. */
		useful += u;
		lost += l;
		cost += (u + l) * jx_get_f64(a, "price_per_hour", 0);
	}
	json_decref(list);
	return json_pack("{s:f, s:f, s:f, s:I, s:I}", "useful_s", useful / 1e3, "lost_s", lost / 1e3,
			 "cost", cost / 3.6e6, "preemptions",
			 (json_int_t)jx_get_i64(job, "preemptions", 0), "losses",
			 (json_int_t)jx_get_i64(job, "losses", 0));
}

static json_t *manifest_make(struct server *s, const json_t *body, const char *job, const char *run)
{
	static const char *const from_body[] = {"outputs", "metrics", "seconds", "engine",
						"code",	   "worker",  NULL};
	static const char *const from_job[] = {"stage", "iter", "shard", "pass", "params", NULL};
	static const char *const from_note[] = {"inputs", "key", "attempt", "price_per_hour", NULL};
	json_t *m = json_object(), *q = NULL, *note = NULL;
	const char *token = jx_get_str(body, "token", "");

	queue_job(s->queue, job, &q, NULL);
	queue_kv_get(s->queue, NS_LEASE, job, &note, NULL);
	json_put(m, "format", json_integer(1));
	json_put(m, "run", json_string(run));
	json_put(m, "job", json_string(job));
	json_put(m, "fence", json_integer(strtoll(token, NULL, 10)));
	json_put(m, "ended_ms", json_integer(clk_now_ms()));
	json_put(m, "started_ms", json_incref(json_object_get(q, "started_ms")));
	for (int i = 0; from_body[i]; i++)
		json_put(m, from_body[i], json_incref(json_object_get(body, from_body[i])));
	for (int i = 0; from_job[i]; i++)
		json_put(m, from_job[i], json_incref(json_object_get(q, from_job[i])));
	for (int i = 0; from_note[i]; i++)
		json_put(m, from_note[i], json_incref(json_object_get(note, from_note[i])));
	json_put(m, "account",
		 account_of(s, body, q, jx_get_f64(note, "price_per_hour", 0)));
	json_decref(q);
	json_decref(note);
	return m;
}

static void reuse_note(struct server *s, const json_t *m, const char *path)
{
	const char *key = jx_get_str(m, "key", "");
	char at[DOC_PATH_MAX];
	json_t *doc;

	if (!sha256_hex_valid(key))
		return;
	key_path(key, at);
	doc = json_pack("{s:s}", "manifest", path);
	store_doc_put(s->store, at, doc, NULL); /* Without it the job is merely computed again. */
	json_decref(doc);
}

static enum rc complete(struct server *s, const json_t *body, const char *job, const char *token,
			bool *again, struct err *e)
{
	static const char *const names[] = {"seconds", "engine", "code", NULL};
	const json_t *outputs = json_object_get(body, "outputs");
	json_t *info = json_object(), *m = NULL;
	char run[RUN_ID_MAX], path[DOC_PATH_MAX];
	bool owns;
	enum rc rc = queue_owns(s->queue, job, token, e);

	/* A repeat of an accepted completion is no longer the owner; the queue knows it by its
	 * token. */
	owns = rc == RC_OK;
	if (rc && rc != RC_STALE)
		goto out;
	for (int i = 0; names[i]; i++)
		if (json_object_get(body, names[i]))
			json_object_set(info, names[i], json_object_get(body, names[i]));
	job_id_valid(job, run);
	manifest_path(run, job, token, path);
	rc = owns ? outputs_check(s, outputs, e) : RC_OK;
	if (!rc && owns) {
		m = manifest_make(s, body, job, run);
		json_object_set(info, "key", json_object_get(m, "key"));
		rc = store_doc_put(s->store, path, m, e);
	}
	if (!rc && owns)
		rc = alarm_check(s, run, job, json_object_get(body, "metrics"), e);
	if (!rc)
		rc = queue_complete(s->queue, job, token, outputs, json_object_get(body, "metrics"),
				    info, NULL, again, NULL, e);
	if (!rc && m) {
		index_manifest(s, m, NULL);
		reuse_note(s, m, path);
	}
out:
	json_decref(info);
	json_decref(m);
	return rc;
}

void api_work_complete(struct req *r)
{
	json_t *body = req_json(r);
	const char *job, *token;
	struct err e = {0};
	bool again = false;

	if (!body)
		return;
	if (lease_args(r, body, &job, &token)) {
		if (complete(r->srv, body, job, token, &again, &e)) {
			answer_lease_err(r, &e, job);
		} else {
			atomic_fetch_add(&r->srv->stats.completions, !again);
			log_info("worker", again ? "completed_again" : "completed",
				 "job=%s worker=%s", job, jx_get_str(body, "worker", ""));
			reply_json(r, 200,
				   json_pack("{s:s, s:b}", "state", "done", "again", again));
		}
	}
	json_decref(body);
}

/* --- fail ---------------------------------------------------------------------------------- */

/* reason: text, or {"message"}; exit code and signal beside it or inside. */
static json_t *reason_json(const json_t *body)
{
	static const char *const names[] = {"exit_code", "signal", NULL};
	const json_t *given = json_object_get(body, "reason");
	json_t *reason =
		json_is_object(given) ? json_copy((json_t *)(uintptr_t)given) : json_object();

	if (json_is_string(given))
		json_object_set(reason, "message", (json_t *)(uintptr_t)given);
	for (int i = 0; names[i]; i++)
		if (json_object_get(body, names[i]))
			json_object_set(reason, names[i], json_object_get(body, names[i]));
	return reason;
}

void api_work_fail(struct req *r)
{
	json_t *body = req_json(r), *reason;
	const char *job, *token;
	enum queue_fail_kind kind;
	struct err e = {0};

	if (!body)
		return;
	if (lease_args(r, body, &job, &token)) {
		if (!queue_fail_kind_of(jx_get_str(body, "kind", ""), &kind)) {
			reply_problem(r, 400, "invalid",
				      "kind: expected retry, fatal or preempted");
		} else {
			reason = reason_json(body);
			if (queue_fail(r->srv->queue, job, token, kind, reason, &e)) {
				answer_lease_err(r, &e, job);
			} else {
				log_info("worker", "failed", "job=%s kind=%s reason=%s", job,
					 jx_get_str(body, "kind", ""),
					 jx_get_str(reason, "message", ""));
				reply_json(r, 200, json_pack("{s:b}", "ok", 1));
			}
			json_decref(reason);
		}
	}
	json_decref(body);
}

/* --- log ----------------------------------------------------------------------------------- */

void api_work_log(struct req *r)
{
	const char *job = req_query(r, "job"), *token = req_query(r, "token");
	struct buf body = BUF_INIT;
	struct err e = {0};
	int64_t attempt, offset, size = 0;
	enum rc rc;

	if (!req_query_i64(r, "attempt", 0, 1, 1000000, &attempt) ||
	    !req_query_i64(r, "offset", 0, 0, LOG_FILE_MAX, &offset))
		return;
	if (!job || !token || !job_id_valid(job, NULL) || attempt < 1) {
		reply_problem(r, 400, "invalid", "expected job, token, attempt and offset");
		return;
	}
	rc = queue_owns(r->srv->queue, job, token, &e);
	if (!rc)
		rc = req_body(r, LOG_APPEND_MAX, &body, &e);
	if (!rc)
		rc = logs_append(r->srv->data_dir, job, (int)attempt, offset, body.data, body.len,
				 &size, &e);
	if (rc == RC_CONFLICT || !rc)
		req_add_header(r, "X-Log-Size", "%lld", (long long)size);
	if (rc == RC_CONFLICT)
		reply_err(r, &e);
	else if (rc)
		answer_lease_err(r, &e, job);
	else
		reply_json(r, 200, json_pack("{s:I}", "size", (json_int_t)size));
	buf_release(&body);
}
