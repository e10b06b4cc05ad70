#include "worker/model/infer_impl.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One pass: every row is one token at its position; keys and values go to the cache first, so rows
 * of one sequence, and rows of another that shares its blocks, may stand in the same pass. */

static size_t align16(size_t n)
{
	return (n + 15) & ~(size_t)15;
}

static int qkv_width(const struct model_config *c)
{
	return (c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
}

/* --- packed weights --------------------------------------------------------------------------- */

static size_t layer_bytes(const struct infer *f)
{
	const struct model_config *c = &f->m->cfg;
	size_t (*size)(enum kern_format, int, int) = f->kern->pack_size;
	int hd = c->n_heads * c->head_dim;

	return size(KERN_F32, qkv_width(c), c->dim) + size(KERN_F32, c->dim, hd) +
	       size(KERN_F32, 2 * c->ffn_dim, c->dim) + size(KERN_F32, c->dim, c->ffn_dim);
}

static void *pack_one(struct infer *f, char **at, size_t weight, int n, int k)
{
	void *p = *at;

	f->kern->pack(f->pool, KERN_F32, p, n, k, f->m->params + weight, k, 0, n);
	*at += f->kern->pack_size(KERN_F32, n, k);
	return p;
}

static enum rc pack_weights(struct infer *f, struct err *e)
{
	const struct model_config *c = &f->m->cfg;
	int hd = c->n_heads * c->head_dim;
	char *at;

	f->packed_bytes = (size_t)c->n_layers * layer_bytes(f) +
			  f->kern->pack_size(KERN_F32, c->vocab, c->dim);
	f->packed = at = mem_try(f->packed_bytes);
	if (!f->packed)
		return err_set(e, RC_NOMEM, "packed weights need %.1f MiB",
			       (double)f->packed_bytes / 1048576.0);
	f->layers = mem_array((size_t)c->n_layers, sizeof(*f->layers));
	for (int l = 0; l < c->n_layers; l++) {
		const struct model_layer *w = &f->m->layers[l];
		struct packed_layer *p = &f->layers[l];
		p->qkv = pack_one(f, &at, w->wq, qkv_width(c), c->dim);
		p->o = pack_one(f, &at, w->wo, c->dim, hd);
		p->w13 = pack_one(f, &at, w->w1, 2 * c->ffn_dim, c->dim);
		p->w2 = pack_one(f, &at, w->w2, c->dim, c->ffn_dim);
	}
	f->packed_head = pack_one(f, &at, f->m->head, c->vocab, c->dim);
	return RC_OK;
}

/* --- activations ------------------------------------------------------------------------------ */

/* With slab NULL only the size is found. */
static size_t lay_out(struct pass *p, const struct model_config *c, float *slab)
{
	size_t rows = (size_t)p->cap, outs = (size_t)p->cap_out, at = 0;
	const struct {
		float **field;
		size_t floats;
	} parts[] = {
		{&p->x, rows * (size_t)c->dim},
		{&p->xn, rows * (size_t)c->dim},
		{&p->qkv, rows * (size_t)qkv_width(c)},
		{&p->att, rows * (size_t)(c->n_heads * c->head_dim)},
		{&p->gu, rows * 2 * (size_t)c->ffn_dim},
		{&p->y, rows * (size_t)c->ffn_dim},
		{&p->xo, rows * (size_t)c->dim},
		{&p->logits, outs * (size_t)c->vocab},
		{&p->max, outs},
		{&p->lse, outs},
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		if (slab)
			*parts[i].field = slab + at;
		at += align16(parts[i].floats);
	}
	return at * sizeof(float);
}

enum rc pass_init(struct infer *f, struct err *e)
{
	struct pass *p = &f->pass;
	size_t rows;

	p->cap_out = f->max_batch;
	p->cap = f->max_batch + f->chunk;
	rows = (size_t)p->cap;
	p->slab_bytes = lay_out(p, &f->m->cfg, NULL);
	p->slab = mem_try(p->slab_bytes);
	if (!p->slab)
		return err_set(e, RC_NOMEM, "activations of %d rows need %.1f MiB", p->cap,
			       (double)p->slab_bytes / 1048576.0);
	lay_out(p, &f->m->cfg, p->slab);
	p->ids = mem_array(rows, sizeof(*p->ids));
	p->pos = mem_array(rows, sizeof(*p->pos));
	p->n_keys = mem_array(rows, sizeof(*p->n_keys));
	p->table = mem_array(rows, sizeof(*p->table));
	p->out = mem_array(rows, sizeof(*p->out));
	return pack_weights(f, e);
}

void pass_release(struct infer *f)
{
	struct pass *p = &f->pass;

	mem_try_free(p->slab, p->slab_bytes);
	mem_try_free(f->packed, f->packed_bytes);
	free(f->layers);
	free(p->ids);
	free(p->pos);
	free(p->n_keys);
	free(p->table);
	free(p->out);
}

void pass_add(struct pass *p, int32_t id, int32_t pos, const int32_t *table)
{
	p->ids[p->n] = id;
	p->pos[p->n] = pos;
	p->n_keys[p->n] = pos + 1;
	p->table[p->n] = table;
	p->n++;
}

/* --- the network ------------------------------------------------------------------------------ */

static void attention(struct infer *f, int l)
{
	const struct model_config *c = &f->m->cfg;
	const struct model_layer *w = &f->m->layers[l];
	const struct kern *k = f->kern;
	const float *params = f->m->params;
	struct pass *p = &f->pass;
	int hd = c->n_heads * c->head_dim, gd = c->n_kv_heads * c->head_dim, ld = qkv_width(c);
	size_t layer = (size_t)l * (size_t)f->kv.n_blocks * f->kv.stride;

	k->rmsnorm(f->pool, p->xn, NULL, p->x, params + w->norm_attn, p->n, c->dim, c->rms_eps);
	k->gemm_packed(f->pool, KERN_F32, p->qkv, ld, p->xn, c->dim, f->layers[l].qkv, p->n, ld, c->dim, false);
	if (c->qkv_bias)
		k->bias(f->pool, p->qkv, ld, params + w->bq, p->n, ld);
	/* Keys lie right behind the queries: one turn for both. */
	k->rope(f->pool, p->qkv, ld, p->n, c->n_heads + c->n_kv_heads, c->head_dim, p->pos, f->rope.cos,
		f->rope.sin, false);
	k->kv_store(f->pool, KERN_F32, f->kv.k + layer, f->kv.v + layer, p->qkv + hd, ld, p->qkv + hd + gd, ld,
		    p->table, p->pos, p->n, c->n_kv_heads, c->head_dim);
	struct kern_paged a = {
		.rows = p->n,
		.heads = c->n_heads,
		.kv_heads = c->n_kv_heads,
		.head_dim = c->head_dim,
		.window = c->sliding_window,
		.scale = 1.0f / sqrtf((float)c->head_dim),
		.q = p->qkv,
		.ldq = ld,
		.k = f->kv.k + layer,
		.v = f->kv.v + layer,
		.table = p->table,
		.n_keys = p->n_keys,
		.out = p->att,
	};
	k->attn_paged(f->pool, &a);
	k->gemm_packed(f->pool, KERN_F32, p->x, c->dim, p->att, hd, f->layers[l].o, p->n, c->dim, hd, true);
}

static void feed_forward(struct infer *f, int l)
{
	const struct model_config *c = &f->m->cfg;
	const struct kern *k = f->kern;
	struct pass *p = &f->pass;
	int ff = c->ffn_dim;

	k->rmsnorm(f->pool, p->xn, NULL, p->x, f->m->params + f->m->layers[l].norm_ffn, p->n, c->dim,
		   c->rms_eps);
	k->gemm_packed(f->pool, KERN_F32, p->gu, 2 * ff, p->xn, c->dim, f->layers[l].w13, p->n, 2 * ff, c->dim,
		       false);
	k->swiglu(f->pool, p->y, p->gu, p->gu + ff, 2 * ff, p->n, ff);
	k->gemm_packed(f->pool, KERN_F32, p->x, c->dim, p->y, ff, f->layers[l].w2, p->n, c->dim, ff, true);
}

void pass_run(struct infer *f)
{
	const struct model_config *c = &f->m->cfg;
	struct pass *p = &f->pass;

	f->kern->embed(f->pool, p->x, f->m->params + f->m->embed, p->ids, p->n, c->dim);
	for (int l = 0; l < c->n_layers; l++) {
		attention(f, l);
		feed_forward(f, l);
	}
	f->stats.passes++;
}

void pass_hidden(struct infer *f, int from, int n)
{
	const struct model_config *c = &f->m->cfg;
	struct pass *p = &f->pass;
	size_t width = (size_t)c->dim;

	for (int i = 0; i < n; i++)
		memcpy(p->xn + (size_t)i * width, p->x + (size_t)p->out[from + i] * width,
		       width * sizeof(float));
	f->kern->rmsnorm(f->pool, p->xo, NULL, p->xn, f->m->params + f->m->norm_out, n, c->dim,
			 c->rms_eps);
}

void pass_logits(struct infer *f, int from, int n)
{
	const struct model_config *c = &f->m->cfg;
	struct pass *p = &f->pass;

	pass_hidden(f, from, n);
	f->kern->gemm_packed(f->pool, KERN_F32, p->logits, c->vocab, p->xo, c->dim, f->packed_head, n, c->vocab,
			     c->dim, false);
	f->kern->row_lse(f->pool, p->max, p->lse, p->logits, c->vocab, n, c->vocab);
}
