/* Why a job does not run: the question a scheduler is asked most. Answered from what was read once for
 * all jobs of a run; the sentence for one job costs no call. Not for others than queue/.
 */
#pragma once

#include "queue/internal.h"

struct waiting;

/* Why a ready job is not begun. `kind` says it in a word that numbers do not change, `text` (heap) as a
 * sentence. */
struct why {
	const char *kind;
	char *text;
};

/* What the reasons depend on beside the run; then, for one run after the other, what of it matters: the
 * reply of "HMGET {pawl}:r:<run> " WAITING_RUN_FIELDS. */
#define WAITING_RUN_FIELDS "owner max_running n:running hold"
enum rc waiting_world(struct queue *q, struct waiting **out, struct err *e);
void waiting_run(struct waiting *w, const struct redis_reply *fields);
/* Of the jobs of that run that are ready in a queue ("<stage>" or "<stage>@<pool>"). */
struct why waiting_ready(const struct waiting *w, const char *queue);

/* What the reasons of this run's jobs depend on. Free with waiting_free(). */
enum rc waiting_load(struct queue *q, const char *run, struct waiting **out, struct err *e);
void waiting_free(struct waiting *w); /* or NULL */
/* Sets "wait_reason" of a job that is not running; `hash` is the job's. */
void waiting_say(const struct waiting *w, json_t *job, const struct redis_reply *hash);
