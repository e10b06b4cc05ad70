/* Output head with log-probabilities, element-wise operations, AdamW, sums; compiled once per
 * instruction set.
 */

#define LOGITS_MAX (4u << 20) /* floats of logits held at a time: 16 MiB */

/* --- Output head ------------------------------------------------------------------------------ */

struct head_rows {
	const struct kern_logprob *a;
	float *logits;
	int from;
};

/* One row of logits: its log-probability, then (with g) the logits become g (onehot - p). */
static void head_item(void *ctx, int item, int thread)
{
	const struct head_rows *c = ctx;
	const struct kern_logprob *a = c->a;
	int r = c->from + item, n = a->vocab;
	float *x = c->logits + (size_t)item * (size_t)n;
	float max = row_max(x, n), mine = x[a->target[r]];
	float sum = row_exp_sum(a->g ? x : NULL, x, n, max);

	(void)thread;
	a->logp[r] = mine - (max + logf(sum));
	if (a->hit)
		a->hit[r] = mine == max;
	if (!a->g)
		return;
	VEC scale = v_set(-a->g[r] / sum);
	for (int i = 0; i < n; i += 16) {
		int l = lanes_left(i, n);

		v_store_l(x + i, v_mul(v_load_l(x + i, l), scale), l);
	}
	x[a->target[r]] += a->g[r];
}

static void logprob(struct kern_pool *pool, const struct kern_logprob *a)
{
	int per = (int)(LOGITS_MAX / (unsigned)a->vocab);
	struct head_rows c = {.a = a};

	per = per < 96 ? 96 : per / 96 * 96;
	per = per < a->rows ? per : a->rows;
	c.logits = kern_pool_scratch(pool, KERN_SCRATCH_BIG,
				     (size_t)per * (size_t)a->vocab * sizeof(float));
	for (; c.from < a->rows; c.from += per) {
		int n = a->rows - c.from < per ? a->rows - c.from : per;
		const float *h = a->h + (size_t)c.from * (size_t)a->width;

		gemm_nt(pool, c.logits, a->vocab, h, a->width, a->w, a->width, n, a->vocab,
			a->width, false);
		kern_pool_run(pool, head_item, &c, n);
		if (!a->g)
			continue;
		gemm_nn(pool, a->dh + (size_t)c.from * (size_t)a->width, a->width, c.logits,
			a->vocab, a->w, a->width, n, a->vocab, a->width, false);
		gemm_tn(pool, a->dw, a->width, c.logits, a->vocab, h, a->width, n, a->vocab,
			a->width, true);
	}
}

/* --- Element-wise ----------------------------------------------------------------------------- */

struct elements {
	float *y;
	const float *x;
	size_t n;
	float p;
	uint32_t key[2], stream[2];
	double *sums;
};

static int blocks_of(size_t n, size_t block)
{
	return (int)((n + block - 1) / block);
}

static void add_item(void *ctx, int item, int thread)
{
	const struct elements *a = ctx;
	size_t from = (size_t)item * BLOCK, to = from + BLOCK < a->n ? from + BLOCK : a->n;

	(void)thread;
	for (size_t i = from; i < to; i++)
		a->y[i] += a->x[i];
}

static void add(struct kern_pool *pool, float *y, const float *x, size_t n)
{
	struct elements a = {.y = y, .x = x, .n = n};

	kern_pool_run(pool, add_item, &a, blocks_of(n, BLOCK));
}

/* Philox4x32-10 (Salmon et al. 2011) of sixteen counters at once: n, n + 1, ...; the loops over
 * lanes are what the compiler vectorises. */
#define PHILOX_LANES 16

static void philox_lanes(const uint32_t key[2], uint64_t n, const uint32_t stream[2],
			 uint32_t out[4][PHILOX_LANES])
{
	uint32_t k0 = key[0], k1 = key[1];

	for (int j = 0; j < PHILOX_LANES; j++) {
		out[0][j] = (uint32_t)(n + (uint64_t)j);
		out[1][j] = (uint32_t)((n + (uint64_t)j) >> 32);
		out[2][j] = stream[0];
		out[3][j] = stream[1];
	}
	for (int i = 0; i < 10; i++) {
		for (int j = 0; j < PHILOX_LANES; j++) {
			uint64_t a = (uint64_t)0xD2511F53 * out[0][j];
			uint64_t b = (uint64_t)0xCD9E8D57 * out[2][j];
			uint32_t x1 = out[1][j], x3 = out[3][j];

			out[0][j] = (uint32_t)(b >> 32) ^ x1 ^ k0;
			out[1][j] = (uint32_t)b;
			out[2][j] = (uint32_t)(a >> 32) ^ x3 ^ k1;
			out[3][j] = (uint32_t)a;
		}
		k0 += 0x9E3779B9;
		k1 += 0xBB67AE85;
	}
}

