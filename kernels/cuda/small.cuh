// Products with few rows: C[M,N] = A[M,K] . W[N,K]^T, W bfloat16, or int8 or E4M3 with a scale for each row,
// at the speed of memory. Sixteen rows of W are the left factor of a tensor-core step, eight rows of A
// the right one, so eight rows cost what one costs.
//
// A thread block has 64 or 128 rows of W and one slice of K; W and A arrive through cp.async, 64 k at a
// time, three blocks ahead. Slices leave their sums in scratch; the thread block that finishes the last
// slice of its rows adds them in ascending order. Slices depend on N and K alone, a sum within one is
// a chain over ascending k: a row of C has the same bits whatever M is.
//
// int8: a weight is bfloat16(q scale), the same number that cu_unpack_8() makes for cuBLAS. E4M3: a weight
// is q, which bfloat16 holds as it is, and the sum is multiplied by the scale.
// Bytes: N K times 2 or 1, once; A from L2 for every 64 or 128 rows of W.
#pragma once

#include "kernels/cuda/tile.cuh"

#define SMALL_THREADS 128
#define SMALL_K 64
#define SMALL_LD 80 // elements of a row of A or bf16 W in shared memory: 8 mod 32 words
#define SMALL_LD_Q8 80 // bytes of a row of int8 W: 20 words
#define SMALL_SLICES 8

// One product. C is OUT; acc adds to it.
struct small_product {
	void *c;
	const bf16 *a;
	const void *w;
	const float *scales; // int8, E4M3: of the rows of W
	int ldc, lda, m, n, k, acc;
	int slices, slice;  // their number and length, a multiple of 64
	float *part;	    // [slices][m][n]
	unsigned *count;    // [tiles of m][tiles of n], zeros before and after
};

// Slices for all of the device when N is small, few enough that their sums cost little.
static inline int small_slice(int n, int k)
{
	int want = 768 / ceil_div(n, 64), most = ceil_div(k, 256);

	want = want < 1 ? 1 : want > SMALL_SLICES ? SMALL_SLICES : want;
	want = want < most ? want : most;
	return ceil_div(k, want * SMALL_K) * SMALL_K;
}

template <class W> struct small_weights;

template <> struct small_weights<bf16> {
	static const bool SCALED = false, SUM_SCALED = false; // each weight, or the sum
	static const int ROW = SMALL_LD * 2; // bytes of a row in shared memory

	// Rows [0, rows) of 64 k from `k` on, up to `end`.
	static __device__ __forceinline__ void load(unsigned char *to, const small_product &p, int row,
						    int rows, int k, int end)
	{
		for (int i = (int)threadIdx.x; i < rows * 8; i += SMALL_THREADS) {
			int r = i / 8, c = k + i % 8 * 8;
			bool ok = row + r < p.n && c < end;

			cp_async16(to + r * ROW + i % 8 * 16,
				   ok ? (const bf16 *)p.w + (size_t)(row + r) * p.k + c
				      : (const bf16 *)p.w,
				   ok ? 16 : 0);
		}
	}

	// Rows g and g + 8 of a step: thread t has k 4t .. 4t + 3 of sixteen, A likewise.
	static __device__ __forceinline__ void factor(uint32_t (&f)[4], const unsigned char *row,
						      float, float)
	{
		uint2 x = *(const uint2 *)row, y = *(const uint2 *)(row + 8 * ROW);

		f[0] = x.x;
		f[1] = y.x;
		f[2] = x.y;
		f[3] = y.y;
	}
	static const int STEP = 32, LANE = 8; // bytes of sixteen k, of a thread's four
};

// The bytes of q as q scale in pairs of bfloat16: 0x4b0000xx is the float 2^23 + xx.
__device__ __forceinline__ void widen_q8(uint32_t &lo, uint32_t &hi, uint32_t q, float scale)
{
	uint32_t u = q ^ 0x80808080u;
	float x[4];

#pragma unroll
	for (int i = 0; i < 4; i++)
		x[i] = (__uint_as_float(__byte_perm(u, 0x4b000000u, 0x7440u + (unsigned)i)) -
			8388736.0f) *
		       scale;
	lo = pack_bf16(x[0], x[1]);
	hi = pack_bf16(x[2], x[3]);
}

