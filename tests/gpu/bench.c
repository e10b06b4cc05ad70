/* Speed of the CUDA table on the device of this machine, each figure beside what the same run shows of
 * a large copy and a large product of cuBLAS. Shapes of Llama-2 7B and, where memory lets, of 70B with
 * int8 weights; weights are random, layers are those of the model. `bench-gpu [7b] [70b]`. */
#include "tests/gpu/gpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEST_OF 5

struct shape {
	const char *name;
	int dim, ffn, layers, heads, kv_heads, vocab;
	enum kern_format weights;
};

static const struct shape shapes[] = {
	{"7b", 4096, 11008, 32, 32, 32, 32000, KERN_BF16},
	{"7b-int8", 4096, 11008, 32, 32, 32, 32000, KERN_Q8},
	{"70b-int8", 8192, 28672, 80, 64, 8, 32000, KERN_Q8},
};
#define HEAD 128

struct limits {
	double copy, product; /* bytes/s read and written, flop/s */
};

static double timed(const struct gpu *g, void (*fn)(void *), void *ctx)
{
	double best = 1e9;
	char byte;
	void *mark = gpu_room(g, 64);

	fn(ctx);
	for (int i = 0; i < BEST_OF; i++) {
		double t;

		g->k->get(g->pool, &byte, mark, 1);
		t = now_s();
		fn(ctx);
		g->k->get(g->pool, &byte, mark, 1); /* behind all that was asked for */
		t = now_s() - t;
		best = t < best ? t : best;
	}
	gpu_free(g, mark);
	gpu_check(g);
	return best;
}

/* --- the machine's own limits ----------------------------------------------------------------- */

struct copying {
	const struct gpu *g;
	void *to, *from;
	size_t bytes;
};

static void copy_once(void *ctx)
{
	struct copying *c = ctx;

	c->g->k->copy(c->g->pool, c->to, c->from, c->bytes);
}

struct multiplying {
	const struct gpu *g;
	void *c, *a, *b;
	int n;
};

static void multiply_once(void *ctx)
{
	struct multiplying *m = ctx;

	m->g->k->gemm_nt(m->g->pool, KERN_BF16, m->c, m->n, m->a, m->n, m->b, m->n, m->n, m->n, m->n,
			 false);
}

static struct limits measure(const struct gpu *g)
{
	struct copying c = {.g = g, .bytes = (size_t)2 << 30};
	struct multiplying m = {.g = g, .n = 8192};
	size_t n = (size_t)m.n * (size_t)m.n;
	struct limits l;

	c.to = gpu_room(g, c.bytes);
	c.from = gpu_room(g, c.bytes);
	l.copy = 2 * (double)c.bytes / timed(g, copy_once, &c);
	gpu_free(g, c.to);
	gpu_free(g, c.from);
	m.a = gpu_numbers(g, n, 1, 1, NULL);
	m.b = gpu_numbers(g, n, 1, 2, NULL);
	m.c = gpu_room(g, n * kern_act(g->k));
	l.product = 2 * pow((double)m.n, 3) / timed(g, multiply_once, &m);
	gpu_free(g, m.a);
	gpu_free(g, m.b);
	gpu_free(g, m.c);
	printf("large copy %.0f GB/s, large product %.0f TFLOP/s\n", l.copy * 1e-9,
	       l.product * 1e-12);
	return l;
}

/* --- a pass through all layers ---------------------------------------------------------------- */

/* All layers read weights of their own, as in a model; the cache is shared by them. */
struct net {
	const struct gpu *g;
	const struct shape *s;
	char *qkv, *o, *w13, *w2, *head;
	size_t b_qkv, b_o, b_w13, b_w2;
	float *norm, *cosines, *sines, *logits;
	void *x, *xn, *y, *big, *att;
	char *kc, *vc;
	int32_t *ids, *pos, *n_keys, *first, *blocks;
	int rows, keys, seqs;
	bool record;
};

static int qkv_width(const struct shape *s)
{
	return (s->heads + 2 * s->kv_heads) * HEAD;
}

/* One random block of rows, packed again and again. */
static char *weights(const struct gpu *g, const struct shape *s, int n, int k, int copies,
		     size_t *bytes)
{
	float *rows = gpu_floats(g, (size_t)256 * (size_t)k, 0.02f, (uint32_t)(n + k), NULL);
	char *all;

	*bytes = g->k->pack_size(s->weights, n, k);
	all = gpu_room(g, *bytes * (size_t)copies);
	for (int c = 0; c < copies; c++)
		for (int row = 0; row < n; row += 256)
			g->k->pack(g->pool, s->weights, all + *bytes * (size_t)c, n, k, rows, k, row,
				   n - row < 256 ? n - row : 256);
	gpu_free(g, rows);
	return all;
}

