// Launchers of rows.cuh.
#include "kernels/cuda/rows.cuh"

extern "C" void cu_gather(cu_stream stream, enum kern_format act, void *out, const void *x,
			  const int32_t *row, int rows, int width)
{
	bool is_wide = wide_enough(out, x, width * act_bytes(act));

	CU_PICK(act, is_wide,
		CU_LAUNCH((gather_k<T, V>), row_grid(rows, width, V, ROW_THREADS), ROW_THREADS, 0,
			  stream, (T *)out, (const T *)x, row, rows, width));
}

extern "C" void cu_embed(cu_stream stream, enum kern_format act, void *out, const void *w,
			 const int32_t *ids, int rows, int width)
{
	cu_gather(stream, act, out, w, ids, rows, width);
}

extern "C" void cu_spread(cu_stream stream, enum kern_format act, void *out, const void *x,
			  const int32_t *from, int rows, int width)
{
	bool is_wide = wide_enough(out, x, width * act_bytes(act));

	CU_PICK(act, is_wide,
		CU_LAUNCH((spread_k<T, V>), row_grid(rows, width, V, ROW_THREADS), ROW_THREADS, 0,
			  stream, (T *)out, (const T *)x, from, rows, width));
}

extern "C" void cu_embed_back(cu_stream stream, enum kern_format act, float *dw, const void *dout,
			      const int32_t *ids, int rows, int width)
{
	bool is_wide = wide_enough(dw, dout, width * act_bytes(act));

	CU_PICK(act, is_wide,
		CU_LAUNCH((embed_back_k<T, V>),
			  dim3((unsigned)rows, (unsigned)ceil_div(width, V * EMBED_THREADS)),
			  EMBED_THREADS, 0, stream, dw, (const T *)dout, ids, rows, width));
}

extern "C" void cu_rope(cu_stream stream, enum kern_format act, void *x, int ldx, int rows,
			int heads, int head_dim, const int32_t *pos, const float *cosines,
			const float *sines, bool back)
{
	int half = head_dim / 2;
	bool is_wide = wide_enough(x, ldx * act_bytes(act), half * act_bytes(act), cosines, sines);

	CU_PICK(act, is_wide,
		CU_LAUNCH((rope_k<T, V>),
			  row_grid(rows, half / V * ceil_div(heads, ROPE_HEADS), 1, ROW_THREADS),
			  ROW_THREADS, 0, stream, (T *)x, ldx, rows, heads, half, pos, cosines,
			  sines, back ? -1.0f : 1.0f));
}

extern "C" void cu_swiglu(cu_stream stream, enum kern_format act, void *y, const void *gate,
			  const void *up, int ldg, int rows, int width)
{
	bool is_wide = wide_enough(y, gate, up, ldg * act_bytes(act), width * act_bytes(act));

	CU_PICK(act, is_wide,
		CU_LAUNCH((swiglu_k<T, V>), row_grid(rows, width, V, ROW_THREADS), ROW_THREADS, 0,
			  stream, (T *)y, (const T *)gate, (const T *)up, ldg, rows, width));
}

extern "C" void cu_swiglu_back(cu_stream stream, enum kern_format act, void *dgate, void *dup,
			       const void *dy, const void *gate, const void *up, int ldg, int rows,
			       int width)
{
	bool is_wide =
		wide_enough(dgate, dup, dy, gate, up, ldg * act_bytes(act), width * act_bytes(act));

	CU_PICK(act, is_wide,
		CU_LAUNCH((swiglu_back_k<T, V>), row_grid(rows, width, V, ROW_THREADS), ROW_THREADS,
			  0, stream, (T *)dgate, (T *)dup, (const T *)dy, (const T *)gate,
			  (const T *)up, ldg, rows, width));
}

extern "C" void cu_bias(cu_stream stream, enum kern_format act, void *y, int ldy, const float *b,
			int rows, int width)
{
	bool is_wide = wide_enough(y, b, ldy * act_bytes(act), width * act_bytes(act));

	CU_PICK(act, is_wide,
		CU_LAUNCH((bias_k<T, V>), row_grid(rows, width, V, ROW_THREADS), ROW_THREADS, 0,
			  stream, (T *)y, ldy, b, rows, width));
}

extern "C" size_t cu_bias_back_scratch(int rows, int width)
{
	return (size_t)ceil_div(rows, BIAS_CHUNK) * (size_t)width * sizeof(float);
}

extern "C" void cu_bias_back(cu_stream stream, enum kern_format act, float *db, const void *dy,
			     int ldy, int rows, int width, void *scratch)
{
	int chunks = ceil_div(rows, BIAS_CHUNK);
	bool is_wide = wide_enough(dy, scratch, ldy * act_bytes(act), width * act_bytes(act));

	CU_PICK(act, is_wide,
		CU_LAUNCH((bias_part_k<T, V>),
			  dim3((unsigned)ceil_div(width, V * ROW_THREADS), (unsigned)chunks),
			  ROW_THREADS, 0, stream, (float *)scratch, (const T *)dy, ldy, rows,
			  width));
	CU_LAUNCH(column_sum_k, chunks ? ceil_div(width, CU_WARP) : 0, dim3(CU_WARP, SUM_SHARES), 0,
		  stream, db, (const float *)scratch, chunks, width);
}
