#include "worker/model/llama.h"

#include "base/check.h"
#include "base/mem.h"
#include "worker/model/llama_inner.h"
#include "worker/model/mirror.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of the softmax kept between the way there and back: rows enough that packing the head for a
 * product costs little beside it: 128 MiB, or a third for floats, whose products take longer. */
#define PROBS_FLOATS (32 << 20)

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

void *llama_x(struct llama *l, int layer)
{
	return l->xs[l->o.forward_only ? layer & 1 : layer];
}

/* What is asked for, one after the other, each at a multiple of 64 bytes. */
static void *place(struct llama *l, size_t *at, size_t n, size_t size)
{
	size_t here = *at;

	*at += mirror_round(n * size);
	return l->slab ? l->slab + here : NULL;
}

static void *place_acts(struct llama *l, size_t *at, size_t n)
{
	return place(l, at, n, kern_act(l->k));
}

static float *place_floats(struct llama *l, size_t *at, size_t n)
{
	return place(l, at, n, sizeof(float));
}

static void place_body(struct llama *l, size_t *at)
{
	const struct model_config *c = &l->m->cfg;
	size_t t = (size_t)l->o.max_tokens, width = (size_t)c->dim;
	int n_acts = keeps_all(l) ? c->n_layers : 1;
	int n_xs = l->o.forward_only ? 2 : c->n_layers + 1;

	for (int i = 0; i < n_acts; i++)
		l->acts[i] = (struct llama_acts){
			.r1 = place_floats(l, at, t),
			.r2 = place_floats(l, at, t),
			.qkv = place_acts(l, at, t * (size_t)l->qkv_dim),
			.att = place_acts(l, at, t * (size_t)l->q_dim),
			.lse = place_floats(l, at, t * (size_t)c->n_heads),
			.mid = place_acts(l, at, t * width),
			.gu = place_acts(l, at, 2 * t * (size_t)c->ffn_dim)};
	for (int i = 0; i < n_xs; i++)
		l->xs[i] = place_acts(l, at, t * width);
	l->h = place_acts(l, at, t * width);
	l->y = place_acts(l, at, t * (size_t)larger(c->ffn_dim, l->q_dim));
	if (l->o.lora)
		l->down = place_acts(l, at, 3 * t * (size_t)l->o.lora->s.r);
	if (l->o.forward_only)
		return;
	l->dx = place_acts(l, at, t * width);
	l->dy = place_acts(l, at, t * (size_t)larger(c->ffn_dim, l->q_dim));
	l->dqkv = place_acts(l, at, t * (size_t)l->qkv_dim);
	if (l->o.lora)
		l->up = place_acts(l, at, 3 * t * (size_t)l->o.lora->s.r);
	if (l->o.lora && l->o.lora->s.dropout > 0)
		l->dropped = place_acts(
			l, at, t * (size_t)larger(larger(c->ffn_dim, l->q_dim), c->dim));
}

static void place_head(struct llama *l, size_t *at)
{
	size_t n = (size_t)l->n_targets, t = (size_t)l->o.max_tokens;
	size_t width = (size_t)l->m->cfg.dim;

	l->hx = place_acts(l, at, n * width);
	l->hn = place_acts(l, at, n * width);
	l->rf = place_floats(l, at, n);
	l->logp = place_floats(l, at, n);
	l->hit = place(l, at, n, sizeof *l->hit);
	l->parts = place_floats(l, at, l->o.coll ? 3 * n : 0);
	l->there.ids = place(l, at, l->lists_bytes, 1);
	if (l->o.forward_only)
		return;
	l->g = place_floats(l, at, n);
	l->entropy = place_floats(l, at, n);
	l->logit = place_floats(l, at, n);
	l->sum = place_floats(l, at, 2 * n);
	l->probs = place_floats(l, at, (size_t)l->probs_rows * (size_t)l->n_words);
	l->hot = place_floats(l, at, l->o.coll ? n : 0);
	l->dh = place_acts(l, at, (n > t ? n : t) * width);
}

