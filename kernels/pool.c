/* Persistent threads for the operations: spin briefly for the next job, then sleep on a futex.
 *
 * A job is one 64-bit word, generation << 32 | items left. Taking an item is a compare-and-swap on
 * it, so a thread that wakes late can never take an item of another job with an old function.
 */
#include "kernels/kernels.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 512
#define SCRATCH_SLOTS 6
/* How long a thread without work stays awake. Under the short wait threads slept through a part of
 * every token, and waking takes as long again; 110M BF16 at batch 1 ran at 157 instead of 225
 * tokens a second. Where others want the processor (a yield that takes long) the long wait takes it
 * from the very thread that is waited for. */
#define SHORT_SPINS 1500    /* pauses; about 40 us */
#define LONG_WAIT_NS 400000 /* longer than one thread works alone between two operations */
#define YIELD_PAUSES 16
#define TAKEN_NS 20000 /* a yield this long: another ran */
#define CROWDED 64     /* waits that are short after that */
#define HUGE_PAGE (2u << 20)

struct scratch {
	void *p;
	size_t size;
};

struct kern_pool {
	_Alignas(64) _Atomic uint64_t job;
	_Alignas(64) _Atomic uint32_t left; /* items not finished; futex of the caller */
	_Alignas(64) _Atomic uint32_t wake; /* futex of the threads */
	_Atomic int sleepers;
	_Atomic bool caller_waits, quit;
	void (*_Atomic fn)(void *, int, int);
	void *_Atomic ctx;
	_Atomic int n_items;
	int n_threads;
	int caller_crowded;
	bool crowd; /* more threads than cores: never wait awake */
	pthread_t threads[THREADS_MAX];
	struct scratch scratch[THREADS_MAX + SCRATCH_SLOTS];
};

struct seat {
	struct kern_pool *pool;
	int thread;
};

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	atomic_signal_fence(memory_order_seq_cst);
#endif
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Stays awake until `until` says so; false when it should sleep instead. `crowded` is the thread's
 * own. */
static bool wait_awake(struct kern_pool *p, bool (*until)(struct kern_pool *), int *crowded)
{
	if (p->crowd)
		return until(p);
	for (int i = 0; i < SHORT_SPINS; i++) {
		if (until(p))
			return true;
		relax();
	}
	if (*crowded > 0) {
		--*crowded;
		return false;
	}
	for (int64_t begun = now_ns(), before = begun, now; before - begun < LONG_WAIT_NS;
	     before = now) {
		sched_yield();
		now = now_ns();
		if (until(p))
			return true;
		if (now - before > TAKEN_NS) {
			*crowded = CROWDED;
			return false;
		}
		for (int i = 0; i < YIELD_PAUSES; i++)
			relax();
		now = now_ns();
	}
	return false;
}

/* Runs one item of the current job; false when none is left. */
static bool take_item(struct kern_pool *p, int thread)
{
	uint64_t job = atomic_load(&p->job);
	uint32_t left = (uint32_t)job;

	if (left == 0)
		return false;
	void (*fn)(void *, int, int) = atomic_load_explicit(&p->fn, memory_order_relaxed);
	void *ctx = atomic_load_explicit(&p->ctx, memory_order_relaxed);
	int n = atomic_load_explicit(&p->n_items, memory_order_relaxed);
	if (!atomic_compare_exchange_strong(&p->job, &job, job - 1))
		return true;
	fn(ctx, n - (int)left, thread);
	if (atomic_fetch_sub(&p->left, 1) == 1 && atomic_load(&p->caller_waits))
		futex_wake(&p->left);
	return true;
}

static void sleep_until_woken(struct kern_pool *p)
{
	uint32_t seen = atomic_load(&p->wake);

	atomic_fetch_add(&p->sleepers, 1);
	if ((uint32_t)atomic_load(&p->job) == 0 && !atomic_load(&p->quit))
		futex_wait(&p->wake, seen);
	atomic_fetch_sub(&p->sleepers, 1);
}

