/* What one thread of one server at a time may do with something that lives in the store: read, compare,
 * write. Kept in Redis with an end of its own, so a server that dies holds nobody up for long.
 */
#pragma once

#include "base/err.h"

#define HOLD_MS 30000

struct server;

struct hold {
	struct server *s; /* borrowed */
	char name[80], holder[17];
};

/* Waits for its turn at <kind>-<id>, up to five seconds (RC_TIMEOUT). It is the caller's for HOLD_MS at
 * most. */
enum rc hold_take(struct server *s, const char *kind, const char *id, struct hold *h, struct err *e);
void hold_drop(struct hold *h);
/* 16 hex digits that nobody else has. */
void holder_make(char out[17]);
