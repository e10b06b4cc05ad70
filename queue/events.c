/* The event stream: reading on from an id, and noticing when that id is no longer kept. */
#include "base/mem.h"
#include "base/str.h"
#include "queue/internal.h"
#include "queue/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct event_id {
	uint64_t ms, n;
};

static bool id_parse(const char *text, struct event_id *id)
{
	char *end;

	id->ms = strtoull(text, &end, 10);
	id->n = 0;
	if (end == text)
		return false;
	if (*end == '-') {
		text = end + 1;
		id->n = strtoull(text, &end, 10);
	}
	return end != text && *end == '\0';
}

static bool id_before(struct event_id a, struct event_id b)
{
	return a.ms < b.ms || (a.ms == b.ms && a.n < b.n);
}

/* Something between `after` and the present is gone: trimmed away, or the stream itself is a new
 * one whose newest id lies before `after`. */
static bool is_gap(const struct redis_reply *info, struct event_id after)
{
	struct event_id first, last;
	const struct redis_reply *entry = NULL;
	int64_t length = 0, added = 0;

	if (reply_kind(info) != REDIS_ARRAY) /* no stream yet */
		return after.ms != 0;
	for (size_t i = 0; i + 1 < reply_n(info); i += 2) {
		const char *name = reply_text(reply_at(info, i));
		if (!strcmp(name, "first-entry"))
			entry = reply_at(info, i + 1);
		else if (!strcmp(name, "length"))
			length = reply_i64(reply_at(info, i + 1));
		else if (!strcmp(name, "entries-added"))
			added = reply_i64(reply_at(info, i + 1));
	}
	if (id_parse(hash_get(info, "last-generated-id", "0-0"), &last) && id_before(last, after))
		return true;
	return added > length && id_parse(reply_text(reply_at(entry, 0)), &first) && id_before(after, first);
}

/* list: [[id, [field, value…]]…] or nil. */
static json_t *events_json(const struct redis_reply *list)
{
	json_t *out = json_array();

	for (size_t i = 0; i < reply_n(list); i++) {
		const struct redis_reply *e = reply_at(list, i), *f = reply_at(e, 1);
		json_array_append_new(out, json_pack("{s:s, s:s, s:s, s:s, s:o}", "id",
						     reply_text(reply_at(e, 0)), "type",
						     hash_get(f, "t", ""), "run", hash_get(f, "r", ""),
						     "job", hash_get(f, "j", ""), "data",
						     hash_json(f, "d")));
	}
	return out;
}

static void xread(struct redis_cmd *c, const char *after, int64_t block_ms, int max)
{
	redis_cmd_words(c, "XREAD COUNT");
	redis_cmd_i64(c, max);
	if (block_ms > 0) {
		redis_cmd_add(c, "BLOCK");
		redis_cmd_i64(c, block_ms);
		c->extra_ms = block_ms;
	}
	redis_cmd_words(c, "STREAMS " KEY_EVENTS);
	redis_cmd_add(c, after);
}

enum rc queue_events(struct queue *q, const char *after_id, int64_t block_ms, int max, json_t **items,
		     bool *gap, struct err *e)
{
	struct redis_cmd c[2] = {REDIS_CMD_INIT, REDIS_CMD_INIT}, wait = REDIS_CMD_INIT;
	struct redis_reply *p[2] = {NULL, NULL};
	struct event_id after;
	enum rc rc;

	*items = NULL;
	*gap = false;
	if (!id_parse(after_id, &after))
		return err_set(e, RC_INVALID, "event id \"%.48s\": expected <ms>-<n>", after_id);
	redis_cmd_words(&c[0], "XINFO STREAM " KEY_EVENTS);
	xread(&c[1], after_id, 0, max);
	rc = redis_pipe(q->redis, c, 2, p, e);
	if (rc)
		return rc;
	*gap = is_gap(p[0], after);
	reply_free(p[0]);
	if (!*gap && block_ms > 0 && reply_kind(p[1]) != REDIS_ARRAY) {
		reply_free(p[1]);
		xread(&wait, after_id, block_ms, max);
		rc = redis_call(q->redis, &wait, &p[1], e);
	}
	if (!rc) {
		*items = events_json(reply_at(reply_at(p[1], 0), 1)); /* of the one stream */
		reply_free(p[1]);
	}
	return rc;
}

enum rc queue_events_before(struct queue *q, const char *before, int max, json_t **items, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	struct event_id id;
	char from[EVENT_ID_MAX + 1];
	enum rc rc;

	*items = NULL;
	if (strcmp(before, "+") != 0 && (strlen(before) >= EVENT_ID_MAX || !id_parse(before, &id)))
		return err_set(e, RC_INVALID, "event id \"%.48s\": expected <ms>-<n>", before);
	str_fmt(from, sizeof from, "%s%s", before[0] == '+' ? "" : "(", before);
	redis_cmd_words(&c, "XREVRANGE " KEY_EVENTS);
	redis_cmd_add(&c, from);
	redis_cmd_words(&c, "- COUNT");
	redis_cmd_i64(&c, max);
	rc = redis_call(q->redis, &c, &p, e);
	if (rc)
		return rc;
	*items = events_json(p);
	reply_free(p);
	return RC_OK;
}

enum rc queue_snapshot_id(struct queue *q, char out[EVENT_ID_MAX], struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	enum rc rc;

	redis_cmd_words(&c, "XREVRANGE " KEY_EVENTS " + - COUNT 1");
	rc = redis_call(q->redis, &c, &p, e);
	str_copy(out, EVENT_ID_MAX, "0-0");
	if (reply_n(p))
		str_copy(out, EVENT_ID_MAX, reply_text(reply_at(reply_at(p, 0), 0)));
	reply_free(p);
	return rc;
}

enum rc queue_event_add(struct queue *q, const char *type, const char *run, const char *job,
			const json_t *data, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;

	call_begin(&c, "event");
	c.once = true;
	redis_cmd_add(&c, type);
	redis_cmd_add(&c, run ? run : "");
	redis_cmd_add(&c, job ? job : "");
	cmd_json(&c, data);
	return call_end(q, &c, NULL, e);
}
