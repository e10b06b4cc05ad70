#include "tests/ref64.h"

#include "base/str.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- weights ---------------------------------------------------------------------------------- */

static double *zeros(size_t n)
{
	double *p = calloc(n ? n : 1, sizeof *p);

	CHECK(p);
	return p;
}

static struct ref64_tensor *add(struct ref64 *r, const char *name, int rows, int cols)
{
	struct ref64_tensor *t = &r->tensors[r->n_tensors++];

	*t = (struct ref64_tensor){.rows = rows, .cols = cols};
	str_copy(t->name, sizeof t->name, name);
	t->n = (size_t)rows * (cols ? (size_t)cols : 1);
	t->w = zeros(t->n);
	t->g = zeros(t->n);
	t->m = zeros(t->n);
	t->v = zeros(t->n);
	return t;
}

static struct ref64_tensor *add_in(struct ref64 *r, int layer, const char *name, int rows, int cols)
{
	char full[MODEL_NAME_MAX];

	str_fmt(full, sizeof full, "model.layers.%d.%s", layer, name);
	return add(r, full, rows, cols);
}

static void add_layer(struct ref64 *r, int i)
{
	const struct model_config *c = &r->c;
	struct ref64_layer *y = &r->layers[i];
	int q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;

	y->norm_attn = add_in(r, i, "input_layernorm.weight", c->dim, 0);
	y->q = add_in(r, i, "self_attn.q_proj.weight", q, c->dim);
	y->k = add_in(r, i, "self_attn.k_proj.weight", kv, c->dim);
	y->v = add_in(r, i, "self_attn.v_proj.weight", kv, c->dim);
	if (c->qkv_bias) {
		y->bq = add_in(r, i, "self_attn.q_proj.bias", q, 0);
		y->bk = add_in(r, i, "self_attn.k_proj.bias", kv, 0);
		y->bv = add_in(r, i, "self_attn.v_proj.bias", kv, 0);
	}
	y->o = add_in(r, i, "self_attn.o_proj.weight", c->dim, q);
	y->norm_ffn = add_in(r, i, "post_attention_layernorm.weight", c->dim, 0);
	y->gate = add_in(r, i, "mlp.gate_proj.weight", c->ffn_dim, c->dim);
	y->up = add_in(r, i, "mlp.up_proj.weight", c->ffn_dim, c->dim);
	y->down = add_in(r, i, "mlp.down_proj.weight", c->dim, c->ffn_dim);
}

struct ref64_tensor *ref64_find(const struct ref64 *r, const char *name)
{
	for (int i = 0; i < r->n_tensors; i++)
		if (strcmp(r->tensors[i].name, name) == 0)
			return &r->tensors[i];
	return NULL;
}

static void copy_in(struct ref64 *r, const struct tensor_ref *from, const float *params)
{
	struct ref64_tensor *t = ref64_find(r, from->name);

	CHECK(t && t->rows == from->rows && t->cols == from->cols);
	for (size_t i = 0; i < t->n; i++)
		t->w[i] = (double)params[from->offset + i];
}

struct ref64 *ref64_new(const struct model *m)
{
	struct ref64 *r = calloc(1, sizeof *r);

	CHECK(r);
	r->c = m->cfg;
	r->layers = calloc((size_t)r->c.n_layers, sizeof *r->layers);
	r->tensors = calloc(3 + (size_t)r->c.n_layers * (12 + 2 * MODEL_PARTS), sizeof *r->tensors);
	CHECK(r->layers && r->tensors);
	r->embed = add(r, "model.embed_tokens.weight", r->c.vocab, r->c.dim);
	for (int i = 0; i < r->c.n_layers; i++)
		add_layer(r, i);
	r->norm = add(r, "model.norm.weight", r->c.dim, 0);
	r->head = r->c.tied ? r->embed : add(r, "lm_head.weight", r->c.vocab, r->c.dim);
	r->n_base = r->n_tensors;
	CHECK_EQ(r->n_tensors, m->n_tensors);
	for (int i = 0; i < m->n_tensors; i++)
		copy_in(r, &m->tensors[i], m->params);
	return r;
}

void ref64_free(struct ref64 *r)
{
	for (int i = 0; i < r->n_tensors; i++) {
		free(r->tensors[i].w);
		free(r->tensors[i].g);
		free(r->tensors[i].m);
		free(r->tensors[i].v);
	}
	free(r->tensors);
	free(r->layers);
	free(r);
}

