#include "server/listing.h"

#include "base/jsonx.h"
#include "queue/queue.h"
#include "server/reply.h"
#include "server/server.h"

#include <stdlib.h>

#define RUNS_MAX 50 /* without a run filter */

static enum rc one_run(struct server *s, const char *run,
		       void (*see)(void *ctx, const json_t *run, const json_t *jobs), void *ctx,
		       struct err *e)
{
	json_t *info = NULL, *jobs = NULL;
	enum rc rc = queue_run(s->queue, run, &info, e);

	if (!rc)
		rc = queue_jobs(s->queue, run, NULL, &jobs, e);
	if (!rc)
		see(ctx, info, jobs);
	json_decref(info);
	json_decref(jobs);
	return rc;
}

enum rc listing_runs(struct server *s, const char *run,
		     void (*see)(void *ctx, const json_t *run, const json_t *jobs), void *ctx,
		     struct err *e)
{
	json_t *runs = NULL, *r;
	char *next = NULL;
	size_t i;
	enum rc rc;

	if (run && run[0])
		return one_run(s, run, see, ctx, e);
	rc = queue_runs(s->queue, NULL, NULL, RUNS_MAX, &runs, &next, e);
	json_array_foreach(runs, i, r) if (!rc) rc =
		one_run(s, jx_get_str(r, "id", ""), see, ctx, e);
	json_decref(runs);
	free(next);
	return rc;
}

static json_t *common(const json_t *output, const json_t *job)
{
	json_t *volumes = json_object_get(output, "volumes");
	json_t *v = json_pack(
		"{s:O?, s:O?, s:O?, s:O?, s:O?, s:O?, s:O?, s:O?, s:O?, s:o}", "digest",
		json_object_get(output, "digest"), "run", json_object_get(job, "run"), "iter",
		json_object_get(job, "iter"), "stage", json_object_get(job, "stage"), "job",
		json_object_get(job, "id"), "role", json_object_get(output, "role"), "kind",
		json_object_get(output, "kind"), "size_bytes", json_object_get(output, "size"),
		"meta", json_object_get(output, "meta"), "created_at",
		json_time(jx_get_i64(job, "ended_ms", jx_get_i64(job, "last_beat_ms", 0))));

	if (volumes)
		json_object_set(v, "volumes", volumes);
	return v;
}

json_t *listing_dataset(const json_t *output, const json_t *job)
{
	json_t *v = common(output, job);

	json_put(v, "rows", json_incref(json_object_get(json_object_get(output, "meta"), "rows")));
	json_put(v, "shard", json_incref(json_object_get(job, "shard")));
	json_put(v, "pass", json_incref(json_object_get(job, "pass")));
	return v;
}

json_t *listing_checkpoint(const json_t *output, const json_t *job, const char *name,
			   const json_t *metrics)
{
	json_t *v = common(output, job), *inputs = json_array(), *in;
	size_t i;

	json_array_foreach(json_object_get(job, "inputs"), i,
			   in) if (json_is_string(json_object_get(in, "digest")))
		json_array_append(inputs, json_object_get(in, "digest"));
	json_put(v, "inputs", inputs);
	json_put(v, "name", json_string(name));
	json_put(v, "metrics", json_incref((json_t *)(uintptr_t)metrics));
	return v;
}
