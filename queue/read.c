/* Reads: runs, jobs, attempts, metrics. */
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/internal.h"
#include "queue/keys.h"
#include "queue/states.h"
#include "queue/waiting.h"

#include <stdlib.h>
#include <string.h>

#define PIPE_MAX 256 /* commands in one round trip */
#define RUNS_PAGE 64
#define EACH_PAGE 200

/* --- one job ----------------------------------------------------------------------------------- */

static json_t *job_progress(const struct redis_reply *h)
{
	if (!hash_get(h, "pd", NULL))
		return json_null();
	return json_pack("{s:I, s:I, s:s}", "done", (json_int_t)hash_i64(h, "pd", 0), "total",
			 (json_int_t)hash_i64(h, "pt", 0), "unit", hash_get(h, "pu", ""));
}

static const struct {
	const char *name, *field;
} job_numbers[] = {
	{"iter", "iter"}, {"shard", "shard"}, {"pass", "pass"}, {"need", "need"},
	{"attempts", "att"}, {"max_attempts", "max"}, {"starts", "starts"}, {"losses", "losses"},
	{"preemptions", "pre"}, {"log_size", "logsz"}, {"seq", "seq"}, {"priority", "prio"},
	{"generation", "gen"}, {"stall_ms", "stall"},
}, job_times[] = {
	{"created_ms", "created"}, {"started_ms", "started"}, {"ended_ms", "ended"},
	{"last_beat_ms", "lb"}, {"checkpoint_ms", "ckat"},
}, job_docs[] = {
	{"checkpoint", "ck"}, {"outputs", "outputs"}, {"metrics", "metrics"}, {"info", "info"},
	{"error", "err"},
};
#define N_OF(a) (sizeof(a) / sizeof(*(a)))

/* Ids of its parents: kept without the run's part. */
static json_t *job_parents(const struct redis_reply *h, const char *par)
{
	const char *run = hash_get(h, "run", "");
	json_t *list = json_array();
	size_t len;

	for (; *par; par += len + (par[len] == ' ')) {
		len = strcspn(par, " ");
		json_array_append_new(list, json_sprintf("%s.%.*s", run, (int)len, par));
	}
	return list;
}

/* What the planner said of a job, from the fields that say it shorter. Jobs that older servers made have all
 * of it in "def". */
static void job_definition(json_t *j, const struct redis_reply *h)
{
	const char *par = hash_get(h, "par", NULL), *at = strchr(hash_get(h, "queue", ""), '@');
	double cost = 1;

	if (!par)
		return;
	str_to_f64(hash_get(h, "cost", "1"), &cost);
	json_object_set_new(j, "parents", job_parents(h, par));
	json_object_set_new(j, "cost_hint", json_real(cost));
	json_object_set_new(j, "stall_requeue", json_boolean(hash_i64(h, "requeue", 0) == 1));
	if (at)
		json_object_set_new(j, "pool", json_string(at + 1));
}

json_t *job_json(const char *id, const struct redis_reply *h)
{
	json_t *j = hash_json(h, "def");

	if (!json_is_object(j)) {
		json_decref(j);
		j = json_object();
	}
	job_definition(j, h);
	json_object_set_new(j, "id", json_string(id));
	json_object_set_new(j, "run", json_string(hash_get(h, "run", "")));
	json_object_set_new(j, "stage", json_string(hash_get(h, "stage", "")));
	json_object_set_new(j, "state", json_string(hash_get(h, "state", "")));
	json_object_set_new(j, "optional", json_boolean(hash_i64(h, "opt", 0) == 1));
	json_object_set_new(j, "cancelling", json_boolean(hash_i64(h, "cancel", 0) == 1 &&
							  !strcmp(hash_get(h, "state", ""), "running")));
	json_object_set_new(j, "stuck", json_boolean(hash_get(h, "stuck", "")[0] &&
						     !strcmp(hash_get(h, "state", ""), "running")));
	json_object_set_new(j, "worker", json_text_or_null(hash_get(h, "worker", "")));
	json_object_set_new(j, "progress", job_progress(h));
	json_object_set_new(j, "wait_reason", json_null());
	for (size_t i = 0; i < N_OF(job_numbers); i++)
		json_object_set_new(j, job_numbers[i].name,
				    json_integer(hash_i64(h, job_numbers[i].field, 0)));
	for (size_t i = 0; i < N_OF(job_times); i++)
		json_object_set_new(j, job_times[i].name,
				    json_ms_or_null(hash_i64(h, job_times[i].field, 0)));
	for (size_t i = 0; i < N_OF(job_docs); i++)
		json_object_set_new(j, job_docs[i].name, hash_json(h, job_docs[i].field));
	return j;
}

