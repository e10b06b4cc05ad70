/* Ranks of one machine over a segment of shared memory.
 *
 *	head	 one line of 64 bytes and more for each rank: how many meetings it has come to, its
 *		 process, what it asks for, how it ended
 *	slots	 [2][rank][SLOT_BYTES]: what the rank gives to the others in this meeting
 *
 * An array goes through in pieces. For each, a rank writes its values to its slot, comes to the
 * meeting (its counter is one more), waits for the others' counters, and reads all slots in order.
 * The slots of even and odd meetings are two, so that one meeting per piece is enough: who writes
 *to a slot again has met all others once more after they were done reading it.
 *
 * Waiting: a few thousand looks at the counter, then a futex on it. Every WAIT_MS the waiter looks
 * whether the rank it waits for is alive (its process by pidfd, which tells the dead from the
 * unreaped), whether it gave up, and at the clock.
 */
#include "kernels/collective.h"
#include "kernels/collective_inner.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLOT_BYTES ((size_t)1 << 18) /* stays in the second-level cache; 64 ranks take 32 MiB */
#define WAIT_MS 50
#define LOOKS 2000
#define SEGMENT_WORD 0x70636f6c /* says that a segment is one of this layout */

enum { HERE, LEFT, GAVE_UP };

/* Of one rank. Atomics are the only words that two ranks touch without a meeting between. */
struct member {
	_Alignas(64) _Atomic uint32_t met; /* meetings come to; the futex */
	_Atomic uint32_t state;
	_Atomic int32_t process;
	_Alignas(64) char why[COLL_WHY]; /* written before state becomes GAVE_UP */
	/* What it asks for in this meeting, written before `met`. Two, as the slots are. */
	struct {
		uint32_t word, kind, type, op, root, n_ranks;
		uint64_t n;
	} asks[2];
};

struct shm {
	struct coll c;
	struct member *members; /* [n] mapped */
	char *slots;
	void *map;
	size_t bytes;
	uint32_t met;
	double timeout_s;
	int pidfd[COLL_RANKS_MAX]; /* -1: a thread of this process, or not known */
	void *stage;		   /* the program's copy of a piece; NULL where memory is */
};

static size_t head_bytes(int n)
{
	return ((size_t)n * sizeof(struct member) + 4095) / 4096 * 4096;
}

size_t coll_shm_bytes(int n)
{
	return head_bytes(n) + 2 * (size_t)n * SLOT_BYTES;
}

static char *slot(const struct shm *s, int rank)
{
	return s->slots + ((size_t)(s->met & 1) * (size_t)s->c.n + (size_t)rank) * SLOT_BYTES;
}

/* --- meetings --------------------------------------------------------------------------------- */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, COLL_RANKS_MAX, NULL, NULL, 0);
}

static void sleep_on(_Atomic uint32_t *word, uint32_t value)
{
	const struct timespec t = {.tv_nsec = WAIT_MS * 1000000L};

	syscall(SYS_futex, word, FUTEX_WAIT, value, &t, NULL, 0);
}

static bool process_ended(struct shm *s, int rank)
{
	struct pollfd p = {.fd = s->pidfd[rank], .events = POLLIN};

	return p.fd >= 0 && poll(&p, 1, 0) > 0;
}

/* False, with the cause, once `rank` will not come any more. */
static bool still_coming(struct shm *s, int rank, double since)
{
	struct member *m = &s->members[rank];
	char why[COLL_WHY];
	uint32_t state = atomic_load(&m->state);
	bool dead = process_ended(s, rank);

	/* What it did before it ended counts. */
	if (atomic_load(&m->met) >= s->met)
		return true;
	if (state == GAVE_UP)
		snprintf(why, sizeof why, "rank %d gave up: %.200s", rank, m->why);
	else if (state == LEFT)
		snprintf(why, sizeof why, "rank %d left before the others", rank);
	else if (dead)
		snprintf(why, sizeof why, "rank %d ended: its process %d is gone", rank,
			 (int)atomic_load(&m->process));
	else if (now() - since > s->timeout_s)
		snprintf(why, sizeof why, "rank %d did not come for %.0f seconds", rank,
			 s->timeout_s);
	else
		return true;
	return coll_fail(&s->c, why);
}

static bool wait_for(struct shm *s, int rank, double since)
{
	_Atomic uint32_t *word = &s->members[rank].met;

	for (int i = 0; i < LOOKS; i++)
		if (atomic_load_explicit(word, memory_order_acquire) >= s->met)
			return true;
	for (;;) {
		uint32_t seen = atomic_load_explicit(word, memory_order_acquire);

		if (seen >= s->met)
			return true;
		if (!still_coming(s, rank, since))
			return false;
		sleep_on(word, seen);
	}
}