/* "base_model.model." NAME ".lora_A.weight" stands beside NAME ".weight". */
void ref64_adapt(struct ref64 *r, const struct lora *l)
{
	for (int i = 0; i < l->n_tensors; i++) {
		const struct tensor_ref *t = &l->tensors[i];
		const char *inner = t->name + strlen("base_model.model.");
		const char *end = strstr(inner, ".lora_");
		struct ref64_tensor *mine = add(r, t->name, t->rows, t->cols), *base;
		char name[MODEL_NAME_MAX];

		CHECK(end);
		str_fmt(name, sizeof name, "%.*s.weight", (int)(end - inner), inner);
		base = ref64_find(r, name);
		CHECK(base);
		if (end[strlen(".lora_")] == 'A')
			base->low = mine;
		else
			base->up = mine;
		copy_in(r, t, l->params);
	}
	r->adapter_scale = l->s.alpha / (l->s.rslora ? sqrt(l->s.r) : l->s.r);
}

int ref64_first_trained(const struct ref64 *r)
{
	return r->n_tensors > r->n_base ? r->n_base : 0;
}

/* --- the way there ---------------------------------------------------------------------------- */

/* What the way back needs of one layer; rows are tokens. */
struct acts {
	double *x, *h1, *q, *k, *v, *p, *att, *mid, *h2, *gate, *up, *act;
};

struct run {
	const struct ref64 *r;
	const int32_t *ids;
	int n;
	struct acts *layers;
	double *x, *h; /* the last layer's output, and normed */
	double *slab;
};

static size_t place(struct run *u, size_t *at, double **p, int width)
{
	*p = u->slab ? u->slab + *at : NULL;
	return *at += (size_t)u->n * (size_t)width;
}

/* Called twice: to count, then to place. */
static size_t place_all(struct run *u)
{
	const struct model_config *c = &u->r->c;
	int q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
	size_t at = 0;

	for (int i = 0; i < c->n_layers; i++) {
		struct acts *a = &u->layers[i];

		place(u, &at, &a->x, c->dim);
		place(u, &at, &a->h1, c->dim);
		place(u, &at, &a->q, q);
		place(u, &at, &a->k, kv);
		place(u, &at, &a->v, kv);
		place(u, &at, &a->p, c->n_heads * u->n);
		place(u, &at, &a->att, q);
		place(u, &at, &a->mid, c->dim);
		place(u, &at, &a->h2, c->dim);
		place(u, &at, &a->gate, c->ffn_dim);
		place(u, &at, &a->up, c->ffn_dim);
		place(u, &at, &a->act, c->ffn_dim);
	}
	place(u, &at, &u->x, c->dim);
	return place(u, &at, &u->h, c->dim);
}

/* y_i = x_i / sqrt(mean(x^2) + eps) w_i (Zhang and Sennrich 2019). */
static void norm(const struct ref64 *r, double *y, const double *x, const struct ref64_tensor *w,
		 int n)
{
	int width = r->c.dim;

	for (int t = 0; t < n; t++, x += width, y += width) {
		double sum = 0, by;

		for (int i = 0; i < width; i++)
			sum += x[i] * x[i];
		by = 1 / sqrt(sum / width + (double)r->c.rms_eps);
		for (int i = 0; i < width; i++)
			y[i] = x[i] * by * w->w[i];
	}
}

static void product(double *y, const double *x, const double *w, int out, int in)
{
	for (int o = 0; o < out; o++, w += in) {
		double even = 0, odd = 0;
		int i = 0;

		for (; i + 1 < in; i += 2) {
			even += x[i] * w[i];
			odd += x[i + 1] * w[i + 1];
		}
		y[o] += even + odd + (i < in ? x[i] * w[i] : 0);
	}
}

/* y = x W^T + b + s (x A^T) B^T, both factors in the format of the run. */
static void linear(const struct ref64 *r, double *y, const double *x, const struct ref64_tensor *w,
		   const struct ref64_tensor *b, int n)
{
	int out = w->rows, in = w->cols;
	double *rounded = zeros(r->format == KERN_F32 ? 0 : w->n), *row = zeros((size_t)in);
	const double *factor = r->format == KERN_F32 ? w->w : rounded;

	if (factor == rounded)
		ref64_round_rows(r->format, rounded, w->w, out, in);
	for (int t = 0; t < n; t++, x += in, y += out) {
		ref64_round_rows(r->format, row, x, 1, in);
		for (int o = 0; o < out; o++)
			y[o] = 0;
		product(y, row, factor, out, in);
		for (int o = 0; b && o < out; o++)
			y[o] += b->w[o];
		if (w->low) {
			double *low = zeros((size_t)w->low->rows);

			product(low, x, w->low->w, w->low->rows, in);
			for (int i = 0; i < w->low->rows; i++)
				low[i] *= r->adapter_scale;
			product(y, low, w->up->w, out, w->low->rows);
			free(low);
		}
	}
	free(rounded);
	free(row);
}

