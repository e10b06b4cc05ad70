#include "server/bulk.h"

#include "base/jsonx.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/decision.h"
#include "server/logs.h"
#include "server/reconcile.h"
#include "server/run_filter.h"
#include "server/run_view.h"
#include "server/server.h"

#include <stdlib.h>
#include <string.h>

#define FAILURES_SHOWN 100
#define RUNS_PAGE 200
#define TAG_TRIES 5 /* each lost to somebody else's change */

static bool action_known(const struct bulk *b)
{
	static const char *const jobs[] = {"cancel", "retry", "invalidate", "priority", NULL};
	static const char *const runs[] = {"cancel", "pause", "drain", "resume", "retry", "tag", NULL};

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

/* Its tags without those to remove and with those to add; NULL when that changes nothing. */
static json_t *tags_after(const struct bulk *b, const json_t *tags)
{
	const json_t *lists[] = {tags, json_object_get(b->body, "add")};
	json_t *out = json_array(), *gone = json_object(), *seen = json_object(), *tag;
	size_t i;

	json_array_foreach(json_object_get(b->body, "remove"), i, tag)
		json_object_set(gone, json_string_value(tag), tag);
	for (int k = 0; k < 2; k++)
		json_array_foreach(lists[k], i, tag)
		{
			const char *text = json_string_value(tag);

			if (json_object_get(seen, text) || (k == 0 && json_object_get(gone, text)))
				continue;
			json_object_set(seen, text, tag);
			json_array_append(out, tag);
		}
	json_decref(gone);
	json_decref(seen);
	if (json_equal(out, (json_t *)(uintptr_t)tags)) {
		json_decref(out);
		out = NULL;
	}
	return out;
}

/* Read, changed, and written only if nobody else changed the run meanwhile. */
static enum rc tag_run(struct bulk *b, const char *run, struct err *e)
{
	enum rc rc = RC_CHANGED;

	for (int n = 0; n < TAG_TRIES && rc == RC_CHANGED; n++) {
		json_t *there = NULL, *tags, *detail;
		char match[MATCH_MAX];

		rc = queue_run(b->s->queue, run, &there, e);
		if (rc)
			return rc;
		str_fmt(match, sizeof match, "r:%s=%.60s", run, jx_get_str(there, "revision", ""));
		tags = tags_after(b, json_object_get(there, "tags"));
		if (tags) {
			detail = json_pack("{s:o}", "tags", tags);
			rc = decision_make(b->s, run, "tune", NULL, detail, &(struct decider){b->who, match},
					   e);
			json_decref(detail);
		}
		json_decref(there);
	}
	return rc;
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
	if (!rc && strcmp(b->action, "tag") == 0)
		rc = tag_run(b, run, e);
	else if (!rc)
		rc = decision_make(s, run, b->action, b->of_jobs ? id : NULL, b->detail,
				   &(struct decider){b->who, NULL}, e);
	if (!rc) {
		reconcile_poke(s->reconcile, run);
		run_view_forget(run);
	}
	return rc;
}

/* Jobs that {"run", "stage"?, "state"?, "iter"?} picks. */
static enum rc jobs_of_filter(struct bulk *b, const json_t *filter, struct err *e)
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

static enum rc runs_of(struct bulk *b, const struct run_filter *f, struct err *e)
{
	char *cursor = NULL, *next = NULL;
	json_t *runs, *run;
	size_t i;
	enum rc rc;

	do {
		runs = NULL;
		rc = queue_runs(b->s->queue, run_filter_state(f), cursor, RUNS_PAGE, &runs, &next, e);
		json_array_foreach(runs, i, run)
			if (run_filter_hits(f, run))
				json_array_append(b->ids, json_object_get(run, "id"));
		json_decref(runs);
		free(cursor);
		cursor = rc ? NULL : next;
	} while (cursor && json_array_size(b->ids) <= BULK_ASYNC_MAX);
	free(cursor);
	return rc;
}

/* Runs that {"state"?, "tag"?, "q"?, "starred"?} picks, as the list of runs does. */
static enum rc runs_of_filter(struct bulk *b, const json_t *filter, struct err *e)
{
	static const char *const known[] = {"state", "tag", "q", "starred", NULL};
	struct run_filter f = {0};
	enum rc rc;

	if ((rc = jx_only(filter, known, e)) || (rc = jx_opt_str(filter, "state", &f.states, e)) ||
	    (rc = jx_opt_str(filter, "tag", &f.tags, e)) || (rc = jx_opt_str(filter, "q", &f.q, e)) ||
	    (rc = jx_opt_bool(filter, "starred", &f.starred, e)))
		return rc;
	return runs_of(b, &f, e);
}

static enum rc ids_of_body(struct bulk *b, const json_t *body, struct err *e)
{
	const json_t *ids = json_object_get(body, "ids"), *filter = json_object_get(body, "filter");
	json_t *id;
	size_t i;

	b->ids = json_array();
	if (!ids == !filter || (filter && !json_is_object(filter)) || (ids && !json_is_array(ids)))
		return err_set(e, RC_INVALID, "expected either \"ids\" or \"filter\"");
	if (filter)
		return b->of_jobs ? jobs_of_filter(b, filter, e) : runs_of_filter(b, filter, e);
	json_array_foreach(ids, i, id)
	{
		if (!json_is_string(id))
			return err_set(e, RC_INVALID, "ids/%zu: expected a string", i);
		json_array_append(b->ids, id);
	}
	return RC_OK;
}

/* What goes with one action and no other. */
static enum rc check_parts(const struct bulk *b, const json_t *body, struct err *e)
{
	const json_t *add = json_object_get(body, "add"), *remove = json_object_get(body, "remove");
	enum rc rc = RC_OK;

	if ((strcmp(b->action, "priority") == 0) != json_is_integer(json_object_get(body, "priority")))
		return err_set(e, RC_INVALID,
			       "priority: a number goes with the action \"priority\"");
	if ((strcmp(b->action, "tag") == 0) != (add || remove))
		return err_set(e, RC_INVALID, "add, remove: tags go with the action \"tag\"");
	for (int i = 0; i < 2 && !rc; i++) {
		json_t *fields = json_pack("{s:O?}", "tags", i ? remove : add);

		if (i ? remove != NULL : add != NULL)
			rc = queue_tuning_check(fields, e);
		json_decref(fields);
	}
	return rc;
}

enum rc bulk_init(struct bulk *b, json_t *body, struct err *e)
{
	static const char *const known[] = {"action", "ids",	 "filter",  "priority",
					    "add",    "remove", "dry_run", NULL};
	json_t *priority = json_object_get(body, "priority");
	enum rc rc;

	b->body = body;
	b->action = jx_get_str(body, "action", "");
	b->detail = json_object();
	b->failures = json_array();
	if (priority)
		json_object_set(b->detail, "priority", priority);
	if ((rc = jx_only(body, known, e)) || (rc = jx_opt_bool(body, "dry_run", &b->dry_run, e)))
		return rc;
	if (!action_known(b))
		return err_set(e, RC_INVALID, "action \"%.40s\" is not known here", b->action);
	rc = check_parts(b, body, e);
	return rc ? rc : ids_of_body(b, body, e);
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
