#include "worker/gpu_guard.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define GPUS_MAX 16
#define STOP_MS 2000

struct gpu_guard {
	struct gpu_guard_opts o;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake, looked; /* of the thread; of those who wait for it */
	bool quit, now;
	int wanted;			  /* GPUs to be watched */
	int64_t begun_ms;		  /* of the look in progress; 0 between two */
	uint64_t n_begun, n_done;	  /* looks */
	json_t *figures;		  /* list, of the last look; owned, never changed */
	char why[GPU_WHY_MAX + 32];	  /* "" while well */
	struct gpu_watch *watch[GPUS_MAX]; /* the thread's own */
	int n;
};

/* --- the thread ------------------------------------------------------------------------------- */

/* Those that a job needs and the driver does not have are the job's own failure. */
static void open_wanted(struct gpu_guard *g, int wanted)
{
	struct err e;

	for (; g->n < wanted; g->n++)
		if (gpu_watch_open(g->o.device + g->n, NULL, &g->watch[g->n], &e) != RC_OK) {
			log_warn("gpu", "not_watched", "device=%d reason=%s", g->o.device + g->n,
				 e.text);
			g->watch[g->n] = NULL;
		}
}

static json_t *figures_of(int device, struct gpu_watch *w)
{
	json_t *o = json_pack("{s:i}", "device", device);
	struct gpu_look l;

	gpu_watch_look(w, &l);
	if (gpu_watch_name(w)[0])
		json_object_set_new(o, "name", json_string(gpu_watch_name(w)));
	jx_put_known(o, "load", l.load);
	jx_put_known(o, "memory_load", l.memory_load);
	jx_put_known(o, "memory_mib", l.memory_mib);
	jx_put_known(o, "memory_total_mib", l.memory_total_mib);
	jx_put_known(o, "temperature", l.temperature);
	jx_put_known(o, "power", l.power);
	jx_put_known(o, "ecc_errors", l.ecc_errors);
	jx_put_known(o, "xid", l.xid);
	return o;
}

static json_t *look_at_all(struct gpu_guard *g, char *why, size_t size)
{
	json_t *list = json_array();

	why[0] = 0;
	for (int i = 0; i < g->n; i++) {
		if (!g->watch[i])
			continue;
		json_array_append_new(list, figures_of(g->o.device + i, g->watch[i]));
		if (!why[0] && gpu_watch_why(g->watch[i])[0])
			str_fmt(why, size, "GPU %d: %s", g->o.device + i, gpu_watch_why(g->watch[i]));
	}
	return list;
}

/* The lock is held before and after, not while the driver is asked. True when it fell ill. */
static bool look(struct gpu_guard *g)
{
	char why[sizeof g->why];
	int wanted = g->wanted;
	bool fell;

	g->now = false;
	g->begun_ms = clk_mono_ms();
	g->n_begun++;
	pthread_mutex_unlock(&g->lock);
	open_wanted(g, wanted);
	json_t *list = look_at_all(g, why, sizeof why);
	pthread_mutex_lock(&g->lock);
	json_decref(g->figures);
	g->figures = list;
	g->begun_ms = 0;
	g->n_done = g->n_begun;
	fell = why[0] && !g->why[0];
	if (fell)
		str_copy(g->why, sizeof g->why, why);
	pthread_cond_broadcast(&g->looked);
	return fell;
}

static void *guard(void *arg)
{
	struct gpu_guard *g = arg;
	struct timespec until;

	pthread_mutex_lock(&g->lock);
	while (!g->quit) {
		if (look(g)) {
			pthread_mutex_unlock(&g->lock);
			g->o.fell_ill(g->o.ctx);
			pthread_mutex_lock(&g->lock);
		}
		until = clk_after(g->o.every_ms);
		while (!g->quit && !g->now &&
		       pthread_cond_timedwait(&g->wake, &g->lock, &until) == 0)
			;
	}
	pthread_mutex_unlock(&g->lock);
	return NULL;
}

/* --- start and stop --------------------------------------------------------------------------- */

static void release(struct gpu_guard *g)
{
	for (int i = 0; i < g->n; i++)
		gpu_watch_close(g->watch[i]);
	json_decref(g->figures);
	pthread_mutex_destroy(&g->lock);
	pthread_cond_destroy(&g->wake);
	pthread_cond_destroy(&g->looked);
	free(g);
}

enum rc gpu_guard_start(const struct gpu_guard_opts *o, struct gpu_guard **out, struct err *e)
{
	struct gpu_guard *g = mem_new(sizeof *g);
	enum rc rc;

	*out = NULL;
	g->o = *o;
	g->n = g->wanted = 1;
	g->figures = json_array();
	pthread_mutex_init(&g->lock, NULL);
	clk_cond_init(&g->wake);
	clk_cond_init(&g->looked);
	rc = gpu_watch_open(o->device, NULL, &g->watch[0], e);
	if (rc == RC_OK && pthread_create(&g->thread, NULL, guard, g) != 0)
		rc = err_set(e, RC_NOMEM, "no thread to watch GPUs");
	if (rc != RC_OK)
		release(g);
	else
		*out = g;
	return rc;
}

void gpu_guard_stop(struct gpu_guard *g)
{
	struct timespec until;

	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	g->quit = true;
	pthread_cond_signal(&g->wake);
	pthread_mutex_unlock(&g->lock);
	until = clk_after(STOP_MS);
	if (pthread_clockjoin_np(g->thread, NULL, CLOCK_MONOTONIC, &until) == 0)
		release(g);
	else
		log_warn("gpu", "driver_silent", "at=stop");
}

/* --- questions -------------------------------------------------------------------------------- */

void gpu_guard_widen(struct gpu_guard *g, int n)
{
	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	if (n > g->wanted)
		g->wanted = n < GPUS_MAX ? n : GPUS_MAX;
	pthread_mutex_unlock(&g->lock);
}

/* Lock held. */
static bool well(const struct gpu_guard *g, char *why, size_t size)
{
	int64_t waited = g->begun_ms ? clk_mono_ms() - g->begun_ms : 0;

	why[0] = 0;
	if (g->why[0])
		str_copy(why, size, g->why);
	else if (waited > g->o.silent_ms)
		str_fmt(why, size, "GPU %d: the driver has not answered for %lld s", g->o.device,
			(long long)(waited / 1000));
	return !g->why[0] && waited <= g->o.silent_ms;
}

bool gpu_guard_well(struct gpu_guard *g, char *why, size_t size)
{
	bool yes;

	why[0] = 0;
	if (!g)
		return true;
	pthread_mutex_lock(&g->lock);
	yes = well(g, why, size);
	pthread_mutex_unlock(&g->lock);
	return yes;
}

void gpu_guard_look(struct gpu_guard *g, int64_t ms)
{
	struct timespec until;

	if (!g)
		return;
	until = clk_after(ms);
	pthread_mutex_lock(&g->lock);
	uint64_t after = g->n_begun;
	g->now = true;
	pthread_cond_signal(&g->wake);
	while (g->n_done <= after && pthread_cond_timedwait(&g->looked, &g->lock, &until) == 0)
		;
	pthread_mutex_unlock(&g->lock);
}

void gpu_guard_tell(struct gpu_guard *g, json_t *o)
{
	char why[sizeof g->why];

	if (!g)
		return;
	pthread_mutex_lock(&g->lock);
	json_object_set(o, "gpus", g->figures);
	if (!well(g, why, sizeof why))
		json_object_set_new(o, "unhealthy", json_string(why));
	pthread_mutex_unlock(&g->lock);
}
