/* Sixteen lanes as two AVX2 registers. Same names as simd_plain.h. */
#pragma once

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

#define GV __m256
#define GV_WIDTH 8
#define MR 6
#define NRV 2

INLINE GV g_load(const float *p)
{
	return _mm256_loadu_ps(p);
}
INLINE void g_store(float *p, GV v)
{
	_mm256_storeu_ps(p, v);
}
INLINE GV g_set(float x)
{
	return _mm256_set1_ps(x);
}
INLINE GV g_fma(GV a, GV b, GV c)
{
	return _mm256_fmadd_ps(a, b, c);
}

struct lanes {
	__m256 lo, hi;
};
#define VEC struct lanes

INLINE __m256i mask_of(int n) /* the first n of 8 lanes; any n */
{
	return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE VEC v_load(const float *p)
{
	return (VEC){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
INLINE VEC v_load_n(const float *p, int n)
{
	return (VEC){_mm256_maskload_ps(p, mask_of(n)), _mm256_maskload_ps(p + 8, mask_of(n - 8))};
}
INLINE void v_store(float *p, VEC v)
{
	_mm256_storeu_ps(p, v.lo);
	_mm256_storeu_ps(p + 8, v.hi);
}
INLINE void v_store_n(float *p, VEC v, int n)
{
	_mm256_maskstore_ps(p, mask_of(n), v.lo);
	_mm256_maskstore_ps(p + 8, mask_of(n - 8), v.hi);
}
INLINE VEC v_set(float x)
{
	return (VEC){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
#define LANEWISE(name, op)                                                                         \
	INLINE VEC name(VEC a, VEC b)                                                              \
	{                                                                                          \
		return (VEC){op(a.lo, b.lo), op(a.hi, b.hi)};                                      \
	}
LANEWISE(v_add, _mm256_add_ps)
LANEWISE(v_sub, _mm256_sub_ps)
LANEWISE(v_mul, _mm256_mul_ps)
LANEWISE(v_div, _mm256_div_ps)
LANEWISE(v_max, _mm256_max_ps)
LANEWISE(v_min, _mm256_min_ps)
INLINE VEC v_fma(VEC a, VEC b, VEC c)
{
	return (VEC){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
INLINE VEC v_sqrt(VEC a)
{
	return (VEC){_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)};
}
INLINE VEC v_round(VEC a)
{
	const int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

	return (VEC){_mm256_round_ps(a.lo, mode), _mm256_round_ps(a.hi, mode)};
}
INLINE __m256 pow2_half(__m256 n)
{
	__m256i i = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));

	return _mm256_castsi256_ps(_mm256_slli_epi32(i, 23));
}
INLINE VEC v_pow2(VEC n)
{
	return (VEC){pow2_half(n.lo), pow2_half(n.hi)};
}
INLINE VEC v_zero_if_less(VEC v, VEC a, VEC b)
{
	return (VEC){_mm256_andnot_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), v.lo),
		     _mm256_andnot_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ), v.hi)};
}
INLINE float v_sum(VEC v)
{
	__m256 a = _mm256_add_ps(v.lo, v.hi);
	__m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

	b = _mm_add_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
INLINE float v_largest(VEC v)
{
	__m256 a = _mm256_max_ps(v.lo, v.hi);
	__m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

	b = _mm_max_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
INLINE float v_first(VEC v)
{
	return _mm256_cvtss_f32(v.lo);
}
