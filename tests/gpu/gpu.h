/* What the programs for a real GPU share: opening it, arrays there, numbers. They need the kernels
 * alone: no library beside libc, nothing from the network. */
#pragma once

#include "kernels/gpu.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gpu {
	const struct kern *k;
	struct kern_pool *pool;
	char name[320];
};

/* false: said on stdout why there is no such table or no device; the caller ends with GPU_NONE. */
bool gpu_open(struct gpu *g, const char *table);
void gpu_close(struct gpu *g);
#define GPU_NONE 77 /* "skipped", as automake and others have it */

/* Ends the program when the device has failed, with its cause. */
void gpu_check(const struct gpu *g);
/* Ends the program when memory is short. Zeros. */
void *gpu_room(const struct gpu *g, size_t bytes);
/* n activations, uniform in [-scale, scale): their values, as the format rounds them, go to `here`
 * (n floats, or NULL). A function of the seed. */
void *gpu_numbers(const struct gpu *g, size_t n, float scale, uint32_t seed, float *here);
/* Floats likewise. */
float *gpu_floats(const struct gpu *g, size_t n, float scale, uint32_t seed, float *here);
/* Activations that are not numbers: what an operation must overwrite. */
void *gpu_poison(const struct gpu *g, size_t n);
/* Activations as floats of the program. */
void gpu_read(const struct gpu *g, float *here, const void *act, size_t n);
void gpu_free(const struct gpu *g, void *p);
double now_s(void);
