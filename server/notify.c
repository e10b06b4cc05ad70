#include "server/notify.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/alarm.h"
#include "server/hold.h"
#include "server/hook.h"
#include "server/reply.h"
#include "server/server.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#define NS_MARK "notify" /* "read": id of the last event looked at */
#define NS_FEED "notice"
#define NS_QUIET "quiet"  /* what was said lately and is not said again */
#define NS_OUT "outbox"	  /* <hook>:<notice id> */
#define NS_SENT "sent"	  /* <hook>:<ms>:<notice id> */
#define NS_STATE "hookst" /* <hook>: {"fails","next_ms"} */
#define FEED_S 604800
#define SENT_S 259200
#define QUIET_JOBS_S 60	     /* failures of one run's jobs */
#define QUIET_AROUND_S 21600 /* a full disk, no workers */
#define HOLD_TURN_MS 30000   /* half of it is longer than one post */
#define BATCH 500
#define AROUND_MS 60000
#define DISK_LEAST 0.1

struct notify {
	struct server *s; /* borrowed */
	pthread_t reader, courier;
	int running;
	char me[17];
};

/* --- notices -----------------------------------------------------------------------------------
 */

json_t *notice_new(struct server *s, const char *id, const char *kind, int64_t at_ms,
		   const char *run, const char *text)
{
	char *url = run[0] ? mem_printf("%s/runs/%s", s->public_url, run) : mem_str(s->public_url);
	json_t *n =
		json_pack("{s:s, s:s, s:o, s:s, s:s*, s:s}", "id", id, "kind", kind, "at",
			  json_time(at_ms), "text", text, "run", run[0] ? run : NULL, "url", url);

	free(url);
	return n;
}

/* False when the same was said within ttl_s. */
static bool not_lately(struct server *s, const char *what, int64_t ttl_s)
{
	json_t *v = NULL, *yes = json_true();
	bool said = queue_kv_get(s->queue, NS_QUIET, what, &v, NULL) == RC_OK;

	json_decref(v);
	if (!said)
		queue_kv_put(s->queue, NS_QUIET, what, yes, ttl_s, NULL);
	json_decref(yes);
	return !said;
}

static char *run_name(struct server *s, const char *run)
{
	json_t *info = NULL;
	const char *name = "";
	char *text;

	if (queue_run(s->queue, run, &info, NULL) == RC_OK)
		name = jx_get_str(info, "name", "");
	text = name[0] ? mem_printf("%s (%s)", name, run) : mem_str(run);
	json_decref(info);
	return text;
}

static json_t *of_run(struct server *s, const json_t *ev, int64_t at)
{
	static const char *const ends[] = {"done", "failed", "cancelled"};
	const json_t *data = json_object_get(ev, "data");
	const char *state = jx_get_str(data, "state", ""), *run = jx_get_str(ev, "run", "");
	char kind[32], *name, *text = NULL;
	json_t *why = NULL, *n = NULL;

	if (jx_get_bool(data, "tuned", false))
		return NULL;
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
		if (strcmp(state, ends[i]) == 0)
			text = mem_printf("is %s", state);
	str_fmt(kind, sizeof kind, "run.%.20s", state);
	if (strcmp(state, "paused") == 0 && (why = alarm_reason(s, run))) {
		str_fmt(kind, sizeof kind, "run.alarm");
		text = mem_printf("was paused by an alarm: %s", jx_get_str(why, "why", ""));
	}
	if (text) {
		const char *error = jx_get_str(data, "error", "");
		char *whole;

		name = run_name(s, run);
		whole = mem_printf("Run %s %s%s%s", name, text, error[0] ? ": " : "", error);
		n = notice_new(s, jx_get_str(ev, "id", ""), kind, at, run, whole);
		free(whole);
		free(name);
	}
	free(text);
	json_decref(why);
	return n;
}

/* "judge 3.1 of iteration 2": shard, and pass where it is not the first. */
static char *job_name(const json_t *data)
{
	char pass[24] = "";

	if (jx_get_i64(data, "pass", 0) > 0)
		str_fmt(pass, sizeof pass, ".%lld", (long long)jx_get_i64(data, "pass", 0));
	return mem_printf("%.20s %lld%s of iteration %lld", jx_get_str(data, "stage", "?"),
			  (long long)jx_get_i64(data, "shard", 0), pass,
			  (long long)jx_get_i64(data, "iter", 0));
}

