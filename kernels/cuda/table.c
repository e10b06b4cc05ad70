/* The tables "cuda" (activations in bfloat16), "cuda-steady" (the same, and a row of a packed product
 * never depends on how many others there are) and "cuda-f32": every operation is a launch of launch.h
 * into the context's stream, with scratch where it needs some. */
#include "kernels/cuda/ops.h"
#include "kernels/gpu.h"

#include <cuda_runtime_api.h>

#include <stdio.h>
#include <string.h>

/* --- context ---------------------------------------------------------------------------------- */

static struct kern_pool *open_bf16(const struct kern_open *o, char *why, size_t size)
{
	return cu_open(KERN_BF16, o, why, size);
}

static struct kern_pool *open_steady(const struct kern_open *o, char *why, size_t size)
{
	struct kern_pool *p = cu_open(KERN_BF16, o, why, size);

	if (p)
		p->steady = true;
	return p;
}

static struct kern_pool *open_f32(const struct kern_open *o, char *why, size_t size)
{
	return cu_open(KERN_F32, o, why, size);
}

static void *stream(struct kern_pool *p)
{
	return p->stream;
}

static void narrow(struct kern_pool *p, void *act, const float *x, size_t n)
{
	if (p->act == KERN_BF16)
		cu_narrow(p->stream, act, x, n);
	else
		cu_copy(p, act, x, n * sizeof *x);
}

static void widen(struct kern_pool *p, float *x, const void *act, size_t n)
{
	if (p->act == KERN_BF16)
		cu_widen(p->stream, x, act, n);
	else
		cu_copy(p, x, act, n * sizeof *x);
}

/* --- products --------------------------------------------------------------------------------- */

static void pack(struct kern_pool *p, enum kern_format f, void *wp, int n, int k, const float *w,
		 int ldw, int row, int rows)
{
	cu_pack(p->stream, f, wp, n, k, w, ldw, row, rows);
}

static bool has_format(struct kern_pool *p, enum kern_format f, char *why, size_t size)
{
	bool has = f != KERN_FP8 || p->major * 10 + p->minor >= 89;

	if (!has)
		snprintf(why, size,
			 "%s has compute capability %d.%d and no 8-bit floats; 8.9 or more has them",
			 p->name, p->major, p->minor);
	return has;
}

static void embed_packed(struct kern_pool *p, enum kern_format f, void *out, const void *wp, int n,
			 int k, const int32_t *ids, int rows)
{
	cu_embed_packed(p->stream, p->act, f, out, wp, n, k, ids, rows);
}

/* --- rows ------------------------------------------------------------------------------------- */

static void rmsnorm(struct kern_pool *p, void *y, float *rinv, const void *x, const float *w,
		    int rows, int width, float eps)
{
	cu_rmsnorm(p->stream, p->act, y, rinv, x, w, rows, width, eps);
}

static void rmsnorm_back(struct kern_pool *p, void *dx, float *dw, const void *dy, const void *x,
			 const float *w, const float *rinv, int rows, int width)
{
	size_t bytes = dw ? cu_rmsnorm_back_scratch(rows, width) : 0;
	void *scratch = bytes ? cu_scratch(p, CU_SCRATCH_OP, bytes) : NULL;

	if (!bytes || scratch)
		cu_rmsnorm_back(p->stream, p->act, dx, dw, dy, x, w, rinv, rows, width, scratch);
}

static void rope(struct kern_pool *p, void *x, int ldx, int rows, int heads, int head_dim,
		 const int32_t *pos, const float *cosines, const float *sines, bool back)
{
	cu_rope(p->stream, p->act, x, ldx, rows, heads, head_dim, pos, cosines, sines, back);
}

static void swiglu(struct kern_pool *p, void *y, const void *gate, const void *up, int ldg, int rows,
		   int width)
{
	cu_swiglu(p->stream, p->act, y, gate, up, ldg, rows, width);
}

static void swiglu_back(struct kern_pool *p, void *dgate, void *dup, const void *dy,
			const void *gate, const void *up, int ldg, int rows, int width)
{
	cu_swiglu_back(p->stream, p->act, dgate, dup, dy, gate, up, ldg, rows, width);
}

