/* Every state that a small queue can reach, by every order of what workers, operators and time can
 * do: one run of three jobs, two attempts, leases of two ticks, two losses to an attempt. In each
 * the invariants hold, and workers that do their work bring every job to an end.
 */
#include "base/mem.h"
#include "base/str.h"
#include "tests/queue_model.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

#define TTL 2
#define GRACE 2
#define N 3
#define SET_BITS 23

/* C may go on although B failed. */
static void small(struct qm *m)
{
	struct qm_job a = {.id = "a"}, b = {.id = "b", .parents = {0}, .n_parents = 1, .need = 1};
	struct qm_job c = {.id = "c", .parents = {0, 1}, .n_parents = 2, .need = 1};

	memset(m, 0, sizeof(*m));
	m->ttl = TTL;
	m->grace = GRACE;
	m->poison = m->max_att = 2;
	m->n_runs = 1;
	m->runs[0].state = RUN_active;
	qm_add(m, &a);
	qm_add(m, &b);
	qm_add(m, &c);
}

/* --- a state in 64 bits ------------------------------------------------------------------------
 */

struct bits {
	uint64_t v;
	int at;
};

static void put(struct bits *b, int64_t v, int n)
{
	CHECK(v >= 0 && v < 1 << n);
	b->v |= (uint64_t)v << b->at;
	b->at += n;
}

static int get(struct bits *b, int n)
{
	int v = (int)(b->v >> b->at & ((1u << n) - 1));

	b->at += n;
	return v;
}

static uint64_t encode(const struct qm *m)
{
	struct bits b = {0};

	put(&b, m->runs[0].state, 3);
	put(&b, m->runs[0].hold, 2);
	put(&b, m->runs[0].ending, 2);
	for (int i = 0; i < N; i++) {
		const struct qm_job *j = &m->jobs[i];
		bool runs = j->state == JOB_running;

		put(&b, j->state, 3);
		put(&b, j->att, 2);
		put(&b, j->lost, 1);
		put(&b, j->cancel, 1);
		put(&b, runs ? j->lease_due - m->clock : 0, 2);
		put(&b, runs && j->cancel ? j->grace_due - m->clock : 0, 2);
		put(&b, j->state == JOB_delayed ? j->due - m->clock : 0, 2);
	}
	return b.v;
}

static void decode(uint64_t key, struct qm *m)
{
	struct bits b = {key, 0};

	small(m);
	m->runs[0].state = (enum run_state)get(&b, 3);
	m->runs[0].hold = get(&b, 2);
	m->runs[0].ending = get(&b, 2);
	for (int i = 0; i < N; i++) {
		struct qm_job *j = &m->jobs[i];

		j->state = (enum job_state)get(&b, 3);
		j->att = get(&b, 2);
		j->lost = get(&b, 1);
		j->cancel = get(&b, 1);
		j->lease_due = get(&b, 2);
		j->grace_due = get(&b, 2);
		j->due = get(&b, 2);
		str_copy(j->token, TOKEN_MAX, j->state == JOB_running ? "t" : "");
	}
}

/* --- what may happen ---------------------------------------------------------------------------
 */

enum {
	CLAIM,
	BEAT,
	SAVE,
	COMPLETE,
	RETRY,
	FATAL,
	PREEMPTED,
	CANCEL,
	AGAIN,
	SUBTREE,
	INVALID,
	PER_JOB
};
enum { STOP = PER_JOB * N, GIVE_UP, RESUME, PAUSE, DRAIN, AGAIN_ALL, FINISH, TICK, N_OPS };

static void do_job(struct qm *m, int op, int j)
{
	enum queue_action action;
	bool again;

	switch (op) {
	case CLAIM:
		if (!qm_may_claim(m, j, 0)[0])
			qm_claim(m, j, 0, "t");
		break;
	case BEAT:
	case SAVE:
		qm_beat(m, j, "t", false, op == SAVE, false, &action);
		break;
	case COMPLETE:
		if (m->jobs[j].state == JOB_running)
			qm_complete(m, j, "t", &again);
		break;
	case RETRY:
	case FATAL:
	case PREEMPTED:
		if (m->jobs[j].state == JOB_running)
			qm_fail(m, j, "t", (enum queue_fail_kind)(op - RETRY));
		m->jobs[j].due = m->clock + 1;
		break;
	case CANCEL:
		qm_cancel_job(m, j);
		break;
	case AGAIN:
	case SUBTREE:
		qm_retry_job(m, j, op == SUBTREE);
		break;
	default:
		qm_invalidate(m, j);
	}
}

