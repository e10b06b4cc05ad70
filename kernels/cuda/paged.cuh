// Attention over the block cache on tensor cores: decoding and prefill.
//
// Keys are taken in splits of 256 and blocks of 64, both counted from position 0. Within a split the
// softmax is online over its blocks (attn_online of attn_mma.cuh); splits begin anew and are merged in
// ascending order (paged_merge). Decoding gives each split a thread block of its own and merges what
// they left in scratch; prefill goes through the splits in one thread block and merges in registers.
// The operations on an element are the same, so are its bits, whatever rows are in the batch and in
// whatever chunks a prompt comes.
//
// The queries of a tile are the heads of a group of neighbouring rows: keys and values are read once
// for all of them. SPLIT: 16 queries; each warp multiplies 16 of the 64 keys, scores are exchanged
// through shared memory, then each warp has a quarter of the columns. Otherwise: 64 queries, 16 of
// them and all columns for each warp. Sixteen rows of a tensor-core step for one query waste 15/16 of
// it, which memory never notices: 16 flops a byte.
//
// Rows of different sequences are joined in a tile where a whole split lies in the same blocks: the
// candidates of a prompt and its judgements read a shared beginning once.
//
// Bytes: 4 D for each key and key/value head (bf16), once for a tile.
#pragma once

#include "kernels/cuda/attn_mma.cuh"

#define PAGED_KEYS 64
#define PAGED_SPLIT 256
#define PAGED_PAGES (PAGED_SPLIT / KERN_PAGE)

// How rows, heads and splits are cut; the same for all thread blocks.
struct paged_cut {
	int per;	 // rows of a thread block: [per x, per (x + 1)), or 1: see paged_run
	bool single;	 // every row has a thread block; those that are joined to the row before leave
	int tile_rows;	 // rows of a tile
	int tile_heads;	 // heads of a row in a tile
	int chunks;	 // tiles that the heads of a group take
	int splits;	 // most splits of a row
	float *part;	 // SPLIT: [rows][heads][splits][D + 2]: sums, largest score (of 2), denominator
	unsigned *count; // SPLIT: splits done for [rows][tiles of heads]; zero before and after
};

// Splits [from, to) that row r sees keys of.
struct paged_span {
	int from, to;
};

__device__ __forceinline__ paged_span paged_span_of(const kern_paged &a, int row)
{
	int n = a.n_keys[row], from = a.window > 0 && n > a.window ? n - a.window : 0;
	paged_span s = {from / PAGED_SPLIT, (n + PAGED_SPLIT - 1) / PAGED_SPLIT};

	return s;
}

// Rows row - 1 and row read the same blocks: of everything, or (SPLIT) all sixteen of this split.
template <bool SPLIT> __device__ __forceinline__ bool paged_joined(const kern_paged &a, int row, int split)
{
	int lane = (int)threadIdx.x % 32, x = a.first[row - 1], y = a.first[row];
	int end = (split + 1) * PAGED_SPLIT, at = split * PAGED_PAGES + lane % PAGED_PAGES;

	if (x == y)
		return true;
	if (!SPLIT || a.n_keys[row - 1] < end || a.n_keys[row] < end)
		return false;
	return __all_sync(CU_ALL, a.blocks[x + at] == a.blocks[y + at]);
}

// The keys that a tile looks at: [from, to), of rows [row, row + rows).
struct paged_keys {
	int from, to;
};

__device__ __forceinline__ paged_keys paged_keys_of(const kern_paged &a, int row, int rows)
{
	paged_keys k = {0x7fffffff, 0};

	for (int r = row; r < row + rows; r++) {
		int n = a.n_keys[r], from = a.window > 0 && n > a.window ? n - a.window : 0;

		k.from = from < k.from ? from : k.from;
		k.to = n > k.to ? n : k.to;
	}
	return k;
}

// Total (max, sum, o) and split (m, l, x) become the total: first max and sum, with the factors of the
// elements as a result.
struct paged_fade {
	float total, split;
};

__device__ __forceinline__ paged_fade paged_merge(float &max, float &sum, float m, float l)
{
	float most = fmaxf(max, m), base = most == -INFINITY ? 0.0f : most;
	paged_fade f = {exp2_fast(max - base), exp2_fast(m - base)};

	max = most;
	sum = fmaf(sum, f.total, l * f.split);
	return f;
}

__device__ __forceinline__ float paged_merged(float total, float x, paged_fade f)
{
	return fmaf(total, f.total, x * f.split);
}

