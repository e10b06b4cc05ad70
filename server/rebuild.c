#include "server/rebuild.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/str.h"
#include "migrations/migrations.h"
#include "queue/queue.h"
#include "queue/restore.h"
#include "server/auth.h"
#include "server/decision.h"
#include "server/hook.h"
#include "server/index.h"
#include "server/logs.h"
#include "server/quota.h"
#include "server/reconcile.h"
#include "server/retention.h"
#include "server/review_input.h"
#include "server/server.h"
#include "server/volumes.h"
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#define WORKER "rebuild-0"

/* One run being compared. */
struct ctx {
	struct server *s;
	struct rebuild_sum *sum;
	int64_t fence;	   /* highest seen in the store, over all runs */
	json_t *manifests; /* {job: [fence, path]} of its newest manifest */
	json_t *invalid;   /* {job: when it was last declared invalid, ms} */
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

/* In the store, or given up since. */
static bool outputs_present(struct server *s, const json_t *manifest)
{
	json_t *gone = retention_given_up(s, jx_get_str(manifest, "run", ""));
	bool all = true;
	const json_t *out;
	size_t i;

	json_array_foreach(json_object_get(manifest, "outputs"), i, out)
	{
		if (!json_object_get(gone, jx_get_str(out, "digest", "")) &&
		    volumes_check(s, out, NULL))
			all = false;
	}
	json_decref(gone);
	return all;
}

/* Remembers, per job, the manifest with the highest fence. Names are sorted as text, so compare. */
static enum rc gather_manifests(struct ctx *c, const char *run, struct err *e)
{
	char folder[64], job[JOB_ID_MAX];
	char **names = NULL;
	int64_t fence;
	size_t n = 0;
	enum rc rc;

	str_fmt(folder, sizeof folder, "jobs/%s", run);
	rc = store_doc_list(c->s->store, folder, &names, &n, e);
	for (size_t i = 0; !rc && i < n; i++) {
		const json_t *old;

		if (!manifest_name(names[i], job, &fence))
			continue;
		c->fence = fence > c->fence ? fence : c->fence;
		old = json_object_get(c->manifests, job);
		if (!old || fence >= json_integer_value(json_array_get(old, 0)))
			json_object_set_new(c->manifests, job,
					    json_pack("[I, s++]", (json_int_t)fence, folder, "/",
						      names[i]));
	}
	if (!rc)
		fs_list_free(names);
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

/* Results made before their job was declared invalid are not results. */
static void note_invalidations(struct ctx *c, const json_t *decisions)
{
	const json_t *d;
	size_t i;

	json_array_foreach(decisions, i, d) if (strcmp(jx_get_str(d, "what", ""), "invalidate") == 0)
		json_object_set(c->invalid, jx_get_str(d, "job", ""), json_object_get(d, "at_ms"));
}

/* Inputs that were planned: what people said of pairs is fixed at the first claim (review_input.h). */
static size_t n_planned(const json_t *inputs)
{
	const json_t *in;
	size_t i, n = 0;

	json_array_foreach(inputs, i, in) n += strcmp(jx_get_str(in, "role", ""), REVIEW_ROLE) != 0;
	return n;
}

/* Made from the very inputs the job has now, and after any invalidation. */
static bool still_valid(const struct ctx *c, const json_t *job, const json_t *manifest)
{
	const json_t *was = json_object_get(manifest, "inputs"), *is = json_object_get(job, "inputs"), *in;
	int64_t since = jx_get_i64(c->invalid, jx_get_str(job, "id", ""), 0);
	size_t i;

	if (jx_get_i64(manifest, "ended_ms", 0) < since)
		return false;
	if (json_is_array(was) && n_planned(was) != json_array_size(is))
		return false;
	json_array_foreach(was ? is : NULL, i, in) if (strcmp(jx_get_str(in, "digest", ""),
						 jx_get_str(json_array_get(was, i), "digest", "")) != 0)
		return false;
	return true;
}

/* --- results ------------------------------------------------------------------------------- */

/* Gives the claimed job the result of manifest `m`; hands it back when that is not of its inputs. */
static enum rc give_result(struct ctx *c, const json_t *claim, const json_t *m, int64_t fence, bool *done,
			   struct err *e)
{
	static const char *const names[] = {"seconds", "engine", "code", "key", NULL};
	const char *job = jx_get_str(json_object_get(claim, "job"), "id", "");
	const char *token = jx_get_str(claim, "token", "");
	json_t *info;
	bool again;
	enum rc rc;

