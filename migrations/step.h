/* One step of a migration, as its file sees it. A step leads from one schema to the next; while it runs
 * the keyspace's schema is negative, so that servers of either version refuse to write.
 *
 * It may be killed at any point and must then be safe to run again; long ones work in portions, keep
 * where they stand in the meta hash, and call `alive` before each portion.
 */
#pragma once

#include "base/err.h"
#include "queue/redis.h"

struct migration_step {
	struct redis *redis; /* borrowed */
	/* Renews the lock; RC_STALE when it was lost, upon which the step returns. */
	enum rc (*alive)(void *ctx, struct err *e);
	void *ctx;
};

enum rc m0001_meta(const struct migration_step *s, struct err *e);
enum rc m0002_queues(const struct migration_step *s, struct err *e);