static json_t *of_job(struct server *s, const json_t *ev, int64_t at)
{
	const json_t *data = json_object_get(ev, "data");
	const char *run = jx_get_str(ev, "run", ""), *job = jx_get_str(ev, "job", "");
	const char *note = jx_get_str(data, "note", "");
	bool failed = strcmp(jx_get_str(data, "state", ""), "failed") == 0;
	char what[RUN_ID_MAX + 16], *text, *name, *of;
	json_t *n;

	if (!failed && !jx_get_bool(data, "stuck", false))
		return NULL;
	str_fmt(what, sizeof what, "%s.%.15s", failed ? "failed" : "stuck", run);
	if (!not_lately(s, what, QUIET_JOBS_S))
		return NULL;
	name = job_name(data);
	of = run_name(s, run);
	text = mem_printf("Job %s in %s %s%s%s", name, of, failed ? "has failed" : "makes no progress",
			  note[0] ? ": " : "", note);
	free(name);
	free(of);
	n = notice_new(s, jx_get_str(ev, "id", ""), failed ? "job.failed" : "job.stuck", at, run,
		       text);
	json_object_set_new(n, "job", json_string(job));
	free(text);
	return n;
}

static json_t *of_worker(struct server *s, const json_t *ev, int64_t at)
{
	const json_t *data = json_object_get(ev, "data");
	const char *id = jx_get_str(data, "id", "");
	char *text;
	json_t *n;

	if (strcmp(jx_get_str(data, "state", ""), "lost") != 0)
		return NULL;
	text = mem_printf("Worker %s no longer answers", id);
	n = notice_new(s, jx_get_str(ev, "id", ""), "worker.lost", at, "", text);
	json_object_set_new(n, "worker", json_string(id));
	free(text);
	return n;
}

json_t *notice_of(struct server *s, const json_t *event)
{
	const char *type = jx_get_str(event, "type", "");
	int64_t at = strtoll(jx_get_str(event, "id", "0"), NULL, 10);

	if (strcmp(type, "run") == 0)
		return of_run(s, event, at);
	if (strcmp(type, "job") == 0)
		return of_job(s, event, at);
	return strcmp(type, "worker") == 0 ? of_worker(s, event, at) : NULL;
}

/* --- outboxes ----------------------------------------------------------------------------------
 */

/* "<hook>:…" */
static bool is_of(const char *key, const char *hook)
{
	size_t n = strlen(hook);

	return strncmp(key, hook, n) == 0 && key[n] == ':';
}

static void note_sent(struct server *s, const char *hook, const json_t *waiting, int status,
		      const char *error, int64_t took_ms)
{
	const json_t *n = json_object_get(waiting, "notice");
	json_t *v = json_pack("{s:O, s:O, s:o, s:i, s:s?, s:I, s:I}", "id",
			      json_object_get(n, "id"), "kind", json_object_get(n, "kind"), "at",
			      json_time(clk_now_ms()), "status", status, "error", error, "tries",
			      (json_int_t)jx_get_i64(waiting, "tries", 0) + 1, "ms",
			      (json_int_t)took_ms);
	char *key = mem_printf("%s:%013lld:%.60s", hook, (long long)clk_now_ms(),
			       jx_get_str(n, "id", ""));

	queue_kv_put(s->queue, NS_SENT, key, v, SENT_S, NULL);
	json_decref(v);
	free(key);
}

/* Room for one more: the oldest gives way. */
static enum rc make_room(struct server *s, const char *hook, const json_t *out, struct err *e)
{
	const char *key, *oldest = NULL;
	json_t *v;
	size_t n = 0;

	json_object_foreach((json_t *)(uintptr_t)out, key, v) if (is_of(key, hook) && n++ == 0)
		oldest = key;
	if (n < OUTBOX_MAX)
		return RC_OK;
	log_warn("hook", "given_up", "hook=%s reason=\"%d notices wait already\"", hook,
		 OUTBOX_MAX);
	atomic_fetch_add(&s->stats.hooks_given_up, 1);
	note_sent(s, hook, json_object_get(out, oldest), 0, "given up: too many wait", 0);
	return queue_kv_del(s->queue, NS_OUT, oldest, e);
}

static enum rc put_out(struct server *s, const json_t *hooks, const json_t *notice, struct err *e)
{
	json_t *out = NULL, *hook, *entry;
	const char *name;
	enum rc rc = json_object_size(hooks) ? queue_kv_list(s->queue, NS_OUT, &out, e) : RC_OK;