/* All ranks have come, and all for the same. */
static bool meet(struct shm *s, const struct coll_call *a)
{
	struct member *me = &s->members[s->c.rank];
	unsigned odd = s->met & 1;
	double since = now();

	me->asks[odd].word = SEGMENT_WORD;
	me->asks[odd].kind = a->kind;
	me->asks[odd].type = a->type;
	me->asks[odd].op = a->op;
	me->asks[odd].root = (uint32_t)a->root;
	me->asks[odd].n_ranks = (uint32_t)s->c.n;
	me->asks[odd].n = a->n;
	s->met++;
	atomic_store_explicit(&me->met, s->met, memory_order_release);
	wake(&me->met);
	for (int r = 0; r < s->c.n; r++) {
		if (r == s->c.rank)
			continue;
		if (!wait_for(s, r, since))
			return false;
		if (memcmp(&s->members[r].asks[odd], &me->asks[odd], sizeof me->asks[odd]) != 0) {
			char why[COLL_WHY];

			snprintf(why, sizeof why,
				 "ranks differ: rank %d asks for operation %u of %llu elements, "
				 "rank "
				 "%d for %d of %zu",
				 r, s->members[r].asks[odd].kind,
				 (unsigned long long)s->members[r].asks[odd].n, s->c.rank, a->kind,
				 a->n);
			return coll_fail(&s->c, why);
		}
	}
	return true;
}

/* --- sums ------------------------------------------------------------------------------------- */

static float from_bf16(uint16_t x)
{
	uint32_t bits = (uint32_t)x << 16;
	float f;

	memcpy(&f, &bits, sizeof f);
	return f;
}

/* To nearest even; a NaN stays one. */
static uint16_t to_bf16(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof bits);
	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16 | 0x40);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#define PICK(a, b, op) ((op) == COLL_MAX ? ((b) > (a) ? (b) : (a)) : ((b) < (a) ? (b) : (a)))

/* out[i] = all ranks' elements i in order. Slots are the second meeting's back: `met` was raised.
 */
#define REDUCE(name, type)                                                                         \
	static void name(const struct shm *s, type *out, size_t n, enum coll_op op)                \
	{                                                                                          \
		memcpy(out, slot(s, 0), n * sizeof *out);                                          \
		for (int r = 1; r < s->c.n; r++) {                                                 \
			const type *x = (const type *)(const void *)slot(s, r);                    \
			if (op == COLL_SUM)                                                        \
				for (size_t i = 0; i < n; i++)                                     \
					out[i] += x[i];                                            \
			else                                                                       \
				for (size_t i = 0; i < n; i++)                                     \
					out[i] = PICK(out[i], x[i], op);                           \
		}                                                                                  \
	}
REDUCE(reduce_f32, float)
REDUCE(reduce_f64, double)
REDUCE(reduce_i64, int64_t)

static void reduce_bf16(const struct shm *s, uint16_t *out, size_t n, enum coll_op op)
{
	for (size_t i = 0; i < n; i++) {
		float sum = from_bf16(((const uint16_t *)(const void *)slot(s, 0))[i]);

		for (int r = 1; r < s->c.n; r++) {
			float x = from_bf16(((const uint16_t *)(const void *)slot(s, r))[i]);

			sum = op == COLL_SUM ? sum + x : PICK(sum, x, op);
		}
		out[i] = to_bf16(sum);
	}
}

static void reduce(struct shm *s, void *out, size_t n, const struct coll_call *a)
{
	s->met--; /* The slots of the meeting that has just been. */
	if (a->type == COLL_F32)
		reduce_f32(s, out, n, a->op);
	else if (a->type == COLL_F64)
		reduce_f64(s, out, n, a->op);
	else if (a->type == COLL_I64)
		reduce_i64(s, out, n, a->op);
	else
		reduce_bf16(s, out, n, a->op);
	s->met++;
}

/* --- pieces ----------------------------------------------------------------------------------- */

/* To and from the caller's array. */
static void take(struct shm *s, const struct coll_call *a, void *to, const void *from, size_t bytes)
{
	if (a->here || !s->stage)
		memcpy(to, from, bytes);
	else
		s->c.k->get(s->c.pool, to, from, bytes);
}

static void give(struct shm *s, const struct coll_call *a, void *to, const void *from, size_t bytes)
{
	if (a->here || !s->stage)
		memcpy(to, from, bytes);
	else
		s->c.k->put(s->c.pool, to, from, bytes);
}

static bool piece_reduced(struct shm *s, const struct coll_call *a, char *x, size_t n, bool keep)
{
	size_t bytes = n * coll_type_bytes(a->type);
	bool there = s->stage && !a->here;

	take(s, a, slot(s, s->c.rank), x, bytes);
	if (!meet(s, a))
		return false;
	if (!keep)
		return true;
	reduce(s, there ? s->stage : x, n, a);
	if (there)
		give(s, a, x, s->stage, bytes);
	return true;
}

static bool piece_from(struct shm *s, const struct coll_call *a, char *x, size_t n, int root)
{
	size_t bytes = n * coll_type_bytes(a->type);
	char *from = slot(s, root);

	if (s->c.rank == root)
		take(s, a, from, x, bytes);
	if (!meet(s, a))
		return false;
	if (s->c.rank != root)
		give(s, a, x, from, bytes);
	return true;
}

