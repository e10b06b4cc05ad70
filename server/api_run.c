/* Runs: submitted, listed, acted upon. The run's record is durable in the store before the 201, an
 * operator's decision before the queue hears of it: `pawl-server rebuild` needs nothing else. */
#include "server/api.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/str.h"
#include "base/version.h"
#include "queue/plan.h"
#include "queue/queue.h"
#include "queue/spec.h"
#include "server/decision.h"
#include "server/guard.h"
#include "server/logs.h"
#include "server/quota.h"
#include "server/reconcile.h"
#include "server/reply.h"
#include "server/run_filter.h"
#include "server/run_view.h"
#include "server/server.h"
#include "server/view.h"
#include "store/store.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define IDEM_KEY_MAX 64
#define RUN_LETTERS 8
#define ATTEMPT_JOBS_MAX 4000 /* one Redis call each */

void api_defaults(struct req *r)
{
	reply_json(r, 200, spec_defaults());
}

/* --- submit -------------------------------------------------------------------------------- */

/* From the idempotency key when there is one: a retry after a crash then meets its own record. */
static void run_id_make(const char *key, char out[RUN_ID_MAX])
{
	static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
	uint8_t raw[RUN_LETTERS];
	char hex[SHA256_HEX_SIZE];

	random_bytes(raw, sizeof raw);
	if (key) {
		sha256_of(key, strlen(key), hex);
		for (int i = 0; i < RUN_LETTERS; i++)
			raw[i] = (uint8_t)(strchr("0123456789abcdef", hex[2 * i]) -
					   "0123456789abcdef") *
					 16 +
				 (uint8_t)(strchr("0123456789abcdef", hex[2 * i + 1]) -
					   "0123456789abcdef");
	}
	out[0] = 'r';
	for (int i = 0; i < RUN_LETTERS; i++)
		out[i + 1] = letters[raw[i] % 32];
	out[RUN_LETTERS + 1] = 0;
}

static void answer_dry_run(struct req *r, json_t *spec, json_t *errors)
{
	json_t *plan_json = NULL, *jobs = NULL, *done = json_object(), *stages, *s;
	struct err e = {0};
	int64_t total = 0;
	size_t i;

	if (spec && plan(spec, done, "rdryrun", &jobs, &e) == RC_OK) {
		stages = plan_summary(spec, jobs);
		json_array_foreach(stages, i, s) total += jx_get_i64(s, "jobs", 0);
		plan_json =
			json_pack("{s:o, s:I}", "stages", stages, "total_jobs", (json_int_t)total);
	} else if (spec) {
		json_array_append_new(errors,
				      json_pack("{s:s, s:s}", "pointer", "", "detail", e.text));
	}
	json_decref(jobs);
	json_decref(done);
	reply_json(
		r, 200,
		json_pack("{s:o?, s:O?, s:O}", "plan", plan_json, "spec", spec, "errors", errors));
}

/* A token's name as the owner of its runs: what is not a letter, digit, dot or dash becomes a dash. */
static void owner_of(const char *name, char out[OWNER_MAX])
{
	size_t n = 0;

	for (; name[n] && n < OWNER_MAX - 1; n++)
		out[n] = isalnum((unsigned char)name[n]) || strchr("._-", name[n]) ? name[n] : '-';
	out[n] = 0;
}

static json_t *record_make(struct req *r, const char *run, json_t *spec, const char *key,
			   const char *digest)
{
	char owner[OWNER_MAX];

	owner_of(r->who.name, owner);
	return json_pack("{s:i, s:s, s:s, s:s, s:O, s:s?, s:s, s:s, s:I, s:s}", "format", 1, "id", run,
			 "owner", owner, "name", jx_get_str(spec, "name", ""), "spec", spec, "idem_key", key,
			 "body_digest", digest, "by", r->who.name, "created_ms",
			 (json_int_t)clk_now_ms(), "code", version_text());
}

/* The record of an earlier try with the same key, or the new one made durable. */
static enum rc record_store(struct server *s, const char *run, json_t **record, struct err *e)
{
	char path[64];
	json_t *old = NULL;
	enum rc rc;

	str_fmt(path, sizeof path, "runs/%s/record.json", run);
	rc = store_doc_get(s->store, path, &old, NULL);
	if (rc == RC_NOTFOUND)
		return store_doc_put(s->store, path, *record, e);
	if (rc)
		return err_set(e, rc, "store: %s cannot be read", path);
	if (strcmp(jx_get_str(old, "body_digest", ""), jx_get_str(*record, "body_digest", "")) !=
	    0) {
		json_decref(old);
		return err_set(e, RC_CONFLICT, "this Idempotency-Key was used with another body");
	}
	json_decref(*record);
	*record = old;
	return RC_OK;
}