	if (!still_valid(c, json_object_get(claim, "job"), m)) {
		log_info("rebuild", "result_outdated", "job=%s", job);
		return strtoll(token, NULL, 10) == fence
			       ? RC_OK /* the lease is its worker's */
			       : queue_fail(c->s->queue, job, token, QUEUE_FAIL_PREEMPTED, NULL, e);
	}
	info = json_object();
	for (int i = 0; names[i]; i++)
		if (json_object_get(m, names[i]))
			json_object_set(info, names[i], json_object_get(m, names[i]));
	rc = queue_complete(c->s->queue, job, token, json_object_get(m, "outputs"),
			    json_object_get(m, "metrics"), info, NULL, &again, NULL, e);
	json_decref(info);
	*done = !rc;
	c->sum->n_jobs += !rc;
	if (!rc)
		index_manifest(c->s, m, NULL);
	return rc == RC_STALE ? RC_OK : rc; /* Another server was quicker. */
}

/* A job that may be given a result gets the one the store has, if it has one. *done tells whether. */
static enum rc settle(struct ctx *c, const char *job, bool *done, struct err *e)
{
	const json_t *known = json_object_get(c->manifests, job);
	int64_t fence = json_integer_value(json_array_get(known, 0));
	json_t *m = NULL, *claim = NULL;
	enum rc rc = RC_OK;

	*done = false;
	if (!known || store_doc_get(c->s->store, json_string_value(json_array_get(known, 1)), &m, NULL))
		return RC_OK;
	if (jx_get_i64(m, "ended_ms", 0) < jx_get_i64(c->invalid, job, 0)) {
		log_info("rebuild", "result_outdated", "job=%s", job);
	} else if (!outputs_present(c->s, m)) {
		c->sum->n_missing++;
		log_warn("rebuild", "outputs_missing", "job=%s", job);
	} else {
		rc = queue_restore_take(c->s->queue, WORKER, job, fence, &claim, e);
		if (!rc && claim)
			rc = give_result(c, claim, m, fence, done, e);
		if (rc == RC_CONFLICT || rc == RC_NOTFOUND)
			rc = RC_OK; /* It waits for parents, ended otherwise, or has a later lease. */
	}
	json_decref(claim);
	json_decref(m);
	return rc;
}

/* Each job once, parents before children; one that was handed back is not tried again. */
static enum rc settle_all(struct ctx *c, const char *run, struct err *e)
{
	json_t *tried = json_object(), *jobs, *job;
	bool progress = true, done;
	size_t i;
	enum rc rc = RC_OK;

	while (!rc && progress) {
		progress = false;
		jobs = NULL;
		rc = reconcile_run(c->s, run, e);
		if (!rc)
			rc = queue_restore_open(c->s->queue, run, &jobs, e);
		json_array_foreach(jobs, i, job)
		{
			const char *id = json_string_value(job);

			if (rc || json_object_get(tried, id))
				continue;
			json_object_set_new(tried, id, json_true());
			rc = settle(c, id, &done, e);
			progress |= done;
		}
		json_decref(jobs);
	}
	json_decref(tried);
	return rc;
}

/* --- decisions ----------------------------------------------------------------------------- */

/* Whether the job still has a result from before the decision. */
static bool has_older_result(struct queue *q, const json_t *d)
{
	json_t *job = NULL;
	bool older = queue_job(q, jx_get_str(d, "job", ""), &job, NULL) == RC_OK &&
		     strcmp(jx_get_str(job, "state", ""), "done") == 0 &&
		     jx_get_i64(job, "ended_ms", 0) < jx_get_i64(d, "at_ms", 0);

	json_decref(job);
	return older;
}

/* One that no longer applies (a cancelled job that is done) is history; a result older than an
 * invalidation was not handed out, so there may be nothing to take back. */
static enum rc replay(struct ctx *c, const char *run, const json_t *d, struct err *e)
{
	bool undo = strcmp(jx_get_str(d, "what", ""), "invalidate") == 0;
	enum rc rc = RC_OK;

	if (!undo || has_older_result(c->s->queue, d))
		rc = decision_apply(c->s->queue, run, d, e);
	if (rc == RC_UNREACHABLE || rc == RC_TIMEOUT)
		return rc;
	return decision_mark(c->s, run, d, e);
}

static enum rc replay_all(struct ctx *c, const char *run, const json_t *pending, struct err *e)
{
	const json_t *d;
	size_t i;
	enum rc rc = RC_OK;

	json_array_foreach(pending, i, d) if (!rc) rc = replay(c, run, d, e);
	c->sum->n_decisions += (int)json_array_size(pending);
	if (!rc && json_array_size(pending) > 0)
		rc = settle_all(c, run, e);
	return rc;
}

/* --- one run ------------------------------------------------------------------------------- */

static enum rc revive_run(struct ctx *c, const char *run, const json_t *record, struct err *e)
{
	char got[RUN_ID_MAX];
	bool existed;
	enum rc rc = decision_mark_none(c->s, run, e);

