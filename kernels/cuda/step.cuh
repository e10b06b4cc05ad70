// Element-wise kernels, AdamW and sums of squares. A thread has STEP_EACH vectors, a block's width
// apart, so that several loads are under way at once.
#pragma once

#include "kernels/cuda/pick.cuh"

#define STEP_THREADS 256
#define STEP_EACH 4

// Calls fn(i, count) for the vectors of this thread in [0, n): count is V, or less at the end.
template <int V, class Fn> __device__ __forceinline__ void each_vector(size_t n, Fn fn)
{
	size_t first = ((size_t)blockIdx.x * STEP_EACH * STEP_THREADS + threadIdx.x) * V;

#pragma unroll
	for (int j = 0; j < STEP_EACH; j++) {
		size_t i = first + (size_t)j * STEP_THREADS * V;

		if (i < n)
			fn(i, n - i < V ? (int)(n - i) : V);
	}
}

static inline unsigned step_blocks(size_t n, int v)
{
	size_t per = (size_t)STEP_EACH * STEP_THREADS * (size_t)v;

	return (unsigned)((n + per - 1) / per);
}

// What is left of an array past the last whole vector is moved one by one, and all of it where it
// is not aligned.
template <int V, class T>
__device__ __forceinline__ void load_some(float (&x)[V], const T *p, int n, bool aligned = true)
{
	if (aligned && n == V) {
		load(x, p);
		return;
	}
#pragma unroll
	for (int e = 0; e < V; e++)
		x[e] = e < n ? to_float(p[e]) : 0;
}
template <int V, class T>
__device__ __forceinline__ void store_some(T *p, const float (&x)[V], int n, bool aligned = true)
{
	if (aligned && n == V) {
		store(p, x);
		return;
	}
#pragma unroll
	for (int e = 0; e < V; e++)
		if (e < n)
			p[e] = from_float<T>(x[e]);
}

// y += x. Bytes: two elements read, one written.
template <class T, int V> static __global__ void add_k(T *y, const T *x, size_t n)
{
	each_vector<V>(n, [=](size_t i, int count) {
		float a[V], b[V];

		load_some(a, y + i, count);
		load_some(b, x + i, count);
#pragma unroll
		for (int e = 0; e < V; e++)
			a[e] += b[e];
		store_some(y + i, a, count);
	});
}

// x *= by. Bytes: one element read and written.
template <class T, int V> static __global__ void scale_k(T *x, size_t n, float by)
{
	each_vector<V>(n, [=](size_t i, int count) {
		float a[V];

		load_some(a, x + i, count);
#pragma unroll
		for (int e = 0; e < V; e++)
			a[e] *= by;
		store_some(x + i, a, count);
	});
}

// Bytes: 4 and 2 an element. V = 4: 128 bits of floats, 64 of bfloat16.
template <int V> static __global__ void narrow_k(bf16 *y, const float *x, size_t n)
{
	each_vector<V>(n, [=](size_t i, int count) {
		float a[V];

		load_some(a, x + i, count);
		store_some(y + i, a, count);
	});
}
template <int V> static __global__ void widen_k(float *y, const bf16 *x, size_t n)
{
	each_vector<V>(n, [=](size_t i, int count) {
		float a[V];

		load_some(a, x + i, count);
		store_some(y + i, a, count);
	});
}

// Philox4x32-10 (Salmon et al. 2011).
struct philox {
	uint32_t key[2], stream[2];
};
__device__ static __forceinline__ void philox_words(uint32_t (&out)[4], const philox &p, uint64_t n)
{
	uint32_t k0 = p.key[0], k1 = p.key[1];

	out[0] = (uint32_t)n;
	out[1] = (uint32_t)(n >> 32);
	out[2] = p.stream[0];
	out[3] = p.stream[1];
#pragma unroll
	for (int i = 0; i < 10; i++) {
		uint32_t a = 0xD2511F53u * out[0], ah = __umulhi(0xD2511F53u, out[0]);
		uint32_t b = 0xCD9E8D57u * out[2], bh = __umulhi(0xCD9E8D57u, out[2]);

		out[0] = bh ^ out[1] ^ k0;
		out[1] = b;
		out[2] = ah ^ out[3] ^ k1;
		out[3] = a;
		k0 += 0x9E3779B9u;
		k1 += 0xBB67AE85u;
	}
}

// x = word < bound ? 0 : x keep, four elements for each counter. Bytes: one element read and
// written; about 25 integer operations each, which memory hides.
template <class T, bool WIDE>
static __global__ void dropout_k(T *x, size_t n, uint32_t bound, float keep, philox p)
{
	each_vector<4>(n, [=](size_t i, int count) {
		uint32_t word[4];
		float a[4];

		philox_words(word, p, i / 4);
		load_some(a, x + i, count, WIDE);
#pragma unroll
		for (int e = 0; e < 4; e++)
			a[e] = word[e] < bound ? 0 : a[e] * keep;
		store_some(x + i, a, count, WIDE);
	});
}

// --- AdamW ---------------------------------------------------------------------------------------