static void attn(struct kern_pool *p, const struct kern_attn *a)
{
	cu_attn(p->stream, p->act, a);
}

static void attn_back(struct kern_pool *p, const struct kern_attn *a)
{
	void *scratch = cu_scratch(p, CU_SCRATCH_OP, cu_attn_back_scratch(a));

	if (scratch)
		cu_attn_back(p->stream, p->act, a, scratch);
}

static void attn_paged(struct kern_pool *p, const struct kern_paged *a)
{
	size_t bytes = cu_attn_paged_scratch(p->act, a, a->runs);
	void *scratch = cu_scratch(p, CU_SCRATCH_OP, bytes ? bytes : 64);
	void *counts =
		cu_scratch(p, CU_SCRATCH_ZEROS, cu_attn_paged_counts(a->rows, a->heads));

	if (scratch && counts)
		cu_attn_paged(p->stream, p->act, a, a->runs, scratch, counts);
}

static void kv_store(struct kern_pool *p, enum kern_format kv, void *kcache, void *vcache,
		     const void *k, int ldk, const void *v, int ldv, const int32_t *blocks,
		     const int32_t *first, const int32_t *pos, int rows, int kv_heads, int head_dim)
{
	cu_kv_store(p->stream, p->act, kv, kcache, vcache, k, ldk, v, ldv, blocks, first, pos, rows,
		    kv_heads, head_dim);
}

static void embed(struct kern_pool *p, void *out, const void *w, const int32_t *ids, int rows,
		  int width)
{
	cu_embed(p->stream, p->act, out, w, ids, rows, width);
}

static void embed_back(struct kern_pool *p, float *dw, const void *dout, const int32_t *ids,
		       int rows, int width)
{
	cu_embed_back(p->stream, p->act, dw, dout, ids, rows, width);
}

static void gather(struct kern_pool *p, void *out, const void *x, const int32_t *row, int rows,
		   int width)
{
	cu_gather(p->stream, p->act, out, x, row, rows, width);
}

static void spread(struct kern_pool *p, void *out, const void *x, const int32_t *from, int rows,
		   int width)
{
	cu_spread(p->stream, p->act, out, x, from, rows, width);
}

/* --- elements, steps, draws ------------------------------------------------------------------- */

static void add(struct kern_pool *p, void *y, const void *x, size_t n)
{
	cu_add(p->stream, p->act, y, x, n);
}

static void scale(struct kern_pool *p, void *x, size_t n, float by)
{
	cu_scale(p->stream, p->act, x, n, by);
}

static void bias(struct kern_pool *p, void *y, int ldy, const float *b, int rows, int width)
{
	cu_bias(p->stream, p->act, y, ldy, b, rows, width);
}

static void bias_back(struct kern_pool *p, float *db, const void *dy, int ldy, int rows, int width)
{
	size_t bytes = cu_bias_back_scratch(rows, width);
	void *scratch = cu_scratch(p, CU_SCRATCH_OP, bytes ? bytes : 64);

	if (scratch)
		cu_bias_back(p->stream, p->act, db, dy, ldy, rows, width, scratch);
}

static void dropout(struct kern_pool *p, void *x, size_t n, float part, const uint32_t key[2],
		    const uint32_t stream[2])
{
	if (part > 0)
		cu_dropout(p->stream, p->act, x, n, part, key, stream);
}

static void adamw(struct kern_pool *p, const struct kern_adamw *a, int n)
{
	cu_adamw(p->stream, p->act, a, n);
}

/* Results of `bytes` at p->lent_there become the program's at p->lent. */
static void take_lent(struct kern_pool *p, size_t bytes)
{
	cu_fail("results", (int)cudaMemcpyAsync(p->lent, p->lent_there, bytes,
						cudaMemcpyDeviceToHost, p->stream));
	cu_wait(p);
}

static double sumsq(struct kern_pool *p, const float *x, size_t n)
{
	size_t bytes = cu_sumsq_scratch(n);
	void *scratch = cu_scratch(p, CU_SCRATCH_OP, bytes ? bytes : 64);
	double sum = 0;

	if (!scratch || !cu_lend(p, sizeof sum))
		return 0;
	cu_sumsq(p->stream, p->lent_there, x, n, scratch);
	take_lent(p, sizeof sum);
	memcpy(&sum, p->lent, sizeof sum);
	return sum;
}

