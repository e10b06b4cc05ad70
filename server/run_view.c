#include "server/run_view.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/alarm.h"
#include "server/http.h"
#include "server/server.h"
#include "server/view.h"

#include <pthread.h>
#include <string.h>

#define SLOTS 64

static struct {
	pthread_mutex_t lock;
	struct {
		char run[RUN_ID_MAX];
		char revision[REVISION_MAX]; /* a decision or a change of state makes the view stale */
		int64_t ended_ms,
			made_ms; /* ended_ms is 0 while the run goes on, and again after a retry */
		json_t *view;	 /* owned; never changed once here */
	} slot[SLOTS];
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* A copy of the kept view, or NULL. */
static json_t *cache_get(const char *run, const json_t *info)
{
	int64_t now = clk_mono_ms(), ended_ms = jx_get_i64(info, "ended_ms", 0);
	json_t *view = NULL;

	pthread_mutex_lock(&cache.lock);
	for (int i = 0; i < SLOTS; i++) {
		if (strcmp(cache.slot[i].run, run) != 0 || !cache.slot[i].view ||
		    strcmp(cache.slot[i].revision, jx_get_str(info, "revision", "")) != 0)
			continue;
		if (now - cache.slot[i].made_ms < RUN_VIEW_MS ||
		    (ended_ms > 0 && cache.slot[i].ended_ms == ended_ms))
			view = json_copy(cache.slot[i].view);
		break;
	}
	pthread_mutex_unlock(&cache.lock);
	return view;
}

/* Takes the slot of the run, else the oldest. view NULL forgets. */
static void cache_put(const char *run, const json_t *info, json_t *view)
{
	int at = 0;

	pthread_mutex_lock(&cache.lock);
	for (int i = 0; i < SLOTS; i++) {
		if (strcmp(cache.slot[i].run, run) == 0) {
			at = i;
			break;
		}
		if (cache.slot[i].made_ms < cache.slot[at].made_ms)
			at = i;
	}
	if (view || strcmp(cache.slot[at].run, run) == 0) {
		json_decref(cache.slot[at].view);
		cache.slot[at].view = view ? json_copy(view) : NULL;
		cache.slot[at].made_ms = clk_mono_ms();
		cache.slot[at].ended_ms = jx_get_i64(info, "ended_ms", 0);
		str_copy(cache.slot[at].run, RUN_ID_MAX, run);
		str_copy(cache.slot[at].revision, REVISION_MAX, jx_get_str(info, "revision", ""));
	}
	pthread_mutex_unlock(&cache.lock);
}

void run_view_forget(const char *run)
{
	cache_put(run, NULL, NULL);
}

enum rc run_view(struct server *s, const char *run, bool single, json_t **out, struct err *e)
{
	json_t *info = NULL, *jobs = NULL, *view = NULL, *spec;
	enum rc rc = queue_run(s->queue, run, &info, e);

	if (rc)
		goto out;
	view = cache_get(run, info);
	if (!view) {
		rc = queue_jobs(s->queue, run, NULL, &jobs, e);
		if (rc)
			goto out;
		view = view_run(info, jobs, false);
		cache_put(run, info, view);
	}
	spec = json_object_get(json_object_get(info, "record"), "spec");
	if (single && spec)
		json_object_set(view, "spec", spec);
	if (single && strcmp(jx_get_str(info, "state", ""), "paused") == 0) {
		json_t *why = alarm_reason(s, run);

		if (why)
			json_object_set_new(view, "alarm", why);
	}
	*out = view;
out:
	json_decref(jobs);
	json_decref(info);
	return rc;
}
