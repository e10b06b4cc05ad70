/* Every transition of the queue against a real Redis, one small story each. */
#include "base/jsonx.h"
#include "base/str.h"
#include "queue/internal.h"
#include "queue/keys.h"
#include "queue/states.h"
#include "tests/queue_fixture.h"
#include "tests/test.h"

#include <string.h>

static struct queue_fixture f;
static struct err e;
static char job[JOB_ID_MAX], token[TOKEN_MAX], token2[TOKEN_MAX];

#define A "ra.1.generate.0.0"
#define B "ra.1.generate.1.0"
#define PAIR "ra.1.pair.0.0"
#define DPO "ra.1.dpo.0.0"

/* One run "ra" with two generate jobs, a pair after both and a dpo after that; one worker "w". */
static void diamond(void)
{
	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	qf_worker(&f, "w");
	CHECK_EQ(qf_jobs(&f, "ra",
			 "generate.0 generate.1 pair.0<generate.0,generate.1 dpo.0<pair.0"),
		 4);
}

static void claim_is(const char *want)
{
	CHECK(qf_claim(&f, "w", job, token));
	CHECK_STR(job, want);
}

static enum rc fail(enum queue_fail_kind kind)
{
	json_t *reason = json_pack("{s:s}", "message", "it \"broke\"");
	enum rc rc = queue_fail(f.q, job, token, kind, reason, &e);

	json_decref(reason);
	return rc;
}

void test_queue__the_moves_of_the_library_are_those_of_states_def(void)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	int n = 0, want = 0;

	qf_open(&f, true);
	call_begin(&c, "moves");
	CHECK_RC(call_end(f.q, &c, &p, &e), RC_OK);
	for (size_t i = 0; i + 1 < reply_n(p); i += 2, n++) {
		enum job_state from, to;
		CHECK(job_state_of(reply_text(reply_at(p, i)), &from));
		CHECK(job_state_of(reply_text(reply_at(p, i + 1)), &to));
		CHECK(job_may_move(from, to));
	}
	for (int i = 0; i < JOB_N_STATES * JOB_N_STATES; i++)
		want += job_may_move((enum job_state)(i / JOB_N_STATES),
				     (enum job_state)(i % JOB_N_STATES));
	CHECK_EQ(n, want);
	reply_free(p);
	qf_close(&f);
}

/* The library's constants are those of limits.h. */
static void lua_says(const char *name, long long value)
{
	extern const char queue_lua_text[];
	char line[64];

	str_fmt(line, sizeof(line), "local %s = %lld\n", name, value);
	CHECK(strstr(queue_lua_text, line) != NULL);
}

void test_queue__the_bounds_of_the_library_are_those_of_limits_h(void)
{
	lua_says("GRACE_MS", CANCEL_GRACE_MS);
	lua_says("POISON", LOSSES_PER_ATTEMPT);
	lua_says("MARKS", MARKS_KEPT);
	lua_says("ADVANCE_MS", TICK_ADVANCE_MS_MAX);
	lua_says("BACKOFF_MS", BACKOFF_MS_MAX);
	lua_says("EVENTS", EVENTS_KEPT);
	lua_says("JOBS_MAX", JOBS_PER_RUN_MAX);
	lua_says("IDEM_MS", IDEM_KEPT_MS);
}