	json_object_foreach((json_t *)(uintptr_t)hooks, name, hook)
	{
		char *key;

		if (rc || !hook_wants(hook, jx_get_str(notice, "kind", "")))
			continue;
		key = mem_printf("%s:%.100s", name, jx_get_str(notice, "id", ""));
		entry = json_pack("{s:O, s:i}", "notice", (json_t *)(uintptr_t)notice, "tries", 0);
		rc = make_room(s, name, out, e);
		if (!rc)
			rc = queue_kv_put(s->queue, NS_OUT, key, entry, 0, e);
		json_decref(entry);
		free(key);
	}
	json_decref(out);
	return rc;
}

static enum rc publish(struct server *s, const json_t *hooks, const json_t *notice, struct err *e)
{
	enum rc rc =
		queue_kv_put(s->queue, NS_FEED, jx_get_str(notice, "id", ""), notice, FEED_S, e);

	if (!rc)
		rc = put_out(s, hooks, notice, e);
	if (!rc) {
		atomic_fetch_add(&s->stats.notices, 1);
		log_info("notice", jx_get_str(notice, "kind", ""), "id=%s run=%s",
			 jx_get_str(notice, "id", ""), jx_get_str(notice, "run", ""));
		rc = queue_event_add(s->queue, "notice", jx_get_str(notice, "run", ""), "", notice,
				     e);
	}
	return rc;
}

/* --- reading the events ------------------------------------------------------------------------
 */

static enum rc mark_put(struct server *s, const char *id, struct err *e)
{
	json_t *v = json_string(id);
	enum rc rc = queue_kv_put(s->queue, NS_MARK, "read", v, 0, e);

	json_decref(v);
	return rc;
}

/* The first time, and after Redis has lost everything: from now on. Redis refuses every write until its runs
 * are back, whose old decisions are no news: so an empty mark comes first, and only when it is taken is
 * asked how far the events are. */
static enum rc mark_get(struct server *s, char id[EVENT_ID_MAX], struct err *e)
{
	json_t *v = NULL;
	enum rc rc = queue_kv_get(s->queue, NS_MARK, "read", &v, e);

	if (!rc)
		str_copy(id, EVENT_ID_MAX, json_is_string(v) ? json_string_value(v) : "0-0");
	json_decref(v);
	if ((rc && rc != RC_NOTFOUND) || (!rc && id[0]))
		return rc;
	rc = mark_put(s, "", e);
	if (!rc)
		rc = queue_snapshot_id(s->queue, id, e);
	return rc ? rc : mark_put(s, id, e);
}

static enum rc read_some(struct server *s, struct err *e)
{
	json_t *items = NULL, *hooks = NULL, *ev;
	char id[EVENT_ID_MAX] = "", last[EVENT_ID_MAX] = "";
	bool gap = false;
	size_t i;
	enum rc rc = mark_get(s, id, e);

	if (!rc)
		rc = queue_events(s->queue, id, 1000, BATCH, &items, &gap, e);
	if (!rc && gap) {
		log_warn("notice", "events_missed", "after=%s", id);
		rc = queue_snapshot_id(s->queue, last, e);
	}
	if (!rc && json_array_size(items))
		rc = hooks_all(s, &hooks, e);
	json_array_foreach(items, i, ev)
	{
		json_t *n = rc ? NULL : notice_of(s, ev);

		if (n)
			rc = publish(s, hooks, n, e);
		str_copy(last, sizeof last, jx_get_str(ev, "id", ""));
		json_decref(n);
	}
	if (!rc && last[0])
		rc = mark_put(s, last, e);
	json_decref(items);
	json_decref(hooks);
	return rc;
}

/* --- looking around ----------------------------------------------------------------------------
 */

static void say_around(struct server *s, const char *kind, const char *text)
{
	json_t *hooks = NULL, *n;
	char id[EVENT_ID_MAX];
	struct err e = {0};

	if (!not_lately(s, kind, QUIET_AROUND_S))
		return;
	str_fmt(id, sizeof id, "%lld-%.24s", (long long)clk_now_ms(), kind);
	n = notice_new(s, id, kind, clk_now_ms(), "", text);
	if (hooks_all(s, &hooks, &e) || publish(s, hooks, n, &e))
		log_warn("notice", "not_said", "kind=%s reason=%s", kind, e.text);
	json_decref(hooks);
	json_decref(n);
}

static bool nobody_works(struct server *s)
{
	json_t *runs = NULL, *workers = NULL, *w;
	bool alive = false;
	size_t i;

	if (queue_open_runs(s->queue, &runs, NULL) || json_array_size(runs) == 0 ||
	    queue_workers(s->queue, &workers, NULL))
		alive = true;
	json_array_foreach(workers, i, w)
	{
		const char *state = jx_get_str(w, "state", "");

		alive |= strcmp(state, "lost") != 0 && strcmp(state, "gone") != 0;
	}
	json_decref(runs);
	json_decref(workers);
	return !alive;
}

