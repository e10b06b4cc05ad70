// Attention over packed sequences in float, multiplied one by one: exactness before speed. The same
// sums as attn_mma.cuh and attn_back_mma.cuh. A warp has rows of its own; for scores a lane is a key
// (or a row, for dk and dv), for values a lane has columns lane, lane + 32, ...
#pragma once

#include "kernels/cuda/attn_view.cuh"

#define PLAIN_WARPS 4
#define PLAIN_TILE 32	      // keys (rows) of a tile, one for each lane
#define PLAIN_COLS (256 / 32) // columns of a lane
#define PLAIN_ROWS 4	      // rows of a warp forward and for dq
#define PLAIN_KEYS 2	      // keys of a warp for dk and dv

// rows x d floats into shared memory with stride ld; rows from `have` on are zeros.
__device__ __forceinline__ void plain_load(float *to, int ld, const float *g, size_t ldg, int rows,
					   int have, int d)
{
	for (int i = (int)threadIdx.x; i < rows * d; i += PLAIN_WARPS * 32) {
		int r = i / d, c = i % d;

		to[r * ld + c] = r < have ? g[(size_t)r * ldg + c] : 0.0f;
	}
}

// A tile of keys and one of values of a head, from row `row` of the pack on.
__device__ __forceinline__ void plain_load_kv(float *k, float *v, const kern_attn &a, size_t row,
					      int head, int have, int d)
{
	plain_load(k, d + 1, (const float *)a.k + row * a.ldk + head * d, (size_t)a.ldk, PLAIN_TILE,
		   have, d);
	plain_load(v, d + 1, (const float *)a.v + row * a.ldv + head * d, (size_t)a.ldv, PLAIN_TILE,
		   have, d);
}

// s[n] = rows x[n][d] of shared memory times this lane's row of the tile.
template <int N>
__device__ __forceinline__ void plain_dots(float (&s)[N], const float *x, const float *tile, int d)
{
	const float *mine = tile + (int)threadIdx.x % 32 * (d + 1);

#pragma unroll
	for (int n = 0; n < N; n++)
		s[n] = 0;
	for (int c = 0; c < d; c++)
#pragma unroll
		for (int n = 0; n < N; n++)
			s[n] = fmaf(x[n * d + c], mine[c], s[n]);
}

// o[n][..] += w[n][32] times the tile, this lane's columns.
template <int N>
__device__ __forceinline__ void plain_add(float (&o)[N][PLAIN_COLS], const float *w,
					  const float *tile, int d)
{
	int lane = (int)threadIdx.x % 32;

	for (int j = 0; j < PLAIN_TILE; j++)
#pragma unroll
		for (int i = 0; i < PLAIN_COLS; i++) {
			float x = lane + 32 * i < d ? tile[j * (d + 1) + lane + 32 * i] : 0.0f;

#pragma unroll
			for (int n = 0; n < N; n++)
				o[n][i] = fmaf(w[n * PLAIN_TILE + j], x, o[n][i]);
		}
}

// Of a kernel with `rows` rows in its warps and so many kinds of weights between lanes.
static inline size_t plain_smem(int rows, int weights, int d)
{
	return (2 * (size_t)rows * d + 2 * PLAIN_TILE * (size_t)(d + 1) +
		(size_t)rows * weights * PLAIN_TILE) *
	       sizeof(float);
}

