#include "queue/waiting.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/keys.h"

#include <stdlib.h>
#include <string.h>

struct waiting {
	char owner[OWNER_MAX]; /* of the run at hand, as the rest */
	int64_t most, running, hold;
	json_t *workers, *quotas; /* owned; as queue_workers, queue_quotas */
	int64_t lease_clock_ms;
};

enum rc waiting_world(struct queue *q, struct waiting **out, struct err *e)
{
	struct waiting *w = mem_new(sizeof(*w));
	enum rc rc = queue_workers(q, &w->workers, e);

	if (!rc)
		rc = queue_quotas(q, &w->quotas, e);
	if (rc) {
		waiting_free(w);
		w = NULL;
	}
	*out = w;
	return rc;
}

void waiting_run(struct waiting *w, const struct redis_reply *fields)
{
	str_copy(w->owner, sizeof(w->owner), reply_text(reply_at(fields, 0)));
	w->most = reply_i64(reply_at(fields, 1));
	w->running = reply_i64(reply_at(fields, 2));
	w->hold = reply_i64(reply_at(fields, 3));
}

enum rc waiting_load(struct queue *q, const char *run, struct waiting **out, struct err *e)
{
	struct redis_cmd c[2] = {REDIS_CMD_INIT, REDIS_CMD_INIT};
	struct redis_reply *p[2] = {NULL, NULL};
	struct waiting *w = NULL;
	enum rc rc = waiting_world(q, &w, e);

	if (!rc) {
		cmd_key(&c[0], "HMGET", KEY_RUN, run, WAITING_RUN_FIELDS);
		redis_cmd_words(&c[1], "HGET " KEY_META " lclock");
		rc = redis_pipe(q->redis, c, 2, p, e);
	}
	if (!rc) {
		waiting_run(w, p[0]);
		w->lease_clock_ms = reply_i64(p[1]);
	} else {
		waiting_free(w);
		w = NULL;
	}
	reply_free(p[0]);
	reply_free(p[1]);
	*out = w;
	return rc;
}

void waiting_free(struct waiting *w)
{
	if (!w)
		return;
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

static struct why why_of(const char *kind, char *text)
{
	return (struct why){kind, text};
}

static struct why no_worker(const struct waiting *w, const char *stage, const char *pool)
{
	int alive = 0, draining = 0, cordoned = 0, taking = 0;
	size_t i;
	json_t *worker;

	json_array_foreach(w->workers, i, worker)
	{
		const char *state = jx_get_str(worker, "state", "");

		draining += !strcmp(state, "draining");
		cordoned += !strcmp(state, "cordoned");
		if (strcmp(state, "idle") != 0 && strcmp(state, "busy") != 0)
			continue;
		alive++;
		taking += takes(worker, stage, pool);
	}
	if (!alive && cordoned)
		return why_of("draining", mem_printf("no worker takes jobs: %d draining, %d cordoned",
						     draining, cordoned));
	if (!alive && draining)
		return why_of("draining", mem_printf("no worker takes jobs: %d draining", draining));
	if (!alive)
		return why_of("nobody", mem_str("no worker is connected"));
	if (!taking && pool[0])
		return why_of("none", mem_printf("none of %d workers takes the stage \"%s\" in the "
						 "pool \"%s\"", alive, stage, pool));
	if (!taking)
		return why_of("none", mem_printf("none of %d workers takes the stage \"%s\"", alive, stage));
	return why_of("busy", mem_printf("waits for one of %d workers", taking));
}

/* What keeps the whole run from being served; without a text when nothing does. */
static struct why run_at_limit(const struct waiting *w)
{
	const json_t *quota = json_object_get(w->quotas, w->owner);
	int64_t all = jx_get_i64(quota, "running", 0);
	double hours = jx_get_f64(quota, "gpu_hours", 0);

	if (w->most > 0 && w->running >= w->most)
		return why_of("limit", mem_printf("the run may have %lld jobs running, and has",
						  (long long)w->most));
	if (all > 0 && jx_get_i64(quota, "used_running", 0) >= all)
		return why_of("quota", mem_printf("the quota of %s is %lld running jobs", w->owner,
						  (long long)all));
	if (hours > 0 && jx_get_f64(quota, "used_gpu_hours", 0) >= hours)
		return why_of("hours", mem_printf("%s has used its %g GPU-hours of today", w->owner, hours));
	return why_of("", NULL);
}

struct why waiting_ready(const struct waiting *w, const char *queue)
{
	const char *pool = strchr(queue, '@');
	char stage[STAGE_NAME_MAX];
	struct why limit;

	if (w->hold == 1)
		return why_of("paused", mem_str("the run is paused"));
	if (w->hold == 2)
		return why_of("drained", mem_str("the run is draining: nothing new begins"));
	limit = run_at_limit(w);
	if (limit.text)
		return limit;
	str_copy(stage, sizeof(stage), queue);
	stage[strcspn(stage, "@")] = 0;
	return no_worker(w, stage, pool ? pool + 1 : "");
}

/* --- the other states --------------------------------------------------------------------------
 */

/* Heap sentence, or NULL for a job that does not wait. */
static char *reason(const struct waiting *w, const json_t *job, const struct redis_reply *h)
{
	const char *state = hash_get(h, "state", "");
	int64_t ms;

	if (!strcmp(state, "ready"))
		return waiting_ready(w, hash_get(h, "queue", hash_get(h, "stage", ""))).text;
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
