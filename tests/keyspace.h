/* A Redis keyspace as text, one JSON array of a command's words a line: how keyspaces of earlier schema
 * versions are kept, to be migrated by tests. Binary-safe it is not; ours is text.
 */
#pragma once

#include "queue/redis.h"

/* Writes every key. Sorted, so the same keyspace gives the same file; times to live are left out. */
void keyspace_save(struct redis *r, const char *path);
/* Runs the lines of a file against an empty Redis. */
void keyspace_load(struct redis *r, const char *path);
