// Attention backward on tensor cores, without atomics: one pass over blocks of keys gives dk and dv,
// one over blocks of rows gives dq. With P = exp(scale q k^T - lse) and delta = rowsum(dout out):
// dS = P (dout v^T - delta), dv = P^T dout, dk = scale dS^T q, dq = scale dS k. P, dS are rounded to
// bfloat16 as factors.
//
// A thread block computes transposed scores (keys are the rows), so that P^T and dS^T are left
// factors in the very registers they are computed in, and each warp keeps dk and dv of 16 keys of
// its own. A sum over rows is one chain over ascending rows, heads of the group one after the other.
//
// Flops: 8 D (dk, dv) and 6 D (dq) per visible pair and head, seven products where five with atomics
// would do: the price of the same bits every time.
#pragma once

#include "kernels/cuda/attn_mma.cuh"

template <int D, int BM, int STAGES> static constexpr size_t attn_dkv_smem()
{
	return (size_t)(2 * 64 + 2 * STAGES * BM) * TILE_LD(D) * sizeof(bf16) +
	       2 * STAGES * BM * sizeof(float);
}

// The rows that a block of keys meets: of heads first .. first + group - 1 in turn, blocks of BM rows
// [from, to).
struct attn_rows {
	int head, from, to, blocks, n;
};

__device__ __forceinline__ attn_rows attn_rows_of(const kern_attn &a, const attn_view &v,
						  const attn_block &b, int kv, int keys, int per)
{
	attn_rows r;
	int last = b.from + keys < b.len ? b.from + keys : b.len, group = a.heads / a.kv_heads;

	r.from = b.from / per * per;
	r.to = b.len;
	if (v.window > 0 && last - 1 + v.window < r.to)
		r.to = last - 1 + v.window;
	if (b.from >= v.hidden && last <= v.seen && v.seen < r.to)
		r.to = v.seen;
	r.head = kv * group;
	r.blocks = (r.to - r.from + per - 1) / per;
	r.n = r.blocks * group;
	return r;
}

// Block `at` of rows begins to arrive: queries, dout, lse and delta.
template <int D, int BM, bool WIDE>
__device__ __forceinline__ void attn_rows_load(const kern_attn &a, const float *delta,
					       const attn_block &b, const attn_rows &r, int at,
					       bf16 *q, bf16 *dout, float *stats)
{
	int head = r.head + at / r.blocks, from = r.from + at % r.blocks * BM, d = a.head_dim;
	size_t row = (size_t)(b.start + from), ldo = (size_t)a.heads * d;
	int have = b.len - from;

	tile_load<D, WIDE>(q, (const bf16 *)a.q + row * a.ldq + head * d, a.ldq, BM, have, d,
		     ATTN_THREADS);
	tile_load<D, WIDE>(dout, (const bf16 *)a.dout + row * ldo + head * d, (long)ldo, BM, have, d,
		     ATTN_THREADS);
	for (int i = (int)threadIdx.x; i < 2 * BM; i += ATTN_THREADS) {
		const float *from_stats = (i < BM ? a.lse : delta) + (size_t)head * a.n_tokens + row;
		bool ok = i % BM < have;

		cp_async4(stats + i, ok ? from_stats + i % BM : from_stats, ok ? 4 : 0);
	}
	cp_async_commit();
}

// Transposed scores s and dp = v dout^T become P^T and dS^T. Of the thread, s[j][i] is key + i / 2 * 8
// and row + 8 j + i % 2. `all`: nothing is hidden.
template <int BM>
__device__ __forceinline__ void attn_slopes(float (&s)[BM / 8][4], float (&dp)[BM / 8][4],
					    const attn_view &v, int key, int row, int len,
					    const float *stats, float by, bool all)
{
	int column = (int)threadIdx.x % 4 * 2;

#pragma unroll
	for (int j = 0; j < BM / 8; j++)
#pragma unroll
		for (int i = 0; i < 4; i++) {
			int c = 8 * j + column + i % 2;
			float p = exp2_fast(fmaf(s[j][i], by, -stats[c] * ATTN_LOG2E));

			if (!all && (row + 8 * j + i % 2 >= len ||
				     !attn_sees(v, row + 8 * j + i % 2, key + i / 2 * 8)))
				p = 0;
			s[j][i] = p;
			dp[j][i] = p * (dp[j][i] - stats[BM + c]);
		}
}