/* Angle per position of pair i; Llama 3.1 as _compute_llama3_parameters in transformers. */
static double frequency(const struct model_config *c, int i)
{
	double f = 1 / pow((double)c->rope_theta, (double)(2 * i) / c->head_dim);
	double wave = 2 * acos(-1) / f, old = c->rope_old_max_pos, smooth;

	if (c->rope_scaling == ROPE_NONE)
		return f;
	if (c->rope_scaling == ROPE_LINEAR || wave > old / (double)c->rope_low_freq)
		return f / (double)c->rope_factor;
	if (wave < old / (double)c->rope_high_freq)
		return f;
	smooth = (old / wave - (double)c->rope_low_freq) /
		 ((double)c->rope_high_freq - (double)c->rope_low_freq);
	return (1 - smooth) * (f / (double)c->rope_factor) + smooth * f;
}

/* x cos + rotate_half(x) sin, rotate_half(x) = [-x2, x1] of the halves; sign -1 turns back. */
static void rotate(const struct ref64 *r, double *x, int heads, int n, int sign)
{
	int d = r->c.head_dim;

	for (int i = 0; i < d / 2; i++) {
		double f = frequency(&r->c, i);

		for (int t = 0; t < n; t++) {
			double c = cos(t * f), s = sign * sin(t * f);

			for (int h = 0; h < heads; h++) {
				double *y = x + (t * heads + h) * d + i;
				double x1 = y[0], x2 = y[d / 2];

				y[0] = x1 * c - x2 * s;
				y[d / 2] = x2 * c + x1 * s;
			}
		}
	}
}

/* The first token that token t sees. */
static int first_seen(const struct ref64 *r, int t)
{
	int w = r->c.sliding_window;

	return w > 0 && t - w + 1 > 0 ? t - w + 1 : 0;
}

static void attend_one(const struct ref64 *r, struct acts *a, int n, int h, int t)
{
	const struct model_config *c = &r->c;
	int d = c->head_dim, kv = c->n_kv_heads * d, from = first_seen(r, t);
	int g = h / (c->n_heads / c->n_kv_heads);
	const double *q = a->q + (t * c->n_heads + h) * d;
	double *p = a->p + ((size_t)h * (size_t)n + (size_t)t) * (size_t)n, top = -INFINITY,
	       sum = 0;
	double *out = a->att + (t * c->n_heads + h) * d;

	for (int j = from; j <= t; j++) {
		p[j] = 0;
		for (int i = 0; i < d; i++)
			p[j] += q[i] * a->k[j * kv + g * d + i];
		p[j] /= sqrt(d);
		top = fmax(top, p[j]);
	}
	for (int j = from; j <= t; j++) {
		p[j] = exp(p[j] - top);
		p[j] = r->round_cache ? ref64_bf16(p[j]) : p[j];
		sum += p[j];
	}
	for (int i = 0; i < d; i++)
		out[i] = 0;
	for (int j = from; j <= t; j++) {
		p[j] /= sum;
		for (int i = 0; i < d; i++)
			out[i] += p[j] * a->v[j * kv + g * d + i];
	}
}