static void answer_run(struct req *r, const char *run, int status)
{
	struct err e = {0};
	json_t *view = NULL;

	if (run_view(r->srv, run, true, &view, &e)) {
		reply_err(r, &e);
		return;
	}
	reply_revision(r, 'r', run, jx_get_str(view, "revision", ""));
	reply_json(r, status, view);
}

static void submit(struct req *r, json_t *spec, const char *key, const char *digest)
{
	char id[RUN_ID_MAX], run[RUN_ID_MAX];
	struct err e = {0};
	bool existed = false;
	json_t *record;
	enum rc rc;

	run_id_make(key, id);
	record = record_make(r, id, spec, key, digest);
	rc = quota_allows_run(r->srv, jx_get_str(record, "owner", ""), &e);
	if (rc) {
		json_decref(record);
		if (rc == RC_FULL)
			reply_problem(r, 429, "quota", "%s", e.text);
		else
			reply_err(r, &e);
		return;
	}
	rc = record_store(r->srv, id, &record, &e);
	if (!rc)
		rc = queue_submit(r->srv->queue, record, key, digest, run, &existed, &e);
	json_decref(record);
	if (rc == RC_CONFLICT) {
		reply_problem(r, 422, "idempotency",
			      "this Idempotency-Key was used with another body");
	} else if (rc) {
		/* Refused for good: a rebuild must not bring it to life. */
		if (!key && rc != RC_UNREACHABLE && rc != RC_TIMEOUT)
			decision_append(r->srv, id, "abandoned", NULL, NULL, r->who.name,
					NULL);
		reply_err(r, &e);
	} else {
		log_info("run", existed ? "replayed" : "submitted", "run=%s by=%s", run,
			 r->who.name);
		if (existed)
			req_add_header(r, "Idempotency-Replayed", "true");
		else if (reconcile_run(r->srv, run, &e))
			log_warn("run", "not_planned_yet", "run=%s error=%s", run, e.text);
		req_add_header(r, "Location", "/api/v1/runs/%s", run);
		answer_run(r, run, 201);
	}
}

static void body_digest(const json_t *body, char out[SHA256_HEX_SIZE])
{
	struct buf text = BUF_INIT;

	jx_dump(body, &text);
	sha256_of(text.data, text.len, out);
	buf_release(&text);
}

void api_run_submit(struct req *r)
{
	const char *key = req_header(r, "Idempotency-Key"), *dry = req_query(r, "dry_run");
	struct spec_errors errors = {0};
	struct err e = {0};
	json_t *body = req_json(r), *spec = NULL;
	char digest[SHA256_HEX_SIZE];
	enum rc rc;

	if (!body)
		return;
	if (key && (!key[0] || strlen(key) > IDEM_KEY_MAX)) {
		reply_problem(r, 400, "invalid", "Idempotency-Key: expected 1 to %d characters",
			      IDEM_KEY_MAX);
		goto out;
	}
	rc = spec_normalise(body, &spec, &errors, &e);
	if (!errors.items)
		errors.items = json_array();
	if (rc && rc != RC_INVALID) {
		reply_err(r, &e);
	} else if (dry && strcmp(dry, "0") != 0) {
		answer_dry_run(r, spec, errors.items);
	} else if (rc) {
		reply_invalid(r, "the run specification has errors", json_incref(errors.items));
	} else {
		body_digest(body, digest);
		submit(r, spec, key, digest);
	}
out:
	spec_errors_release(&errors);
	json_decref(spec);
	json_decref(body);
}

/* --- reads --------------------------------------------------------------------------------- */

static enum rc append_run(struct server *s, const char *id, json_t *items, struct err *e)
{
	json_t *view = NULL;
	enum rc rc = run_view(s, id, false, &view, e);

	if (!rc)
		json_array_append_new(items, view);
	return rc == RC_NOTFOUND ? RC_OK : rc;
}

void api_run_list(struct req *r)
{
	const char *starred = req_query(r, "starred");
	struct run_filter f = {req_query(r, "state"), req_query(r, "tag"), req_query(r, "q"),
			       starred && strcmp(starred, "1") == 0};
	struct err e = {0};
	json_t *runs = NULL, *items = json_array(), *run;
	char *next = NULL;
	int64_t limit;
	size_t i;
	enum rc rc;

	if (!req_query_i64(r, "limit", 50, 1, 200, &limit))
		goto out;
	rc = queue_runs(r->srv->queue, run_filter_state(&f), req_query(r, "cursor"), (int)limit, &runs,
			&next, &e);
	json_array_foreach(runs, i, run) if (!rc && run_filter_hits(&f, run)) rc =
		append_run(r->srv, jx_get_str(run, "id", ""), items, &e);
	if (rc)
		reply_err(r, &e);
	else
		reply_list(r, json_incref(items), next);
out:
	json_decref(items);
	json_decref(runs);
	free(next);
}