void test_queue__jobs_run_in_order_of_their_parents(void)
{
	json_t *done = NULL, *job_doc = NULL, *attempts = NULL;
	bool finished;

	diamond();
	CHECK_EQ(qf_jobs(&f, "ra", "generate.0 generate.1"), 0);
	qf_state(&f, PAIR, "blocked");
	claim_is(A);
	qf_state(&f, A, "running");
	CHECK_RC(qf_complete(&f, A, token, 'a'), RC_OK);
	CHECK_RC(qf_complete(&f, A, token, 'a'), RC_OK); /* a lost answer */
	claim_is(B);
	qf_state(&f, PAIR, "blocked");
	CHECK_RC(qf_complete(&f, B, token, 'b'), RC_OK);
	claim_is(PAIR);
	CHECK_RC(qf_complete(&f, PAIR, token, 'c'), RC_OK);
	claim_is(DPO);
	CHECK_RC(queue_finish_run(f.q, "ra", 3, NULL, &finished, &e), RC_OK);
	CHECK(!finished);
	CHECK_RC(qf_complete(&f, DPO, token, 'd'), RC_OK);
	CHECK_RC(queue_finish_run(f.q, "ra", 3, NULL, &finished, &e), RC_OK);
	CHECK(!finished); /* the caller had not seen the last job */
	CHECK_RC(queue_finish_run(f.q, "ra", 4, "f00", &finished, &e), RC_OK);
	CHECK(finished);
	qf_run_state(&f, "ra", "done");
	CHECK_RC(queue_done_outputs(f.q, "ra", &done, &e), RC_OK);
	CHECK_EQ(json_object_size(done), 4);
	CHECK_EQ(jx_get_i64(json_object_get(json_object_get(json_object_get(done, DPO), "outputs"),
					    "data"),
			    "rows", 0),
		 3);
	CHECK_RC(queue_job(f.q, DPO, &job_doc, &e), RC_OK);
	CHECK_EQ(json_array_size(json_object_get(job_doc, "outputs")), 1);
	CHECK_RC(queue_attempts(f.q, DPO, &attempts, &e), RC_OK);
	CHECK_STR(jx_get_str(json_array_get(attempts, 0), "end", ""), "completed");
	qf_close(&f);
}

void test_queue__a_stale_token_changes_nothing(void)
{
	enum queue_action action;
	char old[TOKEN_MAX];

	diamond();
	claim_is(A);
	str_copy(old, sizeof(old), token);
	CHECK_EQ(qf_pass(&f, 12000, 1000).n_expired, 1);
	qf_state(&f, A, "ready");
	claim_is(A);
	CHECK(strcmp(old, token) != 0);
	CHECK(strtoll(token, NULL, 10) > strtoll(old, NULL, 10));
	CHECK_RC(queue_beat(f.q, A, old, NULL, &action, &e), RC_STALE);
	CHECK_RC(queue_owns(f.q, A, old, &e), RC_STALE);
	CHECK_RC(qf_complete(&f, A, old, 'a'), RC_STALE);
	CHECK_RC(queue_fail(f.q, A, old, QUEUE_FAIL_FATAL, NULL, &e), RC_STALE);
	CHECK_RC(queue_fail(f.q, A, old, QUEUE_FAIL_PREEMPTED, NULL, &e), RC_STALE);
	CHECK_RC(queue_owns(f.q, A, token, &e), RC_OK);
	CHECK_RC(qf_complete(&f, A, token, 'a'), RC_OK);
	CHECK_RC(qf_complete(&f, A, old, 'a'), RC_STALE);
	CHECK_RC(queue_beat(f.q, A, token, NULL, &action, &e), RC_STALE);
	qf_close(&f);
}

void test_queue__a_failed_attempt_waits_and_three_park_the_job(void)
{
	json_t *doc = NULL;
	bool finished;

	diamond();
	for (int i = 1; i <= 2; i++) {
		claim_is(A);
		CHECK_RC(fail(QUEUE_FAIL_RETRY), RC_OK);
		CHECK_RC(fail(QUEUE_FAIL_RETRY), RC_OK); /* repeated after a lost answer */
		qf_state(&f, A, "delayed");
		CHECK_EQ(qf_number(&f, A, "attempts"), i);
		CHECK_EQ(qf_pass(&f, 5000, 500).n_due, 1);
		qf_state(&f, A, "ready");
	}
	claim_is(A);
	CHECK_RC(fail(QUEUE_FAIL_RETRY), RC_OK);
	qf_state(&f, A, "failed");
	qf_state(&f, PAIR, "blocked");
	claim_is(B);
	CHECK_RC(qf_complete(&f, B, token, 'b'), RC_OK);
	qf_state(&f, PAIR, "skipped");
	qf_state(&f, DPO, "skipped");
	CHECK_RC(queue_job(f.q, A, &doc, &e), RC_OK);
	CHECK_STR(jx_get_str(json_object_get(doc, "error"), "message", ""), "it \"broke\"");
	CHECK_RC(queue_finish_run(f.q, "ra", 1, NULL, &finished, &e), RC_OK);
	CHECK(finished);
	qf_run_state(&f, "ra", "failed");
	qf_close(&f);
}

