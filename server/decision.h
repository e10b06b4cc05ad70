/* What operators decide about a run: one table of verbs for the API and for `pawl-server rebuild`.
 *
 * A decision is durable in the run's record (runs/<run>/decisions.jsonl) before Redis hears of it, so
 * Redis may be lost and nobody's word with it. {"id","what","by","at_ms","job"?,"detail"?}.
 * Where what an If-Match named no longer held when Redis got to it, a line {"what":"withdrawn","of":id} takes
 * the decision back.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

struct queue;
struct server;

/* Who decides; `match` as queue_match() takes it, or NULL: RC_CHANGED, and nothing done, when the run or job
 * is no longer that. */
struct decider {
	const char *who, *match;
};

/* Refuses a detail of the wrong shape before anything is written (RC_INVALID names the field), then
 * makes the decision durable and carries it out. job and detail may be NULL; detail is borrowed. */
enum rc decision_make(struct server *s, const char *run, const char *what, const char *job,
		      const json_t *detail, const struct decider *by, struct err *e);
/* Only the record: "abandoned", a submission that was refused for good. */
enum rc decision_append(struct server *s, const char *run, const char *what, const char *job,
			const json_t *detail, const char *who, struct err *e);
/* Those Redis has not carried out: made since its last one (kept as a mark in Redis), so after a failover or
 * an old dump exactly those that were lost, and the one a crash cut short. New reference. */
enum rc decision_pending(struct server *s, const char *run, json_t **out, struct err *e);
/* Redis knows the run by its record alone: everything is pending. */
enum rc decision_mark_none(struct server *s, const char *run, struct err *e);
/* This one is the last that Redis has carried out. */
enum rc decision_mark(struct server *s, const char *run, const json_t *decision, struct err *e);
/* A run's decisions in order; an empty list when there are none. New reference. */
enum rc decision_list(struct server *s, const char *run, json_t **out, struct err *e);
/* Carries out one more time. RC_CONFLICT and RC_NOTFOUND: it no longer applies. */
enum rc decision_apply(struct queue *q, const char *run, const json_t *decision, struct err *e);
