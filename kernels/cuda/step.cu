// Launchers of step.cuh.
#include "kernels/cuda/step.cuh"
#include "kernels/cuda/words.cuh"

extern "C" void cu_add(cu_stream stream, enum kern_format act, void *y, const void *x, size_t n)
{
	CU_PICK(act, wide_enough(y, x),
		CU_LAUNCH((add_k<T, V>), step_blocks(n, V), STEP_THREADS, 0, stream, (T *)y,
			  (const T *)x, n));
}

extern "C" void cu_scale(cu_stream stream, enum kern_format act, void *x, size_t n, float by)
{
	CU_PICK(act, wide_enough(x),
		CU_LAUNCH((scale_k<T, V>), step_blocks(n, V), STEP_THREADS, 0, stream, (T *)x, n,
			  by));
}

extern "C" void cu_narrow(cu_stream stream, void *y, const float *x, size_t n)
{
	if (wide_enough(y, x))
		CU_LAUNCH(narrow_k<4>, step_blocks(n, 4), STEP_THREADS, 0, stream, (bf16 *)y, x, n);
	else
		CU_LAUNCH(narrow_k<1>, step_blocks(n, 1), STEP_THREADS, 0, stream, (bf16 *)y, x, n);
}

extern "C" void cu_widen(cu_stream stream, float *y, const void *x, size_t n)
{
	if (wide_enough(y, x))
		CU_LAUNCH(widen_k<4>, step_blocks(n, 4), STEP_THREADS, 0, stream, y,
			  (const bf16 *)x, n);
	else
		CU_LAUNCH(widen_k<1>, step_blocks(n, 1), STEP_THREADS, 0, stream, y,
			  (const bf16 *)x, n);
}

static __global__ void exp_k(float *y, const float *x, size_t n)
{
	each_vector<1>(n, [=](size_t i, int) { y[i] = exp_poly(x[i]); });
}

extern "C" void cu_exp(cu_stream stream, float *y, const float *x, size_t n)
{
	CU_LAUNCH(exp_k, step_blocks(n, 1), STEP_THREADS, 0, stream, y, x, n);
}

template <class T>
static void dropout(cu_stream stream, T *x, size_t n, uint32_t bound, float keep, const philox &p)
{
	if (wide_enough(x))
		CU_LAUNCH((dropout_k<T, true>), step_blocks(n, 4), STEP_THREADS, 0, stream, x, n,
			  bound, keep, p);
	else
		CU_LAUNCH((dropout_k<T, false>), step_blocks(n, 4), STEP_THREADS, 0, stream, x, n,
			  bound, keep, p);
}

extern "C" void cu_dropout(cu_stream stream, enum kern_format act, void *x, size_t n, float p,
			   const uint32_t key[2], const uint32_t words[2])
{
	philox counter = {{key[0], key[1]}, {words[0], words[1]}};
	uint32_t bound = (uint32_t)((double)p * 4294967296.0);

	if (!(p > 0))
		return;
	if (act == KERN_F32)
		dropout(stream, (float *)x, n, bound, 1.0f / (1.0f - p), counter);
	else
		dropout(stream, (bf16 *)x, n, bound, 1.0f / (1.0f - p), counter);
}

// --- AdamW ---------------------------------------------------------------------------------------

static bool same_step(const struct kern_adamw *a, const struct kern_adamw *b)
{
	return a->grad_scale == b->grad_scale && a->lr == b->lr && a->beta1 == b->beta1 &&
	       a->beta2 == b->beta2 && a->eps == b->eps && a->decay == b->decay &&
	       a->bias1 == b->bias1 && a->bias2 == b->bias2;
}

static void adamw_launch(cu_stream stream, enum kern_format act, const adamw_batch *b, bool is_wide)
{
	unsigned blocks = b->first[b->tensors];

	if (act == KERN_F32 && is_wide)
		CU_LAUNCH((adamw_k<float, true>), blocks, STEP_THREADS, 0, stream, *b);
	else if (act == KERN_F32)
		CU_LAUNCH((adamw_k<float, false>), blocks, STEP_THREADS, 0, stream, *b);
	else if (is_wide)
		CU_LAUNCH((adamw_k<bf16, true>), blocks, STEP_THREADS, 0, stream, *b);
	else
		CU_LAUNCH((adamw_k<bf16, false>), blocks, STEP_THREADS, 0, stream, *b);
}

extern "C" void cu_adamw(cu_stream stream, enum kern_format act, const struct kern_adamw *a, int n)
{
	for (int from = 0; from < n;) {
		const struct kern_adamw *s = &a[from];
		adamw_batch b = {};
		bool is_wide = true;

		b.grad_scale = s->grad_scale;
		b.beta1 = s->beta1;
		b.beta2 = s->beta2;
		b.c1 = 1 - s->beta1;
		b.c2 = 1 - s->beta2;
		b.u1 = 1 / s->bias1;
		b.u2 = 1 / s->bias2;
		b.eps = s->eps;
		b.shrink = 1 - s->lr * s->decay;
		b.lr = s->lr;
		for (; from < n && b.tensors < ADAMW_TENSORS && same_step(&a[from], s); from++) {
			const struct kern_adamw *t = &a[from];
			int i = b.tensors++;

			b.p[i] = t->p;
			b.m[i] = t->m;
			b.v[i] = t->v;
			b.g[i] = t->g;
			b.working[i] = t->working;
			b.n[i] = t->n;
			b.first[i + 1] =
				b.first[i] + (unsigned)((t->n + ADAMW_BLOCK - 1) / ADAMW_BLOCK);
			is_wide = is_wide && wide_enough(t->p, t->m, t->v, t->g, t->working);
		}
		adamw_launch(stream, act, &b, is_wide);
	}
}

// --- Sums of squares -----------------------------------------------------------------------------

static int sum_blocks(size_t n)
{
	return (int)((n + SUM_BLOCK - 1) / SUM_BLOCK);
}

extern "C" size_t cu_sumsq_scratch(size_t n)
{
	return (size_t)sum_blocks(n) * sizeof(double);
}

extern "C" void cu_sumsq(cu_stream stream, double *out, const float *x, size_t n, void *scratch)
{
	int blocks = sum_blocks(n);

	CU_LAUNCH(sumsq_k, ceil_div(blocks, STEP_THREADS / CU_WARP), STEP_THREADS, 0, stream,
		  (double *)scratch, x, n, blocks);
	CU_LAUNCH(sumsq_total_k, 1, STEP_THREADS, 0, stream, out, (const double *)scratch, blocks);
}
