/* Why a job does not run: the question a scheduler is asked most. Answered from what was read once for
 * all jobs of a run; the sentence for one job costs no call. Not for others than queue/.
 */
#pragma once

#include "queue/internal.h"

struct waiting;

/* What the reasons of this run's jobs depend on. Free with waiting_free(). */
enum rc waiting_load(struct queue *q, const char *run, struct waiting **out, struct err *e);
void waiting_free(struct waiting *w); /* or NULL */
/* Sets "wait_reason" of a job that is not running; `hash` is the job's. */
void waiting_say(const struct waiting *w, json_t *job, const struct redis_reply *hash);
