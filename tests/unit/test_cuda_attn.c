/* CUDA attention over packed sequences, in the emulator: against double precision, and bits that do
 * not depend on the pack or on the order of threads.
 */
#include "tests/cuda_util.h"

enum { SEQS_MAX = 5 };

struct shape {
	int heads, kv_heads, d, window;
	int len[SEQS_MAX];	/* ends with 0 */
	int fork[SEQS_MAX][2];	/* all zeros: none */
	int shift;		/* elements that arrays begin behind an aligned address */
};

static const struct shape shapes[] = {
	{2, 1, 32, 0, {1, 70, 3, 130}, {{0}}, 0},
	{4, 4, 64, 0, {65, 64, 127}, {{0}}, 0},
	{6, 2, 48, 20, {100, 33}, {{0}}, 0},
	{2, 2, 128, 0, {150, 17}, {{0}}, 0},
	{8, 1, 32, 70, {200}, {{0}}, 0},
	{3, 1, 96, 0, {90}, {{0}}, 0},
	{2, 1, 256, 0, {70, 5}, {{0}}, 0},
	{2, 2, 64, 0, {190, 60, 140}, {{64, 128}, {10, 30}, {5, 140}}, 0},
	{4, 2, 32, 0, {260, 40}, {{100, 230}, {0, 0}}, 0},
	{2, 1, 50, 0, {80, 9}, {{0}}, 0},
	{2, 1, 64, 0, {70, 30}, {{0}}, 2},
	{2, 2, 160, 40, {75}, {{0}}, 0},
};
#define N_SHAPES (sizeof shapes / sizeof shapes[0])

/* A pack with everything on the host and on the device. */
struct pack {
	struct shape s;
	enum kern_format act;
	struct kern_attn a;
	int ld, width, tokens;
	size_t n_qkv, n_out;
	float *qkv, *dout; /* host; rounded as on the device */
	void *dev_qkv, *dev_dout, *dev_out, *dev_dqkv, *scratch;
	int32_t cu[SEQS_MAX + 1];
};

static void *behind(const struct pack *p, void *array)
{
	return (char *)array + (size_t)p->s.shift * act_size(p->act);
}

static struct pack make_pack(struct shape s, enum kern_format act, uint32_t seed)
{
	struct pack p = {.s = s, .act = act, .ld = (s.heads + 2 * s.kv_heads) * s.d};
	size_t e = act_size(act), q = (size_t)(s.heads * s.d) * e, kv = (size_t)(s.kv_heads * s.d) * e;
	bool forks = false;

	p.width = s.heads * s.d;
	for (; p.a.n_seqs < SEQS_MAX && s.len[p.a.n_seqs]; p.a.n_seqs++) {
		p.tokens += s.len[p.a.n_seqs];
		p.cu[p.a.n_seqs + 1] = p.tokens;
		p.a.longest = p.a.longest > s.len[p.a.n_seqs] ? p.a.longest : s.len[p.a.n_seqs];
		forks = forks || s.fork[p.a.n_seqs][1];
	}
	p.n_qkv = (size_t)(p.tokens * p.ld + s.shift);
	p.n_out = (size_t)(p.tokens * p.width + s.shift);
	p.qkv = numbers(p.n_qkv, seed);
	p.dout = numbers(p.n_out, seed + 1);
	for (size_t i = 0; i < p.n_qkv; i++)
		p.qkv[i] *= 2;
	p.dev_qkv = dev_act(act, p.qkv, p.n_qkv);
	p.dev_dout = dev_act(act, p.dout, p.n_out);
	p.dev_out = dev_new(p.n_out * e);
	p.dev_dqkv = dev_new(p.n_qkv * e);
	p.a.n_tokens = p.tokens;
	p.a.cu = dev_put(p.cu, sizeof p.cu);
	p.a.fork = forks ? dev_put(s.fork, sizeof s.fork) : NULL;
	p.a.heads = s.heads;
	p.a.kv_heads = s.kv_heads;
	p.a.head_dim = s.d;
	p.a.window = s.window;
	p.a.scale = 1 / sqrtf((float)s.d);
	p.a.ldq = p.a.ldk = p.a.ldv = p.ld;
	p.a.q = behind(&p, p.dev_qkv);
	p.a.k = (const char *)p.a.q + q;
	p.a.v = (const char *)p.a.k + kv;
	p.a.out = behind(&p, p.dev_out);
	p.a.lse = dev_new((size_t)(s.heads * p.tokens) * sizeof(float));
	p.a.dout = behind(&p, p.dev_dout);
	p.a.dq = behind(&p, p.dev_dqkv);
	p.a.dk = (char *)p.a.dq + q;
	p.a.dv = (char *)p.a.dk + kv;
	p.scratch = dev_new(cu_attn_back_scratch(&p.a));
	return p;
}