static void attention(const struct run *u, struct acts *a, const struct ref64_layer *y)
{
	const struct ref64 *r = u->r;
	const struct model_config *c = &r->c;
	size_t q = (size_t)(u->n * c->n_heads * c->head_dim);
	size_t kv = (size_t)(u->n * c->n_kv_heads * c->head_dim);

	norm(r, a->h1, a->x, y->norm_attn, u->n);
	linear(r, a->q, a->h1, y->q, y->bq, u->n);
	linear(r, a->k, a->h1, y->k, y->bk, u->n);
	linear(r, a->v, a->h1, y->v, y->bv, u->n);
	rotate(r, a->q, c->n_heads, u->n, 1);
	rotate(r, a->k, c->n_kv_heads, u->n, 1);
	if (r->round_cache) {
		for (size_t i = 0; i < q; i++)
			a->q[i] = ref64_bf16(a->q[i] / sqrt(c->head_dim)) * sqrt(c->head_dim);
		for (size_t i = 0; i < kv; i++) {
			a->k[i] = ref64_bf16(a->k[i]);
			a->v[i] = ref64_bf16(a->v[i]);
		}
	}
	for (int h = 0; h < c->n_heads; h++)
		for (int t = 0; t < u->n; t++)
			attend_one(r, a, u->n, h, t);
	linear(r, a->mid, a->att, y->o, NULL, u->n);
	for (int i = 0; i < u->n * c->dim; i++)
		a->mid[i] += a->x[i];
}

static void feed_forward(const struct run *u, struct acts *a, const struct ref64_layer *y,
			 double *out)
{
	const struct ref64 *r = u->r;

	norm(r, a->h2, a->mid, y->norm_ffn, u->n);
	linear(r, a->gate, a->h2, y->gate, NULL, u->n);
	linear(r, a->up, a->h2, y->up, NULL, u->n);
	for (int i = 0; i < u->n * r->c.ffn_dim; i++)
		a->act[i] = a->gate[i] / (1 + exp(-a->gate[i])) * a->up[i];
	linear(r, out, a->act, y->down, NULL, u->n);
	for (int i = 0; i < u->n * r->c.dim; i++)
		out[i] += a->mid[i];
}

static void run_body(struct run *u, const struct ref64 *r, const int32_t *ids, int n)
{
	int width = r->c.dim;
	double *x;

	*u = (struct run){.r = r, .ids = ids, .n = n};
	u->layers = calloc((size_t)r->c.n_layers, sizeof *u->layers);
	CHECK(u->layers);
	u->slab = zeros(place_all(u));
	place_all(u);
	x = u->layers[0].x;
	for (int t = 0; t < n; t++)
		ref64_round_rows(r->format, x + t * width, r->embed->w + ids[t] * width, 1, width);
	for (int i = 0; i < r->c.n_layers; i++) {
		attention(u, &u->layers[i], &r->layers[i]);
		feed_forward(u, &u->layers[i], &r->layers[i],
			     i + 1 < r->c.n_layers ? u->layers[i + 1].x : u->x);
	}
	norm(r, u->h, u->x, r->norm, n);
}

static void run_end(struct run *u)
{
	free(u->slab);
	free(u->layers);
}

void ref64_logits(const struct ref64 *r, const int32_t *ids, int n, double *logits)
{
	struct run u;

	run_body(&u, r, ids, n);
	linear(r, logits, u.h, r->head, NULL, n);
	run_end(&u);
}

/* The prompt and the response without its last token. */
static int32_t *join(const int32_t *prompt, int n_prompt, const int32_t *response, int n_response)
{
	int32_t *ids = calloc((size_t)(n_prompt + n_response), sizeof *ids);

	CHECK(ids);
	memcpy(ids, prompt, (size_t)n_prompt * sizeof *ids);
	memcpy(ids + n_prompt, response, (size_t)(n_response - 1) * sizeof *ids);
	return ids;
}

/* z becomes the softmax of the row; its log-probability of `target` is returned. */
static double soften(double *z, int vocab, int target)
{
	double top = -INFINITY, sum = 0, logp;

	for (int v = 0; v < vocab; v++)
		top = fmax(top, z[v]);
	for (int v = 0; v < vocab; v++)
		sum += exp(z[v] - top);
	logp = z[target] - top - log(sum);
	for (int v = 0; v < vocab; v++)
		z[v] = exp(z[v] - top) / sum;
	return logp;
}

double ref64_score(const struct ref64 *r, const int32_t *prompt, int n_prompt,
		   const int32_t *response, int n_response, double *logp)
{
	int32_t *ids = join(prompt, n_prompt, response, n_response);
	double *z = zeros((size_t)r->c.vocab), sum = 0;
	struct run u;

	run_body(&u, r, ids, n_prompt + n_response - 1);
	for (int i = 0; i < n_response; i++) {
		linear(r, z, u.h + (n_prompt - 1 + i) * r->c.dim, r->head, NULL, 1);
		logp[i] = soften(z, r->c.vocab, response[i]);
		sum += logp[i];
	}
	run_end(&u);
	free(ids);
	free(z);
	return sum;
}