static void dropout_item(void *ctx, int item, int thread)
{
	const struct elements *a = ctx;
	size_t from = (size_t)item * BLOCK, to = from + BLOCK < a->n ? from + BLOCK : a->n;
	uint32_t bound = (uint32_t)((double)a->p * 4294967296.0);
	float keep = 1.0f / (1.0f - a->p);

	(void)thread;
	for (size_t i = from; i < to; i += 4 * PHILOX_LANES) {
		size_t n = to - i < 4 * PHILOX_LANES ? to - i : 4 * PHILOX_LANES;
		uint32_t word[4][PHILOX_LANES];

		philox_lanes(a->key, i / 4, a->stream, word);
		for (size_t j = 0; j < n; j++)
			a->y[i + j] = word[j % 4][j / 4] < bound ? 0 : a->y[i + j] * keep;
	}
}

static void dropout(struct kern_pool *pool, float *x, size_t n, float p, const uint32_t key[2],
		    const uint32_t stream[2])
{
	struct elements a = {
		.y = x, .n = n, .p = p, .key = {key[0], key[1]}, .stream = {stream[0], stream[1]}};

	if (p > 0)
		kern_pool_run(pool, dropout_item, &a, blocks_of(n, BLOCK));
}

/* --- AdamW (Loshchilov and Hutter 2019): decay is not part of the gradient -------------------- */

static void adamw_item(void *ctx, int item, int thread)
{
	const struct kern_adamw *a = ctx;
	size_t from = (size_t)item * BLOCK, to = from + BLOCK < a->n ? from + BLOCK : a->n;
	VEC b1 = v_set(a->beta1), b2 = v_set(a->beta2), scale = v_set(a->grad_scale);
	VEC c1 = v_set(1 - a->beta1), c2 = v_set(1 - a->beta2), eps = v_set(a->eps);
	VEC u1 = v_set(1 / a->bias1), u2 = v_set(1 / a->bias2);
	VEC shrink = v_set(1 - a->lr * a->decay), lr = v_set(a->lr);

	(void)thread;
	for (size_t i = from; i < to; i += 16) {
		int l = to - i < 16 ? (int)(to - i) : 16;
		VEC g = v_mul(v_load_l(a->g + i, l), scale);
		VEC m = v_fma(b1, v_load_l(a->m + i, l), v_mul(c1, g));
		VEC v = v_fma(b2, v_load_l(a->v + i, l), v_mul(c2, v_mul(g, g)));
		VEC step = v_div(v_mul(m, u1), v_add(v_sqrt(v_mul(v, u2)), eps));
		VEC p = v_mul(v_load_l(a->p + i, l), shrink);

		v_store_l(a->m + i, m, l);
		v_store_l(a->v + i, v, l);
		v_store_l(a->p + i, v_sub(p, v_mul(lr, step)), l);
	}
}

static void adamw(struct kern_pool *pool, const struct kern_adamw *a)
{
	kern_pool_run(pool, adamw_item, (void *)(uintptr_t)a, blocks_of(a->n, BLOCK));
}

/* --- Sum of squares --------------------------------------------------------------------------- */

#define SUM_BLOCK 4096

static void sumsq_item(void *ctx, int item, int thread)
{
	const struct elements *a = ctx;
	size_t from = (size_t)item * SUM_BLOCK;
	size_t to = from + SUM_BLOCK < a->n ? from + SUM_BLOCK : a->n;
	double lane[8] = {0};
	size_t i = from;

	(void)thread;
	for (; i + 8 <= to; i += 8)
		for (int j = 0; j < 8; j++)
			lane[j] += (double)a->x[i + (size_t)j] * (double)a->x[i + (size_t)j];
	for (int j = 0; i < to; i++, j++)
		lane[j] += (double)a->x[i] * (double)a->x[i];
	a->sums[item] = ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
			((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

static double sumsq(struct kern_pool *pool, const float *x, size_t n)
{
	int blocks = blocks_of(n, SUM_BLOCK);
	struct elements a = {.x = x, .n = n};
	double sum = 0;

	a.sums = kern_pool_scratch(pool, KERN_SCRATCH_LIST, (size_t)blocks * sizeof *a.sums);
	kern_pool_run(pool, sumsq_item, &a, blocks);
	for (int i = 0; i < blocks; i++)
		sum += a.sums[i];
	return sum;
}
