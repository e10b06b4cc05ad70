#include "tests/gpu/bench.h"

#include "base/str.h"
#include "worker/model/shard.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Lengths of the work: see struct bench_sizes. An answer of 390 tokens judged in 200, as one
 * iteration of the paper is reckoned. */
const struct bench_sizes bench_full = {.copy_bytes = (size_t)2 << 30,
				       .product = 8192,
				       .best_of = 5,
				       .keys = 800,
				       .most_seqs = 128,
				       .prefill = 2048,
				       .attention = 16384,
				       .longest = 2048,
				       .steps = 2,
				       .pairs = 16,
				       .micro = 4096,
				       .prompt = 120,
				       .answer = 390,
				       .judged = 200,
				       .judge_template = 400,
				       .prompts = 32,
				       .batch = 64};
const struct bench_sizes bench_toy = {.copy_bytes = 4096,
				      .product = 24,
				      .best_of = 1,
				      .keys = 20,
				      .most_seqs = 2,
				      .prefill = 12,
				      .attention = 48,
				      .longest = 24,
				      .steps = 1,
				      .pairs = 2,
				      .micro = 48,
				      .prompt = 18,
				      .answer = 5,
				      .judged = 3,
				      .judge_template = 17,
				      .prompts = 2,
				      .batch = 2};

void bench_wait(const struct bench *b)
{
	const struct gpu *g = b->g;
	void *mark = gpu_room(g, 64);
	char byte;

	g->k->get(g->pool, &byte, mark, 1); /* Behind all that was asked for. */
	gpu_free(g, mark);
	gpu_check(g);
}

double bench_timed(const struct bench *b, void (*fn)(void *), void *ctx)
{
	double best = 1e9;

	fn(ctx);
	for (int i = 0; i < b->z->best_of; i++) {
		double t;

		bench_wait(b);
		t = now_s();
		fn(ctx);
		bench_wait(b);
		t = now_s() - t;
		best = t < best ? t : best;
	}
	return best;
}

void bench_must(int rc, const char *why)
{
	if (rc == RC_OK)
		return;
	printf("%s\n", why);
	exit(1);
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

	m->g->k->gemm_nt(m->g->pool, KERN_BF16, m->c, m->n, m->a, m->n, m->b, m->n, m->n, m->n,
			 m->n, false);
}

struct bench bench_begin(const struct gpu *g, const struct bench_sizes *z)
{
	struct bench b = {.g = g, .z = z};
	struct copying c = {.g = g, .bytes = z->copy_bytes};
	struct multiplying m = {.g = g, .n = z->product};
	size_t n = (size_t)m.n * (size_t)m.n;

	c.to = gpu_room(g, c.bytes);
	c.from = gpu_room(g, c.bytes);
	b.copy = 2 * (double)c.bytes / bench_timed(&b, copy_once, &c);
	gpu_free(g, c.to);
	gpu_free(g, c.from);
	m.a = gpu_numbers(g, n, 1, 1, NULL);
	m.b = gpu_numbers(g, n, 1, 2, NULL);
	m.c = gpu_room(g, n * kern_act(g->k));
	b.product = 2 * pow((double)m.n, 3) / bench_timed(&b, multiply_once, &m);
	gpu_free(g, m.a);
	gpu_free(g, m.b);
	gpu_free(g, m.c);
	printf("large copy %.0f GB/s, large product %.0f TFLOP/s\n", b.copy * 1e-9,
	       b.product * 1e-12);
	return b;
}

/* --- shapes ----------------------------------------------------------------------------------- */

struct model_config bench_config(const struct bench_shape *s)
{
	struct model_config c = {.vocab = s->vocab,
				 .dim = s->dim,
				 .n_layers = s->layers,
				 .n_heads = s->heads,
				 .n_kv_heads = s->kv_heads,
				 .head_dim = s->head,
				 .ffn_dim = s->ffn,
				 .max_pos = 4096,
				 .bos_id = 1,
				 .pad_id = -1,
				 .eos_ids = {2},
				 .n_eos = 1,
				 .rms_eps = 1e-5f,
				 .rope_theta = 10000};

	str_copy(c.arch, sizeof c.arch, "llama");
	return c;
}

double bench_multiplied(const struct bench_shape *s)
{
	double attention = 2.0 * (s->heads + s->kv_heads) * s->head;

	return s->dim * ((attention + 3.0 * s->ffn) * s->layers + s->vocab);
}

#define ROWS 256 /* that are there once */

/* Where rows of a matrix go, by turns. */
struct filling {
	const struct bench *b;
	const struct weights *w;
	float *rows;
};

static void fill(const struct filling *f, void *there, int n, int k, bool plain)
{
	const struct kern *kern = f->w->kern;

	for (int row = 0; row < n; row += ROWS) {
		int take = n - row < ROWS ? n - row : ROWS;
		size_t at = (size_t)row * (size_t)k;

		if (plain)
			kern->narrow(f->w->pool, kern_at(kern, there, at), f->rows,
				     (size_t)take * (size_t)k);
		else
			kern->pack(f->w->pool, f->w->format, there, n, k, f->rows, k, row, take);
	}
}

static void fill_ones(const struct filling *f, float *there, int n)
{
	float *ones = malloc((size_t)n * sizeof *ones);

	if (!ones)
		exit(1);
	for (int i = 0; i < n; i++)
		ones[i] = 1;
	f->w->kern->put(f->w->pool, there, ones, (size_t)n * sizeof *ones);
	free(ones);
}

static void fill_all(const struct filling *f, const struct bench_shape *s)
{
	bool plain = f->w->use == WEIGHTS_TRAIN;
	int hd = s->heads * s->head, qkv = (s->heads + 2 * s->kv_heads) * s->head;

	for (int l = 0; l < s->layers; l++) {
		const struct packed_layer *y = &f->w->layers[l];

		fill(f, y->qkv, qkv, s->dim, false);
		fill(f, y->o, s->dim, hd, false);
		fill(f, y->w13, 2 * s->ffn, s->dim, false);
		fill(f, y->w2, s->dim, s->ffn, false);
		fill_ones(f, y->norm_attn, s->dim);
		fill_ones(f, y->norm_ffn, s->dim);
	}
	fill_ones(f, f->w->norm_out, s->dim);
	fill(f, f->w->embed, s->vocab, s->dim, plain);
	fill(f, f->w->head, s->vocab, s->dim, plain);
}

struct weights bench_weights(const struct bench *b, const struct bench_shape *s,
			     enum weights_use use)
{
	struct model_config c = bench_config(s);
	int widest = s->ffn > s->dim ? s->ffn : s->dim, hd = s->heads * s->head;
	struct filling f = {.b = b};
	struct weights w;
	struct err e = {0};

	bench_must(weights_make(&w, &c, b->g->k, b->g->pool, s->weights, use, &e), e.text);
	f.w = &w;
	widest = hd > widest ? hd : widest;
	f.rows = gpu_floats(b->g, (size_t)ROWS * (size_t)widest, 0.02f, (uint32_t)s->dim, NULL);
	fill_all(&f, s);
	gpu_free(b->g, f.rows);
	gpu_check(b->g);
	return w;
}

bool bench_fits(const struct bench *b, const struct bench_shape *s, double bytes)
{
	double room = (double)b->g->k->room(b->g->pool);

	if (bytes <= room)
		return true;
	printf("%-9s needs %.1f GB, %.1f are left: left out\n", s->name, bytes * 1e-9, room * 1e-9);
	return false;
}
