/* Random operations on a real Redis and on the model of tests/queue_model.h, compared after each
 * one: live and stale workers, lost replies, duplicate submits, operators, clock jumps of an hour,
 * restarts. PAWL_QUEUE_OPS sets the number of operations in all (100,000), PAWL_QUEUE_SEED the first
 * seed, so that several processes can share them: tests/chaos/model.sh does 10,000,000.
 */
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "queue/combine.h"
#include "queue/internal.h"
#include "queue/keys.h"
#include "tests/queue_compare.h"
#include "tests/queue_fixture.h"
#include "tests/queue_model.h"
#include "tests/test.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS 4
#define JOBS_PER_RUN 9
#define STALL_MS 25000
#define TOGETHER 5 /* calls at most in one journey */
#define OPS 100000
#define OPS_OF_SEED 25000 /* the auditor looks at all there ever was: longer ones go by the square */

static struct queue_fixture f;
static struct err e;
static struct rng r;
static struct qm m;
static const char *const workers[WORKERS] = {"w0", "w1", "w2", "w3"};
static const char *const big[] = {"big", NULL};
static bool drains[WORKERS];
static int64_t last_fence, n_made;
static char events_at[EVENT_ID_MAX];
static enum job_state seen[QM_JOBS]; /* as the events tell */
static bool moved[JOB_N_STATES][JOB_N_STATES];
static int n_ok, n_stale, n_lost, n_burnt_by_preemption, n_together;

static int pick(int n)
{
	return (int)rng_below(&r, (uint32_t)n);
}

/* --- runs --------------------------------------------------------------------------------------
 */

/* The jobs of a run: parents by number within it; p: only workers of the pool; !n: so many suffice.
 */
static const struct shape {
	const char *name;
	int parents[4], n_parents, need;
	int pool, prio;
	bool optional, stall;
} shape[JOBS_PER_RUN] = {
	{"generate.0", {0}, 0, 0, 0, 0, false, true},
	{"generate.1", {0}, 0, 0, 0, 2, false, false},
	{"judge.0", {0}, 1, 1, 0, 0, false, false},
	{"judge.1", {1}, 1, 1, 1, 0, false, false},
	{"judge.2", {0, 1}, 2, 1, 0, 0, true, false},
	{"pair.0", {2, 3, 4}, 3, 2, 0, 0, false, false},
	{"dpo.0", {5}, 1, 1, 1, 0, false, true},
	{"dpo.1", {6}, 1, 1, 1, -3, false, false},
	{"eval.0", {7, 0}, 2, 2, 0, 0, false, false},
};

static json_t *job_json_of(const struct qm_job *j, const struct shape *s)
{
	char stage[16];
	json_t *parents = json_array();

	str_fmt(stage, sizeof(stage), "%.*s", (int)strcspn(s->name, "."), s->name);
	for (int i = 0; i < j->n_parents; i++)
		json_array_append_new(parents, json_string(m.jobs[j->parents[i]].id));
	return json_pack("{s:s, s:s, s:i, s:o, s:i, s:b, s:i, s:I, s:b, s:s*, s:i}", "id", j->id,
			 "stage", stage, "iter", 1, "parents", parents, "need", (int)j->need,
			 "optional", (int)j->optional, "priority", (int)j->prio, "stall_ms",
			 (json_int_t)j->stall, "stall_requeue", 1, "pool", j->pool ? "big" : NULL,
			 "cost_hint", 3);
}

