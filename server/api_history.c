/* What happened in a run, as far back as the event stream reaches: pages of events, newest first.
 */
#include "server/api.h"

#include "base/jsonx.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/logs.h"
#include "server/reply.h"
#include "server/server.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_DEFAULT 100
#define PAGE_MAX 1000
#define PIECE 1000	 /* events of all runs, one read of Redis */
#define LOOKED_MAX 20000 /* of one request; the cursor goes on from there */

struct history {
	const char *run;
	bool metrics;
	size_t limit, looked;
	json_t *items;	       /* owned */
	char at[EVENT_ID_MAX]; /* the last event looked at */
	bool ended;	       /* the stream has none before it */
};

static bool belongs(const struct history *h, const json_t *ev)
{
	return strcmp(jx_get_str(ev, "run", ""), h->run) == 0 &&
	       (h->metrics || strcmp(jx_get_str(ev, "type", ""), "metric") != 0);
}

/* The id of an event begins with the milliseconds at which it happened. */
static json_t *shown(json_t *ev)
{
	json_t *out = json_copy(ev);

	json_object_set_new(out, "at", json_time(strtoll(jx_get_str(ev, "id", "0"), NULL, 10)));
	return out;
}

static enum rc look(struct queue *q, struct history *h, struct err *e)
{
	json_t *piece = NULL, *ev;
	enum rc rc = queue_events_before(q, h->at, PIECE, &piece, e);
	size_t i;

	if (rc)
		return rc;
	h->ended = json_array_size(piece) < PIECE;
	json_array_foreach(piece, i, ev)
	{
		if (json_array_size(h->items) == h->limit) {
			h->ended = false;
			break;
		}
		str_copy(h->at, sizeof h->at, jx_get_str(ev, "id", ""));
		h->looked++;
		if (belongs(h, ev))
			json_array_append_new(h->items, shown(ev));
	}
	json_decref(piece);
	return RC_OK;
}

void api_run_events(struct req *r)
{
	const char *cursor = req_query(r, "cursor"), *metrics = req_query(r, "metrics");
	struct history h = {
		.run = r->args[0], .metrics = metrics && strcmp(metrics, "1") == 0, .at = "+"};
	json_t *run = NULL;
	struct err e = {0};
	int64_t limit;
	enum rc rc;

	if (!req_query_i64(r, "limit", PAGE_DEFAULT, 1, PAGE_MAX, &limit))
		return;
	if (!run_id_valid(h.run)) {
		reply_problem(r, 404, "not-found", "no run \"%s\"", h.run);
		return;
	}
	h.limit = (size_t)limit;
	h.items = json_array();
	if (cursor && cursor[0])
		str_copy(h.at, sizeof h.at, cursor);
	rc = queue_run(r->srv->queue, h.run, &run, &e);
	while (!rc && !h.ended && json_array_size(h.items) < h.limit && h.looked < LOOKED_MAX)
		rc = look(r->srv->queue, &h, &e);
	if (rc)
		reply_err(r, &e);
	else
		reply_list(r, json_incref(h.items), h.ended ? NULL : h.at);
	json_decref(run);
	json_decref(h.items);
}
