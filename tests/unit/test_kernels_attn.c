/* Attention of every back end: against double precision, gradients against central differences,
 * paged against packed, bits independent of threads, neighbours and chunks.
 */
#include "tests/kern_util.h"

enum { HEADS = 4, KV = 2, DIM = 20, LD = (HEADS + 2 * KV) * DIM };

struct problem {
	int n_seqs, n_tokens, window;
	int32_t cu[8];
	const int32_t *fork; /* [n_seqs][2] or NULL */
	double *qkv;	     /* [T][LD] */
	const float *dout;   /* [T][HEADS*DIM] */
	double *out;
	double *lse;
};

/* Softmax over the visible keys of one query, straight from the definition. */
static bool sees(const struct problem *p, int seq, int i, int j)
{
	const int32_t *f = p->fork ? p->fork + 2 * seq : NULL;

	return !(f && i >= f[1] && j >= f[0] && j < f[1]);
}

static void one_query(const struct problem *p, int seq, int i, int h)
{
	int start = p->cu[seq];
	int from = p->window > 0 && i - p->window + 1 > 0 ? i - p->window + 1 : 0;
	const double *q = p->qkv + (start + i) * LD + h * DIM;
	double s[512], sum = 0, *o = p->out + ((start + i) * HEADS + h) * DIM;

	for (int j = from; j <= i; j++) {
		const double *k = p->qkv + (start + j) * LD + (HEADS + h / (HEADS / KV)) * DIM;

		s[j] = 0;
		for (int c = 0; c < DIM; c++)
			s[j] += q[c] * k[c];
		s[j] = sees(p, seq, i, j) ? exp(s[j] / sqrt(DIM)) : 0;
		sum += s[j];
	}
	memset(o, 0, DIM * sizeof *o);
	for (int j = from; j <= i; j++) {
		const double *v = p->qkv + (start + j) * LD + (HEADS + KV + h / (HEADS / KV)) * DIM;

		for (int c = 0; c < DIM; c++)
			o[c] += s[j] / sum * v[c];
	}
	p->lse[h * p->n_tokens + start + i] = log(sum);
}

static double attention_loss(const struct problem *p)
{
	double loss = 0;

	for (int s = 0; s < p->n_seqs; s++)
		for (int i = 0; i < p->cu[s + 1] - p->cu[s]; i++)
			for (int h = 0; h < HEADS; h++)
				one_query(p, s, i, h);
	for (int i = 0; i < p->n_tokens * HEADS * DIM; i++)
		loss += p->out[i] * (double)p->dout[i];
	return loss;
}

static struct problem make_problem(const int *lens, int n, int window)
{
	struct problem p = {.n_seqs = n, .window = window};

	for (int i = 0; i < n; i++)
		p.cu[i + 1] = p.cu[i] + lens[i];
	p.n_tokens = p.cu[n];
	p.out = calloc((size_t)(p.n_tokens * HEADS * DIM), sizeof *p.out);
	p.lse = calloc((size_t)(p.n_tokens * HEADS), sizeof *p.lse);
	p.qkv = calloc((size_t)(p.n_tokens * LD), sizeof *p.qkv);
	p.dout = numbers((size_t)(p.n_tokens * HEADS * DIM), 77);
	return p;
}

static struct kern_attn arguments(const struct problem *p, const float *qkv, float *out, float *lse,
				  float *grad)
{
	return (struct kern_attn){.n_seqs = p->n_seqs,
				  .n_tokens = p->n_tokens,
				  .cu = p->cu,
				  .heads = HEADS,
				  .kv_heads = KV,
				  .head_dim = DIM,
				  .window = p->window,
				  .fork = p->fork,
				  .scale = 1 / sqrtf(DIM),
				  .q = qkv,
				  .k = qkv + HEADS * DIM,
				  .v = qkv + (HEADS + KV) * DIM,
				  .ldq = LD,
				  .ldk = LD,
				  .ldv = LD,
				  .out = out,
				  .lse = lse,
				  .dout = p->dout,
				  .dq = grad,
				  .dk = grad + HEADS * DIM,
				  .dv = grad + (HEADS + KV) * DIM};
}