/* As queue/lua/05_base.lua puts it together. */
static json_t *job_tag(const struct redis_reply *h)
{
	static const char *const fields[] = {"state", "starts", "prio", "gen", "cancel"};
	struct buf b = BUF_INIT;
	json_t *tag;

	for (size_t i = 0; i < N_OF(fields); i++)
		buf_printf(&b, "%s%s", i ? "." : "", hash_get(h, fields[i], ""));
	tag = json_stringn(b.data, b.len);
	buf_release(&b);
	return tag;
}

enum rc queue_job(struct queue *q, const char *job, json_t **out, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	struct waiting *w = NULL;
	char run[RUN_ID_MAX];
	enum rc rc;

	*out = NULL;
	if (!job_run_of(job, run))
		return err_set(e, RC_NOTFOUND, "no job \"%.100s\"", job);
	cmd_key(&c, "HGETALL", KEY_JOB, job, "");
	rc = redis_call(q->redis, &c, &p, e);
	if (!rc && reply_n(p) == 0)
		rc = err_set(e, RC_NOTFOUND, "no job %s", job);
	if (!rc)
		rc = waiting_load(q, run, &w, e);
	if (!rc) {
		*out = job_json(job, p);
		json_object_set_new(*out, "tag", job_tag(p));
		waiting_say(w, *out, p);
	}
	waiting_free(w);
	reply_free(p);
	return rc;
}

/* --- many jobs --------------------------------------------------------------------------------- */

/* Ids of a run's jobs in order of adding; RC_NOTFOUND for an unknown run. */
static enum rc run_job_ids(struct queue *q, const char *run, struct redis_reply **ids, struct err *e)
{
	struct redis_cmd c[2] = {REDIS_CMD_INIT, REDIS_CMD_INIT};
	struct redis_reply *p[2] = {NULL, NULL};
	enum rc rc;

	cmd_key(&c[0], "ZRANGE", KEY_RUN_JOBS, run, "0 -1");
	cmd_key(&c[1], "EXISTS", KEY_RUN, run, "");
	rc = redis_pipe(q->redis, c, 2, p, e);
	if (!rc && reply_i64(p[1]) == 0)
		rc = err_set(e, RC_NOTFOUND, "no run %s", run);
	reply_free(p[1]);
	if (rc) {
		reply_free(p[0]);
		p[0] = NULL;
	}
	*ids = p[0];
	return rc;
}

/* Calls `each` with every id and the reply of "<command> {pawl}:j:<id> <words>". */
static enum rc for_jobs(struct queue *q, const struct redis_reply *ids, const char *command,
			const char *words,
			void (*each)(void *ctx, const char *id, const struct redis_reply *p), void *ctx,
			struct err *e)
{
	struct redis_cmd c[PIPE_MAX];
	struct redis_reply *p[PIPE_MAX];
	size_t n;
	enum rc rc = RC_OK;

