// What happens when a launch fails.
#include "kernels/cuda/launch.h"

#include <cuda_runtime.h>

#include <stdio.h>
#include <stdlib.h>

static void (*hook)(const char *where, const char *why);

extern "C" void cu_on_error(void (*fn)(const char *where, const char *why))
{
	hook = fn;
}

extern "C" void cu_launched(const char *kernel, int cuda_error)
{
	cudaError_t e = (cudaError_t)cuda_error;

	if (e == cudaSuccess)
		return;
	if (hook) {
		hook(kernel, cudaGetErrorString(e));
		return;
	}
	fprintf(stderr, "cuda: %s: %s: %s\n", kernel, cudaGetErrorName(e), cudaGetErrorString(e));
	exit(70);
}
