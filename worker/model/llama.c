#include "worker/model/llama.h"

#include "base/check.h"
#include "base/mem.h"
#include "worker/model/llama_inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN_FLOATS 16
/* Of the softmax kept between the way there and back: rows enough that packing the head for a
 * product costs little beside it. 128 MiB. */
#define PROBS_FLOATS (32 << 20)

static size_t take(size_t *at, size_t floats)
{
	size_t here = *at;

	*at += (floats + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
	return here;
}

static int larger(int a, int b)
{
	return a > b ? a : b;
}

static int smaller(int a, int b)
{
	return a < b ? a : b;
}

static bool keeps_all(const struct llama *l)
{
	return !l->o.forward_only && !l->o.recompute;
}

struct llama_acts *llama_acts_of(struct llama *l, int layer)
{
	return &l->acts[keeps_all(l) ? layer : 0];
}

float *llama_x(struct llama *l, int layer)
{
	return l->xs[l->o.forward_only ? layer & 1 : layer];
}

static float *place(struct llama *l, size_t *at, size_t floats)
{
	size_t here = take(at, floats);

	return l->slab ? l->slab + here : NULL;
}

static void place_body(struct llama *l, size_t *at)
{
	const struct model_config *c = &l->m->cfg;
	size_t t = (size_t)l->o.max_tokens, width = (size_t)c->dim;
	int n_acts = keeps_all(l) ? c->n_layers : 1;
	int n_xs = l->o.forward_only ? 2 : c->n_layers + 1;

	for (int i = 0; i < n_acts; i++)
		l->acts[i] = (struct llama_acts){.r1 = place(l, at, t),
						 .r2 = place(l, at, t),
						 .qkv = place(l, at, t * (size_t)l->qkv_dim),
						 .att = place(l, at, t * (size_t)l->q_dim),
						 .lse = place(l, at, t * (size_t)c->n_heads),
						 .mid = place(l, at, t * width),
						 .gu = place(l, at, 2 * t * (size_t)c->ffn_dim)};
	for (int i = 0; i < n_xs; i++)
		l->xs[i] = place(l, at, t * width);
	l->h = place(l, at, t * width);
	l->y = place(l, at, t * (size_t)larger(c->ffn_dim, l->q_dim));
	if (l->o.lora)
		l->down = place(l, at, 3 * t * (size_t)l->o.lora->s.r);
	if (l->o.forward_only)
		return;
	l->dx = place(l, at, t * width);
	l->dy = place(l, at, t * (size_t)larger(c->ffn_dim, l->q_dim));
	l->dqkv = place(l, at, t * (size_t)l->qkv_dim);
	if (l->o.lora)
		l->up = place(l, at, 3 * t * (size_t)l->o.lora->s.r);
}

static void place_head(struct llama *l, size_t *at)
{
	size_t n = (size_t)l->n_targets, t = (size_t)l->o.max_tokens;
	size_t width = (size_t)l->m->cfg.dim;

	l->hx = place(l, at, n * width);
	l->hn = place(l, at, n * width);
	l->rf = place(l, at, n);
	if (l->o.forward_only)
		return;
	l->g = place(l, at, n);
	l->sum = place(l, at, n);
	l->probs = place(l, at, (size_t)l->probs_rows * (size_t)l->m->cfg.vocab);
	l->dh = place(l, at, (n > t ? n : t) * width);
}

/* Once to count, then to place. */
static struct llama_bytes place_buffers(struct llama *l)
{
	struct llama_bytes b;
	size_t at = 0, body;

	place_body(l, &at);
	body = at;
	place_head(l, &at);
	l->slab_floats = at;
	b.body = body * sizeof *l->slab;
	b.head = (at - body) * sizeof *l->slab;
	b.softmax_rows = l->probs_rows;
	return b;
}

/* All but the buffers. */
static struct llama *shaped(const struct model *m, const struct llama_opts *o)
{
	const struct model_config *c = &m->cfg;
	struct llama *l = mem_new(sizeof *l);

	*l = (struct llama){.m = m, .o = *o};
	l->q_dim = c->n_heads * c->head_dim;
	l->kv_dim = c->n_kv_heads * c->head_dim;
	l->qkv_dim = l->q_dim + 2 * l->kv_dim;
	l->acts = mem_array((size_t)c->n_layers, sizeof *l->acts);
	l->xs = mem_array((size_t)c->n_layers + 1, sizeof *l->xs);
	l->n_targets = larger(o->max_targets, o->max_tokens);
	l->probs_rows = smaller(l->n_targets, larger(PROBS_FLOATS / c->vocab / 96 * 96, 96));
	return l;
}

struct llama_bytes llama_size(const struct model *m, const struct llama_opts *o)
{
	struct llama *l = shaped(m, o);
	struct llama_bytes b = place_buffers(l);

	llama_free(l);
	return b;
}

enum rc llama_new(const struct model *m, const struct kern *k, struct kern_pool *pool,
		  const struct llama_opts *o, struct llama **out, struct err *e)
{
	struct llama *l = shaped(m, o);
	enum rc rc;

	l->k = k;
	l->pool = pool;
	place_buffers(l);
	l->slab = mem_try(l->slab_floats * sizeof *l->slab);
	if (!l->slab) {
		rc = err_set(e, RC_NOMEM,
			     "activations of %d tokens need %zu MiB; fewer tokens per micro-batch "
			     "or recomputation would need less",
			     o->max_tokens, l->slab_floats * sizeof *l->slab >> 20);
		goto out;
	}
	place_buffers(l);
	rc = rope_table_make(&m->cfg, o->max_pos > 0 ? o->max_pos : o->max_tokens, &l->rope, e);
	if (rc != RC_OK)
		goto out;
	*out = l;
	l = NULL;
out:
	llama_free(l);
	return rc;
}

void llama_free(struct llama *l)
{
	if (!l)
		return;
	mem_try_free(l->slab, l->slab_floats * sizeof *l->slab);
	rope_table_release(&l->rope);
	free(l->acts);
	free(l->xs);
	free(l);
}

void llama_drop(struct llama *l, const struct pack *p, const struct llama_dropout *d, int layer,
		int site, float *x)
{
	size_t width = (size_t)l->m->cfg.dim;

	if (!d || d->p <= 0)
		return;
	for (int s = 0; s < p->n_seqs; s++) {
		size_t from = (size_t)p->cu[s], n = (size_t)(p->cu[s + 1] - p->cu[s]);
		uint32_t stream[2] = {(uint32_t)p->seq_id[s], (uint32_t)(2 * layer + site)};

		l->k->dropout(l->pool, x + from * width, n * width, d->p, d->key, stream);
	}
}

struct kern_attn llama_attn_args(struct llama *l, const struct pack *p, struct llama_acts *a)
{
	const struct model_config *c = &l->m->cfg;

	/* A window counts rows, and in a forked sequence rows are not positions: it is left out
	 * where nobody reaches its end. */
	ASSERT(!p->forked || c->sliding_window <= 0 || p->n_pos <= c->sliding_window);
	return (struct kern_attn){.n_seqs = p->n_seqs,
				  .n_tokens = p->n_tokens,
				  .cu = p->cu,
				  .fork = p->forked ? p->fork : NULL,
				  .heads = c->n_heads,
				  .kv_heads = c->n_kv_heads,
				  .head_dim = c->head_dim,
				  .window = p->forked ? 0 : c->sliding_window,
				  .scale = 1.0f / sqrtf((float)c->head_dim),
				  .q = a->qkv,
				  .k = a->qkv + l->q_dim,
				  .v = a->qkv + l->q_dim + l->kv_dim,
				  .ldq = l->qkv_dim,
				  .ldk = l->qkv_dim,
				  .ldv = l->qkv_dim,
				  .out = a->att,
				  .lse = a->lse};
}

/* x_out = x + drop(part . w^T) */
static void join_residual(struct llama *l, const struct pack *p, const struct llama_dropout *d,
			  const struct llama_linear *lin, float *x_out, const float *x,
			  const float *part)
{
	llama_linear(l, lin, x_out, part, p->n_tokens, false);
	llama_drop(l, p, d, lin->layer, lin->parts == MODEL_O ? 0 : 1, x_out);
	l->k->add(l->pool, x_out, x, (size_t)p->n_tokens * (size_t)lin->out);
}

void llama_layer_forward(struct llama *l, const struct pack *p, const struct llama_dropout *d,
			 int layer, float *x_out)
{
	const struct model_config *c = &l->m->cfg;
	const struct model_layer *y = &l->m->layers[layer];
	const float *w = l->m->params, *x = llama_x(l, layer);
	struct llama_acts *a = llama_acts_of(l, layer);
	struct llama_linear qkv = llama_linear_of(l, layer, LLAMA_QKV);
	struct llama_linear out = llama_linear_of(l, layer, LLAMA_OUT);
	struct llama_linear gate_up = llama_linear_of(l, layer, LLAMA_GATE_UP);
	struct llama_linear ffn_out = llama_linear_of(l, layer, LLAMA_FFN_OUT);
	const struct kern *k = l->k;
	int t = p->n_tokens;

	k->rmsnorm(l->pool, l->h, a->r1, x, w + y->norm_attn, t, c->dim, c->rms_eps);
	llama_linear(l, &qkv, a->qkv, l->h, t, false);
	if (c->qkv_bias)
		k->bias(l->pool, a->qkv, l->qkv_dim, w + y->bq, t, l->qkv_dim);
	k->rope(l->pool, a->qkv, l->qkv_dim, t, c->n_heads + c->n_kv_heads, c->head_dim, p->pos,
		l->rope.cos, l->rope.sin, false);
	struct kern_attn args = llama_attn_args(l, p, a);
	k->attn(l->pool, &args);
	join_residual(l, p, d, &out, a->mid, x, a->att);

	k->rmsnorm(l->pool, l->h, a->r2, a->mid, w + y->norm_ffn, t, c->dim, c->rms_eps);
	llama_linear(l, &gate_up, a->gu, l->h, t, false);
	if (!x_out)
		return;
	k->swiglu(l->pool, l->y, a->gu, a->gu + c->ffn_dim, 2 * c->ffn_dim, t, c->ffn_dim);
	join_residual(l, p, d, &ffn_out, x_out, a->mid, l->y);
}

void llama_body_forward(struct llama *l, const struct pack *p, const struct llama_dropout *d)
{
	const struct model_config *c = &l->m->cfg;

	ASSERT_LE(p->n_tokens, l->o.max_tokens);
	ASSERT_LE(p->n_targets, l->n_targets);
	ASSERT_LE(p->n_pos, l->rope.n_pos);
	l->k->embed(l->pool, llama_x(l, 0), l->m->params + l->m->embed, p->ids, p->n_tokens,
		    c->dim);
	for (int i = 0; i < c->n_layers; i++)
		llama_layer_forward(l, p, d, i, llama_x(l, i + 1));
}

void llama_gather_rows(struct llama *l, const struct pack *p)
{
	const struct model_config *c = &l->m->cfg;
	size_t width = (size_t)c->dim;
	const float *x = llama_x(l, c->n_layers);

	for (int i = 0; i < p->n_targets; i++)
		memcpy(l->hx + (size_t)i * width, x + (size_t)p->row[i] * width, width * sizeof *x);
	l->k->rmsnorm(l->pool, l->hn, l->rf, l->hx, l->m->params + l->m->norm_out, p->n_targets,
		      c->dim, c->rms_eps);
}

struct kern_logprob llama_head_args(struct llama *l, const struct pack *p, int from, int to,
				    float *logp, uint8_t *hit)
{
	const struct model_config *c = &l->m->cfg;

	return (struct kern_logprob){.format = l->o.format,
				     .rows = to - from,
				     .width = c->dim,
				     .vocab = c->vocab,
				     .h = l->hn + (size_t)from * (size_t)c->dim,
				     .w = l->m->params + l->m->head,
				     .target = p->target + from,
				     .logp = logp + from,
				     .hit = hit + from};
}

void llama_forward(struct llama *l, const struct pack *p, const struct llama_dropout *d,
		   float *logp, uint8_t *hit)
{
	struct kern_logprob a;

	llama_body_forward(l, p, d);
	llama_gather_rows(l, p);
	a = llama_head_args(l, p, 0, p->n_targets, logp, hit);
	l->k->logprob(l->pool, &a);
}

void llama_logits(struct llama *l, const struct pack *p, float *logits)
{
	const struct model_config *c = &l->m->cfg;

	llama_body_forward(l, p, NULL);
	l->k->rmsnorm(l->pool, l->h, NULL, llama_x(l, c->n_layers), l->m->params + l->m->norm_out,
		      p->n_tokens, c->dim, c->rms_eps);
	l->k->gemm_nt(l->pool, l->o.format, logits, c->vocab, l->h, c->dim,
		      l->m->params + l->m->head, c->dim, p->n_tokens, c->vocab, c->dim, false);
}
