#include "queue/combine.h"

#include "base/clk.h"
#include "base/mem.h"
#include "queue/keys.h"
#include "queue/limits.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define SEEN(sem) __tsan_acquire(sem) /* It does not know sem_clockwait(). */
#else
#define SEEN(sem) (void)(sem)
#endif

/* While one is answered Redis has the next to do. Where Redis waits for the disk there is one. */
#define FLIGHTS 2
#define LINGER_SHARE 8 /* of what the last journey took */
#define LINGER_S_MAX 2e-3
#define HEAD 5 /* FCALL, function, 1, key, schema: then come the verb's own arguments. */

/* A call in the list or on its way; lives on its thread's stack. */
struct traveller {
	struct redis_cmd *cmd; /* borrowed */
	struct err *e;	       /* of the caller, or NULL */
	struct redis_reply *reply;
	enum rc rc;
	enum { WAITS, LEADS, RIDES } part; /* WAITS: in the list */
	sem_t turn; /* posted to one that leads, and to one that has its answer */
	struct traveller *next;
};

struct combine {
	struct redis *redis; /* borrowed */
	int64_t timeout_ms;
	bool synced;	      /* Redis waits for the disk before it answers. */
	pthread_mutex_t lock; /* guards the rest */
	struct traveller *first, **last;
	int n_waiting, n_flying, n_gather;
	int n_expected;	 /* that were on their way or waiting when the last one landed */
	double linger_s; /* until when the next one waits for as many */
	struct traveller *lingers;
};

/* --- the list, under the lock ------------------------------------------------------------------
 */

static void list_add(struct combine *k, struct traveller *t)
{
	t->next = NULL;
	*k->last = t;
	k->last = &t->next;
	k->n_waiting++;
}

static struct traveller *list_first(struct combine *k)
{
	struct traveller *t = k->first;

	k->first = t->next;
	if (!k->first)
		k->last = &k->first;
	k->n_waiting--;
	t->next = NULL;
	return t;
}

static void list_drop(struct combine *k, struct traveller *t)
{
	struct traveller **at = &k->first;

	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	if (k->last == &t->next)
		k->last = at;
	k->n_waiting--;
}

/* The first that waits sets out. */
static void next_flight(struct combine *k)
{
	struct traveller *t = list_first(k);

	t->part = LEADS;
	k->n_flying++;
	sem_post(&t->turn);
}

static void landed(struct combine *k)
{
	k->n_flying--;
	if (k->first && !k->n_gather)
		next_flight(k);
}

/* --- a journey ---------------------------------------------------------------------------------
 */

/* "FCALL pawl2_many 1 <key> <schema>", and of each its verb, how many arguments, and those. */
static void together(struct redis_cmd *all, const struct traveller *t)
{
	redis_cmd_words(all, "FCALL " QUEUE_VERB "many 1 " KEY_META " " QUEUE_SCHEMA);
	for (; t; t = t->next) {
		const struct redis_cmd *c = t->cmd;
		redis_cmd_addn(all, c->bytes.data + c->ends[0] + strlen(QUEUE_VERB),
			       c->ends[1] - c->ends[0] - strlen(QUEUE_VERB));
		redis_cmd_i64(all, c->argc - HEAD);
		for (int i = HEAD; i < c->argc; i++)
			redis_cmd_addn(all, c->bytes.data + c->ends[i - 1],
				       c->ends[i] - c->ends[i - 1]);
	}
	all->once = true; /* Each decides for itself whether it is said again. */
}

static size_t how_many(const struct traveller *t)
{
	size_t n = 0;

	for (; t; t = t->next)
		n++;
	return n;
}

static void fly(struct combine *k, struct traveller *first)
{
	struct redis_cmd all = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	struct err e = {0};
	size_t i = 0, n = how_many(first);
	enum rc rc;

	if (n == 1) {
		first->rc = redis_call(k->redis, first->cmd, &first->reply, first->e);
		return;
	}
	together(&all, first);
	rc = redis_call(k->redis, &all, &p, &e);
	if (!rc && reply_n(p) != n)
		rc = err_set(&e, RC_IO, "redis gave %zu answers to %zu calls", reply_n(p), n);
	for (struct traveller *t = first; t; t = t->next, i++) {
		if (rc) {
			t->rc = err_set(t->e, rc, "%s", e.text);
			continue;
		}
		t->reply = reply_take(p, i);
		t->rc = reply_error(t->reply, t->e);
	}
	reply_free(p);
}

/* False when nobody did until then; NULL: for ever. */
static bool wait_called(struct traveller *t, const struct timespec *until)
{
	int failed;

	do
		failed = until ? sem_clockwait(&t->turn, CLOCK_MONOTONIC, until)
			       : sem_wait(&t->turn);
	while (failed && errno == EINTR);
	if (!failed)
		SEEN(&t->turn);
	return !failed;
}

