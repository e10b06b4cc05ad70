/* Spot machines are told before they are taken away. This asks the cloud's metadata service and
 * calls back once when the end is near. Knows three clouds' questions and answers, nothing of jobs.
 *
 * cloud  asked                                                 every  notice it gives
 * aws    /latest/meta-data/spot/instance-action (404: nothing)  1 s    up to 120 s
 *        /latest/meta-data/events/recommendations/rebalance            a hint, minutes earlier or none
 * gcp    /computeMetadata/v1/instance/preempted (TRUE)          hangs  30 s, or 120 s if so created
 * azure  /metadata/scheduledevents (an event "Preempt")         1 s    at least 30 s
 *        /metadata/instance/compute/name, once: which events are ours
 *
 * A service that does not answer is not there: the machine is asked again, less and less often.
 */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

struct notice_cloud;

/* By name; NULL when unknown. */
const struct notice_cloud *notice_cloud_named(const char *name);
/* "aws, gcp, azure" */
const char *notice_cloud_names(void);
/* The notice it gives, in milliseconds; of several the shortest. */
int64_t notice_cloud_ms(const struct notice_cloud *c);
/* Whether an answer of the cloud's service says that this machine is being taken; `self` is how events
 * name it, "" when that is not known. Pure. */
bool notice_read(const struct notice_cloud *c, int status, const struct buf *body, const char *self);

struct notice {
	const struct notice_cloud *cloud;
	const char *url;             /* instead of the cloud's own (tests); "" for that */
	void (*taken)(void *ctx);    /* called once, from the watching thread */
	void (*hinted)(void *ctx);   /* called once, before: the machine is likely to be taken */
	void *ctx;
};

/* Starts the watching thread; it ends with the process. `n` must stay. */
void notice_watch(const struct notice *n);