// The bytes of q as pairs of bfloat16, exactly.
__device__ __forceinline__ void widen_fp8(uint32_t &lo, uint32_t &hi, uint32_t q)
{
	const uint32_t power = 0x7b807b80u; // 2^120 twice
	uint32_t x = __byte_perm(q, 0, 0x1404u), y = __byte_perm(q, 0, 0x3424u);

	lo = mul_bf16x2((x & 0x80008000u) | (x >> 4 & 0x07f007f0u), power);
	hi = mul_bf16x2((y & 0x80008000u) | (y >> 4 & 0x07f007f0u), power);
}

// Rows of one byte an element.
struct small_bytes {
	static const int ROW = SMALL_LD_Q8;
	static const int STEP = 16, LANE = 4;

	static __device__ __forceinline__ void load(unsigned char *to, const small_product &p, int row,
						    int rows, int k, int end)
	{
		for (int i = (int)threadIdx.x; i < rows * 4; i += SMALL_THREADS) {
			int r = i / 4, c = k + i % 4 * 16;
			bool ok = row + r < p.n && c < end;

			cp_async16(to + r * ROW + i % 4 * 16,
				   ok ? (const int8_t *)p.w + (size_t)(row + r) * p.k + c
				      : (const int8_t *)p.w,
				   ok ? 16 : 0);
		}
	}
};

template <> struct small_weights<int8_t> : small_bytes {
	static const bool SCALED = true, SUM_SCALED = false;

	static __device__ __forceinline__ void factor(uint32_t (&f)[4], const unsigned char *row,
						      float s0, float s1)
	{
		widen_q8(f[0], f[2], *(const uint32_t *)row, s0);
		widen_q8(f[1], f[3], *(const uint32_t *)(row + 8 * ROW), s1);
	}
};

template <> struct small_weights<fp8> : small_bytes {
	static const bool SCALED = false, SUM_SCALED = true;

	static __device__ __forceinline__ void factor(uint32_t (&f)[4], const unsigned char *row,
						      float, float)
	{
		widen_fp8(f[0], f[2], *(const uint32_t *)row);
		widen_fp8(f[1], f[3], *(const uint32_t *)(row + 8 * ROW));
	}
};

template <int NT, int MT, int STAGES, class W> static constexpr size_t small_smem()
{
	return (size_t)STAGES * (64 * MT * small_weights<W>::ROW + 8 * NT * SMALL_LD * 2);
}

template <int NT>
__device__ __forceinline__ void small_rows(unsigned char *to, const small_product &p, int row, int k,
					   int end)
{
	for (int i = (int)threadIdx.x; i < 8 * NT * 8; i += SMALL_THREADS) {
		int r = i / 8, c = k + i % 8 * 8;
		bool ok = row + r < p.m && c < end;

		cp_async16(to + r * SMALL_LD * 2 + i % 8 * 16,
			   ok ? p.a + (size_t)(row + r) * p.lda + c : p.a, ok ? 16 : 0);
	}
}

// One element of C from the sums of all slices.
template <class W, class OUT>
__device__ __forceinline__ void small_put(const small_product &p, int m, int n, float sum)
{
	OUT *c = (OUT *)p.c + (size_t)m * p.ldc + n;

	if (small_weights<W>::SUM_SCALED)
		sum *= p.scales[n];
	*c = from_float<OUT>(p.acc ? to_float(*c) + sum : sum);
}

