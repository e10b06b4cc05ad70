/* Training curves: per job, per run, and one series thinned for a chart. */
#include "server/api.h"

#include "base/jsonx.h"
#include "queue/queue.h"
#include "server/logs.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/thin.h"

#include <math.h>
#include <string.h>

#define POINTS_DEFAULT 2000
#define POINTS_MAX 100000

/* What training had taken by each step: sums of what the steps themselves took. */
static json_t *with_totals(json_t *all)
{
	static const char *const sums[][2] = {{"num_tokens", THIN_TOTAL "tokens"},
					      {"seconds", THIN_TOTAL "seconds"}};

	for (size_t k = 0; k < sizeof sums / sizeof sums[0]; k++) {
		double sum = 0;

		for (size_t i = 0; i < json_array_size(all); i++) {
			json_t *m = json_array_get(all, i), *took = json_object_get(m, sums[k][0]);

			if (json_is_number(took))
				json_object_set_new(m, sums[k][1],
						    json_real(sum += json_number_value(took)));
		}
	}
	return all;
}

void api_job_metrics(struct req *r)
{
	struct err e = {0};
	json_t *all = NULL, *job = NULL;
	int64_t points;

	if (!req_query_i64(r, "points", POINTS_DEFAULT, 1, POINTS_MAX, &points))
		return;
	if (!job_id_valid(r->args[0], NULL)) {
		reply_problem(r, 404, "not-found", "no job \"%s\"", r->args[0]);
	} else if (queue_job(r->srv->queue, r->args[0], &job, &e) ||
		   queue_metrics(r->srv->queue, r->args[0], &all, &e)) {
		reply_err(r, &e);
	} else {
		reply_json(r, 200,
			   json_pack("{s:s, s:O?, s:o, s:O?}", "job", r->args[0], "stage",
				     json_object_get(job, "stage"), "items",
				     thin(with_totals(all), points), "final",
				     json_object_get(job, "metrics")));
	}
	json_decref(all);
	json_decref(job);
}

static json_t *job_series(const json_t *job, json_t *items)
{
	const char *variant = jx_get_str(json_object_get(job, "params"), "variant", "");

	return json_pack("{s:O, s:O, s:O, s:O, s:O, s:s, s:O?, s:O?, s:o}", "job",
			 json_object_get(job, "id"), "stage", json_object_get(job, "stage"), "iter",
			 json_object_get(job, "iter"), "shard", json_object_get(job, "shard"),
			 "state", json_object_get(job, "state"), "variant", variant, "params",
			 json_object_get(job, "params"), "final", json_object_get(job, "metrics"),
			 "points", items);
}

static bool trains(const json_t *job)
{
	const char *stage = jx_get_str(job, "stage", "");

	return strcmp(stage, "sft") == 0 || strcmp(stage, "dpo") == 0;
}

/* Every training job with its points, and eval and pair jobs with their closing figures. */
void api_run_metrics(struct req *r)
{
	struct err e = {0};
	json_t *info = NULL, *jobs = NULL, *items = json_array(), *job;
	int64_t points;
	size_t i;
	enum rc rc = RC_OK;

	if (!req_query_i64(r, "points", POINTS_DEFAULT, 1, POINTS_MAX, &points))
		goto out;
	if (!run_id_valid(r->args[0])) {
		reply_problem(r, 404, "not-found", "no run \"%s\"", r->args[0]);
		goto out;
	}
	rc = queue_run(r->srv->queue, r->args[0], &info, &e);
	if (!rc)
		rc = queue_jobs(r->srv->queue, r->args[0], NULL, &jobs, &e);
	json_array_foreach(jobs, i, job)
	{
		json_t *all = NULL;

		if (rc || !(trains(job) || json_is_object(json_object_get(job, "metrics"))))
			continue;
		if (trains(job))
			rc = queue_metrics(r->srv->queue, jx_get_str(job, "id", ""), &all, &e);
		json_array_append_new(items, job_series(job, all ? thin(with_totals(all), points)
								 : json_array()));
		json_decref(all);
	}
	if (rc)
		reply_err(r, &e);
	else
		reply_list(r, json_incref(items), NULL);
out:
	json_decref(info);
	json_decref(jobs);
	json_decref(items);
}

void api_series(struct req *r)
{
	const char *job = req_query(r, "job"), *name = req_query(r, "name");
	struct err e = {0};
	json_t *all = NULL, *kept, *few, *points = json_array(), *m;
	int64_t max;
	size_t i;

	if (!req_query_i64(r, "points", POINTS_DEFAULT, 1, POINTS_MAX, &max))
		goto out;
	if (!job || !name || !job_id_valid(job, NULL)) {
		reply_problem(r, 400, "invalid", "expected job and name");
		goto out;
	}
	if (queue_metrics(r->srv->queue, job, &all, &e)) {
		reply_err(r, &e);
		goto out;
	}
	kept = json_array();
	json_array_foreach(all, i, m) if (json_is_number(json_object_get(m, name)))
		json_array_append_new(kept, json_pack("{s:O, s:O}", "step", json_object_get(m, "step"),
						      name, json_object_get(m, name)));
	few = thin(kept, max);
	json_array_foreach(few, i, m) json_array_append_new(
		points, json_pack("[O, O]", json_object_get(m, "step"), json_object_get(m, name)));
	json_decref(few);
	json_decref(kept);
	reply_json(r, 200,
		   json_pack("{s:s, s:s, s:O}", "job", job, "name", name, "points", points));
out:
	json_decref(points);
	json_decref(all);
}
