/* The GPUs of this worker, looked at by a thread of their own while it has a job and while it has none:
 * a driver may hang with the GPU it lost, and neither the beat nor a job may wait for it. Knows the
 * driver (gpu_watch.h), nothing of servers and jobs.
 *
 * Invariant: once ill, always ill, until the program starts again; but for a driver that does not answer:
 * that ends when it does.
 */
#pragma once

#include "worker/gpu_watch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gpu_guard;

struct gpu_guard_opts {
	int device;		  /* the first, as CUDA counts */
	int64_t every_ms;	  /* between looks */
	int64_t silent_ms;	  /* a look that takes longer: the driver does not answer */
	void (*fell_ill)(void *); /* called once, from the thread, without any lock of the guard */
	void *ctx;
};

/* RC_NOTFOUND says why there is nothing to watch. */
enum rc gpu_guard_start(const struct gpu_guard_opts *o, struct gpu_guard **out, struct err *e);
/* Does not wait for a driver that hangs: its thread and memory stay until the program ends. NULL is
 * allowed. */
void gpu_guard_stop(struct gpu_guard *g);
/* A job computes on `n` GPUs from the first on; those beyond what was watched are watched from now on. */
void gpu_guard_widen(struct gpu_guard *g, int n);
/* Whether work may be done; if not, `why` names the GPU and what happened. NULL is well. */
bool gpu_guard_well(struct gpu_guard *g, char *why, size_t size);
/* Waits until every GPU was looked at after this call began, `ms` at most. */
void gpu_guard_look(struct gpu_guard *g, int64_t ms);
/* Adds "gpus", what the last look found of each, and while ill "unhealthy", why, to an object. */
void gpu_guard_tell(struct gpu_guard *g, json_t *o);
