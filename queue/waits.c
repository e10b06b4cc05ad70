/* What a job has waited for, and since when: put together from what is kept anyway (when it was
 * made, when its parents ended, its attempts) and from a log of why the ready jobs of each run and
 * queue were not begun, which is the same for all of them. Nothing is kept for a job.
 */
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/internal.h"
#include "queue/keys.h"
#include "queue/waiting.h"

#include <stdlib.h>
#include <string.h>

#define NS_WAITS "waits" /* <run>: {queue: [[from ms, kind, text], …]} */
#define KEPT_S 7776000	 /* 90 days after the last change */
#define NOTES_KEPT 64	 /* of one queue: about 6 KB */
#define LEAST_MS 1000	 /* shorter waits are not worth a line */
#define NOTICED_MS 12000 /* so late a change may be noted */
#define HISTORY_MAX 100
#define PARENTS_PIPE 256

/* --- noting ------------------------------------------------------------------------------------
 */

/* True when it says something new. */
static bool note(json_t *log, const char *queue, struct why why)
{
	json_t *list = json_object_get(log, queue);
	const json_t *last = json_array_get(list, json_array_size(list) - 1);
	const char *was = json_string_value(json_array_get(last, 1));

	if (!strcmp(was ? was : "", why.kind))
		return false;
	if (!list)
		json_object_set_new(log, queue, list = json_array());
	json_array_append_new(list, json_pack("[I, s, s]", (json_int_t)clk_now_ms(), why.kind,
					      why.text ? why.text : ""));
	if (json_array_size(list) > NOTES_KEPT)
		json_array_remove(list, 0);
	return true;
}

/* `queues`: those of the run that have ready jobs. */
static bool note_queues(const struct waiting *w, json_t *log, const struct redis_reply *queues)
{
	json_t *has = json_object(), *list;
	const char *queue;
	bool news = false;

	for (size_t i = 0; i < reply_n(queues); i++) {
		queue = reply_text(reply_at(queues, i));
		struct why why = waiting_ready(w, queue);
		news |= note(log, queue, why);
		free(why.text);
		json_object_set_new(has, queue, json_true());
	}
	json_object_foreach(log, queue, list) if (!json_object_get(has, queue)) news |=
		note(log, queue, (struct why){"", NULL});
	json_decref(has);
	return news;
}

static enum rc note_run(struct queue *q, struct waiting *w, const char *run, struct err *e)
{
	struct redis_cmd c[3] = {REDIS_CMD_INIT, REDIS_CMD_INIT, REDIS_CMD_INIT};
	struct redis_reply *p[3] = {NULL, NULL, NULL};
	json_t *log;
	enum rc rc;

	cmd_key(&c[0], "HMGET", KEY_RUN, run, WAITING_RUN_FIELDS);
	cmd_key(&c[1], "SMEMBERS", KEY_RUN_QUEUES, run, "");
	cmd_key(&c[2], "GET", KEY_KV NS_WAITS ":", run, "");
	rc = redis_pipe(q->redis, c, 3, p, e);
	if (!rc) {
		log = json_of_text(reply_text(p[2]), reply_len(p[2]));
		if (!json_is_object(log)) {
			json_decref(log);
			log = json_object();
		}
		waiting_run(w, p[0]);
		if (note_queues(w, log, p[1]))
			rc = queue_kv_put(q, NS_WAITS, run, log, KEPT_S, e);
		json_decref(log);
	}
	for (int i = 0; i < 3; i++)
		reply_free(p[i]);
	return rc;
}

enum rc queue_waits_note(struct queue *q, struct err *e)
{
	struct waiting *w = NULL;
	json_t *runs = NULL, *run;
	size_t i;
	enum rc rc = waiting_world(q, &w, e);

	if (!rc)
		rc = queue_open_runs(q, &runs, e);
	json_array_foreach(runs, i, run) if (!rc) rc = note_run(q, w, json_string_value(run), e);
	json_decref(runs);
	waiting_free(w);
	return rc;
}

/* --- telling -----------------------------------------------------------------------------------
 */

struct history {
	json_t *items;	   /* owned */
	const json_t *log; /* of its queue; borrowed */
	int64_t now_ms;
};