	for (size_t at = 0; !rc && at < reply_n(ids); at += n) {
		n = reply_n(ids) - at < PIPE_MAX ? reply_n(ids) - at : PIPE_MAX;
		for (size_t i = 0; i < n; i++) {
			c[i] = (struct redis_cmd)REDIS_CMD_INIT;
			cmd_key(&c[i], command, KEY_JOB, reply_text(reply_at(ids, at + i)), words);
		}
		rc = redis_pipe(q->redis, c, n, p, e);
		for (size_t i = 0; !rc && i < n; i++) {
			each(ctx, reply_text(reply_at(ids, at + i)), p[i]);
			reply_free(p[i]);
		}
	}
	return rc;
}

struct jobs_ctx {
	const struct queue_job_filter *filter;
	struct waiting *waiting; /* owned */
	json_t *out;
};

static void jobs_each(void *ctx_, const char *id, const struct redis_reply *h)
{
	struct jobs_ctx *ctx = ctx_;
	const struct queue_job_filter *f = ctx->filter;
	json_t *job;

	if (f && f->stage && strcmp(f->stage, hash_get(h, "stage", "")) != 0)
		return;
	if (f && f->state && strcmp(f->state, hash_get(h, "state", "")) != 0)
		return;
	if (f && f->iter >= 0 && f->iter != hash_i64(h, "iter", 0))
		return;
	job = job_json(id, h);
	waiting_say(ctx->waiting, job, h);
	json_array_append_new(ctx->out, job);
}

enum rc queue_jobs(struct queue *q, const char *run, const struct queue_job_filter *f, json_t **out,
		   struct err *e)
{
	struct jobs_ctx ctx = {.filter = f};
	struct redis_reply *ids = NULL;
	enum rc rc = run_job_ids(q, run, &ids, e);

	*out = NULL;
	if (!rc)
		rc = waiting_load(q, run, &ctx.waiting, e);
	ctx.out = json_array();
	if (!rc)
		rc = for_jobs(q, ids, "HGETALL", "", jobs_each, &ctx, e);
	waiting_free(ctx.waiting);
	reply_free(ids);
	if (rc)
		json_decref(ctx.out);
	else
		*out = ctx.out;
	return rc;
}

static void done_each(void *out, const char *id, const struct redis_reply *v)
{
	json_t *outputs, *o, *roles;
	size_t i;

	if (strcmp(reply_text(reply_at(v, 0)), "done") != 0)
		return;
	outputs = json_of_text(reply_text(reply_at(v, 1)), reply_len(reply_at(v, 1)));
	roles = json_object();
	json_array_foreach(outputs, i, o) {
		json_t *copy = json_copy(o), *meta = json_object_get(o, "meta");
		json_object_set(copy, "rows", json_object_get(meta, "rows"));
		json_object_set_new(roles, jx_get_str(o, "role", ""), copy);
	}
	json_object_set_new(out, id, json_pack("{s:o}", "outputs", roles));
	json_decref(outputs);
}

enum rc queue_done_outputs(struct queue *q, const char *run, json_t **out, struct err *e)
{
	struct redis_reply *ids = NULL;
	json_t *done = json_object();
	enum rc rc = run_job_ids(q, run, &ids, e);

	if (!rc)
		rc = for_jobs(q, ids, "HMGET", "state outputs", done_each, done, e);
	reply_free(ids);
	if (rc) {
		json_decref(done);
		done = NULL;
	}
	*out = done;
	return rc;
}

/* --- runs -------------------------------------------------------------------------------------- */

static json_t *run_counts(const struct redis_reply *h)
{
	json_t *counts = json_object();
	char field[32];

	for (int i = 0; i < JOB_N_STATES; i++) {
		const char *name = job_state_text((enum job_state)i);
		str_fmt(field, sizeof(field), "n:%s", name);
		json_object_set_new(counts, name, json_integer(hash_i64(h, field, 0)));
	}
	return counts;
}