static bool has_work(struct kern_pool *p)
{
	return (uint32_t)atomic_load_explicit(&p->job, memory_order_relaxed) != 0 ||
	       atomic_load_explicit(&p->quit, memory_order_relaxed);
}

static void *thread_main(void *arg)
{
	struct seat seat = *(struct seat *)arg;
	struct kern_pool *p = seat.pool;
	int crowded = 0;

	free(arg);
	while (!atomic_load(&p->quit)) {
		while (take_item(p, seat.thread))
			;
		if (!wait_awake(p, has_work, &crowded))
			sleep_until_woken(p);
	}
	return NULL;
}

static void give_up(const char *what)
{
	fprintf(stderr, "kernels: %s\n", what);
	abort();
}

struct kern_pool *kern_pool_new(int n)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	struct kern_pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);

	if (!p)
		give_up("out of memory for the thread pool");
	*p = (struct kern_pool){0};
	if (n <= 0)
		n = (int)cores;
	p->n_threads = n > THREADS_MAX ? THREADS_MAX : n < 1 ? 1 : n;
	p->crowd = p->n_threads > cores;
	for (int i = 1; i < p->n_threads; i++) {
		struct seat *seat = malloc(sizeof *seat);

		if (!seat)
			give_up("out of memory for a thread");
		*seat = (struct seat){p, i};
		if (pthread_create(&p->threads[i], NULL, thread_main, seat) != 0) {
			free(seat);
			p->n_threads = i; /* Fewer threads give the same results. */
			break;
		}
	}
	return p;
}

void kern_pool_free(struct kern_pool *p)
{
	if (!p)
		return;
	atomic_store(&p->quit, true);
	atomic_fetch_add(&p->wake, 1);
	futex_wake(&p->wake);
	for (int i = 1; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	for (int i = 0; i < THREADS_MAX + SCRATCH_SLOTS; i++)
		free(p->scratch[i].p);
	free(p);
}

int kern_pool_threads(const struct kern_pool *p)
{
	return p->n_threads;
}

static bool is_done(struct kern_pool *p)
{
	return atomic_load_explicit(&p->left, memory_order_acquire) == 0;
}

static void wait_done(struct kern_pool *p)
{
	uint32_t left;

	if (wait_awake(p, is_done, &p->caller_crowded))
		return;
	atomic_store(&p->caller_waits, true);
	while ((left = atomic_load(&p->left)) != 0)
		futex_wait(&p->left, left);
	atomic_store(&p->caller_waits, false);
}

void kern_pool_run(struct kern_pool *p, void (*fn)(void *ctx, int item, int thread), void *ctx,
		   int n)
{
	if (p->n_threads == 1 || n <= 1) {
		for (int i = 0; i < n; i++)
			fn(ctx, i, 0);
		return;
	}
	uint64_t generation = (atomic_load(&p->job) >> 32) + 1;
	atomic_store_explicit(&p->fn, fn, memory_order_relaxed);
	atomic_store_explicit(&p->ctx, ctx, memory_order_relaxed);
	atomic_store_explicit(&p->n_items, n, memory_order_relaxed);
	atomic_store(&p->left, (uint32_t)n);
	atomic_store(&p->job, generation << 32 | (uint32_t)n);
	atomic_fetch_add(&p->wake, 1);
	if (atomic_load(&p->sleepers) > 0)
		futex_wake(&p->wake);
	while (take_item(p, 0))
		;
	wait_done(p);
}

void *kern_pool_scratch(struct kern_pool *p, int slot, size_t size)
{
	struct scratch *s = &p->scratch[slot + SCRATCH_SLOTS];
	size_t align = size >= HUGE_PAGE ? HUGE_PAGE : 64;

	if (s->size >= size)
		return s->p;
	free(s->p);
	s->size = (size + align - 1) / align * align;
	s->p = aligned_alloc(align, s->size);
	if (!s->p)
		give_up("out of memory for scratch");
	if (align == HUGE_PAGE)
		madvise(s->p, s->size, MADV_HUGEPAGE);
	return s->p;
}
