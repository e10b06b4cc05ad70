/* Brings a Redis that knows less than the store up to it: run records, decisions, completion manifests.
 *
 * An empty Redis gets every run back (`pawl-server rebuild`); one that a failover or an old dump set back
 * gets what it lost. Results are given to the jobs they are of while their inputs are the same, lost
 * decisions carried out in their order, and then the queue is told to go on (queue/restore.h). Idempotent:
 * what Redis already has stays as it is, and a comparison cut short is begun again. Several servers may
 * compare at a time.
 */
#pragma once

#include "base/err.h"

struct server;

struct rebuild_sum {
	int n_runs, n_jobs;	    /* brought back */
	int n_decisions, n_missing; /* n_missing: manifests whose outputs are gone */
};
/* From any thread, whose queue calls are marked meanwhile. */
enum rc rebuild(struct server *s, struct rebuild_sum *sum, struct err *e);
/* The same for a server at work: guards the keyspace, makes it where there is none, compares. */
enum rc rebuild_compare(struct server *s, struct err *e);