/* Useful and lost work of ended attempts; cost in the unit of the workers' prices. */
static void run_accounts(json_t *r, const struct redis_reply *h)
{
	static const char *const kinds[] = {"useful", "lost"};
	char from[24], to[24];

	for (int i = 0; i < 2; i++) {
		str_fmt(from, sizeof(from), "%s_ms", kinds[i]);
		str_fmt(to, sizeof(to), "%s_s", kinds[i]);
		json_object_set_new(r, to, json_real((double)hash_i64(h, from, 0) / 1e3));
		str_fmt(from, sizeof(from), "%s_cost", kinds[i]);
		json_object_set_new(r, from, json_real((double)hash_i64(h, from, 0) / 1e6));
	}
	json_object_set_new(r, "torn_off", json_integer(hash_i64(h, "torn_off", 0)));
	json_object_set_new(r, "owner", json_text_or_null(hash_get(h, "owner", "")));
	json_object_set_new(r, "max_running", json_integer(hash_i64(h, "max_running", 0)));
	json_object_set_new(r, "drain", json_boolean(hash_i64(h, "hold", 0) == 2));
}

/* What people say of the run. Fields that an older server did not write are as at submission. */
static void run_labels(json_t *r, const struct redis_reply *h, const json_t *spec)
{
	const char *notes = hash_get(h, "notes", NULL);
	json_t *tags = hash_json(h, "tags");

	json_object_set_new(r, "notes", json_string(notes ? notes : jx_get_str(spec, "notes", "")));
	json_object_set_new(r, "tags", json_is_array(tags) ? json_incref(tags) : json_array());
	json_object_set_new(r, "starred", json_boolean(hash_i64(h, "starred", 0) == 1));
	json_object_set_new(r, "revision", json_string(hash_get(h, "rev", "")));
	json_decref(tags);
}

static json_t *run_json(const struct redis_reply *h, bool full)
{
	json_t *record = hash_json(h, "rec"), *spec = json_object_get(record, "spec");
	double weight = 1, vt = 0;
	json_t *r;

	str_to_f64(hash_get(h, "weight", "1"), &weight);
	str_to_f64(hash_get(h, "vt", "0"), &vt);
	r = json_pack("{s:s, s:s, s:s, s:o, s:o, s:b, s:b, s:o, s:I, s:I, s:f, s:f, s:o, s:o}", "id",
		      hash_get(h, "id", ""), "name", hash_get(h, "name", ""), "state",
		      hash_get(h, "state", ""), "created_ms",
		      json_ms_or_null(hash_i64(h, "created", 0)), "ended_ms",
		      json_ms_or_null(hash_i64(h, "ended", 0)), "hold",
		      (int)(hash_i64(h, "hold", 0) == 1), "cancel",
		      (int)!strcmp(hash_get(h, "ending", ""), "cancelled"), "counts", run_counts(h),
		      "total", (json_int_t)hash_i64(h, "total", 0), "class",
		      (json_int_t)hash_i64(h, "class", 5), "weight", weight, "vt", vt, "error",
		      json_text_or_null(hash_get(h, "error", "")), "final_digest",
		      json_text_or_null(hash_get(h, "digest", "")));
	run_accounts(r, h);
	run_labels(r, h, spec);
	json_object_set(r, "iterations", json_object_get(spec, "iterations"));
	json_object_set(r, "seed", json_object_get(spec, "seed"));
	if (full)
		json_object_set(r, "record", record);
	json_decref(record);
	return r;
}

enum rc queue_run(struct queue *q, const char *run, json_t **out, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	enum rc rc;

	*out = NULL;
	if (!word_valid(run, RUN_ID_MAX))
		return err_set(e, RC_NOTFOUND, "no run \"%.32s\"", run);
	cmd_key(&c, "HGETALL", KEY_RUN, run, "");
	rc = redis_call(q->redis, &c, &p, e);
	if (!rc && reply_n(p) == 0)
		rc = err_set(e, RC_NOTFOUND, "no run %s", run);
	if (!rc)
		*out = run_json(p, true);
	reply_free(p);
	return rc;
}