// Tensors that one launch updates; blocks [first[t], first[t + 1]) have tensor t.
#define ADAMW_TENSORS 48
struct adamw_batch {
	float *p[ADAMW_TENSORS], *m[ADAMW_TENSORS], *v[ADAMW_TENSORS];
	const float *g[ADAMW_TENSORS];
	void *working[ADAMW_TENSORS];
	size_t n[ADAMW_TENSORS];
	unsigned first[ADAMW_TENSORS + 1];
	int tensors;
	float grad_scale, beta1, beta2, c1, c2, u1, u2, eps, shrink, lr;
};

#define ADAMW_BLOCK                                                                                \
	(4 * STEP_THREADS * 2) // elements of a block: two float4 of each array in flight

// Bytes of an element: 16 read, 12 written, and the working copy. The CPU's rounding, to the bit.
template <class T, bool WIDE>
static __global__ void __launch_bounds__(STEP_THREADS) adamw_k(const adamw_batch a)
{
	int t = 0;

	while (t + 1 < a.tensors && blockIdx.x >= a.first[t + 1])
		t++;
	size_t n = a.n[t], at = (size_t)(blockIdx.x - a.first[t]) * ADAMW_BLOCK;
	T *working = (T *)a.working[t];

#pragma unroll
	for (int j = 0; j < 2; j++) {
		size_t i = at + (size_t)(j * STEP_THREADS + (int)threadIdx.x) * 4;
		int left = n <= i ? 0 : n - i < 4 ? (int)(n - i) : 4;
		float g[4], m[4], v[4], p[4];

		if (left == 0)
			return;
		load_some(g, a.g[t] + i, left, WIDE);
		load_some(m, a.m[t] + i, left, WIDE);
		load_some(v, a.v[t] + i, left, WIDE);
		load_some(p, a.p[t] + i, left, WIDE);
#pragma unroll
		for (int e = 0; e < 4; e++) {
			float s = g[e] * a.grad_scale;

			m[e] = fmaf(a.beta1, m[e], a.c1 * s);
			v[e] = fmaf(a.beta2, v[e], a.c2 * (s * s));
			s = m[e] * a.u1 / (sqrtf(v[e] * a.u2) + a.eps);
			p[e] = p[e] * a.shrink - a.lr * s;
		}
		store_some(a.m[t] + i, m, left, WIDE);
		store_some(a.v[t] + i, v, left, WIDE);
		store_some(a.p[t] + i, p, left, WIDE);
		if (working)
			store_some(working + i, p, left, WIDE);
	}
}

// --- Sums of squares -----------------------------------------------------------------------------

#define SUM_BLOCK 4096

// sums[b] of 4096 elements: a warp for each, lane l has elements l mod 32, then the CPU's folding.
// Bytes: one float read. Four bytes a lane, SUM_EACH loads in flight.
#define SUM_EACH 16
static __global__ void sumsq_k(double *sums, const float *x, size_t n, int blocks)
{
	int b = (int)(blockIdx.x * (STEP_THREADS / CU_WARP) + threadIdx.x / CU_WARP);
	size_t i = (size_t)b * SUM_BLOCK + threadIdx.x % CU_WARP, to = (size_t)(b + 1) * SUM_BLOCK;
	double s = 0;

	if (b >= blocks)
		return;
	to = to < n ? to : n;
	for (; i + (SUM_EACH - 1) * CU_WARP < to; i += SUM_EACH * CU_WARP) {
		float v[SUM_EACH];

#pragma unroll
		for (int j = 0; j < SUM_EACH; j++)
			v[j] = x[i + j * CU_WARP];
#pragma unroll
		for (int j = 0; j < SUM_EACH; j++)
			s += (double)v[j] * (double)v[j];
	}
	for (; i < to; i += CU_WARP)
		s += (double)x[i] * (double)x[i];
	// Lanes 8c + j are chain c: (0 + 1) + (2 + 3), then j: (0 + 4) + (2 + 6), (1 + 5) + (3 +
	// 7).
	s += __shfl_xor_sync(CU_ALL, s, 8);
	s += __shfl_xor_sync(CU_ALL, s, 16);
	s += __shfl_xor_sync(CU_ALL, s, 4);
	s += __shfl_xor_sync(CU_ALL, s, 2);
	s += __shfl_xor_sync(CU_ALL, s, 1);
	if (threadIdx.x % CU_WARP == 0)
		sums[b] = s;
}

// One block: its threads fetch, the first adds in order.
static __global__ void sumsq_total_k(double *out, const double *sums, int blocks)
{
	CU_SHARED(double, some, [STEP_THREADS]);
	double s = 0;

	for (int from = 0; from < blocks; from += STEP_THREADS) {
		int n = blocks - from < STEP_THREADS ? blocks - from : STEP_THREADS;

		__syncthreads();
		if ((int)threadIdx.x < n)
			some[threadIdx.x] = sums[from + (int)threadIdx.x];
		__syncthreads();
		if (threadIdx.x == 0)
			for (int i = 0; i < n; i++)
				s += some[i];
	}
	if (threadIdx.x == 0)
		*out = s;
}