void test_queue__fatal_parks_at_once_and_retry_brings_the_subtree_back(void)
{
	int64_t n = 0;
	bool finished;

	diamond();
	claim_is(A);
	CHECK_RC(fail(QUEUE_FAIL_FATAL), RC_OK);
	qf_state(&f, A, "failed");
	claim_is(B);
	CHECK_RC(qf_complete(&f, B, token, 'b'), RC_OK);
	CHECK_RC(queue_finish_run(f.q, "ra", 1, NULL, &finished, &e), RC_OK);
	qf_run_state(&f, "ra", "failed");
	CHECK_RC(queue_retry_job(f.q, PAIR, false, &n, &e), RC_CONFLICT);
	CHECK_RC(queue_retry_job(f.q, B, false, &n, &e), RC_CONFLICT);
	CHECK_RC(queue_retry_job(f.q, A, false, &n, &e), RC_OK);
	CHECK_EQ(n, 3);
	qf_run_state(&f, "ra", "active");
	qf_state(&f, A, "ready");
	qf_state(&f, PAIR, "blocked");
	qf_state(&f, DPO, "blocked");
	CHECK_EQ(qf_number(&f, A, "attempts"), 0);
	qf_audit(&f);
	claim_is(A);
	CHECK_RC(qf_complete(&f, A, token, 'a'), RC_OK);
	claim_is(PAIR);
	qf_close(&f);
}

void test_queue__need_lets_a_job_run_with_some_parents_failed(void)
{
	int64_t n = 0;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	qf_worker(&f, "w");
	qf_jobs(&f, "ra", "generate.0 generate.1 pair.0!1<generate.0,generate.1");
	claim_is(A);
	CHECK_RC(fail(QUEUE_FAIL_FATAL), RC_OK);
	claim_is(B);
	CHECK_RC(qf_complete(&f, B, token, 'b'), RC_OK);
	qf_state(&f, PAIR, "ready");
	CHECK_RC(queue_retry_job(f.q, A, false, &n, &e), RC_OK);
	CHECK_EQ(n, 1);
	qf_state(&f, PAIR, "blocked"); /* it had not started: it waits for the better answer */
	claim_is(A);
	CHECK_RC(fail(QUEUE_FAIL_FATAL), RC_OK);
	qf_state(&f, PAIR, "ready");
	qf_close(&f);
}

void test_queue__preemption_goes_to_the_front_and_burns_nothing(void)
{
	diamond();
	for (int i = 0; i < 8; i++) {
		claim_is(A);
		CHECK_RC(fail(QUEUE_FAIL_PREEMPTED), RC_OK);
		qf_state(&f, A, "ready");
	}
	CHECK_EQ(qf_number(&f, A, "attempts"), 0);
	CHECK_EQ(qf_number(&f, A, "preemptions"), 8);
	qf_close(&f);
}

void test_queue__five_losses_without_a_checkpoint_burn_one_attempt(void)
{
	json_t *beat = json_loads(
		       "{\"checkpoint\":{\"outputs\":{\"model\":\"x\"},\"progress\":{\"step\":1}}}",
		       0, NULL),
	       *claim = NULL;
	struct queue_claim_req r = {.worker = "w"};
	enum queue_action action;

	diamond();
	for (int i = 1; i <= 4; i++) {
		claim_is(A);
		CHECK_EQ(qf_pass(&f, 11000, 1000).n_expired, 1);
	}
	CHECK_EQ(qf_number(&f, A, "attempts"), 0);
	claim_is(A); /* a new checkpoint forgives */
	CHECK_RC(queue_beat(f.q, A, token, beat, &action, &e), RC_OK);
	CHECK_EQ(qf_pass(&f, 11000, 1000).n_expired, 1);
	CHECK_EQ(qf_number(&f, A, "attempts"), 0);
	for (int i = 1; i <= 3; i++) {
		claim_is(A);
		CHECK_RC(queue_beat(f.q, A, token, beat, &action, &e), RC_OK); /* the same one */
		CHECK_EQ(qf_pass(&f, 11000, 1000).n_expired, 1);
	}
	CHECK_EQ(qf_number(&f, A, "attempts"), 0);
	CHECK_RC(queue_claim(f.q, &r, &claim, &e), RC_OK);
	CHECK_STR(jx_get_str(json_object_get(json_object_get(claim, "resume"), "outputs"), "model",
			     ""),
		  "x");
	CHECK_EQ(qf_pass(&f, 11000, 1000).n_expired, 1);
	CHECK_EQ(qf_number(&f, A, "attempts"), 1);
	CHECK_EQ(qf_number(&f, A, "losses"), 9);
	for (int i = 0; i < 10; i++) {
		claim_is(A);
		qf_pass(&f, 11000, 1000);
	}
	qf_state(&f, A, "failed");
	qf_close(&f);
}