/* Elements [at, to) piece by piece: summed, and kept where `keep`; or those of `root`. */
static bool run_span(struct shm *s, const struct coll_call *a, struct coll_span span, int root,
		     bool keep)
{
	size_t size = coll_type_bytes(a->type), most = SLOT_BYTES / size;

	for (size_t at = span.from, n; at < span.to; at += n) {
		char *x = (char *)a->x + at * size;
		bool ok;

		n = span.to - at < most ? span.to - at : most;
		ok = root < 0 ? piece_reduced(s, a, x, n, keep) : piece_from(s, a, x, n, root);
		if (!ok)
			return false;
	}
	return true;
}

static bool shm_run(struct coll *c, const struct coll_call *a)
{
	struct shm *s = (struct shm *)c;
	struct coll_span all = {0, a->n};
	bool ok = true;

	if (a->kind == COLL_REDUCE)
		return run_span(s, a, all, -1, true);
	if (a->kind == COLL_SPREAD)
		return run_span(s, a, all, a->root, true);
	for (int r = 0; r < c->n && ok; r++)
		ok = run_span(s, a, coll_part(a->n, r, c->n), a->kind == COLL_GATHER ? r : -1,
			      r == c->rank);
	return ok;
}

/* --- life ------------------------------------------------------------------------------------- */

static void end_as(struct shm *s, uint32_t state)
{
	struct member *me = &s->members[s->c.rank];
	uint32_t here = HERE;

	atomic_compare_exchange_strong(&me->state, &here, state);
	wake(&me->met);
}

static void shm_abort(struct coll *c, const char *why)
{
	struct shm *s = (struct shm *)c;
	struct member *me = &s->members[c->rank];

	if (atomic_load(&me->state) != HERE)
		return;
	snprintf(me->why, sizeof me->why, "%s", why);
	end_as(s, GAVE_UP);
}

static void shm_close(struct coll *c)
{
	struct shm *s = (struct shm *)c;

	if (s->map != MAP_FAILED) {
		end_as(s, LEFT);
		munmap(s->map, s->bytes);
	}
	for (int r = 0; r < c->n; r++)
		if (s->pidfd[r] >= 0)
			close(s->pidfd[r]);
	free(s->stage);
	free(s);
}

static const struct coll_body shm_body = {shm_run, shm_abort, shm_close};

/* From now on the others' deaths are seen. A rank that is gone already is seen as well: its number
 * is not given to another process while this one can still ask for it in vain. */
static bool watch(struct shm *s)
{
	pid_t mine = getpid();

	for (int r = 0; r < s->c.n; r++) {
		pid_t p = atomic_load(&s->members[r].process);

		if (p == mine)
			continue;
		s->pidfd[r] = (int)syscall(SYS_pidfd_open, p, 0);
		if (s->pidfd[r] < 0 && errno == ESRCH) {
			char why[COLL_WHY];

			snprintf(why, sizeof why, "rank %d ended: its process %d is gone", r,
				 (int)p);
			return coll_fail(&s->c, why);
		}
	}
	return true;
}

static struct shm *open_map(const struct coll_shm *o, char *why, size_t size)
{
	struct shm *s = calloc(1, sizeof *s);
	struct stat st;

	if (!s) {
		snprintf(why, size, "no memory");
		return NULL;
	}
	s->c = (struct coll){&shm_body, o->rank, o->n, o->kern, o->pool, false, ""};
	s->timeout_s = o->timeout_s > 0 ? o->timeout_s : COLL_TIMEOUT_S;
	s->bytes = coll_shm_bytes(o->n);
	memset(s->pidfd, -1, sizeof s->pidfd);
	s->map = MAP_FAILED;
	if (fstat(o->fd, &st) != 0 || (size_t)st.st_size < s->bytes)
		snprintf(why, size, "a segment for %d ranks needs %zu bytes", o->n, s->bytes);
	else if ((s->map = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, o->fd, 0)) ==
		 MAP_FAILED)
		snprintf(why, size, "mapping a segment of %zu bytes: %s", s->bytes,
			 strerror(errno));
	else if (o->kern && !o->kern->host && !(s->stage = malloc(SLOT_BYTES)))
		snprintf(why, size, "no memory");
	else
		return s;
	shm_close(&s->c);
	return NULL;
}

struct coll *coll_shm_open(const struct coll_shm *o, char *why, size_t size)
{
	struct coll_call hello = {.kind = COLL_REDUCE};
	struct shm *s;

	if (o->n < 1 || o->n > COLL_RANKS_MAX || o->rank < 0 || o->rank >= o->n) {
		snprintf(why, size, "rank %d of %d: expected 0 to n - 1 of 1 to %d", o->rank, o->n,
			 COLL_RANKS_MAX);
		return NULL;
	}
	s = open_map(o, why, size);
	if (!s)
		return NULL;
	s->members = s->map;
	s->slots = (char *)s->map + head_bytes(o->n);
	atomic_store(&s->members[o->rank].process, getpid());
	if (!meet(s, &hello) || !watch(s) || !meet(s, &hello)) {
		snprintf(why, size, "%s", s->c.why);
		shm_close(&s->c);
		return NULL;
	}
	return &s->c;
}
