#include "worker/model/infer_impl.h"

#include "base/mem.h"
#include "worker/model/mirror.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One pass: every row is one token at its position; keys and values go to the cache first, so rows
 * of one sequence, and rows of another that shares its blocks, may stand in the same pass. */

static int qkv_width(const struct model_config *c)
{
	return (c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
}

/* --- activations ------------------------------------------------------------------------------ */

/* Of the lists; a pass may have as many sequences as rows, each as long as can be. */
static size_t lists_ints(int cap, int context)
{
	return (size_t)cap * (7 + ((size_t)context + KERN_PAGE - 1) / KERN_PAGE);
}

/* With slab NULL only the size is found. */
static size_t lay_out(struct pass *p, const struct model_config *c, const struct kern *k,
		      char *slab)
{
	size_t rows = (size_t)p->cap, outs = (size_t)p->cap_out, at = 0, act = kern_act(k);
	const struct {
		void *field; /* of any pointer type */
		size_t bytes;
	} parts[] = {
		{&p->x, rows * (size_t)c->dim * act},
		{&p->xn, rows * (size_t)c->dim * act},
		{&p->qkv, rows * (size_t)qkv_width(c) * act},
		{&p->att, rows * (size_t)(c->n_heads * c->head_dim) * act},
		{&p->gu, rows * 2 * (size_t)c->ffn_dim * act},
		{&p->y, rows * (size_t)c->ffn_dim * act},
		{&p->xo, rows * (size_t)c->dim * act},
		{&p->logits, outs * (size_t)c->vocab * sizeof(float)},
		{&p->lse, 2 * outs * sizeof(float)},
		{&p->there.ids, k->host ? 0 : p->lists_bytes},
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		void *here = slab + at;
		if (slab)
			memcpy(parts[i].field, &here, sizeof(here));
		at += mirror_round(parts[i].bytes);
	}
	return at;
}

size_t pass_bytes(const struct model_config *cfg, const struct kern *k, const struct infer_opts *o,
		  int context)
{
	struct pass p = {.cap = o->max_batch + o->chunk, .cap_out = o->max_batch};

	p.lists_bytes = lists_ints(p.cap, context) * sizeof(int32_t);
	return lay_out(&p, cfg, k, NULL);
}

/* The parts of an array whose beginning is `ids`. */
static void split_lists(const struct pass *p, struct pass_lists *s)
{
	s->pos = s->ids + p->cap;
	s->n_keys = s->pos + p->cap;
	s->first = s->n_keys + p->cap;
	s->out = s->first + p->cap;
	s->word = s->out + p->cap;
	s->blocks = s->word + 2 * p->cap;
}

enum rc pass_init(struct infer *f, struct err *e)
{
	struct pass *p = &f->pass;
	size_t rope = rope_table_bytes(&f->rope);
	enum rc rc;

	p->cap_out = f->max_batch;
	p->cap = f->max_batch + f->chunk;
	p->lists_bytes = lists_ints(p->cap, f->context) * sizeof(int32_t);
	p->slab_bytes = lay_out(p, &f->cfg, f->kern, NULL);
	p->slab = f->kern->alloc(f->pool, p->slab_bytes);
	p->lists = mem_try(p->lists_bytes);
	if (!p->slab || !p->lists)
		return err_set(e, RC_NOMEM, "activations of %d rows need %.1f MiB", p->cap,
			       (double)p->slab_bytes / 1048576.0);
	lay_out(p, &f->cfg, f->kern, p->slab);
	p->here.ids = p->lists;
	if (f->kern->host)
		p->there.ids = p->lists;
	split_lists(p, &p->here);
	split_lists(p, &p->there);
	p->table = mem_array((size_t)p->cap, sizeof(*p->table));
	rc = mirror_make(f->kern, f->pool, f->rope.cos, rope, "rotary tables", (void **)&f->cos, e);
	if (rc == RC_OK)
		rc = mirror_make(f->kern, f->pool, f->rope.sin, rope, "rotary tables",
				 (void **)&f->sin, e);
	return rc;
}

void pass_release(struct infer *f)
{
	struct pass *p = &f->pass;

	if (p->slab)
		f->kern->release(f->pool, p->slab, p->slab_bytes);
	mem_try_free(p->lists, p->lists_bytes);
	mirror_free(f->kern, f->pool, f->cos, rope_table_bytes(&f->rope));
	mirror_free(f->kern, f->pool, f->sin, rope_table_bytes(&f->rope));
	free(p->table);
	free(p->logits_here);
}

void pass_add(struct pass *p, int32_t id, int32_t pos, const int32_t *table)
{
	p->here.ids[p->n] = id;
	p->here.pos[p->n] = pos;
	p->here.n_keys[p->n] = pos + 1;
	p->table[p->n] = table;
	p->n++;
}

/* The blocks of each sequence once: its rows stand side by side, the last one sees most. */
static void list_blocks(struct pass *p)
{
	p->n_blocks = p->most_keys = p->runs = 0;
	for (int r = 0, end; r < p->n; r = end) {
		for (end = r; end < p->n && p->table[end] == p->table[r]; end++)
			p->here.first[end] = p->n_blocks;
		int keys = p->here.n_keys[end - 1], n = (keys + KERN_PAGE - 1) / KERN_PAGE;
		memcpy(p->here.blocks + p->n_blocks, p->table[r], (size_t)n * sizeof(int32_t));
		p->n_blocks += n;
		p->runs++;
		p->most_keys = keys > p->most_keys ? keys : p->most_keys;
	}
}

/* Each rank has some words of the vocabulary, and counts them from 0. */
static void list_words(struct infer *f)
{
	struct model_span v = model_vocab_span(&f->cfg);
	struct pass *p = &f->pass;

	for (int r = 0; r < p->n; r++) {
		int32_t id = p->here.ids[r] - v.from;
		bool mine = id >= 0 && id < v.n;

		p->here.ids[r] = mine ? id : 0;
		p->here.word[2 * r] = mine ? r : -1;
		p->here.word[2 * r + 1] = -1;
	}
}

/* Decoding: one row of each sequence. Such passes come again with other lists of the same sizes. */
static bool can_record(const struct infer *f)
{
	return f->kern->graph_run && !f->coll && f->pass.n == f->pass.runs;
}

/* So many rows are recorded: few sizes, so that a batch that loses an answer a step is not recorded
 * anew each time. */
static int filled_up(int n, int most)
{
	int step = n > 256 ? 64 : n > 64 ? 32 : n > 8 ? 8 : n > 4 ? 4 : n > 2 ? 2 : 1;

	n = (n + step - 1) / step * step;
	return n < most ? n : most;
}

/* Rows that nobody asked for look at a block of their own. */
static void fill_up(struct infer *f)
{
	struct pass *p = &f->pass;

	for (int n = filled_up(p->n, p->cap); p->n < n;)
		pass_add(p, 0, 0, &f->kv.spare);
	list_blocks(p);
	p->runs = p->n;
}

static void put_lists(struct infer *f)
{
	struct pass *p = &f->pass;

	list_blocks(p);
	if (can_record(f))
		fill_up(f);
	if (f->coll)
		list_words(f);
	f->kern->put(f->pool, p->there.ids, p->here.ids,
		     (size_t)(p->here.blocks + p->n_blocks - p->here.ids) * sizeof(int32_t));
}

/* --- the network ------------------------------------------------------------------------------ */

/* Of several ranks each has a product of its own in xn: x += their sum. */
static void add_sum(struct infer *f)
{
	struct pass *p = &f->pass;
	size_t n = (size_t)p->n * (size_t)f->cfg.dim;

	if (!f->coll)
		return;
	coll_all_reduce(f->coll, p->xn, n, coll_act(f->kern), COLL_SUM);
	f->kern->add(f->pool, p->x, p->xn, n);
}

/* x += a[n][width] . w^T, the product's sum over ranks. */
static void add_product(struct infer *f, const void *a, int width, const void *w)
{
	struct pass *p = &f->pass;
	int dim = f->cfg.dim;

	f->kern->gemm_packed(f->pool, f->weights.format, f->coll ? p->xn : p->x, dim, a, width, w,
			     p->n, dim, width, !f->coll);
	add_sum(f);
}

static void embed(struct infer *f)
{
	struct pass *p = &f->pass;
	const struct kern *k = f->kern;
	int dim = f->cfg.dim, words = model_vocab_span(&f->cfg).n;
	void *to = f->coll ? p->xn : p->x;

	k->embed_packed(f->pool, f->weights.format, to, f->weights.embed, words, dim, p->there.ids,
			p->n);
	if (!f->coll)
		return;
	k->spread(f->pool, p->x, p->xn, p->there.word, p->n, dim);
	coll_all_reduce(f->coll, p->x, (size_t)p->n * (size_t)dim, coll_act(k), COLL_SUM);
}

/* Of each row, the first two turned to its position. */
static void queries_keys_values(struct infer *f, const struct packed_layer *w)
{
	const struct model_config *c = &f->cfg;
	const struct kern *k = f->kern;
	struct pass *p = &f->pass;
	int ld = qkv_width(c), heads = c->n_heads + c->n_kv_heads; /* keys lie behind the queries */
	struct kern_turn t = {.bias = c->qkv_bias ? w->bias : NULL,
			      .pos = p->there.pos,
			      .cos = f->cos,
			      .sin = f->sin,
			      .heads = heads,
			      .head_dim = c->head_dim};

	if (k->norm_packed) {
		k->norm_packed(f->pool, f->weights.format, p->qkv, ld, p->x, w->norm_attn,
			       c->rms_eps, w->qkv, p->n, ld, c->dim, &t);
		return;
	}
	k->rmsnorm(f->pool, p->xn, NULL, p->x, w->norm_attn, p->n, c->dim, c->rms_eps);
	k->gemm_packed(f->pool, f->weights.format, p->qkv, ld, p->xn, c->dim, w->qkv, p->n, ld,
		       c->dim, false);
	if (t.bias)
		k->bias(f->pool, p->qkv, ld, t.bias, p->n, ld);
	k->rope(f->pool, p->qkv, ld, p->n, heads, c->head_dim, t.pos, t.cos, t.sin, false);
}

static void attention(struct infer *f, int l)
{
	const struct model_config *c = &f->cfg;
	const struct packed_layer *w = &f->weights.layers[l];
	const struct kern *k = f->kern;
	struct pass *p = &f->pass;
	int hd = c->n_heads * c->head_dim, gd = c->n_kv_heads * c->head_dim, ld = qkv_width(c);
	size_t layer = (size_t)l * (size_t)f->kv.per_layer * f->kv.stride;
	const void *keys = kern_at(k, p->qkv, (size_t)hd);
	const void *values = kern_at(k, p->qkv, (size_t)(hd + gd));

	queries_keys_values(f, w);
	k->kv_store(f->pool, f->kv.format, f->kv.k + layer, f->kv.v + layer, keys, ld, values, ld,
		    p->there.blocks, p->there.first, p->there.pos, p->n, c->n_kv_heads,
		    c->head_dim);
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
		.blocks = p->there.blocks,
		.first = p->there.first,
		.n_keys = p->there.n_keys,
		.most_keys = p->most_keys,
		.runs = p->runs,
		.out = p->att,
	};
	if (k->paged_packed &&
	    k->paged_packed(f->pool, &a, f->weights.format, f->coll ? p->xn : p->x, c->dim, w->o,
			    c->dim, !f->coll)) {
		add_sum(f);
		return;
	}
	k->attn_paged(f->pool, &a);
	add_product(f, p->att, hd, w->o);
}