static void look_around(struct server *s, bool *nobody)
{
	struct statvfs fs;
	bool none = nobody_works(s);

	if (statvfs(s->data_dir, &fs) == 0 && fs.f_blocks > 0 &&
	    (double)fs.f_bavail < DISK_LEAST * (double)fs.f_blocks)
		say_around(s, "attention.disk", "The server's disk is more than nine tenths full");
	if (none && *nobody) /* Two looks in a row. */
		say_around(s, "attention.workers", "Runs are open and no worker is connected");
	*nobody = none;
}

/* --- delivering --------------------------------------------------------------------------------
 */

int64_t notify_backoff_ms(int64_t failures)
{
	int64_t ms = 5000LL << (failures < 1 ? 0 : failures > 10 ? 9 : failures - 1);

	return ms > 3600000 ? 3600000 : ms;
}

static void after_failure(struct server *s, const char *hook, const char *key, json_t *entry,
			  int64_t fails)
{
	int64_t tries = jx_get_i64(entry, "tries", 0) + 1;
	json_t *state = json_pack("{s:I, s:I}", "fails", (json_int_t)fails, "next_ms",
				  (json_int_t)(clk_now_ms() + notify_backoff_ms(fails)));

	json_object_set_new(entry, "tries", json_integer(tries));
	if (tries >= TRIES_MAX) {
		atomic_fetch_add(&s->stats.hooks_given_up, 1);
		log_warn("hook", "given_up", "hook=%s notice=%s tries=%lld", hook,
			 jx_get_str(json_object_get(entry, "notice"), "id", ""), (long long)tries);
		queue_kv_del(s->queue, NS_OUT, key, NULL);
	} else {
		queue_kv_put(s->queue, NS_OUT, key, entry, 0, NULL);
	}
	queue_kv_put(s->queue, NS_STATE, hook, state, FEED_S, NULL);
	json_decref(state);
}

/* One try. False when it failed: the rest of this webhook's waits. */
static bool deliver(struct server *s, const char *name, const json_t *hook, const char *key,
		    json_t *entry, int64_t *fails)
{
	const json_t *notice = json_object_get(entry, "notice");
	int64_t began = clk_mono_ms();
	struct err e = {0};
	int status = 0;
	enum rc rc = hook_post(s, hook, notice, &status, &e);

	note_sent(s, name, entry, status, rc ? e.text : NULL, clk_mono_ms() - began);
	atomic_fetch_add(rc ? &s->stats.hooks_failed : &s->stats.hooks_delivered, 1);
	if (rc) {
		*fails += 1;
		log_warn("hook", "not_delivered", "hook=%s notice=%s status=%d failures=%lld", name,
			 jx_get_str(notice, "id", ""), status, (long long)*fails);
		after_failure(s, name, key, entry, *fails);
		return false;
	}
	queue_kv_del(s->queue, NS_OUT, key, NULL);
	if (*fails)
		queue_kv_del(s->queue, NS_STATE, name, NULL);
	*fails = 0;
	return true;
}

static void deliver_hook(struct notify *n, const char *name, const json_t *hook, json_t *out)
{
	json_t *state = NULL, *entry;
	const char *key;
	int64_t fails, next;
	bool mine = true;

	queue_kv_get(n->s->queue, NS_STATE, name, &state, NULL);
	fails = jx_get_i64(state, "fails", 0);
	next = jx_get_i64(state, "next_ms", 0);
	json_decref(state);
	json_object_foreach(out, key, entry)
	{
		if (!is_of(key, name) || clk_now_ms() < next || atomic_load(&n->s->stopping))
			continue;
		if (queue_hold(n->s->queue, "courier", n->me, HOLD_TURN_MS, &mine, NULL) || !mine ||
		    !deliver(n->s, name, hook, key, entry, &fails))
			return;
	}
}

/* What waits for a webhook that is gone. */
static void drop_orphans(struct server *s, const json_t *hooks, const json_t *out)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)out, key, v)
	{
		char name[HOOK_NAME_MAX];

		str_fmt(name, sizeof name, "%.*s", (int)strcspn(key, ":"), key);
		if (!json_object_get(hooks, name))
			queue_kv_del(s->queue, NS_OUT, key, NULL);
	}
}

static enum rc deliver_some(struct notify *n, struct err *e)
{
	json_t *hooks = NULL, *out = NULL, *hook;
	const char *name;
	enum rc rc = queue_kv_list(n->s->queue, NS_OUT, &out, e);

