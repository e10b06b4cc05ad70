/* `pawl-server rebuild`: every run again, in an empty Redis, from the store alone: run records,
 * decisions, completion manifests. Plans each run, completes the jobs whose manifests verify, plans
 * again, until nothing changes. Idempotent: what Redis already has stays as it is. Runs while no
 * worker is connected (the server is down). */
#pragma once

#include "base/err.h"

#include <stdio.h>

struct server;

struct rebuild_sum {
	int n_runs, n_jobs, n_missing; /* n_missing: manifests whose outputs are gone */
};
enum rc rebuild(struct server *s, struct rebuild_sum *sum, struct err *e);
