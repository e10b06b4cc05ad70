/* Artifacts of runs as lists: what the dataset and checkpoint pages show. */
#pragma once

#include "base/err.h"

#include <jansson.h>

struct server;

/* Calls `see` with (run record, its jobs) for `run`, or for the newest runs when NULL. */
enum rc listing_runs(struct server *s, const char *run,
		     void (*see)(void *ctx, const json_t *run, const json_t *jobs), void *ctx,
		     struct err *e);
/* One dataset or checkpoint as the API shows it, from an output of a job. */
json_t *listing_dataset(const json_t *output, const json_t *job);
json_t *listing_checkpoint(const json_t *output, const json_t *job, const char *name,
			   const json_t *metrics);
