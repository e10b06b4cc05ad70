/* The tables of GPUs, in a shared object that is loaded when the program runs. */
#pragma once

#include "kernels/kernels.h"

#define KERN_GPU_VERSION 3 /* raised when struct kern or an argument block changes its meaning */

/* What the shared object exports as `pawl_gpu`. */
struct kern_gpu {
	int version;
	size_t table_size;		   /* sizeof(struct kern) it was compiled with */
	const struct kern *const *tables; /* "cuda", "cuda-steady" (bfloat16), "cuda-f32"; ends
					 * with NULL */
	/* How many devices there are; 0 says why (no driver, none visible). */
	int (*devices)(char *why, size_t size);
};

extern const struct kern_gpu pawl_gpu; /* of the shared object, and of the tests' emulator */

/* Loaded once, kept. NULL says why: no such file, a library it needs is missing, another version. */
const struct kern_gpu *kern_gpu(char *why, size_t size);
/* NULL when it has none of that name. */
const struct kern *kern_gpu_table(const struct kern_gpu *g, const char *name);
