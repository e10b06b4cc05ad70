#include "server/events.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/api.h"
#include "server/auth.h"
#include "server/reconcile.h"
#include "server/reply.h"
#include "server/server.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RING 4096u		 /* events kept formatted: minutes of a busy run */
#define BATCH_BYTES (64u * 1024) /* copied per turn while the lock is held */
#define READ_MAX 256
#define BLOCK_MS 1000
#define HEARTBEAT_MS 15000
#define LOOK_MS 1000 /* and the heartbeat while few streams are left: who is gone shows in a write */
#define BATCH_GAP_MS 200 /* at most five writes a second per client */
#define TOPICS_MAX 16
#define ID_MAX EVENT_ID_MAX

struct ring_event {
	char *text; /* owned; "id: ...\nevent: ...\ndata: ...\n\n" */
	size_t len;
	char id[ID_MAX], type[16], run[32], job[96];
};

struct hub {
	struct server *srv;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct ring_event ring[RING];
	uint64_t head;	      /* events ever added; ring[head % RING] is next */
	char base_id[ID_MAX]; /* every event after this one is in the ring */
	char last_id[ID_MAX];
	uint64_t work_seq;
	pthread_t thread;
};

struct topics {
	size_t n;
	char *item[TOPICS_MAX]; /* arena */
};

/* --- ids ----------------------------------------------------------------------------------- */

static void id_split(const char *id, uint64_t out[2])
{
	char *end;

	out[0] = strtoull(id, &end, 10);
	out[1] = *end == '-' ? strtoull(end + 1, NULL, 10) : 0;
}

int event_id_cmp(const char *a, const char *b)
{
	uint64_t x[2], y[2];

	id_split(a, x);
	id_split(b, y);
	if (x[0] != y[0])
		return x[0] < y[0] ? -1 : 1;
	return x[1] < y[1] ? -1 : x[1] > y[1];
}

static bool id_valid(const char *id)
{
	size_t n = strspn(id, "0123456789");

	if (n == 0 || strlen(id) >= ID_MAX)
		return false;
	return id[n] == 0 || (id[n] == '-' && id[n + 1] &&
			      strspn(id + n + 1, "0123456789") == strlen(id + n + 1));
}

/* --- the reader thread --------------------------------------------------------------------- */

static void event_format(const json_t *ev, struct buf *out)
{
	buf_printf(out, "id: %s\nevent: %s\ndata: ", jx_get_str(ev, "id", ""),
		   jx_get_str(ev, "type", "message"));
	jx_dump(ev, out); /* Canonical JSON has no line breaks. */
	buf_puts(out, "\n\n");
}

/* Caller holds the lock. */
static void ring_add(struct hub *h, const json_t *ev)
{
	struct ring_event *slot = &h->ring[h->head % RING];
	struct buf text = BUF_INIT;

	if (h->head >= RING)
		str_copy(h->base_id, sizeof h->base_id, slot->id);
	free(slot->text);
	event_format(ev, &text);
	slot->len = text.len;
	slot->text = buf_detach(&text);
	str_copy(slot->id, sizeof slot->id, jx_get_str(ev, "id", ""));
	str_copy(slot->type, sizeof slot->type, jx_get_str(ev, "type", ""));
	str_copy(slot->run, sizeof slot->run, jx_get_str(ev, "run", ""));
	str_copy(slot->job, sizeof slot->job, jx_get_str(ev, "job", ""));
	str_copy(h->last_id, sizeof h->last_id, slot->id);
	h->head++;
	atomic_fetch_add(&h->srv->changes, 1);
}

/* Whether a claim that found nothing should look again. */
static bool brings_work(const json_t *ev, const char *type)
{
	const char *state = jx_get_str(json_object_get(ev, "data"), "state", "");

	if (strcmp(type, "job") == 0)
		return strcmp(state, "ready") == 0;
	return strcmp(type, "run") == 0 || strcmp(type, "worker") == 0;
}

static bool ends_job(const json_t *ev, const char *type)
{
	static const char *const ends[] = {"done", "failed", "cancelled", "skipped"};
	const char *state = jx_get_str(json_object_get(ev, "data"), "state", "");

	if (strcmp(type, "run") == 0)
		return true;
	for (size_t i = 0; strcmp(type, "job") == 0 && i < sizeof ends / sizeof *ends; i++)
		if (strcmp(state, ends[i]) == 0)
			return true;
	return false;
}

