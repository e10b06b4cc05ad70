/* Sixteen lanes as one AVX-512 register. Same names as simd_plain.h. */
#pragma once

#include <immintrin.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

#define GV __m512
#define GV_WIDTH 16
#define MR 12 /* 24 accumulators, 2 of the panel, 1 broadcast: 27 of 32 registers */
#define NRV 2

INLINE GV g_load(const float *p)
{
	return _mm512_loadu_ps(p);
}
INLINE void g_store(float *p, GV v)
{
	_mm512_storeu_ps(p, v);
}
INLINE GV g_set(float x)
{
	return _mm512_set1_ps(x);
}
INLINE GV g_fma(GV a, GV b, GV c)
{
	return _mm512_fmadd_ps(a, b, c);
}

#define VEC __m512

INLINE __mmask16 mask_of(int n)
{
	return (__mmask16)((1u << n) - 1);
}
INLINE VEC v_load(const float *p)
{
	return _mm512_loadu_ps(p);
}
INLINE VEC v_load_n(const float *p, int n)
{
	return _mm512_maskz_loadu_ps(mask_of(n), p);
}
INLINE void v_store(float *p, VEC v)
{
	_mm512_storeu_ps(p, v);
}
INLINE void v_store_n(float *p, VEC v, int n)
{
	_mm512_mask_storeu_ps(p, mask_of(n), v);
}
INLINE VEC v_set(float x)
{
	return _mm512_set1_ps(x);
}
INLINE VEC v_add(VEC a, VEC b)
{
	return _mm512_add_ps(a, b);
}
INLINE VEC v_sub(VEC a, VEC b)
{
	return _mm512_sub_ps(a, b);
}
INLINE VEC v_mul(VEC a, VEC b)
{
	return _mm512_mul_ps(a, b);
}
INLINE VEC v_div(VEC a, VEC b)
{
	return _mm512_div_ps(a, b);
}
INLINE VEC v_max(VEC a, VEC b)
{
	return _mm512_max_ps(a, b);
}
INLINE VEC v_min(VEC a, VEC b)
{
	return _mm512_min_ps(a, b);
}
INLINE VEC v_fma(VEC a, VEC b, VEC c)
{
	return _mm512_fmadd_ps(a, b, c);
}
INLINE VEC v_sqrt(VEC a)
{
	return _mm512_sqrt_ps(a);
}
INLINE VEC v_round(VEC a)
{
	return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
INLINE VEC v_pow2(VEC n)
{
	__m512i i = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));

	return _mm512_castsi512_ps(_mm512_slli_epi32(i, 23));
}
INLINE VEC v_zero_if_less(VEC v, VEC a, VEC b)
{
	return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ), v);
}
INLINE float v_sum(VEC v)
{
	__m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
	__m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

	b = _mm_add_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
INLINE float v_largest(VEC v)
{
	__m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
	__m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

	b = _mm_max_ps(b, _mm_movehl_ps(b, b));
	return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
INLINE float v_first(VEC v)
{
	return _mm512_cvtss_f32(v);
}
