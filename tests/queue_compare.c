#include "tests/queue_compare.h"

#include "queue/internal.h"
#include "queue/keys.h"
#include "tests/test.h"

#include <string.h>

static int64_t number(const struct redis_reply *p, size_t i)
{
	return reply_i64(reply_at(p, i));
}

static void same_job(const struct qm *m, int i, const struct redis_reply *h)
{
	const struct qm_job *j = &m->jobs[i];
	int left = 0, succ = 0;

	for (int k = 0; k < j->n_parents; k++) {
		left += !job_state_terminal(m->jobs[j->parents[k]].state);
		succ += m->jobs[j->parents[k]].state == JOB_done;
	}
	CHECK_STR(reply_text(reply_at(h, 0)), job_state_text(j->state));
	CHECK_EQ(number(h, 1), j->att);
	CHECK_EQ(number(h, 2), j->lost);
	CHECK_STR(reply_text(reply_at(h, 3)), j->token);
	CHECK_EQ(number(h, 4), j->cancel);
	CHECK_EQ(number(h, 5), j->gen);
	if (j->state == JOB_blocked) {
		CHECK_EQ(number(h, 6), left);
		CHECK_EQ(number(h, 7), succ);
	}
}

/* Whose lease ends when: of those that run, and of no other job. */
static void same_leases(const struct qm *m, const struct redis_reply *p)
{
	size_t n = 0;

	for (int i = 0; i < m->n_jobs; i++) {
		size_t at = 0;

		if (m->jobs[i].state != JOB_running)
			continue;
		while (at < reply_n(p) && strcmp(reply_text(reply_at(p, at)), m->jobs[i].id) != 0)
			at += 2;
		CHECK(at < reply_n(p));
		CHECK_EQ(number(p, at + 1), m->jobs[i].lease_due);
		n++;
	}
	CHECK_EQ(reply_n(p), 2 * n);
}

static void same_runs(const struct qm *m, const struct redis_reply *const *p)
{
	for (int k = 0; k < m->n_runs; k++) {
		CHECK_STR(reply_text(reply_at(p[k], 0)), run_state_text(m->runs[k].state));
		CHECK_EQ(number(p[k], 1), m->runs[k].hold);
		for (int s = 0; s < JOB_N_STATES; s++)
			CHECK_EQ(number(p[k], (size_t)(2 + s)), qm_n(m, k, (enum job_state)s));
	}
}

void qm_compare(const struct qm *m, struct queue *q)
{
	struct redis_cmd c[QM_JOBS + QM_RUNS + 1];
	struct redis_reply *p[QM_JOBS + QM_RUNS + 1];
	size_t n = 0;
	struct err e;

	for (int i = 0; i < m->n_jobs; i++) {
		c[n] = (struct redis_cmd)REDIS_CMD_INIT;
		cmd_key(&c[n++], "HMGET", KEY_JOB, m->jobs[i].id,
			"state att lost token cancel gen left succ");
	}
	for (int k = 0; k < m->n_runs; k++) {
		c[n] = (struct redis_cmd)REDIS_CMD_INIT;
		cmd_key(&c[n++], "HMGET", KEY_RUN, m->runs[k].id,
			"state hold n:blocked n:ready n:running n:done n:delayed n:failed "
			"n:cancelled n:skipped");
	}
	c[n] = (struct redis_cmd)REDIS_CMD_INIT;
	redis_cmd_words(&c[n++], "ZRANGE " KEY_TAG "lease 0 -1 WITHSCORES");
	CHECK_RC(redis_pipe(queue_redis(q), c, n, p, &e), RC_OK);
	for (int i = 0; i < m->n_jobs; i++)
		same_job(m, i, p[i]);
	same_runs(m, (const struct redis_reply *const *)(p + m->n_jobs));
	same_leases(m, p[n - 1]);
	for (size_t i = 0; i < n; i++)
		reply_free(p[i]);
	if (qm_broken(m))
		test_fail(__FILE__, __LINE__, qm_broken(m));
}