static void run_layer(const struct net *t, int layer)
{
	const struct kern *k = t->g->k;
	struct kern_pool *p = t->g->pool;
	const struct shape *s = t->s;
	size_t l = (size_t)layer;
	int w = qkv_width(s), f = s->ffn, c = s->dim, hd = s->heads * HEAD, gd = s->kv_heads * HEAD;
	struct kern_paged a = {.kv = KERN_BF16, .rows = t->rows, .heads = s->heads,
			       .kv_heads = s->kv_heads, .head_dim = HEAD,
			       .scale = 1 / sqrtf(HEAD), .q = t->big, .ldq = w, .k = t->kc,
			       .v = t->vc, .blocks = t->blocks, .first = t->first,
			       .n_keys = t->n_keys, .most_keys = t->keys, .runs = t->seqs,
			       .out = t->att};

	k->rmsnorm(p, t->xn, NULL, t->x, t->norm, t->rows, c, 1e-5f);
	k->gemm_packed(p, s->weights, t->big, w, t->xn, c, t->qkv + l * t->b_qkv, t->rows, w, c,
		       false);
	k->rope(p, t->big, w, t->rows, s->heads + s->kv_heads, HEAD, t->pos, t->cosines, t->sines,
		false);
	k->kv_store(p, KERN_BF16, t->kc, t->vc, kern_at(k, t->big, (size_t)hd), w,
		    kern_at(k, t->big, (size_t)(hd + gd)), w, t->blocks, t->first, t->pos, t->rows,
		    s->kv_heads, HEAD);
	k->attn_paged(p, &a);
	k->gemm_packed(p, s->weights, t->x, c, t->att, hd, t->o + l * t->b_o, t->rows, c, hd, true);
	k->rmsnorm(p, t->xn, NULL, t->x, t->norm, t->rows, c, 1e-5f);
	k->gemm_packed(p, s->weights, t->big, 2 * f, t->xn, c, t->w13 + l * t->b_w13, t->rows,
		       2 * f, c, false);
	k->swiglu(p, t->y, t->big, kern_at(k, t->big, (size_t)f), 2 * f, t->rows, f);
	k->gemm_packed(p, s->weights, t->x, c, t->y, f, t->w2 + l * t->b_w2, t->rows, c, f, true);
}

static void run_all(const struct net *t)
{
	for (int l = 0; l < t->s->layers; l++)
		run_layer(t, l);
	if (t->logits)
		t->g->k->logits(t->g->pool, t->s->weights, t->logits, t->s->vocab, t->x, t->s->dim,
				t->head, t->rows, t->s->vocab, t->s->dim);
}

static void run_pass(void *ctx)
{
	const struct net *t = ctx;
	const struct kern *k = t->g->k;
	uint64_t key = (uint64_t)(uintptr_t)t + (uint64_t)t->rows;

	if (!t->record) {
		run_all(t);
	} else if (!k->graph_run(t->g->pool, key)) {
		k->graph_begin(t->g->pool, key);
		run_all(t);
		k->graph_end(t->g->pool);
	}
}

static void put_ints(const struct gpu *g, int32_t **there, const int32_t *here, size_t n)
{
	*there = gpu_room(g, n * sizeof *here);
	g->k->put(g->pool, *there, here, n * sizeof *here);
}

/* `seqs` sequences of `keys` tokens, the last rows / seqs of each in this pass. */
static void make_rows(struct net *t, int seqs, int rows, int keys)
{
	int pages = (keys + KERN_PAGE - 1) / KERN_PAGE, per = rows / seqs;
	size_t n = (size_t)rows, blocks = (size_t)(seqs * pages);
	int32_t *list = calloc(blocks + 4 * n, sizeof *list);
	int32_t *pos = list + blocks, *n_keys = pos + n, *first = n_keys + n, *ids = first + n;

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
	put_ints(t->g, &t->blocks, list, blocks);
	put_ints(t->g, &t->pos, pos, n);
	put_ints(t->g, &t->n_keys, n_keys, n);
	put_ints(t->g, &t->first, first, n);
	put_ints(t->g, &t->ids, ids, n);
	size_t cache = blocks * kern_kv_bytes(KERN_BF16, t->s->kv_heads, HEAD);
	t->kc = gpu_room(t->g, cache);
	t->vc = gpu_room(t->g, cache);
	free(list);
}

