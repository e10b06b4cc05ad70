/* The decoder: real models against reference logits, gradients of tiny ones against central
 * differences of a double-precision copy. */
#include "tests/tiny_model.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/str.h"
#include "worker/model/llama.h"

#define TOKENS_MAX 64

static void some_pack(struct pack *p, int vocab)
{
	static const int sizes[][2] = {{3, 4}, {1, 6}, {7, 1}, {2, 9}};
	uint32_t seed = 31;
	struct err e = {0};
	int32_t ids[16];

	CHECK_RC(pack_new(TOKENS_MAX, 8, p, &e), RC_OK);
	for (int s = 0; s < 4; s++) {
		for (int i = 0; i < 16; i++)
			ids[i] = (int32_t)((number(&seed) + 1) * 0.4999f * (float)vocab);
		if (s % 2 == 0)
			pack_add(p, s, ids, sizes[s][0], ids + sizes[s][0], sizes[s][1]);
		else
			pack_add_pair(p, s, ids, sizes[s][0], ids + sizes[s][0], sizes[s][1],
				      ids + 10, 5);
	}
}

/* The key is on the other branch of the sequence's fork. */
static bool hidden(const struct pack *p, int seq, int row, int key)
{
	int from = p->cu[seq] + p->fork[2 * seq], to = p->cu[seq] + p->fork[2 * seq + 1];

	return row >= to && key >= from && key < to;
}

/* --- The decoder once more, in double precision, straight from the formulas ----------------------
 */

struct ref {
	const struct model *m;
	const struct pack *p;
	const float *g;
	double *w; /* weights */
	double x[TOKENS_MAX][64], h[TOKENS_MAX][64];
};

static void ref_norm(const struct ref *r, double *y, const double *x, size_t w)
{
	int n = r->m->cfg.dim;
	double ss = 0;

	for (int i = 0; i < n; i++)
		ss += x[i] * x[i];
	for (int i = 0; i < n; i++)
		y[i] = x[i] / sqrt(ss / n + (double)r->m->cfg.rms_eps) * r->w[w + (size_t)i];
}

static void ref_linear(const struct ref *r, double *y, const double *x, size_t w, int out, int in)
{
	for (int o = 0; o < out; o++) {
		y[o] = 0;
		for (int i = 0; i < in; i++)
			y[o] += r->w[w + (size_t)(o * in + i)] * x[i];
	}
}

static void ref_rope(const struct ref *r, double *x, int pos, int heads)
{
	int d = r->m->cfg.head_dim;

	for (int h = 0; h < heads; h++)
		for (int i = 0; i < d / 2; i++) {
			double a = pos * pow((double)r->m->cfg.rope_theta, -2.0 * i / d);
			double u = x[h * d + i], v = x[h * d + i + d / 2];

			x[h * d + i] = u * cos(a) - v * sin(a);
			x[h * d + i + d / 2] = v * cos(a) + u * sin(a);
		}
}

static void ref_attend(const struct ref *r, double *out, double qkv[][128], int t, int seq)
{
	int start = r->p->cu[seq];
	const struct model_config *c = &r->m->cfg;
	int d = c->head_dim, group = c->n_heads / c->n_kv_heads;

	for (int h = 0; h < c->n_heads; h++) {
		double s[TOKENS_MAX], sum = 0;
		int k = (c->n_heads + h / group) * d, v = k + c->n_kv_heads * d;

		for (int j = start; j <= t; j++) {
			s[j] = 0;
			for (int i = 0; i < d; i++)
				s[j] += qkv[t][h * d + i] * qkv[j][k + i];
			sum += s[j] = hidden(r->p, seq, t, j) ? 0 : exp(s[j] / sqrt(d));
		}
		for (int i = 0; i < d; i++) {
			out[h * d + i] = 0;
			for (int j = start; j <= t; j++)
				out[h * d + i] += s[j] / sum * qkv[j][v + i];
		}
	}
}

static void ref_attention(struct ref *r, const struct model_layer *y)
{
	const struct model_config *c = &r->m->cfg;
	int q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
	static double qkv[TOKENS_MAX][128];

	for (int t = 0; t < r->p->n_tokens; t++) {
		ref_norm(r, r->h[t], r->x[t], y->norm_attn);
		ref_linear(r, qkv[t], r->h[t], y->wq, q + 2 * kv, c->dim);
		for (int i = 0; c->qkv_bias && i < q + 2 * kv; i++)
			qkv[t][i] += r->w[y->bq + (size_t)i];
		ref_rope(r, qkv[t], r->p->pos[t], c->n_heads + c->n_kv_heads);
	}
	for (int s = 0; s < r->p->n_seqs; s++)
		for (int t = r->p->cu[s]; t < r->p->cu[s + 1]; t++) {
			double out[64], o[64];

			ref_attend(r, out, qkv, t, s);
			ref_linear(r, o, out, y->wo, c->dim, q);
			for (int i = 0; i < c->dim; i++)
				r->x[t][i] += o[i];
		}
}

