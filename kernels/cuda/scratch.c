/* How much scratch operations will ask for, known from sizes alone. Each use grows to the most that
 * one operation wants; see cu_scratch(). */
#include "kernels/cuda/ops.h"

#define LEAST ((size_t)1 << 20) /* a use is never smaller */

static size_t most(size_t a, size_t b)
{
	return a > b ? a : b;
}

static size_t bytes_of(enum kern_format f)
{
	return f == KERN_F32 ? 4 : 2;
}

/* Rows and columns of a layer's four products, the output head being the fifth. */
static size_t weight_numbers(const struct kern_sizes *s, int which, int *n, int *k)
{
	int hd = s->heads * s->head_dim, qkv = hd + 2 * s->kv_heads * s->head_dim;
	const int shape[5][2] = {{qkv, s->width},
				 {s->width, hd},
				 {2 * s->ffn, s->width},
				 {s->width, s->ffn},
				 {s->vocab, s->width}};

	*n = shape[which][0];
	*k = shape[which][1];
	return (size_t)*n * (size_t)*k;
}

/* Factors: weights that are opened, slices of few rows, what a float table rounds. */
static size_t factors(enum kern_format act, const struct kern_sizes *s)
{
	size_t all = 0;
	int n, k;

	for (int i = 0; i < 5; i++) {
		size_t numbers = weight_numbers(s, i, &n, &k), rows = (size_t)s->rows;

		if (s->packed && s->weights == KERN_Q8 && i < 4)
			all = most(all, numbers * bytes_of(act));
		if (s->packed && s->weights == KERN_FP8)
			all = most(all, act == KERN_BF16 && n % 16 == 0 && k % 16 == 0
						? cu_fp8_scratch(s->rows, n, k)
						: numbers * bytes_of(act));
		if (s->packed)
			all = most(all, cu_small_scratch(s->rows, n, k) + 64);
		if (act == KERN_F32 && s->weights != KERN_F32)
			all = most(all, 2 * (numbers + rows * (size_t)(n + k)));
	}
	return all;
}

static size_t attention(enum kern_format act, const struct kern_sizes *s)
{
	struct kern_attn a = {.n_tokens = s->rows, .heads = s->heads, .head_dim = s->head_dim};
	struct kern_paged p = {.kv = act,
			       .rows = s->rows,
			       .heads = s->heads,
			       .kv_heads = s->kv_heads,
			       .head_dim = s->head_dim,
			       .most_keys = s->keys,
			       .runs = s->rows};

	return s->keys > 0 ? cu_attn_paged_scratch(act, &p, s->rows) : cu_attn_back_scratch(&a);
}

static size_t sums(const struct kern_sizes *s)
{
	int qkv = (s->heads + 2 * s->kv_heads) * s->head_dim;
	size_t all = cu_sumsq_scratch(s->trained);

	all = most(all, cu_rmsnorm_back_scratch(s->rows, s->width));
	return most(all, cu_bias_back_scratch(s->rows, qkv));
}

size_t cu_scratch_most(enum kern_format act, const struct kern_sizes *s)
{
	size_t op = most(attention(act, s), cu_head_scratch(act, s->targets, s->vocab));
	size_t zeros = CU_SMALL_COUNTS;

	if (s->keys > 0)
		zeros = most(zeros, cu_attn_paged_counts(s->rows, s->heads));
	else
		op = most(op, sums(s));
	return most(op, LEAST) + most(factors(act, s), LEAST) + most(zeros, LEAST) + CU_LENT_LEAST;
}
