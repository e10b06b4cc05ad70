// Tiles of bfloat16 in shared memory and the fragments of tensor-core products read from them.
//
// A tile is [rows][D + 8]: the eight extra elements put the eight rows that ldmatrix reads at a time
// into different banks, for every D that is a multiple of 16. A product is a chain of m16n8k16 steps
// over ascending k for each output element, whatever the tile around it.
#pragma once

#include "kernels/cuda/prim.cuh"

#define TILE_LD(D) ((D) + 8)

// 2^x, relative error below 2^-22; 0 for -inf.
__device__ __forceinline__ float exp2_fast(float x)
{
#if defined(PAWL_CUEMU)
	return exp2f(x);
#else
	float y;

	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
#endif
}

// Threads of a block begin to copy rows [0, rows) of g into the tile; rows from `have` on and columns
// from d on become zeros. WIDE: everything is aligned to 16 bytes and d is a multiple of 8; else 4
// bytes, d even. Part of the caller's cp.async group.
template <int D, bool WIDE>
__device__ __forceinline__ void tile_load(bf16 *tile, const bf16 *g, long ld, int rows, int have,
					  int d, int threads)
{
	if constexpr (WIDE) {
		for (int i = (int)threadIdx.x; i < rows * (D / 8); i += threads) {
			int r = i / (D / 8), c = i % (D / 8) * 8;
			bool ok = r < have && c < d;

			cp_async16(tile + r * TILE_LD(D) + c, ok ? g + r * ld + c : g, ok ? 16 : 0);
		}
	} else {
		for (int i = (int)threadIdx.x; i < rows * (D / 2); i += threads) {
			int r = i / (D / 2), c = i % (D / 2) * 2;
			bool ok = r < have && c < d;

			cp_async4(tile + r * TILE_LD(D) + c, ok ? g + r * ld + c : g, ok ? 4 : 0);
		}
	}
}

// Rows row .. row+15, columns col .. col+15 as the left factor of a step.
template <int D>
__device__ __forceinline__ void frag_left(uint32_t (&f)[4], const bf16 *tile, int row, int col)
{
	int lane = (int)threadIdx.x % 32;

	ldmatrix_x4(f, tile + (row + lane % 16) * TILE_LD(D) + col + lane / 16 * 8);
}

// The right factors of two steps from a tile that holds them as [n][k]: n .. n+15, k .. k+15. f[0..1]
// are those of n .. n+7, f[2..3] of n+8 .. n+15.
template <int D>
__device__ __forceinline__ void frag_right(uint32_t (&f)[4], const bf16 *tile, int n, int k)
{
	int lane = (int)threadIdx.x % 32;

	ldmatrix_x4(f, tile + (n + lane / 16 * 8 + lane % 8) * TILE_LD(D) + k + lane / 8 % 2 * 8);
}

// The same from a tile that holds them as [k][n].
template <int D>
__device__ __forceinline__ void frag_right_turned(uint32_t (&f)[4], const bf16 *tile, int n, int k)
{
	int lane = (int)threadIdx.x % 32;

	ldmatrix_x4_trans(f, tile + (k + lane % 16) * TILE_LD(D) + n + lane / 16 * 8);
}

// Two neighbouring sums of 16 x 8 become one left factor of 16 x 16.
__device__ __forceinline__ void frag_of_sums(uint32_t (&f)[4], const float (&lo)[4], const float (&hi)[4])
{
	f[0] = pack_bf16(lo[0], lo[1]);
	f[1] = pack_bf16(lo[2], lo[3]);
	f[2] = pack_bf16(hi[0], hi[1]);
	f[3] = pack_bf16(hi[2], hi[3]);
}

// What the four threads hold that share a row of sums.
__device__ __forceinline__ float quad_max(float x)
{
	x = fmaxf(x, __shfl_xor_sync(CU_ALL, x, 1));
	return fmaxf(x, __shfl_xor_sync(CU_ALL, x, 2));
}

__device__ __forceinline__ float quad_sum(float x)
{
	x += __shfl_xor_sync(CU_ALL, x, 1);
	return x + __shfl_xor_sync(CU_ALL, x, 2);
}

// Whether p can be read 16 bytes at a time in rows of ld elements of which d count.
static inline bool tile_wide(const void *p, long ld, int d)
{
	return (uintptr_t)p % 16 == 0 && ld % 8 == 0 && d % 8 == 0;
}
