// Weights of eight bits widened to activations, for products that have no kernel of their own for them.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/prim.cuh"

template <class T, class Q>
static __global__ void unpack_8_k(T *out, const Q *q, const float *scale, int k)
{
	size_t at = (size_t)blockIdx.x * (size_t)k;
	float s = scale[blockIdx.x];

	for (int i = (int)threadIdx.x; i < k; i += (int)blockDim.x)
		out[at + i] = from_float<T>(to_float(q[at + i]) * s);
}

template <class Q>
static void unpack(cu_stream st, enum kern_format act, void *out, const void *wp, int n, int k)
{
	const float *scale = (const float *)(const void *)((const char *)wp + cu_q8_scales_at(n, k));

	if (act == KERN_BF16)
		CU_LAUNCH((unpack_8_k<bf16, Q>), (unsigned)n, 256, 0, st, (bf16 *)out, (const Q *)wp,
			  scale, k);
	else
		CU_LAUNCH((unpack_8_k<float, Q>), (unsigned)n, 256, 0, st, (float *)out,
			  (const Q *)wp, scale, k);
}

extern "C" void cu_unpack_8(cu_stream st, enum kern_format act, enum kern_format f, void *out,
			    const void *wp, int n, int k)
{
	if (f == KERN_Q8)
		unpack<int8_t>(st, act, out, wp, n, k);
	else
		unpack<fp8>(st, act, out, wp, n, k);
}
