// Attention over packed sequences: launches, and delta.
#include "kernels/cuda/attn_back_mma.cuh"
#include "kernels/cuda/attn_plain.cuh"
#include "kernels/cuda/launch.h"

// delta[H][T] = rowsum(dout out), a warp for each row of each head. Lane l adds elements l, l + 32, ...
template <class T>
__global__ void attn_delta(float *delta, const T *dout, const T *out, int tokens, int heads, int d)
{
	int at = (int)(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32), lane = (int)threadIdx.x % 32;
	float sum = 0;

	if (at >= tokens * heads)
		return;
	for (int c = lane; c < d; c += 32)
		sum = fmaf(to_float(dout[(size_t)at * d + c]), to_float(out[(size_t)at * d + c]), sum);
	sum = warp_sum(sum);
	if (lane == 0)
		delta[(size_t)(at % heads) * tokens + at / heads] = sum;
}

// Rows of everything a block reads may be read 16 bytes at a time.
static bool all_wide(const struct kern_attn *a)
{
	return tile_wide(a->q, a->ldq, a->head_dim) && tile_wide(a->k, a->ldk, a->head_dim) &&
	       tile_wide(a->v, a->ldv, a->head_dim) && tile_wide(a->dout, 8, a->head_dim);
}

template <int D, int MT, int BN, bool WIDE>
static void forward(cu_stream stream, const struct kern_attn *a)
{
	const size_t smem = attn_mma_smem<D, MT, BN>();

	CU_LAUNCH((attn_mma<D, MT, BN, WIDE>), dim3(attn_blocks(a, 64 * MT), (unsigned)a->heads),
		  ATTN_THREADS, smem, stream, *a);
}

template <int D, int DO, int BM, int STAGES, int BN, bool WIDE>
static void backward(cu_stream stream, const struct kern_attn *a, const float *delta)
{
	const size_t dkv = attn_dkv_smem<D, BM, STAGES>(), dq = attn_dq_smem<D, BN>();

	CU_LAUNCH((attn_dkv_mma<D, DO, BM, STAGES, WIDE>),
		  dim3(attn_blocks(a, 64), (unsigned)a->kv_heads, D / DO), ATTN_THREADS, dkv, stream,
		  *a, delta);
	CU_LAUNCH((attn_dq_mma<D, BN, WIDE>), dim3(attn_blocks(a, 64), (unsigned)a->heads),
		  ATTN_THREADS, dq, stream, *a, delta);
}

// Rows that are not aligned are rare: heads of two sizes are enough for them.
static int padded_head(int d, bool wide)
{
	if (!wide)
		return d <= 64 ? 64 : 256;
	return d <= 32 ? 32 : d <= 64 ? 64 : d <= 96 ? 96 : d <= 128 ? 128 : 256;
}

static void forward_bf16(cu_stream stream, const struct kern_attn *a)
{
	bool wide = all_wide(a);

	switch (padded_head(a->head_dim, wide)) {
	case 32:
		return forward<32, 2, 64, true>(stream, a);
	case 64:
		return wide ? forward<64, 2, 64, true>(stream, a) : forward<64, 2, 64, false>(stream, a);
	case 96:
		return forward<96, 2, 64, true>(stream, a);
	case 128:
		return forward<128, 2, 32, true>(stream, a);
	default:
		return wide ? forward<256, 1, 64, true>(stream, a) : forward<256, 1, 64, false>(stream, a);
	}
}

static void backward_bf16(cu_stream stream, const struct kern_attn *a, const float *delta)
{
	bool wide = all_wide(a);

	switch (padded_head(a->head_dim, wide)) {
	case 32:
		return backward<32, 32, 32, 2, 32, true>(stream, a, delta);
	case 64:
		return wide ? backward<64, 64, 32, 2, 32, true>(stream, a, delta)
			    : backward<64, 64, 32, 2, 32, false>(stream, a, delta);
	case 96:
		return backward<96, 96, 32, 2, 32, true>(stream, a, delta);
	case 128:
		return backward<128, 128, 32, 2, 32, true>(stream, a, delta);
	default:
		return wide ? backward<256, 128, 16, 1, 16, true>(stream, a, delta)
			    : backward<256, 128, 16, 1, 16, false>(stream, a, delta);
	}
}

extern "C" void cu_attn(cu_stream stream, enum kern_format act, const struct kern_attn *a)
{
	const size_t smem = plain_smem(PLAIN_ROWS * PLAIN_WARPS, 1, a->head_dim);

	if (act == KERN_F32)
		CU_LAUNCH(attn_plain,
			  dim3(attn_blocks(a, PLAIN_ROWS * PLAIN_WARPS), (unsigned)a->heads),
			  PLAIN_WARPS * 32, smem, stream, *a);
	else
		forward_bf16(stream, a);
}

extern "C" size_t cu_attn_back_scratch(const struct kern_attn *a)
{
	return (size_t)a->heads * (size_t)a->n_tokens * sizeof(float);
}

static void backward_f32(cu_stream stream, const struct kern_attn *a, const float *delta)
{
	const size_t dq = plain_smem(PLAIN_ROWS * PLAIN_WARPS, 1, a->head_dim);
	const size_t dkv = plain_smem(PLAIN_KEYS * PLAIN_WARPS, 2, a->head_dim);

	CU_LAUNCH(attn_dkv_plain,
		  dim3(attn_blocks(a, PLAIN_KEYS * PLAIN_WARPS), (unsigned)a->kv_heads),
		  PLAIN_WARPS * 32, dkv, stream, *a, delta);
	CU_LAUNCH(attn_dq_plain,
		  dim3(attn_blocks(a, PLAIN_ROWS * PLAIN_WARPS), (unsigned)a->heads),
		  PLAIN_WARPS * 32, dq, stream, *a, delta);
}

extern "C" void cu_attn_back(cu_stream stream, enum kern_format act, const struct kern_attn *a,
			     void *scratch)
{
	int d = a->head_dim, pairs = a->n_tokens * a->heads;
	float *delta = (float *)scratch;

	if (act == KERN_F32) {
		CU_LAUNCH((attn_delta<float>), ceil_div(pairs, 4), 128, 0, stream, delta,
			  (const float *)a->dout, (const float *)a->out, a->n_tokens, a->heads, d);
		backward_f32(stream, a, delta);
	} else {
		CU_LAUNCH((attn_delta<bf16>), ceil_div(pairs, 4), 128, 0, stream, delta,
			  (const bf16 *)a->dout, (const bf16 *)a->out, a->n_tokens, a->heads, d);
		backward_bf16(stream, a, delta);
	}
}