/* Run ids below `before` in the order of creation, newest first: id, score, id, score… */
static enum rc runs_page(struct queue *q, const char *before, struct redis_reply **ids, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;

	redis_cmd_words(&c, "ZREVRANGEBYSCORE " KEY_RUNS);
	redis_cmd_add(&c, before);
	redis_cmd_words(&c, "-inf WITHSCORES LIMIT 0");
	redis_cmd_i64(&c, RUNS_PAGE);
	return redis_call(q->redis, &c, ids, e);
}

static enum rc runs_hashes(struct queue *q, const struct redis_reply *ids, struct redis_reply **hashes,
			   struct err *e)
{
	struct redis_cmd c[RUNS_PAGE];
	size_t n = reply_n(ids) / 2;

	for (size_t i = 0; i < n; i++) {
		c[i] = (struct redis_cmd)REDIS_CMD_INIT;
		cmd_key(&c[i], "HGETALL", KEY_RUN, reply_text(reply_at(ids, 2 * i)), "");
	}
	return redis_pipe(q->redis, c, n, hashes, e);
}

enum rc queue_runs(struct queue *q, const char *state, const char *cursor, int limit, json_t **items,
		   char **next, struct err *e)
{
	char before[32] = "+inf";
	struct redis_reply *ids = NULL, *hashes[RUNS_PAGE];
	json_t *out = json_array();
	int64_t seq;
	bool more = true;
	enum rc rc = RC_OK;

	*items = NULL;
	*next = NULL;
	if (cursor && cursor[0]) {
		if (!str_to_i64(cursor, &seq))
			rc = err_set(e, RC_INVALID, "cursor \"%.32s\" is not one of ours", cursor);
		else
			str_fmt(before, sizeof(before), "(%lld", (long long)seq);
	}
	while (!rc && more && !*next) {
		rc = runs_page(q, before, &ids, e);
		size_t n = reply_n(ids) / 2;
		more = n == RUNS_PAGE;
		if (!rc)
			rc = runs_hashes(q, ids, hashes, e);
		for (size_t i = 0; !rc && i < n; i++) {
			bool fits = !state || !strcmp(state, hash_get(hashes[i], "state", ""));
			/* One more than asked exists: the last one looked at is the cursor. */
			if (fits && !*next && json_array_size(out) == (size_t)limit)
				*next = mem_str(before + 1);
			if (!*next) {
				if (fits)
					json_array_append_new(out, run_json(hashes[i], false));
				str_fmt(before, sizeof(before), "(%lld",
					(long long)reply_i64(reply_at(ids, 2 * i + 1)));
			}
			reply_free(hashes[i]);
		}
		reply_free(ids);
		ids = NULL;
	}
	if (rc)
		json_decref(out);
	else
		*items = out;
	return rc;
}

enum rc queue_each_run(struct queue *q, enum rc (*fn)(void *ctx, const json_t *run, struct err *e),
		       void *ctx, struct err *e)
{
	char *cursor = NULL, *next = NULL;
	json_t *runs, *run;
	size_t i;
	enum rc rc;

	do {
		rc = queue_runs(q, NULL, cursor, EACH_PAGE, &runs, &next, e);
		json_array_foreach(runs, i, run) if (!rc) rc = fn(ctx, run, e);
		json_decref(runs);
		free(cursor);
		cursor = next;
	} while (!rc && cursor);
	free(cursor);
	return rc;
}

enum rc queue_open_runs(struct queue *q, json_t **out, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	enum rc rc;

	*out = NULL;
	redis_cmd_words(&c, "SMEMBERS " KEY_OPEN_RUNS);
	rc = redis_call(q->redis, &c, &p, e);
	if (rc)
		return rc;
	*out = json_array();
	for (size_t i = 0; i < reply_n(p); i++)
		json_array_append_new(*out, json_string(reply_text(reply_at(p, i))));
	reply_free(p);
	return RC_OK;
}

/* --- lists of a job ---------------------------------------------------------------------------- */