/* The parts of an array of lists_bytes; ids is its beginning. */
static void split_lists(const struct llama *l, struct llama_lists *s)
{
	size_t t = (size_t)l->o.max_tokens, n = (size_t)l->n_targets;

	s->pos = s->ids + t;
	s->cu = s->pos + t;
	s->fork = s->cu + t + 1;
	s->row = s->fork + 2 * t;
	s->target = s->row + n;
	s->from = s->target + n;
	s->word = s->from + 2 * t;
	s->own_row = s->word + 2 * t;
	s->own_id = s->own_row + t;
}

/* Once to count, then to place. */
static struct llama_bytes place_buffers(struct llama *l)
{
	struct llama_bytes b;
	size_t at = 0, body;

	place_body(l, &at);
	body = at;
	place_head(l, &at);
	l->slab_bytes = at;
	b.body = body;
	b.head = at - body;
	b.softmax_rows = l->probs_rows;
	return b;
}

/* All but the buffers. */
static struct llama *shaped(const struct model *m, const struct kern *k, const struct llama_opts *o)
{
	const struct model_config *c = &m->cfg;
	struct llama *l = mem_new(sizeof *l);
	int rows;

	*l = (struct llama){.m = m, .k = k, .o = *o};
	l->q_dim = c->n_heads * c->head_dim;
	l->kv_dim = c->n_kv_heads * c->head_dim;
	l->qkv_dim = l->q_dim + 2 * l->kv_dim;
	l->acts = mem_array((size_t)c->n_layers, sizeof *l->acts);
	l->xs = mem_array((size_t)c->n_layers + 1, sizeof *l->xs);
	l->n_targets = larger(o->max_targets, o->max_tokens);
	l->n_words = model_vocab_span(c).n;
	rows = PROBS_FLOATS / (o->format == KERN_BF16 ? 1 : 3) / l->n_words;
	l->probs_rows = smaller(l->n_targets, larger(rows, 96));
	l->lists_bytes = sizeof(int32_t) *
			 ((o->coll ? 11 : 7) * (size_t)o->max_tokens + 1 +
			  2 * (size_t)l->n_targets);
	return l;
}

struct llama_bytes llama_size(const struct model *m, const struct kern *k,
			      const struct llama_opts *o)
{
	struct llama *l = shaped(m, k, o);
	struct llama_bytes b = place_buffers(l);

	llama_free(l);
	return b;
}

static enum rc make_rope(struct llama *l, struct err *e)
{
	size_t bytes;
	enum rc rc = rope_table_make(&l->m->cfg, l->o.max_pos > 0 ? l->o.max_pos : l->o.max_tokens,
				     &l->rope, e);

	if (rc != RC_OK)
		return rc;
	bytes = rope_table_bytes(&l->rope);
	rc = mirror_make(l->k, l->pool, l->rope.cos, bytes, "rotary tables", (void **)&l->cos, e);
	if (rc == RC_OK)
		rc = mirror_make(l->k, l->pool, l->rope.sin, bytes, "rotary tables",
				 (void **)&l->sin, e);
	return rc;
}

/* Until a back end says otherwise they are not known. */
static void forget_spread(struct llama *l)
{
	float *none = mem_array((size_t)l->n_targets, sizeof *none);

	for (int i = 0; i < l->n_targets; i++)
		none[i] = NAN;
	l->k->put(l->pool, l->entropy, none, (size_t)l->n_targets * sizeof *none);
	l->k->put(l->pool, l->logit, none, (size_t)l->n_targets * sizeof *none);
	free(none);
}