template <int DO>
__device__ __forceinline__ void attn_store_keys(bf16 *out, int ld, int have, int col, int d,
						const float (&x)[1][DO / 8][4], float by)
{
	int lane = (int)threadIdx.x % 32;

#pragma unroll
	for (int i = 0; i < 2; i++)
#pragma unroll
		for (int n = 0; n < DO / 8; n++) {
			int r = lane / 4 + 8 * i, c = col + 8 * n + lane % 4 * 2;

			if (r < have && c < d)
				*(uint32_t *)(out + (size_t)r * ld + c) =
					pack_bf16(x[0][n][2 * i] * by, x[0][n][2 * i + 1] * by);
		}
}

// Grid: (blocks of 64 keys, key/value heads, D / DO): each block writes DO columns of dk and dv, since
// both of 256 columns do not fit into registers. sm_90: D 128 at most 255 registers.
template <int D, int DO, int BM, int STAGES, bool WIDE>
__global__ void __launch_bounds__(ATTN_THREADS)
	attn_dkv_mma(const kern_attn a, const float *delta)
{
	CU_DYNAMIC(bf16, shared);
	const int tile = BM * TILE_LD(D);
	bf16 *k = shared, *v = k + 64 * TILE_LD(D), *q = v + 64 * TILE_LD(D);
	bf16 *dout = q + STAGES * tile;
	float *stats = (float *)(dout + STAGES * tile);
	int kv = (int)blockIdx.y, col = (int)blockIdx.z * DO, d = a.head_dim;
	int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
	float dk[1][DO / 8][4] = {}, dv[1][DO / 8][4] = {};
	attn_block b;

	if (!attn_block_of(&b, a, 64, (int)blockIdx.x, false))
		return;
	attn_view view = attn_view_of(a, b.seq);
	attn_rows rows = attn_rows_of(a, view, b, kv, 64, BM);
	size_t first = (size_t)(b.start + b.from);
	int have = b.len - b.from, key = b.from + 16 * warp + lane / 4;

	tile_load<D, WIDE>(k, (const bf16 *)a.k + first * a.ldk + kv * d, a.ldk, 64, have, d,
		     ATTN_THREADS);
	tile_load<D, WIDE>(v, (const bf16 *)a.v + first * a.ldv + kv * d, a.ldv, 64, have, d,
		     ATTN_THREADS);
	if (STAGES == 2)
		attn_rows_load<D, BM, WIDE>(a, delta, b, rows, 0, q, dout, stats);
	for (int at = 0; at < rows.n; at++) {
		int now = STAGES == 2 ? at % 2 : 0, row = rows.from + at % rows.blocks * BM;
		int next = at + STAGES - 1, to = next % STAGES;
		float s[1][BM / 8][4], dp[1][BM / 8][4];

		if (next < rows.n)
			attn_rows_load<D, BM, WIDE>(a, delta, b, rows, next, q + to * tile,
					      dout + to * tile, stats + to * 2 * BM);
		if (next < rows.n)
			cp_async_wait<STAGES - 1>();
		else
			cp_async_wait<0>();
		__syncthreads();
		mma_scores<D, 1, BM>(s, k + 16 * warp * TILE_LD(D), q + now * tile);
		mma_scores<D, 1, BM>(dp, v + 16 * warp * TILE_LD(D), dout + now * tile);
		attn_slopes<BM>(s[0], dp[0], view, key, row + lane % 4 * 2, b.len,
				stats + now * 2 * BM, a.scale * ATTN_LOG2E,
				row + BM <= b.len &&
					attn_all(view, row, row + BM, b.from, b.from + 64));
		mma_values<D, 1, BM, DO>(dv, s, dout + now * tile, col);
		mma_values<D, 1, BM, DO>(dk, dp, q + now * tile, col);
		__syncthreads();
	}
	first += 16 * warp;
	attn_store_keys<DO>((bf16 *)a.dk + first * a.ldk + kv * d, a.ldk, have - 16 * warp, col, d,
			    dk, a.scale);
	attn_store_keys<DO>((bf16 *)a.dv + first * a.ldv + kv * d, a.ldv, have - 16 * warp, col, d,
			    dv, 1.0f);
}

template <int D, int BN> static constexpr size_t attn_dq_smem()
{
	return (size_t)(2 * 64 + 4 * BN) * TILE_LD(D) * sizeof(bf16);
}

