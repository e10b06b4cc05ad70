#include "tests/queue_model.h"

#include "base/str.h"

#include <string.h>

static bool terminal(const struct qm *m, int job)
{
	return job_state_terminal(m->jobs[job].state);
}

static bool run_over(const struct qm_run *r)
{
	return r->state == RUN_done || r->state == RUN_failed || r->state == RUN_cancelled;
}

int qm_n(const struct qm *m, int run, enum job_state s)
{
	int n = 0;

	for (int i = 0; i < m->n_jobs; i++)
		n += m->jobs[i].state == s && (run < 0 || m->jobs[i].run == run);
	return n;
}

bool qm_open(const struct qm *m, int run)
{
	for (int i = 0; i < m->n_jobs; i++)
		if (m->jobs[i].run == run && !terminal(m, i))
			return true;
	return false;
}

static void parents(const struct qm *m, const struct qm_job *j, int *left, int *succ)
{
	*left = *succ = 0;
	for (int i = 0; i < j->n_parents; i++) {
		enum job_state s = m->jobs[j->parents[i]].state;
		*left += !job_state_terminal(s);
		*succ += s == JOB_done;
	}
}

static bool is_child(const struct qm *m, int job, int of)
{
	for (int i = 0; i < m->jobs[job].n_parents; i++)
		if (m->jobs[job].parents[i] == of)
			return true;
	return false;
}

static void move(struct qm *m, int job, enum job_state to)
{
	struct qm_job *j = &m->jobs[job];

	m->moved[j->state][to] = true;
	if (j->state == JOB_running) {
		str_copy(j->old[j->n_old++ % QM_OLD], TOKEN_MAX, j->token);
		j->token[0] = '\0';
		j->worker = -1;
		j->lease_due = j->grace_due = j->stall_due = 0;
	}
	j->state = to;
}

/* Children of a job that has just ended. They are looked at in order of their numbers, which is
 * that of adding: a parent stands before its children. */
static void release(struct qm *m, int job)
{
	int left, succ;

	for (int i = 0; i < m->n_jobs; i++) {
		struct qm_job *c = &m->jobs[i];

		if (c->state != JOB_blocked || !is_child(m, i, job))
			continue;
		parents(m, c, &left, &succ);
		if (left > 0)
			continue;
		move(m, i, succ >= c->need ? JOB_ready : JOB_skipped);
		if (c->state == JOB_skipped)
			release(m, i);
	}
}

static void settle(struct qm *m, int run)
{
	struct qm_run *r = &m->runs[run];

	if (r->ending == QM_GOES_ON || qm_open(m, run))
		return;
	r->state = r->ending == QM_CANCELS ? RUN_cancelled : RUN_failed;
	r->ending = QM_GOES_ON;
}

/* A job that ran waits again: for a parent first, if one was retried meanwhile. */
static void back(struct qm *m, int job)
{
	int left, succ;

	parents(m, &m->jobs[job], &left, &succ);
	move(m, job, left > 0 ? JOB_blocked : JOB_ready);
}

int qm_add(struct qm *m, const struct qm_job *add)
{
	int n = m->n_jobs++, left, succ;
	struct qm_job *j = &m->jobs[n];

	*j = *add;
	j->worker = -1;
	parents(m, j, &left, &succ);
	j->state = left > 0 ? JOB_blocked : succ >= j->need ? JOB_ready : JOB_skipped;
	return n;
}

/* --- claim --------------------------------------------------------------------------------- */

static bool served(const struct qm *m, int run)
{
	const struct qm_run *r = &m->runs[run];

	return r->hold == 0 &&
	       (r->max_running == 0 || qm_n(m, run, JOB_running) < r->max_running) &&
	       (m->owner_running == 0 || qm_n(m, -1, JOB_running) < m->owner_running);
}

static bool claimable(const struct qm *m, int job, int pools)
{
	const struct qm_job *j = &m->jobs[job];

	return j->state == JOB_ready && (j->pool == 0 || (pools >> j->pool & 1)) &&
	       served(m, j->run);
}

const char *qm_may_claim(const struct qm *m, int job, int pools)
{
	const struct qm_job *j = &m->jobs[job], *o;

	if (!claimable(m, job, pools))
		return "the job may not be claimed by this worker now";
	for (int i = 0; i < m->n_jobs; i++) {
		o = &m->jobs[i];
		if (i == job || !claimable(m, i, pools))
			continue;
		if (m->runs[o->run].class < m->runs[j->run].class)
			return "a run of a better class has work";
		if (o->run == j->run && (o->prio > j->prio || (o->prio == j->prio && i < job)))
			return "a job of the run goes before it";
	}
	return "";
}