enum rc llama_new(const struct model *m, const struct kern *k, struct kern_pool *pool,
		  const struct llama_opts *o, struct llama **out, struct err *e)
{
	struct llama *l = shaped(m, k, o);
	enum rc rc;

	l->pool = pool;
	place_buffers(l);
	l->slab = k->alloc(pool, l->slab_bytes);
	if (!l->slab) {
		rc = err_set(e, RC_NOMEM,
			     "activations of %d tokens need %zu MiB; fewer tokens per micro-batch "
			     "or recomputation would need less",
			     o->max_tokens, l->slab_bytes >> 20);
		goto out;
	}
	place_buffers(l);
	l->lists = mem_new(l->lists_bytes);
	l->slopes = mem_array((size_t)l->n_targets, sizeof *l->slopes);
	if (o->coll) {
		l->parts_here = mem_array((size_t)l->n_targets, 3 * sizeof *l->parts_here);
		l->fade = mem_array((size_t)l->n_targets, sizeof *l->fade);
		l->spread_here = mem_array((size_t)l->n_targets, 2 * sizeof *l->spread_here);
		l->agreed = mem_array((size_t)l->n_targets, 6 * sizeof *l->agreed);
	}
	l->here.ids = l->lists;
	split_lists(l, &l->here);
	split_lists(l, &l->there);
	if (!o->forward_only)
		forget_spread(l);
	rc = make_rope(l, e);
	if (rc == RC_OK)
		rc = llama_weights_bind(l, e);
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
	if (l->slab)
		l->k->release(l->pool, l->slab, l->slab_bytes);
	mirror_free(l->k, l->pool, l->cos, rope_table_bytes(&l->rope));
	mirror_free(l->k, l->pool, l->sin, rope_table_bytes(&l->rope));
	rope_table_release(&l->rope);
	llama_weights_release(l);
	free(l->lists);
	free(l->slopes);
	free(l->parts_here);
	free(l->fade);
	free(l->spread_here);
	free(l->agreed);
	free(l->acts);
	free(l->xs);
	free(l);
}

void llama_drop(struct llama *l, const struct pack *p, const struct llama_dropout *d, int layer,
		int site, void *x)
{
	size_t width = (size_t)l->m->cfg.dim;

	if (!d || d->p <= 0)
		return;
	for (int s = 0; s < p->n_seqs; s++) {
		size_t from = (size_t)p->cu[s], n = (size_t)(p->cu[s + 1] - p->cu[s]);
		uint32_t stream[2] = {(uint32_t)p->seq_id[s], (uint32_t)(2 * layer + site)};

		l->k->dropout(l->pool, llama_at(l, x, from * width), n * width, d->p, d->key,
			      stream);
	}
}

struct kern_attn llama_attn_args(struct llama *l, const struct pack *p, struct llama_acts *a)
{
	const struct model_config *c = &l->m->cfg;
	int longest = 0;

	/* A window counts rows, and in a forked sequence rows are not positions: it is left out
	 * where nobody reaches its end. */
	ASSERT(!p->forked || c->sliding_window <= 0 || p->n_pos <= c->sliding_window);
	for (int s = 0; s < p->n_seqs; s++)
		longest = larger(longest, p->cu[s + 1] - p->cu[s]);
	return (struct kern_attn){.n_seqs = p->n_seqs,
				  .n_tokens = p->n_tokens,
				  .cu = l->there.cu,
				  .longest = longest,
				  .fork = p->forked ? l->there.fork : NULL,
				  .heads = c->n_heads,
				  .kv_heads = c->n_kv_heads,
				  .head_dim = c->head_dim,
				  .window = p->forked ? 0 : c->sliding_window,
				  .scale = 1.0f / sqrtf((float)c->head_dim),
				  .q = a->qkv,
				  .k = llama_at(l, a->qkv, (size_t)l->q_dim),
				  .v = llama_at(l, a->qkv, (size_t)(l->q_dim + l->kv_dim)),
				  .ldq = l->qkv_dim,
				  .ldk = l->qkv_dim,
				  .ldv = l->qkv_dim,
				  .out = a->att,
				  .lse = a->lse};
}

/* x_out = x + drop(part . w^T), the product's sum over ranks */
static void join_residual(struct llama *l, const struct pack *p, const struct llama_dropout *d,
			  const struct llama_linear *lin, void *x_out, const void *x,
			  const void *part)
{
	llama_linear(l, lin, x_out, part, p->n_tokens, false);
	llama_sum(l, x_out, (size_t)p->n_tokens * (size_t)lin->out);
	llama_drop(l, p, d, lin->layer, lin->parts == MODEL_O ? 0 : 1, x_out);
	l->k->add(l->pool, x_out, x, (size_t)p->n_tokens * (size_t)lin->out);
}

