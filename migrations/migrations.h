/* Numbered changes of the Redis keyspace: forward only, under a lock, each safe to run twice and
 * resumable from a cursor. Runs at every start; a keyspace newer than this program is refused.
 */
#pragma once

#include "base/err.h"

struct queue;

/* For queue_opts.migrate. Also loads the function library. */
enum rc migrations_run(struct queue *q, struct err *e);