/* to_ms 0: it still lasts. What goes on for the same reason is one. */
static void add(struct history *h, const char *reason, int64_t from_ms, int64_t to_ms)
{
	json_t *last = json_array_get(h->items, json_array_size(h->items) - 1);
	json_t *to = to_ms ? json_integer(to_ms) : json_null();

	if (to_ms && to_ms - from_ms < LEAST_MS) {
		json_decref(to);
	} else if (last && !strcmp(jx_get_str(last, "reason", ""), reason) &&
		   from_ms - jx_get_i64(last, "to_ms", 0) < LEAST_MS) {
		json_object_set_new(last, "to_ms", to);
	} else {
		json_array_append_new(h->items,
				      json_pack("{s:s, s:I, s:o}", "reason", reason, "from_ms",
						(json_int_t)from_ms, "to_ms", to));
		if (json_array_size(h->items) > HISTORY_MAX)
			json_array_remove(h->items, 0);
	}
}

/* A stretch in which it was ready, by what was noted of its queue. */
static void add_ready(struct history *h, int64_t from_ms, int64_t to_ms)
{
	static const char unknown[] = "waits for a worker";
	int64_t end = to_ms ? to_ms : h->now_ms, at = from_ms;
	const json_t *n;
	size_t i;

	json_array_foreach(h->log, i, n)
	{
		const json_t *next = json_array_get(h->log, i + 1);
		int64_t begin = json_integer_value(json_array_get(n, 0));
		int64_t stop = next ? json_integer_value(json_array_get(next, 0)) : end;
		const char *text = json_string_value(json_array_get(n, 2));

		if (stop <= at || begin >= end || !text || !text[0])
			continue;
		if (begin - at > NOTICED_MS)
			add(h, unknown, at, begin);
		at = begin - at > NOTICED_MS ? begin : at;
		stop = stop < end ? stop : end;
		add(h, text, at, stop == end && !to_ms ? 0 : stop);
		at = stop;
	}
	if (at < end)
		add(h, unknown, at, to_ms);
}

static bool in_state(const json_t *job, const char *state)
{
	return !strcmp(jx_get_str(job, "state", ""), state);
}

/* After an attempt that has ended, until the next (0: there is none yet). */
static void add_after(struct history *h, const json_t *job, const json_t *a, int64_t next_ms)
{
	int64_t ended = jx_get_i64(a, "ended_ms", 0), again = jx_get_i64(a, "again_ms", 0);
	const char *end = jx_get_str(a, "end", "");
	bool torn = !strcmp(end, "preempted") || !strcmp(end, "lease_lost");
	char *text = NULL;

	if (!strcmp(end, "failed"))
		text = mem_printf("after a failure: %s", jx_get_str(json_object_get(a, "reason"),
								    "message", "see its log"));
	else if (!next_ms && !again && !in_state(job, "ready"))
		text = mem_str(jx_get_str(job, "wait_reason", "waits for earlier jobs"));
	else if (torn && again)
		text = mem_str("waits for earlier jobs");
	if (text)
		add(h, text, ended, again ? again : next_ms);
	if (again || (torn && !text))
		add_ready(h, again ? again : ended, next_ms);
	free(text);
}

static void add_first(struct history *h, const json_t *job, int64_t parents_ms, int64_t start_ms)
{
	int64_t made = jx_get_i64(job, "created_ms", 0),
		ready = parents_ms > made ? parents_ms : made;
	int64_t ended = jx_get_i64(job, "ended_ms", 0);

	if (start_ms && ready > start_ms) /* A parent ran once more since. */
		ready = made;
	if (start_ms || in_state(job, "ready")) {
		add(h, "waits for earlier jobs", made, ready);
		add_ready(h, ready, start_ms);
	} else if (in_state(job, "blocked")) {
		add(h, jx_get_str(job, "wait_reason", ""), made, 0);
	} else {
		add(h, "waits for earlier jobs", made, ended);
		if (in_state(job, "skipped"))
			add(h, jx_get_str(job, "wait_reason", ""), ended, 0);
	}
}

static void add_all(struct history *h, const json_t *job, const json_t *attempts,
		    int64_t parents_ms)
{
	const json_t *a, *next;
	size_t i;

	add_first(h, job, parents_ms, jx_get_i64(json_array_get(attempts, 0), "started_ms", 0));
	json_array_foreach(attempts, i, a)
	{
		next = json_array_get(attempts, i + 1);
		if (!jx_get_i64(a, "ended_ms", 0) ||
		    (!next && (in_state(job, "done") || in_state(job, "cancelled"))))
			continue;
		add_after(h, job, a, jx_get_i64(next, "started_ms", 0));
	}
}

