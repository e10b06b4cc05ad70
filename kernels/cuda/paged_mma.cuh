// The kernel of paged.cuh.
#pragma once

#include "kernels/cuda/paged.cuh"

// V columns [..][VD] of a thread block; STAGES blocks of keys and values under way.
template <int D, int VD, int STAGES, bool SPLIT> static constexpr size_t paged_smem()
{
	return (size_t)((SPLIT ? 16 : 64) * TILE_LD(D) +
			STAGES * PAGED_KEYS * (TILE_LD(D) + TILE_LD(VD))) *
		       sizeof(bf16) +
	       (SPLIT ? PAGED_KEYS * 16 * sizeof(float) : 0) + 2 * PAGED_PAGES * sizeof(int);
}

// One tile: rows [row, row + rows) that share blocks. What a thread knows of its two queries.
struct paged_query {
	int row[2], head[2]; // row -1: none
	int from[2], n[2];   // keys seen
};

__device__ __forceinline__ paged_query paged_query_of(const kern_paged &a, int number, int row, int rows,
						      int head, int heads)
{
	paged_query q;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		int at = number + 8 * i;
		bool ok = at < rows * heads;

		q.row[i] = ok ? row + at / heads : -1;
		q.head[i] = head + at % heads;
		q.n[i] = ok ? a.n_keys[q.row[i]] : 0;
		q.from[i] = a.window > 0 && q.n[i] > a.window ? q.n[i] - a.window : 0;
	}
	return q;
}

// A finished row: from the only split, or from all of them.
template <int N>
__device__ __forceinline__ void paged_store(const kern_paged &a, const paged_query &q, int i,
					    const float (&o)[N][4], float sum, int col)
{
	bf16 *out = (bf16 *)a.out + ((size_t)q.row[i] * a.heads + q.head[i]) * a.head_dim;
	float inv = 1.0f / sum;

#pragma unroll
	for (int j = 0; j < N; j++) {
		int c = col + 8 * j + (int)threadIdx.x % 4 * 2;

		if (c < a.head_dim)
			*(uint32_t *)(out + c) =
				pack_bf16(o[j][2 * i] * inv, o[j][2 * i + 1] * inv);
	}
}

// What a split leaves of a row that has several.
template <int N>
__device__ __forceinline__ void paged_leave(const kern_paged &a, const paged_cut &cut,
					    const paged_query &q, int i, int split,
					    const float (&o)[N][4], float max, float sum, int col)
{
	int d = a.head_dim, lane = (int)threadIdx.x % 32;
	float *part = cut.part +
		      (((size_t)q.row[i] * a.heads + q.head[i]) * cut.splits + split) * (d + 2);

#pragma unroll
	for (int j = 0; j < N; j++) {
		int c = col + 8 * j + lane % 4 * 2;

		if (c < d) {
			part[c] = o[j][2 * i];
			part[c + 1] = o[j][2 * i + 1];
		}
	}
	if (lane % 4 == 0 && col == 0) {
		part[d] = max;
		part[d + 1] = sum;
	}
}

