// How a launcher picks the instance of a kernel: by the format of activations, and by whether rows
// allow accesses of 128 bits.
#pragma once

#include "kernels/cuda/launch.h"
#include "kernels/cuda/prim.cuh"

static inline size_t act_bytes(enum kern_format act)
{
	return act == KERN_F32 ? 4 : 2;
}

// Pointers and byte strides or'ed together are a multiple of 16.
static inline uintptr_t bits_of(const void *p)
{
	return (uintptr_t)p;
}
static inline uintptr_t bits_of(size_t bytes)
{
	return (uintptr_t)bytes;
}
template <class... A> static inline bool wide_enough(A... a)
{
	return ((bits_of(a) | ... | 0) % 16) == 0;
}

// Does the call with T, and V = elements of 128 bits or 1.
#define CU_PICK(act, is_wide, ...)                                                                 \
	do {                                                                                       \
		if ((act) == KERN_F32) {                                                           \
			typedef float T;                                                           \
			CU_PICK_V(is_wide, __VA_ARGS__);                                           \
		} else {                                                                           \
			typedef bf16 T;                                                            \
			CU_PICK_V(is_wide, __VA_ARGS__);                                           \
		}                                                                                  \
	} while (0)
#define CU_PICK_V(is_wide, ...)                                                                    \
	if (is_wide) {                                                                             \
		constexpr int V = wide<T>::n;                                                      \
		__VA_ARGS__;                                                                       \
	} else {                                                                                   \
		constexpr int V = 1;                                                               \
		__VA_ARGS__;                                                                       \
	}

// A grid over vectors of rows: x along the row, y over rows, which a kernel goes through by
// strides.
static inline dim3 row_grid(int rows, int width, int v, int threads)
{
	return dim3((unsigned)ceil_div(width, v * threads),
		    (unsigned)(rows < 32768 ? rows : 32768));
}
#define EACH_ROW(r, rows) for (int r = (int)blockIdx.y; r < (rows); r += (int)gridDim.y)
#define MY_COLUMN(V) ((int)(blockIdx.x * blockDim.x + threadIdx.x) * (V))
