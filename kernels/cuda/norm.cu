// Launchers of norm.cuh.
#include "kernels/cuda/norm.cuh"

// Threads of a row of so many vectors: four for each, a power of two of whole warps.
static int norm_threads(int vectors)
{
	int n = CU_WARP;

	while (n < 1024 && n * NORM_KEEP < vectors)
		n *= 2;
	return n;
}

template <class T, int V, bool ADD>
static void norm(cu_stream stream, T *y, float *rinv, T *x, const T *add, const float *w, int rows,
		 int width, float eps)
{
	int threads = norm_threads(ceil_div(width, V)), per = threads < 256 ? 256 / threads : 1;

	CU_LAUNCH((norm_k<T, V, ADD>), ceil_div(rows, per), dim3((unsigned)threads, (unsigned)per),
		  0, stream, y, rinv, x, add, w, rows, width, eps);
}

extern "C" void cu_rmsnorm(cu_stream stream, enum kern_format act, void *y, float *rinv,
			   const void *x, const float *w, int rows, int width, float eps)
{
	bool is_wide = wide_enough(y, x, w, width * act_bytes(act));

	CU_PICK(act, is_wide,
		norm<T, V, false>(stream, (T *)y, rinv, (T *)(uintptr_t)x, (const T *)NULL, w, rows,
				  width, eps));
}

extern "C" void cu_add_rmsnorm(cu_stream stream, enum kern_format act, void *y, float *rinv,
			       void *x, const void *add, const float *w, int rows, int width,
			       float eps)
{
	bool is_wide = wide_enough(y, x, add, w, width * act_bytes(act));

	CU_PICK(act, is_wide,
		norm<T, V, true>(stream, (T *)y, rinv, (T *)x, (const T *)add, w, rows, width,
				 eps));
}

extern "C" size_t cu_rmsnorm_back_scratch(int rows, int width)
{
	return (size_t)ceil_div(rows, NORM_CHUNK) * (size_t)width * sizeof(float);
}

extern "C" void cu_rmsnorm_back(cu_stream stream, enum kern_format act, void *dx, float *dw,
				const void *dy, const void *x, const float *w, const float *rinv,
				int rows, int width, void *scratch)
{
	int chunks = ceil_div(rows, NORM_CHUNK);
	size_t smem = dw ? (size_t)width * sizeof(float) : 0;
	float *part = dw ? (float *)scratch : NULL;
	bool is_wide = wide_enough(dx, dy, x, w, part, width * act_bytes(act));

	CU_PICK(act, is_wide,
		CU_LAUNCH((norm_back_k<T, V>), chunks, norm_threads(ceil_div(width, V)), smem,
			  stream, (T *)dx, part, (const T *)dy, (const T *)x, w, rinv, rows,
			  width));
	if (dw)
		CU_LAUNCH(column_sum_k, chunks ? ceil_div(width, CU_WARP) : 0,
			  dim3(CU_WARP, SUM_SHARES), 0, stream, dw, (const float *)part, chunks,
			  width);
}
