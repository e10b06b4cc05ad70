#include "server/rebuild.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/decision.h"
#include "server/index.h"
#include "server/logs.h"
#include "server/quota.h"
#include "server/reconcile.h"
#include "server/server.h"
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#define NS_REBUILD "rebuild" /* runs whose decisions were not replayed yet */
#define WORKER "rebuild-0"
#define POOLS_MAX 64

struct ctx {
	struct server *s;
	struct rebuild_sum *sum;
	json_t *runs;	   /* ids made or continued here */
	json_t *manifests; /* {job: path of its newest manifest} */
	json_t *held;	   /* [{job, token}] claimed without a result to give */
	json_t *invalid;   /* {job: when it was last declared invalid, ms} */
	json_t *pools;	   /* {name: true}: every pool a run asks for */
};

/* "<job>.<fence>.json" -> job and fence. */
static bool manifest_name(const char *name, char job[JOB_ID_MAX], int64_t *fence)
{
	char text[JOB_ID_MAX + 32];
	char *dot;

	if (!str_ends(name, ".json") || strlen(name) >= sizeof text)
		return false;
	str_fmt(text, sizeof text, "%.*s", (int)strlen(name) - 5, name);
	dot = strrchr(text, '.');
	if (!dot || !str_to_i64(dot + 1, fence))
		return false;
	*dot = 0;
	if (!job_id_valid(text, NULL))
		return false;
	str_copy(job, JOB_ID_MAX, text);
	return true;
}

static bool outputs_present(struct server *s, const json_t *manifest)
{
	const json_t *out;
	size_t i;

	json_array_foreach(json_object_get(manifest, "outputs"), i,
			   out) if (store_has(s->store, jx_get_str(out, "digest", ""), NULL,
					      NULL)) return false;
	return true;
}

/* Remembers, per job, the manifest with the highest fence. Names are sorted as text, so compare. */
static enum rc gather_manifests(struct ctx *c, const char *run, struct err *e)
{
	json_t *fences = json_object();
	char folder[64], job[JOB_ID_MAX], path[DOC_PATH_MAX];
	char **names = NULL;
	int64_t fence;
	size_t n = 0;
	enum rc rc;

	str_fmt(folder, sizeof folder, "jobs/%s", run);
	rc = store_doc_list(c->s->store, folder, &names, &n, e);
	for (size_t i = 0; !rc && i < n; i++) {
		if (!manifest_name(names[i], job, &fence) || fence < jx_get_i64(fences, job, -1))
			continue;
		str_fmt(path, sizeof path, "%s/%s", folder, names[i]);
		json_object_set_new(fences, job, json_integer(fence));
		json_object_set_new(c->manifests, job, json_string(path));
	}
	if (!rc)
		fs_list_free(names);
	json_decref(fences);
	return rc;
}

static bool was_abandoned(const json_t *decisions)
{
	const json_t *d;
	size_t i;

	json_array_foreach(decisions, i,
			   d) if (strcmp(jx_get_str(d, "what", ""), "abandoned") == 0) return true;
	return false;
}

/* The class, weight and limit a run was submitted with; while results are handed out it has no limit. */
static enum rc tune_as_submitted(struct queue *q, const char *run, bool limits, struct err *e)
{
	json_t *now = NULL, *spec;
	struct queue_tuning t;
	enum rc rc = queue_run(q, run, &now, e);

	if (rc)
		return rc;
	spec = json_object_get(json_object_get(now, "record"), "spec");
	t = (struct queue_tuning){(int)jx_get_i64(now, "class", 5), jx_get_f64(now, "weight", 1),
				  limits ? (int)jx_get_i64(spec, "max_running", 0) : 0};
	json_decref(now);
	rc = queue_tune_run(q, run, &t, e);
	return rc == RC_CONFLICT ? RC_OK : rc; /* it has ended */
}

/* Results made before their job was declared invalid are not results. */
static void note_invalidations(struct ctx *c, const json_t *decisions)
{
	const json_t *d;
	size_t i;

	json_array_foreach(decisions, i, d) if (strcmp(jx_get_str(d, "what", ""), "invalidate") == 0)
		json_object_set(c->invalid, jx_get_str(d, "job", ""), json_object_get(d, "at_ms"));
}

