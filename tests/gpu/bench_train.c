/* Steps of training by the engine itself: full fine-tuning with supervised and preference losses,
 * and an adapter beside frozen weights. */
#include "tests/gpu/bench.h"

#include "base/mem.h"
#include "worker/model/lora.h"
#include "worker/train/memory.h"
#include "worker/train/trainer_inner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LORA_RANK 16

/* What a measurement is made with. */
struct setting {
	const struct bench *b;
	const struct bench_shape *s;
	enum bench_kind kind;
	struct model *m;       /* owned; its weights are there unless they are frozen */
	struct lora *lora;     /* owned, or NULL */
	struct weights frozen; /* owned */
	struct train_opts o;
	struct train_pair *pairs; /* owned, as `ex` and `ids` are */
	struct train_example *ex;
	int32_t *ids;
	struct trainer *tr; /* owned */
};

static int32_t *random_ids(size_t n, int vocab)
{
	int32_t *ids = mem_array(n, sizeof *ids);
	uint32_t seed = 5;

	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525u + 1013904223u;
		ids[i] = (int32_t)((seed >> 8) % (uint32_t)vocab);
	}
	return ids;
}

/* Pairs, and the same texts as examples. The reference is not known here: some number. */
static void make_batch(struct setting *t)
{
	const struct bench_sizes *z = t->b->z;
	size_t n = (size_t)z->pairs, each = (size_t)(z->prompt + 2 * z->answer);

	t->ids = random_ids(n * each, t->s->vocab);
	t->pairs = mem_array(n, sizeof *t->pairs);
	t->ex = mem_array(2 * n, sizeof *t->ex);
	for (size_t i = 0; i < n; i++) {
		const int32_t *p = t->ids + i * each, *c = p + z->prompt, *r = c + z->answer;

		t->pairs[i] = (struct train_pair){p, c, r, z->prompt, z->answer, z->answer, -1, -1, 0};
		t->ex[2 * i] = (struct train_example){p, c, z->prompt, z->answer, 1};
		t->ex[2 * i + 1] = (struct train_example){p, r, z->prompt, z->answer, 1};
	}
}

/* The same numbers for every tensor: quick to make. */
static void fill_model(struct model *m)
{
	enum { BLOCK = 1 << 16 };
	float *block = mem_array(BLOCK, sizeof *block);
	uint32_t seed = 9;

	for (int i = 0; i < BLOCK; i++) {
		seed = seed * 1664525u + 1013904223u;
		block[i] = 0.02f * ((float)(seed >> 8) / 8388608.0f - 1.0f);
	}
	for (int i = 0; i < m->n_tensors; i++) {
		const struct tensor_ref *r = &m->tensors[i];
		float *to = m->params + r->offset;
		size_t n = tensor_size(r);

		for (size_t at = 0; at < n; at += BLOCK)
			memcpy(to + at, block, (n - at < BLOCK ? n - at : BLOCK) * sizeof *to);
		for (size_t at = 0; !r->cols && at < n; at++)
			to[at] = 1;
	}
	free(block);
}

static struct train_opts options(const struct setting *t)
{
	const struct bench_sizes *z = t->b->z;
	struct train_opts o = train_opts_default();

	o.max_length = z->prompt + z->answer + 1;
	o.micro_tokens = z->micro;
	o.schedule.lr = 1e-6;
	o.format = t->b->g->k->act;
	o.pairs = t->kind != BENCH_SFT;
	o.base = t->s->weights == KERN_Q8 ? TRAIN_BASE_Q8 : TRAIN_BASE_PLAIN;
	o.lora = t->lora;
	o.frozen = t->lora ? &t->frozen : NULL;
	return o;
}

static void make_model(struct setting *t)
{
	struct model_config c = bench_config(t->s);
	struct lora_settings l = {
		.r = LORA_RANK, .alpha = 2 * LORA_RANK, .targets = MODEL_ALL_PARTS};
	struct err e = {0};

	if (t->kind == BENCH_LORA_DPO) {
		bench_must(model_plan(&c, &t->m, &e), e.text);
		bench_must(lora_new(&c, &l, 3, &t->lora, &e), e.text);
	} else {
		bench_must(model_new(&c, &t->m, &e), e.text);
		fill_model(t->m);
	}
}

static void release(struct setting *t)
{
	trainer_free(t->tr);
	if (t->frozen.slab)
		weights_release(&t->frozen);
	lora_free(t->lora);
	model_free(t->m);
	free(t->pairs);
	free(t->ex);
	free(t->ids);
}

static double step(struct setting *t, int number)
{
	struct train_metrics got;
	struct err e = {0};
	int n = t->b->z->pairs;

	if (t->kind == BENCH_SFT)
		bench_must(trainer_sft_step(t->tr, t->ex, 2 * n, number, &got, &e), e.text);
	else
		bench_must(trainer_dpo_step(t->tr, t->pairs, n, NULL, 0, number, &got, &e), e.text);
	return got.loss;
}

/* A forward pass over the pairs as the reference takes it; that these numbers are not the
 * reference's is what it says then. */
static double reference_seconds(struct setting *t)
{
	struct err e = {0};
	double from = now_s();

	if (trainer_check_reference(t->tr, t->pairs, t->b->z->pairs, &e) == RC_OK)
		bench_must(RC_CORRUPT, "a reference of -1 was believed");
	return now_s() - from;
}