/* Under the lock, given up meanwhile. One fsync for all is worth a little patience: those that have
 * just had their answers are about to say the next. */
static void linger(struct combine *k, struct traveller *me)
{
	double left = k->linger_s - clk_mono_s();
	struct timespec until;

	if (!k->synced || left <= 0 || k->n_waiting + 1 >= k->n_expected)
		return;
	until = clk_after_us((int64_t)(left * 1e6));
	k->lingers = me;
	pthread_mutex_unlock(&k->lock);
	wait_called(me, &until);
	pthread_mutex_lock(&k->lock);
	k->lingers = NULL;
}

/* Sets out with all that wait; they have their answers when it returns. */
static void lead(struct combine *k, struct traveller *me)
{
	struct traveller **end = &me->next, *next;
	double start, now;
	int n = 1;

	pthread_mutex_lock(&k->lock);
	linger(k, me);
	for (; k->first && n < COMBINE_MAX; n++) {
		*end = list_first(k);
		(*end)->part = RIDES;
		end = &(*end)->next;
	}
	pthread_mutex_unlock(&k->lock);
	start = clk_mono_s();
	fly(k, me);
	now = clk_mono_s();
	pthread_mutex_lock(&k->lock);
	n += k->n_waiting;
	k->n_expected = n < COMBINE_MAX ? n : COMBINE_MAX;
	k->linger_s = now + fmin((now - start) / LINGER_SHARE, LINGER_S_MAX);
	landed(k);
	pthread_mutex_unlock(&k->lock);
	for (struct traveller *t = me->next; t; t = next) {
		next = t->next; /* A traveller that has its answer is gone. */
		sem_post(&t->turn);
	}
}

/* Under the lock, which it gives up. False when nobody took it along in time: it never set out. */
static bool wait_turn(struct combine *k, struct traveller *t)
{
	struct timespec until = clk_after(COMBINE_WAIT_MS);
	bool for_ever = k->n_gather > 0, waits;

	list_add(k, t);
	if (k->lingers && k->n_waiting + 1 == k->n_expected)
		sem_post(&k->lingers->turn);
	if (for_ever && k->n_waiting == k->n_gather) {
		k->n_gather = 0;
		next_flight(k);
	}
	pthread_mutex_unlock(&k->lock);
	if (wait_called(t, for_ever ? NULL : &until))
		return true;
	pthread_mutex_lock(&k->lock);
	waits = t->part == WAITS;
	if (waits)
		list_drop(k, t);
	pthread_mutex_unlock(&k->lock);
	if (!waits)
		wait_called(t, NULL); /* Under way: the journey has a time-out of its own. */
	return !waits;
}

enum rc combine_call(struct combine *k, struct redis_cmd *c, struct redis_reply **out,
		     struct err *e)
{
	struct traveller me = {.cmd = c, .e = e};
	int64_t until = clk_mono_ms() + k->timeout_ms;
	bool went = true;

	sem_init(&me.turn, 0, 0);
	pthread_mutex_lock(&k->lock);
	if (k->n_flying < (k->synced ? 1 : FLIGHTS) && !k->n_gather) {
		k->n_flying++;
		pthread_mutex_unlock(&k->lock);
		lead(k, &me);
	} else {
		went = wait_turn(k, &me);
		if (went && me.part == LEADS)
			lead(k, &me);
	}
	sem_destroy(&me.turn);
	/* What went alone was repeated by redis_call() already, and is released. */
	if (!went || (c->argc && me.rc == RC_UNREACHABLE && !c->once && clk_mono_ms() < until))
		me.rc = redis_call(k->redis, c, &me.reply, e);
	redis_cmd_release(c);
	if (me.rc || !out) {
		reply_free(me.reply);
		me.reply = NULL;
	}
	if (out)
		*out = me.reply;
	return me.rc;
}

/* --- life --------------------------------------------------------------------------------------
 */

struct combine *combine_new(struct redis *r, int64_t timeout_ms, bool synced)
{
	struct combine *k = mem_new(sizeof(*k));

	k->redis = r;
	k->timeout_ms = timeout_ms;
	k->synced = synced;
	k->last = &k->first;
	pthread_mutex_init(&k->lock, NULL);
	return k;
}

void combine_free(struct combine *k)
{
	if (k)
		pthread_mutex_destroy(&k->lock);
	free(k);
}

void combine_gather(struct combine *k, int n)
{
	pthread_mutex_lock(&k->lock);
	k->n_gather = n;
	pthread_mutex_unlock(&k->lock);
}

int combine_n_waiting(struct combine *k)
{
	int n;

	pthread_mutex_lock(&k->lock);
	n = k->n_waiting;
	pthread_mutex_unlock(&k->lock);
	return n;
}
