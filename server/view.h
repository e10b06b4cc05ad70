/* How the queue's records look to the outside: the one place that names the members of a run, job,
 * attempt and worker in answers. Pure functions of what the queue returned; new references. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* jobs: queue_jobs of the run. `single` adds the specification. */
json_t *view_run(const json_t *run, const json_t *jobs, bool single);
json_t *view_stages(const json_t *spec, const json_t *jobs);
/* [{"name","iter","job","checkpoint","metrics"}] of the models whose checkpoint exists. metrics: those of its
 * evaluation, health.* and bench.* of its own jobs, and pair.* of the iteration it began: what drifts. */
json_t *view_models(const json_t *spec, const json_t *jobs, const char *run);
/* done: view_done(jobs) to resolve inputs, or NULL. */
json_t *view_job(const json_t *job, const json_t *done);
json_t *view_waiting(const json_t *waits); /* of queue_waits */
json_t *view_attempt(const json_t *attempt, const json_t *job, int64_t log_size);
json_t *view_worker(const json_t *worker);
/* {job id: {"outputs": {role: {...,"rows"}}}} of the done jobs: plan()'s argument. */
json_t *view_done(const json_t *jobs);
/* inputs [{"role","job","output"|"digest"}] with digests where known. */
json_t *view_inputs(const json_t *inputs, const json_t *done);
