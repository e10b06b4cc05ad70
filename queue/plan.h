/* The planner: which jobs a run has, given what is finished. A pure function: same arguments, same
 * result; calling it again after more jobs are done yields the old jobs and perhaps new ones, never fewer.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

/* spec: normalised. done: {job id: {"outputs":{role:{"digest","rows","meta"}}}}, see queue_done_outputs.
 * *jobs: array of {"id","stage","iter","shard","pass","parents":[ids],"need","inputs":[{"role","job","output"}],
 * "params":{…},"cost_hint","optional"}, parents before children. */
enum rc plan(const json_t *spec, const json_t *done, const char *run, json_t **jobs, struct err *e);

/* Counts by stage for a dry run: [{"iter","stage","jobs"}], in order. Estimates shards not yet known
 * from spec counts and marks them {"estimate":true}. */
json_t *plan_summary(const json_t *spec, const json_t *jobs);

/* Name of the model that iteration `iter` starts from ("M1" for 1) and the job and output that
 * hold it, from the plan: [{"name":"SFT","iter":0,"job":"…","output":"model"},…] in order; models whose last
 * shard is not known yet are left out. */
json_t *plan_models(const json_t *spec, const json_t *done, const char *run);
