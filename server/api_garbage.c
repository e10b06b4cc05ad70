/* Garbage of the store: what would go, and letting it go. */
#include "server/api.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "queue/queue.h"
#include "server/reply.h"
#include "server/server.h"
#include "store/gc.h"

#include <stdlib.h>

#define PAGE 200

/* Everything the queue says of one run and its jobs: their checkpoints may be named nowhere else. */
static enum rc add_run(struct server *s, const char *run, json_t *out, struct err *e)
{
	json_t *info = NULL, *jobs = NULL;
	enum rc rc = queue_run(s->queue, run, &info, e);

	if (!rc)
		rc = queue_jobs(s->queue, run, NULL, &jobs, e);
	if (!rc)
		json_array_append_new(out, json_pack("[O,O]", info, jobs));
	json_decref(info);
	json_decref(jobs);
	return rc == RC_NOTFOUND ? RC_OK : rc;
}

/* All runs, page by page. What cannot be asked stops the collection. */
static enum rc in_use(struct server *s, json_t *out, struct err *e)
{
	char *cursor = NULL, *next = NULL;
	json_t *runs, *r;
	size_t i;
	enum rc rc;

	do {
		runs = NULL;
		rc = queue_runs(s->queue, NULL, cursor, PAGE, &runs, &next, e);
		json_array_foreach(runs, i, r)
		{
			if (!rc)
				rc = add_run(s, jx_get_str(r, "id", ""), out, e);
		}
		json_decref(runs);
		free(cursor);
		cursor = rc ? NULL : next;
		if (rc)
			free(next);
		next = NULL;
	} while (cursor);
	return rc;
}

static json_t *sum(const struct gc_sum *s)
{
	return json_pack("{s:I,s:I}", "blobs", (json_int_t)s->n, "bytes", (json_int_t)s->bytes);
}

static void collect(struct req *r, bool dry_run)
{
	struct gc_rules rules = GC_RULES_DEFAULT;
	struct gc_report g = {0};
	struct err e = {0};
	json_t *used = json_array();
	enum rc rc = in_use(r->srv, used, &e);

	rules.dry_run = dry_run;
	if (!rc)
		rc = gc_run(r->srv->store, &rules, used, &g, &e);
	json_decref(used);
	if (rc) {
		reply_err(r, &e);
		return;
	}
	if (!dry_run)
		log_info("store", "garbage", "trashed=%lld bytes=%lld dropped=%lld",
			 (long long)g.trashed.n, (long long)g.trashed.bytes, (long long)g.dropped.n);
	reply_json(r, 200, json_pack("{s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:O}", "dry_run", dry_run, "all",
				     sum(&g.all), "kept", sum(&g.kept), "young", sum(&g.young),
				     "marked", sum(&g.marked), "trashed", sum(&g.trashed), "dropped",
				     sum(&g.dropped), "items", g.items));
	gc_report_release(&g);
}

void api_garbage_get(struct req *r)
{
	collect(r, true);
}

void api_garbage_post(struct req *r)
{
	collect(r, false);
}
