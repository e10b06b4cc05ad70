#include "tests/gpu/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

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

static void measure(const struct bench *b, struct attending *t, int len)
{
	const struct kern_attn *a = &t->a;
	/* Causal: half of the pairs; the way back has five products for two. */
	double flops = 2.0 * a->n_tokens * len * a->heads * a->head_dim * (t->back ? 2.5 : 1);
	double s = bench_timed(b, attend_once, t);

	printf("attention %-8s %2d x %5d, %d/%d heads: %6.2f ms, %4.0f TFLOP/s = %3.0f %% of the "
	       "product\n",
	       t->back ? "back" : "forward", a->n_seqs, len, a->heads, a->kv_heads, s * 1e3,
	       flops / s * 1e-12, 100 * flops / s / b->product);
	fflush(stdout);
}

static int32_t *bounds(const struct gpu *g, int seqs, int len)
{
	size_t bytes = ((size_t)seqs + 1) * sizeof(int32_t);
	int32_t *cu = malloc(bytes), *there = gpu_room(g, bytes);

	if (!cu)
		exit(1);
	for (int i = 0; i <= seqs; i++)
		cu[i] = i * len;
	g->k->put(g->pool, there, cu, bytes);
	free(cu);
	return there;
}

void bench_attention(const struct bench *b, int heads, int kv_heads, int head, int len)
{
	const struct gpu *g = b->g;
	int seqs = b->z->attention / len, rows = seqs * len, w = (heads + 2 * kv_heads) * head;
	size_t hd = (size_t)(heads * head), gd = (size_t)(kv_heads * head), n = (size_t)rows;
	size_t wide = n * (size_t)w, act = kern_act(g->k);
	char *qkv = gpu_numbers(g, wide, 1, 1, NULL), *dqkv = gpu_room(g, wide * act);
	void *dout = gpu_numbers(g, n * hd, 1, 2, NULL), *out = gpu_room(g, n * hd * act);
	float *lse = gpu_room(g, n * (size_t)heads * sizeof *lse);
	int32_t *cu = bounds(g, seqs, len);
	struct attending t = {.g = g,
			      .a = {.n_seqs = seqs,
				    .n_tokens = rows,
				    .cu = cu,
				    .heads = heads,
				    .kv_heads = kv_heads,
				    .head_dim = head,
				    .longest = len,
				    .scale = 1 / sqrtf((float)head),
				    .q = qkv,
				    .k = kern_at(g->k, qkv, hd),
				    .v = kern_at(g->k, qkv, hd + gd),
				    .ldq = w,
				    .ldk = w,
				    .ldv = w,
				    .out = out,
				    .lse = lse,
				    .dout = dout,
				    .dq = dqkv,
				    .dk = kern_at(g->k, dqkv, hd),
				    .dv = kern_at(g->k, dqkv, hd + gd)}};
	void *all[] = {qkv, dqkv, dout, out, lse, cu};

	measure(b, &t, len);
	t.back = true;
	measure(b, &t, len);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		gpu_free(g, all[i]);
}