/* --- the way back ----------------------------------------------------------------------------- */

/* dx += dy W; g += dy^T x */
static void product_back(double *restrict dx, double *restrict g, const double *dy, const double *x,
			 const double *w, int out, int in)
{
	for (int o = 0; o < out; o++)
		for (int i = 0; i < in; i++) {
			dx[i] += dy[o] * w[o * in + i];
			g[o * in + i] += dy[o] * x[i];
		}
}

/* y = B (s A x) */
static void adapter_back(const struct ref64 *r, double *dx, const double *dy, const double *x,
			 const struct ref64_tensor *w)
{
	int rank = w->low->rows;
	double *mid = zeros((size_t)rank), *d = zeros((size_t)rank);

	product(mid, x, w->low->w, rank, w->cols);
	for (int i = 0; i < rank; i++)
		mid[i] *= r->adapter_scale;
	product_back(d, w->up->g, dy, mid, w->up->w, w->rows, rank);
	for (int i = 0; i < rank; i++)
		d[i] *= r->adapter_scale;
	product_back(dx, w->low->g, d, x, w->low->w, rank, w->cols);
	free(mid);
	free(d);
}

static void linear_back(const struct ref64 *r, double *dx, const double *dy, const double *x,
			const struct ref64_tensor *w, const struct ref64_tensor *b, int n)
{
	for (int t = 0; t < n; t++, dx += w->cols, dy += w->rows, x += w->cols) {
		product_back(dx, w->g, dy, x, w->w, w->rows, w->cols);
		for (int o = 0; b && o < w->rows; o++)
			b->g[o] += dy[o];
		if (w->low)
			adapter_back(r, dx, dy, x, w);
	}
}

/* y_i = x_i u w_i, u = (mean(x^2) + eps)^(-1/2): dx_i = u (w_i dy_i - x_i u^2 mean_j(w_j dy_j x_j))
 */
static void norm_back(const struct ref64 *r, double *dx, const double *dy, const double *x,
		      const struct ref64_tensor *w, int n)
{
	int width = r->c.dim;

	for (int t = 0; t < n; t++, x += width, dx += width, dy += width) {
		double sum = 0, dot = 0, by;

		for (int i = 0; i < width; i++) {
			sum += x[i] * x[i];
			dot += w->w[i] * dy[i] * x[i];
		}
		by = 1 / sqrt(sum / width + (double)r->c.rms_eps);
		for (int i = 0; i < width; i++) {
			dx[i] += by * (w->w[i] * dy[i] - x[i] * by * by * dot / width);
			w->g[i] += dy[i] * x[i] * by;
		}
	}
}

struct grads {
	double *dx, *dh, *dq, *dk, *dv, *datt, *dgate, *dup, *dact;
};

static void attend_one_back(const struct ref64 *r, const struct acts *a, struct grads *b, int n,
			    int h, int t)
{
	const struct model_config *c = &r->c;
	int d = c->head_dim, kv = c->n_kv_heads * d, from = first_seen(r, t);
	int at = h / (c->n_heads / c->n_kv_heads) * d, row = (t * c->n_heads + h) * d;
	const double *p = a->p + ((size_t)h * (size_t)n + (size_t)t) * (size_t)n;
	double *dp = zeros((size_t)n), mean = 0;

	for (int j = from; j <= t; j++) {
		for (int i = 0; i < d; i++) {
			dp[j] += b->datt[row + i] * a->v[j * kv + at + i];
			b->dv[j * kv + at + i] += p[j] * b->datt[row + i];
		}
		mean += p[j] * dp[j];
	}
	for (int j = from; j <= t; j++) {
		double ds = p[j] * (dp[j] - mean) / sqrt(d);

		for (int i = 0; i < d; i++) {
			b->dq[row + i] += ds * a->k[j * kv + at + i];
			b->dk[j * kv + at + i] += ds * a->q[row + i];
		}
	}
	free(dp);
}

static void clear(double *x, int n)
{
	memset(x, 0, (size_t)n * sizeof *x);
}

/* b->dx: on entry the gradient of the block's output, on return that of its input. */
static void attention_back(const struct run *u, const struct acts *a, const struct ref64_layer *y,
			   struct grads *b)
{
	const struct ref64 *r = u->r;
	const struct model_config *c = &r->c;
	int q = u->n * c->n_heads * c->head_dim, kv = u->n * c->n_kv_heads * c->head_dim;