static void feed_forward(struct infer *f, int l)
{
	const struct model_config *c = &f->cfg;
	const struct packed_layer *w = &f->weights.layers[l];
	enum kern_format format = f->weights.format;
	const struct kern *k = f->kern;
	struct pass *p = &f->pass;
	int ff = c->ffn_dim;

	if (k->ffn_packed &&
	    k->ffn_packed(f->pool, format, f->coll ? p->xn : p->x, p->x, w->norm_ffn, c->rms_eps,
			  w->w13, w->w2, p->n, ff, c->dim, !f->coll)) {
		add_sum(f);
		return;
	}
	k->rmsnorm(f->pool, p->xn, NULL, p->x, w->norm_ffn, p->n, c->dim, c->rms_eps);
	k->gemm_packed(f->pool, format, p->gu, 2 * ff, p->xn, c->dim, w->w13, p->n, 2 * ff, c->dim,
		       false);
	k->swiglu(f->pool, p->y, p->gu, kern_at(k, p->gu, (size_t)ff), 2 * ff, p->n, ff);
	add_product(f, p->y, ff, w->w2);
}

static void run_layers(struct infer *f)
{
	const struct model_config *c = &f->cfg;

	embed(f);
	for (int l = 0; l < c->n_layers; l++) {
		attention(f, l);
		feed_forward(f, l);
	}
}