static void hub_take(struct hub *h, const json_t *events)
{
	const json_t *ev;
	size_t i;

	pthread_mutex_lock(&h->lock);
	json_array_foreach(events, i, ev)
	{
		const char *type = jx_get_str(ev, "type", "");

		ring_add(h, ev);
		h->work_seq += brings_work(ev, type);
		if (ends_job(ev, type))
			reconcile_poke(h->srv->reconcile, jx_get_str(ev, "run", ""));
	}
	pthread_cond_broadcast(&h->wake);
	pthread_mutex_unlock(&h->lock);
	atomic_fetch_add(&h->srv->stats.events, (long)json_array_size(events));
}

/* The stream was trimmed or replaced behind our back: what the ring holds is history. Viewers see
 * the hole as a position outside the ring and read a snapshot; everything is planned again. */
static void hub_restart(struct hub *h, char *after)
{
	char id[ID_MAX];

	if (queue_snapshot_id(h->srv->queue, id, NULL))
		return;
	log_warn("events", "gap", "after=%s now=%s", after, id);
	pthread_mutex_lock(&h->lock);
	h->head += RING + 1;
	for (size_t i = 0; i < RING; i++) {
		free(h->ring[i].text);
		h->ring[i] = (struct ring_event){.text = mem_str("")};
	}
	str_copy(h->base_id, sizeof h->base_id, id);
	str_copy(h->last_id, sizeof h->last_id, id);
	h->work_seq++;
	pthread_cond_broadcast(&h->wake);
	pthread_mutex_unlock(&h->lock);
	str_copy(after, ID_MAX, id);
	reconcile_poke(h->srv->reconcile, "");
}

static void *hub_thread(void *arg)
{
	struct hub *h = arg;
	char after[ID_MAX];
	bool down = false;

	str_copy(after, sizeof after, h->last_id);
	while (!atomic_load(&h->srv->stopping)) {
		struct err e = {0};
		json_t *events = NULL;
		bool gap = false;
		enum rc rc =
			queue_events(h->srv->queue, after, BLOCK_MS, READ_MAX, &events, &gap, &e);

		if (!rc && gap) {
			hub_restart(h, after);
		} else if (rc) {
			if (!down)
				log_warn("events", "read_failed", "error=%s", e.text);
			down = true;
			clk_sleep_ms(300);
		} else if (json_array_size(events)) {
			hub_take(h, events);
			str_copy(after, sizeof after, h->last_id);
		}
		down = rc != RC_OK;
		json_decref(events);
	}
	return NULL;
}

enum rc hub_start(struct server *s, struct hub **out, struct err *e)
{
	struct hub *h = mem_new(sizeof *h);
	enum rc rc = queue_snapshot_id(s->queue, h->last_id, e);

	if (rc) {
		free(h);
		return rc;
	}
	str_copy(h->base_id, sizeof h->base_id, h->last_id);
	h->srv = s;
	pthread_mutex_init(&h->lock, NULL);
	clk_cond_init(&h->wake);
	*out = s->hub = h;
	if (pthread_create(&h->thread, NULL, hub_thread, h) != 0)
		return err_set(e, RC_NOMEM, "cannot start the event thread");
	return RC_OK;
}

void hub_wake(struct hub *h)
{
	pthread_mutex_lock(&h->lock);
	h->work_seq++;
	pthread_cond_broadcast(&h->wake);
	pthread_mutex_unlock(&h->lock);
}

