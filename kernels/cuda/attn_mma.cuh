// Attention forward over packed sequences on tensor cores (FlashAttention-2, Dao 2023):
// out = softmax(scale q k^T) v per row and head, lse = log of the denominator.
//
// Grid: (blocks of BM rows, query heads); four warps of 16 MT rows each. Keys come in blocks of BN
// anchored at the beginning of the sequence, blocks nobody sees are skipped, so a row's bits depend
// neither on the pack nor on the rows around it. While a block of keys is multiplied its values
// arrive, while values are multiplied the next keys arrive: one buffer of each.
//
// Flops: 4 D per visible pair. Bytes: q and out once, k and v once per BM rows and head (from L2).
// 32 rows of a warp (MT 2) read each fragment of keys and values once for two steps: 16 rows would
// ask shared memory for more than its 128 bytes a cycle at the rate of the tensor cores.
#pragma once

#include "kernels/cuda/attn_view.cuh"
#include "kernels/cuda/tile.cuh"

#define ATTN_THREADS 128

template <int D, int MT, int BN> static constexpr size_t attn_mma_smem()
{
	return (size_t)(64 * MT + 2 * BN) * TILE_LD(D) * sizeof(bf16);
}

// s[MT][BN/8] = 16 MT rows of `left` times the BN rows of `right`, both [..][D].
template <int D, int MT, int BN>
__device__ __forceinline__ void mma_scores(float (&s)[MT][BN / 8][4], const bf16 *left,
					   const bf16 *right)
{
#pragma unroll
	for (int m = 0; m < MT; m++)
#pragma unroll
		for (int j = 0; j < BN / 8; j++)
			s[m][j][0] = s[m][j][1] = s[m][j][2] = s[m][j][3] = 0;
#pragma unroll
	for (int k = 0; k < D; k += 16) {
		uint32_t l[MT][4];

#pragma unroll
		for (int m = 0; m < MT; m++)
			frag_left<D>(l[m], left, 16 * m, k);
#pragma unroll
		for (int j = 0; j < BN / 8; j += 2) {
			uint32_t r[4];

			frag_right<D>(r, right, 8 * j, k);
#pragma unroll
			for (int m = 0; m < MT; m++) {
				mma_bf16(s[m][j], l[m], r[0], r[1]);
				mma_bf16(s[m][j + 1], l[m], r[2], r[3]);
			}
		}
	}
}

// o[MT][DO/8] += p[MT][BN/8], rounded, times columns [col, col + DO) of the BN rows of `right`.
template <int D, int MT, int BN, int DO>
__device__ __forceinline__ void mma_values(float (&o)[MT][DO / 8][4],
					   const float (&p)[MT][BN / 8][4], const bf16 *right,
					   int col)
{
#pragma unroll
	for (int k = 0; k < BN; k += 16) {
		uint32_t l[MT][4];

#pragma unroll
		for (int m = 0; m < MT; m++)
			frag_of_sums(l[m], p[m][k / 8], p[m][k / 8 + 1]);
#pragma unroll
		for (int n = 0; n < DO; n += 16) {
			uint32_t r[4];

			frag_right_turned<D>(r, right, col + n, k);
#pragma unroll
			for (int m = 0; m < MT; m++) {
				mma_bf16(o[m][n / 8], l[m], r[0], r[1]);
				mma_bf16(o[m][n / 8 + 1], l[m], r[2], r[3]);
			}
		}
	}
}

// Scores of the keys that a row does not see become -inf. The row of s[m][j][i] is row + 16 m + i / 2
// * 8 for the thread's first row, its key is key + 8 j + i % 2.
template <int MT, int BN>
__device__ __forceinline__ void attn_mask(float (&s)[MT][BN / 8][4], const attn_view &v, int row,
					  int key)
{
#pragma unroll
	for (int m = 0; m < MT; m++)
#pragma unroll
		for (int j = 0; j < BN / 8; j++)
#pragma unroll
			for (int i = 0; i < 4; i++)
				if (!attn_sees(v, row + 16 * m + i / 2 * 8, key + 8 * j + i % 2))
					s[m][j][i] = -INFINITY;
}

// Scores become weights 2^(by s - largest); the running maximum (of s), sum (this thread's columns)
// and output move along.
template <int MT, int BN, int DO>
__device__ __forceinline__ void attn_online(float (&s)[MT][BN / 8][4], float (&o)[MT][DO / 8][4],
					    float (&max)[MT][2], float (&sum)[MT][2], float by)
{
#pragma unroll
	for (int m = 0; m < MT; m++)
#pragma unroll
		for (int i = 0; i < 2; i++) {
			float most = max[m][i];

#pragma unroll
			for (int j = 0; j < BN / 8; j++)
				most = fmaxf(most, fmaxf(s[m][j][2 * i], s[m][j][2 * i + 1]));
			most = quad_max(most);
			float base = most == -INFINITY ? 0.0f : most * by;
			float fade = exp2_fast(fmaf(max[m][i], by, -base)), add = 0;

			max[m][i] = most;
#pragma unroll
			for (int j = 0; j < BN / 8; j++) {
				s[m][j][2 * i] = exp2_fast(fmaf(s[m][j][2 * i], by, -base));
				s[m][j][2 * i + 1] = exp2_fast(fmaf(s[m][j][2 * i + 1], by, -base));
				add += s[m][j][2 * i] + s[m][j][2 * i + 1];
			}
			sum[m][i] = fmaf(sum[m][i], fade, add);
#pragma unroll
			for (int n = 0; n < DO / 8; n++) {
				o[m][n][2 * i] *= fade;
				o[m][n][2 * i + 1] *= fade;
			}
		}
}