static void free_pack(struct pack *p)
{
	guarded_free(p->qkv);
	guarded_free(p->dout);
	dev_free(p->dev_qkv);
	dev_free(p->dev_dout);
	dev_free(p->dev_out);
	dev_free(p->dev_dqkv);
	dev_free(p->a.lse);
	dev_free(p->scratch);
	dev_free((void *)(uintptr_t)p->a.cu);
	if (p->a.fork)
		dev_free((void *)(uintptr_t)p->a.fork);
}

static bool sees(const struct shape *s, int seq, int i, int j)
{
	const int *fork = s->fork[seq];

	return j <= i && (s->window <= 0 || j > i - s->window) &&
	       !(fork[1] && i >= fork[1] && j >= fork[0] && j < fork[1]);
}

static double dot(const float *a, const float *b, int n)
{
	double s = 0;

	for (int c = 0; c < n; c++)
		s += (double)a[c] * (double)b[c];
	return s;
}

/* Results by the definition. */
struct want {
	double *out, *lse, *dqkv;
};

/* Query head h of row i of sequence seq, rows of which begin at `start`. */
static void want_row(const struct pack *p, const struct want *w, int seq, int start, int h, int i)
{
	const struct shape *s = &p->s;
	int d = s->d, kv = h / (s->heads / s->kv_heads);
	size_t row = (size_t)(start + i), ld = (size_t)p->ld;
	const float *qkv = p->qkv + s->shift, *q = qkv + row * ld + h * d;
	const float *dout = p->dout + s->shift + row * (size_t)p->width + h * d;
	double *out = w->out + row * (size_t)p->width + h * d, sum = 0, delta = 0, *weight;
	double *dq = w->dqkv + row * ld + h * d;

	weight = calloc((size_t)i + 1, sizeof *weight);
	CHECK(weight);
	for (int j = 0; j <= i; j++) {
		const float *k = qkv + (size_t)(start + j) * ld + (s->heads + kv) * d;

		if (sees(s, seq, i, j))
			sum += weight[j] = exp((double)p->a.scale * dot(q, k, d));
	}
	w->lse[(size_t)(h * p->tokens) + row] = log(sum);
	for (int j = 0; j <= i; j++) {
		const float *v = qkv + (size_t)(start + j) * ld + (s->heads + s->kv_heads + kv) * d;

		weight[j] /= sum;
		for (int c = 0; c < d; c++)
			out[c] += weight[j] * (double)v[c];
	}
	for (int c = 0; c < d; c++)
		delta += out[c] * (double)dout[c];
	for (int j = 0; j <= i; j++) {
		size_t at = (size_t)(start + j) * ld + (size_t)((s->heads + kv) * d);
		const float *k = qkv + at, *v = k + s->kv_heads * d;
		double ds = weight[j] * (dot(dout, v, d) - delta) * (double)p->a.scale;

		for (int c = 0; c < d; c++) {
			dq[c] += ds * (double)k[c];
			w->dqkv[at + (size_t)c] += ds * (double)q[c];
			w->dqkv[at + (size_t)(s->kv_heads * d + c)] += weight[j] * (double)dout[c];
		}
	}
	free(weight);
}

static struct want make_want(const struct pack *p)
{
	struct want w = {calloc(p->n_out, sizeof(double)),
			 calloc((size_t)(p->s.heads * p->tokens), sizeof(double)),
			 calloc(p->n_qkv, sizeof(double))};

	CHECK(w.out && w.lse && w.dqkv);
	for (int s = 0; s < p->a.n_seqs; s++)
		for (int h = 0; h < p->s.heads; h++)
			for (int i = 0; i < p->s.len[s]; i++)
				want_row(p, &w, s, p->cu[s], h, i);
	return w;
}

/* The three parts of a row of dqkv apart: dq is small beside dv. */
static void check_parts(const struct pack *p, const float *got, const double *want, double bound)
{
	int at[4] = {0, p->s.heads * p->s.d, (p->s.heads + p->s.kv_heads) * p->s.d, p->ld};

	for (int part = 0; part < 3; part++) {
		size_t n = (size_t)(at[part + 1] - at[part]), all = n * (size_t)p->tokens;
		float *g = malloc(all * sizeof *g);
		double *w = malloc(all * sizeof *w);

		CHECK(g && w);
		for (int t = 0; t < p->tokens; t++) {
			memcpy(g + (size_t)t * n, got + t * p->ld + at[part], n * sizeof *g);
			memcpy(w + (size_t)t * n, want + t * p->ld + at[part], n * sizeof *w);
		}
		CHECK_ERROR(g, w, all, bound);
		free(g);
		free(w);
	}
}

