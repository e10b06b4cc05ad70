/* Calls of several threads that go to Redis as one (queue/combine.h). That each is answered as if
 * it had been said alone is test_queue_model's. */
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "queue/combine.h"
#include "queue/internal.h"
#include "tests/queue_fixture.h"
#include "tests/test.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N 8

static struct queue_fixture f;
static struct err e;

struct caller {
	char worker[16], job[JOB_ID_MAX], token[TOKEN_MAX];
	enum rc rc;
	char text[128]; /* of the error */
	bool again;
	pthread_t t;
};

static void *claims(void *caller)
{
	struct caller *c = caller;
	struct queue_claim_req r = {.worker = c->worker};
	json_t *claim = NULL;
	struct err own = {0};

	c->rc = queue_claim(f.q, &r, &claim, &own);
	str_copy(c->text, sizeof(c->text), own.text);
	str_copy(c->job, sizeof(c->job), jx_get_str(json_object_get(claim, "job"), "id", ""));
	str_copy(c->token, sizeof(c->token), jx_get_str(claim, "token", ""));
	json_decref(claim);
	return NULL;
}

static void *completes(void *caller)
{
	struct caller *c = caller;
	json_t *none = json_array();
	struct err own = {0};

	c->rc = queue_complete(f.q, c->job, c->token, none, NULL, NULL, NULL, &c->again, NULL,
			       &own);
	str_copy(c->text, sizeof(c->text), own.text);
	json_decref(none);
	return NULL;
}

static void *beats(void *caller)
{
	struct caller *c = caller;
	json_t *beat = json_object();
	enum queue_action action;
	struct err own = {0};

	c->rc = queue_beat(f.q, c->job, c->token, beat, &action, &own);
	json_decref(beat);
	return NULL;
}

/* Threads say what `says` tells, in order, and one call goes to Redis. `last`: before the last
 * joins. */
static void together(struct caller *c, int n, void *(*const *says)(void *), void (*last)(void))
{
	combine_gather(f.q->combine, n);
	for (int i = 0; i < n; i++) {
		if (i == n - 1 && last)
			last();
		CHECK_EQ(pthread_create(&c[i].t, NULL, says[i], &c[i]), 0);
		while (i < n - 1 && combine_n_waiting(f.q->combine) <= i)
			sched_yield();
	}
	for (int i = 0; i < n; i++)
		CHECK_EQ(pthread_join(c[i].t, NULL), 0);
}

static void open_with_jobs(struct caller c[N], int n_jobs, bool fast)
{
	char jobs[512] = "";

	qf_open(&f, fast);
	qf_run(&f, "ra", NULL);
	for (int i = 0; i < n_jobs; i++)
		str_fmt(jobs + strlen(jobs), sizeof(jobs) - strlen(jobs), "%sgenerate.%d",
			i ? " " : "", i);
	qf_jobs(&f, "ra", jobs);
	memset(c, 0, N * sizeof(*c));
	for (int i = 0; i < N; i++) {
		str_fmt(c[i].worker, sizeof(c[i].worker), "w%d", i);
		qf_worker(&f, c[i].worker);
	}
}

/* Function calls that Redis has run. */
static int64_t n_calls(void)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	const char *at;
	int64_t n = 0;

	redis_cmd_words(&c, "INFO commandstats");
	CHECK_RC(redis_call(queue_redis(f.q), &c, &p, &e), RC_OK);
	at = strstr(reply_text(p), "cmdstat_fcall:calls=");
	if (at)
		n = strtoll(at + strlen("cmdstat_fcall:calls="), NULL, 10);
	reply_free(p);
	return n;
}

static void *(*const all_claim[N])(void *) = {claims, claims, claims, claims,
					      claims, claims, claims, claims};

void test_combine__calls_that_wait_go_as_one_and_in_order(void)
{
	struct caller c[N];
	int64_t before, fence = 0;
	char job[JOB_ID_MAX];

	open_with_jobs(c, N - 1, true); /* the last finds nothing */
	before = n_calls();
	together(c, N, all_claim, NULL);
	CHECK_EQ(n_calls() - before, 1);
	for (int i = 0; i < N - 1; i++) {
		CHECK_EQ(c[i].rc, RC_OK);
		str_fmt(job, sizeof(job), "ra.1.generate.%d.0", i);
		CHECK_STR(c[i].job, job);
		CHECK(strtoll(c[i].token, NULL, 10) > fence);
		fence = strtoll(c[i].token, NULL, 10);
	}
	CHECK_EQ(c[N - 1].rc, RC_OK);
	CHECK_STR(c[N - 1].job, "");
	qf_close(&f);
}

void test_combine__a_refusal_is_its_own(void)
{
	static void *(*const says[N])(void *) = {completes, completes, beats,  claims,
						 completes, completes, claims, completes};
	static const enum rc want[N] = {RC_OK, RC_STALE,    RC_OK, RC_NOTFOUND,
					RC_OK, RC_NOTFOUND, RC_OK, RC_OK};
	struct caller c[N];

	open_with_jobs(c, N, true);
	for (int i = 0; i < N - 1; i++)
		CHECK(qf_claim(&f, c[i].worker, c[i].job, c[i].token));
	str_copy(c[1].token, TOKEN_MAX, "1.00");
	str_copy(c[3].worker, sizeof(c[3].worker), "nobody");
	str_copy(c[5].job, JOB_ID_MAX, "ra.1.generate.99.0");
	c[7] = c[0]; /* the same completion once more */
	together(c, N, says, NULL);
	for (int i = 0; i < N; i++)
		CHECK_EQ(c[i].rc, want[i]);
	CHECK(!c[0].again && c[7].again);
	CHECK_STR(c[1].text, "the lease of job ra.1.generate.1.0 is over");
	CHECK_STR(c[3].text, "no worker nobody, register first");
	CHECK_STR(c[6].job, "ra.1.generate.7.0");
	qf_state(&f, "ra.1.generate.0.0", "done");
	qf_state(&f, "ra.1.generate.1.0", "running");
	qf_state(&f, "ra.1.generate.4.0", "done");
	qf_close(&f);
}

