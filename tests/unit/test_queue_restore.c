/* A Redis that was restarted, emptied or set back is held until a server has compared it with the store. */
#include "base/jsonx.h"
#include "queue/internal.h"
#include "queue/restore.h"
#include "tests/queue_fixture.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

static struct queue_fixture f;
static struct err e;

static void guarded(void)
{
	qf_open(&f, false);
	CHECK_RC(queue_guard(f.q, &e), RC_OK);
	queue_restoring(true);
	CHECK_RC(queue_restore_trust(f.q, 0, &e), RC_OK);
	queue_restoring(false);
	qf_run(&f, "ra", NULL);
	qf_worker(&f, "w");
	qf_jobs(&f, "ra", "generate.0 generate.1 pair.0<generate.0,generate.1");
}

static void restart(void)
{
	redis_fixture_kill(&f.redis);
	redis_fixture_again(&f.redis);
	CHECK_RC(queue_ping(f.q, &e), RC_OK); /* connects anew: a claim is not sent twice */
}

/* Refused without the five seconds that a server's threads would wait. */
static struct queue *impatient(void)
{
	struct queue_opts o = {.accept_loss = true, .timeout_ms = 300};
	struct queue *q = NULL;

	CHECK_RC(queue_open(f.redis.url, &o, &q, &e), RC_OK);
	return q;
}

static enum rc take(const char *job, int64_t fence, char token[TOKEN_MAX])
{
	json_t *claim = NULL;
	enum rc rc = queue_restore_take(f.q, "r0", job, fence, &claim, &e);

	if (!rc)
		snprintf(token, TOKEN_MAX, "%s", jx_get_str(claim, "token", ""));
	json_decref(claim);
	return rc;
}

static int64_t fence_of(const char *token)
{
	return strtoll(token, NULL, 10);
}

void test_queue_restore__a_restarted_redis_is_read_only_until_it_is_trusted(void)
{
	char job[JOB_ID_MAX], token[TOKEN_MAX], later[TOKEN_MAX];
	struct queue_tick t;
	enum queue_action action;
	json_t *run = NULL, *beat = json_object();
	struct queue *q;

	guarded();
	CHECK(qf_claim(&f, "w", job, token));
	restart();
	q = impatient();
	CHECK_RC(queue_beat(q, job, token, beat, &action, &e), RC_UNREACHABLE);
	CHECK(strstr(e.text, "compared with the store") != NULL);
	CHECK_RC(queue_cancel_run(q, "ra", &e), RC_UNREACHABLE);
	CHECK_RC(queue_run(q, "ra", &run, &e), RC_OK);
	CHECK_RC(queue_owns(q, job, token, &e), RC_OK);
	CHECK_RC(queue_tick(q, &t, &e), RC_OK);
	CHECK(t.behind);
	CHECK_EQ(t.advanced_ms, 0);
	queue_restoring(true);
	CHECK_RC(queue_restore_trust(q, 7, &e), RC_OK);
	queue_restoring(false);
	CHECK_RC(queue_tick(q, &t, &e), RC_OK);
	CHECK(!t.behind);
	CHECK(t.frozen_ms > 0); /* one lease of grace */
	CHECK_RC(queue_beat(q, job, token, beat, &action, &e), RC_OK);
	CHECK(qf_claim(&f, "w", job, later));
	CHECK(fence_of(later) > fence_of(token) + 1000);
	json_decref(run);
	json_decref(beat);
	queue_close(q);
	qf_close(&f);
}

void test_queue_restore__only_the_thread_that_restores_may_write(void)
{
	int64_t n;

	guarded();
	restart();
	queue_restoring(true);
	CHECK_RC(queue_pause_run(f.q, "ra", &e), RC_OK);
	queue_restoring(false);
	struct queue *q = impatient();
	CHECK_RC(queue_retry_run(q, "ra", &n, &e), RC_UNREACHABLE);
	queue_close(q);
	qf_close(&f);
}

void test_queue_restore__a_flushed_redis_is_held_from_its_first_key_on(void)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	json_t *record = json_pack("{s:s}", "id", "rb");
	char id[RUN_ID_MAX];
	bool existed;

	guarded();
	redis_cmd_words(&c, "FLUSHALL");
	CHECK_RC(redis_call(queue_redis(f.q), &c, NULL, &e), RC_OK);
	struct queue *q = impatient();
	CHECK_RC(queue_submit(q, record, NULL, NULL, id, &existed, &e), RC_UNSUPPORTED);
	CHECK_RC(queue_guard(q, &e), RC_OK);
	redis_fixture_queue(&f.redis, 10000); /* migrates */
	CHECK_RC(queue_submit(q, record, NULL, NULL, id, &existed, &e), RC_UNREACHABLE);
	json_decref(record);
	queue_close(q);
	qf_close(&f);
}

void test_queue_restore__a_job_is_taken_for_a_result_the_store_has(void)
{
	char job[JOB_ID_MAX], token[TOKEN_MAX], got[TOKEN_MAX];

	guarded();
	CHECK(qf_claim(&f, "w", job, token));
	CHECK_RC(take(job, fence_of(token), got), RC_OK); /* the very lease: left as it is */
	CHECK_STR(got, token);
	CHECK_RC(take(job, fence_of(token) - 1, got), RC_CONFLICT); /* a later one is at work */
	CHECK_RC(queue_owns(f.q, job, token, &e), RC_OK);
	CHECK_RC(take(job, fence_of(token) + 1, got), RC_OK); /* Redis never heard of the one that finished */
	CHECK_RC(queue_owns(f.q, job, token, &e), RC_STALE);
	CHECK_RC(qf_complete(&f, job, got, 'a'), RC_OK);
	CHECK_RC(take(job, 1 << 20, got), RC_CONFLICT);
	CHECK_RC(take("ra.1.pair.0.0", 1, got), RC_CONFLICT); /* waits for parents */
	CHECK_RC(take("ra.1.pair.9.0", 1, got), RC_NOTFOUND);
	CHECK_RC(take("ra.1.generate.1.0", 1, got), RC_OK); /* ready */
	CHECK_RC(qf_complete(&f, "ra.1.generate.1.0", got, 'b'), RC_OK);
	qf_state(&f, "ra.1.pair.0.0", "ready");
	qf_audit(&f);
	qf_close(&f);
}

void test_queue_restore__open_jobs_are_those_that_may_get_a_result(void)
{
	char job[JOB_ID_MAX], token[TOKEN_MAX];
	json_t *jobs = NULL;

	guarded();
	CHECK(qf_claim(&f, "w", job, token));
	CHECK_RC(queue_restore_open(f.q, "ra", &jobs, &e), RC_OK);
	CHECK_EQ(json_array_size(jobs), 2); /* pair waits */
	json_decref(jobs);
	CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
	CHECK_RC(queue_restore_open(f.q, "ra", &jobs, &e), RC_OK);
	CHECK_EQ(json_array_size(jobs), 1);
	json_decref(jobs);
	qf_close(&f);
}