static void ref_ffn(struct ref *r, const struct model_layer *y)
{
	const struct model_config *c = &r->m->cfg;

	for (int t = 0; t < r->p->n_tokens; t++) {
		double gu[128], o[64];

		ref_norm(r, r->h[t], r->x[t], y->norm_ffn);
		ref_linear(r, gu, r->h[t], y->w1, 2 * c->ffn_dim, c->dim);
		for (int i = 0; i < c->ffn_dim; i++)
			gu[i] = gu[i] / (1 + exp(-gu[i])) * gu[c->ffn_dim + i];
		ref_linear(r, o, gu, y->w2, c->dim, c->ffn_dim);
		for (int i = 0; i < c->dim; i++)
			r->x[t][i] += o[i];
	}
}

static double ref_loss(struct ref *r, double *logp)
{
	const struct model_config *c = &r->m->cfg;
	double loss = 0;

	for (int t = 0; t < r->p->n_tokens; t++)
		for (int i = 0; i < c->dim; i++)
			r->x[t][i] = r->w[r->m->embed + (size_t)(r->p->ids[t] * c->dim + i)];
	for (int i = 0; i < c->n_layers; i++) {
		ref_attention(r, &r->m->layers[i]);
		ref_ffn(r, &r->m->layers[i]);
	}
	for (int i = 0; i < r->p->n_targets; i++) {
		double y[64], z[64], sum = 0;

		ref_norm(r, y, r->x[r->p->row[i]], r->m->norm_out);
		ref_linear(r, z, y, r->m->head, c->vocab, c->dim);
		for (int v = 0; v < c->vocab; v++)
			sum += exp(z[v]);
		logp[i] = z[r->p->target[i]] - log(sum);
		loss += logp[i] * (double)r->g[i];
	}
	return loss;
}

static void check_gradients(struct ref *r, const float *grads)
{
	double logp[TOKENS_MAX];

	for (int i = 0; i < r->m->n_tensors; i++) {
		const struct tensor_ref *t = &r->m->tensors[i];
		int n = t->rows * (t->cols ? t->cols : 1);

		for (int j = 0; j < n; j += n / 13 + 1) {
			double *w = &r->w[t->offset + (size_t)j], keep = *w, up, down;

			*w = keep + 1e-5;
			up = ref_loss(r, logp);
			*w = keep - 1e-5;
			down = ref_loss(r, logp);
			*w = keep;
			CHECK_NEAR((double)grads[t->offset + (size_t)j], (up - down) / 2e-5, 2e-4);
		}
	}
}

static void check_tensors_same(const struct model *m, const float *a, const float *b)
{
	for (int i = 0; i < m->n_tensors; i++) {
		const struct tensor_ref *t = &m->tensors[i];

		check_same(a + t->offset, b + t->offset,
			   (size_t)t->rows * (t->cols ? (size_t)t->cols : 1));
	}
}

static void take_slopes(void *ctx, const struct pack *p, int from, int to, const float *logp,
			const uint8_t *hit, float *g)
{
	const float *all = ctx;

	CHECK((to - from) % 3 == 0 || to == p->n_answers);
	for (int i = p->answer[from]; i < p->answer[to]; i++) {
		CHECK(logp[i] < 0 && hit[i] <= 1);
		g[i] = all[i];
	}
}

static void check_model_gradient(const struct kern *k, bool tied, bool bias)
{
	struct model_config c = tiny(tied, bias);
	struct model *m = random_model(&c);
	struct kern_pool *pool = kern_pool_new(2);
	struct llama *l = NULL;
	struct llama_opts o = {.max_tokens = TOKENS_MAX, .max_targets = 2 * TOKENS_MAX};
	struct pack p;
	struct err e = {0};
	float logp[2 * TOKENS_MAX], again[2 * TOKENS_MAX], *g = numbers(2 * TOKENS_MAX, 3);
	float *grads = numbers(m->n_params, 4), *twice = calloc(m->n_params, sizeof *twice);
	double want[2 * TOKENS_MAX];
	uint8_t hit[2 * TOKENS_MAX];
	struct llama_loss known = {.g = g}, asked = {.slopes = take_slopes, .ctx = g, .unit = 3};
	static struct ref r;

	some_pack(&p, c.vocab);
	r = (struct ref){.m = m, .p = &p, .g = g, .w = calloc(m->n_params, sizeof *r.w)};
	for (size_t i = 0; i < m->n_params; i++)
		r.w[i] = (double)m->params[i];
	ref_loss(&r, want);
	CHECK_RC(llama_new(m, k, pool, &o, &l, &e), RC_OK);
	llama_forward(l, &p, NULL, logp, hit);
	check_close(logp, want, (size_t)p.n_targets, 5e-6);
	llama_train(l, &p, NULL, &known, grads, false, again, hit);
	check_same(logp, again, (size_t)p.n_targets);
	check_gradients(&r, grads);
	llama_train(l, &p, NULL, &asked, twice, false, again, hit);
	check_same(logp, again, (size_t)p.n_targets);
	check_tensors_same(m, grads, twice);
	llama_train(l, &p, NULL, &asked, twice, true, again, hit);
	for (size_t i = 0; i < m->n_params; i++)
		twice[i] *= 0.5f;
	check_gradients(&r, twice);
	llama_free(l);
	model_free(m);
	pack_release(&p);
	kern_pool_free(pool);
}

