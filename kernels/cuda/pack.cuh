// Weights as products read them, and the cache of keys and values.
#pragma once

#include "kernels/cuda/pick.cuh"

#define PACK_THREADS 256

// to[row + r][i] = w[r][i], as floats or rounded. Bytes: 4 read, 2 or 4 written.
template <class T, int V>
static __global__ void pack_k(T *to, const float *w, int ldw, int rows, int width)
{
	int i = (int)(blockIdx.x * blockDim.x + threadIdx.x) * V;
	float x[V];

	if (i >= width)
		return;
	EACH_ROW(r, rows)
	{
		load_floats(x, w + (ptrdiff_t)r * ldw + i);
		store(to + (size_t)r * width + i, x);
	}
}

// Formats of eight bits: the largest of a row becomes `most`.
template <class Q> struct eight;
template <> struct eight<int8_t> {
	static constexpr float most = 127.0f;
	static __device__ __forceinline__ int8_t of(float x)
	{
		return (int8_t)__float2int_rn(x);
	}
};
template <> struct eight<fp8> {
	static constexpr float most = FP8_MOST;
	static __device__ __forceinline__ fp8 of(float x)
	{
		return from_float<fp8>(x);
	}
};

// A block for each row: scale = largest |w| / most, q = w / scale to nearest even. Bytes: 4 or 2 read
// twice (the second time from cache), 1 written.
template <class Q, class T>
static __global__ void pack_8_k(Q *q, float *scale, const T *w, int ldw, int width)
{
	CU_SHARED(float, most, [PACK_THREADS / CU_WARP]);
	const T *from = w + (ptrdiff_t)blockIdx.x * ldw;
	Q *to = q + (size_t)blockIdx.x * width;
	float m = 0, inverse;

	for (int i = (int)threadIdx.x; i < width; i += PACK_THREADS)
		m = fmaxf(m, fabsf(to_float(from[i])));
	m = warp_max(m);
	if (threadIdx.x % CU_WARP == 0)
		most[threadIdx.x / CU_WARP] = m;
	__syncthreads();
	for (int i = 0; i < PACK_THREADS / CU_WARP; i++)
		m = fmaxf(m, most[i]);
	inverse = m > 0 ? eight<Q>::most / m : 0;
	if (threadIdx.x == 0)
		scale[blockIdx.x] = m / eight<Q>::most;
	for (int i = (int)threadIdx.x; i < width; i += PACK_THREADS)
		to[i] = eight<Q>::of(to_float(from[i]) * inverse);
}

// c[r][i] = d[r][i] a[r] w[i], or added to it: sums of products of eight bits brought to size. Bytes: 4
// read, 2 or 4 written (and read).
template <class T>
static __global__ void scale_sums_k(T *c, int ldc, const float *d, const float *a, const float *w,
				    int rows, int width, bool acc)
{
	int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);

	if (i >= width)
		return;
	EACH_ROW(r, rows)
	{
		T *to = c + (ptrdiff_t)r * ldc + i;
		float x = d[(size_t)r * width + i] * a[r] * w[i];

		*to = from_float<T>(acc ? to_float(*to) + x : x);
	}
}

// out[r] = W[ids[r]]. Bytes: a row read, a row written.
template <class T, class W>
static __global__ void embed_packed_k(T *out, const W *w, const float *scale, const int32_t *ids,
				      int rows, int width)
{
	int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);

	if (i >= width)
		return;
	EACH_ROW(r, rows)
	{
		float x = to_float(w[(size_t)ids[r] * width + i]);

		out[(size_t)r * width + i] = from_float<T>(scale ? x * scale[ids[r]] : x);
	}
}

// A row of keys and one of values to their place in the cache, [block][G][KERN_PAGE][D]. grid: (D
// vectors of all heads, rows, keys or values). Bytes: two rows read, two written.
template <class T, class K, int V>
static __global__ void kv_store_k(K *kcache, K *vcache, const T *k, int ldk, const T *v, int ldv,
				  const int32_t *blocks, const int32_t *first, const int32_t *pos,
				  int rows, int kv_heads, int head_dim)
{
	int i = (int)(blockIdx.x * blockDim.x + threadIdx.x) * V, h = i / head_dim;
	float x[V];

	if (i >= kv_heads * head_dim)
		return;
	EACH_ROW(r, rows)
	{
		size_t block = (size_t)blocks[first[r] + pos[r] / KERN_PAGE];
		size_t at = ((block * kv_heads + h) * KERN_PAGE + pos[r] % KERN_PAGE) * head_dim +
			    i % head_dim;

		if (blockIdx.z == 0)
			load(x, k + (ptrdiff_t)r * ldk + i);
		else
			load(x, v + (ptrdiff_t)r * ldv + i);
		store((blockIdx.z == 0 ? kcache : vcache) + at, x);
	}
}
