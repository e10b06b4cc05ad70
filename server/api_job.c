/* Jobs, their attempts and logs; workers as the operator sees them. */
#include "server/api.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "queue/queue.h"
#include "server/decision.h"
#include "server/logs.h"
#include "server/reconcile.h"
#include "server/reply.h"
#include "server/run_view.h"
#include "server/server.h"
#include "server/view.h"

#include <stdlib.h>
#include <string.h>

#define LOG_LIMIT_MAX (16 << 20) /* without a limit: what a download gets */
#define LOG_WAIT_MAX_S 20
#define LOG_POLL_MS 200

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

void api_job_get(struct req *r)
{
	struct err e = {0};
	json_t *job = job_arg(r), *done = NULL;

	if (!job)
		return;
	if (queue_done_outputs(r->srv->queue, jx_get_str(job, "run", ""), &done, &e))
		reply_err(r, &e);
	else
		reply_json(r, 200, view_job(job, done));
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
	rc = decision_make(r->srv, run, what, r->args[0], body, r->who.name, &e);
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

/* --- logs ---------------------------------------------------------------------------------- */

static bool attempt_runs(struct server *s, const char *job, int64_t attempt)
{
	json_t *v = NULL;
	bool runs;

	if (queue_job(s->queue, job, &v, NULL))
		return false;
	runs = strcmp(jx_get_str(v, "state", ""), "running") == 0 &&
	       jx_get_i64(v, "starts", 0) == attempt;
	json_decref(v);
	return runs;
}

/* Until the log grows beyond `offset`, the attempt ends, or the time is over. */
static void wait_for_log(struct req *r, int64_t attempt, int64_t offset, int64_t wait_s)
{
	int64_t until = clk_mono_ms() + wait_s * 1000, look = 0;

	while (clk_mono_ms() < until && !atomic_load(&r->srv->stopping)) {
		if (logs_size(r->srv->data_dir, r->args[0], (int)attempt) > offset)
			return;
		if (clk_mono_ms() >= look) {
			if (!attempt_runs(r->srv, r->args[0], attempt))
				return;
			look = clk_mono_ms() + 1000;
		}
		clk_sleep_ms(LOG_POLL_MS);
	}
}

void api_job_log(struct req *r)
{
	int64_t offset, limit, wait_s, from, size, attempt = strtoll(r->args[1], NULL, 10);
	struct buf text = BUF_INIT;
	struct err e = {0};

	if (!job_id_valid(r->args[0], NULL) || attempt < 1) {
		reply_problem(r, 404, "not-found", "no attempt %s of job \"%s\"", r->args[1],
			      r->args[0]);
		return;
	}
	if (!req_query_i64(r, "offset", 0, -LOG_FILE_MAX, LOG_FILE_MAX, &offset) ||
	    !req_query_i64(r, "limit", LOG_LIMIT_MAX, 1, LOG_LIMIT_MAX, &limit) ||
	    !req_query_i64(r, "wait", 0, 0, LOG_WAIT_MAX_S, &wait_s))
		return;
	if (offset >= 0 && wait_s)
		wait_for_log(r, attempt, offset, wait_s);
	if (logs_read(r->srv->data_dir, r->args[0], (int)attempt, offset, (size_t)limit, &text,
		      &from, &size, &e)) {
		reply_err(r, &e);
	} else {
		req_add_header(r, "X-Log-Size", "%lld", (long long)size);
		req_add_header(r, "X-Log-Offset", "%lld", (long long)from);
		req_add_header(r, "Cache-Control", "no-store");
		req_add_header(r, "Content-Security-Policy", "sandbox; default-src 'none'");
		req_send(r, 200, "text/plain; charset=utf-8", text.data, text.len);
	}
	buf_release(&text);
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
	bool drain = strcmp(strrchr(r->path, '/') + 1, "drain") == 0;
	struct err e = {0};

	if (drain ? queue_worker_drain(r->srv->queue, r->args[0], &e)
		  : queue_worker_take(r->srv->queue, r->args[0], &e)) {
		reply_err(r, &e);
		return;
	}
	log_info("worker", drain ? "drain" : "resume", "worker=%s by=%s", r->args[0], r->who.name);
	reply_json(r, 202, json_pack("{s:s, s:s}", "id", r->args[0], "state", drain ? "draining" : "idle"));
}