static void add_jobs(int run, int first)
{
	json_t *list = json_array();
	int64_t n = 0;

	for (int k = 0; k < JOBS_PER_RUN; k++) {
		const struct shape *s = &shape[k];
		struct qm_job j = {.run = run,
				   .n_parents = (int8_t)s->n_parents,
				   .need = (int8_t)s->need,
				   .pool = (int8_t)s->pool,
				   .prio = (int8_t)s->prio,
				   .optional = s->optional,
				   .stall = s->stall ? STALL_MS : 0};

		str_fmt(j.id, sizeof(j.id), "%s.1.%s.0", m.runs[run].id, s->name);
		for (int p = 0; p < s->n_parents; p++)
			j.parents[p] = (int8_t)(first + s->parents[p]);
		json_array_append_new(list, job_json_of(&j, s));
		if (first + k < m.n_jobs) { /* takes the place of a run that is over */
			int n_jobs = m.n_jobs;
			m.n_jobs = first + k;
			qm_add(&m, &j);
			m.n_jobs = n_jobs;
		} else {
			qm_add(&m, &j);
		}
		seen[first + k] = m.jobs[first + k].state;
	}
	CHECK_RC(queue_add_jobs(f.q, m.runs[run].id, list, &n, &e), RC_OK);
	CHECK_EQ(n, JOBS_PER_RUN);
	CHECK_RC(queue_add_jobs(f.q, m.runs[run].id, list, &n, &e), RC_OK);
	CHECK_EQ(n, 0);
	json_decref(list);
}

static void make_run(int k)
{
	struct qm_run *run = &m.runs[k];
	char extra[64];

	*run = (struct qm_run){.state = RUN_active,
			       .class = 4 + pick(3),
			       .max_running = pick(3) ? 0 : 1 + pick(3)};
	str_fmt(run->id, sizeof(run->id), "r%lld", (long long)n_made++);
	str_fmt(extra, sizeof(extra), "{\"class\":%d,\"max_running\":%d,\"owner\":\"ada\"}",
		run->class, run->max_running);
	qf_run(&f, run->id, extra);
	add_jobs(k, k * JOBS_PER_RUN);
}

/* --- events -------------------------------------------------------------------------------------
 */

/* I12: every change of a state is one event, in order, and the last one is the state. */
static void read_events(void)
{
	json_t *items = NULL, *item;
	bool gap, more = true;
	size_t i;

	while (more) {
		CHECK_RC(queue_events(f.q, events_at, 0, 1000, &items, &gap, &e), RC_OK);
		CHECK(!gap);
		more = json_array_size(items) > 0;
		json_array_foreach(items, i, item)
		{
			const json_t *d = json_object_get(item, "data");
			const char *from = jx_get_str(d, "from", NULL),
				   *to = jx_get_str(d, "state", "");

			str_copy(events_at, sizeof(events_at), jx_get_str(item, "id", ""));
			for (int k = 0; from && from[0] && k < m.n_jobs; k++) {
				if (strcmp(m.jobs[k].id, jx_get_str(item, "job", "")) != 0)
					continue;
				CHECK_STR(from, job_state_text(seen[k]));
				CHECK(job_state_of(to, &seen[k]));
			}
		}
		json_decref(items);
	}
	for (int k = 0; k < m.n_jobs; k++)
		CHECK_STR(job_state_text(seen[k]), job_state_text(m.jobs[k].state));
}

/* --- workers -----------------------------------------------------------------------------------
 */

/* Which job the worker got, told by Redis when the reply was lost. */
static int who_got(int worker, char token[TOKEN_MAX])
{
	struct redis_cmd c = REDIS_CMD_INIT, d = REDIS_CMD_INIT;
	struct redis_reply *p = NULL, *t = NULL;
	int job = -1;

	cmd_key(&c, "SMEMBERS", KEY_WORKER_JOBS, workers[worker], "");
	CHECK_RC(redis_call(queue_redis(f.q), &c, &p, &e), RC_OK);
	for (size_t i = 0; i < reply_n(p); i++)
		for (int k = 0; k < m.n_jobs; k++)
			if (m.jobs[k].state != JOB_running &&
			    !strcmp(m.jobs[k].id, reply_text(reply_at(p, i))))
				job = k;
	reply_free(p);
	if (job < 0)
		return -1;
	cmd_key(&d, "HGET", KEY_JOB, m.jobs[job].id, "token");
	CHECK_RC(redis_call(queue_redis(f.q), &d, &t, &e), RC_OK);
	str_copy(token, TOKEN_MAX, reply_text(t));
	reply_free(t);
	return job;
}