// Grid: (blocks of 16 rows, query heads).
__global__ void __launch_bounds__(PLAIN_WARPS * 32) attn_plain(const kern_attn a)
{
	CU_DYNAMIC(float, shared);
	const int N = PLAIN_ROWS, BM = N * PLAIN_WARPS;
	int head = (int)blockIdx.y, d = a.head_dim, kv = head / (a.heads / a.kv_heads);
	int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
	float *q = shared, *k = q + BM * d, *v = k + PLAIN_TILE * (d + 1);
	float *w = v + PLAIN_TILE * (d + 1) + warp * N * PLAIN_TILE;
	float o[N][PLAIN_COLS] = {}, max[N], sum[N] = {};
	attn_block b;

	if (!attn_block_of(&b, a, BM, (int)blockIdx.x, true))
		return;
	attn_view view = attn_view_of(a, b.seq);
	int end = b.from + BM < b.len ? b.from + BM : b.len;

	plain_load(q, d, (const float *)a.q + (size_t)(b.start + b.from) * a.ldq + head * d,
		   (size_t)a.ldq, BM, b.len - b.from, d);
#pragma unroll
	for (int n = 0; n < N; n++)
		max[n] = -INFINITY;
	for (int kb = 0; kb < end; kb += PLAIN_TILE) {
		size_t row = (size_t)(b.start + kb);
		float s[N];

		if (attn_none(view, b.from, end, kb, kb + PLAIN_TILE))
			continue;
		__syncthreads();
		plain_load_kv(k, v, a, row, kv, b.len - kb, d);
		__syncthreads();
		plain_dots<N>(s, q + warp * N * d, k, d);
#pragma unroll
		for (int n = 0; n < N; n++) {
			bool sees = attn_sees(view, b.from + warp * N + n, kb + lane);
			float x = sees ? s[n] * a.scale : -INFINITY;
			float most = fmaxf(max[n], warp_max(x));
			float base = most == -INFINITY ? 0.0f : most, p = expf(x - base);
			float fade = expf(max[n] - base);

			sum[n] = fmaf(sum[n], fade, warp_sum(p));
			max[n] = most;
			w[n * PLAIN_TILE + lane] = p;
#pragma unroll
			for (int i = 0; i < PLAIN_COLS; i++)
				o[n][i] *= fade;
		}
		__syncwarp();
		plain_add<N>(o, w, v, d);
	}
#pragma unroll
	for (int n = 0; n < N; n++) {
		int r = b.from + warp * N + n;

		if (r >= b.len)
			break;
		for (int i = 0; i < PLAIN_COLS; i++)
			if (lane + 32 * i < d)
				((float *)a.out)[((size_t)(b.start + r) * a.heads + head) * d + lane +
						 32 * i] = o[n][i] / sum[n];
		if (lane == 0)
			a.lse[(size_t)head * a.n_tokens + b.start + r] = max[n] + logf(sum[n]);
	}
}

// Grid: (blocks of 16 rows, query heads).
__global__ void __launch_bounds__(PLAIN_WARPS * 32) attn_dq_plain(const kern_attn a,
								   const float *delta)
{
	CU_DYNAMIC(float, shared);
	const int N = PLAIN_ROWS, BM = N * PLAIN_WARPS;
	int head = (int)blockIdx.y, d = a.head_dim, kv = head / (a.heads / a.kv_heads);
	int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
	float *q = shared, *dout = q + BM * d, *k = dout + BM * d, *v = k + PLAIN_TILE * (d + 1);
	float *w = v + PLAIN_TILE * (d + 1) + warp * N * PLAIN_TILE;
	float dq[N][PLAIN_COLS] = {};
	attn_block b;

	if (!attn_block_of(&b, a, BM, (int)blockIdx.x, true))
		return;
	attn_view view = attn_view_of(a, b.seq);
	int end = b.from + BM < b.len ? b.from + BM : b.len;
	size_t first = (size_t)(b.start + b.from), ldo = (size_t)a.heads * d;

	plain_load(q, d, (const float *)a.q + first * a.ldq + head * d, (size_t)a.ldq, BM,
		   b.len - b.from, d);
	plain_load(dout, d, (const float *)a.dout + first * ldo + head * d, ldo, BM, b.len - b.from,
		   d);
	for (int kb = 0; kb < end; kb += PLAIN_TILE) {
		size_t row = (size_t)(b.start + kb);
		float s[N], dp[N];

		if (attn_none(view, b.from, end, kb, kb + PLAIN_TILE))
			continue;
		__syncthreads();
		plain_load_kv(k, v, a, row, kv, b.len - kb, d);
		__syncthreads();
		plain_dots<N>(s, q + warp * N * d, k, d);
		plain_dots<N>(dp, dout + warp * N * d, v, d);
#pragma unroll
		for (int n = 0; n < N; n++) {
			int r = b.from + warp * N + n;
			size_t at = (size_t)head * a.n_tokens + b.start + r;
			bool sees = r < b.len && attn_sees(view, r, kb + lane);
			float p = sees ? expf(s[n] * a.scale - a.lse[at]) : 0.0f;

			w[n * PLAIN_TILE + lane] = sees ? p * (dp[n] - delta[at]) : 0.0f;
		}
		__syncwarp();
		plain_add<N>(dq, w, k, d);
	}
	for (int n = 0; n < N; n++) {
		int r = b.from + warp * N + n;

		for (int i = 0; i < PLAIN_COLS && r < b.len; i++)
			if (lane + 32 * i < d)
				((float *)a.dq)[(size_t)(b.start + r) * a.ldq + head * d + lane +
						32 * i] = dq[n][i] * a.scale;
	}
}

