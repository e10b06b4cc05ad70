/* Who may run what, how much at a time, and in what order: pools, priorities, quotas, draining,
 * ageing; work invalidated or stuck; what was useful and what was lost.
 */
#include "base/jsonx.h"
#include "base/str.h"
#include "queue/internal.h"
#include "tests/queue_fixture.h"
#include "tests/test.h"

#include <math.h>
#include <string.h>

static struct queue_fixture f;
static struct err e;
static char job[JOB_ID_MAX], token[TOKEN_MAX];
static double loss_every_s;

static void add(const char *run, const char *text)
{
	json_t *jobs = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL), *j;
	char id[JOB_ID_MAX];
	size_t i;
	int64_t n = 0;

	CHECK(jobs != NULL);
	json_array_foreach(jobs, i, j)
	{
		str_fmt(id, sizeof(id), "%s.1.%s.%lld.0", run, jx_get_str(j, "stage", ""),
			(long long)jx_get_i64(j, "shard", 0));
		json_object_set_new(j, "id", json_string(id));
		json_object_set_new(j, "iter", json_integer(1));
		if (!json_object_get(j, "parents"))
			json_object_set_new(j, "parents", json_array());
	}
	CHECK_RC(queue_add_jobs(f.q, run, jobs, &n, &e), RC_OK);
	CHECK_EQ(n, (int64_t)json_array_size(jobs));
	json_decref(jobs);
}

static bool claim_in(const char *worker, const char *const *pools)
{
	struct queue_claim_req r = {.worker = worker, .pools = pools};
	json_t *claim = NULL;

	CHECK_RC(queue_claim(f.q, &r, &claim, &e), RC_OK);
	if (!claim)
		return false;
	str_copy(job, sizeof(job), jx_get_str(json_object_get(claim, "job"), "id", ""));
	str_copy(token, sizeof(token), jx_get_str(claim, "token", ""));
	loss_every_s = jx_get_f64(json_object_get(claim, "job"), "loss_every_s", 0);
	json_decref(claim);
	qf_audit(&f);
	return true;
}

static bool claim(void)
{
	return claim_in("w", NULL);
}

static void waits(const char *id, const char *want)
{
	json_t *doc = NULL;

	CHECK_RC(queue_job(f.q, id, &doc, &e), RC_OK);
	CHECK_STR(jx_get_str(doc, "wait_reason", "-"), want);
	json_decref(doc);
}

static double run_number(const char *run, const char *field)
{
	json_t *doc = NULL;
	double v;

	CHECK_RC(queue_run(f.q, run, &doc, &e), RC_OK);
	v = jx_get_f64(doc, field, NAN);
	json_decref(doc);
	return v;
}

void test_queue_limits__a_pool_is_for_its_workers_alone(void)
{
	static const char *const pools[] = {"h100", NULL};

	qf_open(&f, true);
	qf_worker(&f, "w");
	qf_run(&f, "ra", NULL);
	add("ra", "[{\"stage\":\"dpo\",\"pool\":\"h100\"}]");
	CHECK(!claim());
	waits("ra.1.dpo.0.0", "none of 1 workers takes the stage \"dpo\" in the pool \"h100\"");
	CHECK(claim_in("w", pools));
	CHECK_STR(job, "ra.1.dpo.0.0");
	add("ra", "[{\"stage\":\"generate\"}]");
	CHECK(claim_in("w", pools));
	CHECK_STR(job, "ra.1.generate.0.0");
	CHECK_RC(queue_claim(f.q,
			     &(struct queue_claim_req){.worker = "w",
						       .pools = (const char *[]){"a,b", NULL}},
			     &(json_t *){NULL}, &e),
		 RC_INVALID);
	qf_close(&f);
}

void test_queue_limits__priority_goes_before_age(void)
{
	qf_open(&f, true);
	qf_worker(&f, "w");
	qf_run(&f, "ra", NULL);
	add("ra", "[{\"stage\":\"generate\",\"shard\":0},{\"stage\":\"generate\",\"shard\":1,"
		  "\"priority\":2},"
		  "{\"stage\":\"generate\",\"shard\":2},{\"stage\":\"generate\",\"shard\":3,"
		  "\"priority\":-1}]");
	CHECK_RC(queue_prioritize_job(f.q, "ra.1.generate.2.0", 9, &e), RC_OK);
	CHECK_RC(queue_prioritize_job(f.q, "ra.1.generate.2.0", 10, &e), RC_INVALID);
	for (const char *want = "2103"; *want; want++) {
		CHECK(claim());
		CHECK_EQ(job[strlen("ra.1.generate.")], *want);
	}
	qf_close(&f);
}