// The sums of this slice to C, or to scratch for the last one to add.
template <int NT, int MT, class W, class OUT>
__device__ __forceinline__ void small_finish(const small_product &p, const float (&s)[MT][NT][4], int row,
					     int m0)
{
	CU_SHARED(int, last, [1]);
	int lane = (int)threadIdx.x % 32, n0 = row + (int)threadIdx.x / 32 * 16 * MT + lane / 4;
	float *part = p.part + (size_t)blockIdx.z * p.m * p.n;

#pragma unroll
	for (int i = 0; i < MT; i++)
#pragma unroll
		for (int j = 0; j < NT; j++)
#pragma unroll
			for (int e = 0; e < 4; e++) {
				int n = n0 + 16 * i + e / 2 * 8, m = m0 + 8 * j + lane % 4 * 2 + e % 2;

				if (n >= p.n || m >= p.m)
					continue;
				if (p.slices == 1)
					small_put<W, OUT>(p, m, n, s[i][j][e]);
				else
					part[(size_t)m * p.n + n] = s[i][j][e];
			}
	if (p.slices == 1)
		return;
	__threadfence();
	__syncthreads();
	if (threadIdx.x == 0) {
		unsigned *count = p.count + blockIdx.y * gridDim.x + blockIdx.x;

		last[0] = (int)atomicAdd(count, 1u) == p.slices - 1;
		if (last[0])
			*count = 0;
	}
	__syncthreads();
	if (!last[0])
		return;
	__threadfence();
	for (int i = (int)threadIdx.x; i < 8 * NT * 64 * MT; i += SMALL_THREADS) {
		int n = row + i % (64 * MT), m = m0 + i / (64 * MT);
		float sum = 0;

		if (n >= p.n || m >= p.m)
			continue;
		for (int z = 0; z < p.slices; z++)
			sum += __ldcg(p.part + ((size_t)z * p.m + m) * p.n + n);
		small_put<W, OUT>(p, m, n, sum);
	}
}

// Grid: (N / 64 MT, M / 8 NT, slices). Four warps of 16 MT rows of W. sm_90: at most 128 registers up to
// 32 rows, 168 for 64.
template <int NT, int MT, int STAGES, class W, class OUT>
__global__ void __launch_bounds__(SMALL_THREADS) small_nt(const small_product p)
{
	CU_DYNAMIC(unsigned char, shared);
	typedef small_weights<W> weights;
	const int W_SIZE = 64 * MT * weights::ROW, STAGE = W_SIZE + 8 * NT * SMALL_LD * 2;
	int row = (int)blockIdx.x * 64 * MT, m0 = (int)blockIdx.y * 8 * NT;
	int from = (int)blockIdx.z * p.slice, end = from + p.slice < p.k ? from + p.slice : p.k;
	int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, stage = 0;
	float s[MT][NT][4] = {}, scale[MT][2] = {};

	if (weights::SCALED)
#pragma unroll
		for (int i = 0; i < 2 * MT; i++) {
			int n = row + 16 * MT * warp + lane / 4 + 8 * i;

			scale[i / 2][i % 2] = n < p.n ? p.scales[n] : 0.0f;
		}
#pragma unroll
	for (int i = 0; i < STAGES - 1; i++) {
		if (from + i * SMALL_K < end) {
			weights::load(shared + i * STAGE, p, row, 64 * MT, from + i * SMALL_K, end);
			small_rows<NT>(shared + i * STAGE + W_SIZE, p, m0, from + i * SMALL_K, end);
		}
		cp_async_commit();
	}
	for (int k = from; k < end; k += SMALL_K, stage = (stage + 1) % STAGES) {
		int next = k + (STAGES - 1) * SMALL_K, to = (stage + STAGES - 1) % STAGES;

		cp_async_wait<STAGES - 2>();
		__syncthreads();
		if (next < end) {
			weights::load(shared + to * STAGE, p, row, 64 * MT, next, end);
			small_rows<NT>(shared + to * STAGE + W_SIZE, p, m0, next, end);
		}
		cp_async_commit();
		const unsigned char *w = shared + stage * STAGE + lane % 4 * weights::LANE +
					 (16 * MT * warp + lane / 4) * weights::ROW;
		const unsigned char *a = shared + stage * STAGE + W_SIZE + lane % 4 * 8 +
					 lane / 4 * SMALL_LD * 2;

#pragma unroll
		for (int step = 0; step < SMALL_K / 16; step++) {
			uint32_t f[MT][4];

#pragma unroll
			for (int i = 0; i < MT; i++)
				weights::factor(f[i],
						w + 16 * i * weights::ROW + step * weights::STEP,
						scale[i][0], scale[i][1]);
#pragma unroll
			for (int j = 0; j < NT; j++) {
				uint2 x = *(const uint2 *)(a + 8 * j * SMALL_LD * 2 + step * 32);

#pragma unroll
				for (int i = 0; i < MT; i++)
					mma_bf16(s[i][j], f[i], x.x, x.y);
			}
		}
	}
	cp_async_wait<0>();
	small_finish<NT, MT, W, OUT>(p, s, row, m0);
}