static void vexp(struct kern_pool *p, float *y, const float *x, size_t n)
{
	cu_exp(p->stream, y, x, n);
}

static void draw(struct kern_pool *p, struct kern_draw *draws, int n, const float *logits, int ld,
		 int vocab)
{
	size_t bytes = (size_t)n * sizeof *draws;

	if (n <= 0 || !cu_lend(p, bytes))
		return;
	memcpy(p->lent, draws, bytes);
	cu_fail("draws", (int)cudaMemcpyAsync(p->lent_there, p->lent, bytes,
					      cudaMemcpyHostToDevice, p->stream));
	cu_draw(p->stream, p->lent_there, n, logits, ld, vocab);
	take_lent(p, bytes);
	memcpy(draws, p->lent, bytes);
}

static void row_lse(struct kern_pool *p, float *max, float *lse, const float *x, int ldx, int rows,
		    int width)
{
	cu_row_lse(p->stream, max, lse, x, ldx, rows, width);
}

/* --- the tables ------------------------------------------------------------------------------- */

#define TABLE(name_, act_, open_)                                                                  \
	{                                                                                          \
		.name = name_, .act = act_, .host = false, .open = open_, .close = cu_close,       \
		.describe = cu_describe, .fault = cu_fault, .stream = stream, .room = cu_room,     \
		.alloc = cu_alloc,                                                                 \
		.release = cu_release, .put = cu_put, .get = cu_get, .copy = cu_copy,              \
		.zero = cu_zero, .pin = cu_pin, .unpin = cu_unpin, .snap = cu_snap,                \
		.snapped = cu_snapped, .graph_run = cu_graph_run, .graph_begin = cu_graph_begin,   \
		.graph_end = cu_graph_end, .narrow = narrow, .widen = widen, .gemm_nt = cu_gemm_nt, \
		.gemm_nn = cu_gemm_nn, .gemm_tn = cu_gemm_tn, .has_format = has_format,            \
		.pack_size = cu_pack_size, .pack = pack, .gemm_packed = cu_gemm_packed,            \
		.logits = cu_gemm_logits,                                                          \
		.gemm_packed_back = cu_gemm_packed_back, .embed_packed = embed_packed,             \
		.rmsnorm = rmsnorm, .rmsnorm_back = rmsnorm_back, .rope = rope, .swiglu = swiglu,  \
		.swiglu_back = swiglu_back, .attn = attn, .attn_back = attn_back,                  \
		.attn_paged = attn_paged, .kv_store = kv_store, .embed = embed,                    \
		.embed_back = embed_back, .gather = gather, .spread = spread,                      \
		.logprob = cu_logprob, .add = add, .scale = scale, .bias = bias,                   \
		.bias_back = bias_back, .dropout = dropout, .adamw = adamw, .sumsq = sumsq,        \
		.vexp = vexp, .draw = draw, .row_lse = row_lse, .scratch = cu_scratch_most,        \
	}

static const struct kern cuda = TABLE("cuda", KERN_BF16, open_bf16);
static const struct kern cuda_steady = TABLE("cuda-steady", KERN_BF16, open_steady);
static const struct kern cuda_f32 = TABLE("cuda-f32", KERN_F32, open_f32);
static const struct kern *const tables[] = {&cuda, &cuda_steady, &cuda_f32, NULL};

static int devices(char *why, size_t size)
{
	int n = 0;
	cudaError_t e = cudaGetDeviceCount(&n);

	if (e == cudaSuccess && n > 0)
		return n;
	(void)cudaGetLastError();
	snprintf(why, size, "no CUDA device: %s",
		 e == cudaSuccess ? "none is visible" : cudaGetErrorString(e));
	return 0;
}

const struct kern_gpu pawl_gpu = {
	.version = KERN_GPU_VERSION,
	.table_size = sizeof(struct kern),
	.tables = tables,
	.devices = devices,
};