void test_queue_limits__a_run_keeps_within_max_running(void)
{
	json_t *more = json_pack("{s:i, s:f, s:i}", "class", 5, "weight", 1.0, "max_running", 2);

	qf_open(&f, true);
	qf_worker(&f, "w");
	qf_run(&f, "ra", "{\"max_running\":1}");
	qf_jobs(&f, "ra", "generate.0 generate.1 generate.2");
	CHECK(claim());
	CHECK(!claim());
	waits("ra.1.generate.1.0", "the run may have 1 jobs running, and has");
	CHECK_RC(queue_tune_run(f.q, "ra", more, &e), RC_OK);
	qf_audit(&f);
	CHECK(claim());
	CHECK(!claim());
	CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
	CHECK(claim());
	json_object_set_new(more, "max_running", json_integer(-1));
	CHECK_RC(queue_tune_run(f.q, "ra", more, &e), RC_INVALID);
	json_decref(more);
	qf_close(&f);
}

void test_queue_limits__an_owner_keeps_within_the_quota(void)
{
	struct queue_quota quota = {.runs = 2, .running = 2};
	json_t *record = json_loads("{\"id\":\"rc\",\"owner\":\"ada\"}", 0, NULL), *list = NULL;
	char run[RUN_ID_MAX];
	bool existed;

	qf_open(&f, true);
	qf_worker(&f, "w");
	qf_run(&f, "ra", "{\"owner\":\"ada\"}");
	qf_jobs(&f, "ra", "generate.0 generate.1");
	CHECK(claim());
	CHECK_RC(queue_quota_set(f.q, "ada", &quota, &e), RC_OK);
	qf_audit(&f);
	qf_run(&f, "rb", "{\"owner\":\"ada\"}");
	qf_jobs(&f, "rb", "generate.0 generate.1");
	CHECK_RC(queue_submit(f.q, record, NULL, NULL, run, &existed, &e), RC_FULL);
	CHECK_STR(e.text, "ada has 2 open runs, the quota is 2");
	CHECK(claim());
	CHECK(!claim());
	waits("rb.1.generate.1.0", "the quota of ada is 2 running jobs");
	CHECK_RC(queue_quotas(f.q, &list, &e), RC_OK);
	CHECK_EQ(jx_get_i64(json_object_get(list, "ada"), "used_running", -1), 2);
	CHECK_EQ(jx_get_i64(json_object_get(list, "ada"), "used_runs", -1), 2);
	json_decref(list);
	CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
	qf_audit(&f);
	CHECK(claim());
	CHECK_RC(queue_quota_set(f.q, "ada", &(struct queue_quota){0}, &e), RC_OK);
	CHECK(claim());
	json_decref(record);
	qf_close(&f);
}

void test_queue_limits__gpu_hours_are_of_the_day(void)
{
	struct queue_quota quota = {.gpu_hours = 0.001}; /* 3.6 s */

	qf_open(&f, true);
	qf_worker(&f, "w");
	CHECK_RC(queue_quota_set(f.q, "ada", &quota, &e), RC_OK);
	qf_run(&f, "ra", "{\"owner\":\"ada\"}");
	qf_jobs(&f, "ra", "generate.0 generate.1 generate.2");
	CHECK(claim());
	qf_pass(&f, 4000, 1000);
	CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
	CHECK(!claim());
	waits("ra.1.generate.1.0", "ada has used its 0.001 GPU-hours of today");
	qf_close(&f);
}

void test_queue_limits__a_draining_run_finishes_what_runs(void)
{
	enum queue_action action;

	qf_open(&f, true);
	qf_worker(&f, "w");
	qf_run(&f, "ra", NULL);
	qf_jobs(&f, "ra", "generate.0 generate.1");
	CHECK(claim());
	CHECK_RC(queue_drain_run(f.q, "ra", &e), RC_OK);
	qf_run_state(&f, "ra", "draining");
	CHECK_RC(queue_beat(f.q, job, token, NULL, &action, &e), RC_OK);
	CHECK_EQ(action, QUEUE_CONTINUE);
	CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
	CHECK(!claim());
	waits("ra.1.generate.1.0", "the run is draining: nothing new begins");
	CHECK_RC(queue_resume_run(f.q, "ra", &e), RC_OK);
	CHECK(claim());
	qf_close(&f);
}

