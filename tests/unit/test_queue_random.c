/* Thousands of random operations against a real Redis: live and stale workers, lost answers,
 * operators, clock jumps of an hour. A small model knows who holds what and since when; the auditor
 * re-derives the indexes every few operations. PAWL_QUEUE_OPS sets the number of operations of each
 * seed.
 */
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "tests/queue_fixture.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

#define RUNS 4
#define JOBS_PER_RUN 9
#define N_JOBS (RUNS * JOBS_PER_RUN)
#define LEASE_MS 10000
#define OLD_TOKENS 8

struct model_job {
	char id[JOB_ID_MAX];
	char token[TOKEN_MAX];	    /* "" = nobody holds it */
	char done_token[TOKEN_MAX]; /* of the one accepted completion */
	char old[OLD_TOKENS][TOKEN_MAX];
	int n_old;
	int64_t beat_lc;   /* lease clock of the last accepted beat */
	int64_t cancel_lc; /* lease clock of the cancel, -1 = none */
};

static struct queue_fixture f;
static struct err e;
static struct model_job jobs[N_JOBS];
static struct rng r;
static char runs[RUNS][RUN_ID_MAX];
static int64_t lc, last_fence;
static int n_runs;
static int n_ok, n_stale, n_expired;

static const char *const shape =
	"generate.0 generate.1 judge.0<generate.0 judge.1<generate.1 "
	"judge.2!1<generate.0,generate.1 "
	"pair.0<judge.0,judge.1,judge.2 dpo.0<pair.0 dpo.1<dpo.0 eval.0<dpo.1,generate.0";

static struct model_job *find(const char *id)
{
	for (int i = 0; i < N_JOBS; i++)
		if (!strcmp(jobs[i].id, id))
			return &jobs[i];
	test_fail(__FILE__, __LINE__, id);
}

static void drop(struct model_job *j)
{
	str_copy(j->old[j->n_old++ % OLD_TOKENS], TOKEN_MAX, j->token);
	j->token[0] = '\0';
	j->cancel_lc = -1;
}

static void make_run(int k)
{
	char *run = runs[k];
	json_t *list;

	str_fmt(run, RUN_ID_MAX, "r%d", n_runs++);
	qf_run(&f, run, NULL);
	CHECK_EQ(qf_jobs(&f, run, shape), JOBS_PER_RUN);
	CHECK_RC(queue_jobs(f.q, run, NULL, &list, &e), RC_OK);
	for (int i = 0; i < JOBS_PER_RUN; i++) {
		struct model_job *j = &jobs[k * JOBS_PER_RUN + i];
		memset(j, 0, sizeof(*j));
		j->cancel_lc = -1;
		str_copy(j->id, JOB_ID_MAX, jx_get_str(json_array_get(list, (size_t)i), "id", ""));
	}
	json_decref(list);
}

/* A job, and a token for it that is current, stale, or nonsense; true when it is the current one.
 */
static bool some_token(struct model_job **out, char token[TOKEN_MAX])
{
	struct model_job *j = &jobs[rng_below(&r, N_JOBS)];

	for (int i = 0; i < 6 && !j->token[0]; i++)
		j = &jobs[rng_below(&r, N_JOBS)];
	*out = j;
	if (j->token[0] && rng_below(&r, 4)) {
		str_copy(token, TOKEN_MAX, j->token);
		return true;
	}
	if (j->n_old && rng_below(&r, 8))
		str_copy(token, TOKEN_MAX,
			 j->old[rng_below(
				 &r, (uint32_t)(j->n_old < OLD_TOKENS ? j->n_old : OLD_TOKENS))]);
	else
		str_copy(token, TOKEN_MAX, "1.00");
	return false;
}

static void count(enum rc rc, bool current)
{
	CHECK(rc == (current ? RC_OK : RC_STALE));
	n_ok += current;
	n_stale += !current;
}

static void op_claim(void)
{
	static const char *const workers[] = {"w0", "w1", "w2", "w3"};
	char id[JOB_ID_MAX], token[TOKEN_MAX];
	struct model_job *j;

	if (!qf_claim(&f, workers[rng_below(&r, 4)], id, token))
		return;
	j = find(id);
	CHECK(!j->token[0] && !j->done_token[0]);
	CHECK(strtoll(token, NULL, 10) > last_fence);
	last_fence = strtoll(token, NULL, 10);
	str_copy(j->token, TOKEN_MAX, token);
	j->beat_lc = lc;
	j->cancel_lc = -1;
}

