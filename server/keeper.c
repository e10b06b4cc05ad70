#include "server/keeper.h"

#include "base/clk.h"
#include "base/conf.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/queue.h"
#include "server/server.h"
#include "store/gc.h"

#include <pthread.h>
#include <stdlib.h>

#define LOOK_MS 500

struct keeper {
	struct server *s; /* borrowed */
	pthread_t thread;
	bool running;
};

/* --- collecting ------------------------------------------------------------------------------ */

struct gathered {
	struct server *s;
	const struct retention *policy;
	bool dry_run;
	json_t *used; /* {run: all the queue says of it}: checkpoints may be named nowhere else */
	json_t *given_up; /* {run: {digest: …}} */
};

/* What cannot be asked stops the collection. */
static enum rc add_run(void *ctx, const json_t *listed, struct err *e)
{
	const char *run = jx_get_str(listed, "id", "");
	struct gathered *g = ctx;
	json_t *info = NULL, *jobs = NULL, *gone, *asked;
	enum rc rc = queue_run(g->s->queue, run, &info, e);

	if (!rc)
		rc = queue_jobs(g->s->queue, run, NULL, &jobs, e);
	if (!rc) {
		gone = retention_pick(g->policy, info, jobs);
		json_object_set_new(g->used, run, json_pack("[O,O]", info, jobs));
		if (!g->dry_run)
			rc = retention_note(g->s, run, gone, e);
		asked = retention_asked(g->s, run);
		json_object_update(gone, asked);
		json_decref(asked);
		json_object_set_new(g->given_up, run, gone);
	}
	json_decref(info);
	json_decref(jobs);
	return rc == RC_NOTFOUND ? RC_OK : rc;
}

static json_t *sum(const struct gc_sum *s)
{
	return json_pack("{s:I,s:I}", "blobs", (json_int_t)s->n, "bytes", (json_int_t)s->bytes);
}

/* Of all runs; the bytes that results name, which others may name as well. */
static json_t *given_up_sum(const json_t *given_up)
{
	struct gc_sum all = {0};
	const char *run, *digest;
	json_t *digests, *v;

	json_object_foreach((json_t *)given_up, run, digests)
	{
		json_object_foreach(digests, digest, v)
		{
			all.n++;
			all.bytes += jx_get_i64(v, "size", 0);
		}
	}
	return sum(&all);
}

static json_t *answer(const struct gathered *g, const struct gc_report *r)
{
	json_t *v = json_pack("{s:b,s:o,s:o,s:o,s:o,s:o,s:o,s:O}", "dry_run", g->dry_run, "all",
			      sum(&r->all), "kept", sum(&r->kept), "young", sum(&r->young),
			      "marked", sum(&r->marked), "trashed", sum(&r->trashed), "dropped",
			      sum(&r->dropped), "items", r->items);

	json_object_set_new(v, "given_up", given_up_sum(g->given_up));
	return v;
}

enum rc keeper_collect(struct server *s, const struct retention *p, bool dry_run, json_t **out,
		       struct err *e)
{
	struct gathered g = {s, p, dry_run, json_object(), json_object()};
	struct gc_rules rules = GC_RULES_DEFAULT;
	struct gc_report r = {0};
	enum rc rc = queue_each_run(s->queue, add_run, &g, e);

	*out = NULL;
	rules.dry_run = dry_run;
	rules.given_up = g.given_up;
	if (!rc)
		rc = gc_run(s->store, &rules, g.used, &r, e);
	if (!rc) {
		*out = answer(&g, &r);
		if (!dry_run)
			log_info("store", "garbage", "trashed=%lld bytes=%lld dropped=%lld",
				 (long long)r.trashed.n, (long long)r.trashed.bytes,
				 (long long)r.dropped.n);
		gc_report_release(&r);
	}
	json_decref(g.used);
	json_decref(g.given_up);
	return rc;
}

/* --- now and then ---------------------------------------------------------------------------- */

/* Not while Redis is away or behind: what it does not know of would look like garbage. */
static void collect_now(struct server *s)
{
	struct retention p = retention_of(s);
	struct err e = {0};
	json_t *v = NULL;

	if (!atomic_load(&s->redis_ok) || atomic_load(&s->behind))
		return;
	if (keeper_collect(s, &p, false, &v, &e))
		log_warn("store", "garbage_failed", "reason=%s", e.text);
	json_decref(v);
}

static void *keep(void *arg)
{
	struct keeper *k = arg;
	int64_t every = conf_i64(k->s->conf, "server.garbage_hours") * 3600000;
	int64_t due = clk_mono_ms() + every;

	while (!atomic_load(&k->s->stopping)) {
		clk_sleep_ms(LOOK_MS);
		if (clk_mono_ms() < due)
			continue;
		collect_now(k->s);
		due = clk_mono_ms() + every;
	}
	return NULL;
}

enum rc keeper_start(struct server *s, struct keeper **out, struct err *e)
{
	struct keeper *k = mem_new(sizeof *k);

	k->s = s;
	*out = k;
	if (conf_i64(s->conf, "server.garbage_hours") <= 0)
		return RC_OK;
	if (pthread_create(&k->thread, NULL, keep, k))
		return err_set(e, RC_NOMEM, "cannot start the keeper's thread");
	k->running = true;
	return RC_OK;
}

void keeper_stop(struct keeper *k)
{
	if (!k)
		return;
	if (k->running)
		pthread_join(k->thread, NULL);
	free(k);
}
