// Launchers of draw.cuh.
#include "kernels/cuda/draw.cuh"

// Bytes of dynamic shared memory a block may have beside the kernel's own.
static size_t draw_room(void)
{
	int device = 0, most = 0;

	cudaGetDevice(&device);
	cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
	return most > 32 << 10 ? (size_t)most - (32 << 10) : 0;
}

extern "C" void cu_draw(cu_stream stream, struct kern_draw *draws, int n, const float *logits,
			int ld, int vocab)
{
	size_t smem = (size_t)ceil_div(vocab, DRAW_BLOCK) * sizeof(double);
	size_t all = smem + (size_t)vocab * sizeof(float);
	bool kept = all <= draw_room();

	CU_LAUNCH(draw_k, n, DRAW_THREADS, kept ? all : smem, stream, draws, logits, ld, vocab,
		  kept);
}

extern "C" void cu_row_lse(cu_stream stream, float *max, float *lse, const float *x, int ldx,
			   int rows, int width)
{
	CU_LAUNCH(row_lse_k, rows, LSE_THREADS, 0, stream, max, lse, x, ldx, width);
}