void test_queue__the_lease_clock_stands_still_while_nobody_ticks(void)
{
	struct queue_tick t;
	int64_t before;
	enum queue_action action;

	diamond();
	claim_is(A);
	before = qf_pass(&f, 0, 1).lease_clock_ms;
	t = qf_pass(&f, 3600000, 3600000); /* an hour between two ticks */
	CHECK_EQ(t.lease_clock_ms - before, TICK_ADVANCE_MS_MAX);
	CHECK_EQ(t.n_expired, 0);
	f.now_ms -= 7200000; /* the wall clock steps back */
	t = qf_pass(&f, 0, 1);
	CHECK_EQ(t.lease_clock_ms - before, TICK_ADVANCE_MS_MAX);
	CHECK_EQ(qf_pass(&f, 7000, 1000).n_expired, 0);
	CHECK_RC(queue_beat(f.q, A, token, NULL, &action, &e), RC_OK);
	CHECK_EQ(qf_pass(&f, 9000, 1000).n_expired, 0); /* less than a lease since the beat */
	CHECK_EQ(qf_pass(&f, 1000, 1000).n_expired, 1);
	qf_close(&f);
}

void test_queue__a_restart_of_redis_freezes_leases_for_one_lease(void)
{
	struct queue_tick t;

	diamond();
	CHECK_RC(queue_tick(f.q, &t, &e), RC_OK); /* the test's own ticks carried another run id */
	CHECK_EQ(t.frozen_ms, 10000);
	claim_is(A);
	f.now_ms += 1;
	CHECK_EQ(qf_pass(&f, 9000, 1000).n_expired, 0);
	qf_close(&f);
}

void test_queue__cancel_takes_what_waits_and_asks_what_runs(void)
{
	enum queue_action action;

	diamond();
	claim_is(A);
	CHECK_RC(queue_cancel_run(f.q, "ra", &e), RC_OK);
	CHECK_RC(queue_cancel_run(f.q, "ra", &e), RC_OK);
	qf_run_state(&f, "ra", "draining");
	qf_state(&f, B, "cancelled");
	qf_state(&f, PAIR, "cancelled");
	qf_state(&f, DPO, "cancelled");
	qf_state(&f, A, "running");
	qf_audit(&f);
	CHECK_RC(queue_beat(f.q, A, token, NULL, &action, &e), RC_OK);
	CHECK_EQ(action, QUEUE_CANCEL);
	CHECK_RC(fail(QUEUE_FAIL_PREEMPTED), RC_OK);
	qf_state(&f, A, "cancelled");
	qf_run_state(&f, "ra", "cancelled");
	CHECK_RC(queue_cancel_run(f.q, "ra", &e), RC_OK);
	CHECK_RC(queue_pause_run(f.q, "ra", &e), RC_CONFLICT);
	qf_close(&f);
}

void test_queue__a_cancelled_job_may_still_complete_within_grace(void)
{
	diamond();
	claim_is(A);
	CHECK_RC(queue_cancel_job(f.q, A, &e), RC_OK);
	CHECK_RC(qf_complete(&f, A, token, 'a'), RC_OK);
	qf_state(&f, A, "done");
	claim_is(B);
	CHECK_RC(queue_cancel_job(f.q, B, &e), RC_OK);
	for (int i = 0; i < 8; i++) { /* beats do not outlast the grace */
		enum queue_action action;
		enum rc rc = queue_beat(f.q, B, token, NULL, &action, &e);
		CHECK(rc == (i * 9000 < CANCEL_GRACE_MS ? RC_OK : RC_STALE));
		qf_pass(&f, 9000, 1000);
	}
	qf_state(&f, B, "cancelled");
	CHECK_RC(qf_complete(&f, B, token, 'b'), RC_STALE);
	qf_state(&f, PAIR, "skipped");
	qf_close(&f);
}

