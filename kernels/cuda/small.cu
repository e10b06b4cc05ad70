// Products with few rows: launches. See small.cuh.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/small.cuh"

#define CHUNK_M 256 // rows of a launch: scratch does not grow beyond it

template <int COLS, int ROWS, int STAGES, class W, class OUT>
static void launch(cu_stream stream, const struct small_product *p)
{
	const size_t smem = small_smem<COLS, ROWS, STAGES, W>();

	CU_LAUNCH((small_nt<COLS, ROWS, STAGES, W, OUT>),
		  dim3((unsigned)ceil_div(p->n, 64 * ROWS), (unsigned)ceil_div(p->m, 8 * COLS),
		       (unsigned)p->slices),
		  SMALL_THREADS, smem, stream, *p);
}

template <class W, class OUT> static void by_rows(cu_stream stream, const struct small_product *p)
{
	if (p->m <= 8)
		launch<1, 1, 4, W, OUT>(stream, p);
	else if (p->m <= 16)
		launch<2, 1, 4, W, OUT>(stream, p);
	else if (p->m <= 32)
		launch<4, 2, 3, W, OUT>(stream, p);
	else
		launch<8, 2, 3, W, OUT>(stream, p);
}

extern "C" bool cu_small_takes(enum kern_format act, enum kern_format f, const void *a, int lda,
			       const void *wp, int k)
{
	return act == KERN_BF16 && f != KERN_F32 && k % 16 == 0 && lda % 8 == 0 &&
	       (uintptr_t)a % 16 == 0 && (uintptr_t)wp % 16 == 0;
}

extern "C" size_t cu_small_scratch(int m, int n, int k)
{
	int slices = ceil_div(k, small_slice(n, k)), rows = m < CHUNK_M ? m : CHUNK_M;

	return slices == 1 ? 0 : (size_t)slices * (size_t)rows * (size_t)n * sizeof(float);
}

extern "C" void cu_small(cu_stream stream, enum kern_format f, enum kern_format out, void *c, int ldc,
			 const void *a, int lda, const void *wp, int m, int n, int k, bool acc,
			 void *scratch, unsigned *counts)
{
	for (int row = 0; row < m; row += CHUNK_M) {
		struct small_product p = {};

		p.c = (char *)c + (size_t)row * (size_t)ldc * (out == KERN_F32 ? 4 : 2);
		p.a = (const bf16 *)a + (size_t)row * (size_t)lda;
		p.w = wp;
		p.scales = (const float *)((const char *)wp + cu_q8_scales_at(n, k));
		p.ldc = ldc;
		p.lda = lda;
		p.m = m - row < CHUNK_M ? m - row : CHUNK_M;
		p.n = n;
		p.k = k;
		p.acc = acc;
		p.slice = small_slice(n, k);
		p.slices = ceil_div(k, p.slice);
		p.part = (float *)scratch;
		p.count = counts;
		if (f == KERN_Q8 && out == KERN_F32)
			by_rows<int8_t, float>(stream, &p);
		else if (f == KERN_Q8)
			by_rows<int8_t, bf16>(stream, &p);
		else if (f == KERN_FP8 && out == KERN_F32)
			by_rows<fp8, float>(stream, &p);
		else if (f == KERN_FP8)
			by_rows<fp8, bf16>(stream, &p);
		else if (out == KERN_F32)
			by_rows<bf16, float>(stream, &p);
		else
			by_rows<bf16, bf16>(stream, &p);
	}
}
