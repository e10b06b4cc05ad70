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
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		if (slab)
			*parts[i].field = slab + at;
		at += align16(parts[i].floats);
	}
	return at * sizeof(float);
}

size_t pass_bytes(const struct model_config *cfg, int max_batch, int chunk)
{
	struct pass p = {.cap = max_batch + chunk, .cap_out = max_batch};

	return lay_out(&p, cfg, NULL);
}

enum rc pass_init(struct infer *f, struct err *e)
{
	struct pass *p = &f->pass;
	size_t rows;

	p->cap_out = f->max_batch;
	p->cap = f->max_batch + f->chunk;
	rows = (size_t)p->cap;
	p->slab_bytes = lay_out(p, &f->cfg, NULL);
	p->slab = mem_try(p->slab_bytes);
	if (!p->slab)
		return err_set(e, RC_NOMEM, "activations of %d rows need %.1f MiB", p->cap,
			       (double)p->slab_bytes / 1048576.0);
	lay_out(p, &f->cfg, p->slab);
	p->ids = mem_array(rows, sizeof(*p->ids));
	p->pos = mem_array(rows, sizeof(*p->pos));
	p->n_keys = mem_array(rows, sizeof(*p->n_keys));
	p->table = mem_array(rows, sizeof(*p->table));
	p->out = mem_array(rows, sizeof(*p->out));
	return RC_OK;
}

void pass_release(struct infer *f)
{
	struct pass *p = &f->pass;

	mem_try_free(p->slab, p->slab_bytes);
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
	const struct model_config *c = &f->cfg;
	const struct packed_layer *w = &f->weights.layers[l];
	enum kern_format format = f->weights.format;
	const struct kern *k = f->kern;
	struct pass *p = &f->pass;
	int hd = c->n_heads * c->head_dim, gd = c->n_kv_heads * c->head_dim, ld = qkv_width(c);
	size_t layer = (size_t)l * (size_t)f->kv.n_blocks * f->kv.stride;

	k->rmsnorm(f->pool, p->xn, NULL, p->x, w->norm_attn, p->n, c->dim, c->rms_eps);
	k->gemm_packed(f->pool, format, p->qkv, ld, p->xn, c->dim, w->qkv, p->n, ld, c->dim, false);
	if (c->qkv_bias)
		k->bias(f->pool, p->qkv, ld, w->bias, p->n, ld);
	/* Keys lie right behind the queries: one turn for both. */
	k->rope(f->pool, p->qkv, ld, p->n, c->n_heads + c->n_kv_heads, c->head_dim, p->pos, f->rope.cos,
		f->rope.sin, false);
	k->kv_store(f->pool, f->kv.format, f->kv.k + layer, f->kv.v + layer, p->qkv + hd, ld,
		    p->qkv + hd + gd, ld, p->table, p->pos, p->n, c->n_kv_heads, c->head_dim);
	struct kern_paged a = {
		.kv = f->kv.format,
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
	k->gemm_packed(f->pool, format, p->x, c->dim, p->att, hd, w->o, p->n, c->dim, hd, true);
}

static void feed_forward(struct infer *f, int l)
{
	const struct model_config *c = &f->cfg;
	const struct packed_layer *w = &f->weights.layers[l];
	enum kern_format format = f->weights.format;
	const struct kern *k = f->kern;
	struct pass *p = &f->pass;
	int ff = c->ffn_dim;

	k->rmsnorm(f->pool, p->xn, NULL, p->x, w->norm_ffn, p->n, c->dim,
		   c->rms_eps);
	k->gemm_packed(f->pool, format, p->gu, 2 * ff, p->xn, c->dim, w->w13, p->n, 2 * ff, c->dim,
		       false);
	k->swiglu(f->pool, p->y, p->gu, p->gu + ff, 2 * ff, p->n, ff);
	k->gemm_packed(f->pool, format, p->x, c->dim, p->y, ff, w->w2, p->n, c->dim, ff, true);
}

void pass_run(struct infer *f)
{
	const struct model_config *c = &f->cfg;
	struct pass *p = &f->pass;

	f->kern->embed_packed(f->pool, f->weights.format, p->x, f->weights.embed, c->vocab, c->dim, p->ids,
			      p->n);
	for (int l = 0; l < c->n_layers; l++) {
		attention(f, l);
		feed_forward(f, l);
	}
	f->stats.passes++;
}

void pass_hidden(struct infer *f, int from, int n)
{
	const struct model_config *c = &f->cfg;
	struct pass *p = &f->pass;
	size_t width = (size_t)c->dim;

	for (int i = 0; i < n; i++)
		memcpy(p->xn + (size_t)i * width, p->x + (size_t)p->out[from + i] * width,
		       width * sizeof(float));
	f->kern->rmsnorm(f->pool, p->xo, NULL, p->xn, f->weights.norm_out, n, c->dim,
			 c->rms_eps);
}

void pass_logits(struct infer *f, int from, int n)
{
	const struct model_config *c = &f->cfg;
	struct pass *p = &f->pass;

	pass_hidden(f, from, n);
	f->kern->gemm_packed(f->pool, f->weights.format, p->logits, c->vocab, p->xo, c->dim,
			     f->weights.head, n, c->vocab, c->dim, false);
}