// Grid: (blocks of 64 rows, query heads). sm_90: at most 196 registers at D 128.
template <int D, int BN, bool WIDE>
__global__ void __launch_bounds__(ATTN_THREADS, 2)
	attn_dq_mma(const kern_attn a, const float *delta)
{
	CU_DYNAMIC(bf16, shared);
	const int tile = BN * TILE_LD(D);
	bf16 *q = shared, *dout = q + 64 * TILE_LD(D), *k = dout + 64 * TILE_LD(D);
	bf16 *v = k + 2 * tile;
	int head = (int)blockIdx.y, kv = head / (a.heads / a.kv_heads), d = a.head_dim;
	int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, kb = 0, now = 0;
	float dq[1][D / 8][4] = {}, lse[2], dlt[2], by = a.scale * ATTN_LOG2E;
	attn_block b;

	if (!attn_block_of(&b, a, 64, (int)blockIdx.x, true))
		return;
	attn_view view = attn_view_of(a, b.seq);
	size_t first = (size_t)(b.start + b.from), ldo = (size_t)a.heads * d;
	const bf16 *gk = (const bf16 *)a.k + (size_t)b.start * a.ldk + kv * d;
	const bf16 *gv = (const bf16 *)a.v + (size_t)b.start * a.ldv + kv * d;
	int end = b.from + 64 < b.len ? b.from + 64 : b.len, row = b.from + 16 * warp + lane / 4;

	while (attn_none(view, b.from, end, kb, kb + BN))
		kb += BN;
	tile_load<D, WIDE>(q, (const bf16 *)a.q + first * a.ldq + head * d, a.ldq, 64, b.len - b.from, d,
		     ATTN_THREADS);
	tile_load<D, WIDE>(dout, (const bf16 *)a.dout + first * ldo + head * d, (long)ldo, 64,
		     b.len - b.from, d, ATTN_THREADS);
	tile_load<D, WIDE>(k, gk + (size_t)kb * a.ldk, a.ldk, BN, b.len - kb, d, ATTN_THREADS);
	tile_load<D, WIDE>(v, gv + (size_t)kb * a.ldv, a.ldv, BN, b.len - kb, d, ATTN_THREADS);
	cp_async_commit();
#pragma unroll
	for (int i = 0; i < 2; i++) {
		size_t at = (size_t)head * a.n_tokens + b.start + row + 8 * i;
		bool ok = row + 8 * i < b.len;

		lse[i] = ok ? a.lse[at] * ATTN_LOG2E : INFINITY;
		dlt[i] = ok ? delta[at] : 0;
	}
	while (kb < end) {
		float s[1][BN / 8][4], dp[1][BN / 8][4];
		int next = kb + BN;

		while (next < end && attn_none(view, b.from, end, next, next + BN))
			next += BN;
		if (next < end) {
			bf16 *to = k + (1 - now) * tile;

			tile_load<D, WIDE>(to, gk + (size_t)next * a.ldk, a.ldk, BN, b.len - next, d,
				     ATTN_THREADS);
			tile_load<D, WIDE>(to + 2 * tile, gv + (size_t)next * a.ldv, a.ldv, BN,
				     b.len - next, d, ATTN_THREADS);
			cp_async_commit();
			cp_async_wait<1>();
		} else {
			cp_async_wait<0>();
		}
		__syncthreads();
		mma_scores<D, 1, BN>(s, q + 16 * warp * TILE_LD(D), k + now * tile);
		mma_scores<D, 1, BN>(dp, dout + 16 * warp * TILE_LD(D), v + now * tile);
		if (!attn_all(view, b.from, end, kb, kb + BN))
			attn_mask<1, BN>(s, view, row, kb + lane % 4 * 2);
#pragma unroll
		for (int j = 0; j < BN / 8; j++)
#pragma unroll
			for (int i = 0; i < 4; i++) {
				float p = exp2_fast(fmaf(s[0][j][i], by, -lse[i / 2]));

				dp[0][j][i] = p * (dp[0][j][i] - dlt[i / 2]);
			}
		mma_values<D, 1, BN, D>(dq, dp, k + now * tile, 0);
		__syncthreads();
		kb = next;
		now = 1 - now;
	}
	first += 16 * warp;
	attn_store_keys<D>((bf16 *)a.dq + first * a.ldq + head * d, a.ldq,
			   b.len - b.from - 16 * warp, 0, d, dq, a.scale);
}