	if (!rc)
		rc = queue_submit(c->s->queue, record, jx_get_str(record, "idem_key", NULL),
				  jx_get_str(record, "body_digest", ""), got, &existed, e);
	c->sum->n_runs += !rc;
	return rc;
}

/* Makes the run known to Redis. *known stays false for a submission that was refused. */
static enum rc known_run(struct ctx *c, const char *run, const json_t *decisions, bool *known, json_t **info,
			 struct err *e)
{
	json_t *record = NULL;
	char path[64];
	enum rc rc = queue_run(c->s->queue, run, info, e);

	*known = rc == RC_OK;
	if (rc != RC_NOTFOUND || was_abandoned(decisions))
		return rc == RC_NOTFOUND ? RC_OK : rc;
	str_fmt(path, sizeof path, "runs/%s/record.json", run);
	rc = store_doc_get(c->s->store, path, &record, e);
	if (rc == RC_NOTFOUND)
		return RC_OK;
	if (!rc)
		rc = revive_run(c, run, record, e);
	if (!rc)
		rc = queue_run(c->s->queue, run, info, e);
	*known = rc == RC_OK;
	json_decref(record);
	return rc;
}

/* Every done job has a manifest, so a run with as many of both has lost none. */
static enum rc compare_run(struct ctx *c, const char *run, const json_t *info, const json_t *decisions,
			   struct err *e)
{
	json_t *pending = NULL;
	int64_t done = jx_get_i64(json_object_get(info, "counts"), "done", 0);
	enum rc rc = decision_pending(c->s, run, &pending, e);

	json_object_clear(c->manifests);
	note_invalidations(c, decisions);
	if (!rc && (json_array_size(pending) > 0 || json_is_null(json_object_get(info, "ended_ms"))))
		rc = gather_manifests(c, run, e);
	if (!rc && (int64_t)json_object_size(c->manifests) > done)
		rc = settle_all(c, run, e);
	if (!rc)
		rc = replay_all(c, run, pending, e);
	json_decref(pending);
	return rc;
}

static enum rc one_run(struct ctx *c, const char *run, struct err *e)
{
	json_t *decisions = NULL, *info = NULL;
	bool known = false;
	enum rc rc = decision_list(c->s, run, &decisions, e);

	if (!rc)
		rc = known_run(c, run, decisions, &known, &info, e);
	if (!rc && known)
		rc = compare_run(c, run, info, decisions, e);
	json_decref(decisions);
	json_decref(info);
	return rc;
}

/* --- all runs ------------------------------------------------------------------------------ */

static enum rc all_runs(struct ctx *c, struct err *e)
{
	char **names = NULL;
	size_t n = 0;
	enum rc rc = store_doc_list(c->s->store, "runs", &names, &n, e);

	for (size_t i = 0; !rc && i < n; i++)
		if (run_id_valid(names[i]))
			rc = one_run(c, names[i], e);
	fs_list_free(names);
	return rc;
}

enum rc rebuild(struct server *s, struct rebuild_sum *sum, struct err *e)
{
	struct ctx c = {.s = s, .sum = sum, .manifests = json_object(), .invalid = json_object()};
	int64_t start = clk_mono_ms();
	enum rc rc;

	memset(sum, 0, sizeof *sum);
	queue_restoring(true);
	reconcile_forget();
	rc = all_runs(&c, e);
	if (!rc)
		rc = quotas_restore(s, e);
	if (!rc)
		rc = queue_restore_trust(s->queue, c.fence, e);
	queue_restoring(false);
	json_decref(c.manifests);
	json_decref(c.invalid);
	log_line(rc ? LOG_WARN : LOG_INFO, "rebuild", rc ? "compare_failed" : "compared",
		 "runs=%d jobs=%d decisions=%d missing=%d ms=%lld error=\"%s\"", sum->n_runs,
		 sum->n_jobs, sum->n_decisions, sum->n_missing, (long long)(clk_mono_ms() - start),
		 rc && e ? e->text : "");
	return rc;
}

enum rc rebuild_compare(struct server *s, struct err *e)
{
	struct rebuild_sum sum;
	enum rc rc = queue_guard(s->queue, e);

	atomic_store(&s->behind, true);
	if (!rc)
		rc = migrations_run(s->queue, e);
	if (!rc)
		rc = rebuild(s, &sum, e);
	/* What is in no store: the tokens of our files, webhooks. */
	if (!rc)
		rc = auth_start(s, e);
	if (!rc)
		rc = hooks_start(s, e);
	atomic_store(&s->behind, rc != RC_OK);
	return rc;
}
