#include "tests/twin.h"

#include "base/mem.h"
#include "base/rng.h"
#include "tests/ref64.h"
#include "tests/test.h"
#include "worker/model/infer.h"
#include "worker/train/scorer.h"
#include "worker/train/trainer_inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct err e;

/* So that no reward is zero. */
static void move_reference(struct train_pair *pairs)
{
	for (int i = 0; i < TOY_BATCH; i++) {
		pairs[i].ref_chosen -= 0.5;
		pairs[i].ref_rejected += 0.25;
	}
}

static void set_reference(const struct twin *t, const struct model *m, const struct train_opts *o,
			  struct train_pair *pairs)
{
	struct scorer_opts so = {
		.format = t->format, .max_length = o->max_length, .ld_alpha = o->dpo.ld_alpha};
	double logp[2 * TOY_BATCH];
	struct scorer *sc = NULL;

	CHECK_RC(scorer_new(m, t->k, t->pool, &so, &sc, &e), RC_OK);
	CHECK_RC(scorer_pairs(sc, pairs, TOY_BATCH, logp, &e), RC_OK);
	for (int i = 0; i < TOY_BATCH; i++) {
		pairs[i].ref_chosen = logp[2 * i];
		pairs[i].ref_rejected = logp[2 * i + 1];
	}
	move_reference(pairs);
	scorer_free(sc);
}

static struct train_opts options(const struct twin *t, const struct twin_task *task)
{
	struct train_opts o = train_opts_default();

	o.max_length = TOY_LENGTH;
	o.micro_tokens = 2 * TOY_LENGTH; /* several packs in a step */
	o.schedule.lr = 1e-3;
	o.seed = 5;
	o.format = t->format;
	o.recompute = task->recompute;
	o.base = task->base;
	o.dropout = task->dropout;
	o.weight_decay = 0.01;
	return o;
}

/* An adapter that does something: B is not zero any more. */
static struct lora *make_lora(const struct model_config *c)
{
	struct lora_settings s = {.r = 8, .alpha = 12, .targets = MODEL_ALL_PARTS};
	struct lora *l = NULL;
	uint32_t seed = 21;

	CHECK_RC(lora_new(c, &s, 3, &l, &e), RC_OK);
	for (size_t i = 0; i < l->n_params; i++) {
		seed = seed * 1664525u + 1013904223u;
		l->params[i] += 0.1f * ((float)(seed >> 8) / 8388608.0f - 1.0f);
	}
	return l;
}

static float *copied(const struct twin *t, const float *from, size_t n)
{
	float *out = mem_array(n, sizeof *out);

	t->k->get(t->pool, out, from, n * sizeof *out);
	return out;
}

static void take_results(const struct twin *t, struct trainer *tr, struct twin_trained *r)
{
	CHECK_RC(trainer_pull(tr, &e), RC_OK);
	r->n = tr->set.n;
	r->grads = copied(t, tr->grads, r->n);
	r->weights = mem_array(r->n, sizeof *r->weights);
	memcpy(r->weights, tr->set.params, r->n * sizeof *r->weights);
	r->moments = mem_array(2 * r->n, sizeof *r->moments);
	t->k->get(t->pool, r->moments, tr->adam_m, r->n * sizeof *r->moments);
	t->k->get(t->pool, r->moments + r->n, tr->adam_v, r->n * sizeof *r->moments);
}

struct twin_trained twin_train(const struct twin *t, const struct twin_task *task)
{
	const struct model_config *c = &task->kind->c;
	struct model *m = toy_model(c, 11);
	struct train_opts o = options(t, task);
	struct lora *lora = task->lora ? make_lora(c) : NULL;
	struct toy_batch *b = mem_new(sizeof *b);
	struct twin_trained r = {0};
	struct trainer *tr = NULL;

	toy_batch_make(b, c->vocab, 31);
	o.lora = lora;
	if (task->pairs)
		set_reference(t, m, &o, b->pairs);
	CHECK_RC(trainer_new(m, t->k, t->pool, &o, &tr, &e), RC_OK);
	for (int i = 0; i < task->steps; i++) {
		struct train_metrics got;

		if (task->pairs)
			CHECK_RC(trainer_dpo_step(tr, b->pairs, TOY_BATCH, b->ex, 3, i, &got, &e),
				 RC_OK);
		else
			CHECK_RC(trainer_sft_step(tr, b->ex, TOY_BATCH, i, &got, &e), RC_OK);
		r.loss[i] = got.loss;
		r.norm[i] = got.grad_norm;
	}
	take_results(t, tr, &r);
	trainer_free(tr);
	lora_free(lora);
	model_free(m);
	free(b);
	return r;
}

/* Gradients where a slab of these tensors has them. */
static float *gradients(const struct ref64 *ref, const struct tensor_ref *tensors, int n_tensors,
			size_t n)
{
	float *out = mem_array(n, sizeof *out);

	memset(out, 0, n * sizeof *out);
	for (int i = 0; i < n_tensors; i++) {
		const struct ref64_tensor *from = ref64_find(ref, tensors[i].name);

		CHECK(from && from->n == tensor_size(&tensors[i]));
		for (size_t k = 0; k < from->n; k++)
			out[tensors[i].offset + k] = (float)from->g[k];
	}
	return out;
}

