/* A pass through all layers by the table's operations alone: decoding and prefill without the
 * engine around them, so that what is measured is kernels. */
#include "tests/gpu/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* All layers read weights of their own, as in a model; the cache is shared by them. */
struct net {
	const struct bench *b;
	const struct kern *k;
	struct kern_pool *pool;
	const struct bench_shape *s;
	struct weights w; /* owned */
	float *cosines, *sines, *logits;
	void *x, *xn, *y, *big, *att;
	char *kc, *vc;
	int32_t *pos, *n_keys, *first, *blocks;
	int rows, keys, seqs;
	bool record;
};

static int qkv_width(const struct bench_shape *s)
{
	return (s->heads + 2 * s->kv_heads) * s->head;
}

static void attention(const struct net *t, const struct packed_layer *y)
{
	const struct kern *k = t->k;
	const struct bench_shape *s = t->s;
	int w = qkv_width(s), hd = s->heads * s->head, gd = s->kv_heads * s->head, c = s->dim;
	struct kern_paged a = {.kv = KERN_BF16,
			       .rows = t->rows,
			       .heads = s->heads,
			       .kv_heads = s->kv_heads,
			       .head_dim = s->head,
			       .scale = 1 / sqrtf((float)s->head),
			       .q = t->big,
			       .ldq = w,
			       .k = t->kc,
			       .v = t->vc,
			       .blocks = t->blocks,
			       .first = t->first,
			       .n_keys = t->n_keys,
			       .most_keys = t->keys,
			       .runs = t->seqs,
			       .out = t->att};

	k->rmsnorm(t->pool, t->xn, NULL, t->x, y->norm_attn, t->rows, c, 1e-5f);
	k->gemm_packed(t->pool, s->weights, t->big, w, t->xn, c, y->qkv, t->rows, w, c, false);
	k->rope(t->pool, t->big, w, t->rows, s->heads + s->kv_heads, s->head, t->pos, t->cosines,
		t->sines, false);
	k->kv_store(t->pool, KERN_BF16, t->kc, t->vc, kern_at(k, t->big, (size_t)hd), w,
		    kern_at(k, t->big, (size_t)(hd + gd)), w, t->blocks, t->first, t->pos, t->rows,
		    s->kv_heads, s->head);
	k->attn_paged(t->pool, &a);
	k->gemm_packed(t->pool, s->weights, t->x, c, t->att, hd, y->o, t->rows, c, hd, true);
}

static void feed_forward(const struct net *t, const struct packed_layer *y)
{
	const struct kern *k = t->k;
	int f = t->s->ffn, c = t->s->dim;

	k->rmsnorm(t->pool, t->xn, NULL, t->x, y->norm_ffn, t->rows, c, 1e-5f);
	k->gemm_packed(t->pool, t->s->weights, t->big, 2 * f, t->xn, c, y->w13, t->rows, 2 * f, c,
		       false);
	k->swiglu(t->pool, t->y, t->big, kern_at(k, t->big, (size_t)f), 2 * f, t->rows, f);
	k->gemm_packed(t->pool, t->s->weights, t->x, c, t->y, f, y->w2, t->rows, c, f, true);
}

static void run_all(const struct net *t)
{
	for (int l = 0; l < t->s->layers; l++) {
		attention(t, &t->w.layers[l]);
		feed_forward(t, &t->w.layers[l]);
	}
	if (t->logits)
		t->k->logits(t->pool, t->s->weights, t->logits, t->s->vocab, t->x, t->s->dim,
			     t->w.head, t->rows, t->s->vocab, t->s->dim);
}

static void run_pass(void *ctx)
{
	const struct net *t = ctx;
	uint64_t key = (uint64_t)(uintptr_t)t + (uint64_t)t->rows;

	if (!t->record) {
		run_all(t);
	} else if (!t->k->graph_run(t->pool, key)) {
		t->k->graph_begin(t->pool, key);
		run_all(t);
		t->k->graph_end(t->pool);
	}
}

static void *put_ints(const struct net *t, const int32_t *here, size_t n)
{
	void *there = gpu_room(t->b->g, n * sizeof *here);

	t->k->put(t->pool, there, here, n * sizeof *here);
	return there;
}

/* `seqs` sequences of `keys` tokens, the last rows / seqs of each in this pass. */
static void make_rows(struct net *t, int seqs, int rows, int keys)
{
	int pages = (keys + KERN_PAGE - 1) / KERN_PAGE, per = rows / seqs;
	size_t n = (size_t)rows, blocks = (size_t)(seqs * pages);
	int32_t *list = calloc(blocks + 3 * n, sizeof *list);
	int32_t *pos = list + blocks, *n_keys = pos + n, *first = n_keys + n;
	size_t cache = blocks * kern_kv_bytes(KERN_BF16, t->s->kv_heads, t->s->head);

	if (!list)
		exit(1);
	for (size_t i = 0; i < blocks; i++)
		list[i] = (int32_t)i;
	for (int r = 0; r < rows; r++) {
		pos[r] = keys - per + r % per;
		n_keys[r] = pos[r] + 1;
		first[r] = r / per * pages;
	}
	t->rows = rows;
	t->keys = keys;
	t->seqs = seqs;
	t->blocks = put_ints(t, list, blocks);
	t->pos = put_ints(t, pos, n);
	t->n_keys = put_ints(t, n_keys, n);
	t->first = put_ints(t, first, n);
	t->kc = gpu_room(t->b->g, cache);
	t->vc = gpu_room(t->b->g, cache);
	free(list);
}