// Keys kb .. kb + 63 (or values) of the cache begin to arrive; those from `end` on become zeros. The
// columns are [col, col + W) of a head; pages[] are the blocks of the split kb lies in.
template <int W, bool WIDE>
__device__ __forceinline__ void paged_load(bf16 *tile, const bf16 *cache, const int *pages, int kb,
					   int end, int kv, int kv_heads, int col, int d)
{
	const int each = WIDE ? 8 : 2;

	for (int i = (int)threadIdx.x; i < PAGED_KEYS * (W / each); i += ATTN_THREADS) {
		int r = i / (W / each), c = i % (W / each) * each, key = kb + r;
		bool ok = key < end && col + c < d;
		const bf16 *from = cache;

		if (ok)
			from += (((size_t)pages[key / KERN_PAGE % PAGED_PAGES] * kv_heads + kv) *
					 KERN_PAGE +
				 key % KERN_PAGE) *
					d +
				col + c;
		if constexpr (WIDE)
			cp_async16(tile + r * TILE_LD(W) + c, from, ok ? 16 : 0);
		else
			cp_async4(tile + r * TILE_LD(W) + c, from, ok ? 4 : 0);
	}
}

// The tile's queries: number i is head `head + i % heads` of row `row + i / heads`.
template <int D, bool WIDE>
__device__ __forceinline__ void paged_queries(bf16 *tile, const kern_paged &a, int row, int rows,
					      int head, int heads, int queries)
{
	const int each = WIDE ? 8 : 2;

	for (int i = (int)threadIdx.x; i < queries * (D / each); i += ATTN_THREADS) {
		int r = i / (D / each), c = i % (D / each) * each;
		bool ok = r < rows * heads && c < a.head_dim;
		const bf16 *from = (const bf16 *)a.q;

		if (ok)
			from += (size_t)(row + r / heads) * a.ldq +
				(size_t)(head + r % heads) * a.head_dim + c;
		if constexpr (WIDE)
			cp_async16(tile + r * TILE_LD(D) + c, from, ok ? 16 : 0);
		else
			cp_async4(tile + r * TILE_LD(D) + c, from, ok ? 4 : 0);
	}
}

// Scores of the 64 keys at kb: a row sees its first n[i] keys but for those before from[i].
__device__ __forceinline__ void paged_mask(float (&s)[1][PAGED_KEYS / 8][4], int kb,
					   const int (&from)[2], const int (&n)[2])
{
	int key = kb + (int)threadIdx.x % 4 * 2;

#pragma unroll
	for (int j = 0; j < PAGED_KEYS / 8; j++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			if (key + 8 * j + i % 2 >= n[i / 2] || key + 8 * j + i % 2 < from[i / 2])
				s[0][j][i] = -INFINITY;
}

// SPLIT: each warp has the scores of two of the eight columns of eight keys; all get all, in the
// registers in which a warp of its own would have them.
__device__ __forceinline__ void paged_exchange(float (&s)[1][PAGED_KEYS / 8][4],
					       const float (&mine)[1][2][4], float4 *shared)
{
	int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;

#pragma unroll
	for (int j = 0; j < 2; j++)
		shared[(2 * warp + j) * 32 + lane] =
			make_float4(mine[0][j][0], mine[0][j][1], mine[0][j][2], mine[0][j][3]);
	__syncthreads();
#pragma unroll
	for (int j = 0; j < PAGED_KEYS / 8; j++) {
		float4 x = shared[j * 32 + lane];

		s[0][j][0] = x.x;
		s[0][j][1] = x.y;
		s[0][j][2] = x.z;
		s[0][j][3] = x.w;
	}
}

// out[0..D) of one row and head from what the splits left, merged in ascending order.
__device__ __forceinline__ void paged_combine(const kern_paged &a, const paged_cut &cut, int row,
					      int head, int heads)
{
	paged_span span = paged_span_of(a, row);
	int d = a.head_dim;

	for (int i = (int)threadIdx.x; i < heads * d; i += ATTN_THREADS) {
		int h = head + i / d, c = i % d;
		float max = -INFINITY, sum = 0, o = 0;
		const float *part = cut.part + ((size_t)row * a.heads + h) * cut.splits * (d + 2);

		for (int s = span.from; s < span.to; s++) {
			const float *p = part + (size_t)s * (d + 2);

			o = paged_merged(o, __ldcg(p + c),
					 paged_merge(max, sum, __ldcg(p + d), __ldcg(p + d + 1)));
		}
		((bf16 *)a.out)[((size_t)row * a.heads + h) * d + c] =
			__float2bfloat16_rn(o * (1.0f / sum));
	}
}

// The thread block that finishes the last split of a row merges them; which one that is changes
// nothing. count: [rows][tiles of heads].
__device__ __forceinline__ void paged_last(const kern_paged &a, const paged_cut &cut, int row, int rows,
					   int head, int heads, int split)
{
	CU_SHARED(int, last, [1]);

	__threadfence();
	__syncthreads();
	for (int r = row; r < row + rows; r++) {
		paged_span span = paged_span_of(a, r);

		if (split < span.from || split >= span.to || span.to - span.from == 1)
			continue;
		if (threadIdx.x == 0) {
			unsigned *count = cut.count + (size_t)r * gridDim.y + blockIdx.y;

			last[0] = (int)atomicAdd(count, 1u) == span.to - span.from - 1;
			if (last[0])
				*count = 0;
		}
		__syncthreads();
		if (last[0]) {
			__threadfence();
			paged_combine(a, cut, r, head, heads);
		}
		__syncthreads();
	}
}
