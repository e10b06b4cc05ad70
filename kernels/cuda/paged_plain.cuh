// Attention over the block cache one row and head at a time, for every mixture of formats: activations
// T, cache C. Exactness before speed. A warp goes through the keys 32 at a time, a lane for each; for
// values a lane has columns lane, lane + 32, ... The order never depends on other rows.
#pragma once

#include "kernels/cuda/prim.cuh"
#include "kernels/kernels.h"

#define PAGED_COLS (KERN_HEAD_MAX / 32)

template <class C> struct paged_cache {
	const C *p;
	const int32_t *blocks; // of the row's sequence
	int kv, kv_heads, d;

	__device__ __forceinline__ const C *at(int key) const
	{
		size_t block = (size_t)blocks[key / KERN_PAGE];

		return p + ((block * kv_heads + kv) * KERN_PAGE + key % KERN_PAGE) * d;
	}
};

// Grid: (rows, heads), a warp each.
template <class T, class C> __global__ void __launch_bounds__(32) paged_plain(const kern_paged a)
{
	CU_SHARED(float, q, [KERN_HEAD_MAX]);
	CU_SHARED(float, w, [32]);
	int row = (int)blockIdx.x, head = (int)blockIdx.y, lane = (int)threadIdx.x, d = a.head_dim;
	int n = a.n_keys[row], from = a.window > 0 && n > a.window ? n - a.window : 0;
	int kv = head / (a.heads / a.kv_heads);
	const int32_t *blocks = a.blocks + a.first[row];
	paged_cache<C> k = {(const C *)a.k, blocks, kv, a.kv_heads, d};
	paged_cache<C> v = {(const C *)a.v, blocks, kv, a.kv_heads, d};
	float o[PAGED_COLS] = {}, max = -INFINITY, sum = 0;

	for (int c = lane; c < d; c += 32)
		q[c] = to_float(((const T *)a.q)[(size_t)row * a.ldq + (size_t)head * d + c]);
	for (int kb = from / 32 * 32; kb < n; kb += 32) {
		int key = kb + lane;
		float s = -INFINITY;

		__syncwarp();
		if (key >= from && key < n) {
			const C *mine = k.at(key);

			s = 0;
			for (int c = 0; c < d; c++)
				s = fmaf(q[c], to_float(mine[c]), s);
			s *= a.scale;
		}
		float most = fmaxf(max, warp_max(s)), base = most == -INFINITY ? 0.0f : most;
		float fade = expf(max - base), p = expf(s - base);

		w[lane] = p;
		sum = fmaf(sum, fade, warp_sum(p));
		max = most;
		__syncwarp();
#pragma unroll
		for (int i = 0; i < PAGED_COLS; i++)
			o[i] *= fade;
		for (int j = 0; j < 32 && kb + j < n; j++) {
			const C *mine = v.at(kb + j);

#pragma unroll
			for (int i = 0; i < PAGED_COLS; i++)
				if (lane + 32 * i < d)
					o[i] = fmaf(w[j], to_float(mine[lane + 32 * i]), o[i]);
		}
	}
#pragma unroll
	for (int i = 0; i < PAGED_COLS; i++)
		if (lane + 32 * i < d)
			((T *)a.out)[((size_t)row * a.heads + head) * d + lane + 32 * i] =
				from_float<T>(o[i] / sum);
}
