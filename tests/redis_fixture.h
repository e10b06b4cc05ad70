/* A real redis-server of the test's own: Unix socket in a folder of the test, every write fsynced.
 * Ends with the test, by pid.
 */
#pragma once

#include "queue/queue.h"

#include <stdbool.h>

struct redis_fixture {
	char dir[512];
	char url[560]; /* "unix:<dir>/redis.sock" */
	int pid;       /* -1 when stopped */
	bool fast;     /* no fsync: for long random tests */
};

/* Skips the test when there is no redis-server. dir must exist; its data survive stop and start. */
void redis_fixture_start(struct redis_fixture *f, const char *dir, bool fast);
void redis_fixture_kill(struct redis_fixture *f);  /* kill -9 and wait */
void redis_fixture_again(struct redis_fixture *f); /* start on the same data */
void redis_fixture_stop(struct redis_fixture *f);
/* Opens with migrations; fails the test on error. lease_ms 0 = default. */
struct queue *redis_fixture_queue(const struct redis_fixture *f, int64_t lease_ms);
