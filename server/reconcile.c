#include "server/reconcile.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/plan.h"
#include "queue/queue.h"
#include "server/rebuild.h"
#include "server/server.h"
#include "store/store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DIRTY_MAX 64   /* more than this: plan all */
#define SWEEP_MS 10000 /* every open run, whatever the events said */
#define WAITS_MS 2000  /* why jobs wait is noted no more often */
#define GATHER_MS 20   /* jobs of one batch end together; plan once for them */
#define TICK_LOOK_MS 50
#define TICK_AGAIN_MS 200 /* after one that failed */
#define GATHER_MS_MAX 1000 /* a large plan is made at most a third of the time */

struct reconcile {
	struct server *srv;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	char dirty[DIRTY_MAX][RUN_ID_MAX];
	size_t n_dirty;
	bool all;
	pthread_t planner, ticker;
};

/* --- what was added -------------------------------------------------------------------------- */

/* Jobs this process has added, by run: a plan of thousands is not sent to Redis again and again.
 * Forgotten whenever Redis was away, since it may come back with less. */
static struct {
	pthread_mutex_t lock;
	json_t *runs; /* {run: {job: true}} */
} known = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void known_forget(const char *run)
{
	pthread_mutex_lock(&known.lock);
	if (known.runs && run)
		json_object_del(known.runs, run);
	else if (known.runs)
		json_object_clear(known.runs);
	pthread_mutex_unlock(&known.lock);
}

/* The jobs that were not added before. */
static json_t *unknown_jobs(const char *run, const json_t *jobs)
{
	json_t *fresh = json_array(), *job, *have;
	size_t i;

	pthread_mutex_lock(&known.lock);
	have = json_object_get(known.runs, run);
	json_array_foreach(jobs, i, job) if (!json_object_get(have, jx_get_str(job, "id", "")))
		json_array_append(fresh, job);
	pthread_mutex_unlock(&known.lock);
	return fresh;
}

static void known_add(const char *run, const json_t *jobs)
{
	json_t *job, *have;
	size_t i;

	pthread_mutex_lock(&known.lock);
	if (!known.runs)
		known.runs = json_object();
	have = json_object_get(known.runs, run);
	if (!have)
		json_object_set_new(known.runs, run, have = json_object());
	json_array_foreach(jobs, i, job)
		json_object_set_new(have, jx_get_str(job, "id", ""), json_true());
	pthread_mutex_unlock(&known.lock);
}

void reconcile_poke(struct reconcile *rc, const char *run)
{
	size_t i = 0;

	if (!rc)
		return;
	if (!run[0])
		known_forget(NULL);
	pthread_mutex_lock(&rc->lock);
	while (i < rc->n_dirty && strcmp(rc->dirty[i], run) != 0)
		i++;
	if (!run[0] || (i == rc->n_dirty && i == DIRTY_MAX))
		rc->all = true;
	else if (i == rc->n_dirty)
		str_copy(rc->dirty[rc->n_dirty++], RUN_ID_MAX, run);
	pthread_cond_broadcast(&rc->wake);
	pthread_mutex_unlock(&rc->lock);
}

void reconcile_forget(void)
{
	known_forget(NULL);
}

/* --- one run ------------------------------------------------------------------------------- */

/* The checkpoint of the last model the plan names. */
static const char *final_digest(const json_t *spec, const json_t *done, const char *run,
				json_t **models)
{
	const json_t *last, *job;
	size_t n;

	*models = plan_models(spec, done, run);
	n = json_array_size(*models);
	last = n ? json_array_get(*models, n - 1) : NULL;
	job = json_object_get(done, jx_get_str(last, "job", ""));
	return jx_get_str(
		json_object_get(json_object_get(job, "outputs"), jx_get_str(last, "output", "")),
		"digest", NULL);
}

