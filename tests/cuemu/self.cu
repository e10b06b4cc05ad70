// Kernels that prove the emulator: correct ones, and each with one mistake it has to find.
#include "tests/cuemu/self.h"

#include "kernels/cuda/prim.cuh"

#define BLOCK 128

// out[b] = sum of x over block b's share.
template <int mistake> static __global__ void sum_k(float *out, const float *x, int n)
{
	CU_SHARED(float, part, [BLOCK]);
	int i = (int)(blockIdx.x * BLOCK + threadIdx.x), t = (int)threadIdx.x;

	if (mistake == SELF_EARLY_RETURN && i >= n)
		return;
	if (mistake != SELF_UNINITIALISED || i < n)
		part[t] = i < n ? x[i] : 0;
	for (int half = BLOCK / 2; half; half /= 2) {
		if (mistake != SELF_NO_BARRIER)
			__syncthreads();
		if (t < half)
			part[t] += part[t + half];
	}
	if (t == 0)
		out[mistake == SELF_OUT_OF_BOUNDS ? (int)blockIdx.x + 1 : (int)blockIdx.x] =
			part[0];
}

static __global__ void divergent_k(float *out)
{
	if (threadIdx.x % 2)
		__syncthreads();
	else
		__syncthreads();
	out[threadIdx.x] = 1;
}

static __global__ void deadlock_k(float *out)
{
	if (threadIdx.x == 3)
		__syncthreads();
	else
		__syncwarp();
	out[threadIdx.x] = 1;
}

static __global__ void lane_gone_k(float *out)
{
	if (threadIdx.x == 5)
		return;
	out[threadIdx.x] = warp_sum(1);
}

static __global__ void copy_k(float *out, const float *x, bool wait)
{
	CU_SHARED(float, tile, [4 * CU_WARP]);

	cp_async16(&tile[4 * threadIdx.x], x + 4 * threadIdx.x);
	cp_async_commit();
	if (wait)
		cp_async_wait<0>();
	__syncthreads();
	out[threadIdx.x] = tile[(threadIdx.x * 7) % (4 * CU_WARP)];
	cp_async_wait<0>();
}

static __global__ void votes_k(unsigned *out)
{
	unsigned lane = threadIdx.x;

	out[lane] = __ballot_sync(CU_ALL, lane % 3 == 0);
	out[32 + lane] = (unsigned)__shfl_down_sync(CU_ALL, (int)lane, 3, 16);
	out[64 + lane] = (unsigned)__shfl_up_sync(CU_ALL, (int)lane, 1);
	out[96 + lane] = __reduce_max_sync(CU_ALL, lane * 5 % 32);
	out[128 + lane] = __match_any_sync(CU_ALL, lane / 8);
	out[160 + lane] = (unsigned)__any_sync(CU_ALL, lane == 7) +
			  2 * (unsigned)__all_sync(CU_ALL, lane < 31);
	atomicAdd(&out[192], lane);
	if (lane < 16)
		out[193 + lane] = (unsigned)__shfl_xor_sync(0xffffu, (int)lane, 1);
}

// c[16][8] = a[16][16] . b[8][16]^T, one warp; the operands by ldmatrix.
static __global__ void mma_k(float *c, const bf16 *a, const bf16 *b)
{
	CU_DYNAMIC(bf16, tile);
	unsigned lane = threadIdx.x;
	uint32_t fa[4], fb[4];
	float d[4] = {0, 0, 0, 0};

	for (unsigned i = lane; i < 16 * 16; i += CU_WARP)
		tile[i] = a[i];
	for (unsigned i = lane; i < 8 * 16; i += CU_WARP)
		tile[256 + i] = b[i];
	__syncwarp();
	ldmatrix_x4(fa, &tile[lane % 16 * 16 + lane / 16 * 8]);
	ldmatrix_x4(fb, &tile[256 + lane % 8 * 16 + lane / 8 % 2 * 8]);
	mma_bf16(d, fa, fb[0], fb[1]);
	for (int i = 0; i < 4; i++)
		c[(lane / 4 + (unsigned)i / 2 * 8) * 8 + lane % 4 * 2 + (unsigned)i % 2] = d[i];
}

extern "C" void self_sum(cudaStream_t s, enum self_mistake m, float *out, const float *x, int n)
{
	int blocks = ceil_div(n, BLOCK);

	switch (m) {
	case SELF_NONE:
		CU_LAUNCH(sum_k<SELF_NONE>, blocks, BLOCK, 0, s, out, x, n);
		break;
	case SELF_NO_BARRIER:
		CU_LAUNCH(sum_k<SELF_NO_BARRIER>, blocks, BLOCK, 0, s, out, x, n);
		break;
	case SELF_OUT_OF_BOUNDS:
		CU_LAUNCH(sum_k<SELF_OUT_OF_BOUNDS>, blocks, BLOCK, 0, s, out, x, n);
		break;
	case SELF_EARLY_RETURN:
		CU_LAUNCH(sum_k<SELF_EARLY_RETURN>, blocks, BLOCK, 0, s, out, x, n);
		break;
	case SELF_UNINITIALISED:
		CU_LAUNCH(sum_k<SELF_UNINITIALISED>, blocks, BLOCK, 0, s, out, x, n);
		break;
	case SELF_DIVERGENT:
		CU_LAUNCH(divergent_k, 1, BLOCK, 0, s, out);
		break;
	case SELF_DEADLOCK:
		CU_LAUNCH(deadlock_k, 1, CU_WARP, 0, s, out);
		break;
	case SELF_LANE_GONE:
		CU_LAUNCH(lane_gone_k, 1, CU_WARP, 0, s, out);
		break;
	case SELF_COPY:
	case SELF_COPY_NOT_AWAITED:
		CU_LAUNCH(copy_k, 1, CU_WARP, 0, s, out, x, m == SELF_COPY);
		break;
	}
}

extern "C" void self_votes(cudaStream_t s, uint32_t *out)
{
	CU_LAUNCH(votes_k, 1, CU_WARP, 0, s, out);
}

extern "C" void self_mma(cudaStream_t s, float *c, const void *a, const void *b)
{
	CU_LAUNCH(mma_k, 1, CU_WARP, 384 * sizeof(bf16), s, c, (const bf16 *)a, (const bf16 *)b);
}