/* What the operations of a pass depend on beside the contents of arrays: whose they are, how many
 * rows, and the most keys, of which the next power of two is told. */
static uint64_t record_key(struct infer *f)
{
	int most = 256, log = 0;

	for (; most < f->pass.most_keys; most *= 2)
		log++;
	f->pass.most_keys = most;
	return ((uint64_t)(uintptr_t)f >> 4) << 20 | (uint64_t)log << 15 |
	       (uint64_t)(f->pass.n & 0x7fff);
}

void pass_run(struct infer *f)
{
	put_lists(f);
	if (!can_record(f))
		run_layers(f);
	else if (!f->kern->graph_run(f->pool, record_key(f))) {
		f->kern->graph_begin(f->pool, record_key(f));
		run_layers(f);
		f->kern->graph_end(f->pool);
	}
	f->stats.passes++;
}

void pass_hidden(struct infer *f, int from, int n)
{
	const struct model_config *c = &f->cfg;
	struct pass *p = &f->pass;

	f->kern->gather(f->pool, p->xn, p->x, p->there.out + from, n, c->dim);
	f->kern->rmsnorm(f->pool, p->xo, NULL, p->xn, f->weights.norm_out, n, c->dim, c->rms_eps);
}

void pass_logits(struct infer *f, int from, int n)
{
	const struct model_config *c = &f->cfg;
	struct model_span v = model_vocab_span(c);
	struct pass *p = &f->pass;
	size_t all = (size_t)n * (size_t)c->vocab;

	pass_hidden(f, from, n);
	if (f->coll) /* Each rank's words beside zeros: adding them rounds nothing. */
		f->kern->zero(f->pool, p->logits, all * sizeof *p->logits);
	f->kern->logits(f->pool, f->weights.format, p->logits + v.from, c->vocab, p->xo, c->dim,
			f->weights.head, n, v.n, c->dim);
	coll_all_reduce(f->coll, p->logits, all, COLL_F32, COLL_SUM);
}

const float *pass_logits_here(struct infer *f, int n)
{
	struct pass *p = &f->pass;
	size_t row = (size_t)f->cfg.vocab;

	if (f->kern->host)
		return p->logits;
	if (!p->logits_here)
		p->logits_here = mem_array((size_t)p->cap_out * row, sizeof(float));
	f->kern->get(f->pool, p->logits_here, p->logits, (size_t)n * row * sizeof(float));
	return p->logits_here;
}