/* What one call does to a run and its pools the next one sees: of two runs with equal shares the
 * claims of one journey come from both in turn. */
void test_combine__the_next_is_given_what_the_one_before_has_left(void)
{
	struct caller c[N];
	int of_a = 0;

	open_with_jobs(c, N, true);
	qf_run(&f, "rb", NULL);
	qf_jobs(&f, "rb", "generate.0 generate.1 generate.2 generate.3 generate.4 generate.5");
	together(c, N, all_claim, NULL);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(c[i].rc, RC_OK);
		of_a += str_starts(c[i].job, "ra.");
		CHECK(of_a * 2 - (i + 1) >= -1 && of_a * 2 - (i + 1) <= 1);
	}
	CHECK_EQ(of_a, N / 2);
	qf_close(&f);
}

static void redis_dies_and_comes_back(void)
{
	redis_fixture_kill(&f.redis);
	redis_fixture_again(&f.redis);
}

/* What may be repeated is, alone; of a claim it stays unknown whether it happened. */
void test_combine__a_lost_journey_is_unknown_to_each(void)
{
	static void *(*const says[N])(void *) = {completes, claims, completes, beats};
	struct caller c[N];

	open_with_jobs(c, N, false); /* what was acknowledged is on disk */
	for (int i = 0; i < 4; i++)
		if (says[i] != claims)
			CHECK(qf_claim(&f, c[i].worker, c[i].job, c[i].token));
	together(c, 4, says, redis_dies_and_comes_back);
	CHECK_EQ(c[0].rc, RC_OK);
	CHECK_EQ(c[1].rc, RC_UNREACHABLE);
	CHECK_EQ(c[2].rc, RC_OK);
	CHECK_EQ(c[3].rc, RC_OK);
	qf_state(&f, c[0].job, "done");
	qf_state(&f, c[2].job, "done");
	CHECK(queue_troubled(f.q));
	qf_close(&f);
}

/* A library that Redis has lost comes back, and each is told to say it again. */
static void library_lost(void)
{
	struct redis_cmd c = REDIS_CMD_INIT;

	redis_cmd_words(&c, "FUNCTION FLUSH");
	CHECK_RC(redis_call(queue_redis(f.q), &c, NULL, &e), RC_OK);
}

void test_combine__a_lost_library_comes_back(void)
{
	struct caller c[N];

	open_with_jobs(c, N, true);
	together(c, N, all_claim, library_lost);
	for (int i = 0; i < N; i++)
		CHECK_EQ(c[i].rc, RC_UNREACHABLE);
	together(c, N, all_claim, NULL);
	for (int i = 0; i < N; i++)
		CHECK_EQ(c[i].rc, RC_OK);
	qf_close(&f);
}

/* Behind a Redis that does not answer nobody waits for those before him. */
void test_combine__a_hung_redis_holds_each_for_its_own_time_out(void)
{
	struct queue_opts o = {.accept_loss = true, .timeout_ms = 300};
	struct queue *own, *q;
	struct caller c[N];
	int64_t start;

	open_with_jobs(c, N, true);
	own = f.q;
	CHECK_RC(queue_open(f.redis.url, &o, &q, &e), RC_OK);
	f.q = q;
	CHECK_EQ(kill(f.redis.pid, SIGSTOP), 0);
	start = clk_mono_ms();
	for (int i = 0; i < N; i++)
		CHECK_EQ(pthread_create(&c[i].t, NULL, claims, &c[i]), 0);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(pthread_join(c[i].t, NULL), 0);
		CHECK(c[i].rc == RC_TIMEOUT || c[i].rc == RC_UNREACHABLE);
	}
	CHECK(clk_mono_ms() - start < 10 * (300 + COMBINE_WAIT_MS));
	CHECK_EQ(kill(f.redis.pid, SIGCONT), 0);
	f.q = own;
	queue_close(q);
	qf_close(&f);
}

static _Atomic int n_done;

static void *works(void *caller)
{
	struct caller *c = caller;

	for (;;) {
		claims(c);
		if (c->rc || !c->job[0])
			return NULL;
		completes(c);
		if (c->rc || c->again)
			return NULL;
		n_done++;
	}
}

/* Not held together by a test: whoever waits when somebody comes back goes along. */
static void do_every_job_once(bool fast)
{
	struct caller c[N];
	char job[JOB_ID_MAX];
	int64_t before;

	open_with_jobs(c, 32, fast);
	n_done = 0;
	before = n_calls();
	for (int i = 0; i < N; i++)
		CHECK_EQ(pthread_create(&c[i].t, NULL, works, &c[i]), 0);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(pthread_join(c[i].t, NULL), 0);
		CHECK_EQ(c[i].rc, RC_OK);
	}
	CHECK_EQ(n_done, 32);
	CHECK(n_calls() - before < 2 * 32 + N);
	for (int i = 0; i < 32; i++) {
		str_fmt(job, sizeof(job), "ra.1.generate.%d.0", i);
		qf_state(&f, job, "done");
		CHECK_EQ(qf_number(&f, job, "starts"), 1);
	}
	qf_close(&f);
}

void test_combine__many_threads_do_every_job_once(void)
{
	do_every_job_once(true);
}

void test_combine__and_so_where_redis_waits_for_the_disk(void)
{
	do_every_job_once(false);
}