bool qm_work_for(const struct qm *m, int pools)
{
	for (int i = 0; i < m->n_jobs; i++)
		if (claimable(m, i, pools))
			return true;
	return false;
}

void qm_claim(struct qm *m, int job, int worker, const char *token)
{
	struct qm_job *j = &m->jobs[job];

	move(m, job, JOB_running);
	j->worker = worker;
	str_copy(j->token, TOKEN_MAX, token);
	j->lease_due = m->clock + m->ttl;
	j->stall_due = j->stall ? m->clock + j->stall : 0;
	j->stuck = 0;
}

/* --- workers ------------------------------------------------------------------------------- */

static bool holds(const struct qm_job *j, const char *token)
{
	return j->state == JOB_running && token[0] && !strcmp(j->token, token);
}

enum rc qm_beat(struct qm *m, int job, const char *token, bool progress, bool checkpoint,
		bool worker_drains, enum queue_action *action)
{
	struct qm_job *j = &m->jobs[job];

	if (!holds(j, token))
		return RC_STALE;
	j->lease_due = m->clock + m->ttl;
	if (checkpoint) {
		j->ck = true;
		j->lost = 0;
	}
	if ((progress || checkpoint) && j->stall) {
		j->stall_due = m->clock + j->stall;
		j->stuck = 0;
	}
	*action = j->cancel				       ? QUEUE_CANCEL
		  : m->runs[j->run].hold == 1 || j->stuck == 2 ? QUEUE_PAUSE
		  : worker_drains			       ? QUEUE_DRAIN
							       : QUEUE_CONTINUE;
	return RC_OK;
}

enum rc qm_complete(struct qm *m, int job, const char *token, bool *again)
{
	struct qm_job *j = &m->jobs[job];

	*again = false;
	if (!holds(j, token)) {
		*again = j->state == JOB_done && token[0] && !strcmp(j->done_token, token);
		return *again ? RC_OK : RC_STALE;
	}
	str_copy(j->done_token, TOKEN_MAX, token);
	move(m, job, JOB_done);
	release(m, job);
	settle(m, j->run);
	return RC_OK;
}

enum rc qm_fail(struct qm *m, int job, const char *token, enum queue_fail_kind kind)
{
	struct qm_job *j = &m->jobs[job];

	if (!holds(j, token))
		return token[0] && !strcmp(j->fail_token, token) ? RC_OK : RC_STALE;
	str_copy(j->fail_token, TOKEN_MAX, token);
	if (j->cancel) {
		move(m, job, JOB_cancelled);
		release(m, job);
	} else if (kind == QUEUE_FAIL_PREEMPTED) {
		back(m, job);
	} else if (kind == QUEUE_FAIL_RETRY && j->att + 1 < m->max_att) {
		j->att++;
		move(m, job, JOB_delayed);
	} else {
		j->att++;
		move(m, job, JOB_failed);
		release(m, job);
	}
	settle(m, j->run);
	return RC_OK;
}

/* --- operators ----------------------------------------------------------------------------- */

void qm_cancel_job(struct qm *m, int job)
{
	struct qm_job *j = &m->jobs[job];

	if (terminal(m, job))
		return;
	if (j->state == JOB_running) {
		if (!j->cancel)
			j->grace_due = m->clock + m->grace;
		j->cancel = true;
		return;
	}
	j->cancel = true;
	move(m, job, JOB_cancelled);
	release(m, job);
	settle(m, j->run);
}

enum rc qm_stop(struct qm *m, int run, bool failed)
{
	struct qm_run *r = &m->runs[run];
	int want = failed ? QM_FAILS : QM_CANCELS;

	if (r->state == (failed ? RUN_failed : RUN_cancelled) || (int)r->ending == want)
		return RC_OK;
	if (run_over(r))
		return RC_CONFLICT;
	r->ending = failed ? QM_FAILS : QM_CANCELS;
	for (int i = m->n_jobs - 1; i >= 0; i--) {
		struct qm_job *j = &m->jobs[i];

		if (j->run != run || terminal(m, i))
			continue;
		if (j->state == JOB_running) {
			if (!j->cancel)
				j->grace_due = m->clock + m->grace;
			j->cancel = true;
		} else {
			j->cancel = true;
			move(m, i, JOB_cancelled);
			release(m, i);
		}
	}
	r->state = RUN_draining;
	settle(m, run);
	return RC_OK;
}

