// The exponential all draws use: the CPU's polynomial (kernels/cpu/body_rows.inc), to the bit of
// its variants with fused multiply-add.
#pragma once

#include "kernels/cuda/prim.cuh"

#define EXP_LOW (-87.33654f) // below: 0, so that no denormals arise
#define EXP_HIGH (88.37f)

__device__ static __forceinline__ float exp_poly(float x)
{
	float c = x < EXP_LOW ? EXP_LOW : x > EXP_HIGH ? EXP_HIGH : x; // keeps NaN
	float n = rintf(c * 1.44269504088896f), r = fmaf(n, -0.693359375f, c), p = 1.9875691500e-4f;

	r = fmaf(n, 2.12194440e-4f, r);
	p = fmaf(p, r, 1.3981999507e-3f);
	p = fmaf(p, r, 8.3334519073e-3f);
	p = fmaf(p, r, 4.1665795894e-2f);
	p = fmaf(p, r, 1.6666665459e-1f);
	p = fmaf(p, r, 5.0000001201e-1f);
	p = fmaf(p, r * r, r) + 1.0f;
	if (!(c == c))
		return c;
	return x < EXP_LOW ? 0 : p * __int_as_float(((int)n + 127) << 23);
}
