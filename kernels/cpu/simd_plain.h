/* Sixteen lanes in plain C, for processors without AVX2. Fused multiply-add is two roundings here.
 * The three simd_*.h define the same names; see body_*.h for what is built on them.
 */
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* What the matrix kernel holds in registers: GV_WIDTH lanes. */
#define GV       float __attribute__((vector_size(16)))
#define GV_WIDTH 4
#define MR       4 /* rows of a register tile */
#define NRV      2 /* vectors across it */

INLINE GV g_load(const float *p)
{
	GV v;
	memcpy(&v, p, sizeof v);
	return v;
}
INLINE void g_store(float *p, GV v) { memcpy(p, &v, sizeof v); }
INLINE GV g_set(float x) { return (GV){x, x, x, x}; }
INLINE GV g_fma(GV a, GV b, GV c) { return a * b + c; }

struct lanes {
	float f[16];
};
#define VEC struct lanes
#define EACH for (int i_ = 0; i_ < 16; i_++)

INLINE VEC v_load(const float *p)
{
	VEC r;
	memcpy(r.f, p, sizeof r.f);
	return r;
}
INLINE VEC v_load_n(const float *p, int n)
{
	VEC r = {{0}};
	memcpy(r.f, p, (size_t)n * sizeof r.f[0]);
	return r;
}
INLINE void v_store(float *p, VEC v) { memcpy(p, v.f, sizeof v.f); }
INLINE void v_store_n(float *p, VEC v, int n) { memcpy(p, v.f, (size_t)n * sizeof v.f[0]); }
INLINE VEC v_set(float x)
{
	VEC r;
	EACH r.f[i_] = x;
	return r;
}
#define LANEWISE(name, expr)                                                                       \
	INLINE VEC name(VEC a, VEC b)                                                              \
	{                                                                                          \
		VEC r;                                                                             \
		EACH r.f[i_] = (expr);                                                             \
		return r;                                                                          \
	}
LANEWISE(v_add, a.f[i_] + b.f[i_])
LANEWISE(v_sub, a.f[i_] - b.f[i_])
LANEWISE(v_mul, a.f[i_] * b.f[i_])
LANEWISE(v_div, a.f[i_] / b.f[i_])
/* As the instructions do: the second operand when either is not a number. */
LANEWISE(v_max, a.f[i_] > b.f[i_] ? a.f[i_] : b.f[i_])
LANEWISE(v_min, a.f[i_] < b.f[i_] ? a.f[i_] : b.f[i_])
INLINE VEC v_fma(VEC a, VEC b, VEC c)
{
	VEC r;
	EACH r.f[i_] = a.f[i_] * b.f[i_] + c.f[i_];
	return r;
}
INLINE VEC v_sqrt(VEC a)
{
	EACH a.f[i_] = sqrtf(a.f[i_]);
	return a;
}
INLINE VEC v_round(VEC a) /* |a| < 2^22; ties to even */
{
	EACH a.f[i_] = (a.f[i_] + 12582912.0f) - 12582912.0f;
	return a;
}
INLINE VEC v_pow2(VEC n) /* 2^n, n whole, -126 <= n <= 127; anything for NaN */
{
	VEC r;
	EACH {
		uint32_t bits = (uint32_t)((int32_t)(n.f[i_] == n.f[i_] ? n.f[i_] : 0) + 127) << 23;
		memcpy(&r.f[i_], &bits, sizeof bits);
	}
	return r;
}
INLINE VEC v_zero_if_less(VEC v, VEC a, VEC b) /* a < b ? 0 : v */
{
	EACH v.f[i_] = a.f[i_] < b.f[i_] ? 0 : v.f[i_];
	return v;
}
INLINE float v_sum(VEC v) /* folds 8, 4, 2, 1 */
{
	for (int n = 8; n; n /= 2)
		for (int i = 0; i < n; i++)
			v.f[i] += v.f[i + n];
	return v.f[0];
}
INLINE float v_largest(VEC v)
{
	for (int n = 8; n; n /= 2)
		for (int i = 0; i < n; i++)
			v.f[i] = v.f[i] > v.f[i + n] ? v.f[i] : v.f[i + n];
	return v.f[0];
}
INLINE float v_first(VEC v) { return v.f[0]; }
