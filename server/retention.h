/* What of a run that is over is not kept: models between the ones that count, and the states
 * training would go on from. A run that is not over keeps all it has.
 *
 * The decision is a document, given-up/<run>.json
 * {"digests":{digest:{"job","role","kind","size"}},"asked":{the same, with "by","at_ms"}}: what the policy
 * gives up, and what a person did. Names of those digests among the run's own results count for nothing when
 * garbage is looked for (gc.h), and a rebuild does not miss them.
 * What anybody else names stays: another run that starts from a model, or has the same result.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct server;
struct req;

/* Models of a run, M1 on; the base and the last one are always kept. All zero: everything is. */
struct retention {
	int64_t last;	  /* keep so many of the newest */
	int64_t every;	  /* and every so manieth iteration's */
	const char *best; /* and the one with the highest figure of this name; "" none; borrowed */
	bool states;	  /* and what training would go on from */
};

/* As configured. */
struct retention retention_of(const struct server *s);
bool retention_on(const struct retention *p);
/* {digest: {...}} of what that run gives up; empty unless it is over. Pure. `run`, `jobs`: as the
 * queue tells them. */
json_t *retention_pick(const struct retention *p, const json_t *run, const json_t *jobs);
/* Writes the document if it says something new. */
enum rc retention_note(struct server *s, const char *run, json_t *digests, struct err *e);
/* A person gives up one output of a run that is over, and its volumes that no other output of the run has.
 * The document is durable when this returns. `jobs`: of the run. */
enum rc retention_ask(struct server *s, const char *run, const json_t *jobs, const json_t *output,
		      const char *who, struct err *e);
/* Of those what somebody asked for. New reference. */
json_t *retention_asked(struct server *s, const char *run);
/* What the run has given up, by policy or because somebody asked; an empty object when nothing. New
 * reference. */
json_t *retention_given_up(struct server *s, const char *run);