template <int D, int MT>
__device__ __forceinline__ void attn_store(const kern_attn &a, const attn_block &b, int head, int row,
					   float (&o)[MT][D / 8][4], float (&max)[MT][2],
					   float (&sum)[MT][2])
{
	int lane = (int)threadIdx.x % 32;

#pragma unroll
	for (int m = 0; m < MT; m++)
#pragma unroll
		for (int i = 0; i < 2; i++) {
			int r = row + 16 * m + 8 * i;
			float all = quad_sum(sum[m][i]), inv = 1.0f / all;

			if (r >= b.len)
				continue;
			bf16 *out = (bf16 *)a.out +
				    ((size_t)(b.start + r) * a.heads + head) * a.head_dim;

			if (lane % 4 == 0)
				a.lse[(size_t)head * a.n_tokens + b.start + r] =
					fmaf(max[m][i], a.scale, logf(all));
#pragma unroll
			for (int n = 0; n < D / 8; n++) {
				int c = 8 * n + lane % 4 * 2;

				if (c < a.head_dim)
					*(uint32_t *)(out + c) = pack_bf16(o[m][n][2 * i] * inv,
									   o[m][n][2 * i + 1] * inv);
			}
		}
}

// sm_90: D 128 wants at most 255 registers, two blocks on a multiprocessor.
template <int D, int MT, int BN, bool WIDE>
__global__ void __launch_bounds__(ATTN_THREADS) attn_mma(const kern_attn a)
{
	CU_DYNAMIC(bf16, shared);
	bf16 *q = shared, *k = q + 64 * MT * TILE_LD(D), *v = k + BN * TILE_LD(D);
	int head = (int)blockIdx.y, d = a.head_dim, lane = (int)threadIdx.x % 32;
	int warp = (int)threadIdx.x / 32, kv = head / (a.heads / a.kv_heads);
	float o[MT][D / 8][4] = {}, max[MT][2], sum[MT][2] = {};
	attn_block b;

	if (!attn_block_of(&b, a, 64 * MT, (int)blockIdx.x, true))
		return;
	attn_view view = attn_view_of(a, b.seq);
	const bf16 *gk = (const bf16 *)a.k + (size_t)b.start * a.ldk + kv * d;
	const bf16 *gv = (const bf16 *)a.v + (size_t)b.start * a.ldv + kv * d;
	int end = b.from + 64 * MT < b.len ? b.from + 64 * MT : b.len, kb = 0;
	int row = b.from + 16 * MT * warp + lane / 4;

#pragma unroll
	for (int m = 0; m < MT; m++)
		max[m][0] = max[m][1] = -INFINITY;
	while (attn_none(view, b.from, end, kb, kb + BN))
		kb += BN;
	tile_load<D, WIDE>(q, (const bf16 *)a.q + (size_t)(b.start + b.from) * a.ldq + head * d, a.ldq,
		     64 * MT, b.len - b.from, d, ATTN_THREADS);
	tile_load<D, WIDE>(k, gk + (size_t)kb * a.ldk, a.ldk, BN, b.len - kb, d, ATTN_THREADS);
	cp_async_commit();
	while (kb < end) {
		float s[MT][BN / 8][4];
		int next = kb + BN;

		cp_async_wait<0>();
		__syncthreads();
		tile_load<D, WIDE>(v, gv + (size_t)kb * a.ldv, a.ldv, BN, b.len - kb, d, ATTN_THREADS);
		cp_async_commit();
		mma_scores<D, MT, BN>(s, q + 16 * MT * warp * TILE_LD(D), k);
		if (!attn_all(view, b.from, end, kb, kb + BN))
			attn_mask<MT, BN>(s, view, row, kb + lane % 4 * 2);
		while (next < end && attn_none(view, b.from, end, next, next + BN))
			next += BN;
		cp_async_wait<0>();
		__syncthreads();
		if (next < end) {
			tile_load<D, WIDE>(k, gk + (size_t)next * a.ldk, a.ldk, BN, b.len - next, d,
				     ATTN_THREADS);
			cp_async_commit();
		}
		attn_online<MT, BN, D>(s, o, max, sum, a.scale * ATTN_LOG2E);
		mma_values<D, MT, BN, D>(o, s, v, 0);
		kb = next;
	}
	attn_store<D, MT>(a, b, head, row, o, max, sum);
}