static void do_op(struct qm *m, int op)
{
	if (op < STOP)
		do_job(m, op % PER_JOB, op / PER_JOB);
	else if (op == STOP || op == GIVE_UP)
		qm_stop(m, 0, op == GIVE_UP);
	else if (op >= RESUME && op <= DRAIN)
		qm_hold(m, 0, op - RESUME);
	else if (op == AGAIN_ALL)
		qm_retry_run(m, 0);
	else if (op == FINISH)
		qm_finish(m, 0, qm_n(m, 0, JOB_done));
	else
		qm_tick(m, 1);
}

/* --- every state -------------------------------------------------------------------------------
 */

static uint64_t *set, *queue;
static size_t n_seen;

static void see(uint64_t key)
{
	size_t mask = ((size_t)1 << SET_BITS) - 1,
	       at = (size_t)(key * 0x9e3779b97f4a7c15u >> (64 - SET_BITS));

	while (set[at] && set[at] != key + 1)
		at = (at + 1) & mask;
	if (set[at])
		return;
	set[at] = key + 1;
	queue[n_seen++] = key;
	CHECK(n_seen < mask / 2);
}

/* Nobody interferes any more: everything ends, and the run with it. */
static void comes_to_an_end(const struct qm *from)
{
	struct qm m = *from;
	bool again;

	qm_hold(&m, 0, 0);
	for (int step = 0; step < 100 && qm_open(&m, 0); step++) {
		for (int i = 0; i < N; i++) {
			if (!qm_may_claim(&m, i, 0)[0])
				qm_claim(&m, i, 0, "t");
			if (m.jobs[i].state == JOB_running)
				qm_complete(&m, i, "t", &again);
		}
		qm_tick(&m, 1);
	}
	CHECK(!qm_open(&m, 0));
	qm_finish(&m, 0, qm_n(&m, 0, JOB_done));
	CHECK(m.runs[0].state == RUN_done || m.runs[0].state == RUN_failed ||
	      m.runs[0].state == RUN_cancelled);
}

void test_queue_states__hold_the_invariants_all_of_them(void)
{
	bool moved[JOB_N_STATES][JOB_N_STATES] = {{false}};
	struct qm m, next;
	int n_moves = 0, n_moved = 0;

	set = mem_array((size_t)1 << SET_BITS, sizeof(*set));
	queue = mem_array((size_t)1 << (SET_BITS - 1), sizeof(*queue));
	n_seen = 0;
	small(&m);
	see(encode(&m));
	for (size_t i = 0; i < n_seen; i++) {
		decode(queue[i], &m);
		if (i % 16 == 0)
			comes_to_an_end(&m);
		for (int op = 0; op < N_OPS; op++) {
			next = m;
			do_op(&next, op);
			if (qm_broken(&next)) {
				printf("# state %llx, operation %d: %s\n",
				       (unsigned long long)queue[i], op, qm_broken(&next));
				CHECK(!qm_broken(&next));
			}
			for (int k = 0; k < JOB_N_STATES * JOB_N_STATES; k++)
				(&moved[0][0])[k] |= (&next.moved[0][0])[k];
			see(encode(&next));
		}
	}
	for (int a = 0; a < JOB_N_STATES; a++)
		for (int b = 0; b < JOB_N_STATES; b++) {
			bool may = job_may_move((enum job_state)a, (enum job_state)b);
			CHECK(may || !moved[a][b]);
			if (may && !moved[a][b])
				printf("# never from %s to %s\n", job_state_text((enum job_state)a),
				       job_state_text((enum job_state)b));
			n_moves += may;
			n_moved += moved[a][b];
		}
	printf("# %zu states, %d of %d moves\n", n_seen, n_moved, n_moves);
	CHECK_EQ(n_moved, n_moves);
	free(set);
	free(queue);
}