void test_model__gradient_of_a_tied_model(void)
{
	EACH_BACKEND(k)
	check_model_gradient(k, true, false);
}

void test_model__gradient_of_an_untied_model_with_bias(void)
{
	EACH_BACKEND(k)
	check_model_gradient(k, false, true);
}

/* Gradient of one pack under the given options; the slab is the caller's. */
static float *gradient(struct model *m, int threads, bool recompute, float drop, float *logp)
{
	struct kern_pool *pool = kern_pool_new(threads);
	struct llama_opts o = {.max_tokens = TOKENS_MAX,
			       .max_targets = 2 * TOKENS_MAX,
			       .recompute = recompute};
	struct llama_dropout d = {.p = drop, .key = {1, 2}};
	float *grads = calloc(m->n_params, sizeof *grads), *g = numbers(2 * TOKENS_MAX, 3);
	struct llama_loss loss = {.g = g};
	uint8_t hit[2 * TOKENS_MAX];
	struct llama *l = NULL;
	struct pack p;
	struct err e = {0};

	some_pack(&p, m->cfg.vocab);
	CHECK_RC(llama_new(m, kern_cpu(), pool, &o, &l, &e), RC_OK);
	llama_train(l, &p, &d, &loss, grads, false, logp, hit);
	llama_free(l);
	pack_release(&p);
	kern_pool_free(pool);
	return grads;
}

void test_model__threads_and_recomputation_change_no_bit(void)
{
	struct model_config c = tiny(true, true);
	struct model *m = random_model(&c);

	for (int drop = 0; drop < 2; drop++) {
		float logp[2 * TOKENS_MAX], other[2 * TOKENS_MAX];
		float *one = gradient(m, 1, false, drop ? 0.2f : 0, logp);

		for (int threads = 1; threads <= 4; threads *= 2)
			for (int recompute = 0; recompute < 2; recompute++) {
				float *g = gradient(m, threads, recompute, drop ? 0.2f : 0, other);

				check_same(one, g, m->n_params);
				check_same(logp, other, 20);
			}
	}
}

static void check_alone(struct llama *l, const struct pack *all, const float *logp, int seq,
			int answer, int n_answers)
{
	int from = all->cu[seq], n = all->cu[seq + 1] - from, at = all->answer[answer];
	struct pack one;
	struct err e = {0};
	float alone[2 * TOKENS_MAX];
	uint8_t hit[2 * TOKENS_MAX];

	CHECK_RC(pack_new(TOKENS_MAX, 1, &one, &e), RC_OK);
	one.n_tokens = one.cu[1] = n;
	one.n_seqs = 1;
	one.n_pos = n;
	memcpy(one.fork, all->fork + 2 * seq, 2 * sizeof *one.fork);
	one.forked = n_answers == 2;
	one.n_targets = all->answer[answer + n_answers] - at;
	memcpy(one.ids, all->ids + from, (size_t)n * sizeof *one.ids);
	memcpy(one.pos, all->pos + from, (size_t)n * sizeof *one.pos);
	for (int i = 0; i < one.n_targets; i++) {
		one.row[i] = all->row[at + i] - from;
		one.target[i] = all->target[at + i];
	}
	llama_forward(l, &one, NULL, alone, hit);
	check_same(logp + at, alone, (size_t)one.n_targets);
	pack_release(&one);
}

void test_model__logprob_does_not_depend_on_the_pack(void)
{
	struct model_config c = tiny(false, false);
	struct model *m = random_model(&c);
	struct kern_pool *pool = kern_pool_new(2);
	struct err e = {0};

	for (int format = KERN_F32; format <= KERN_BF16; format++) {
		struct llama_opts o = {.max_tokens = TOKENS_MAX,
				       .max_targets = 2 * TOKENS_MAX,
				       .forward_only = true,
				       .format = (enum kern_format)format};
		struct llama *l = NULL;
		struct pack all;
		float logp[2 * TOKENS_MAX];
		uint8_t hit[2 * TOKENS_MAX];

		some_pack(&all, c.vocab);
		CHECK_RC(llama_new(m, kern_cpu(), pool, &o, &l, &e), RC_OK);
		llama_forward(l, &all, NULL, logp, hit);
		for (int s = 0, answer = 0; s < all.n_seqs; s++) {
			int n = s % 2 ? 2 : 1;

			check_alone(l, &all, logp, s, answer, n);
			answer += n;
		}
		llama_free(l);
		pack_release(&all);
	}
	kern_pool_free(pool);
}

