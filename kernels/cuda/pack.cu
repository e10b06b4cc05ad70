// Launchers of pack.cuh.
#include "kernels/cuda/pack.cuh"

extern "C" size_t cu_pack_size(enum kern_format f, int n, int k)
{
	size_t bytes = (size_t)n * (size_t)k * (f == KERN_F32 ? 4 : 2);

	if (f == KERN_Q8 || f == KERN_FP8)
		bytes = cu_q8_scales_at(n, k) + (size_t)n * sizeof(float);
	return (bytes + 63) / 64 * 64;
}

extern "C" void cu_pack(cu_stream stream, enum kern_format f, void *wp, int n, int k,
			const float *w, int ldw, int row, int rows)
{
	size_t at = (size_t)row * (size_t)k;

	if (f == KERN_Q8 || f == KERN_FP8) {
		float *scales = (float *)((char *)wp + cu_q8_scales_at(n, k)) + row;

		if (f == KERN_Q8)
			CU_LAUNCH((pack_8_k<int8_t, float>), rows, PACK_THREADS, 0, stream,
				  (int8_t *)wp + at, scales, w, ldw, k);
		else
			CU_LAUNCH((pack_8_k<fp8, float>), rows, PACK_THREADS, 0, stream,
				  (fp8 *)wp + at, scales, w, ldw, k);
	} else {
		bool is_wide = wide_enough(wp, w, k * act_bytes(f), ldw * sizeof(float));

		CU_PICK(f, is_wide,
			CU_LAUNCH((pack_k<T, V>), row_grid(rows, k, V, PACK_THREADS), PACK_THREADS,
				  0, stream, (T *)wp + at, w, ldw, rows, k));
	}
}

template <class T>
static void embed_packed(cu_stream stream, enum kern_format f, T *out, const void *wp,
			 const float *scales, int k, const int32_t *ids, int rows)
{
	dim3 grid = row_grid(rows, k, 1, PACK_THREADS);

	if (f == KERN_Q8)
		CU_LAUNCH((embed_packed_k<T, int8_t>), grid, PACK_THREADS, 0, stream, out,
			  (const int8_t *)wp, scales, ids, rows, k);
	else if (f == KERN_FP8)
		CU_LAUNCH((embed_packed_k<T, fp8>), grid, PACK_THREADS, 0, stream, out,
			  (const fp8 *)wp, scales, ids, rows, k);
	else if (f == KERN_BF16)
		CU_LAUNCH((embed_packed_k<T, bf16>), grid, PACK_THREADS, 0, stream, out,
			  (const bf16 *)wp, (const float *)NULL, ids, rows, k);
	else
		CU_LAUNCH((embed_packed_k<T, float>), grid, PACK_THREADS, 0, stream, out,
			  (const float *)wp, (const float *)NULL, ids, rows, k);
}

extern "C" void cu_embed_packed(cu_stream stream, enum kern_format act, enum kern_format f,
				void *out, const void *wp, int n, int k, const int32_t *ids,
				int rows)
{
	const float *scales = (const float *)((const char *)wp + cu_q8_scales_at(n, k));

	if (act == KERN_F32)
		embed_packed(stream, f, (float *)out, wp, scales, k, ids, rows);
	else
		embed_packed(stream, f, (bf16 *)out, wp, scales, k, ids, rows);
}

extern "C" void cu_rows_fp8(cu_stream stream, void *q, float *scale, const void *a, int lda, int rows,
			    int k)
{
	CU_LAUNCH((pack_8_k<fp8, bf16>), rows, PACK_THREADS, 0, stream, (fp8 *)q, scale,
		  (const bf16 *)a, lda, k);
}

extern "C" void cu_scale_sums(cu_stream stream, enum kern_format out, void *c, int ldc, const float *d,
			      const float *a, const float *w, int rows, int width, bool acc)
{
	dim3 grid = row_grid(rows, width, 1, PACK_THREADS);

	if (out == KERN_F32)
		CU_LAUNCH(scale_sums_k<float>, grid, PACK_THREADS, 0, stream, (float *)c, ldc, d, a,
			  w, rows, width, acc);
	else
		CU_LAUNCH(scale_sums_k<bf16>, grid, PACK_THREADS, 0, stream, (bf16 *)c, ldc, d, a,
			  w, rows, width, acc);
}

extern "C" void cu_kv_store(cu_stream stream, enum kern_format act, enum kern_format kv,
			    void *kcache, void *vcache, const void *k, int ldk, const void *v,
			    int ldv, const int32_t *blocks, const int32_t *first,
			    const int32_t *pos, int rows, int kv_heads, int head_dim)
{
	bool is_wide = wide_enough(k, v, kcache, vcache, ldk * act_bytes(act), ldv * act_bytes(act),
				   head_dim * act_bytes(act), head_dim * act_bytes(kv));
	int width = kv_heads * head_dim;

#define STORE(K)                                                                                   \
	CU_PICK(act, is_wide, dim3 grid = row_grid(rows, width, V, PACK_THREADS); grid.z = 2;      \
		CU_LAUNCH((kv_store_k<T, K, V>), grid, PACK_THREADS, 0, stream, (K *)kcache,       \
			  (K *)vcache, (const T *)k, ldk, (const T *)v, ldv, blocks, first, pos,   \
			  rows, kv_heads, head_dim))
	if (kv == KERN_F32)
		STORE(float);
	else
		STORE(bf16);
#undef STORE
}