// Grid: (blocks of 8 keys, key/value heads).
__global__ void __launch_bounds__(PLAIN_WARPS * 32) attn_dkv_plain(const kern_attn a,
								    const float *delta)
{
	CU_DYNAMIC(float, shared);
	const int N = PLAIN_KEYS, BN = N * PLAIN_WARPS;
	int kv = (int)blockIdx.y, d = a.head_dim, group = a.heads / a.kv_heads;
	int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
	float *k = shared, *v = k + BN * d, *q = v + BN * d, *dout = q + PLAIN_TILE * (d + 1);
	float *p = dout + PLAIN_TILE * (d + 1) + warp * 2 * N * PLAIN_TILE, *ds = p + N * PLAIN_TILE;
	float dk[N][PLAIN_COLS] = {}, dv[N][PLAIN_COLS] = {};
	attn_block b;

	if (!attn_block_of(&b, a, BN, (int)blockIdx.x, false))
		return;
	attn_view view = attn_view_of(a, b.seq);
	size_t first = (size_t)(b.start + b.from), ldo = (size_t)a.heads * d;

	plain_load(k, d, (const float *)a.k + first * a.ldk + kv * d, (size_t)a.ldk, BN,
		   b.len - b.from, d);
	plain_load(v, d, (const float *)a.v + first * a.ldv + kv * d, (size_t)a.ldv, BN,
		   b.len - b.from, d);
	for (int h = kv * group; h < (kv + 1) * group; h++)
		for (int r0 = b.from / PLAIN_TILE * PLAIN_TILE; r0 < b.len; r0 += PLAIN_TILE) {
			int r = r0 + lane, r1 = r0 + PLAIN_TILE < b.len ? r0 + PLAIN_TILE : b.len;
			size_t row = (size_t)(b.start + r0), at = (size_t)h * a.n_tokens + b.start + r;
			float s[N], dp[N];

			if (attn_none(view, r0, r1, b.from, b.from + BN))
				continue;
			__syncthreads();
			plain_load(q, d + 1, (const float *)a.q + row * a.ldq + h * d, (size_t)a.ldq,
				   PLAIN_TILE, b.len - r0, d);
			plain_load(dout, d + 1, (const float *)a.dout + row * ldo + h * d, ldo,
				   PLAIN_TILE, b.len - r0, d);
			__syncthreads();
			plain_dots<N>(s, k + warp * N * d, q, d);
			plain_dots<N>(dp, v + warp * N * d, dout, d);
#pragma unroll
			for (int n = 0; n < N; n++) {
				bool sees = r < b.len && attn_sees(view, r, b.from + warp * N + n);
				float e = sees ? expf(s[n] * a.scale - a.lse[at]) : 0.0f;

				p[n * PLAIN_TILE + lane] = e;
				ds[n * PLAIN_TILE + lane] = sees ? e * (dp[n] - delta[at]) : 0.0f;
			}
			__syncwarp();
			plain_add<N>(dv, p, dout, d);
			plain_add<N>(dk, ds, q, d);
		}
	for (int n = 0; n < N; n++) {
		int r = b.from + warp * N + n;

		for (int i = 0; i < PLAIN_COLS && r < b.len; i++)
			if (lane + 32 * i < d) {
				size_t row = (size_t)(b.start + r), c = (size_t)(kv * d + lane + 32 * i);

				((float *)a.dk)[row * a.ldk + c] = dk[n][i] * a.scale;
				((float *)a.dv)[row * a.ldv + c] = dv[n][i];
			}
	}
}
