#include "server/operation.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/bulk.h"
#include "server/hold.h"
#include "server/http.h"
#include "server/keeper.h"
#include "server/rebuild.h"
#include "server/reply.h"
#include "server/server.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NS_OP "op"
#define NS_STOP "opstop" /* asked to end */
#define KEPT_S 604800
#define TURN_MS 60000 /* longer than between two steps */
#define LOOK_MS 500
#define SAVE_MS 500

struct operations {
	struct server *s; /* borrowed */
	pthread_t thread;
	bool running;
	char me[17];
};

/* One being done. */
struct op {
	struct operations *o;
	json_t *rec; /* owned */
	const char *id;
	int64_t saved_ms;
};

/* --- the record --------------------------------------------------------------------------------
 */

static enum rc save(struct server *s, const json_t *rec, struct err *e)
{
	return queue_kv_put(s->queue, NS_OP, jx_get_str(rec, "id", ""), rec, KEPT_S, e);
}

enum rc operation_get(struct server *s, const char *id, json_t **out, struct err *e)
{
	size_t n = strlen(id);
	enum rc rc = RC_NOTFOUND;

	*out = NULL;
	if (n > 0 && n < 40 && strspn(id, "0123456789abcdef-") == n)
		rc = queue_kv_get(s->queue, NS_OP, id, out, e);
	return rc == RC_NOTFOUND ? err_set(e, rc, "no operation \"%.40s\"", id) : rc;
}

enum rc operation_list(struct server *s, json_t **items, struct err *e)
{
	json_t *all = NULL, *v, *list = json_array();
	const char *key;
	enum rc rc = queue_kv_list(s->queue, NS_OP, &all, e);

	json_object_foreach(all, key, v) json_array_insert_new(list, 0, operation_json(v));
	json_decref(all);
	*items = list;
	return rc;
}

json_t *operation_json(const json_t *rec)
{
	static const char *const names[] = {"id",   "kind",  "state",  "by",
					    "done", "total", "result", "error"};
	json_t *out = json_object(), *v;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		v = json_object_get(rec, names[i]);
		json_put(out, names[i], v ? json_incref(v) : NULL);
	}
	json_put(out, "created_at", json_time(jx_get_i64(rec, "created_ms", 0)));
	json_put(out, "started_at", json_time(jx_get_i64(rec, "started_ms", 0)));
	json_put(out, "ended_at", json_time(jx_get_i64(rec, "ended_ms", 0)));
	return out;
}

static bool is_open(const json_t *rec)
{
	const char *state = jx_get_str(rec, "state", "");

	return strcmp(state, "queued") == 0 || strcmp(state, "running") == 0;
}

enum rc operation_cancel(struct server *s, const char *id, struct err *e)
{
	json_t *rec = NULL, *yes = json_true();
	enum rc rc = operation_get(s, id, &rec, e);

	if (!rc && !is_open(rec))
		rc = err_set(e, RC_CONFLICT, "operation %s is %s", id,
			     jx_get_str(rec, "state", ""));
	if (!rc)
		rc = queue_kv_put(s->queue, NS_STOP, id, yes, KEPT_S, e);
	json_decref(yes);
	json_decref(rec);
	return rc;
}

/* --- asking for one ----------------------------------------------------------------------------
 */

bool operation_wanted(const struct req *r)
{
	const char *prefer = req_header(r, "Prefer");

	return prefer && strcasestr(prefer, "respond-async");
}

void operation_answer(struct req *r, const char *kind, json_t *params, int64_t total)
{
	char id[40], random[17];
	struct err e = {0};
	json_t *rec;

	holder_make(random);
	str_fmt(id, sizeof id, "%013llx-%.8s", (unsigned long long)clk_now_ms(), random);
	rec = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:o}", "id", id, "kind", kind, "state",
			"queued", "by", r->who.name, "created_ms", (json_int_t)clk_now_ms(), "done",
			(json_int_t)0, "total", (json_int_t)total, "params", params);
	if (save(r->srv, rec, &e)) {
		reply_err(r, &e);
	} else {
		log_info("operation", "queued", "id=%s kind=%s by=%s", id, kind, r->who.name);
		req_add_header(r, "Location", "/api/v1/operations/%s", id);
		req_add_header(r, "Preference-Applied", "respond-async");
		reply_json(r, 202, operation_json(rec));
	}
	json_decref(rec);
}

/* --- doing them --------------------------------------------------------------------------------
 */

/* After each step: keeps the turn and, now and then, how far it is. False when it must end: it was
 * cancelled, the server stops, or another server has it. */
static bool step(struct op *op, int64_t done, json_t *result)
{
	struct server *s = op->o->s;
	json_t *stop = NULL;
	bool mine = false, go;

	if (clk_mono_ms() - op->saved_ms < SAVE_MS) {
		json_decref(result);
		return !atomic_load(&s->stopping);
	}
	op->saved_ms = clk_mono_ms();
	json_object_set_new(op->rec, "done", json_integer(done));
	if (result)
		json_object_set_new(op->rec, "result", result);
	queue_kv_get(s->queue, NS_STOP, op->id, &stop, NULL);
	go = !stop && !queue_hold(s->queue, op->id, op->o->me, TURN_MS, &mine, NULL) && mine &&
	     !save(s, op->rec, NULL) && !atomic_load(&s->stopping);
	if (stop)
		json_object_set_new(op->rec, "state", json_string("cancelled"));
	json_decref(stop);
	return go;
}

