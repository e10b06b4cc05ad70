/* One decision for many, answered when it is done or, where the client prefers that, as an
 * operation. */
#include "server/api.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "base/str.h"
#include "server/bulk.h"
#include "server/operation.h"
#include "server/reply.h"
#include "server/server.h"

/* What the filter picks is settled now: what becomes like it meanwhile was not meant. */
static void begin(struct req *r, struct bulk *b)
{
	json_t *params = json_copy(b->body);

	json_object_del(params, "filter");
	json_object_set(params, "ids", b->ids);
	operation_answer(r, b->of_jobs ? "bulk.jobs" : "bulk.runs", params,
			 (int64_t)json_array_size(b->ids));
}

static void answer(struct req *r, struct bulk *b)
{
	for (size_t i = 0; i < json_array_size(b->ids) && !b->dry_run; i++)
		bulk_decide(b, i);
	log_info(b->of_jobs ? "job" : "run", "bulk", "action=%s matched=%zu done=%lld by=%s",
		 b->action, json_array_size(b->ids), (long long)b->done, r->who.name);
	reply_json(r, 200, bulk_json(b));
}

/* The path alone would not say what was decided. */
static void note(struct req *r, const struct bulk *b)
{
	str_fmt(r->note, sizeof r->note, "%s%.20s, %zu %s", b->dry_run ? "dry run: " : "", b->action,
		json_array_size(b->ids), b->of_jobs ? "jobs" : "runs");
}

static void bulk(struct req *r, bool of_jobs)
{
	struct bulk b = {.s = r->srv, .who = r->who.name, .of_jobs = of_jobs};
	bool async = operation_wanted(r);
	size_t most = async ? BULK_ASYNC_MAX : BULK_MAX;
	json_t *body = req_json(r);
	struct err e = {0};

	if (!body)
		return;
	if (bulk_init(&b, body, &e)) {
		reply_err(r, &e);
		bulk_release(&b);
		return;
	}
	note(r, &b);
	if (json_array_size(b.ids) > most)
		reply_problem(r, 413, "too-large", "%zu are more than %zu of one request%s",
			      json_array_size(b.ids), most,
			      async ? "" : "; with Prefer: respond-async more are taken");
	else if (async && !b.dry_run)
		begin(r, &b);
	else
		answer(r, &b);
	bulk_release(&b);
}

void api_job_bulk(struct req *r)
{
	bulk(r, true);
}

void api_run_bulk(struct req *r)
{
	bulk(r, false);
}