/* I5: fences rise. The reply may be lost: then nobody works on the job until its lease is over. */
static void claimed(int worker, int job, const char *token)
{
	const char *why = qm_may_claim(&m, job, worker == 3 ? 2 : 0);

	if (why[0])
		test_fail(__FILE__, __LINE__, why);
	CHECK(strtoll(token, NULL, 10) > last_fence);
	last_fence = strtoll(token, NULL, 10);
	qm_claim(&m, job, worker, token);
}

/* A job and a token for it: current, of an earlier lease, of its end, or nonsense. */
static int some_token(char token[TOKEN_MAX])
{
	int k = pick(m.n_jobs);
	struct qm_job *j;

	for (int i = 0; i < 30 && !m.jobs[k].token[0]; i++)
		k = pick(m.n_jobs);
	j = &m.jobs[k];
	if (j->token[0] && pick(4))
		str_copy(token, TOKEN_MAX, j->token);
	else if (j->n_old && pick(8))
		str_copy(token, TOKEN_MAX, j->old[pick(j->n_old < QM_OLD ? j->n_old : QM_OLD)]);
	else
		str_copy(token, TOKEN_MAX, pick(2) && j->done_token[0] ? j->done_token : "1.00");
	return k;
}

/* What a worker says: thought of (ask_), said from any thread (say), and held against the model in the
 * order in which Redis heard it (heard_). */
struct word {
	enum { CLAIM, BEAT, COMPLETE, FAIL } verb;
	int job, worker; /* worker: that claims, -1 when none does */
	char token[TOKEN_MAX];
	bool progress, save;
	int step;
	enum queue_fail_kind kind;
	/* The answer. */
	enum rc rc;
	enum queue_action action;
	bool again;
	json_t *claim;
	struct err e;
};

static enum rc say_complete(struct word *w, const struct queue_claim_req *req)
{
	json_t *out = json_pack("[{s:s, s:s, s:s, s:i, s:{}}]", "role", "data", "kind", "dataset",
				"digest",
				"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
				"size", 1, "meta");
	enum rc rc = queue_complete(f.q, m.jobs[w->job].id, w->token, out, NULL, NULL,
				    w->worker >= 0 ? req : NULL, &w->again,
				    w->worker >= 0 ? &w->claim : NULL, &w->e);

	json_decref(out);
	return rc;
}

static enum rc say_beat(struct word *w)
{
	json_t *beat = json_object();
	enum rc rc;

	if (w->progress)
		json_object_set_new(beat, "progress",
				    json_pack("{s:i, s:i, s:s}", "done", w->step, "total", w->step,
					      "unit", "rows"));
	if (w->save)
		json_object_set_new(beat, "checkpoint", json_pack("{s:i}", "n", w->step));
	rc = queue_beat(f.q, m.jobs[w->job].id, w->token, beat, &w->action, &w->e);
	json_decref(beat);
	return rc;
}

static void *say(void *word)
{
	struct word *w = word;
	struct queue_claim_req req = {.worker = w->worker >= 0 ? workers[w->worker] : "",
				      .pools = w->worker == 3 ? big : NULL};

	w->rc = w->verb == CLAIM      ? queue_claim(f.q, &req, &w->claim, &w->e)
		: w->verb == BEAT     ? say_beat(w)
		: w->verb == COMPLETE ? say_complete(w, &req)
				      : queue_fail(f.q, m.jobs[w->job].id, w->token, w->kind, NULL, &w->e);
	return NULL;
}

static void answered(enum rc got, enum rc want)
{
	CHECK_EQ(got, want);
	n_ok += want == RC_OK;
	n_stale += want == RC_STALE;
}

/* The claim that came with an answer; NULL when there was no work. */
static void heard_claim(const struct word *w)
{
	const char *id = jx_get_str(json_object_get(w->claim, "job"), "id", "");
	int job = m.n_jobs - 1;

	CHECK_EQ(w->claim != NULL, !drains[w->worker] && qm_work_for(&m, w->worker == 3 ? 2 : 0));
	if (!w->claim)
		return;
	while (job >= 0 && strcmp(m.jobs[job].id, id) != 0)
		job--;
	CHECK(job >= 0);
	claimed(w->worker, job, jx_get_str(w->claim, "token", ""));
}

