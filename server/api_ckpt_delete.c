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

#define NAMED_MAX 5 /* of those who need it */

struct needed {
	struct queue *queue;
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

/* Whether the specification of a run that goes on names it, as a base or as data; what people write
 * about a run does not count. */
static enum rc look_at(void *ctx, const json_t *listed, struct err *e)
{
	const char *run = jx_get_str(listed, "id", "");
	struct needed *x = ctx;
	json_t *info = NULL, *spec;
	char *text;
	enum rc rc;

	if (is_over(listed))
		return RC_OK;
	if ((rc = queue_run(x->queue, run, &info, e)))
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

/* Weights among the run's outputs; borrowed from jobs, NULL when there are none. */
static const json_t *output_of(const json_t *jobs, const char *digest)
{
	const json_t *job, *out;
	size_t i, k;

	json_array_foreach(jobs, i, job) json_array_foreach(json_object_get(job, "outputs"), k, out)
	{
		if (strcmp(jx_get_str(out, "digest", ""), digest) == 0 &&
		    kind_is_weights(jx_get_str(out, "kind", "")))
			return out;
	}
	return NULL;
}

static void give_up(struct req *r, const json_t *info, const json_t *jobs, const json_t *out)
{
	const char *run = jx_get_str(info, "id", "");
	struct needed x = {.queue = r->srv->queue,
			   .digest = r->args[0],
			   .run = run,
			   .who = BUF_INIT};
	struct err e = {0};

	if (!is_over(info))
		need(&x, run, "made it and is not over");
	if (queue_each_run(x.queue, look_at, &x, &e)) {
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