static enum rc plan_and_add(struct server *s, const char *run, const json_t *spec,
			    const json_t *done, struct err *e)
{
	json_t *jobs = NULL, *models = NULL, *fresh;
	int64_t n_new = 0;
	bool finished = false;
	enum rc rc = plan(spec, done, run, &jobs, e);

	if (rc) { /* The plan is pure: what cannot be planned now never can. */
		log_warn("reconcile", "unplannable", "run=%s error=%s", run, e->text);
		atomic_fetch_add(&s->stats.plan_errors, 1);
		return queue_fail_run(s->queue, run, e->text, e);
	}
	fresh = unknown_jobs(run, jobs);
	if (json_array_size(fresh))
		rc = queue_add_jobs(s->queue, run, fresh, &n_new, e);
	if (!rc)
		known_add(run, fresh);
	if (!rc && n_new)
		log_info("reconcile", "planned", "run=%s new=%lld", run, (long long)n_new);
	if (!rc && !n_new)
		rc = queue_finish_run(s->queue, run, (int64_t)json_object_size(done),
				      final_digest(spec, done, run, &models), &finished, e);
	if (finished || rc)
		known_forget(run);
	if (finished)
		log_info("reconcile", "finished", "run=%s", run);
	json_decref(fresh);
	json_decref(jobs);
	json_decref(models);
	return rc;
}

enum rc reconcile_run(struct server *s, const char *run, struct err *e)
{
	json_t *info = NULL, *done = NULL;
	const json_t *spec;
	enum rc rc = queue_run(s->queue, run, &info, e);

	if (rc) {
		known_forget(run);
		return rc;
	}
	atomic_fetch_add(&s->stats.plans, 1);
	spec = json_object_get(json_object_get(info, "record"), "spec");
	if (json_object_get(info, "cancel") && jx_get_bool(info, "cancel", false)) {
		/* Nothing new is added to a run that is being cancelled; it only ends. */
		rc = queue_done_outputs(s->queue, run, &done, e);
		if (!rc)
			rc = queue_finish_run(s->queue, run, (int64_t)json_object_size(done), NULL,
					      &(bool){0}, e);
	} else {
		rc = queue_done_outputs(s->queue, run, &done, e);
		if (!rc)
			rc = plan_and_add(s, run, spec, done, e);
	}
	json_decref(done);
	json_decref(info);
	return rc == RC_CONFLICT ? RC_OK : rc; /* It ended while we looked. */
}

/* --- the loop ------------------------------------------------------------------------------ */

static void wait_dirty(struct reconcile *rc, int64_t until_ms)
{
	struct timespec ts = clk_after(until_ms - clk_mono_ms());

	pthread_mutex_lock(&rc->lock);
	while (!rc->all && rc->n_dirty == 0 && !atomic_load(&rc->srv->stopping))
		if (pthread_cond_timedwait(&rc->wake, &rc->lock, &ts) != 0)
			break;
	pthread_mutex_unlock(&rc->lock);
}

static void plan_one(struct reconcile *rc, const char *run)
{
	struct err e = {0};

	if (reconcile_run(rc->srv, run, &e) && e.code != RC_NOTFOUND) {
		log_warn("reconcile", "plan_failed", "run=%s error=%s", run, e.text);
		atomic_fetch_add(&rc->srv->stats.plan_errors, 1);
	}
}

static void plan_all(struct reconcile *rc)
{
	struct err e = {0};
	json_t *runs = NULL, *run;
	size_t i;

	if (queue_open_runs(rc->srv->queue, &runs, &e))
		log_warn("reconcile", "no_runs", "error=%s", e.text);
	json_array_foreach(runs, i, run) if (!atomic_load(&rc->srv->stopping))
		plan_one(rc, json_string_value(run));
	json_decref(runs);
}

static void note_waits(struct server *s, int64_t *noted_ms)
{
	struct err e = {0};

	if (clk_mono_ms() - *noted_ms < WAITS_MS || atomic_load(&s->behind))
		return;
	*noted_ms = clk_mono_ms();
	if (queue_waits_note(s->queue, &e))
		log_debug("reconcile", "waits", "error=%s", e.text);
}

