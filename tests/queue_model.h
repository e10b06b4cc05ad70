/* The queue as a person would write it down: jobs in an array, no indexes, no Redis. Tests play the
 * same operations here and there and compare (test_queue_model.c), and walk through every state a
 * small one can reach.
 *
 * What it leaves open is which of several allowed jobs a claim takes, when a delayed job is due,
 * and tokens: the driver tells it. Times are of the lease clock; their unit is the driver's.
 */
#pragma once

#include "queue/queue.h"
#include "queue/states.h"

#include <stdbool.h>
#include <stdint.h>

#define QM_RUNS 4
#define QM_JOBS 40
#define QM_PARENTS 4
#define QM_OLD 4 /* tokens remembered of each job, to be tried when they are stale */

struct qm_job {
	int run; /* -1: there is no such job */
	char id[JOB_ID_MAX];
	int8_t parents[QM_PARENTS], n_parents, need;
	bool optional, cancel;
	int8_t pool, prio; /* pool 0: any worker */
	enum job_state state;
	int att, lost, gen;
	int64_t lease_due, grace_due, due, stall_due, stall;
	int8_t stuck;
	int worker; /* while running */
	bool ck;    /* has a checkpoint; which one does not matter */
	char token[TOKEN_MAX], done_token[TOKEN_MAX], fail_token[TOKEN_MAX], old[QM_OLD][TOKEN_MAX];
	int n_old;
};

struct qm_run {
	char id[RUN_ID_MAX];
	enum run_state state;
	int hold; /* 0 no, 1 pause, 2 drain */
	enum { QM_GOES_ON, QM_CANCELS, QM_FAILS } ending;
	int class, max_running;
};

struct qm {
	/* The rules' numbers. */
	int64_t ttl, grace;
	int poison, max_att;
	int owner_running; /* jobs all runs together may have running; 0 = any number */
	int n_runs, n_jobs;
	struct qm_run runs[QM_RUNS];
	struct qm_job jobs[QM_JOBS];
	int64_t clock;
	bool moved[JOB_N_STATES][JOB_N_STATES]; /* every move that was made */
	int n_expired, n_due, n_cancelled;	/* by the last tick */
};

/* A job whose parents are there already; its state follows from theirs. Returns its number. */
int qm_add(struct qm *m, const struct qm_job *j);
/* "" when worker may be given job, else why not. `pools` is a set of bits. */
const char *qm_may_claim(const struct qm *m, int job, int pools);
/* Whether some job may be claimed. */
bool qm_work_for(const struct qm *m, int pools);
void qm_claim(struct qm *m, int job, int worker, const char *token);

/* What the queue must answer: RC_OK, RC_STALE, RC_CONFLICT. */
enum rc qm_beat(struct qm *m, int job, const char *token, bool progress, bool checkpoint,
		bool worker_drains, enum queue_action *action);
enum rc qm_complete(struct qm *m, int job, const char *token, bool *again);
enum rc qm_fail(struct qm *m, int job, const char *token, enum queue_fail_kind kind);
void qm_cancel_job(struct qm *m, int job);
enum rc qm_stop(struct qm *m, int run,
		bool failed); /* cancel, or the end of a run that cannot go on */
enum rc qm_hold(struct qm *m, int run, int hold);
enum rc qm_retry_job(struct qm *m, int job, bool subtree);
enum rc qm_retry_run(struct qm *m, int run);
enum rc qm_invalidate(struct qm *m, int job);
bool qm_finish(struct qm *m, int run, int n_done);
/* A restart of Redis is the driver's: it then passes 0. */
void qm_tick(struct qm *m, int64_t advance);

int qm_n(const struct qm *m, int run, enum job_state s); /* run -1: all */
bool qm_open(const struct qm *m, int run);
/* NULL, or the sentence that is broken. */
const char *qm_broken(const struct qm *m);