/* A list kept without its brackets; empty when that cannot be read. */
static json_t *marks_of(const char *text)
{
	struct buf b = BUF_INIT;
	json_t *marks;

	buf_printf(&b, "[%s]", text);
	marks = json_of_text(b.data, b.len);
	buf_release(&b);
	if (json_is_array(marks))
		return marks;
	json_decref(marks);
	return json_array();
}

/* The attempt that runs now, from the job's fields; NULL when none does. */
static json_t *open_attempt(const struct redis_reply *v)
{
	const char *token = reply_text(reply_at(v, 3));
	bool marked = reply_i64(reply_at(v, 6)) > 0;

	if (strcmp(reply_text(reply_at(v, 0)), "running") != 0)
		return NULL;
	return json_pack("{s:I, s:s, s:I, s:I, s:I, s:o}", "n", (json_int_t)reply_i64(reply_at(v, 1)),
			 "worker", reply_text(reply_at(v, 2)), "started_ms",
			 (json_int_t)reply_i64(reply_at(v, 4)), "fence",
			 (json_int_t)strtoll(token, NULL, 10), "from_progress",
			 (json_int_t)reply_i64(reply_at(v, 5)), "marks",
			 marks_of(marked ? reply_text(reply_at(v, 7)) : ""));
}

enum rc queue_attempts(struct queue *q, const char *job, json_t **out, struct err *e)
{
	static const char *const later[] = {"ended_ms", "end", "reason", "to_progress"};
	struct redis_cmd c[2] = {REDIS_CMD_INIT, REDIS_CMD_INIT};
	struct redis_reply *p[2] = {NULL, NULL};
	json_t *a;
	size_t i;
	enum rc rc;

	*out = NULL;
	cmd_key(&c[0], "LRANGE", KEY_ATTEMPTS, job, "0 -1");
	cmd_key(&c[1], "HMGET", KEY_JOB, job, "state starts worker token ast fpd mks mk la");
	rc = redis_pipe(q->redis, c, 2, p, e);
	if (rc)
		return rc;
	*out = json_array();
	for (i = 0; i < reply_n(p[0]); i++)
		json_array_append_new(*out, json_of_text(reply_text(reply_at(p[0], i)),
							 reply_len(reply_at(p[0], i))));
	if (reply_kind(reply_at(p[1], 8)) == REDIS_TEXT)
		json_array_append_new(*out, json_of_text(reply_text(reply_at(p[1], 8)),
							 reply_len(reply_at(p[1], 8))));
	if ((a = open_attempt(p[1])))
		json_array_append_new(*out, a);
	json_array_foreach(*out, i, a) {
		for (size_t k = 0; k < N_OF(later); k++)
			if (!json_object_get(a, later[k]))
				json_object_set_new(a, later[k], json_null());
		if (!json_object_get(a, "marks"))
			json_object_set_new(a, "marks", json_array());
	}
	reply_free(p[0]);
	reply_free(p[1]);
	return RC_OK;
}

static int by_step(const void *a, const void *b)
{
	json_int_t x = jx_get_i64(*(json_t *const *)a, "step", 0);
	json_int_t y = jx_get_i64(*(json_t *const *)b, "step", 0);

	return (x > y) - (x < y);
}

enum rc queue_metrics(struct queue *q, const char *job, json_t **out, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	json_t **rows;
	size_t n;
	enum rc rc;

	*out = NULL;
	cmd_key(&c, "HVALS", KEY_METRICS, job, "");
	rc = redis_call(q->redis, &c, &p, e);
	if (rc)
		return rc;
	n = reply_n(p);
	rows = mem_array(n + 1, sizeof(json_t *));
	for (size_t i = 0; i < n; i++)
		rows[i] = json_of_text(reply_text(reply_at(p, i)), reply_len(reply_at(p, i)));
	qsort(rows, n, sizeof(json_t *), by_step);
	*out = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(*out, rows[i]);
	free(rows);
	reply_free(p);
	return RC_OK;
}
