/* The planner: which jobs a run has, given what is finished. A pure function: same arguments, same
 * result; calling it again after more jobs are done yields the old jobs and perhaps new ones, never fewer.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

/* spec: normalised. done: {job id: {"outputs":{role:{"digest","rows","meta"}}}}, see queue_done_outputs.
 * *jobs: array of {"id","stage","iter","shard","pass","parents":[ids],"need","params":{…},"cost_hint",
 * "optional","inputs":[{"role","job","output"}]}, parents before children. */
enum rc plan(const json_t *spec, const json_t *done, const char *run, json_t **jobs, struct err *e);

/* Counts by stage for a dry run: [{"iter","stage","jobs"}], in order. Estimates shards not yet known
 * from spec counts and marks them {"estimate":true}. */
json_t *plan_summary(const json_t *spec, const json_t *jobs);

/* The models of a run in order, with the job that makes each and the iteration it belongs to ("M2" is
 * made by iteration 1): [{"name":"SFT","iter":0,"job":"…","output":"model"},…]. Models whose last DPO
 * shard is not known yet are left out; a listed job need not be done. */
json_t *plan_models(const json_t *spec, const json_t *done, const char *run);
