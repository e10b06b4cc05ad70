/* What tests set and ask of the CUDA emulator. The emulator runs every thread of a block as a
 * fiber, blocks one after the other, kernels when somebody waits for them. It stops the program
 * with a sentence that names kernel, block and thread when
 *  - a barrier is not reached by all threads of the block, or from two places in the source,
 *  - a warp operation names lanes that have returned or never come, or reads a lane not named,
 *  - cp.async data was never waited for,
 *  - guard words around an allocation have changed (looked at after every kernel and at the free),
 *  - the host touches device memory, or a kernel is given a pointer to ordinary host memory.
 * Shared memory and fresh device memory hold NaN.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The order in which threads of a block, and blocks, run: 0 ascending, 1 descending, else shuffled
 * anew at every turn. CUEMU_SEED in the environment is the first setting. */
void cuemu_order(unsigned seed);
/* false: every call runs at once, for a debugger (CUEMU_EAGER=1 in the environment). */
void cuemu_lazy(bool lazy);
/* Called with the sentence instead of printing it; must not return. NULL: print and abort. */
void cuemu_on_fault(void (*fault)(const char *what));
/* Size of the device's memory; cudaMalloc refuses what does not fit. 2 GiB at first. */
void cuemu_memory(size_t bytes);
/* The device's compute capability, for contexts opened from now on; 9.0 at first. */
void cuemu_capability(int major, int minor);
/* Bytes allocated on the device, and how many allocations. */
size_t cuemu_live(int *n);
/* Checks the guard words of all allocations now. */
void cuemu_check_guards(void);
/* Kernels run since the start. */
unsigned long cuemu_kernels(void);

#ifdef __cplusplus
}
#endif