static void ask_claim(struct word *w)
{
	*w = (struct word){.verb = CLAIM, .worker = pick(WORKERS)};
}

static void op_claim(void)
{
	struct word w;
	char token[TOKEN_MAX];
	int job;

	ask_claim(&w);
	say(&w);
	CHECK_RC(w.rc, RC_OK);
	job = who_got(w.worker, token);
	CHECK_EQ(w.claim != NULL, job >= 0);
	if (w.claim)
		CHECK_STR(jx_get_str(w.claim, "token", ""), token);
	heard_claim(&w);
	json_decref(w.claim);
}

static void ask_beat(struct word *w)
{
	static int step;

	*w = (struct word){.verb = BEAT, .worker = -1, .step = ++step};
	w->job = some_token(w->token);
	w->progress = pick(2);
	w->save = pick(4) == 0;
}

static void heard_beat(const struct word *w)
{
	const struct qm_job *j = &m.jobs[w->job];
	enum queue_action want = QUEUE_CONTINUE;
	bool draining = j->worker >= 0 && drains[j->worker];
	enum rc rc = qm_beat(&m, w->job, w->token, w->progress, w->save, draining, &want);

	answered(w->rc, rc);
	CHECK_EQ(w->action, want);
}

static void op_beat(void)
{
	struct word w;

	ask_beat(&w);
	say(&w);
	heard_beat(&w);
}

static void ask_complete(struct word *w)
{
	*w = (struct word){.verb = COMPLETE};
	w->job = some_token(w->token);
	w->worker = pick(3) ? -1 : pick(WORKERS);
}

static void heard_complete(const struct word *w)
{
	bool want;
	enum rc rc = qm_complete(&m, w->job, w->token, &want);

	answered(w->rc, rc);
	CHECK_EQ(rc == RC_OK && w->again, rc == RC_OK && want);
	if (w->worker >= 0 && rc == RC_OK && !want)
		heard_claim(w);
	else
		CHECK(w->claim == NULL);
}

/* One time in three the reply is lost, and the worker says it again. */
static void op_complete(void)
{
	struct word w;
	char granted[TOKEN_MAX];

	ask_complete(&w);
	say(&w);
	if (w.worker >= 0)
		CHECK_EQ(who_got(w.worker, granted) >= 0, w.claim != NULL);
	heard_complete(&w);
	json_decref(w.claim);
	if (w.rc == RC_OK && pick(3) == 0) {
		w.worker = -1;
		w.claim = NULL;
		say(&w);
		heard_complete(&w);
	}
}

/* When it may be tried again is drawn in Redis. */
static void learn_due(int k)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	int64_t most = (int64_t)1000 << m.jobs[k].att;

	redis_cmd_words(&c, "ZSCORE " KEY_TAG "delayed");
	redis_cmd_add(&c, m.jobs[k].id);
	CHECK_RC(redis_call(queue_redis(f.q), &c, &p, &e), RC_OK);
	m.jobs[k].due = reply_i64(p);
	reply_free(p);
	CHECK(m.jobs[k].due >= m.clock && m.jobs[k].due <= m.clock + most);
}

static void ask_fail(struct word *w)
{
	*w = (struct word){.verb = FAIL, .worker = -1};
	w->job = some_token(w->token);
	w->kind = (enum queue_fail_kind)pick(3);
}

static void heard_fail(const struct word *w)
{
	const struct qm_job *j = &m.jobs[w->job];
	int before = j->att;
	bool ran = j->state == JOB_running;

	answered(w->rc, qm_fail(&m, w->job, w->token, w->kind));
	if (w->kind == QUEUE_FAIL_PREEMPTED)
		n_burnt_by_preemption += j->att != before;
	if (ran && j->state == JOB_delayed)
		learn_due(w->job);
}

static void op_fail(void)
{
	struct word w;

	ask_fail(&w);
	say(&w);
	heard_fail(&w);
	if (w.rc == RC_OK && pick(3) == 0) { /* the reply was lost */
		say(&w);
		CHECK_RC(w.rc, qm_fail(&m, w.job, w.token, w.kind));
	}
}