/* Jobs of a pool are claimed by naming it. */
static void note_pools(struct ctx *c, const json_t *spec)
{
	const json_t *p;
	size_t i;

	json_array_foreach(json_object_get(spec, "pools"), i, p)
	{
		const char *eq = strchr(json_string_value(p), '=');

		if (eq)
			json_object_set_new(c->pools, eq + 1, json_true());
	}
}

/* A run that Redis does not know is submitted; the mark says that its decisions are still to come.
 */
static enum rc revive_run(struct ctx *c, const char *run, const json_t *record,
			  const json_t *decisions, struct err *e)
{
	struct queue *q = c->s->queue;
	json_t *known = NULL, *mark = NULL;
	char got[RUN_ID_MAX];
	bool existed, fresh = queue_run(q, run, &known, NULL) == RC_NOTFOUND;
	enum rc rc = RC_OK;

	json_decref(known);
	if (fresh) {
		mark = json_true();
		rc = queue_kv_put(q, NS_REBUILD, run, mark, 0, e);
	} else if (queue_kv_get(q, NS_REBUILD, run, &mark, NULL)) {
		return RC_OK; /* Alive already, and not by an earlier rebuild cut short. */
	}
	json_decref(mark);
	if (!rc)
		rc = queue_submit(q, record, jx_get_str(record, "idem_key", NULL),
				  jx_get_str(record, "body_digest", ""), got, &existed, e);
	if (!rc)
		rc = tune_as_submitted(q, run, false, e);
	if (!rc)
		rc = gather_manifests(c, run, e);
	if (!rc)
		rc = reconcile_run(c->s, run, e);
	note_pools(c, json_object_get(record, "spec"));
	note_invalidations(c, decisions);
	json_array_append_new(c->runs, json_string(run));
	c->sum->n_runs += fresh;
	return rc;
}

static enum rc one_run(struct ctx *c, const char *run, struct err *e)
{
	json_t *record = NULL, *decisions = NULL;
	char path[64];
	enum rc rc;

	str_fmt(path, sizeof path, "runs/%s/record.json", run);
	rc = store_doc_get(c->s->store, path, &record, e);
	if (rc == RC_NOTFOUND)
		return RC_OK;
	if (!rc)
		rc = decision_list(c->s, run, &decisions, e);
	if (!rc && !was_abandoned(decisions))
		rc = revive_run(c, run, record, decisions, e);
	json_decref(record);
	json_decref(decisions);
	return rc;
}

/* Made from the very inputs the job has now, and after any invalidation. */
static bool still_valid(const struct ctx *c, const json_t *job, const json_t *manifest)
{
	const json_t *was = json_object_get(manifest, "inputs"), *is = json_object_get(job, "inputs"), *in;
	int64_t since = jx_get_i64(c->invalid, jx_get_str(job, "id", ""), 0);
	size_t i;

	if (jx_get_i64(manifest, "ended_ms", 0) < since)
		return false;
	if (json_is_array(was) && json_array_size(was) != json_array_size(is))
		return false;
	json_array_foreach(was ? is : NULL, i, in) if (strcmp(jx_get_str(in, "digest", ""),
						 jx_get_str(json_array_get(was, i), "digest", "")) != 0)
		return false;
	return true;
}

/* Gives a claimed job its result of old. *done tells whether there was one. */
static enum rc settle(struct ctx *c, const json_t *claim, bool *done, struct err *e)
{
	static const char *const names[] = {"seconds", "engine", "code", "key", NULL};
	const char *job = jx_get_str(json_object_get(claim, "job"), "id", "");
	const char *path = jx_get_str(c->manifests, job, NULL);
	json_t *m = NULL, *info = json_object();
	bool again;
	enum rc rc = RC_OK;

	*done = false;
	if (path && store_doc_get(c->s->store, path, &m, NULL) == RC_OK) {
		if (!still_valid(c, json_object_get(claim, "job"), m)) {
			log_info("rebuild", "result_outdated", "job=%s", job);
		} else if (outputs_present(c->s, m)) {
			for (int i = 0; names[i]; i++)
				if (json_object_get(m, names[i]))
					json_object_set(info, names[i],
							json_object_get(m, names[i]));
			rc = queue_complete(c->s->queue, job, jx_get_str(claim, "token", ""),
					    json_object_get(m, "outputs"),
					    json_object_get(m, "metrics"), info, NULL, &again, NULL,
					    e);
			*done = !rc;
			c->sum->n_jobs += !rc;
			if (!rc)
				index_manifest(c->s, m, NULL);
		} else {
			c->sum->n_missing++;
			log_warn("rebuild", "outputs_missing", "job=%s", job);
		}
	}
	json_decref(info);
	json_decref(m);
	return rc;
}

