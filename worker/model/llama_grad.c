/* The way back through the decoder, written out by hand. The gradients of weights of the first
 * micro-batch are written, those of the others added: the chain over tokens runs on. */
#include "worker/model/llama.h"

#include "base/check.h"
#include "worker/model/llama_inner.h"

#include <string.h>


static int smaller(int a, int b)
{
	return a < b ? a : b;
}

struct back {
	struct llama *l;
	const struct pack *p;
	const struct llama_dropout *d;
	float *grads;
	bool acc;
	int t;
};

/* dx = gradient of the input of one of the layer's products; that of its weights is added. */
static void linear_back(struct back *b, int layer, enum llama_product which, void *dx,
			const void *dy, const void *x)
{
	struct llama_linear a = llama_linear_of(b->l, layer, which);

	llama_linear_back(b->l, &a, b->grads, dx, dy, x, b->t, b->acc);
}

/* Gradient that reaches a part whose output was dropped out and added to the residual; in l->h, if
 * it is another than l->dx. */
static const void *part_gradient(struct back *b, int layer, int site)
{
	struct llama *l = b->l;

	if (!b->d || b->d->p <= 0)
		return l->dx;
	l->k->copy(l->pool, l->h, l->dx, (size_t)b->t * (size_t)l->m->cfg.dim * kern_act(l->k));
	llama_drop(l, b->p, b->d, layer, site, l->h);
	return l->h;
}

/* NULL where a model under an adapter has no gradient. */
static float *weight_grads(const struct back *b, size_t at)
{
	return b->l->o.lora ? NULL : b->grads + at;
}

static void norm_back(struct back *b, const void *x, const float *rinv, const float *w,
		      size_t grad)
{
	struct llama *l = b->l;

	l->k->rmsnorm_back(l->pool, l->dx, weight_grads(b, grad), l->dh, x, w, rinv, b->t,
			   l->m->cfg.dim);
}

static void ffn_back(struct back *b, int layer)
{
	struct llama *l = b->l;
	const struct model_config *c = &l->m->cfg;
	const struct model_layer *y = &l->m->layers[layer];
	struct llama_acts *a = llama_acts_of(l, layer);
	const struct kern *k = l->k;
	int f = c->ffn_dim;
	void *up = llama_at(l, a->gu, (size_t)f);

	k->swiglu(l->pool, l->y, a->gu, up, 2 * f, b->t, f);
	linear_back(b, layer, LLAMA_FFN_OUT, l->dy, part_gradient(b, layer, 1), l->y);
	k->swiglu_back(l->pool, a->gu, up, l->dy, a->gu, up, 2 * f, b->t, f);
	k->rmsnorm(l->pool, l->h, NULL, a->mid, l->w[layer].norm_ffn, b->t, c->dim, c->rms_eps);
	linear_back(b, layer, LLAMA_GATE_UP, l->dh, a->gu, l->h);
	llama_sum(l, l->dh, (size_t)b->t * (size_t)c->dim);
	norm_back(b, a->mid, a->r2, l->w[layer].norm_ffn, y->norm_ffn);
}

static void attention_back(struct back *b, int layer)
{
	struct llama *l = b->l;
	const struct model_config *c = &l->m->cfg;
	const struct model_layer *y = &l->m->layers[layer];
	struct llama_acts *a = llama_acts_of(l, layer);
	const struct kern *k = l->k;
	const void *x = llama_x(l, layer);
	struct kern_attn args = llama_attn_args(l, b->p, a);

	linear_back(b, layer, LLAMA_OUT, l->dy, part_gradient(b, layer, 0), a->att);
	args.dout = l->dy;
	args.dq = l->dqkv;
	args.dk = llama_at(l, l->dqkv, (size_t)l->q_dim);
	args.dv = llama_at(l, l->dqkv, (size_t)(l->q_dim + l->kv_dim));
	k->attn_back(l->pool, &args);
	k->rope(l->pool, l->dqkv, l->qkv_dim, b->t, c->n_heads + c->n_kv_heads, c->head_dim,
		l->there.pos, l->cos, l->sin, true);
	if (c->qkv_bias && !l->o.lora)
		k->bias_back(l->pool, b->grads + y->bq, l->dqkv, l->qkv_dim, b->t, l->qkv_dim);
	k->rmsnorm(l->pool, l->h, NULL, x, l->w[layer].norm_attn, b->t, c->dim, c->rms_eps);
	linear_back(b, layer, LLAMA_QKV, l->dh, l->dqkv, l->h);
	llama_sum(l, l->dh, (size_t)b->t * (size_t)c->dim);
	norm_back(b, x, a->r1, l->w[layer].norm_attn, y->norm_attn);
}

/* Puts the gradients of head rows (in l->dh, before the norm) into dx, zero elsewhere. A row with
 * two targets has two of them. */