	clear(b->datt, q);
	clear(b->dq, q);
	clear(b->dk, kv);
	clear(b->dv, kv);
	clear(b->dh, u->n * c->dim);
	linear_back(r, b->datt, b->dx, a->att, y->o, NULL, u->n);
	for (int h = 0; h < c->n_heads; h++)
		for (int t = 0; t < u->n; t++)
			attend_one_back(r, a, b, u->n, h, t);
	rotate(r, b->dq, c->n_heads, u->n, -1);
	rotate(r, b->dk, c->n_kv_heads, u->n, -1);
	linear_back(r, b->dh, b->dq, a->h1, y->q, y->bq, u->n);
	linear_back(r, b->dh, b->dk, a->h1, y->k, y->bk, u->n);
	linear_back(r, b->dh, b->dv, a->h1, y->v, y->bv, u->n);
	norm_back(r, b->dx, b->dh, a->x, y->norm_attn, u->n);
}

static void feed_forward_back(const struct run *u, const struct acts *a,
			      const struct ref64_layer *y, struct grads *b)
{
	const struct ref64 *r = u->r;
	int wide = u->n * r->c.ffn_dim;

	clear(b->dact, wide);
	clear(b->dh, u->n * r->c.dim);
	linear_back(r, b->dact, b->dx, a->act, y->down, NULL, u->n);
	for (int i = 0; i < wide; i++) {
		double s = 1 / (1 + exp(-a->gate[i]));

		b->dup[i] = b->dact[i] * a->gate[i] * s;
		b->dgate[i] = b->dact[i] * a->up[i] * (s + a->gate[i] * s * (1 - s));
	}
	linear_back(r, b->dh, b->dgate, a->h2, y->gate, NULL, u->n);
	linear_back(r, b->dh, b->dup, a->h2, y->up, NULL, u->n);
	norm_back(r, b->dx, b->dh, a->mid, y->norm_ffn, u->n);
}

/* d logp / d z_v = [v is the target] - softmax_v */
static void head_back(const struct run *u, int first, const int32_t *target, const double *slope,
		      int n, double *dh)
{
	const struct ref64 *r = u->r;
	double *z = zeros((size_t)r->c.vocab);

	for (int i = 0; i < n; i++) {
		const double *h = u->h + (first + i) * r->c.dim;

		linear(r, z, h, r->head, NULL, 1);
		soften(z, r->c.vocab, target[i]);
		for (int v = 0; v < r->c.vocab; v++)
			z[v] = slope[i] * ((v == target[i]) - z[v]);
		linear_back(r, dh + (first + i) * r->c.dim, z, h, r->head, NULL, 1);
	}
	free(z);
}

static double *grads_new(struct grads *b, const struct model_config *c, int n)
{
	size_t q = (size_t)(n * c->n_heads * c->head_dim), w = (size_t)(n * c->dim);
	size_t f = (size_t)(n * c->ffn_dim);
	double *slab = zeros(2 * w + 4 * q + 3 * f);

	b->dx = slab;
	b->dh = b->dx + w;
	b->dq = b->dh + w;
	b->dk = b->dq + q;
	b->dv = b->dk + q;
	b->datt = b->dv + q;
	b->dgate = b->datt + q;
	b->dup = b->dgate + f;
	b->dact = b->dup + f;
	return slab;
}

void ref64_backward(struct ref64 *r, const int32_t *prompt, int n_prompt, const int32_t *response,
		    int n_response, const double *slope)
{
	int32_t *ids = join(prompt, n_prompt, response, n_response);
	int n = n_prompt + n_response - 1, width = r->c.dim;
	struct grads b;
	double *slab = grads_new(&b, &r->c, n);
	struct run u;

	CHECK(r->format == KERN_F32 && !r->round_cache);
	run_body(&u, r, ids, n);
	head_back(&u, n_prompt - 1, response, slope, n_response, b.dh);
	norm_back(r, b.dx, b.dh, u.x, r->norm, n);
	for (int i = r->c.n_layers - 1; i >= 0; i--) {
		feed_forward_back(&u, &u.layers[i], &r->layers[i], &b);
		attention_back(&u, &u.layers[i], &r->layers[i], &b);
	}
	for (int t = 0; t < n; t++)
		for (int i = 0; i < width; i++)
			r->embed->g[ids[t] * width + i] += b.dx[t * width + i];
	run_end(&u);
	free(slab);
	free(ids);
}
