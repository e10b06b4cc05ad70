/* What the driver says of one GPU: load, memory, temperature, power, memory errors (ECC) and the driver's
 * own errors (XID), and whether work may go on there. NVML is loaded when the program runs (PAWL_NVML,
 * setting worker.nvml, names the library where the loader does not find it); without it there is nothing
 * to say. A call may take as long as the driver takes, which is for ever with some broken GPUs. Knows
 * nothing of jobs.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

#define GPU_WHY_MAX 160

struct gpu_watch;

/* Where functions of NVML are found; NULL for those that are not there. The library's is taken when
 * `find` is NULL. `device` counts as CUDA does: CUDA_VISIBLE_DEVICES is heeded. RC_NOTFOUND says why
 * nothing can be watched. */
enum rc gpu_watch_open(int device, void *(*find)(const char *name), struct gpu_watch **out,
		       struct err *e);
void gpu_watch_close(struct gpu_watch *w); /* NULL is allowed */

/* What can be told now; NAN what this device, driver or moment does not tell. */
struct gpu_look {
	double load, memory_load;	     /* shares */
	double memory_mib, memory_total_mib; /* taken, and of all */
	double temperature;		     /* degrees Celsius */
	double power;			     /* watts */
	double ecc_errors;		     /* uncorrected since the driver started */
	double xid;			     /* the last one; NAN before any */
};
/* An XID or a new memory error is logged as an error, once. */
void gpu_watch_look(struct gpu_watch *w, struct gpu_look *out);
const char *gpu_watch_name(const struct gpu_watch *w); /* "NVIDIA H200"; "" when it does not tell */
/* Why no work may be done here, as of the last look; "" while all is well. It stays: the driver was
 * opened before the error, and only a new start of the program says that somebody has seen to it. XIDs
 * that programs bring about are none of these (13, 31, 43, 45, 68, 109). */
const char *gpu_watch_why(const struct gpu_watch *w);

/* Looks, and adds what was told to a flat object: "gpu/load", "gpu/memory_load", "gpu/memory_mib",
 * "gpu/temperature", "gpu/power", "gpu/ecc_errors", "gpu/xid". */
void gpu_watch_add(struct gpu_watch *w, json_t *values);
