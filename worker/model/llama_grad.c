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
static void linear_back(struct back *b, int layer, enum llama_product which, float *dx,
			const float *dy, const float *x)
{
	struct llama_linear a = llama_linear_of(b->l, layer, which);

	llama_linear_back(b->l, &a, b->grads, dx, dy, x, b->t, b->acc);
}

/* Gradient that reaches a part whose output was dropped out and added to the residual; in l->h, if
 * it is another than l->dx. */
static const float *part_gradient(struct back *b, int layer, int site)
{
	struct llama *l = b->l;

	if (!b->d || b->d->p <= 0)
		return l->dx;
	memcpy(l->h, l->dx, (size_t)b->t * (size_t)l->m->cfg.dim * sizeof *l->h);
	llama_drop(l, b->p, b->d, layer, site, l->h);
	return l->h;
}

/* NULL where a model under an adapter has no gradient. */
static float *weight_grads(const struct back *b, size_t at)
{
	return b->l->o.lora ? NULL : b->grads + at;
}

static void norm_back(struct back *b, const float *x, const float *rinv, size_t w)
{
	struct llama *l = b->l;

	l->k->rmsnorm_back(l->pool, l->dx, weight_grads(b, w), l->dh, x, l->m->params + w, rinv,
			   b->t, l->m->cfg.dim);
}

static void ffn_back(struct back *b, int layer)
{
	struct llama *l = b->l;
	const struct model_config *c = &l->m->cfg;
	const struct model_layer *y = &l->m->layers[layer];
	struct llama_acts *a = llama_acts_of(l, layer);
	const struct kern *k = l->k;
	int f = c->ffn_dim;

	k->swiglu(l->pool, l->y, a->gu, a->gu + f, 2 * f, b->t, f);
	linear_back(b, layer, LLAMA_FFN_OUT, l->dy, part_gradient(b, layer, 1), l->y);
	k->swiglu_back(l->pool, a->gu, a->gu + f, l->dy, a->gu, a->gu + f, 2 * f, b->t, f);
	k->rmsnorm(l->pool, l->h, NULL, a->mid, l->m->params + y->norm_ffn, b->t, c->dim,
		   c->rms_eps);
	linear_back(b, layer, LLAMA_GATE_UP, l->dh, a->gu, l->h);
	norm_back(b, a->mid, a->r2, y->norm_ffn);
}

static void attention_back(struct back *b, int layer)
{
	struct llama *l = b->l;
	const struct model_config *c = &l->m->cfg;
	const struct model_layer *y = &l->m->layers[layer];
	struct llama_acts *a = llama_acts_of(l, layer);
	const struct kern *k = l->k;
	const float *x = llama_x(l, layer);
	struct kern_attn args = llama_attn_args(l, b->p, a);

	linear_back(b, layer, LLAMA_OUT, l->dy, part_gradient(b, layer, 0), a->att);
	args.dout = l->dy;
	args.dq = l->dqkv;
	args.dk = l->dqkv + l->q_dim;
	args.dv = l->dqkv + l->q_dim + l->kv_dim;
	k->attn_back(l->pool, &args);
	k->rope(l->pool, l->dqkv, l->qkv_dim, b->t, c->n_heads + c->n_kv_heads, c->head_dim,
		b->p->pos, l->rope.cos, l->rope.sin, true);
	if (c->qkv_bias && !l->o.lora)
		k->bias_back(l->pool, b->grads + y->bq, l->dqkv, l->qkv_dim, b->t, l->qkv_dim);
	k->rmsnorm(l->pool, l->h, NULL, x, l->m->params + y->norm_attn, b->t, c->dim, c->rms_eps);
	linear_back(b, layer, LLAMA_QKV, l->dh, l->dqkv, l->h);
	norm_back(b, x, a->r1, y->norm_attn);
}

/* Puts the gradients of head rows (in l->dh, before the norm) into dx, zero elsewhere. A row with
 * two targets has two of them. */
static void head_norm_back(struct back *b)
{
	struct llama *l = b->l;
	const struct pack *p = b->p;
	size_t width = (size_t)l->m->cfg.dim;
	float *rows = l->hn; /* The normed rows are not needed any more. */

	memset(rows, 0, (size_t)p->n_targets * width * sizeof *rows);
	l->k->rmsnorm_back(l->pool, rows, weight_grads(b, l->m->norm_out), l->dh, l->hx,
			   l->m->params + l->m->norm_out, l->rf, p->n_targets, l->m->cfg.dim);
	memset(l->dx, 0, (size_t)b->t * width * sizeof *l->dx);
	for (int i = 0; i < p->n_targets; i++) {
		float *to = l->dx + (size_t)p->row[i] * width;
		const float *from = rows + (size_t)i * width;

		for (size_t j = 0; j < width; j++)
			to[j] += from[j];
	}
}

/* Targets [from, to) there and back; g NULL: there only, with the softmax kept if it fits. */
static void head_pass(struct back *b, int from, int to, const float *g, float *logp, uint8_t *hit,
		      bool kept)
{
	struct llama *l = b->l;
	struct kern_logprob a = llama_head_args(l, b->p, from, to, logp, hit);

	a.g = g ? g + from : NULL;
	a.dh = l->dh + (size_t)from * (size_t)l->m->cfg.dim;
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

static void head_back(struct back *b, const struct llama_loss *loss, float *logp, uint8_t *hit)
{
	struct llama *l = b->l;
	const struct pack *p = b->p;

	if (loss->g) {
		for (int at = 0; at < p->n_targets; at += l->probs_rows)
			head_pass(b, at, smaller(p->n_targets, at + l->probs_rows), loss->g, logp,
				  hit, false);
		return;
	}
	for (int from = 0, to; from < p->n_answers; from = to) {
		to = group_end(l, p, from, loss->unit);
		head_pass(b, p->answer[from], p->answer[to], NULL, logp, hit, false);
		loss->slopes(loss->ctx, p, from, to, logp, hit, l->g);
		head_pass(b, p->answer[from], p->answer[to], l->g, logp, hit, true);
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
		l->k->embed_back(l->pool, b->grads + l->m->embed, l->dx, b->p->ids, b->t,
				 l->m->cfg.dim);
}

/* What is only ever added to: all but the matrices of the layers. */
static void clear_sums(const struct llama *l, float *grads)
{
	const struct model *m = l->m;
	size_t width = (size_t)m->cfg.dim, table = (size_t)m->cfg.vocab * width;

	memset(grads + m->embed, 0, table * sizeof *grads);
	if (m->head != m->embed)
		memset(grads + m->head, 0, table * sizeof *grads);
	memset(grads + m->norm_out, 0, width * sizeof *grads);
	for (int i = 0; i < m->cfg.n_layers; i++) {
		const struct model_layer *y = &m->layers[i];

		memset(grads + y->norm_attn, 0, width * sizeof *grads);
		memset(grads + y->norm_ffn, 0, width * sizeof *grads);
		if (m->cfg.qkv_bias)
			memset(grads + y->bq, 0, (size_t)l->qkv_dim * sizeof *grads);
	}
}

void llama_train(struct llama *l, const struct pack *p, const struct llama_dropout *d,
		 const struct llama_loss *loss, float *grads, bool acc, float *logp, uint8_t *hit)
{
	struct back b = {l, p, d, grads, acc, p->n_tokens};

	ASSERT(!l->o.forward_only);
	if (!acc && !l->o.lora)
		clear_sums(l, grads);
	llama_body_forward(l, p, d);
	llama_gather_rows(l, p);
	head_back(&b, loss, logp, hit);
	body_back(&b);
}