template <int D, int VD, int STAGES, bool SPLIT, bool WIDE> struct paged_tile {
	static const int QUERIES = SPLIT ? 16 : 64, W = SPLIT ? VD / 4 : VD;
	static const int STAGE = PAGED_KEYS * (TILE_LD(D) + TILE_LD(VD));
	const kern_paged &a;
	const paged_cut &cut;
	bf16 *q, *stages;
	float4 *scores;
	int *pages;
	int kv, col, head, heads; // col: first column of the thread block
	int first, end;		  // blocks of the tile; keys it looks at

	// Block numbers of the split that kb lies in, known to all after the next barrier.
	__device__ __forceinline__ void number_pages(int kb)
	{
		int split = kb / PAGED_SPLIT, i = (int)threadIdx.x, at = split * PAGED_PAGES + i;

		if (i < PAGED_PAGES && at * KERN_PAGE < end)
			pages[split % 2 * PAGED_PAGES + i] = a.blocks[first + at];
	}

	__device__ __forceinline__ void begin(int kb, int stage)
	{
		bf16 *k = stages + stage * STAGE, *v = k + PAGED_KEYS * TILE_LD(D);
		const int *now = pages + kb / PAGED_SPLIT % 2 * PAGED_PAGES;

		paged_load<D, WIDE>(k, (const bf16 *)a.k, now, kb, end, kv, a.kv_heads, 0,
				    a.head_dim);
		paged_load<VD, WIDE>(v, (const bf16 *)a.v, now, kb, end, kv, a.kv_heads, col,
				     a.head_dim);
		cp_async_commit();
	}

	// The block at kb, which is in `stage`, moves maximum, sum and output along.
	__device__ __forceinline__ void step(int kb, int stage, const paged_query &mine,
					     float (&o)[1][W / 8][4], float (&max)[1][2],
					     float (&sum)[1][2])
	{
		const bf16 *k = stages + stage * STAGE, *v = k + PAGED_KEYS * TILE_LD(D);
		int warp = (int)threadIdx.x / 32;
		float s[1][PAGED_KEYS / 8][4];

		if constexpr (SPLIT) {
			float two[1][2][4];

			mma_scores<D, 1, 16>(two, q, k + 16 * warp * TILE_LD(D));
			paged_exchange(s, two, scores);
		} else {
			mma_scores<D, 1, PAGED_KEYS>(s, q + 16 * warp * TILE_LD(D), k);
		}
		paged_mask(s, kb, mine.from, mine.n);
		attn_online<1, PAGED_KEYS, W>(s, o, max, sum, a.scale * ATTN_LOG2E);
		mma_values<VD, 1, PAGED_KEYS, W>(o, s, v, SPLIT ? warp * W : 0);
	}

	// The end of a split: it joins the total, or is left to the merge.
	__device__ __forceinline__ void close(int split, const paged_query &mine,
					      float (&o)[1][W / 8][4], float (&max)[1][2],
					      float (&sum)[1][2], float (&all)[W / 8][4],
					      float (&most)[2], float (&total)[2])
	{
		int warp = (int)threadIdx.x / 32, at = col + (SPLIT ? warp * W : 0);

#pragma unroll
		for (int i = 0; i < 2; i++) {
			float m = max[0][i] == -INFINITY ? -INFINITY
							 : max[0][i] * (a.scale * ATTN_LOG2E);
			float l = quad_sum(sum[0][i]);

			if (SPLIT && mine.row[i] >= 0) {
				paged_span span = paged_span_of(a, mine.row[i]);

				if (split < span.from || split >= span.to)
					continue;
				if (span.to - span.from > 1) {
					paged_leave(a, cut, mine, i, split, o[0], m, l, at);
					continue;
				}
			}
			paged_fade f = paged_merge(most[i], total[i], m, l);

#pragma unroll
			for (int j = 0; j < W / 8; j++) {
				all[j][2 * i] = paged_merged(all[j][2 * i], o[0][j][2 * i], f);
				all[j][2 * i + 1] =
					paged_merged(all[j][2 * i + 1], o[0][j][2 * i + 1], f);
			}
			if (SPLIT && mine.row[i] >= 0)
				paged_store(a, mine, i, all, total[i], at);
			max[0][i] = -INFINITY;
			sum[0][i] = 0;
#pragma unroll
			for (int j = 0; j < W / 8; j++)
				o[0][j][2 * i] = o[0][j][2 * i + 1] = 0;
		}
	}

	// Keys [from, to) in blocks of 64, both known to all threads.
	__device__ __forceinline__ void run(int row, int rows, int from, int to)
	{
		int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, stage = 0;
		float o[1][W / 8][4] = {}, all[W / 8][4] = {};
		float max[1][2] = {{-INFINITY, -INFINITY}}, sum[1][2] = {};
		float most[2] = {-INFINITY, -INFINITY}, total[2] = {};
		paged_query mine = paged_query_of(a, (SPLIT ? 0 : 16 * warp) + lane / 4, row, rows,
						  head, heads);

		number_pages(from);
		number_pages(from / PAGED_SPLIT * PAGED_SPLIT + PAGED_SPLIT);
		paged_queries<D, WIDE>(q, a, row, rows, head, heads, QUERIES);
		__syncthreads();
		if (STAGES == 2)
			begin(from, 0);
		for (int kb = from; kb < to; kb += PAGED_KEYS, stage = (stage + 1) % STAGES) {
			int next = kb + (STAGES - 1) * PAGED_KEYS;

			if (next < to)
				begin(next, next == kb ? stage : 1 - stage);
			if (next < to && STAGES == 2)
				cp_async_wait<1>();
			else
				cp_async_wait<0>();
			__syncthreads();
			step(kb, stage, mine, o, max, sum);
			if ((kb + PAGED_KEYS) % PAGED_SPLIT == 0 || kb + PAGED_KEYS >= to)
				close(kb / PAGED_SPLIT, mine, o, max, sum, all, most, total);
			__syncthreads();
			// Blocks of the split after the next: nobody reads those of this one now.
			if ((kb + PAGED_KEYS) % PAGED_SPLIT == 0)
				number_pages(kb + PAGED_KEYS + PAGED_SPLIT);
		}
		for (int i = 0; i < 2 && !SPLIT; i++)
			if (mine.row[i] >= 0)
				paged_store(a, mine, i, all, total[i], col);
	}
};

