// Which keys the rows of a packed sequence see, and which block of rows a thread block has.
#pragma once

#include "kernels/cuda/prim.cuh"
#include "kernels/kernels.h"

#define ATTN_LOG2E 1.4426950408889634f

// Rows at and after `seen` do not see the keys in [hidden, seen).
struct attn_view {
	int window, hidden, seen;
};

__device__ __forceinline__ attn_view attn_view_of(const kern_attn &a, int seq)
{
	attn_view v = {a.window, 0x7fffffff, 0x7fffffff};

	if (a.fork) {
		v.hidden = a.fork[2 * seq];
		v.seen = a.fork[2 * seq + 1];
	}
	return v;
}

__device__ __forceinline__ bool attn_sees(const attn_view &v, int row, int key)
{
	return key <= row && (v.window <= 0 || key > row - v.window) &&
	       !(row >= v.seen && key >= v.hidden && key < v.seen);
}

// No row of [r0, r1) sees a key of [k0, k1).
__device__ __forceinline__ bool attn_none(const attn_view &v, int r0, int r1, int k0, int k1)
{
	return k0 >= r1 || (v.window > 0 && k1 - 1 <= r0 - v.window) ||
	       (r0 >= v.seen && k0 >= v.hidden && k1 <= v.seen);
}

// Every row of [r0, r1) sees every key of [k0, k1).
__device__ __forceinline__ bool attn_all(const attn_view &v, int r0, int r1, int k0, int k1)
{
	return k1 - 1 <= r0 && (v.window <= 0 || k0 > r1 - 1 - v.window) &&
	       (r1 <= v.seen || k1 <= v.hidden || k0 >= v.seen);
}

// A block of `per` rows of a sequence: rows [from, from + per) of it, of which those below len exist.
// The sequence begins at row `start` of the pack.
struct attn_block {
	int seq, start, len, from;
};

// Sequence s owns the blocks from cu[s] / per + s on: never fewer than it needs, so a block finds its
// sequence by bisection without sums over the others. The last rows, which see most keys, come first.
// False: one of the few blocks too many.
__device__ __forceinline__ bool attn_block_of(attn_block *b, const kern_attn &a, int per, int index,
					      bool last_first)
{
	int lo = 0, hi = a.n_seqs - 1;

	while (lo < hi) {
		int mid = (lo + hi + 1) / 2;

		if (a.cu[mid] / per + mid <= index)
			lo = mid;
		else
			hi = mid - 1;
	}
	b->seq = lo;
	b->start = a.cu[lo];
	b->len = a.cu[lo + 1] - b->start;
	int blocks = (b->len + per - 1) / per, at = index - (b->start / per + lo);

	if (at >= blocks)
		return false;
	b->from = (last_first ? blocks - 1 - at : at) * per;
	return true;
}

// How many blocks cover all sequences.
static inline unsigned attn_blocks(const kern_attn *a, int per)
{
	return (unsigned)(a->n_tokens / per + a->n_seqs);
}
