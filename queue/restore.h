/* A Redis that may have fallen behind the store, and how it is brought up again.
 *
 * A Redis process that was started, or made master, after a server last compared it with the store may
 * hold less than was acknowledged: a failover lost the tail, or somebody put an old dump back. Where a
 * server guards the keyspace, such a process refuses every write ("BEHIND", RC_UNREACHABLE) and its lease
 * clock stands still until a server has compared it and says so. Reads go on. The test is one field of one
 * HMGET inside every function, so nothing can be written in between.
 */
#pragma once

#include "queue/queue.h"

/* From now on every new Redis process is held until it is trusted. Once set, for ever. Before migrations_run
 * in a server, so that an empty Redis is held as well. */
enum rc queue_guard(struct queue *q, struct err *e);
/* The calls of this thread, and of no other, go through to a Redis that is held. */
void queue_restoring(bool on);
/* Array of ids: jobs of a run that are ready, running or delayed. */
enum rc queue_restore_open(struct queue *q, const char *run, json_t **jobs, struct err *e);
/* A lease for `worker` on this very job, whose result the store has from the lease numbered `fence`; *claim
 * as queue_claim. A lease with that number is handed out as it is; RC_CONFLICT when there is a later one, or
 * the job waits for parents or has ended. */
enum rc queue_restore_take(struct queue *q, const char *worker, const char *job, int64_t fence,
			   json_t **claim, struct err *e);
/* Ends it: this process knows what the store knows. `fence` is the highest number of a lease the store has
 * seen; new ones are well above. */
enum rc queue_restore_trust(struct queue *q, int64_t fence, struct err *e);