	if (!rc)
		atomic_store(&n->s->stats.hooks_waiting, (long)json_object_size(out));
	if (!rc && json_object_size(out))
		rc = hooks_all(n->s, &hooks, e);
	if (!rc)
		drop_orphans(n->s, hooks, out);
	json_object_foreach(hooks, name, hook) if (!rc && jx_get_bool(hook, "enabled", false))
		deliver_hook(n, name, hook, out);
	json_decref(hooks);
	json_decref(out);
	return rc;
}

/* --- threads -----------------------------------------------------------------------------------
 */

static void rest(struct server *s, int64_t ms)
{
	for (; ms > 0 && !atomic_load(&s->stopping); ms -= 100)
		clk_sleep_ms(100);
}

/* True while this server is the one that does it, and Redis is well. */
static bool my_turn(struct notify *n, const char *what)
{
	bool mine = false;

	return atomic_load(&n->s->redis_ok) && !atomic_load(&n->s->behind) &&
	       !queue_hold(n->s->queue, what, n->me, HOLD_TURN_MS, &mine, NULL) && mine;
}

static void *read_events(void *arg)
{
	struct notify *n = arg;
	int64_t around = clk_mono_ms() + AROUND_MS;
	bool nobody = false;
	struct err e = {0};

	while (!atomic_load(&n->s->stopping)) {
		if (!my_turn(n, "notices") || read_some(n->s, &e)) {
			rest(n->s, 1000);
		} else if (clk_mono_ms() > around) {
			look_around(n->s, &nobody);
			around = clk_mono_ms() + AROUND_MS;
		}
	}
	return NULL;
}

static void *carry(void *arg)
{
	struct notify *n = arg;
	struct err e = {0};

	while (!atomic_load(&n->s->stopping)) {
		if (my_turn(n, "courier"))
			deliver_some(n, &e);
		rest(n->s, 500);
	}
	return NULL;
}

enum rc notify_start(struct server *s, struct notify **out, struct err *e)
{
	struct notify *n = mem_new(sizeof *n);
	enum rc rc = hooks_start(s, e);

	n->s = s;
	*out = n;
	holder_make(n->me);
	if (rc)
		return rc;
	if (pthread_create(&n->reader, NULL, read_events, n))
		return err_set(e, RC_NOMEM, "cannot start the thread of notices");
	n->running = 1;
	if (pthread_create(&n->courier, NULL, carry, n))
		return err_set(e, RC_NOMEM, "cannot start the thread of webhooks");
	n->running = 2;
	return RC_OK;
}

void notify_stop(struct notify *n)
{
	bool got;

	if (!n)
		return;
	if (n->running > 0)
		pthread_join(n->reader, NULL);
	if (n->running > 1)
		pthread_join(n->courier, NULL);
	queue_hold(n->s->queue, "notices", n->me, 0, &got, NULL);
	queue_hold(n->s->queue, "courier", n->me, 0, &got, NULL);
	free(n);
}

/* --- what the API shows ------------------------------------------------------------------------
 */

/* The values of a namespace whose keys begin so, the last one first. */
static enum rc newest(struct server *s, const char *ns, const char *hook, json_t **items,
		      struct err *e)
{
	json_t *all = NULL, *v, *list = json_array();
	const char *key;
	enum rc rc = queue_kv_list(s->queue, ns, &all, e);

	json_object_foreach(all, key, v) if (!hook || is_of(key, hook)) json_array_append(list, v);
	*items = json_array();
	for (size_t i = json_array_size(list); i-- > 0;)
		json_array_append(*items, json_array_get(list, i));
	json_decref(list);
	json_decref(all);
	return rc;
}

enum rc notify_feed(struct server *s, json_t **items, struct err *e)
{
	return newest(s, NS_FEED, NULL, items, e);
}

enum rc notify_deliveries(struct server *s, const char *hook, json_t **items, struct err *e)
{
	return newest(s, NS_SENT, hook, items, e);
}

enum rc notify_waiting(struct server *s, json_t **out, struct err *e)
{
	json_t *all = NULL, *v;
	const char *key;
	enum rc rc = queue_kv_list(s->queue, NS_OUT, &all, e);

	*out = json_object();
	json_object_foreach(all, key, v)
	{
		char name[HOOK_NAME_MAX];

		str_fmt(name, sizeof name, "%.*s", (int)strcspn(key, ":"), key);
		json_object_set_new(*out, name, json_integer(jx_get_i64(*out, name, 0) + 1));
	}
	json_decref(all);
	return rc;
}