static void op_beat(void)
{
	char token[TOKEN_MAX];
	struct model_job *j;
	bool current = some_token(&j, token);
	enum queue_action action;
	json_t *beat = json_pack("{s:{s:i, s:i, s:s}}", "progress", "done", (int)rng_below(&r, 10),
				 "total", 10, "unit", "rows");

	if (rng_below(&r, 5) == 0)
		json_object_set_new(beat, "checkpoint",
				    json_pack("{s:i}", "n", (int)rng_below(&r, 3)));
	count(queue_beat(f.q, j->id, token, beat, &action, &e), current);
	if (current) {
		j->beat_lc = lc;
		CHECK((action == QUEUE_CANCEL) == (j->cancel_lc >= 0));
	}
	json_decref(beat);
}

static void op_complete(void)
{
	char token[TOKEN_MAX];
	struct model_job *j;
	bool current = some_token(&j, token);

	if (!current && j->done_token[0] && rng_below(&r, 2)) {
		CHECK_RC(qf_complete(&f, j->id, j->done_token, 'a'), RC_OK);
		return;
	}
	count(qf_complete(&f, j->id, token, 'a'),
	      current || (j->done_token[0] && !strcmp(token, j->done_token)));
	if (current) {
		CHECK(!j->done_token[0]);
		str_copy(j->done_token, TOKEN_MAX, token);
		drop(j);
	}
}

static void op_fail(void)
{
	char token[TOKEN_MAX];
	struct model_job *j;
	bool current = some_token(&j, token);
	enum queue_fail_kind kind = (enum queue_fail_kind)rng_below(&r, 3);
	enum rc rc = queue_fail(f.q, j->id, token, kind, NULL, &e);

	/* The token of the last fail of a job is answered OK again, and changes nothing. */
	if (current || rc != RC_OK)
		count(rc, current);
	if (current)
		drop(j);
}

static void cancelled(struct model_job *j)
{
	if (j->token[0] && j->cancel_lc < 0)
		j->cancel_lc = lc;
}

static json_t *record_of(const char *run)
{
	static json_t *record;

	json_decref(record);
	record = json_pack("{s:s}", "id", run);
	return record;
}

static void op_operator(void)
{
	int k = (int)rng_below(&r, RUNS);
	const char *run = runs[k];
	struct model_job *j = &jobs[rng_below(&r, N_JOBS)];
	char again[RUN_ID_MAX];
	bool existed;
	int64_t n;
	enum rc rc;

	switch (rng_below(&r, 24)) {
	case 0:
		rc = queue_cancel_run(f.q, run, &e);
		CHECK(rc == RC_OK || rc == RC_CONFLICT);
		for (int i = 0; rc == RC_OK && i < JOBS_PER_RUN; i++)
			cancelled(&jobs[k * JOBS_PER_RUN + i]);
		break;
	case 1:
		CHECK_RC(queue_cancel_job(f.q, j->id, &e), RC_OK);
		cancelled(j);
		break;
	case 2:
		rc = queue_pause_run(f.q, run, &e);
		CHECK(rc == RC_OK || rc == RC_CONFLICT);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
	case 10:
	case 11:
	case 12:
		rc = queue_resume_run(f.q, run, &e);
		CHECK(rc == RC_OK || rc == RC_CONFLICT);
		break;
	case 7:
		CHECK_RC(queue_submit(f.q, record_of(run), NULL, NULL, again, &existed, &e), RC_OK);
		CHECK(existed);
		break;
	case 8:
	case 9:
	case 13:
	case 14:
	case 15:
	case 16:
	case 17:
		rc = queue_retry_run(f.q, run, &n, &e);
		CHECK(rc == RC_OK || rc == RC_CONFLICT);
		break;
	default:
		rc = queue_retry_job(f.q, j->id, rng_below(&r, 2), &n, &e);
		CHECK(rc == RC_OK || rc == RC_CONFLICT);
		CHECK(rc != RC_OK || (!j->token[0] && !j->done_token[0]));
	}
}

static void op_tick(void)
{
	static const int64_t steps[] = {300, 1000, 1000, 2500, 4000, 3600000, -3600000};
	int64_t before = lc, n = 0;
	struct queue_tick t;

	f.now_ms += steps[rng_below(&r, 7)];
	t = qf_pass(&f, 0, 1);
	lc = t.lease_clock_ms;
	CHECK(lc >= before && lc - before <= TICK_ADVANCE_MS_MAX);
	for (int i = 0; i < N_JOBS; i++) {
		struct model_job *j = &jobs[i];
		bool lost = lc - j->beat_lc >= LEASE_MS;
		bool grace = j->cancel_lc >= 0 && lc - j->cancel_lc >= CANCEL_GRACE_MS;
		if (!j->token[0])
			continue;
		CHECK_RC(queue_owns(f.q, j->id, j->token, &e), lost || grace ? RC_STALE : RC_OK);
		if (lost || grace) {
			n += !grace;
			drop(j);
		}
	}
	CHECK_EQ(t.n_expired, n);
	n_expired += (int)n;
}

