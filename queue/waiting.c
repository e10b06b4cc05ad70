#include "queue/waiting.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/keys.h"

#include <stdlib.h>
#include <string.h>

struct waiting {
	struct redis_reply *run;  /* owned; its hash */
	json_t *workers, *quotas; /* owned; as queue_workers, queue_quotas */
	int64_t lease_clock_ms;
};

enum rc waiting_load(struct queue *q, const char *run, struct waiting **out, struct err *e)
{
	struct redis_cmd c[2] = {REDIS_CMD_INIT, REDIS_CMD_INIT};
	struct redis_reply *p[2] = {NULL, NULL};
	struct waiting *w = mem_new(sizeof(*w));
	enum rc rc = queue_workers(q, &w->workers, e);

	if (!rc)
		rc = queue_quotas(q, &w->quotas, e);
	if (!rc) {
		cmd_key(&c[0], "HGETALL", KEY_RUN, run, "");
		redis_cmd_words(&c[1], "HGET " KEY_META " lclock");
		rc = redis_pipe(q->redis, c, 2, p, e);
	}
	w->run = p[0];
	w->lease_clock_ms = reply_i64(p[1]);
	reply_free(p[1]);
	if (rc) {
		waiting_free(w);
		w = NULL;
	}
	*out = w;
	return rc;
}

void waiting_free(struct waiting *w)
{
	if (!w)
		return;
	reply_free(w->run);
	json_decref(w->workers);
	json_decref(w->quotas);
	free(w);
}

/* --- ready -------------------------------------------------------------------------------------
 */

static bool has_word(const json_t *list, const char *word)
{
	size_t i;
	json_t *s;

	json_array_foreach(list, i, s) if (json_is_string(s) &&
					   !strcmp(json_string_value(s), word)) return true;
	return false;
}

static bool takes(const json_t *worker, const char *stage, const char *pool)
{
	const json_t *info = json_object_get(worker, "info");
	const json_t *stages = json_object_get(info, "stages");

	return (!json_array_size(stages) || has_word(stages, stage)) &&
	       (!pool[0] || has_word(json_object_get(info, "pools"), pool));
}

static char *no_worker(const struct waiting *w, const char *stage, const char *pool)
{
	int alive = 0, draining = 0, taking = 0;
	size_t i;
	json_t *worker;

	json_array_foreach(w->workers, i, worker)
	{
		const char *state = jx_get_str(worker, "state", "");

		if (!strcmp(state, "draining"))
			draining++;
		if (strcmp(state, "idle") != 0 && strcmp(state, "busy") != 0)
			continue;
		alive++;
		taking += takes(worker, stage, pool);
	}
	if (!alive && draining)
		return mem_printf("no worker takes jobs: %d draining", draining);
	if (!alive)
		return mem_str("no worker is connected");
	if (!taking && pool[0])
		return mem_printf("none of %d workers takes the stage \"%s\" in the pool \"%s\"",
				  alive, stage, pool);
	if (!taking)
		return mem_printf("none of %d workers takes the stage \"%s\"", alive, stage);
	return mem_printf("waits for one of %d workers", taking);
}

/* What keeps the whole run from being served; NULL when nothing does. */
static char *run_at_limit(const struct waiting *w)
{
	const char *owner = hash_get(w->run, "owner", "");
	const json_t *quota = json_object_get(w->quotas, owner);
	int64_t most = hash_i64(w->run, "max_running", 0),
		running = hash_i64(w->run, "n:running", 0);
	int64_t all = jx_get_i64(quota, "running", 0);
	double hours = jx_get_f64(quota, "gpu_hours", 0);

	if (most > 0 && running >= most)
		return mem_printf("the run may have %lld jobs running, and has", (long long)most);
	if (all > 0 && jx_get_i64(quota, "used_running", 0) >= all)
		return mem_printf("the quota of %s is %lld running jobs", owner, (long long)all);
	if (hours > 0 && jx_get_f64(quota, "used_gpu_hours", 0) >= hours)
		return mem_printf("%s has used its %g GPU-hours of today", owner, hours);
	return NULL;
}

static char *ready_reason(const struct waiting *w, const struct redis_reply *h)
{
	const char *queue = hash_get(h, "queue", ""), *pool = strchr(queue, '@');
	int64_t hold = hash_i64(w->run, "hold", 0);
	char *limit;

	if (hold == 1)
		return mem_str("the run is paused");
	if (hold == 2)
		return mem_str("the run is draining: nothing new begins");
	limit = run_at_limit(w);
	return limit ? limit : no_worker(w, hash_get(h, "stage", ""), pool ? pool + 1 : "");
}

/* --- the other states --------------------------------------------------------------------------
 */

/* Heap sentence, or NULL for a job that does not wait. */
static char *reason(const struct waiting *w, const json_t *job, const struct redis_reply *h)
{
	const char *state = hash_get(h, "state", "");
	int64_t ms;

	if (!strcmp(state, "ready"))
		return ready_reason(w, h);
	if (!strcmp(state, "blocked"))
		return mem_printf("waits for %lld of %zu earlier jobs",
				  (long long)hash_i64(h, "left", 0),
				  json_array_size(json_object_get(job, "parents")));
	if (!strcmp(state, "delayed")) {
		ms = hash_i64(h, "due", 0) - w->lease_clock_ms;
		return mem_printf(
			"tries again in %lld s after: %s", (long long)(ms > 0 ? ms / 1000 + 1 : 0),
			jx_get_str(json_object_get(job, "error"), "message", "a failure"));
	}
	if (!strcmp(state, "skipped"))
		return mem_str("an earlier job did not succeed");
	if (!strcmp(state, "failed"))
		return mem_printf(
			"waits for a person: %s",
			jx_get_str(json_object_get(job, "error"), "message", "see its log"));
	return NULL;
}

void waiting_say(const struct waiting *w, json_t *job, const struct redis_reply *hash)
{
	char *text = reason(w, job, hash);

	if (text)
		json_object_set_new(job, "wait_reason", json_string(text));
	free(text);
}
