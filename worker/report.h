/* Executor to agent: one JSON object a line on a descriptor. Messages by "type": progress, metric,
 * checkpoint, result, error, stopped. Descriptor -1 drops them (a job run by hand).
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

/* Consumes `msg`. A dead agent ends the executor: there is nobody left to work for. */
void report(int fd, json_t *msg);
/* Appends {"step":step, ...values} to DIR/name; for jobs run by hand. */
void report_append(const char *dir, const char *name, int64_t step, const json_t *values);
