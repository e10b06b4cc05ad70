/* Sixteen lanes in plain C, for processors without AVX2. Fused multiply-add is two roundings here.
 * The three simd_*.h define the same names; see body_*.h for what is built on them.
 */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* What the matrix kernel holds in registers: GV_WIDTH lanes. */
#define GV float __attribute__((vector_size(16)))
#define GV_WIDTH 4
#define MR 4  /* rows of a register tile */
#define NRV 2 /* vectors across it */

INLINE GV g_load(const float *p)
{
	GV v;
	memcpy(&v, p, sizeof v);
	return v;
}
INLINE void g_store(float *p, GV v)
{
	memcpy(p, &v, sizeof v);
}
INLINE GV g_set(float x)
{
	return (GV){x, x, x, x};
}
INLINE GV g_fma(GV a, GV b, GV c)
{
	return a * b + c;
}

/* The compiler splits these into whatever the processor has. */
#define VEC float __attribute__((vector_size(64)))
#define IVEC int32_t __attribute__((vector_size(64)))

INLINE VEC v_load(const float *p)
{
	VEC r;
	memcpy(&r, p, sizeof r);
	return r;
}
INLINE VEC v_load_n(const float *p, int n)
{
	VEC r = {0};
	memcpy(&r, p, (size_t)n * sizeof *p);
	return r;
}
INLINE void v_store(float *p, VEC v)
{
	memcpy(p, &v, sizeof v);
}
INLINE void v_store_n(float *p, VEC v, int n)
{
	memcpy(p, &v, (size_t)n * sizeof *p);
}
INLINE VEC v_set(float x)
{
	return x - (VEC){0};
}
INLINE VEC v_add(VEC a, VEC b)
{
	return a + b;
}
INLINE VEC v_sub(VEC a, VEC b)
{
	return a - b;
}
INLINE VEC v_mul(VEC a, VEC b)
{
	return a * b;
}
INLINE VEC v_div(VEC a, VEC b)
{
	return a / b;
}
INLINE VEC v_fma(VEC a, VEC b, VEC c)
{
	return a * b + c;
}
INLINE VEC v_pick(IVEC mask, VEC a, VEC b) /* mask ? a : b */
{
	return (VEC)((mask & (IVEC)a) | (~mask & (IVEC)b));
}
/* As the instructions do: the second operand when either is not a number. */
INLINE VEC v_max(VEC a, VEC b)
{
	return v_pick(a > b, a, b);
}
INLINE VEC v_min(VEC a, VEC b)
{
	return v_pick(a < b, a, b);
}
INLINE VEC v_sqrt(VEC a)
{
	for (int i = 0; i < 16; i++)
		a[i] = sqrtf(a[i]);
	return a;
}
INLINE VEC v_round(VEC a) /* |a| < 2^22; ties to even */
{
	return (a + 12582912.0f) - 12582912.0f;
}
INLINE VEC v_pow2(VEC n) /* 2^n, n whole, -126 <= n <= 127; anything for NaN */
{
	return (VEC)((__builtin_convertvector(v_pick(n == n, n, v_set(0)), IVEC) + 127) << 23);
}
INLINE VEC v_zero_if_less(VEC v, VEC a, VEC b) /* a < b ? 0 : v */
{
	return v_pick(a < b, v_set(0), v);
}
INLINE float v_sum(VEC v) /* folds 8, 4, 2, 1 */
{
	for (int n = 8; n; n /= 2)
		for (int i = 0; i < n; i++)
			v[i] += v[i + n];
	return v[0];
}
INLINE float v_largest(VEC v)
{
	for (int n = 8; n; n /= 2)
		for (int i = 0; i < n; i++)
			v[i] = v[i] > v[i + n] ? v[i] : v[i + n];
	return v[0];
}
INLINE float v_first(VEC v)
{
	return v[0];
}