static void free_rows(struct net *t)
{
	void *all[] = {t->blocks, t->pos, t->n_keys, t->first, t->ids, t->kc, t->vc};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		gpu_free(t->g, all[i]);
}

static struct net make_net(const struct gpu *g, const struct shape *s, int rows, int positions)
{
	struct net t = {.g = g, .s = s};
	size_t act = kern_act(g->k), n = (size_t)rows, unused;
	int widest = 2 * s->ffn > qkv_width(s) ? 2 * s->ffn : qkv_width(s);

	t.qkv = weights(g, s, qkv_width(s), s->dim, s->layers, &t.b_qkv);
	t.o = weights(g, s, s->dim, s->heads * HEAD, s->layers, &t.b_o);
	t.w13 = weights(g, s, 2 * s->ffn, s->dim, s->layers, &t.b_w13);
	t.w2 = weights(g, s, s->dim, s->ffn, s->layers, &t.b_w2);
	t.head = weights(g, s, s->vocab, s->dim, 1, &unused);
	t.norm = gpu_floats(g, (size_t)s->dim, 1, 3, NULL);
	t.cosines = gpu_floats(g, (size_t)positions * HEAD / 2, 1, 4, NULL);
	t.sines = gpu_floats(g, (size_t)positions * HEAD / 2, 1, 5, NULL);
	t.x = gpu_numbers(g, n * (size_t)s->dim, 1, 6, NULL);
	t.xn = gpu_room(g, n * (size_t)s->dim * act);
	t.y = gpu_room(g, n * (size_t)s->ffn * act);
	t.att = gpu_room(g, n * (size_t)(s->heads * HEAD) * act);
	t.big = gpu_room(g, n * (size_t)widest * act);
	gpu_check(g);
	return t;
}

static void free_net(struct net *t)
{
	void *all[] = {t->qkv, t->o, t->w13, t->w2, t->head, t->norm, t->cosines,
		       t->sines, t->x, t->xn, t->y, t->att, t->big};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		gpu_free(t->g, all[i]);
}

/* Bytes of weights that a pass reads, and its multiplications. */
static double weight_bytes(const struct net *t)
{
	double layer = (double)(t->b_qkv + t->b_o + t->b_w13 + t->b_w2);

	return layer * t->s->layers +
	       (double)t->g->k->pack_size(t->s->weights, t->s->vocab, t->s->dim);
}

static double layer_weights(const struct shape *s)
{
	return (double)s->dim * (qkv_width(s) + s->heads * HEAD + 3.0 * s->ffn) * s->layers;
}

static void bench_decode(struct net *t, const struct limits *l, int seqs)
{
	double bytes, s;

	make_rows(t, seqs, seqs, 800);
	t->logits = gpu_room(t->g, (size_t)seqs * (size_t)t->s->vocab * sizeof(float));
	t->record = true;
	s = timed(t->g, run_pass, t);
	bytes = weight_bytes(t) +
		2.0 * seqs * 800 * t->s->kv_heads * HEAD * 2 * t->s->layers;
	printf("%-9s decode %3d x 800 keys: %7.2f ms, %7.0f tokens/s, %5.0f GB/s = %3.0f %% of the "
	       "copy\n",
	       t->s->name, seqs, s * 1e3, seqs / s, bytes / s * 1e-9, 100 * bytes / s / l->copy);
	fflush(stdout);
	gpu_free(t->g, t->logits);
	t->logits = NULL;
	t->record = false;
	free_rows(t);
}

static void bench_prefill(struct net *t, const struct limits *l, int rows)
{
	double flops, s;

	make_rows(t, 1, rows, rows);
	s = timed(t->g, run_pass, t);
	flops = 2 * layer_weights(t->s) * rows +
		2.0 * rows * rows * t->s->heads * HEAD * t->s->layers;
	printf("%-9s prefill of %d: %7.1f ms, %7.0f tokens/s, %5.0f TFLOP/s = %3.0f %% of the "
	       "product\n",
	       t->s->name, rows, s * 1e3, rows / s, flops / s * 1e-12,
	       100 * flops / s / l->product);
	fflush(stdout);
	free_rows(t);
}