void test_queue_limits__waiting_improves_the_class(void)
{
	qf_open(&f, true);
	qf_worker(&f, "w");
	qf_run(&f, "rlow", "{\"class\":6}");
	qf_jobs(&f, "rlow", "generate.0");
	/* Thirteen hours of lease clock, in the largest steps it takes. */
	qf_pass(&f, 13 * 3600000, 2000);
	qf_run(&f, "rhigh", "{\"class\":5}");
	qf_jobs(&f, "rhigh", "generate.0");
	CHECK(claim());
	CHECK_STR(job, "rlow.1.generate.0.0");
	CHECK(claim());
	qf_close(&f);
}

void test_queue_limits__invalid_work_is_done_again_and_all_that_came_of_it(void)
{
	int64_t n = 0;
	char old[TOKEN_MAX];

	qf_open(&f, true);
	qf_worker(&f, "w");
	qf_run(&f, "ra", NULL);
	qf_jobs(&f, "ra",
		"generate.0 generate.1 judge.0<generate.0 pair.0<judge.0,generate.1 eval.0<pair.0");
	for (int i = 0; i < 4; i++) {
		CHECK(claim());
		CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
	}
	CHECK(claim());
	CHECK_STR(job, "ra.1.eval.0.0");
	str_copy(old, sizeof(old), token);
	CHECK_RC(queue_invalidate_job(f.q, "ra.1.eval.0.0", &n, &e), RC_CONFLICT);
	CHECK_RC(queue_invalidate_job(f.q, "ra.1.judge.0.0", &n, &e), RC_OK);
	CHECK_EQ(n, 3);
	qf_audit(&f);
	qf_state(&f, "ra.1.generate.0.0", "done");
	qf_state(&f, "ra.1.judge.0.0", "ready");
	qf_state(&f, "ra.1.pair.0.0", "blocked");
	qf_state(&f, "ra.1.eval.0.0", "blocked");
	CHECK_RC(qf_complete(&f, "ra.1.eval.0.0", old, 'b'), RC_STALE);
	CHECK_EQ(qf_number(&f, "ra.1.judge.0.0", "generation"), 1);
	for (const char *const *want = (const char *const[]){"judge", "pair", "eval", NULL}; *want;
	     want++) {
		CHECK(claim());
		CHECK(strstr(job, *want) != NULL);
		CHECK_RC(qf_complete(&f, job, token, 'c'), RC_OK);
	}
	CHECK(!claim());
	qf_close(&f);
}

static enum rc beat_at(int done, enum queue_action *action)
{
	json_t *beat = json_pack("{s:{s:i, s:i, s:s}}", "progress", "done", done, "total", 10,
				 "unit", "rows");
	enum rc rc = queue_beat(f.q, job, token, beat, action, &e);

	json_decref(beat);
	return rc;
}

static bool is_stuck(void)
{
	json_t *doc = NULL;
	bool stuck;

	CHECK_RC(queue_job(f.q, job, &doc, &e), RC_OK);
	stuck = jx_get_bool(doc, "stuck", false);
	json_decref(doc);
	return stuck;
}

void test_queue_limits__beats_do_not_keep_a_stuck_job(void)
{
	enum queue_action action;
	int alarm_s = 0, pause_s = 0, lost_s = 0;

	qf_open(&f, true);
	qf_worker(&f, "w");
	qf_run(&f, "ra", NULL);
	add("ra", "[{\"stage\":\"sft\",\"stall_ms\":20000,\"stall_requeue\":true}]");
	CHECK(claim());
	for (int i = 0; i < 10; i++) { /* progress: no alarm in 50 s */
		qf_pass(&f, 5000, 1000);
		CHECK_RC(beat_at(i, &action), RC_OK);
		CHECK_EQ(action, QUEUE_CONTINUE);
	}
	CHECK(!is_stuck());
	for (int s = 1; s < 100 && !lost_s; s++) {
		qf_pass(&f, 1000, 1000);
		if (beat_at(9, &action) == RC_STALE)
			lost_s = s;
		else if (action == QUEUE_PAUSE && !pause_s)
			pause_s = s;
		if (!alarm_s && is_stuck())
			alarm_s = s;
	}
	CHECK_EQ(alarm_s, 20);
	CHECK_EQ(pause_s, 40);
	CHECK_EQ(lost_s, 60);
	qf_state(&f, job, "ready");
	CHECK_EQ(qf_number(&f, job, "losses"), 1);
	CHECK_EQ(qf_number(&f, job, "attempts"), 0);
	qf_close(&f);
}

