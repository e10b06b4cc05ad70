// Rows of logits to log-probabilities, and to their gradients; see head.c for the products around it.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/prim.cuh"

#define HEAD_THREADS 256

struct head_args {
	float *x; // [rows][vocab]
	const int32_t *target;
	float *logp, *sum; // any of these four may be null
	uint8_t *hit;
	float *parts; // [rows][3]
	int vocab;
	int keep; // leave exp(x - largest) in place of x
};

__device__ static float block_max(float x, float *red)
{
	x = warp_max(x);
	if (threadIdx.x % CU_WARP == 0)
		red[threadIdx.x / CU_WARP] = x;
	__syncthreads();
	for (int i = 0; i < HEAD_THREADS / CU_WARP; i++)
		x = fmaxf(x, red[i]);
	__syncthreads();
	return x;
}

static __global__ void head_rows_k(head_args a)
{
	CU_SHARED(float, red, [HEAD_THREADS / CU_WARP]);
	float *x = a.x + (size_t)blockIdx.x * (size_t)a.vocab;
	int row = (int)blockIdx.x;
	float largest = -INFINITY, sum = 0, mine = a.target[row] < 0 ? 0 : x[a.target[row]];

	for (int i = (int)threadIdx.x; i < a.vocab; i += HEAD_THREADS)
		largest = fmaxf(largest, x[i]);
	largest = block_max(largest, red);
	for (int i = (int)threadIdx.x; i < a.vocab; i += HEAD_THREADS) {
		float e = expf(x[i] - largest);

		sum += e;
		if (a.keep)
			x[i] = e;
	}
	sum = group_sum(sum, red, (int)threadIdx.x / CU_WARP, HEAD_THREADS / CU_WARP);
	if (threadIdx.x > 0)
		return;
	if (a.logp)
		a.logp[row] = mine - (largest + logf(sum));
	if (a.hit)
		a.hit[row] = mine == largest;
	if (a.sum)
		a.sum[row] = sum;
	if (a.parts) {
		a.parts[3 * (size_t)row] = largest;
		a.parts[3 * (size_t)row + 1] = largest + logf(sum);
		a.parts[3 * (size_t)row + 2] = mine;
	}
}

// d = hot onehot - g p, which may lie in place of x when it is float.
template <class T>
static __global__ void head_slope_k(T *d, const float *x, const float *sum, const float *g,
				    const float *hot, const int32_t *target, int vocab)
{
	size_t at = (size_t)blockIdx.x * (size_t)vocab;
	float slope = hot[blockIdx.x], scale = -g[blockIdx.x] / sum[blockIdx.x];
	int mine = target[blockIdx.x];

	for (int i = (int)threadIdx.x; i < vocab; i += HEAD_THREADS)
		d[at + i] = from_float<T>(x[at + i] * scale + (i == mine ? slope : 0));
}

extern "C" void cu_head_rows(cu_stream s, float *x, const int32_t *target, float *logp, uint8_t *hit,
			     float *sum, float *parts, int rows, int vocab, bool keep)
{
	head_args a = {x, target, logp, sum, hit, parts, vocab, keep};

	CU_LAUNCH(head_rows_k, (unsigned)rows, HEAD_THREADS, 0, s, a);
}

extern "C" void cu_head_slope(cu_stream s, enum kern_format act, void *d, const float *x,
			      const float *sum, const float *g, const float *hot,
			      const int32_t *target, int rows, int vocab)
{
	if (act == KERN_BF16)
		CU_LAUNCH(head_slope_k<bf16>, (unsigned)rows, HEAD_THREADS, 0, s, (bf16 *)d, x, sum, g,
			  hot, target, vocab);
	else
		CU_LAUNCH(head_slope_k<float>, (unsigned)rows, HEAD_THREADS, 0, s, (float *)d, x, sum,
			  g, hot, target, vocab);
}