static void op_finish(void)
{
	const char *run = runs[rng_below(&r, RUNS)];
	json_t *done;
	bool finished;

	CHECK_RC(queue_done_outputs(f.q, run, &done, &e), RC_OK);
	CHECK_RC(queue_finish_run(f.q, run, (int64_t)json_object_size(done), NULL, &finished, &e),
		 RC_OK);
	json_decref(done);
}

static void (*const ops[])(void) = {
	op_claim, op_claim,    op_claim, op_claim,    op_beat, op_beat, op_beat,
	op_beat,  op_complete, op_fail,	 op_operator, op_tick, op_tick, op_finish,
};

/* Workers that do their work bring every run to its end. */
static void drain_all(void)
{
	char id[JOB_ID_MAX], token[TOKEN_MAX];
	const char *run;
	json_t *doc;
	int64_t n;

	for (int i = 0; i < N_JOBS; i++)
		if (jobs[i].token[0] && jobs[i].cancel_lc < 0)
			CHECK_RC(qf_complete(&f, jobs[i].id, jobs[i].token, 'a'), RC_OK);
		else if (jobs[i].token[0])
			CHECK_RC(queue_fail(f.q, jobs[i].id, jobs[i].token, QUEUE_FAIL_PREEMPTED,
					    NULL, &e),
				 RC_OK);
	for (int k = 0; k < RUNS; k++) {
		run = runs[k];
		queue_resume_run(f.q, run, &e);
		CHECK_RC(queue_retry_run(f.q, run, &n, &e), RC_OK);
		queue_resume_run(f.q, run, &e);
	}
	for (int idle = 0; idle < 700; idle++)
		if (qf_claim(&f, "w0", id, token)) {
			CHECK_RC(qf_complete(&f, id, token, 'a'), RC_OK);
			idle = 0;
		} else if (idle > 2) {
			qf_pass(&f, 2000, 2000);
		}
	for (int i = 0; i < N_JOBS; i++)
		qf_state(&f, jobs[i].id, "done");
	for (int k = 0; k < RUNS; k++) {
		bool finished;
		run = runs[k];
		CHECK_RC(queue_finish_run(f.q, run, JOBS_PER_RUN, NULL, &finished, &e), RC_OK);
		CHECK_RC(queue_run(f.q, run, &doc, &e), RC_OK);
		CHECK_STR(jx_get_str(doc, "state", ""), "done");
		json_decref(doc);
	}
}

/* A run with nothing left to do makes room for a new one. */
static void renew_runs(void)
{
	for (int k = 0; k < RUNS; k++) {
		int n = 0;
		for (int i = 0; i < JOBS_PER_RUN; i++)
			n += jobs[k * JOBS_PER_RUN + i].done_token[0] != '\0';
		if (n == JOBS_PER_RUN)
			make_run(k);
	}
}

static void one_seed(uint64_t seed)
{
	const char *env = getenv("PAWL_QUEUE_OPS");
	int64_t n = 3000;

	if (env)
		CHECK(str_to_i64(env, &n));
	rng_open(&r, seed, RNG_TEST, 1, 0, 0);
	qf_open(&f, true);
	lc = last_fence = n_runs = 0;
	for (int i = 0; i < 4; i++)
		qf_worker(&f, (const char *[]){"w0", "w1", "w2", "w3"}[i]);
	for (int k = 0; k < RUNS; k++)
		make_run(k);
	for (int64_t i = 0; i < n; i++) {
		ops[rng_below(&r, sizeof(ops) / sizeof(*ops))]();
		if (i % 10 == 0)
			qf_audit(&f);
		renew_runs();
	}
	drain_all();
	printf("# seed %llu: %d runs, %d accepted, %d refused as stale, %d leases lost\n",
	       (unsigned long long)seed, n_runs, n_ok, n_stale, n_expired);
	CHECK(n_ok > 0 && n_stale > 0 && n_expired > 0);
	qf_close(&f);
}

void test_queue_random__seed_1(void)
{
	one_seed(1);
}

void test_queue_random__seed_2(void)
{
	one_seed(2);
}

void test_queue_random__seed_3(void)
{
	one_seed(3);
}

void test_queue_random__seed_of_the_day(void)
{
	one_seed((uint64_t)(clk_now_ms() / 86400000));
}