static void snapshot(const struct setting *t, struct bench_step *out)
{
	const struct kern *k = t->tr->k;
	size_t bytes = t->tr->set.n * sizeof(float);
	float *const from[] = {t->tr->master, t->tr->adam_m, t->tr->adam_v};
	char *here = k->pin(t->tr->pool, 3 * bytes);
	double start;

	if (!here)
		return;
	bench_wait(t->b);
	start = now_s();
	for (size_t i = 0; i < 3; i++)
		k->snap(t->tr->pool, here + i * bytes, from[i], bytes);
	k->snapped(t->tr->pool);
	out->snapshot_s = now_s() - start;
	out->snapshot_bytes = 3 * (double)bytes;
	k->unpin(t->tr->pool, here, 3 * bytes);
}

/* Multiplications of a step: forward twice where layers are computed again, slopes of the inputs,
 * and of the weights where they are trained. */
static double work(const struct setting *t)
{
	const struct bench_sizes *z = t->b->z;
	const struct bench_shape *s = t->s;
	double head = (double)s->dim * s->vocab, body = bench_multiplied(s) - head;
	double len = z->prompt + z->answer, seqs = 2.0 * z->pairs, targets = seqs * z->answer;
	double rows = t->kind == BENCH_SFT ? seqs * len : z->pairs * (len + z->answer);
	double products = 4 + (t->lora ? 0 : 2) + (t->tr->o.recompute ? 2 : 0);
	double attention = 2.0 * rows * len * s->heads * s->head * s->layers *
			   (3.5 + (t->tr->o.recompute ? 1 : 0));

	return products * body * rows + (t->lora ? 4 : 6) * head * targets + attention;
}

static size_t room(const struct bench *b)
{
	bench_wait(b);
	return b->g->k->room(b->g->pool);
}

/* What it is said to take, or false: it does not fit. */
static bool plan(const struct setting *t, struct bench_step *out)
{
	struct memory_plan p;
	struct err e = {0};
	enum rc rc = memory_plan(t->m, t->b->g->k, &t->o, room(t->b), &p, &e);

	out->planned = p.needed + t->frozen.bytes;
	out->scratch = p.scratch;
	if (rc != RC_OK)
		printf("%-9s %s\n", t->s->name, e.text);
	return rc == RC_OK;
}

static void measure(struct setting *t, struct bench_step *out)
{
	const struct bench_sizes *z = t->b->z;
	double start;

	out->loss = step(t, 0);
	bench_wait(t->b);
	start = now_s();
	for (int i = 0; i < z->steps; i++)
		out->loss = step(t, i + 1);
	bench_wait(t->b);
	out->seconds = (now_s() - start) / z->steps;
	out->tokens = 2.0 * z->pairs * (z->prompt + z->answer);
	out->rows = t->kind == BENCH_SFT ? out->tokens : z->pairs * (z->prompt + 2.0 * z->answer);
	out->share = work(t) / out->seconds / t->b->product;
	if (t->kind != BENCH_SFT)
		out->reference_s = reference_seconds(t);
	snapshot(t, out);
}

static void tell(const struct setting *t, const struct bench_step *r)
{
	static const char *const names[] = {"SFT", "DPO", "LoRA-DPO"};

	printf("%-9s %s step of %d pairs: %.3f s, %.0f tokens/s (with the reference %.0f), %.0f %% "
	       "of "
	       "the product%s, loss %.4f\n",
	       t->s->name, names[t->kind], t->b->z->pairs, r->seconds, r->tokens / r->seconds,
	       r->tokens / (r->seconds + r->reference_s), 100 * r->share,
	       t->tr->o.recompute ? " (layers computed twice)" : "", r->loss);
	printf("%-9s %s memory: %.2f GiB planned, %.2f taken (%+.1f %%); snapshot of %.2f GB in "
	       "%.2f s\n",
	       t->s->name, names[t->kind], (double)r->planned / (1 << 30),
	       (double)r->taken / (1 << 30), 100 * ((double)r->taken / (double)r->planned - 1),
	       r->snapshot_bytes * 1e-9, r->snapshot_s);
	fflush(stdout);
}

bool bench_train(const struct bench *b, const struct bench_shape *s, enum bench_kind kind,
		 struct bench_step *out)
{
	struct setting t = {.b = b, .s = s, .kind = kind};
	struct model_config c = bench_config(s);
	double base = (double)weights_bytes(&c, b->g->k, s->weights, WEIGHTS_TRAIN);
	double least = kind == BENCH_LORA_DPO ? base : 18 * bench_multiplied(s);
	struct err e = {0};
	bool fits = bench_fits(b, s, least);
	size_t before;

	*out = (struct bench_step){0};
	if (!fits)
		return false;
	make_model(&t);
	before = room(b);
	if (t.lora)
		t.frozen = bench_weights(b, s, WEIGHTS_TRAIN);
	t.o = options(&t);
	fits = plan(&t, out);
	if (fits) {
		make_batch(&t);
		bench_must(trainer_new(t.m, b->g->k, b->g->pool, &t.o, &t.tr, &e), e.text);
		measure(&t, out);
		out->taken = before - room(b);
		tell(&t, out);
	}
	release(&t);
	return fits;
}