void llama_layer_forward(struct llama *l, const struct pack *p, const struct llama_dropout *d,
			 int layer, void *x_out)
{
	const struct model_config *c = &l->m->cfg;
	const struct llama_weights *w = &l->w[layer];
	const void *x = llama_x(l, layer);
	struct llama_acts *a = llama_acts_of(l, layer);
	struct llama_linear qkv = llama_linear_of(l, layer, LLAMA_QKV);
	struct llama_linear out = llama_linear_of(l, layer, LLAMA_OUT);
	struct llama_linear gate_up = llama_linear_of(l, layer, LLAMA_GATE_UP);
	struct llama_linear ffn_out = llama_linear_of(l, layer, LLAMA_FFN_OUT);
	const struct kern *k = l->k;
	int t = p->n_tokens, f = c->ffn_dim;

	k->rmsnorm(l->pool, l->h, a->r1, x, w->norm_attn, t, c->dim, c->rms_eps);
	llama_linear(l, &qkv, a->qkv, l->h, t, false);
	if (c->qkv_bias)
		k->bias(l->pool, a->qkv, l->qkv_dim, w->bias, t, l->qkv_dim);
	k->rope(l->pool, a->qkv, l->qkv_dim, t, c->n_heads + c->n_kv_heads, c->head_dim,
		l->there.pos, l->cos, l->sin, false);
	struct kern_attn args = llama_attn_args(l, p, a);
	k->attn(l->pool, &args);
	join_residual(l, p, d, &out, a->mid, x, a->att);

	k->rmsnorm(l->pool, l->h, a->r2, a->mid, w->norm_ffn, t, c->dim, c->rms_eps);
	llama_linear(l, &gate_up, a->gu, l->h, t, false);
	if (!x_out)
		return;
	k->swiglu(l->pool, l->y, a->gu, llama_at(l, a->gu, (size_t)f), 2 * f, t, f);
	join_residual(l, p, d, &ffn_out, x_out, a->mid, l->y);
}

static void list_targets(const struct llama *l, const struct pack *p)
{
	int32_t *from = l->here.from;

	memset(from, -1, 2 * (size_t)p->n_tokens * sizeof *from);
	for (int i = 0; i < p->n_targets; i++) {
		int32_t *of_row = from + 2 * p->row[i];

		ASSERT(of_row[1] < 0); /* Two endings at most begin behind one row. */
		of_row[of_row[0] < 0 ? 0 : 1] = i;
	}
}

static void put_lists(struct llama *l, const struct pack *p)
{
	const struct llama_lists *s = &l->here;
	size_t t = (size_t)p->n_tokens, n = (size_t)p->n_targets, seqs = (size_t)p->n_seqs;

	memcpy(s->ids, p->ids, t * sizeof *s->ids);
	memcpy(s->pos, p->pos, t * sizeof *s->pos);
	memcpy(s->cu, p->cu, (seqs + 1) * sizeof *s->cu);
	memcpy(s->fork, p->fork, 2 * seqs * sizeof *s->fork);
	memcpy(s->row, p->row, n * sizeof *s->row);
	memcpy(s->target, p->target, n * sizeof *s->target);
	list_targets(l, p);
	if (l->o.coll)
		llama_list_words(l, p);
	l->k->put(l->pool, l->there.ids, s->ids, l->lists_bytes);
}

void llama_body_forward(struct llama *l, const struct pack *p, const struct llama_dropout *d)
{
	const struct model_config *c = &l->m->cfg;

	l->pack = p;
	l->drop = d;
	ASSERT_LE(p->n_tokens, l->o.max_tokens);
	ASSERT_LE(p->n_seqs, l->o.max_tokens);
	ASSERT_LE(p->n_targets, l->n_targets);
	ASSERT_LE(p->n_pos, l->rope.n_pos);
	put_lists(l, p);
	llama_embed(l, p, llama_x(l, 0));
	for (int i = 0; i < c->n_layers; i++)
		llama_layer_forward(l, p, d, i, llama_x(l, i + 1));
}