// sm_90: 168 registers at D 128 with SPLIT, 254 without.
// Grid: (rows or ranges of rows, key/value heads x chunks of their group x D / VD, SPLIT: splits).
template <int D, int VD, int STAGES, bool SPLIT, bool WIDE>
__global__ void __launch_bounds__(ATTN_THREADS, 2) paged_mma(const kern_paged a, const paged_cut cut)
{
	typedef paged_tile<D, VD, STAGES, SPLIT, WIDE> tile;
	CU_DYNAMIC(bf16, shared);
	bf16 *stages = shared + tile::QUERIES * TILE_LD(D);
	float4 *scores = (float4 *)(stages + STAGES * tile::STAGE);
	int *pages = (int *)(scores + (SPLIT ? PAGED_KEYS * 4 : 0));
	int split = (int)blockIdx.z, row = (int)blockIdx.x * cut.per, y = (int)blockIdx.y;
	int group = a.heads / a.kv_heads, parts = D / VD, chunk = y / parts % cut.chunks;
	int kv = y / parts / cut.chunks, limit = row + cut.per, heads = group - chunk * cut.tile_heads;

	heads = heads < cut.tile_heads ? heads : cut.tile_heads;
	if (cut.single) {
		if (row % cut.tile_rows != 0 && paged_joined<SPLIT>(a, row, split))
			return;
		limit = (row / cut.tile_rows + 1) * cut.tile_rows;
	}
	limit = limit < a.rows ? limit : a.rows;
	do {
		int rows = 1, head = kv * group + chunk * cut.tile_heads;

		while (row + rows < limit && rows < cut.tile_rows &&
		       paged_joined<SPLIT>(a, row + rows, split))
			rows++;
		paged_keys keys = paged_keys_of(a, row, rows);
		int from = keys.from / PAGED_KEYS * PAGED_KEYS, to = keys.to;

		if (SPLIT) {
			from = from > split * PAGED_SPLIT ? from : split * PAGED_SPLIT;
			to = to < (split + 1) * PAGED_SPLIT ? to : (split + 1) * PAGED_SPLIT;
		}
		if (from < to) {
			tile t = {a,  cut, shared, stages, scores, pages,	   kv, y % parts * VD,
				  head, heads, a.first[row], to};

			t.run(row, rows, from, to);
			if (SPLIT)
				paged_last(a, cut, row, rows, head, heads, split);
			__syncthreads();
		}
		row += rows;
	} while (!cut.single && row < limit);
}