void hub_stop(struct hub *h)
{
	if (!h)
		return;
	hub_wake(h);
	pthread_join(h->thread, NULL);
	for (size_t i = 0; i < RING; i++)
		free(h->ring[i].text);
	pthread_cond_destroy(&h->wake);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* --- waiting ------------------------------------------------------------------------------- */

uint64_t hub_work_seq(struct hub *h)
{
	uint64_t seq;

	pthread_mutex_lock(&h->lock);
	seq = h->work_seq;
	pthread_mutex_unlock(&h->lock);
	return seq;
}

void hub_wait_work(struct hub *h, uint64_t *seq, int64_t timeout_ms)
{
	struct timespec until = clk_after(timeout_ms);

	pthread_mutex_lock(&h->lock);
	while (h->work_seq == *seq && !atomic_load(&h->srv->stopping))
		if (pthread_cond_timedwait(&h->wake, &h->lock, &until) != 0)
			break;
	*seq = h->work_seq;
	pthread_mutex_unlock(&h->lock);
}

/* --- the stream of one client -------------------------------------------------------------- */

static bool topic_hits(const char *topic, const char *type, const char *run, const char *job)
{
	if (str_starts(topic, "run:"))
		return strcmp(topic + 4, run) == 0;
	if (str_starts(topic, "job:"))
		return strcmp(topic + 4, job) == 0;
	if (strcmp(topic, "workers") == 0)
		return strcmp(type, "worker") == 0;
	if (strcmp(topic, "runs") == 0)
		return strcmp(type, "run") == 0;
	if (strcmp(topic, "notices") == 0)
		return strcmp(type, "notice") == 0;
	return strcmp(topic, "jobs") == 0 && strcmp(type, "job") == 0;
}

static bool wanted(const struct topics *t, const char *type, const char *run, const char *job)
{
	for (size_t i = 0; i < t->n; i++)
		if (topic_hits(t->item[i], type, run, job))
			return true;
	return t->n == 0;
}

static bool topics_parse(struct req *r, struct topics *t)
{
	static const char *const plain[] = {"runs", "workers", "jobs", "notices"};
	const char *p = req_query(r, "topics");

	t->n = 0;
	while (p && *p) {
		size_t len = strcspn(p, ",");
		char *item = arena_strn(&r->arena, p, len);
		bool ok = (str_starts(item, "run:") || str_starts(item, "job:")) && item[4];

		for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
			ok |= strcmp(item, plain[i]) == 0;
		if (!ok || t->n == TOPICS_MAX) {
			reply_problem(r, 400, "invalid",
				      "topics: \"%s\"; expected up to %d of run:ID, job:ID, "
				      "runs, jobs, workers, notices",
				      item, TOPICS_MAX);
			return false;
		}
		t->item[t->n++] = item;
		p += len + (p[len] == ',');
	}
	return true;
}

/* Position after `id` in the ring; false when the ring no longer reaches back that far. */
static bool ring_find(struct hub *h, const char *id, uint64_t *pos)
{
	bool found;

	pthread_mutex_lock(&h->lock);
	found = event_id_cmp(id, h->base_id) >= 0;
	*pos = h->head > RING ? h->head - RING : 0;
	while (found && *pos < h->head && event_id_cmp(h->ring[*pos % RING].id, id) <= 0)
		(*pos)++;
	pthread_mutex_unlock(&h->lock);
	return found;
}

static uint64_t ring_end(struct hub *h, char last_id[ID_MAX])
{
	uint64_t pos;

	pthread_mutex_lock(&h->lock);
	pos = h->head;
	str_copy(last_id, ID_MAX, h->last_id);
	pthread_mutex_unlock(&h->lock);
	return pos;
}

static bool write_buf(struct req *r, struct buf *b)
{
	bool ok = b->len == 0 || req_write(r, b->data, b->len);

	buf_clear(b);
	return ok;
}

static bool write_reset(struct req *r, struct hub *h, uint64_t *pos, struct buf *b)
{
	char id[ID_MAX];

	*pos = ring_end(h, id);
	buf_printf(b, "id: %s\nevent: reset\ndata: {\"id\":\"%s\"}\n\n", id, id);
	return write_buf(r, b);
}

/* Events between `after` and the ring, straight from Redis. False: the client is gone. */
static bool catch_up(struct req *r, struct hub *h, const struct topics *t, const char *after,
		     uint64_t *pos, struct buf *b)
{
	char id[ID_MAX];
	bool ok = true;

	str_copy(id, sizeof id, after);
	while (ok && !ring_find(h, id, pos)) {
		json_t *events = NULL, *ev;
		bool gap = false;
		size_t i;

		if (queue_events(r->srv->queue, id, 0, READ_MAX, &events, &gap, NULL) || gap) {
			json_decref(events);
			return write_reset(r, h, pos, b);
		}
		json_array_foreach(events, i, ev)
		{
			str_copy(id, sizeof id, jx_get_str(ev, "id", id));
			if (wanted(t, jx_get_str(ev, "type", ""), jx_get_str(ev, "run", ""),
				   jx_get_str(ev, "job", "")))
				event_format(ev, b);
		}
		if (json_array_size(events) == 0)
			str_copy(id, sizeof id, h->base_id);
		json_decref(events);
		ok = write_buf(r, b);
	}
	return ok;
}

/* Waits for news, copies up to a batch of them; false when the client fell behind the ring. */
static bool next_batch(struct hub *h, const struct topics *t, uint64_t *pos, int64_t wait_ms,
		       struct buf *b)
{
	struct timespec until = clk_after(wait_ms);
	bool ok;

	pthread_mutex_lock(&h->lock);
	while (*pos == h->head && !atomic_load(&h->srv->stopping))
		if (pthread_cond_timedwait(&h->wake, &h->lock, &until) != 0)
			break;
	ok = h->head <= *pos + RING;
	while (ok && *pos < h->head && b->len < BATCH_BYTES) {
		const struct ring_event *ev = &h->ring[(*pos)++ % RING];

		if (wanted(t, ev->type, ev->run, ev->job))
			buf_append(b, ev->text, ev->len);
	}
	pthread_mutex_unlock(&h->lock);
	return ok;
}

static int64_t heartbeat_ms(struct server *s)
{
	return 4 * atomic_load(&s->stats.sse_open) > 3 * s->max_sse ? LOOK_MS : HEARTBEAT_MS;
}

static void stream(struct req *r, struct hub *h, const struct topics *t, uint64_t pos,
		   struct buf *b)
{
	int64_t beat = clk_mono_ms();
	bool ok = true;

	while (ok && !atomic_load(&r->srv->stopping)) {
		int64_t left = heartbeat_ms(r->srv) - (clk_mono_ms() - beat);

		if (left <= 0) {
			if (!auth_still(r))
				break;
			buf_puts(b, ": hb\n\n");
			beat = clk_mono_ms();
			ok = write_buf(r, b);
			continue;
		}
		if (!next_batch(h, t, &pos, left < LOOK_MS ? left : LOOK_MS, b)) {
			buf_clear(b);
			ok = write_reset(r, h, &pos, b);
		} else if (b->len) {
			ok = write_buf(r, b);
			beat = clk_mono_ms();
			clk_sleep_ms(BATCH_GAP_MS);
		}
	}
	if (ok) {
		uint32_t jitter;

		random_bytes(&jitter, sizeof jitter);
		buf_printf(b, "retry: %u\nevent: bye\ndata: {}\n\n", 1000 + jitter % 4000);
		write_buf(r, b);
	}
}

static void serve_stream(struct req *r, const struct topics *t, const char *after)
{
	struct hub *h = r->srv->hub;
	struct buf b = BUF_INIT;
	char id[ID_MAX];
	uint64_t pos;
	bool ok;

	req_add_header(r, "Cache-Control", "no-cache, no-store");
	req_add_header(r, "X-Accel-Buffering", "no");
	pos = ring_end(h, id);
	req_begin(r, 200, "text/event-stream", -1);
	buf_puts(&b, "retry: 3000\n: ok\n\n");
	if (!after)
		buf_printf(&b, "id: %s\nevent: hello\ndata: {\"id\":\"%s\"}\n\n", id, id);
	ok = write_buf(r, &b);
	if (ok && after)
		ok = catch_up(r, h, t, after, &pos, &b);
	if (ok)
		stream(r, h, t, pos, &b);
	buf_release(&b);
}

void api_events(struct req *r)
{
	const char *after = req_header(r, "Last-Event-ID");
	struct server_stats *st = &r->srv->stats;
	struct topics t;

	if (!after || !after[0])
		after = req_query(r, "after");
	if (after && !after[0])
		after = NULL;
	if (!topics_parse(r, &t))
		return;
	if (after && !id_valid(after)) {
		reply_problem(r, 400, "invalid", "event id \"%s\"; expected milliseconds-number",
			      after);
		return;
	}
	if (r->head) {
		req_send(r, 200, "text/event-stream", NULL, 0);
		return;
	}
	if (atomic_fetch_add(&st->sse_open, 1) >= r->srv->max_sse) {
		req_add_header(r, "Retry-After", "10");
		reply_problem(r, 503, "busy", "all %d event streams are taken; poll instead",
			      r->srv->max_sse);
	} else {
		serve_stream(r, &t, after);
	}
	atomic_fetch_sub(&st->sse_open, 1);
}