void llama_gather_rows(struct llama *l, const struct pack *p)
{
	const struct model_config *c = &l->m->cfg;

	l->k->gather(l->pool, l->hx, llama_x(l, c->n_layers), l->there.row, p->n_targets, c->dim);
	l->k->rmsnorm(l->pool, l->hn, l->rf, l->hx, l->norm_out, p->n_targets, c->dim, c->rms_eps);
}

struct kern_logprob llama_head_args(struct llama *l, int from, int to)
{
	const struct model_config *c = &l->m->cfg;

	return (struct kern_logprob){.format = l->o.format,
				     .rows = to - from,
				     .width = c->dim,
				     .vocab = l->n_words,
				     .h = llama_at(l, l->hn, (size_t)from * (size_t)c->dim),
				     .w = l->head,
				     .target = l->there.target + from,
				     .logp = l->logp + from,
				     .hit = l->hit + from,
				     .entropy = l->entropy ? l->entropy + from : NULL,
				     .logit = l->entropy ? l->logit + from : NULL,
				     .parts = l->o.coll ? l->parts + 3 * (size_t)from : NULL};
}

void llama_head_results(struct llama *l, int from, int to, float *logp, uint8_t *hit)
{
	size_t n = (size_t)(to - from);

	if (l->o.coll) {
		llama_head_join(l, from, to, logp, hit);
		return;
	}
	l->k->get(l->pool, logp + from, l->logp + from, n * sizeof *logp);
	l->k->get(l->pool, hit + from, l->hit + from, n * sizeof *hit);
}

void llama_spread(struct llama *l, int n, float *entropy, float *logit)
{
	if (l->o.coll) {
		for (int i = 0; i < n; i++) {
			entropy[i] = l->spread_here[2 * i];
			logit[i] = l->spread_here[2 * i + 1];
		}
		return;
	}
	l->k->get(l->pool, entropy, l->entropy, (size_t)n * sizeof *entropy);
	l->k->get(l->pool, logit, l->logit, (size_t)n * sizeof *logit);
}

void llama_forward(struct llama *l, const struct pack *p, const struct llama_dropout *d,
		   float *logp, uint8_t *hit)
{
	struct kern_logprob a;

	llama_body_forward(l, p, d);
	llama_gather_rows(l, p);
	a = llama_head_args(l, 0, p->n_targets);
	l->k->logprob(l->pool, &a);
	llama_head_results(l, 0, p->n_targets, logp, hit);
}

enum rc llama_logits(struct llama *l, const struct pack *p, float *logits, struct err *e)
{
	const struct model_config *c = &l->m->cfg;
	const struct kern *k = l->k;
	size_t n = (size_t)p->n_tokens * (size_t)c->vocab;
	size_t bytes = mirror_round(n * kern_act(k)) + n * sizeof *logits;
	char *there;
	float *wide;

	if (l->o.coll)
		return err_set(e, RC_UNSUPPORTED, "logits of every row: one rank only");
	there = k->alloc(l->pool, bytes);
	if (!there)
		return err_set(e, RC_NOMEM, "logits of %d rows need %zu MiB", p->n_tokens,
			       bytes >> 20);
	wide = (float *)(void *)(there + mirror_round(n * kern_act(k)));
	llama_body_forward(l, p, NULL);
	k->rmsnorm(l->pool, l->h, NULL, llama_x(l, c->n_layers), l->norm_out, p->n_tokens, c->dim,
		   c->rms_eps);
	k->gemm_nt(l->pool, l->o.format, there, c->vocab, l->h, c->dim, l->head, c->dim,
		   p->n_tokens, c->vocab, c->dim, false);
	k->widen(l->pool, wide, there, n);
	k->get(l->pool, logits, wide, n * sizeof *logits);
	k->release(l->pool, there, bytes);
	return RC_OK;
}
