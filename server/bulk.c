#include "server/bulk.h"

#include "base/jsonx.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/decision.h"
#include "server/logs.h"
#include "server/reconcile.h"
#include "server/run_view.h"
#include "server/server.h"

#include <string.h>

#define FAILURES_SHOWN 100

static bool action_known(const struct bulk *b)
{
	static const char *const jobs[] = {"cancel", "retry", "invalidate", "priority", NULL};
	static const char *const runs[] = {"cancel", "pause", "drain", "resume", "retry", NULL};

	for (const char *const *p = b->of_jobs ? jobs : runs; *p; p++)
		if (strcmp(*p, b->action) == 0)
			return true;
	return false;
}

static void add_failure(struct bulk *b, const char *id, const struct err *e)
{
	b->failed++;
	if (json_array_size(b->failures) < FAILURES_SHOWN)
		json_array_append_new(b->failures,
				      json_pack("{s:s, s:s}", "id", id, "detail", e->text));
}

static enum rc decide(struct bulk *b, const char *id, struct err *e)
{
	struct server *s = b->s;
	char run[RUN_ID_MAX];
	json_t *there = NULL;
	enum rc rc;

	if (b->of_jobs ? !job_id_valid(id, run) : !run_id_valid(id))
		return err_set(e, RC_NOTFOUND, "no %s \"%.100s\"", b->of_jobs ? "job" : "run", id);
	rc = b->of_jobs ? queue_job(s->queue, id, &there, e) : queue_run(s->queue, id, &there, e);
	json_decref(there);
	if (!b->of_jobs)
		str_copy(run, sizeof run, id);
	if (!rc)
		rc = decision_make(s, run, b->action, b->of_jobs ? id : NULL, b->detail,
				   &(struct decider){b->who, NULL}, e);
	if (!rc) {
		reconcile_poke(s->reconcile, run);
		run_view_forget(run);
	}
	return rc;
}

/* Jobs that {"run", "stage"?, "state"?, "iter"?} picks. */
static enum rc ids_of_filter(struct bulk *b, const json_t *filter, struct err *e)
{
	static const char *const known[] = {"run", "stage", "state", "iter", NULL};
	struct queue_job_filter f = {.iter = -1};
	const char *run = "";
	json_t *jobs = NULL, *job;
	int64_t iter = -1;
	size_t i;
	enum rc rc;

	if ((rc = jx_only(filter, known, e)) || (rc = jx_str(filter, "run", &run, e)) ||
	    (rc = jx_opt_str(filter, "stage", &f.stage, e)) ||
	    (rc = jx_opt_str(filter, "state", &f.state, e)) ||
	    (rc = jx_opt_i64(filter, "iter", 0, 1000000, &iter, e)))
		return rc;
	if (!run_id_valid(run))
		return err_set(e, RC_INVALID, "filter.run: \"%.40s\" is no run", run);
	f.iter = (int)iter;
	rc = queue_jobs(b->s->queue, run, &f, &jobs, e);
	json_array_foreach(jobs, i, job) json_array_append(b->ids, json_object_get(job, "id"));
	json_decref(jobs);
	return rc;
}

static enum rc ids_of_body(struct bulk *b, const json_t *body, struct err *e)
{
	const json_t *ids = json_object_get(body, "ids"), *filter = json_object_get(body, "filter");
	json_t *id;
	size_t i;

	b->ids = json_array();
	if (!ids == !filter || (filter && (!b->of_jobs || !json_is_object(filter))) ||
	    (ids && !json_is_array(ids)))
		return err_set(e, RC_INVALID, "expected %s",
			       b->of_jobs ? "either \"ids\" or \"filter\"" : "\"ids\"");
	if (filter)
		return ids_of_filter(b, filter, e);
	json_array_foreach(ids, i, id)
	{
		if (!json_is_string(id))
			return err_set(e, RC_INVALID, "ids/%zu: expected a string", i);
		json_array_append(b->ids, id);
	}
	return RC_OK;
}

enum rc bulk_init(struct bulk *b, json_t *body, struct err *e)
{
	static const char *const known[] = {"action", "ids", "filter", "priority", "dry_run", NULL};
	json_t *priority = json_object_get(body, "priority");
	enum rc rc;

	b->body = body;
	b->action = jx_get_str(body, "action", "");
	b->detail = json_object();
	b->failures = json_array();
	if (priority)
		json_object_set(b->detail, "priority", priority);
	if ((rc = jx_only(body, known, e)) || (rc = jx_opt_bool(body, "dry_run", &b->dry_run, e)) ||
	    (rc = ids_of_body(b, body, e)))
		return rc;
	if (!action_known(b))
		return err_set(e, RC_INVALID, "action \"%.40s\" is not known here", b->action);
	if ((strcmp(b->action, "priority") == 0) != json_is_integer(priority))
		return err_set(e, RC_INVALID,
			       "priority: a number goes with the action \"priority\"");
	return RC_OK;
}

void bulk_release(struct bulk *b)
{
	json_decref(b->ids);
	json_decref(b->detail);
	json_decref(b->failures);
	json_decref(b->body);
}

void bulk_decide(struct bulk *b, size_t i)
{
	const char *id = json_string_value(json_array_get(b->ids, i));
	struct err e = {0};

	if (decide(b, id, &e))
		add_failure(b, id, &e);
	else
		b->done++;
}

json_t *bulk_json(const struct bulk *b)
{
	return json_pack("{s:b, s:I, s:I, s:I, s:O}", "dry_run", b->dry_run, "matched",
			 (json_int_t)json_array_size(b->ids), "done", (json_int_t)b->done, "failed",
			 (json_int_t)b->failed, "failures", b->failures);
}
