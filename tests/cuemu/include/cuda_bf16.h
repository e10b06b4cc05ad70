/* bfloat16 of the emulator: round to nearest even, NaN stays NaN. Arithmetic is done in float. */
#pragma once

#ifdef __cplusplus
#include <cuda_runtime.h>

struct __nv_bfloat16_raw {
	unsigned short x;
};

namespace cuemu
{
static inline unsigned short bf16_of(float f)
{
	unsigned u = __float_as_uint(f);
	if (f != f)
		return 0x7fff;
	return (unsigned short)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
} // namespace cuemu

struct __nv_bfloat16 {
	unsigned short bits_;
	__nv_bfloat16() = default;
	__nv_bfloat16(float f) : bits_(cuemu::bf16_of(f))
	{
	}
	operator float() const
	{
		return __uint_as_float((unsigned)bits_ << 16);
	}
};

struct alignas(4) __nv_bfloat162 {
	__nv_bfloat16 x, y;
};

static inline float __bfloat162float(__nv_bfloat16 b)
{
	return (float)b;
}
static inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
	return __nv_bfloat16(f);
}
static inline __nv_bfloat16 __float2bfloat16(float f)
{
	return __nv_bfloat16(f);
}
static inline float2 __bfloat1622float2(__nv_bfloat162 b)
{
	return {(float)b.x, (float)b.y};
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
	return {__nv_bfloat16(x), __nv_bfloat16(y)};
}
static inline __nv_bfloat162 __float22bfloat162_rn(float2 v)
{
	return {__nv_bfloat16(v.x), __nv_bfloat16(v.y)};
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b)
{
	return b.bits_;
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short u)
{
	__nv_bfloat16 b;
	b.bits_ = u;
	return b;
}
#endif