static void *planner(void *arg)
{
	struct reconcile *rc = arg;
	int64_t sweep = clk_mono_ms(), last = 0, noted = sweep - WAITS_MS;

	while (!atomic_load(&rc->srv->stopping)) {
		char dirty[DIRTY_MAX][RUN_ID_MAX];
		size_t n;
		bool all;

		wait_dirty(rc, sweep);
		clk_sleep_ms(2 * last < GATHER_MS	? GATHER_MS
			     : 2 * last > GATHER_MS_MAX ? GATHER_MS_MAX
							: 2 * last);
		last = clk_mono_ms();
		pthread_mutex_lock(&rc->lock);
		n = rc->n_dirty;
		memcpy(dirty, rc->dirty, sizeof dirty);
		all = rc->all || clk_mono_ms() >= sweep;
		rc->n_dirty = 0;
		rc->all = false;
		pthread_mutex_unlock(&rc->lock);
		for (size_t i = 0; i < n && !all; i++)
			plan_one(rc, dirty[i]);
		if (all) {
			plan_all(rc);
			sweep = clk_mono_ms() + SWEEP_MS;
		}
		note_waits(rc->srv, &noted);
		last = clk_mono_ms() - last;
	}
	return NULL;
}

static void note_work(struct server_stats *st, const struct queue_work *w)
{
	atomic_store(&st->useful_ms, w->useful_ms);
	atomic_store(&st->lost_ms, w->lost_ms);
	atomic_store(&st->useful_cost, w->useful_cost);
	atomic_store(&st->lost_cost, w->lost_cost);
	atomic_store(&st->torn_off, w->torn_off);
}

/* A Redis that came back is compared at once: until then it takes no writes. */
static void wait_tick(struct server *s, int64_t tick_ms, bool ok)
{
	int64_t left = ok ? tick_ms : TICK_AGAIN_MS;

	while (left > 0 && !atomic_load(&s->stopping)) {
		clk_sleep_ms(left < TICK_LOOK_MS ? left : TICK_LOOK_MS);
		left = ok && queue_troubled(s->queue) ? 0 : left - TICK_LOOK_MS;
	}
}

static void *ticker(void *arg)
{
	struct reconcile *rc = arg;
	struct server *s = rc->srv;
	int64_t tick_ms = conf_i64(s->conf, "server.tick_ms");

	while (!atomic_load(&s->stopping)) {
		struct queue_tick t = {0};
		struct err e = {0};
		enum rc got = queue_tick(s->queue, &t, &e);
		bool ok;

		/* RC_UNSUPPORTED: a Redis without our keyspace. */
		if ((got == RC_OK && t.behind) || got == RC_UNSUPPORTED)
			got = rebuild_compare(s, &e);
		ok = got == RC_OK;
		if (!ok)
			known_forget(NULL);
		else if (!t.behind)
			note_work(&s->stats, &t.work);
		if (ok != atomic_exchange(&s->redis_ok, ok))
			log_line(ok ? LOG_INFO : LOG_WARN, "reconcile",
				 ok ? "redis_up" : "redis_down", "error=%s", e.text);
		if (t.n_expired || t.n_workers_lost)
			log_warn("reconcile", "leases_lost", "jobs=%lld workers=%lld",
				 (long long)t.n_expired, (long long)t.n_workers_lost);
		wait_tick(s, tick_ms, ok);
	}
	return NULL;
}

enum rc reconcile_start(struct server *s, struct reconcile **out, struct err *e)
{
	struct reconcile *rc = mem_new(sizeof *rc);

	rc->srv = s;
	rc->all = true;
	pthread_mutex_init(&rc->lock, NULL);
	clk_cond_init(&rc->wake);
	*out = s->reconcile = rc;
	if (pthread_create(&rc->planner, NULL, planner, rc) ||
	    pthread_create(&rc->ticker, NULL, ticker, rc))
		return err_set(e, RC_NOMEM, "cannot start the planner's threads");
	return RC_OK;
}

void reconcile_stop(struct reconcile *rc)
{
	if (!rc)
		return;
	pthread_mutex_lock(&rc->lock);
	pthread_cond_broadcast(&rc->wake);
	pthread_mutex_unlock(&rc->lock);
	pthread_join(rc->planner, NULL);
	pthread_join(rc->ticker, NULL);
	pthread_cond_destroy(&rc->wake);
	pthread_mutex_destroy(&rc->lock);
	free(rc);
}