static void bench_shape(const struct gpu *g, const struct limits *l, const struct shape *s)
{
	double need = layer_weights(s) * (s->weights == KERN_Q8 ? 1.01 : 2) + 6e9;
	struct net t;

	if ((double)g->k->room(g->pool) < need) {
		printf("%-9s needs %.0f GB: left out\n", s->name, need * 1e-9);
		return;
	}
	t = make_net(g, s, 4096, 4096);
	for (int seqs = 1; seqs <= 128; seqs *= seqs == 1 ? 16 : 2)
		bench_decode(&t, l, seqs);
	bench_prefill(&t, l, 2048);
	bench_prefill(&t, l, 4096);
	free_net(&t);
}

/* --- attention and the gradients' products ------------------------------------------------------ */

struct attending {
	const struct gpu *g;
	struct kern_attn a;
	bool back;
};

static void attend_once(void *ctx)
{
	struct attending *t = ctx;

	if (t->back)
		t->g->k->attn_back(t->g->pool, &t->a);
	else
		t->g->k->attn(t->g->pool, &t->a);
}

static void bench_attention(const struct gpu *g, const struct limits *l, int heads, int kv_heads,
			    int len)
{
	enum { TOKENS = 16384 };
	int seqs = TOKENS / len, w = (heads + 2 * kv_heads) * HEAD, hd = heads * HEAD;
	int32_t cu[TOKENS / 512 + 1], *cu_there;
	struct attending t = {.g = g};
	void *qkv = gpu_numbers(g, (size_t)TOKENS * (size_t)w, 1, 1, NULL);
	void *dqkv = gpu_room(g, (size_t)TOKENS * (size_t)w * kern_act(g->k));
	void *dout = gpu_numbers(g, (size_t)TOKENS * (size_t)hd, 1, 2, NULL);
	void *out = gpu_room(g, (size_t)TOKENS * (size_t)hd * kern_act(g->k));
	float *lse = gpu_room(g, (size_t)TOKENS * (size_t)heads * sizeof *lse);
	double flops = 2.0 * TOKENS * len * hd, s; /* causal: half of the pairs */

	for (int i = 0; i <= seqs; i++)
		cu[i] = i * len;
	put_ints(g, &cu_there, cu, (size_t)seqs + 1);
	t.a = (struct kern_attn){
		.n_seqs = seqs, .n_tokens = TOKENS, .cu = cu_there, .heads = heads,
		.kv_heads = kv_heads, .head_dim = HEAD, .longest = len, .scale = 1 / sqrtf(HEAD),
		.q = qkv, .k = kern_at(g->k, qkv, (size_t)hd),
		.v = kern_at(g->k, qkv, (size_t)(hd + kv_heads * HEAD)), .ldq = w, .ldk = w,
		.ldv = w, .out = out, .lse = lse, .dout = dout, .dq = dqkv,
		.dk = kern_at(g->k, dqkv, (size_t)hd),
		.dv = kern_at(g->k, dqkv, (size_t)(hd + kv_heads * HEAD))};
	for (int back = 0; back < 2; back++) {
		t.back = back;
		s = timed(g, attend_once, &t);
		printf("attention %-8s %2d x %5d, %d/%d heads: %6.2f ms, %4.0f TFLOP/s = %3.0f %% of "
		       "the product\n",
		       back ? "back" : "forward", seqs, len, heads, kv_heads, s * 1e3,
		       flops * (back ? 2.5 : 1) / s * 1e-12,
		       100 * flops * (back ? 2.5 : 1) / s / l->product);
	}
	fflush(stdout);
	void *all[] = {qkv, dqkv, dout, out, lse, cu_there};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		gpu_free(g, all[i]);
}

int main(int argc, char **argv)
{
	struct gpu g;
	struct limits l;

	if (!gpu_open(&g, "cuda"))
		return GPU_NONE;
	printf("%s\n", g.name);
	l = measure(&g);
	bench_attention(&g, &l, 32, 32, 2048);
	bench_attention(&g, &l, 64, 8, 2048);
	bench_attention(&g, &l, 64, 8, 512);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		bool wanted = argc < 2;

		for (int a = 1; a < argc; a++)
			wanted = wanted || !strncmp(shapes[i].name, argv[a], strlen(argv[a]));
		if (wanted)
			bench_shape(&g, &l, &shapes[i]);
	}
	gpu_close(&g);
	return 0;
}