void test_queue_limits__work_is_useful_up_to_the_last_checkpoint(void)
{
	json_t *info = json_pack("{s:s, s:f}", "name", "dear", "price_per_hour", 3.6), *beat,
	       *list = NULL;
	enum queue_action action;

	qf_open(&f, true);
	CHECK_RC(queue_worker_register(f.q, "w", info, &e), RC_OK);
	qf_run(&f, "ra", NULL);
	qf_jobs(&f, "ra", "sft.0");
	CHECK(claim());
	CHECK_NEAR(loss_every_s, LOSS_PRIOR_S, 1e-9);
	qf_pass(&f, 6000, 1000);
	beat = json_pack("{s:{s:i}}", "checkpoint", "step", 1);
	CHECK_RC(queue_beat(f.q, job, token, beat, &action, &e), RC_OK);
	qf_pass(&f, 2000, 1000);
	CHECK_RC(queue_fail(f.q, job, token, QUEUE_FAIL_PREEMPTED, NULL, &e), RC_OK);
	CHECK_NEAR(run_number("ra", "useful_s"), 6, 1e-9);
	CHECK_NEAR(run_number("ra", "lost_s"), 2, 1e-9);
	CHECK_NEAR(run_number("ra", "useful_cost"), 6 * 3.6 / 3600, 1e-6);
	CHECK_NEAR(run_number("ra", "lost_cost"), 2 * 3.6 / 3600, 1e-6);
	CHECK(claim()); /* It is told how often a worker was lost: once in eight seconds. */
	CHECK_NEAR(loss_every_s, (LOSS_PRIOR_S + 8) / 2.0, 1e-9);
	qf_pass(&f, 3000, 1000);
	CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
	CHECK_NEAR(run_number("ra", "useful_s"), 9, 1e-9);
	CHECK_NEAR(run_number("ra", "lost_s"), 2, 1e-9);
	CHECK_NEAR(run_number("ra", "torn_off"), 1, 0);
	struct queue_tick t; /* Tells of all runs. */
	CHECK_RC(queue_tick(f.q, &t, &e), RC_OK);
	CHECK_EQ(t.work.useful_ms, 9000);
	CHECK_EQ(t.work.lost_ms, 2000);
	CHECK_EQ(t.work.useful_cost, 9000);
	CHECK_EQ(t.work.lost_cost, 2000);
	CHECK_EQ(t.work.torn_off, 1);
	CHECK_RC(queue_attempts(f.q, job, &list, &e), RC_OK);
	CHECK_EQ(jx_get_i64(json_array_get(list, 0), "lost_ms", -1), 2000);
	CHECK_EQ(jx_get_i64(json_array_get(list, 1), "useful_ms", -1), 3000);
	json_decref(list);
	json_decref(beat);
	json_decref(info);
	qf_close(&f);
}

void test_queue_limits__a_quota_is_changed_by_who_has_read_it(void)
{
	struct queue_quota quota = {.running = 2}, other = {.running = 3, .gpu_hours = 2.5};
	json_t *all = NULL;
	char match[MATCH_MAX];

	qf_open(&f, true);
	queue_match("q:ada=..");
	CHECK_RC(queue_quota_set(f.q, "ada", &quota, &e), RC_OK);
	CHECK_RC(queue_quota_set(f.q, "ada", &other, &e), RC_CHANGED); /* Somebody was quicker. */
	queue_match(NULL);
	CHECK_RC(queue_quotas(f.q, &all, &e), RC_OK);
	str_fmt(match, sizeof(match), "q:ada=%s", jx_get_str(json_object_get(all, "ada"), "revision", "?"));
	json_decref(all);
	queue_match(match);
	CHECK_RC(queue_quota_set(f.q, "ada", &other, &e), RC_OK);
	CHECK_RC(queue_quota_set(f.q, "ada", &quota, &e), RC_CHANGED);
	queue_match(NULL);
	CHECK_RC(queue_quotas(f.q, &all, &e), RC_OK);
	CHECK_EQ(jx_get_i64(json_object_get(all, "ada"), "running", 0), 3);
	json_decref(all);
	CHECK_RC(queue_quota_set(f.q, "ada", &(struct queue_quota){0}, &e), RC_OK);
	queue_match("q:ada=..");
	CHECK_RC(queue_quota_set(f.q, "ada", &quota, &e), RC_OK);
	queue_match(NULL);
	qf_close(&f);
}