static void check_problem(const struct kern *k, struct kern_pool *pool, struct problem *p,
			  int probes)
{
	size_t n_qkv = (size_t)(p->n_tokens * LD), n_out = (size_t)(p->n_tokens * HEADS * DIM);
	float *qkv = numbers(n_qkv, 5), *out = guarded(n_out), *grad = guarded(n_qkv);
	float *lse = guarded((size_t)(p->n_tokens * HEADS));
	struct kern_attn a = arguments(p, qkv, out, lse, grad);
	uint32_t seed = 3;

	for (size_t i = 0; i < n_qkv; i++)
		p->qkv[i] = (double)(qkv[i] *= 2);
	attention_loss(p);
	k->attn(pool, &a);
	check_close(out, p->out, n_out, 5e-6);
	check_close(lse, p->lse, (size_t)(p->n_tokens * HEADS), 2e-6);
	k->attn_back(pool, &a);
	for (int i = 0; i < probes; i++) {
		size_t at = (size_t)((number(&seed) + 1) * 0.4999f * (float)n_qkv);
		double keep = p->qkv[at], up, down;

		p->qkv[at] = keep + 1e-5;
		up = attention_loss(p);
		p->qkv[at] = keep - 1e-5;
		down = attention_loss(p);
		p->qkv[at] = keep;
		CHECK_NEAR((double)grad[at], (up - down) / 2e-5, 5e-5);
	}
	check_guard(out, n_out);
	check_guard(lse, (size_t)(p->n_tokens * HEADS));
	check_guard(grad, n_qkv);
	guarded_free(qkv);
	guarded_free(out);
	guarded_free(lse);
	guarded_free(grad);
}

void test_kernels_attn__short_sequences_and_gradients(void)
{
	static const int lens[] = {1, 5, 2, 17, 3};
	struct kern_pool *pool = kern_pool_new(2);

	EACH_BACKEND(k)
	for (int window = 0; window <= 4; window += 2) {
		struct problem p = make_problem(lens, 5, window);

		check_problem(k, pool, &p, 150);
	}
	kern_pool_free(pool);
}

void test_kernels_attn__long_sequences_and_gradients(void)
{
	static const int lens[] = {130, 64, 48, 49, 65};
	struct kern_pool *pool = kern_pool_new(2);

	EACH_BACKEND(k)
	for (int window = 0; window <= 70; window += 35) {
		struct problem p = make_problem(lens, 5, window);

		check_problem(k, pool, &p, 40);
	}
	kern_pool_free(pool);
}

void test_kernels_attn__bits_do_not_depend_on_threads_or_neighbours(void)
{
	static const int lens[] = {70, 33, 129}, alone[] = {33};
	struct problem p = make_problem(lens, 3, 0), q = make_problem(alone, 1, 0);
	size_t n_qkv = (size_t)(p.n_tokens * LD), n_out = (size_t)(p.n_tokens * HEADS * DIM);
	float *qkv = numbers(n_qkv, 5), *lse = guarded((size_t)(p.n_tokens * HEADS));
	float *out[2] = {guarded(n_out), guarded(n_out)},
	      *grad[2] = {guarded(n_qkv), guarded(n_qkv)};

	EACH_BACKEND(k)
	{
		struct kern_attn a;

		for (int threads = 1; threads <= 4; threads *= 2) {
			struct kern_pool *pool = kern_pool_new(threads);

			a = arguments(&p, qkv, out[threads > 1], lse, grad[threads > 1]);
			k->attn(pool, &a);
			k->attn_back(pool, &a);
			if (threads > 1) {
				check_same(out[0], out[1], n_out);
				check_same(grad[0], grad[1], n_qkv);
			}
			kern_pool_free(pool);
		}
		struct kern_pool *pool = kern_pool_new(1);
		q.dout = p.dout + 70 * HEADS * DIM;
		a = arguments(&q, qkv + 70 * LD, out[1], lse, grad[1]);
		k->attn(pool, &a);
		k->attn_back(pool, &a);
		check_same(out[0] + 70 * HEADS * DIM, out[1], 33 * HEADS * DIM);
		check_same(grad[0] + 70 * LD, grad[1], 33 * LD);
		kern_pool_free(pool);
	}
}

