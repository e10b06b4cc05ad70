/* What the driver says of a GPU while a job computes: load, memory, temperature, power, memory errors
 * (ECC) and the driver's own errors (XID). NVML is loaded when the program runs; without it there is
 * nothing to say. Knows nothing of jobs.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

struct gpu_watch;

/* Where functions of NVML are found; NULL for those that are not there. The library's is taken when
 * `find` is NULL. `device` counts as CUDA does: CUDA_VISIBLE_DEVICES is heeded. RC_NOTFOUND says why
 * nothing can be watched. */
enum rc gpu_watch_open(int device, void *(*find)(const char *name), struct gpu_watch **out,
		       struct err *e);
void gpu_watch_close(struct gpu_watch *w); /* NULL is allowed */

/* Adds "gpu/load" and "gpu/memory_load" (shares), "gpu/memory_mib", "gpu/temperature" (degrees
 * Celsius), "gpu/power" (watts), "gpu/ecc_errors" (uncorrected since the driver started) and, once
 * one happened, "gpu/xid" to a flat object, those that the device tells. An XID or a new memory error
 * is logged as an error, once. */
void gpu_watch_add(struct gpu_watch *w, json_t *values);