/* Answers 404 unless args[0] has the form of a run's id. */
static bool run_arg(struct req *r)
{
	if (run_id_valid(r->args[0]))
		return true;
	reply_problem(r, 404, "not-found", "no run \"%s\"", r->args[0]);
	return false;
}

void api_run_get(struct req *r)
{
	if (run_arg(r))
		answer_run(r, r->args[0], 200);
}

void api_run_stages(struct req *r)
{
	struct err e = {0};
	json_t *info = NULL, *jobs = NULL;

	if (!run_arg(r))
		return;
	if (queue_run(r->srv->queue, r->args[0], &info, &e) ||
	    queue_jobs(r->srv->queue, r->args[0], NULL, &jobs, &e))
		reply_err(r, &e);
	else
		reply_list(
			r,
			view_stages(json_object_get(json_object_get(info, "record"), "spec"), jobs),
			NULL);
	json_decref(info);
	json_decref(jobs);
}

/* The run's jobs as the query filters them; NULL after answering. */
static json_t *filtered_jobs(struct req *r)
{
	struct queue_job_filter f = {.stage = req_query(r, "stage"), .iter = -1};
	const char *states = req_query(r, "state");
	struct err e = {0};
	json_t *jobs = NULL, *kept, *job, *info = NULL;
	int64_t iter;
	size_t i;

	if (!run_arg(r) || !req_query_i64(r, "iter", -1, 0, 1000000, &iter))
		return NULL;
	f.iter = (int)iter;
	f.stage = f.stage && f.stage[0] ? f.stage : NULL;
	if (queue_run(r->srv->queue, r->args[0], &info, &e) ||
	    queue_jobs(r->srv->queue, r->args[0], &f, &jobs, &e)) {
		json_decref(info);
		reply_err(r, &e);
		return NULL;
	}
	json_decref(info);
	kept = json_array();
	json_array_foreach(jobs, i, job) if (list_has(states, jx_get_str(job, "state", "")))
		json_array_append(kept, job);
	json_decref(jobs);
	return kept;
}

/* Jobs are only ever added at the end, so a position is a stable cursor. */
void api_run_jobs(struct req *r)
{
	int64_t limit, from;
	json_t *jobs, *items;
	char next[24];

	if (!req_query_i64(r, "limit", 500, 1, 10000, &limit) ||
	    !req_query_i64(r, "cursor", 0, 0, JOBS_PER_RUN_MAX, &from) ||
	    !(jobs = filtered_jobs(r)))
		return;
	items = json_array();
	for (size_t i = (size_t)from; i < json_array_size(jobs) && (int64_t)i < from + limit; i++)
		json_array_append_new(items, view_job(json_array_get(jobs, i), NULL));
	str_fmt(next, sizeof next, "%lld", (long long)(from + limit));
	reply_list(r, items, from + limit < (int64_t)json_array_size(jobs) ? next : NULL);
	json_decref(jobs);
}

void api_run_attempts(struct req *r)
{
	json_t *jobs = filtered_jobs(r), *items, *job;
	struct err e = {0};
	int n = 0;
	size_t i;
	enum rc rc = RC_OK;

	if (!jobs)
		return;
	items = json_array();
	json_array_foreach(jobs, i, job)
	{
		json_t *attempts = NULL, *a;
		size_t k;

		if (rc || jx_get_i64(job, "starts", 0) == 0 || n++ >= ATTEMPT_JOBS_MAX)
			continue;
		rc = queue_attempts(r->srv->queue, jx_get_str(job, "id", ""), &attempts, &e);
		json_array_foreach(attempts, k, a)
			json_array_append_new(items, view_attempt(a, job, 0));
		json_decref(attempts);
	}
	if (rc)
		reply_err(r, &e);
	else
		reply_list(r, json_incref(items), NULL);
	json_decref(items);
	json_decref(jobs);
}

/* --- actions ------------------------------------------------------------------------------- */

static void run_decide(struct req *r, const char *what, const json_t *detail)
{
	const char *run = r->args[0];
	struct err e = {0};
	json_t *info = NULL;
	enum rc rc = queue_run(r->srv->queue, run, &info, &e);

	json_decref(info);
	if (!rc)
		rc = decision_make(r->srv, run, what, NULL, detail,
				   &(struct decider){r->who.name, guard_match(r)}, &e);
	if (rc) {
		reply_err(r, &e);
		return;
	}
	log_info("run", what, "run=%s by=%s", run, r->who.name);
	reconcile_poke(r->srv->reconcile, run);
	run_view_forget(run);
	answer_run(r, run, 202);
}

void api_run_act(struct req *r)
{
	if (run_arg(r))
		run_decide(r, strrchr(r->path, '/') + 1, NULL);
}

void api_run_tune(struct req *r)
{
	json_t *body = run_arg(r) ? req_json(r) : NULL;

	if (body)
		run_decide(r, "tune", body);
	json_decref(body);
}