/* When the last of its parents ended; 0 while one has not. */
static enum rc parents_end(struct queue *q, const json_t *parents, int64_t *ms, struct err *e)
{
	struct redis_cmd c[PARENTS_PIPE];
	struct redis_reply *p[PARENTS_PIPE];
	size_t n, all = json_array_size(parents);
	bool open = false;
	enum rc rc = RC_OK;

	*ms = 0;
	for (size_t at = 0; !rc && at < all; at += n) {
		n = all - at < PARENTS_PIPE ? all - at : PARENTS_PIPE;
		for (size_t i = 0; i < n; i++) {
			c[i] = (struct redis_cmd)REDIS_CMD_INIT;
			cmd_key(&c[i], "HGET", KEY_JOB,
				json_string_value(json_array_get(parents, at + i)), "ended");
		}
		rc = redis_pipe(q->redis, c, n, p, e);
		for (size_t i = 0; !rc && i < n; i++) {
			open |= reply_i64(p[i]) == 0;
			*ms = reply_i64(p[i]) > *ms ? reply_i64(p[i]) : *ms;
			reply_free(p[i]);
		}
	}
	*ms = open ? 0 : *ms;
	return rc;
}

static json_t *number_or_null(const struct redis_reply *p, int64_t more)
{
	return reply_kind(p) == REDIS_INT ? json_integer(reply_i64(p) + more) : json_null();
}

/* Its place and what was noted of its queue. */
static enum rc place_of(struct queue *q, const json_t *job, json_t *out, json_t **log,
			struct err *e)
{
	struct redis_cmd c[4] = {REDIS_CMD_INIT, REDIS_CMD_INIT, REDIS_CMD_INIT, REDIS_CMD_INIT};
	struct redis_reply *p[4] = {NULL, NULL, NULL, NULL};
	const char *run = jx_get_str(job, "run", ""), *pool = jx_get_str(job, "pool", "");
	char queue[STAGE_NAME_MAX + POOL_NAME_MAX + 2], key[sizeof(queue) + RUN_ID_MAX + 2];
	bool ready = in_state(job, "ready");
	json_t *all;
	enum rc rc;

	str_fmt(queue, sizeof(queue), "%.15s%s%.32s", jx_get_str(job, "stage", ""),
		pool[0] ? "@" : "", pool);
	str_fmt(key, sizeof(key), "%s:%.15s", queue, run);
	cmd_key(&c[0], "ZRANK", KEY_READY, key, jx_get_str(job, "id", ""));
	cmd_key(&c[1], "ZCARD", KEY_READY, key, "");
	cmd_key(&c[2], "ZRANK", KEY_POOL, queue, run);
	cmd_key(&c[3], "GET", KEY_KV NS_WAITS ":", run, "");
	rc = redis_pipe(q->redis, c, 4, p, e);
	json_object_set_new(out, "position", ready ? number_or_null(p[0], 1) : json_null());
	json_object_set_new(out, "queue_length", ready ? number_or_null(p[1], 0) : json_null());
	json_object_set_new(out, "runs_ahead", ready ? number_or_null(p[2], 0) : json_null());
	all = json_of_text(reply_text(p[3]), reply_len(p[3]));
	*log = json_incref(json_object_get(all, queue));
	json_decref(all);
	for (int i = 0; i < 4; i++)
		reply_free(p[i]);
	return rc;
}

enum rc queue_waits(struct queue *q, const json_t *job, const json_t *attempts, json_t **out,
		    struct err *e)
{
	json_t *w = json_object(), *log = NULL, *last;
	struct history h = {.items = json_array(), .now_ms = clk_now_ms()};
	int64_t parents_ms = 0;
	enum rc rc = place_of(q, job, w, &log, e);

	if (!rc)
		rc = parents_end(q, json_object_get(job, "parents"), &parents_ms, e);
	h.log = log;
	if (!rc)
		add_all(&h, job, attempts, parents_ms);
	last = json_array_get(h.items, json_array_size(h.items) - 1);
	json_object_set(w, "reason", json_object_get(job, "wait_reason"));
	json_object_set_new(w, "since_ms",
			    last && json_is_null(json_object_get(last, "to_ms"))
				    ? json_incref(json_object_get(last, "from_ms"))
				    : json_null());
	json_object_set_new(w, "history", h.items);
	json_decref(log);
	if (rc) {
		json_decref(w);
		w = NULL;
	}
	*out = w;
	return rc;
}
