/* The way back through the decoder, written out by hand. Gradients of weights are added to the
 * slab; the chain over tokens runs on across micro-batches. */
#include "worker/model/llama.h"

#include "base/check.h"
#include "worker/model/llama_inner.h"

#include <string.h>

struct back {
	struct llama *l;
	const struct pack *p;
	const struct llama_dropout *d;
	float *grads;
	int t;
};

/* dx = gradient of the input of one of the layer's products; that of its weights is added. */
static void linear_back(struct back *b, int layer, enum llama_product which, float *dx,
			const float *dy, const float *x)
{
	struct llama_linear a = llama_linear_of(b->l, layer, which);

	llama_linear_back(b->l, &a, b->grads, dx, dy, x, b->t);
}

/* Gradient that reaches a part whose output was dropped out and added to the residual. */
static const float *part_gradient(struct back *b, int layer, int site)
{
	struct llama *l = b->l;

	if (!b->d || b->d->p <= 0)
		return l->dx;
	memcpy(l->tmp, l->dx, (size_t)b->t * (size_t)l->m->cfg.dim * sizeof *l->tmp);
	llama_drop(l, b->p, b->d, layer, site, l->tmp);
	return l->tmp;
}

static void norm_back(struct back *b, const float *x, const float *rinv, size_t w)
{
	struct llama *l = b->l;

	l->k->rmsnorm_back(l->pool, l->dx, b->grads + w, l->dh, x, l->m->params + w, rinv, b->t,
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
	if (c->qkv_bias)
		k->bias_back(l->pool, b->grads + y->bq, l->dqkv, l->qkv_dim, b->t, l->qkv_dim);
	k->rmsnorm(l->pool, l->h, NULL, x, l->m->params + y->norm_attn, b->t, c->dim, c->rms_eps);
	linear_back(b, layer, LLAMA_QKV, l->dh, l->dqkv, l->h);
	norm_back(b, x, a->r1, y->norm_attn);
}

/* Puts the head's row gradients (in l->dh, before the norm) into dx, zero elsewhere. */
static void head_norm_back(struct back *b)
{
	struct llama *l = b->l;
	size_t width = (size_t)l->m->cfg.dim;
	float *rows = l->hn; /* The normed rows are not needed any more. */

	memset(rows, 0, (size_t)l->n_rows * width * sizeof *rows);
	l->k->rmsnorm_back(l->pool, rows, b->grads + l->m->norm_out, l->dh, l->hx,
			   l->m->params + l->m->norm_out, l->rf, l->n_rows, l->m->cfg.dim);
	memset(l->dx, 0, (size_t)b->t * width * sizeof *l->dx);
	for (int i = 0; i < l->n_rows; i++)
		memcpy(l->dx + (size_t)l->rows[i] * width, rows + (size_t)i * width,
		       width * sizeof *rows);
}

static void head_back(struct back *b, const float *g)
{
	struct llama *l = b->l;
	const struct model_config *c = &l->m->cfg;
	struct kern_logprob a = {.rows = l->n_rows,
				 .width = c->dim,
				 .vocab = c->vocab,
				 .h = l->hn,
				 .w = l->m->params + l->m->head,
				 .target = l->target,
				 .logp = l->logp,
				 .hit = l->hit,
				 .g = l->g,
				 .dh = l->dh,
				 .dw = b->grads + l->m->head};

	for (int i = 0; i < l->n_rows; i++)
		l->g[i] = g[l->rows[i]];
	l->k->logprob(l->pool, &a);
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
	l->k->embed_back(l->pool, b->grads + l->m->embed, l->dx, b->p->ids, b->t, l->m->cfg.dim);
}

void llama_backward(struct llama *l, const struct pack *p, const struct llama_dropout *d,
		    const float *g, float *grads)
{
	struct back b = {l, p, d, grads, p->n_tokens};

	ASSERT(!l->o.forward_only);
	head_back(&b, g);
	body_back(&b);
}

void llama_forward_backward(struct llama *l, const struct pack *p, const struct llama_dropout *d,
			    const float *g, float *grads, float *logp, uint8_t *hit)
{
	struct back b = {l, p, d, grads, p->n_tokens};

	ASSERT(!l->o.forward_only);
	llama_body_forward(l, p, d);
	llama_gather_rows(l, p);
	head_back(&b, g);
	llama_scatter_logp(l, p, logp, hit);
	body_back(&b);
}
