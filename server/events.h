/* The event hub: one thread reads the Redis stream and formats each event once into a ring; any
 * number of handlers wait on a condition variable and copy what they subscribed to. Who falls
 * behind the ring, or asks for an id the stream has trimmed, gets `reset` and reads a snapshot.
 * The hub also wakes long-polling claims when a job became ready, and the reconciler when one
 * ended. It may not know HTTP; api_events (events.c) is its only client that does.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

struct server;
struct hub;

enum rc hub_start(struct server *s, struct hub **out, struct err *e);
/* Wakes every waiter; srv->stopping must be set. */
void hub_wake(struct hub *h);
void hub_stop(struct hub *h);
/* Waits until work may have appeared since *seq, `timeout_ms`, or stop; updates *seq. Start with
 * hub_work_seq() taken before the first look at the queue, so that nothing is missed. */
uint64_t hub_work_seq(struct hub *h);
void hub_wait_work(struct hub *h, uint64_t *seq, int64_t timeout_ms);
/* -1, 0, 1 as stream ids "ms-seq" compare. */
int event_id_cmp(const char *a, const char *b);