enum rc qm_hold(struct qm *m, int run, int hold)
{
	static const enum run_state states[] = {RUN_active, RUN_paused, RUN_draining};
	struct qm_run *r = &m->runs[run];

	if (run_over(r) || r->ending != QM_GOES_ON)
		return RC_CONFLICT;
	if (r->hold != hold)
		r->state = states[hold];
	r->hold = hold;
	return RC_OK;
}

static bool retriable(enum job_state s)
{
	return s == JOB_failed || s == JOB_cancelled || s == JOB_skipped;
}

static void reopen(struct qm *m, int run)
{
	static const enum run_state states[] = {RUN_active, RUN_paused, RUN_draining};
	struct qm_run *r = &m->runs[run];

	if (run_over(r))
		r->state = states[r->hold];
}

/* Brings back the marked jobs; others that waited, or were about to start, wait for them again. */
static void bring_back(struct qm *m, const bool *set)
{
	int left, succ;

	for (int i = 0; i < m->n_jobs; i++) {
		struct qm_job *j = &m->jobs[i];

		if (!set[i])
			continue;
		parents(m, j, &left, &succ);
		j->att = j->lost = 0;
		j->cancel = false;
		move(m, i, left == 0 && succ >= j->need ? JOB_ready : JOB_blocked);
	}
	for (int i = 0; i < m->n_jobs; i++) {
		struct qm_job *j = &m->jobs[i];
		bool below = false;

		for (int p = 0; p < j->n_parents; p++)
			below |= set[j->parents[p]];
		if (!below || set[i] || (j->state != JOB_ready && j->state != JOB_delayed))
			continue;
		parents(m, j, &left, &succ);
		if (left > 0)
			move(m, i, JOB_blocked);
	}
}

/* Below a marked job: what was skipped, with `subtree` all that did not succeed. */
static void mark_below(const struct qm *m, bool *set, bool subtree)
{
	for (int i = 0; i < m->n_jobs; i++)
		for (int p = 0; p < m->jobs[i].n_parents; p++)
			if (set[m->jobs[i].parents[p]] &&
			    (m->jobs[i].state == JOB_skipped ||
			     (subtree && retriable(m->jobs[i].state))))
				set[i] = true;
}

enum rc qm_retry_job(struct qm *m, int job, bool subtree)
{
	struct qm_job *j = &m->jobs[job];
	bool set[QM_JOBS] = {false};
	int left, succ;

	if (m->runs[j->run].ending != QM_GOES_ON || !retriable(j->state))
		return RC_CONFLICT;
	parents(m, j, &left, &succ);
	if (left == 0 && succ < j->need)
		return RC_CONFLICT;
	set[job] = true;
	mark_below(m, set, subtree);
	reopen(m, j->run);
	bring_back(m, set);
	return RC_OK;
}

enum rc qm_retry_run(struct qm *m, int run)
{
	bool set[QM_JOBS] = {false}, any = false;

	if (m->runs[run].ending != QM_GOES_ON)
		return RC_CONFLICT;
	for (int i = 0; i < m->n_jobs; i++)
		if (m->jobs[i].run == run && retriable(m->jobs[i].state))
			any = set[i] = true;
	if (!any)
		return RC_OK;
	reopen(m, run);
	bring_back(m, set);
	return RC_OK;
}

enum rc qm_invalidate(struct qm *m, int job)
{
	bool set[QM_JOBS] = {false};
	int left, succ;

	if (m->runs[m->jobs[job].run].ending != QM_GOES_ON || m->jobs[job].state != JOB_done)
		return RC_CONFLICT;
	reopen(m, m->jobs[job].run);
	set[job] = true;
	for (int i = 0; i < m->n_jobs; i++) {
		struct qm_job *j = &m->jobs[i];

		for (int p = 0; p < j->n_parents; p++)
			set[i] |= set[j->parents[p]];
		if (!set[i])
			continue;
		parents(m, j, &left, &succ);
		enum job_state to = left == 0 && succ >= j->need ? JOB_ready : JOB_blocked;
		j->att = j->lost = 0;
		j->gen++;
		j->cancel = j->ck = false;
		j->done_token[0] = '\0';
		if (j->state != to)
			move(m, i, to);
	}
	return RC_OK;
}