/* Forks within a block, across blocks, of nothing, at the beginning, at the end; and none. */
static const int32_t forks[][2] = {{5, 8}, {70, 160}, {64, 128}, {0, 9}, {30, 60}, {20, 20}};
static const int fork_lens[] = {12, 260, 192, 20, 60, 33};

void test_kernels_attn__forks_and_gradients(void)
{
	struct kern_pool *pool = kern_pool_new(2);

	EACH_BACKEND(k)
	{
		struct problem p = make_problem(fork_lens, 6, 0);

		p.fork = forks[0];
		check_problem(k, pool, &p, 60);
	}
	kern_pool_free(pool);
}

/* Copies rows [0, prompt) and [from, to) of `x`, `width` floats each, to `y`. */
static void ending(float *y, const float *x, int prompt, int from, int to, int width)
{
	size_t w = (size_t)width;

	memcpy(y, x, (size_t)prompt * w * sizeof *y);
	memcpy(y + (size_t)prompt * w, x + (size_t)from * w, (size_t)(to - from) * w * sizeof *y);
}

/* A forked sequence is its two endings alone: outputs, and gradients where they add up. */
void test_kernels_attn__fork_is_two_sequences(void)
{
	enum { PROMPT = 70, FIRST = 160, LEN = 260, W = HEADS * DIM };
	static const int lens[] = {LEN}, apart[] = {FIRST, LEN - FIRST + PROMPT};
	static const int32_t fork[2] = {PROMPT, FIRST};
	struct kern_pool *pool = kern_pool_new(2);
	struct problem p = make_problem(lens, 1, 0), q = make_problem(apart, 2, 0);
	float *qkv = numbers(LEN * LD, 5), *two = guarded((LEN + PROMPT) * LD);
	float *out = guarded(LEN * W), *outs = guarded((LEN + PROMPT) * W);
	float *grad = guarded(LEN * LD), *grads = guarded((LEN + PROMPT) * LD);
	float *dout = guarded((LEN + PROMPT) * W), *lse = guarded((LEN + PROMPT) * HEADS);

	p.fork = fork;
	memcpy(two, qkv, FIRST * LD * sizeof *two);
	ending(two + FIRST * LD, qkv, PROMPT, FIRST, LEN, LD);
	memcpy(dout, p.dout, FIRST * W * sizeof *dout);
	ending(dout + FIRST * W, p.dout, PROMPT, FIRST, LEN, W);
	for (int i = 0; i < PROMPT * W; i++)
		dout[FIRST * W + i] = 0; /* the prompt's own part counts once */
	q.dout = dout;
	EACH_BACKEND(k)
	{
		struct kern_attn a = arguments(&p, qkv, out, lse, grad);
		struct kern_attn b = arguments(&q, two, outs, lse, grads);

		k->attn(pool, &a);
		k->attn_back(pool, &a);
		k->attn(pool, &b);
		k->attn_back(pool, &b);
		check_same(out, outs, FIRST * W);
		for (int i = FIRST * W; i < LEN * W; i++)
			CHECK_NEAR(out[i], outs[i + PROMPT * W], 1e-6);
		for (int i = 0; i < LEN * LD; i++) {
			double want = i < FIRST * LD ? grads[i] : grads[i + PROMPT * LD];

			if (i < PROMPT * LD)
				want += (double)grads[i + FIRST * LD];
			CHECK_NEAR(grad[i], want, 2e-6);
		}
	}
	kern_pool_free(pool);
}