struct twin_trained twin_reference(const struct twin_task *task)
{
	const struct model_config *c = &task->kind->c;
	struct twin none = {.format = KERN_F32};
	struct train_opts o = options(&none, task);
	struct model *m = toy_model(c, 11);
	struct lora *lora = task->lora ? make_lora(c) : NULL;
	struct toy_batch *b = mem_new(sizeof *b);
	struct ref64 *ref = ref64_new(m);
	struct twin_trained r = {.n = lora ? lora->n_params : m->n_params};

	toy_batch_make(b, c->vocab, 31);
	ref64_reference(ref, o.dpo.ld_alpha, b->pairs, TOY_BATCH);
	move_reference(b->pairs);
	if (lora)
		ref64_adapt(ref, lora);
	r.loss[0] = task->pairs ? ref64_dpo_loss(ref, &o.dpo, b->pairs, TOY_BATCH, b->ex, 3)
				: ref64_sft_loss(ref, b->ex, TOY_BATCH);
	r.norm[0] = ref64_grad_norm(ref);
	r.grads = lora ? gradients(ref, lora->tensors, lora->n_tensors, r.n)
		       : gradients(ref, m->tensors, m->n_tensors, r.n);
	ref64_free(ref);
	lora_free(lora);
	model_free(m);
	free(b);
	return r;
}

void twin_trained_free(struct twin_trained *r)
{
	free(r->grads);
	free(r->weights);
	free(r->moments);
}

static void add_requests(struct infer *f, int vocab)
{
	for (int i = 0; i < 2; i++) {
		int32_t prompt[40];
		struct infer_req q = {.prompt = prompt,
				      .n_prompt = i ? 21 : 35,
				      .sampling = {i ? 0.9f : 0.0f, i ? 0.9f : 1.0f, i ? 20 : 0},
				      .max_new = TWIN_NEW,
				      .name = {.seed = 3, .stage = RNG_TEST, .item = (uint64_t)i},
				      .n = 3};

		for (int j = 0; j < q.n_prompt; j++)
			prompt[j] = (7 * j + 3 + (j >= 18 ? i : 0)) % vocab;
		CHECK_RC(infer_add(f, &q, NULL, &e), RC_OK);
	}
}

static void take_answers(struct infer *f, struct twin_text *r)
{
	for (int i = 0; i < TWIN_ANSWERS; i++) {
		struct infer_result a = infer_result(f, i / 3, i % 3);

		r->n_tokens[i] = a.n_tokens;
		r->logp[i] = a.logp;
		memcpy(r->tokens[i], a.tokens, (size_t)a.n_tokens * sizeof *a.tokens);
	}
}

void twin_round_fp8(struct model *m)
{
	for (int i = 0; i < m->n_tensors; i++) {
		const struct tensor_ref *t = &m->tensors[i];
		float *w = m->params + t->offset;
		double *x = mem_array(tensor_size(t), sizeof *x);

		for (size_t k = 0; k < tensor_size(t); k++)
			x[k] = (double)w[k];
		if (t->cols)
			ref64_round_rows(KERN_FP8, x, x, t->rows, t->cols);
		for (size_t k = 0; k < tensor_size(t); k++)
			w[k] = (float)x[k];
		free(x);
	}
}

struct twin_text twin_generate(const struct twin *t, const struct toy_kind *kind,
			       enum kern_format weights, int max_batch)
{
	struct model *m = toy_model(&kind->c, 11);
	struct infer_opts o = {
		.weights = weights, .kv_tokens = 1024, .chunk = 24, .max_batch = max_batch};
	struct twin_text r = {.vocab = kind->c.vocab};
	int32_t ids[TWIN_GIVEN];
	struct infer *f = NULL;

	for (int i = 0; i < TWIN_GIVEN; i++)
		ids[i] = (5 * i + 1) % r.vocab;
	r.logits = mem_array((size_t)TWIN_GIVEN * (size_t)r.vocab, sizeof *r.logits);
	r.scores = mem_array(TWIN_GIVEN, sizeof *r.scores);
	if (weights == KERN_FP8 && !t->k->has_format) {
		twin_round_fp8(m);
		o.weights = KERN_F32;
	}
	CHECK_RC(infer_new(m, t->k, t->pool, &o, &f, &e), RC_OK);
	add_requests(f, r.vocab);
	CHECK_RC(infer_run(f, NULL, NULL, &e), RC_OK);
	take_answers(f, &r);
	CHECK_RC(infer_logits(f, ids, TWIN_GIVEN, r.logits, &e), RC_OK);
	CHECK_RC(infer_score(f, ids, TWIN_GIVEN, 1, r.scores, &e), RC_OK);
	infer_free(f);
	model_free(m);
	return r;
}

void twin_text_free(struct twin_text *r)
{
	free(r->logits);
	free(r->scores);
}

double twin_error(const float *a, const float *b, size_t n)
{
	double diff = 0, all = 0;

	for (size_t i = 0; i < n; i++) {
		double d = (double)a[i] - (double)b[i];

		if (!isfinite(a[i]))
			return INFINITY;
		diff += d * d;
		all += (double)b[i] * (double)b[i];
	}
	return all > 0 ? sqrt(diff / all) : diff > 0 ? INFINITY : 0;
}