/* The two endings of a forked sequence are the two sequences it stands for. */
void test_model__a_pair_is_its_two_sequences(void)
{
	struct model_config c = tiny(true, false);
	struct model *m = random_model(&c);
	struct kern_pool *pool = kern_pool_new(2);
	struct llama_opts o = {
		.max_tokens = TOKENS_MAX, .max_targets = 2 * TOKENS_MAX, .forward_only = true};
	struct llama *l = NULL;
	struct pack p;
	struct err e = {0};
	int32_t ids[24];
	float one[2 * TOKENS_MAX], two[2 * TOKENS_MAX];
	uint8_t hit[2 * TOKENS_MAX];

	for (int i = 0; i < 24; i++)
		ids[i] = (i * 7 + 3) % c.vocab;
	CHECK_RC(llama_new(m, kern_cpu(), pool, &o, &l, &e), RC_OK);
	CHECK_RC(pack_new(TOKENS_MAX, 8, &p, &e), RC_OK);
	for (int n = 1; n <= 9; n += 2) {
		pack_clear(&p);
		pack_add_pair(&p, 0, ids, 6, ids + 6, n, ids + 15, 10 - n);
		CHECK_EQ(p.n_tokens, pack_pair_rows(6, n, 10 - n));
		CHECK_EQ(p.n_targets, 10);
		CHECK_EQ(p.n_answers, 2);
		CHECK_EQ(p.row[0], p.row[n]);
		llama_forward(l, &p, NULL, one, hit);
		pack_clear(&p);
		pack_add(&p, 0, ids, 6, ids + 6, n);
		pack_add(&p, 1, ids, 6, ids + 15, 10 - n);
		llama_forward(l, &p, NULL, two, hit);
		for (int i = 0; i < 10; i++)
			CHECK_NEAR((double)one[i], (double)two[i], 2e-6);
	}
	llama_free(l);
	pack_release(&p);
	kern_pool_free(pool);
}

/* --- Real models
 * ---------------------------------------------------------------------------------- */

static void check_oracle(const char *folder)
{
	char path[512], file[600];
	struct buf b = BUF_INIT;
	struct err e = {0};
	struct model *m = NULL;
	int32_t head[2];

	str_fmt(path, sizeof path, "%s", test_data(folder));
	str_fmt(file, sizeof file, "%s/oracle_logits.bin", path);
	CHECK_RC(model_load(path, &m, &e), RC_OK);
	CHECK_RC(fs_read(file, 64 << 20, &b, &e), RC_OK);
	memcpy(head, b.data, sizeof head);
	int n = head[0], vocab = head[1];
	const float *want = (const float *)(const void *)(b.data + 8 + 4 * n);
	CHECK_EQ(b.len, 8 + 4 * (size_t)n + 4 * (size_t)n * (size_t)vocab);
	CHECK_EQ(vocab, m->cfg.vocab);
	EACH_BACKEND(k)
	{
		struct kern_pool *pool = kern_pool_new(2);
		struct llama_opts o = {.max_tokens = n, .forward_only = true};
		float *logits = guarded((size_t)n * (size_t)vocab);
		struct llama *l = NULL;
		struct pack p;
		double worst = 0;

		CHECK_RC(pack_new(n, 1, &p, &e), RC_OK);
		memcpy(p.ids, b.data + 8, 4 * (size_t)n);
		for (int i = 0; i < n; i++)
			p.pos[i] = i;
		p.n_tokens = p.n_pos = p.cu[1] = n;
		p.n_seqs = 1;
		CHECK_RC(llama_new(m, k, pool, &o, &l, &e), RC_OK);
		CHECK_RC(llama_logits(l, &p, logits, &e), RC_OK);
		for (int i = 0; i < n * vocab; i++)
			worst = fmax(worst, fabs((double)logits[i] - (double)want[i]));
		CHECK_NEAR(worst, 0, 1e-4);
		check_guard(logits, (size_t)n * (size_t)vocab);
		llama_free(l);
		kern_pool_free(pool);
	}
	model_free(m);
}

void test_model__stories260K_matches_llama2_c(void)
{
	check_oracle("models/stories260K");
}

void test_model__poem_zh_750K_matches_llama2_c(void)
{
	check_oracle("models/poem_zh_750K");
}