static void head_norm_back(struct back *b)
{
	struct llama *l = b->l;
	const struct pack *p = b->p;
	int width = l->m->cfg.dim;
	void *rows = l->hn; /* The normed rows are not needed any more. */

	llama_sum(l, l->dh, (size_t)p->n_targets * (size_t)width);
	l->k->zero(l->pool, rows, (size_t)p->n_targets * (size_t)width * kern_act(l->k));
	l->k->rmsnorm_back(l->pool, rows, weight_grads(b, l->m->norm_out), l->dh, l->hx,
			   l->norm_out, l->rf, p->n_targets, width);
	l->k->spread(l->pool, l->dx, rows, l->there.from, b->t, width);
}

/* Targets [from, to) there and back; without slopes there only, with the softmax kept if it fits. */
static void head_pass(struct back *b, int from, int to, bool slopes, bool kept)
{
	struct llama *l = b->l;
	struct kern_logprob a = llama_head_args(l, from, to);

	a.g = slopes ? l->g + from : NULL;
	a.hot = slopes && l->o.coll ? l->hot + from : NULL;
	a.dh = llama_at(l, l->dh, (size_t)from * (size_t)l->m->cfg.dim);
	a.dw = weight_grads(b, l->m->head);
	if (to - from <= l->probs_rows) {
		a.probs = l->probs;
		a.sum = l->sum;
		a.kept = kept;
	}
	l->k->logprob(l->pool, &a);
}

/* As many units from answer `from` on as the room for the softmax holds, one at least. */
static int group_end(const struct llama *l, const struct pack *p, int from, int unit)
{
	int to = from + unit;

	while (to + unit <= p->n_answers && p->answer[to + unit] - p->answer[from] <= l->probs_rows)
		to += unit;
	return to;
}

static void head_known(struct back *b, const float *g, float *logp, uint8_t *hit)
{
	struct llama *l = b->l;
	int n = b->p->n_targets, parts = (n + l->probs_rows - 1) / l->probs_rows;
	int rows = parts > 0 ? (n + parts - 1) / parts : 0;

	llama_put_slopes(l, g, 0, n);
	for (int at = 0; at < n; at += rows)
		head_pass(b, at, smaller(n, at + rows), true, false);
	llama_head_results(l, 0, n, logp, hit);
}

static void head_back(struct back *b, const struct llama_loss *loss, float *logp, uint8_t *hit)
{
	struct llama *l = b->l;
	const struct pack *p = b->p;

	for (int a = 0, next; a < p->n_answers; a = next) {
		next = group_end(l, p, a, loss->g ? 1 : loss->unit);
		int from = p->answer[a], to = p->answer[next];

		head_pass(b, from, to, false, false);
		llama_head_results(l, from, to, logp, hit);
		if (loss->g)
			memcpy(l->slopes + from, loss->g + from,
			       (size_t)(to - from) * sizeof *l->slopes);
		else
			loss->slopes(loss->ctx, p, a, next, logp, hit, l->slopes);
		llama_put_slopes(l, l->slopes, from, to);
		head_pass(b, from, to, true, true);
	}
}

static void body_back(struct back *b)
{
	struct llama *l = b->l;

	head_norm_back(b);
	for (int i = l->m->cfg.n_layers - 1; i >= 0; i--) {
		if (l->o.recompute)
			llama_layer_forward(l, b->p, b->d, i, NULL);
		ffn_back(b, i);
		attention_back(b, i);
	}
	if (!l->o.lora)
		llama_embed_back(l, b->grads + l->m->embed, b->t);
}

static void clear(struct llama *l, float *grads, size_t n)
{
	l->k->zero(l->pool, grads, n * sizeof *grads);
}

/* What is only ever added to: all but the matrices of the layers. */
static void clear_sums(struct llama *l, float *grads)
{
	const struct model *m = l->m;
	size_t width = (size_t)m->cfg.dim, table = (size_t)l->n_words * width;

	clear(l, grads + m->embed, table);
	if (m->head != m->embed)
		clear(l, grads + m->head, table);
	clear(l, grads + m->norm_out, width);
	for (int i = 0; i < m->cfg.n_layers; i++) {
		const struct model_layer *y = &m->layers[i];

		clear(l, grads + y->norm_attn, width);
		clear(l, grads + y->norm_ffn, width);
		if (m->cfg.qkv_bias)
			clear(l, grads + y->bq, (size_t)l->qkv_dim);
	}
}

void llama_train(struct llama *l, const struct pack *p, const struct llama_dropout *d,
		 const struct llama_loss *loss, float *grads, bool acc, float *logp, uint8_t *hit)
{
	struct back b = {l, p, d, grads, acc, p->n_tokens};

	ASSERT(!l->o.forward_only);
	ASSERT(l->o.lora || !l->packed);
	if (!acc && !l->o.lora)
		clear_sums(l, grads);
	llama_body_forward(l, p, d);
	llama_gather_rows(l, p);
	if (loss->g && !l->o.coll) /* Ranks know their share of a softmax only afterwards. */
		head_known(&b, loss->g, logp, hit);
	else
		head_back(&b, loss, logp, hit);
	body_back(&b);
}
