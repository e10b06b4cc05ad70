// Launchers of draw.cuh.
#include "kernels/cuda/draw.cuh"

extern "C" void cu_draw(cu_stream stream, struct kern_draw *draws, int n, const float *logits,
			int ld, int vocab)
{
	size_t smem = (size_t)ceil_div(vocab, DRAW_BLOCK) * sizeof(double);

	CU_LAUNCH(draw_k, n, DRAW_THREADS, smem, stream, draws, logits, ld, vocab);
}

extern "C" void cu_row_lse(cu_stream stream, float *max, float *lse, const float *x, int ldx,
			   int rows, int width)
{
	CU_LAUNCH(row_lse_k, rows, LSE_THREADS, 0, stream, max, lse, x, ldx, width);
}