void test_queue__a_lost_lease_of_a_cancelled_job_ends_it(void)
{
	diamond();
	claim_is(A);
	CHECK_RC(queue_cancel_job(f.q, A, &e), RC_OK);
	CHECK_EQ(qf_pass(&f, 11000, 1000).n_expired, 1);
	qf_state(&f, A, "cancelled");
	qf_close(&f);
}

void test_queue__a_paused_run_starts_nothing(void)
{
	enum queue_action action;
	json_t *doc = NULL;

	diamond();
	claim_is(A);
	CHECK_RC(queue_pause_run(f.q, "ra", &e), RC_OK);
	qf_run_state(&f, "ra", "paused");
	CHECK(!qf_claim(&f, "w", job, token2));
	CHECK_RC(queue_beat(f.q, A, token, NULL, &action, &e), RC_OK);
	CHECK_EQ(action, QUEUE_PAUSE);
	str_copy(job, sizeof(job), A);
	CHECK_RC(fail(QUEUE_FAIL_PREEMPTED), RC_OK);
	CHECK(!qf_claim(&f, "w", job, token2));
	CHECK_RC(queue_job(f.q, A, &doc, &e), RC_OK);
	CHECK_STR(jx_get_str(doc, "wait_reason", ""), "the run is paused");
	qf_audit(&f);
	CHECK_RC(queue_resume_run(f.q, "ra", &e), RC_OK);
	claim_is(A);
	qf_close(&f);
}

void test_queue__a_cancelled_run_can_be_retried(void)
{
	int64_t n = 0;

	diamond();
	claim_is(A);
	CHECK_RC(qf_complete(&f, A, token, 'a'), RC_OK);
	CHECK_RC(queue_cancel_run(f.q, "ra", &e), RC_OK);
	qf_run_state(&f, "ra", "cancelled");
	CHECK_RC(queue_retry_run(f.q, "ra", &n, &e), RC_OK);
	CHECK_EQ(n, 3);
	qf_run_state(&f, "ra", "active");
	qf_state(&f, A, "done");
	claim_is(B);
	CHECK_RC(qf_complete(&f, B, token, 'b'), RC_OK);
	claim_is(PAIR);
	qf_close(&f);
}

void test_queue__a_run_that_cannot_go_on_fails_with_its_reason(void)
{
	json_t *run = NULL;

	diamond();
	CHECK_RC(queue_fail_run(f.q, "ra", "the planner gave up", &e), RC_OK);
	CHECK_RC(queue_run(f.q, "ra", &run, &e), RC_OK);
	CHECK_STR(jx_get_str(run, "state", ""), "failed");
	CHECK_STR(jx_get_str(run, "error", ""), "the planner gave up");
	qf_close(&f);
}

void test_queue__submit_is_idempotent_by_key(void)
{
	json_t *one = json_pack("{s:s, s:s}", "id", "rone", "name", "x");
	json_t *two = json_pack("{s:s}", "id", "rtwo");
	char run[RUN_ID_MAX];
	bool existed;

	qf_open(&f, true);
	CHECK_RC(queue_submit(f.q, one, "key", "d1", run, &existed, &e), RC_OK);
	CHECK(!existed);
	CHECK_RC(queue_submit(f.q, two, "key", "d1", run, &existed, &e), RC_OK);
	CHECK(existed);
	CHECK_STR(run, "rone");
	CHECK_RC(queue_submit(f.q, two, "key", "d2", run, &existed, &e), RC_CONFLICT);
	CHECK_RC(queue_submit(f.q, one, NULL, NULL, run, &existed, &e), RC_OK);
	CHECK(existed);
	json_decref(one);
	json_decref(two);
	qf_close(&f);
}

