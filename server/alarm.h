/* Alarms of the method: a job that finds its judge sick says so in its figure "alarm", and a run that
 * asks for it (health.pause) is paused with that reason.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

struct server;

/* Before the job's completion is accepted: nothing is planned on what the alarm is about. The pause is a
 * decision like an operator's, by "alarm", with {"why","job"}. Without an alarm, or when the run does
 * not ask for it, nothing happens. */
enum rc alarm_check(struct server *s, const char *run, const char *job, const json_t *metrics,
		    struct err *e);
/* Why the run is paused, when an alarm did that last; else NULL. New reference. */
json_t *alarm_reason(struct server *s, const char *run);
