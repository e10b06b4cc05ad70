/* Jobs and their attempts; workers as the operator sees them. */
#include "server/api.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "queue/queue.h"
#include "server/decision.h"
#include "server/guard.h"
#include "server/logs.h"
#include "server/reconcile.h"
#include "server/reply.h"
#include "server/review_input.h"
#include "server/run_view.h"
#include "server/server.h"
#include "server/view.h"

#include <stdlib.h>
#include <string.h>

/* The job of args[0]; NULL after answering. */
static json_t *job_arg(struct req *r)
{
	struct err e = {0};
	json_t *job = NULL;

	if (!job_id_valid(r->args[0], NULL))
		reply_problem(r, 404, "not-found", "no job \"%s\"", r->args[0]);
	else if (queue_job(r->srv->queue, r->args[0], &job, &e))
		reply_err(r, &e);
	return job;
}

/* Null where it cannot be told. */
static json_t *waiting_of(struct server *s, const json_t *job)
{
	json_t *attempts = NULL, *waits = NULL, *v = NULL;

	if (!queue_attempts(s->queue, jx_get_str(job, "id", ""), &attempts, NULL) &&
	    !queue_waits(s->queue, job, attempts, &waits, NULL))
		v = view_waiting(waits);
	json_decref(waits);
	json_decref(attempts);
	return v;
}

/* With what it waited for, and what was fixed for it beside its planned inputs. */
static json_t *whole_view(struct server *s, const json_t *job, const json_t *done)
{
	json_t *v = view_job(job, done), *more = NULL;

	json_put(v, "waiting", waiting_of(s, job));
	if (strcmp(jx_get_str(job, "stage", ""), "pair") == 0)
		more = review_fixed(s, jx_get_str(job, "run", ""), jx_get_str(job, "id", ""));
	if (more)
		json_array_append_new(json_object_get(v, "inputs"), more);
	return v;
}

void api_job_get(struct req *r)
{
	struct err e = {0};
	json_t *job = job_arg(r), *done = NULL;

	if (!job)
		return;
	if (queue_done_outputs(r->srv->queue, jx_get_str(job, "run", ""), &done, &e)) {
		reply_err(r, &e);
	} else {
		reply_revision(r, 'j', r->args[0], jx_get_str(job, "tag", ""));
		reply_json(r, 200, whole_view(r->srv, job, done));
	}
	json_decref(done);
	json_decref(job);
}

static void job_decide(struct req *r, const char *what)
{
	json_t *job, *body = req_json(r), *again = NULL;
	struct err e = {0};
	const char *run;
	enum rc rc;

	if (!body || !(job = job_arg(r))) {
		json_decref(body);
		return;
	}
	run = jx_get_str(job, "run", "");
	rc = decision_make(r->srv, run, what, r->args[0], body,
			   &(struct decider){r->who.name, guard_match(r)}, &e);
	if (!rc)
		rc = queue_job(r->srv->queue, r->args[0], &again, &e);
	if (rc) {
		reply_err(r, &e);
	} else {
		log_info("job", what, "job=%s by=%s", r->args[0], r->who.name);
		reconcile_poke(r->srv->reconcile, run);
		run_view_forget(run);
		reply_json(r, 202, view_job(again, NULL));
	}
	json_decref(again);
	json_decref(job);
	json_decref(body);
}

void api_job_act(struct req *r)
{
	job_decide(r, strrchr(r->path, '/') + 1);
}

void api_job_tune(struct req *r)
{
	job_decide(r, "priority");
}

void api_job_attempts(struct req *r)
{
	struct err e = {0};
	json_t *job = job_arg(r), *attempts = NULL, *items, *a;
	size_t i;

	if (!job)
		return;
	if (queue_attempts(r->srv->queue, r->args[0], &attempts, &e)) {
		reply_err(r, &e);
	} else {
		items = json_array();
		json_array_foreach(attempts, i, a)
		{
			int n = (int)jx_get_i64(a, "n", 0);

			json_array_append_new(
				items,
				view_attempt(a, job, logs_size(r->srv->data_dir, r->args[0], n)));
		}
		reply_list(r, items, NULL);
	}
	json_decref(attempts);
	json_decref(job);
}

/* --- workers ------------------------------------------------------------------------------- */

void api_worker_list(struct req *r)
{
	struct err e = {0};
	json_t *workers = NULL, *items, *w;
	size_t i;

	if (queue_workers(r->srv->queue, &workers, &e)) {
		reply_err(r, &e);
		return;
	}
	items = json_array();
	json_array_foreach(workers, i, w) json_array_append_new(items, view_worker(w));
	json_decref(workers);
	reply_list(r, items, NULL);
}

void api_worker_act(struct req *r)
{
	static const struct {
		const char *verb, *state;
		enum rc (*act)(struct queue *q, const char *worker, struct err *e);
	} acts[] = {{"drain", "draining", queue_worker_drain},
		    {"cordon", "cordoned", queue_worker_cordon},
		    {"resume", "idle", queue_worker_take}};
	const char *verb = strrchr(r->path, '/') + 1;
	struct err e = {0};
	size_t i = 0;

	while (strcmp(acts[i].verb, verb) != 0)
		i++; /* The route table has no other. */
	if (acts[i].act(r->srv->queue, r->args[0], &e)) {
		reply_err(r, &e);
		return;
	}
	log_info("worker", verb, "worker=%s by=%s", r->args[0], r->who.name);
	reply_json(r, 202, json_pack("{s:s, s:s}", "id", r->args[0], "state", acts[i].state));
}