/* Several workers at once, whose calls go to Redis as one: each is answered as if they had come one after
 * the other (queue/combine.h). */
static void op_together(void)
{
	static void (*const asks[])(struct word *) = {ask_claim, ask_beat, ask_complete, ask_fail};
	static void (*const heards[])(const struct word *) = {heard_claim, heard_beat, heard_complete,
							      heard_fail};
	struct word w[TOGETHER];
	pthread_t t[TOGETHER];
	int n = 2 + pick(TOGETHER - 1);

	combine_gather(f.q->combine, n);
	for (int i = 0; i < n; i++) {
		asks[pick(8) ? pick(3) : 3](&w[i]);
		CHECK_EQ(pthread_create(&t[i], NULL, say, &w[i]), 0);
		while (i < n - 1 && combine_n_waiting(f.q->combine) <= i)
			sched_yield();
	}
	for (int i = 0; i < n; i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
	for (int i = 0; i < n; i++) {
		heards[w[i].verb](&w[i]);
		json_decref(w[i].claim);
		n_together++;
	}
}

static bool run_over(int k)
{
	enum run_state s = m.runs[k].state;

	return s == RUN_done || s == RUN_failed || s == RUN_cancelled;
}

/* --- operators ---------------------------------------------------------------------------------
 */

static void op_run(void)
{
	static enum rc (*const holds[])(struct queue *, const char *, struct err *) = {
		queue_resume_run, queue_pause_run, queue_drain_run};
	int k = pick(QM_RUNS), hold = pick(12);
	const char *id = m.runs[k].id;
	int64_t n;

	switch (pick(24)) {
	case 0:
		CHECK_EQ(queue_cancel_run(f.q, id, &e), qm_stop(&m, k, false));
		break;
	case 1:
		CHECK_EQ(queue_fail_run(f.q, id, "no", &e), qm_stop(&m, k, true));
		break;
	case 2:
	case 3:
	case 4:
	case 6:
	case 7:
		CHECK_EQ(queue_retry_run(f.q, id, &n, &e), qm_retry_run(&m, k));
		break;
	case 5: {
		int class = 3 + pick(4), weight = 1 + pick(3), most = pick(3);
		json_t *t = json_pack("{s:i, s:i, s:i}", "class", class, "weight", weight,
				      "max_running", most);
		bool over = run_over(k);
		CHECK_EQ(queue_tune_run(f.q, id, t, &e), over ? RC_CONFLICT : RC_OK);
		m.runs[k].class = over ? m.runs[k].class : class;
		m.runs[k].max_running = over ? m.runs[k].max_running : most;
		json_decref(t);
		break;
	}
	default:
		hold = hold < 3 ? hold : 0;
		CHECK_EQ(holds[hold](f.q, id, &e), qm_hold(&m, k, hold));
	}
}

static void op_job(void)
{
	int k = pick(m.n_jobs);
	bool subtree = pick(2);
	int64_t n;

	switch (pick(12)) {
	case 0:
		CHECK_RC(queue_cancel_job(f.q, m.jobs[k].id, &e), RC_OK);
		qm_cancel_job(&m, k);
		break;
	case 1:
		CHECK_EQ(queue_invalidate_job(f.q, m.jobs[k].id, &n, &e), qm_invalidate(&m, k));
		break;
	case 2: {
		int prio = pick(19) - 9;
		bool over = job_state_terminal(m.jobs[k].state);
		CHECK_EQ(queue_prioritize_job(f.q, m.jobs[k].id, prio, &e),
			 over ? RC_CONFLICT : RC_OK);
		m.jobs[k].prio = (int8_t)(over ? m.jobs[k].prio : prio);
		break;
	}
	default:
		CHECK_EQ(queue_retry_job(f.q, m.jobs[k].id, subtree, &n, &e),
			 qm_retry_job(&m, k, subtree));
	}
}

static void op_limits(void)
{
	int w = pick(WORKERS);
	struct queue_quota quota = {.running = pick(4) ? 0 : 1 + pick(3)};

	if (pick(2)) {
		CHECK_RC(queue_quota_set(f.q, "ada", &quota, &e), RC_OK);
		m.owner_running = (int)quota.running;
		return;
	}
	drains[w] = pick(5) == 0;
	CHECK_RC(drains[w] ? queue_worker_drain(f.q, workers[w], &e)
			   : queue_worker_take(f.q, workers[w], &e),
		 RC_OK);
}

/* I11: the same submission is the same run. */
static void op_submit_again(void)
{
	const char *id = m.runs[pick(QM_RUNS)].id;
	json_t *record = json_pack("{s:s}", "id", id);
	char run[RUN_ID_MAX];
	bool existed = false;

	CHECK_RC(queue_submit(f.q, record, NULL, NULL, run, &existed, &e), RC_OK);
	CHECK(existed);
	CHECK_STR(run, id);
	json_decref(record);
}

/* I9: the lease clock moves by 2 s at most, whatever the wall clock does, and never back. */
static void op_tick(void)
{
	static const int64_t steps[] = {300, 1000, 1000, 2500, 4000, 3600000, -3600000};
	int64_t step = steps[pick(7)], want = step < 0			   ? 0
					      : step < TICK_ADVANCE_MS_MAX ? step
									   : TICK_ADVANCE_MS_MAX;
	struct queue_tick t;

	f.now_ms += step;
	t = qf_pass(&f, 0, 1);
	CHECK_EQ(t.lease_clock_ms - m.clock, want);
	qm_tick(&m, want);
	CHECK_EQ(t.n_expired, m.n_expired);
	CHECK_EQ(t.n_due, m.n_due);
	CHECK_EQ(t.n_cancelled, m.n_cancelled);
	n_lost += m.n_expired;
}

/* All workers are away for longer than a lease. */
static void op_away(void)
{
	for (int i = 0; i < 7; i++)
		op_tick();
}

static void op_finish(void)
{
	int k = pick(QM_RUNS), n = qm_n(&m, k, JOB_done) - (pick(4) == 0);
	bool finished;

	CHECK_RC(queue_finish_run(f.q, m.runs[k].id, n, NULL, &finished, &e), RC_OK);
	CHECK_EQ(finished, qm_finish(&m, k, n));
	if (run_over(k) && pick(3) == 0)
		make_run(k);
}

static void (*const ops[])(void) = {
	op_claim,  op_claim,	op_claim,    op_claim,	  op_beat,	   op_beat,
	op_beat,   op_complete, op_complete, op_fail,	  op_run,	   op_job,
	op_limits, op_tick,	op_tick,     op_finish,	  op_submit_again, op_claim,
	op_claim,  op_complete, op_beat,     op_complete, op_away,	   op_together,
};

/* --- all together ------------------------------------------------------------------------------
 */

/* Liveness: with workers of every kind, and nobody to interfere, everything ends (I19). */
static void comes_to_an_end(void)
{
	struct queue_claim_req req = {.worker = "w3", .pools = big};
	int64_t n;

	CHECK_RC(queue_quota_set(f.q, "ada", &(struct queue_quota){0}, &e), RC_OK);
	CHECK_RC(queue_worker_take(f.q, "w3", &e), RC_OK);
	for (int k = 0; k < m.n_runs; k++)
		queue_resume_run(f.q, m.runs[k].id, &e);
	m.clock = qf_pass(&f, 200000, 2000).lease_clock_ms;
	for (int k = 0; k < m.n_runs; k++) {
		CHECK_RC(queue_retry_run(f.q, m.runs[k].id, &n, &e), RC_OK);
		queue_resume_run(f.q, m.runs[k].id, &e);
	}
	for (int idle = 0; idle < 5; idle++) {
		json_t *claim = NULL;

		CHECK_RC(queue_claim(f.q, &req, &claim, &e), RC_OK);
		if (claim) {
			CHECK_RC(qf_complete(&f,
					     jx_get_str(json_object_get(claim, "job"), "id", ""),
					     jx_get_str(claim, "token", ""), 'a'),
				 RC_OK);
			idle = 0;
		}
		json_decref(claim);
	}
	for (int i = 0; i < m.n_jobs; i++)
		qf_state(&f, m.jobs[i].id, "done");
}

static int64_t setting(const char *name, int64_t other)
{
	const char *text = getenv(name);
	int64_t n = other;

	CHECK(!text || str_to_i64(text, &n));
	return n;
}

/* An empty queue: the auditor looks at everything there ever was. */
static void fresh(void)
{
	struct redis_cmd c = REDIS_CMD_INIT;

	redis_cmd_words(&c, "FLUSHALL");
	CHECK_RC(redis_call(queue_redis(f.q), &c, NULL, &e), RC_OK);
	queue_close(f.q);
	f.q = redis_fixture_queue(&f.redis, 10000);
	qf_pass(&f, 0, 1);
}

static void one_seed(uint64_t seed, int64_t n)
{
	rng_open(&r, seed, RNG_TEST, 1, 0, 0);

	fresh();
	memset(&m, 0, sizeof(m));
	memset(drains, 0, sizeof(drains));
	m.ttl = queue_lease_ms(f.q);
	m.grace = CANCEL_GRACE_MS;
	m.poison = LOSSES_PER_ATTEMPT;
	m.max_att = ATTEMPTS_MAX_DEFAULT;
	m.n_runs = QM_RUNS;
	last_fence = n_made = 0;
	for (int i = 0; i < WORKERS; i++)
		qf_worker(&f, workers[i]);
	for (int k = 0; k < QM_RUNS; k++)
		make_run(k);
	str_copy(events_at, sizeof(events_at), "0-0");
	CHECK_RC(queue_snapshot_id(f.q, events_at, &e), RC_OK);
	for (int64_t i = 0; i < n; i++) {
		ops[pick((int)(sizeof(ops) / sizeof(*ops)))]();
		qm_compare(&m, f.q);
		if (i % 10 == 0)
			read_events();
		if (i % 200 == 0)
			qf_audit(&f);
	}
	for (int k = 0; k < JOB_N_STATES * JOB_N_STATES; k++)
		(&moved[0][0])[k] |= (&m.moved[0][0])[k];
	printf("# seed %llu: %lld operations, %lld runs, %d accepted, %d stale, %d leases lost\n",
	       (unsigned long long)seed, (long long)n, (long long)n_made, n_ok, n_stale, n_lost);
	fflush(stdout); /* hours may lie ahead */
	CHECK_EQ(n_burnt_by_preemption, 0);
	comes_to_an_end();
	qf_audit(&f);
}

/* How many of the moves that states.def allows were made so far. */
static int n_moves_of(int *all)
{
	int n = 0;

	*all = 0;
	for (int k = 0; k < JOB_N_STATES * JOB_N_STATES; k++) {
		n += (&moved[0][0])[k];
		*all += job_may_move((enum job_state)(k / JOB_N_STATES),
				     (enum job_state)(k % JOB_N_STATES));
	}
	return n;
}

/* The rarest moves need a seed more now and then: Redis draws how long a failed job waits. */
void test_queue_model__agrees_with_redis_after_every_operation(void)
{
	int64_t want = setting("PAWL_QUEUE_OPS", OPS), each = want < OPS ? want / 4 : OPS_OF_SEED;
	int64_t today = clk_now_ms() / 86400000, seed = setting("PAWL_QUEUE_SEED", 0);
	int all = 0, made;

	qf_open(&f, true);
	if (seed == 0) /* nobody asked for certain ones: every day has its own */
		one_seed((uint64_t)today, each);
	for (int64_t k = seed == 0; k < want / each; k++)
		one_seed((uint64_t)(seed + k), each);
	seed += want / each;
	for (int more = 0; more < 6 && want >= OPS && n_moves_of(&all) < all; more++)
		one_seed((uint64_t)seed++, each);
	qf_close(&f);
	made = n_moves_of(&all);
	printf("# %d of %d moves\n", made, all);
	CHECK(n_ok > 0 && n_stale > 0 && n_lost > 0 && n_together > 0);
	if (want >= OPS)
		CHECK_EQ(made, all);
}