static void free_rows(struct net *t)
{
	void *all[] = {t->blocks, t->pos, t->n_keys, t->first, t->kc, t->vc};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		gpu_free(t->b->g, all[i]);
}

static struct net make_net(const struct bench *b, const struct bench_shape *s, int rows)
{
	const struct gpu *g = b->g;
	struct net t = {.b = b, .k = g->k, .pool = g->pool, .s = s};
	size_t act = kern_act(g->k), n = (size_t)rows, half = (size_t)s->head / 2;
	size_t positions = (size_t)(rows > b->z->keys ? rows : b->z->keys);
	int widest = 2 * s->ffn > qkv_width(s) ? 2 * s->ffn : qkv_width(s);

	t.w = bench_weights(b, s, WEIGHTS_GENERATE);
	t.cosines = gpu_floats(g, positions * half, 1, 4, NULL);
	t.sines = gpu_floats(g, positions * half, 1, 5, NULL);
	t.x = gpu_numbers(g, n * (size_t)s->dim, 1, 6, NULL);
	t.xn = gpu_room(g, n * (size_t)s->dim * act);
	t.y = gpu_room(g, n * (size_t)s->ffn * act);
	t.att = gpu_room(g, n * (size_t)(s->heads * s->head) * act);
	t.big = gpu_room(g, n * (size_t)widest * act);
	gpu_check(g);
	return t;
}

static void free_net(struct net *t)
{
	void *all[] = {t->cosines, t->sines, t->x, t->xn, t->y, t->att, t->big};

	weights_release(&t->w);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		gpu_free(t->b->g, all[i]);
}

static void decode(struct net *t, int seqs)
{
	const struct bench_shape *s = t->s;
	double keys = t->b->z->keys, bytes, seconds;

	make_rows(t, seqs, seqs, t->b->z->keys);
	t->logits = gpu_room(t->b->g, (size_t)seqs * (size_t)s->vocab * sizeof(float));
	t->record = true;
	seconds = bench_timed(t->b, run_pass, t);
	/* Every weight once, but of the embedding; every key and value once. */
	bytes = (double)t->w.bytes - (double)t->k->pack_size(s->weights, s->vocab, s->dim) +
		2.0 * seqs * keys * s->kv_heads * s->head * 2 * s->layers;
	printf("%-9s decode %3d x %.0f keys: %7.2f ms, %7.0f tokens/s, %5.0f GB/s = %3.0f %% of "
	       "the "
	       "copy\n",
	       s->name, seqs, keys, seconds * 1e3, seqs / seconds, bytes / seconds * 1e-9,
	       100 * bytes / seconds / t->b->copy);
	fflush(stdout);
	gpu_free(t->b->g, t->logits);
	t->logits = NULL;
	t->record = false;
	free_rows(t);
}

static void prefill(struct net *t, int rows)
{
	const struct bench_shape *s = t->s;
	double flops, seconds, head = (double)s->dim * s->vocab;

	make_rows(t, 1, rows, rows);
	seconds = bench_timed(t->b, run_pass, t);
	flops = 2 * (bench_multiplied(s) - head) * rows +
		2.0 * rows * rows * s->heads * s->head * s->layers;
	printf("%-9s prefill of %d: %7.1f ms, %7.0f tokens/s, %5.0f TFLOP/s = %3.0f %% of the "
	       "product\n",
	       s->name, rows, seconds * 1e3, rows / seconds, flops / seconds * 1e-12,
	       100 * flops / seconds / t->b->product);
	fflush(stdout);
	free_rows(t);
}

void bench_passes(const struct bench *b, const struct bench_shape *s)
{
	struct model_config c = bench_config(s);
	int rows = 2 * b->z->prefill;
	double weights = (double)weights_bytes(&c, b->g->k, s->weights, WEIGHTS_GENERATE);
	double each = 8.0 * (s->dim + s->ffn) + 2.0 * qkv_width(s);
	struct net t;

	if (!bench_fits(b, s, weights + rows * each + 2e9 * (b->z == &bench_full)))
		return;
	t = make_net(b, s, rows);
	for (int seqs = 1; seqs <= b->z->most_seqs;
	     seqs *= seqs == 1 && b->z->most_seqs > 16 ? 16 : 2)
		decode(&t, seqs);
	prefill(&t, b->z->prefill);
	prefill(&t, rows);
	free_net(&t);
}
