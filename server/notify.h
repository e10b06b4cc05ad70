/* Notices: what people want to be told of, made from the events of the queue and from a look around once a
 * minute. They are kept for a week (the feed of the browsers) and put into the outbox of every webhook that
 * wants their kind. One server at a time makes them, one at a time delivers (hold.h).
 *
 * How far the events were read, the feed and the outboxes are in Redis: a server may die at any moment
 * and the next goes on; the same event gives the same id, so what is done twice is there once, and a
 * receiver that sees an id again has seen that notice. At least once, in order for each webhook, until
 * TRIES_MAX tries failed or OUTBOX_MAX wait: then the oldest is given up, and the list of deliveries says
 * so.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

#define OUTBOX_MAX 1000 /* of one webhook */
#define TRIES_MAX 15	/* with the waits between them: about seven hours */

struct server;
struct notify;

enum rc notify_start(struct server *s, struct notify **out, struct err *e);
void notify_stop(struct notify *n);

/* The notice an event makes, or NULL: {"id","kind","at","text","run"?,"job"?,"worker"?,"url"}. */
json_t *notice_of(struct server *s, const json_t *event);
json_t *notice_new(struct server *s, const char *id, const char *kind, int64_t at_ms, const char *run,
		   const char *text);
/* How long to wait after so many failures of a webhook in a row. */
int64_t notify_backoff_ms(int64_t failures);
/* Newest first: notices, and deliveries of a webhook ({"id","kind","at","status","error","tries","ms"}). */
enum rc notify_feed(struct server *s, json_t **items, struct err *e);
enum rc notify_deliveries(struct server *s, const char *hook, json_t **items, struct err *e);
/* {hook: number that waits}. */
enum rc notify_waiting(struct server *s, json_t **out, struct err *e);