/* Goes on after those that were decided before a server died; a few may be decided twice. */
static enum rc do_bulk(struct op *op, json_t **result, struct err *e)
{
	const json_t *was = json_object_get(op->rec, "result");
	struct bulk b = {.s = op->o->s,
			 .who = jx_get_str(op->rec, "by", ""),
			 .of_jobs = strcmp(jx_get_str(op->rec, "kind", ""), "bulk.jobs") == 0};
	enum rc rc = bulk_init(&b, json_deep_copy(json_object_get(op->rec, "params")), e);
	size_t i = (size_t)jx_get_i64(op->rec, "done", 0);

	b.done = jx_get_i64(was, "done", 0);
	b.failed = jx_get_i64(was, "failed", 0);
	if (!rc && json_object_get(was, "failures"))
		json_array_extend(b.failures, json_object_get(was, "failures"));
	for (; !rc && i < json_array_size(b.ids); i++) {
		bulk_decide(&b, i);
		if (!step(op, (int64_t)i + 1, bulk_json(&b)))
			rc = err_set(e, RC_CANCELLED, "ended after %zu of %zu", i + 1,
				     json_array_size(b.ids));
	}
	json_object_set_new(op->rec, "done", json_integer((json_int_t)i));
	if (b.ids)
		*result = bulk_json(&b);
	bulk_release(&b);
	return rc;
}

static enum rc do_garbage(struct op *op, json_t **result, struct err *e)
{
	struct retention p = retention_of(op->o->s);

	return keeper_collect(op->o->s, &p, false, result, e);
}

static enum rc do_rebuild(struct op *op, json_t **result, struct err *e)
{
	struct rebuild_sum sum;
	enum rc rc = rebuild(op->o->s, &sum, e);

	*result = json_pack("{s:i, s:i, s:i, s:i}", "runs", sum.n_runs, "jobs", sum.n_jobs,
			    "decisions", sum.n_decisions, "missing", sum.n_missing);
	return rc;
}

static const struct {
	const char *kind;
	enum rc (*run)(struct op *op, json_t **result, struct err *e);
} kinds[] = {{"bulk.jobs", do_bulk},
	     {"bulk.runs", do_bulk},
	     {"garbage", do_garbage},
	     {"rebuild", do_rebuild}};

static void finish(struct op *op, enum rc rc, json_t *result, const struct err *e)
{
	bool cancelled = strcmp(jx_get_str(op->rec, "state", ""), "cancelled") == 0;

	if (result)
		json_object_set_new(op->rec, "result", result);
	if (rc == RC_CANCELLED &&
	    !cancelled) { /* The server stops, or another one has it: it goes on there. */
		if (atomic_load(&op->o->s->stopping))
			save(op->o->s, op->rec, NULL);
		return;
	}
	if (rc)
		json_object_set_new(op->rec, "error", json_string(e->text));
	if (!cancelled)
		json_object_set_new(op->rec, "state", json_string(rc ? "failed" : "done"));
	json_object_set_new(op->rec, "ended_ms", json_integer(clk_now_ms()));
	save(op->o->s, op->rec, NULL);
	log_info("operation", jx_get_str(op->rec, "state", ""), "id=%s kind=%s", op->id,
		 jx_get_str(op->rec, "kind", ""));
}

static void run_one(struct operations *o, json_t *rec)
{
	const char *kind = jx_get_str(rec, "kind", "");
	struct op op = {.o = o, .rec = rec, .id = jx_get_str(rec, "id", "")};
	struct err e = {0};
	json_t *result = NULL;
	enum rc rc = err_set(&e, RC_UNSUPPORTED, "this server knows no operation \"%.40s\"", kind);

	json_object_set_new(rec, "state", json_string("running"));
	if (!json_object_get(rec, "started_ms"))
		json_object_set_new(rec, "started_ms", json_integer(clk_now_ms()));
	if (save(o->s, rec, NULL))
		return;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strcmp(kinds[i].kind, kind) == 0)
			rc = kinds[i].run(&op, &result, &e);
	atomic_fetch_add(&o->s->changes, 1);
	finish(&op, rc, result, &e);
}

/* Those whose turn nobody has, the oldest first. */
static void look(struct operations *o)
{
	json_t *all = NULL, *listed, *rec = NULL;
	const char *id;
	bool mine;

	if (queue_kv_list(o->s->queue, NS_OP, &all, NULL))
		return;
	json_object_foreach(all, id, listed)
	{
		if (!is_open(listed) || atomic_load(&o->s->stopping) ||
		    queue_hold(o->s->queue, id, o->me, TURN_MS, &mine, NULL) || !mine)
			continue;
		/* As it is now: somebody may have ended it since it was listed. */
		if (!operation_get(o->s, id, &rec, NULL) && is_open(rec))
			run_one(o, rec);
		json_decref(rec);
		rec = NULL;
		queue_hold(o->s->queue, id, o->me, 0, &mine, NULL);
	}
	json_decref(all);
}

static void *work(void *arg)
{
	struct operations *o = arg;

	while (!atomic_load(&o->s->stopping)) {
		if (atomic_load(&o->s->redis_ok) && !atomic_load(&o->s->behind))
			look(o);
		clk_sleep_ms(LOOK_MS);
	}
	return NULL;
}

enum rc operations_start(struct server *s, struct operations **out, struct err *e)
{
	struct operations *o = mem_new(sizeof *o);

	o->s = s;
	*out = o;
	holder_make(o->me);
	if (pthread_create(&o->thread, NULL, work, o))
		return err_set(e, RC_NOMEM, "cannot start the thread of operations");
	o->running = true;
	return RC_OK;
}

void operations_stop(struct operations *o)
{
	if (!o)
		return;
	if (o->running)
		pthread_join(o->thread, NULL);
	free(o);
}
