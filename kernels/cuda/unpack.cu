// int8 weights widened to activations, for products that have no kernel of their own for int8.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/prim.cuh"

template <class T>
static __global__ void unpack_q8_k(T *out, const int8_t *q, const float *scale, int k)
{
	size_t at = (size_t)blockIdx.x * (size_t)k;
	float s = scale[blockIdx.x];

	for (int i = (int)threadIdx.x; i < k; i += (int)blockDim.x)
		out[at + i] = from_float<T>((float)q[at + i] * s);
}

extern "C" void cu_unpack_q8(cu_stream st, enum kern_format act, void *out, const void *wp, int n, int k)
{
	const int8_t *q = (const int8_t *)wp;
	const float *scale = (const float *)(const void *)((const char *)wp + cu_q8_scales_at(n, k));

	if (act == KERN_BF16)
		CU_LAUNCH(unpack_q8_k<bf16>, (unsigned)n, 256, 0, st, (bf16 *)out, q, scale, k);
	else
		CU_LAUNCH(unpack_q8_k<float>, (unsigned)n, 256, 0, st, (float *)out, q, scale, k);
}