static void against_double(enum kern_format act, double bound)
{
	for (size_t i = 0; i < N_SHAPES; i += TEST_STRIDE(2)) {
		struct pack p = make_pack(shapes[i], act, (uint32_t)(100 + i));
		struct want w = make_want(&p);
		size_t n_lse = (size_t)(p.s.heads * p.tokens);

		cuemu_order((unsigned)i);
		cu_attn(NULL, act, &p.a);
		cu_attn_back(NULL, act, &p.a, p.scratch);
		float *out = dev_floats(act, p.a.out, p.n_out - (size_t)p.s.shift);
		float *lse = dev_floats(KERN_F32, p.a.lse, n_lse);
		float *dqkv = dev_floats(act, p.a.dq, p.n_qkv - (size_t)p.s.shift);
		printf("# shape %zu: out %.2g, lse %.2g, gradients %.2g\n", i,
		       error_of(out, w.out, p.n_out - (size_t)p.s.shift), error_of(lse, w.lse, n_lse),
		       error_of(dqkv, w.dqkv, p.n_qkv - (size_t)p.s.shift));
		CHECK_ERROR(out, w.out, p.n_out - (size_t)p.s.shift, bound);
		CHECK_ERROR(lse, w.lse, n_lse, 2e-6);
		check_parts(&p, dqkv, w.dqkv, bound);
		free(out);
		free(lse);
		free(dqkv);
		free(w.out);
		free(w.lse);
		free(w.dqkv);
		free_pack(&p);
	}
}

void test_cuda_attn__f32_against_double(void)
{
	against_double(KERN_F32, 2e-6);
}

void test_cuda_attn__bf16_against_double(void)
{
	against_double(KERN_BF16, 6e-3);
}

/* Everything a pack gives: out, lse, dqkv as bytes, of its rows [from, to). The caller frees. */
static char *bits_of(const struct pack *p, int from, int to, size_t *size)
{
	size_t e = act_size(p->act), out = (size_t)p->width * e, qkv = (size_t)p->ld * e;
	size_t rows = (size_t)(to - from), heads = (size_t)p->s.heads;
	char *bits = malloc(rows * (out + qkv + heads * sizeof(float))), *at = bits;

	CHECK(bits);
	dev_get(at, (const char *)p->a.out + (size_t)from * out, rows * out);
	at += rows * out;
	dev_get(at, (const char *)p->a.dq + (size_t)from * qkv, rows * qkv);
	at += rows * qkv;
	for (size_t h = 0; h < heads; h++, at += rows * sizeof(float))
		dev_get(at, p->a.lse + h * (size_t)p->tokens + from, rows * sizeof(float));
	*size = (size_t)(at - bits);
	return bits;
}

static char *run_bits(const struct pack *p, int from, int to, size_t *size)
{
	cu_attn(NULL, p->act, &p->a);
	cu_attn_back(NULL, p->act, &p->a, p->scratch);
	return bits_of(p, from, to, size);
}

void test_cuda_attn__same_bits_whatever_the_order_of_threads(void)
{
	static const enum kern_format acts[] = {KERN_F32, KERN_BF16};

	for (int i = 0; i < 2; i++) {
		struct pack p = make_pack(shapes[7], acts[i], 7);
		size_t n, m;
		char *want, *got;

		cuemu_order(0);
		want = run_bits(&p, 0, p.tokens, &n);
		for (unsigned order = 1; order < 4; order++) {
			cuemu_order(order);
			got = run_bits(&p, 0, p.tokens, &m);
			CHECK(n == m && memcmp(want, got, n) == 0);
			free(got);
		}
		free(want);
		free_pack(&p);
	}
}

/* The second sequence of a pack alone. */
void test_cuda_attn__same_bits_alone_and_in_a_pack(void)
{
	static const enum kern_format acts[] = {KERN_F32, KERN_BF16};
	static const size_t some[] = {1, 2, 3, 7};

	for (int i = 0; i < 8; i++) {
		struct shape s = shapes[some[i / 2]];
		struct pack all = make_pack(s, acts[i % 2], 9), one;
		size_t e = act_size(acts[i % 2]), n, m, row = (size_t)all.cu[1];
		int len = s.len[1];
		char *want, *got;

		memset(s.len, 0, sizeof s.len);
		s.len[0] = len;
		memcpy(s.fork[0], s.fork[1], sizeof s.fork[0]);
		one = make_pack(s, acts[i % 2], 10);
		CHECK_EQ(cudaMemcpy(one.dev_qkv, (char *)all.dev_qkv + row * (size_t)all.ld * e,
				    (size_t)(len * all.ld) * e, cudaMemcpyDeviceToDevice),
			 cudaSuccess);
		CHECK_EQ(cudaMemcpy(one.dev_dout, (char *)all.dev_dout + row * (size_t)all.width * e,
				    (size_t)(len * all.width) * e, cudaMemcpyDeviceToDevice),
			 cudaSuccess);
		want = run_bits(&all, all.cu[1], all.cu[2], &n);
		got = run_bits(&one, 0, len, &m);
		CHECK(n == m && memcmp(want, got, n) == 0);
		free(want);
		free(got);
		free_pack(&all);
		free_pack(&one);
	}
}