/* Claims everything that can be claimed; *progress when anything was settled. */
static enum rc sweep(struct ctx *c, bool *progress, struct err *e)
{
	const char *pools[POOLS_MAX + 1] = {NULL}, *pool;
	struct queue_claim_req req = {.worker = WORKER, .pools = pools};
	json_t *run, *known;
	size_t n = 0;
	size_t i;
	enum rc rc = RC_OK;

	*progress = false;
	json_object_foreach(c->pools, pool, known) if (n < POOLS_MAX) pools[n++] = pool;
	for (;;) {
		json_t *claim = NULL;
		bool done = false;

		rc = queue_claim(c->s->queue, &req, &claim, e);
		if (rc || !claim)
			break;
		rc = settle(c, claim, &done, e);
		if (!done)
			json_array_append_new(
				c->held,
				json_pack("{s:O, s:O}", "job",
					  json_object_get(json_object_get(claim, "job"), "id"),
					  "token", json_object_get(claim, "token")));
		*progress |= done;
		json_decref(claim);
		if (rc)
			break;
	}
	json_array_foreach(c->runs, i, run) if (!rc) rc =
		reconcile_run(c->s, json_string_value(run), e);
	return rc;
}

static void release_held(struct ctx *c)
{
	const json_t *h;
	size_t i;

	json_array_foreach(c->held, i, h)
		queue_fail(c->s->queue, jx_get_str(h, "job", ""), jx_get_str(h, "token", ""),
			   QUEUE_FAIL_PREEMPTED, NULL, NULL);
	queue_worker_gone(c->s->queue, WORKER, NULL);
}

/* A decision that no longer applies (a cancelled job that is done) is history; results older than an
 * invalidation were not handed out (settle). */
static void replay_decision(struct queue *q, const char *run, const json_t *d)
{
	if (strcmp(jx_get_str(d, "what", ""), "invalidate") != 0)
		decision_apply(q, run, d, NULL);
}

static enum rc replay_decisions(struct ctx *c, const char *run, struct err *e)
{
	json_t *decisions = NULL, *d;
	size_t i;
	enum rc rc = decision_list(c->s, run, &decisions, e);

	if (!rc)
		rc = tune_as_submitted(c->s->queue, run, true, e);
	json_array_foreach(decisions, i, d) replay_decision(c->s->queue, run, d);
	json_decref(decisions);
	if (!rc)
		rc = reconcile_run(c->s, run, e);
	return rc ? rc : queue_kv_del(c->s->queue, NS_REBUILD, run, e);
}

static enum rc rebuild_all(struct ctx *c, char **names, size_t n, struct err *e)
{
	json_t *info = json_pack("{s:s}", "name", "rebuild"), *run;
	bool progress = true;
	size_t i;
	enum rc rc = queue_worker_register(c->s->queue, WORKER, info, e);

	json_decref(info);
	for (i = 0; !rc && i < n; i++)
		if (run_id_valid(names[i]))
			rc = one_run(c, names[i], e);
	while (!rc && progress)
		rc = sweep(c, &progress, e);
	release_held(c);
	json_array_foreach(c->runs, i, run) if (!rc) rc =
		replay_decisions(c, json_string_value(run), e);
	return rc;
}

enum rc rebuild(struct server *s, struct rebuild_sum *sum, struct err *e)
{
	struct ctx c = {s, sum, json_array(), json_object(), json_array(), json_object(), json_object()};
	char **names = NULL;
	size_t n = 0;
	enum rc rc = store_doc_list(s->store, "runs", &names, &n, e);

	memset(sum, 0, sizeof *sum);
	if (!rc) {
		rc = rebuild_all(&c, names, n, e);
		if (!rc)
			rc = quotas_restore(s, e);
		fs_list_free(names);
	}
	json_decref(c.runs);
	json_decref(c.manifests);
	json_decref(c.held);
	json_decref(c.invalid);
	json_decref(c.pools);
	return rc;
}