bool qm_finish(struct qm *m, int run, int n_done)
{
	struct qm_run *r = &m->runs[run];
	bool bad = false, any = false;

	for (int i = 0; i < m->n_jobs; i++)
		if (m->jobs[i].run == run) {
			any = true;
			bad |= m->jobs[i].state != JOB_done && !m->jobs[i].optional;
		}
	if (run_over(r) || r->ending != QM_GOES_ON || !any || qm_open(m, run) ||
	    qm_n(m, run, JOB_done) != n_done)
		return false;
	r->state = bad ? RUN_failed : RUN_done;
	return true;
}

/* --- time ---------------------------------------------------------------------------------- */

static void lose(struct qm *m, int job)
{
	struct qm_job *j = &m->jobs[job];
	bool burnt = false;

	if (j->cancel) {
		move(m, job, JOB_cancelled);
		release(m, job);
		return;
	}
	if (++j->lost >= m->poison) {
		j->lost = 0;
		j->att++;
		burnt = true;
	}
	if (burnt && j->att >= m->max_att) {
		move(m, job, JOB_failed);
		release(m, job);
	} else {
		back(m, job);
	}
}

static void stalls(struct qm *m)
{
	for (int i = 0; i < m->n_jobs; i++) {
		struct qm_job *j = &m->jobs[i];
		int8_t was = j->stuck;

		if (j->state != JOB_running || !j->stall_due || j->stall_due > m->clock)
			continue;
		j->stall_due = m->clock + j->stall;
		j->stuck = was >= 1 ? 2 : 1;
		if (was == 2) {
			lose(m, i);
			settle(m, j->run);
		}
	}
}

void qm_tick(struct qm *m, int64_t advance)
{
	m->clock += advance;
	m->n_expired = m->n_due = m->n_cancelled = 0;
	stalls(m);
	for (int i = 0; i < m->n_jobs; i++)
		if (m->jobs[i].state == JOB_running && m->jobs[i].cancel &&
		    m->jobs[i].grace_due <= m->clock) {
			move(m, i, JOB_cancelled);
			release(m, i);
			settle(m, m->jobs[i].run);
			m->n_cancelled++;
		}
	for (int i = 0; i < m->n_jobs; i++)
		if (m->jobs[i].state == JOB_running && m->jobs[i].lease_due <= m->clock) {
			lose(m, i);
			settle(m, m->jobs[i].run);
			m->n_expired++;
		}
	for (int i = 0; i < m->n_jobs; i++)
		if (m->jobs[i].state == JOB_delayed && m->jobs[i].due <= m->clock) {
			back(m, i);
			m->n_due++;
		}
}

/* --- invariants ---------------------------------------------------------------------------- */

static const char *job_broken(const struct qm *m, const struct qm_job *j)
{
	int left, succ;

	parents(m, j, &left, &succ);
	if ((j->state == JOB_running) != (j->token[0] != '\0'))
		return "I2: a token is held by running jobs alone";
	if ((j->state == JOB_ready || j->state == JOB_done) && succ < j->need)
		return "I7: a job is ready or done only if enough parents are done";
	if (j->state == JOB_ready && left > 0)
		return "I7: a ready job has no open parent";
	if (j->state == JOB_blocked && left == 0)
		return "I7: a job without open parents is not blocked";
	if (j->att > m->max_att)
		return "I13: attempts keep within their limit";
	if (j->state == JOB_running && j->lease_due <= m->clock)
		return "I9: a lease that is over is taken back";
	if (j->state == JOB_running && j->cancel && j->grace_due <= m->clock)
		return "I10: a cancelled job ends with its grace";
	return NULL;
}

const char *qm_broken(const struct qm *m)
{
	for (int i = 0; i < m->n_jobs; i++) {
		const char *what = job_broken(m, &m->jobs[i]);
		if (what)
			return what;
	}
	for (int r = 0; r < m->n_runs; r++) {
		if (run_over(&m->runs[r]) && qm_open(m, r))
			return "I3: an ended run has no open job";
		if (m->runs[r].ending != QM_GOES_ON && !qm_open(m, r))
			return "I3: a run that ends has open jobs";
	}
	return NULL;
}