void test_kernels_attn__bits_of_forks_do_not_depend_on_threads_or_neighbours(void)
{
	struct problem p = make_problem(fork_lens, 6, 0), q = make_problem(fork_lens + 1, 1, 0);
	size_t n_qkv = (size_t)(p.n_tokens * LD), n_out = (size_t)(p.n_tokens * HEADS * DIM);
	float *qkv = numbers(n_qkv, 5), *lse = guarded((size_t)(p.n_tokens * HEADS));
	float *out[2] = {guarded(n_out), guarded(n_out)},
	      *grad[2] = {guarded(n_qkv), guarded(n_qkv)};
	int at = fork_lens[0], n = fork_lens[1];

	p.fork = forks[0];
	q.fork = forks[1];
	q.dout = p.dout + at * HEADS * DIM;
	EACH_BACKEND(k)
	for (int threads = 1; threads <= 3; threads++) {
		struct kern_pool *pool = kern_pool_new(threads);
		struct kern_attn a = arguments(&p, qkv, out[threads > 1], lse, grad[threads > 1]);

		k->attn(pool, &a);
		k->attn_back(pool, &a);
		if (threads > 1) {
			check_same(out[0], out[1], n_out);
			check_same(grad[0], grad[1], n_qkv);
		}
		a = arguments(&q, qkv + at * LD, out[1], lse, grad[1]);
		k->attn(pool, &a);
		k->attn_back(pool, &a);
		check_same(out[0] + at * HEADS * DIM, out[1], (size_t)(n * HEADS * DIM));
		check_same(grad[0] + at * LD, grad[1], (size_t)(n * LD));
		kern_pool_free(pool);
	}
}

/* The same sequence through the cache, `chunk` rows at a time, blocks handed out backwards. */
static void run_paged(const struct kern *k, struct kern_pool *pool, const float *qkv, int n,
		      int chunk, int window, float *out)
{
	int blocks = (n + KERN_PAGE - 1) / KERN_PAGE;
	size_t size = (size_t)(blocks * KV * DIM * KERN_PAGE);
	float *kc = guarded(size), *vc = guarded(size);
	int32_t pages[16], pos[256], n_keys[256];
	int32_t first[256];

	memset(kc, 0, size * sizeof *kc);
	memset(vc, 0, size * sizeof *vc);
	for (int b = 0; b < blocks; b++)
		pages[b] = blocks - 1 - b;
	for (int i = 0; i < n; i++) {
		pos[i] = i;
		n_keys[i] = i + 1;
		first[i] = 0;
	}
	for (int i = 0; i < n; i += chunk) {
		int rows = n - i < chunk ? n - i : chunk;
		const float *x = qkv + i * LD;
		struct kern_paged a = {.rows = rows,
				       .heads = HEADS,
				       .kv_heads = KV,
				       .head_dim = DIM,
				       .window = window,
				       .scale = 1 / sqrtf(DIM),
				       .q = x,
				       .ldq = LD,
				       .k = kc,
				       .v = vc,
				       .blocks = pages,
				       .first = first + i,
				       .n_keys = n_keys + i,
				       .most_keys = i + rows,
				       .out = out + i * HEADS * DIM};

		k->kv_store(pool, KERN_F32, kc, vc, x + HEADS * DIM, LD, x + (HEADS + KV) * DIM, LD,
			    pages, first + i, pos + i, rows, KV, DIM);
		k->attn_paged(pool, &a);
	}
	check_guard(kc, size);
	check_guard(vc, size);
	guarded_free(kc);
	guarded_free(vc);
}

void test_kernels_attn__paged_in_any_chunks(void)
{
	static const int lens[] = {150};
	size_t n_out = (size_t)150 * HEADS * DIM;
	float *qkv = numbers((size_t)150 * LD, 5), *out = guarded(n_out), *again = guarded(n_out);

	EACH_BACKEND(k)
	for (int window = 0; window <= 37; window += 37) {
		struct kern_pool *pool = kern_pool_new(2);
		struct problem p = make_problem(lens, 1, window);

		for (int i = 0; i < 150 * LD; i++)
			p.qkv[i] = (double)qkv[i];
		attention_loss(&p);
		run_paged(k, pool, qkv, 150, 150, window, out);
		check_close(out, p.out, n_out, 5e-6);
		check_guard(out, n_out);
		run_paged(k, pool, qkv, 150, 1, window, again);
		check_same(out, again, n_out);
		run_paged(k, pool, qkv, 150, 7, window, again);
		check_same(out, again, n_out);
		kern_pool_free(pool);
	}
}
