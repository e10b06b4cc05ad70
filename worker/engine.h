/* Which back end computes, on which device.
 *
 * PAWL_KERNELS (setting worker.kernels) names a table: "plain", "avx2", ... for CPUs, "cuda-steady"
 * (activations in bfloat16; an answer depends on nothing but its request), "cuda" (the same, faster with
 * many rows, but a row's last bits depend on how many there are) or "cuda-f32" for GPUs. Without it a GPU
 * is taken where one is there, in the format the job asks for, else the best CPU table. A GPU that was
 * asked for by name and is not there is refused: work never moves to the CPU silently. PAWL_DEVICE
 * (worker.device) is the number of the GPU.
 */
#pragma once

#include "base/err.h"
#include "kernels/kernels.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct gpu_watch;

struct engine {
	const struct kern *kern;
	struct kern_pool *pool; /* owned */
	char name[320];		/* table and, of a GPU, the device */
	struct gpu_watch *watch; /* owned; NULL on a CPU and where the driver tells nothing */
	int64_t watched_ms;
};

/* `format`: of weights or training, as the job has it. `threads`: on a CPU, 0 for all cores. */
enum rc engine_open(struct engine *g, enum kern_format format, int threads, struct err *e);
void engine_close(struct engine *g); /* zeros are allowed */
/* Adds the figures of gpu_watch.h to a flat object, once a second at most; nothing on a CPU. */
void engine_watch(struct engine *g, json_t *values);
/* The table that would be chosen for `format`; never opens a device. RC_NOTFOUND says why a GPU that
 * was asked for is not there. */
enum rc engine_table(enum kern_format format, const struct kern **k, struct err *e);
/* Makes settings of the command line those of this process and its children; "" keeps the environment's. */
void engine_settings(const char *kernels, int device, const char *nvml);
