/* Giving up one checkpoint: refused while anybody needs it, with who that is. */
#include "server/api.h"

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/sha256.h"
#include "queue/queue.h"
#include "queue/states.h"
#include "server/index.h"
#include "server/reply.h"
#include "server/retention.h"
#include "server/server.h"

#include <stdlib.h>
#include <string.h>

#define PAGE 200
#define NAMED_MAX 5 /* of those who need it */

struct needed {
	const char *digest, *run; /* borrowed */
	struct buf who;
	int n;
};

static void need(struct needed *x, const char *run, const char *why)
{
	if (x->n++ < NAMED_MAX)
		buf_printf(&x->who, "%srun %s %s", x->who.len ? ", " : "", run, why);
}

static bool is_over(const json_t *run)
{
	enum run_state state;

	return run_state_of(jx_get_str(run, "state", ""), &state) && run_state_terminal(state);
}

/* Whether the specification names it, as a base or as data; what people write about a run does not
 * count. */
static enum rc look_at(struct server *s, struct needed *x, const char *run, struct err *e)
{
	json_t *info = NULL, *spec;
	enum rc rc = queue_run(s->queue, run, &info, e);
	char *text;

	if (rc)
		return rc == RC_NOTFOUND ? RC_OK : rc;
	spec = json_object_get(json_object_get(info, "record"), "spec");
	spec = spec ? json_copy(spec) : json_object();
	json_object_del(spec, "name");
	json_object_del(spec, "notes");
	text = jx_text(spec);
	if (strstr(text, x->digest))
		need(x, run, "names it in its specification");
	free(text);
	json_decref(spec);
	json_decref(info);
	return rc;
}

static enum rc look_at_all(struct server *s, struct needed *x, struct err *e)
{
	char *cursor = NULL, *next = NULL;
	json_t *runs, *r;
	size_t i;
	enum rc rc;

	do {
		runs = NULL;
		rc = queue_runs(s->queue, NULL, cursor, PAGE, &runs, &next, e);
		json_array_foreach(runs, i, r) if (!rc && !is_over(r)) rc =
			look_at(s, x, jx_get_str(r, "id", ""), e);
		json_decref(runs);
		free(cursor);
		cursor = rc ? NULL : next;
		if (rc)
			free(next);
		next = NULL;
	} while (cursor);
	return rc;
}

/* Weights among the run's outputs; borrowed from jobs, NULL when there are none. */
static const json_t *output_of(const json_t *jobs, const char *digest)
{
	const json_t *job, *out;
	size_t i, k;

	json_array_foreach(jobs, i, job) json_array_foreach(json_object_get(job, "outputs"), k, out)
	{
		const char *kind = jx_get_str(out, "kind", "");

		if (strcmp(jx_get_str(out, "digest", ""), digest) == 0 &&
		    (strcmp(kind, "checkpoint") == 0 || strcmp(kind, "train_state") == 0))
			return out;
	}
	return NULL;
}

static void give_up(struct req *r, const json_t *info, const json_t *jobs, const json_t *out)
{
	const char *run = jx_get_str(info, "id", "");
	struct needed x = {.digest = r->args[0], .run = run, .who = BUF_INIT};
	struct err e = {0};

	if (!is_over(info))
		need(&x, run, "made it and is not over");
	if (look_at_all(r->srv, &x, &e)) {
		reply_err(r, &e);
	} else if (x.n) {
		reply_problem(r, 409, "conflict", "it is needed: %s%s", x.who.data,
			      x.n > NAMED_MAX ? ", and others" : "");
	} else if (retention_ask(r->srv, run, jobs, out, r->who.name, &e)) {
		reply_err(r, &e);
	} else {
		log_info("store", "given_up", "digest=%s run=%s by=%s", x.digest, run, r->who.name);
		reply_json(r, 202,
			   json_pack("{s:s, s:s, s:O?}", "digest", x.digest, "run", run,
				     "size_bytes", json_object_get(out, "size")));
	}
	buf_release(&x.who);
}

void api_ckpt_delete(struct req *r)
{
	json_t *entry = NULL, *info = NULL, *jobs = NULL;
	const json_t *out = NULL;
	const char *run;
	struct err e = {0};
	enum rc rc = sha256_hex_valid(r->args[0]) ? index_get(r->srv, r->args[0], &entry, &e)
						  : RC_NOTFOUND;

	run = jx_get_str(entry, "run", "");
	if (!rc && run[0] && !(rc = queue_run(r->srv->queue, run, &info, &e)))
		rc = queue_jobs(r->srv->queue, run, NULL, &jobs, &e);
	if (!rc)
		out = output_of(jobs, r->args[0]);
	if (rc && rc != RC_NOTFOUND)
		reply_err(r, &e);
	else if (!out)
		reply_problem(r, 404, "not-found", "no run has a checkpoint \"%.64s\"", r->args[0]);
	else
		give_up(r, info, jobs, out);
	json_decref(entry);
	json_decref(info);
	json_decref(jobs);
}