void test_queue__bad_jobs_are_refused_whole(void)
{
	json_t *jobs = json_loads(
		"[{\"id\":\"ra.1.sft.0.0\",\"stage\":\"sft\",\"parents\":[]},"
		"{\"id\":\"ra.1.sft.1.0\",\"stage\":\"sft\",\"parents\":[\"ra.1.sft.9.0\"]}]",
		0, NULL);
	json_t *stage = json_loads("[{\"id\":\"ra.1.tea.0.0\",\"stage\":\"tea\",\"parents\":[]}]",
				   0, NULL),
	       *doc;
	int64_t n;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	CHECK_RC(queue_add_jobs(f.q, "ra", jobs, &n, &e), RC_INVALID);
	CHECK(strstr(e.text, "unknown parent ra.1.sft.9.0"));
	CHECK_RC(queue_add_jobs(f.q, "ra", stage, &n, &e), RC_INVALID);
	CHECK_RC(queue_job(f.q, "ra.1.sft.0.0", &doc, &e), RC_NOTFOUND);
	CHECK_RC(queue_add_jobs(f.q, "rnone", stage, &n, &e), RC_INVALID);
	json_object_set_new(json_array_get(stage, 0), "id", json_string("rnone.1.sft.0.0"));
	CHECK_RC(queue_add_jobs(f.q, "rnone", stage, &n, &e), RC_NOTFOUND);
	json_decref(jobs);
	json_decref(stage);
	qf_close(&f);
}

void test_queue__inputs_are_resolved_when_claimed(void)
{
	json_t *jobs = json_loads(
		"[{\"id\":\"ra.0.sft.0.0\",\"stage\":\"sft\",\"parents\":[]},"
		"{\"id\":\"ra.0.eval.0.0\",\"stage\":\"eval\",\"parents\":[\"ra.0.sft.0.0\"],"
		"\"inputs\":[{\"role\":\"model\",\"job\":\"ra.0.sft.0.0\",\"output\":\"data\"}],"
		"\"params\":{\"name\":\"SFT\"}},"
		"{\"id\":\"ra.0.eval.1.0\",\"stage\":\"eval\",\"parents\":[\"ra.0.sft.0.0\"],"
		"\"inputs\":[{\"role\":\"model\",\"job\":\"ra.0.sft.0.0\",\"output\":\"nothing\"}]}"
		"]",
		0, NULL);
	struct queue_claim_req r = {.worker = "w"};
	json_t *claim = NULL, *input;
	int64_t n;

	qf_open(&f, true);
	qf_run(&f, "ra", "{\"spec\":{\"seed\":7}}");
	qf_worker(&f, "w");
	CHECK_RC(queue_add_jobs(f.q, "ra", jobs, &n, &e), RC_OK);
	claim_is("ra.0.sft.0.0");
	CHECK_RC(qf_complete(&f, job, token, 'e'), RC_OK);
	CHECK_RC(queue_claim(f.q, &r, &claim, &e), RC_OK);
	input = json_array_get(json_object_get(json_object_get(claim, "job"), "inputs"), 0);
	CHECK_EQ(jx_get_str(input, "digest", "")[0], 'e');
	CHECK_STR(jx_get_str(input, "kind", ""), "dataset");
	CHECK_EQ(jx_get_i64(json_object_get(json_object_get(claim, "record"), "spec"), "seed", 0),
		 7);
	json_decref(claim);
	CHECK_RC(queue_claim(f.q, &r, &claim, &e), RC_OK);
	CHECK(!claim);
	qf_state(&f, "ra.0.eval.1.0", "failed");
	json_decref(jobs);
	qf_close(&f);
}

void test_queue__complete_can_claim_the_next(void)
{
	json_t *outputs = json_array(), *claim = NULL;
	struct queue_claim_req r = {.worker = "w"};
	bool again;

	diamond();
	claim_is(A);
	CHECK_RC(queue_complete(f.q, A, token, outputs, NULL, NULL, &r, &again, &claim, &e), RC_OK);
	CHECK(!again);
	CHECK_STR(jx_get_str(json_object_get(claim, "job"), "id", ""), B);
	str_copy(token2, sizeof(token2), jx_get_str(claim, "token", ""));
	CHECK_RC(queue_complete(f.q, A, token, outputs, NULL, NULL, &r, &again, &claim, &e), RC_OK);
	CHECK(again);
	CHECK(!claim);
	CHECK_RC(queue_owns(f.q, B, token2, &e), RC_OK);
	qf_close(&f);
}
