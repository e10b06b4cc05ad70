/* Gradients and curves of loss: the trainer in F32 against the reference in double, and the
 * reference's own way back against central differences of its way there. */
#include "base/str.h"
#include "tests/kern_util.h"
#include "tests/ref64.h"
#include "tests/ref64_toys.h"
#include "worker/train/scorer.h"
#include "worker/train/trainer_inner.h"

static struct err e;

/* --- the reference itself --------------------------------------------------------------------- */

static double slope_at(struct ref64 *r, const struct dpo_settings *s, const struct toy_batch *b,
		       double *w)
{
	const double h = 1e-5, keep = *w;
	double up, down;

	*w = keep + h;
	up = ref64_dpo_loss(r, s, b->pairs, 2, b->ex, 2);
	*w = keep - h;
	down = ref64_dpo_loss(r, s, b->pairs, 2, b->ex, 2);
	*w = keep;
	return (up - down) / (2 * h);
}

/* Four elements of every tensor; the batch has pairs and examples. */
static void check_reference(struct ref64 *r, struct toy_batch *b)
{
	struct dpo_settings s = {DPO_SIGMOID, 0.3, 0.1, 0.5, true, 0.4};
	double *g[4], largest = 0, far = 0;

	ref64_reference(r, s.ld_alpha, b->pairs, TOY_BATCH);
	for (int i = 0; i < TOY_BATCH; i++)
		b->pairs[i].ref_chosen -= 1.5;
	for (int i = ref64_first_trained(r); i < r->n_tensors; i++) {
		struct ref64_tensor *t = &r->tensors[i];
		double want[4], had[4];

		ref64_dpo_loss(r, &s, b->pairs, 2, b->ex, 2);
		for (size_t k = 0; k < 4; k++) {
			g[k] = &t->g[(k * 7919 + 13) % t->n];
			had[k] = *g[k];
		}
		for (size_t k = 0; k < 4; k++) {
			want[k] = slope_at(r, &s, b, &t->w[g[k] - t->g]);
			far = fmax(far, fabs(had[k] - want[k]));
			largest = fmax(largest, fabs(want[k]));
		}
	}
	printf("# largest of the gradients looked at %.2e, farthest by %.1e\n", largest, far);
	CHECK(largest > 1e-3 && far < 1e-8);
}

void test_ref64_grad__reference_against_central_differences(void)
{
	static struct toy_batch b;

	for (size_t i = 0; i < n_toy_kinds; i++) {
		struct model *m = toy_model(&toy_kinds[i].c, 5);
		struct ref64 *r = ref64_new(m);

		toy_batch_make(&b, m->cfg.vocab, 6);
		check_reference(r, &b);
		ref64_free(r);
		model_free(m);
	}
}

/* --- one step --------------------------------------------------------------------------------- */

struct worst {
	double loss, grad;
	char tensor[MODEL_NAME_MAX];
};

/* Distance of every tensor's gradient, as a share of its own norm. */
static void compare_grads(const struct trainer *tr, const struct ref64 *r, double loss,
			  double loss_ref, struct worst *w)
{
	CHECK_EQ(r->n_tensors - ref64_first_trained(r), tr->set.n_tensors);
	w->loss = fmax(w->loss, fabs(loss - loss_ref) / fmax(fabs(loss_ref), 1e-3));
	for (int i = 0; i < tr->set.n_tensors; i++) {
		const struct tensor_ref *t = &tr->set.tensors[i];
		const struct ref64_tensor *mine = ref64_find(r, t->name);
		double far = 0, size = 0;

		CHECK(mine && mine->n == tensor_size(t));
		for (size_t k = 0; k < mine->n; k++) {
			double d = (double)tr->grads[t->offset + k] - mine->g[k];

			far += d * d;
			size += mine->g[k] * mine->g[k];
		}
		CHECK(size > 0 || far == 0);
		far = size > 0 ? sqrt(far / size) : 0;
		if (far > w->grad)
			str_copy(w->tensor, sizeof w->tensor, t->name);
		w->grad = fmax(w->grad, far);
	}
}

static struct train_opts still_opts(int micro)
{
	struct train_opts o = train_opts_default();

	o.max_length = TOY_LENGTH;
	o.micro_tokens = micro;
	o.schedule.lr = 0;
	return o;
}

static void check_sft(const struct model *m, const struct kern *k, struct toy_batch *b,
		      struct worst *w)
{
	struct kern_pool *pool = kern_pool_new(2);
	struct ref64 *r = ref64_new(m);
	double want = ref64_sft_loss(r, b->ex, TOY_BATCH);

	for (int micro = 50; micro <= 1000; micro += 475) {
		struct train_opts o = still_opts(micro);
		struct train_metrics got;
		struct trainer *tr;

		o.recompute = micro > 900;
		CHECK_RC(trainer_new((struct model *)m, k, pool, &o, &tr, &e), RC_OK);
		CHECK_RC(trainer_sft_step(tr, b->ex, TOY_BATCH, 0, &got, &e), RC_OK);
		compare_grads(tr, r, got.loss, want, w);
		CHECK(fabs(got.grad_norm / ref64_grad_norm(r) - 1) < 1e-5);
		trainer_free(tr);
	}
	ref64_free(r);
	kern_pool_free(pool);
}

static const struct dpo_settings losses[] = {
	{DPO_SIGMOID, 0.1, 0, 0, false, 1},    {DPO_SIGMOID, 0.3, 0.1, 0, false, 1},
	{DPO_ROBUST, 0.2, 0.2, 0.3, false, 1}, {DPO_HINGE, 0.1, 0, 0, false, 1},
	{DPO_IPO, 0.1, 0, 0, false, 1},	       {DPO_IPO_SUM, 0.05, 0, 0.7, false, 1},
	{DPO_SIGMOID, 0.5, 0, 0, true, 1},     {DPO_SIGMOID, 0.2, 0.05, 0.2, false, 0.3},
	{DPO_HINGE, 0.05, 0, 0.1, true, 0},
};
#define N_LOSSES (sizeof losses / sizeof losses[0])

static void check_dpo(const struct model *m, const struct kern *k, const struct dpo_settings *s,
		      struct toy_batch *b, struct worst *w)
{
	struct kern_pool *pool = kern_pool_new(2);
	struct ref64 *r = ref64_new(m);
	struct train_opts o = still_opts(90);
	struct train_metrics got;
	struct trainer *tr;
	double want;

	/* A reference that is another model, so that rewards are anything. */
	ref64_reference(r, s->ld_alpha, b->pairs, TOY_BATCH);
	for (int i = 0; i < TOY_BATCH; i++) {
		b->pairs[i].ref_chosen += (i % 4 - 1.5) * 2;
		b->pairs[i].ref_rejected += (i % 3 - 1.2) * 3;
	}
	o.dpo = *s;
	want = ref64_dpo_loss(r, s, b->pairs, TOY_BATCH, b->ex, 3);
	CHECK_RC(trainer_new((struct model *)m, k, pool, &o, &tr, &e), RC_OK);
	CHECK_RC(trainer_dpo_step(tr, b->pairs, TOY_BATCH, b->ex, 3, 0, &got, &e), RC_OK);
	compare_grads(tr, r, got.loss, want, w);
	trainer_free(tr);
	ref64_free(r);
	kern_pool_free(pool);
}

void test_ref64_grad__sft_of_every_kind_and_table(void)
{
	static struct toy_batch b;

	EACH_BACKEND(k)
	for (size_t i = 0; i < n_toy_kinds; i++) {
		struct model *m = toy_model(&toy_kinds[i].c, 5);
		struct worst w = {0};

		toy_batch_make(&b, m->cfg.vocab, 6);
		check_sft(m, k, &b, &w);
		printf("# %s, %s: loss %.1e, gradient %.1e (%s)\n", k->name, toy_kinds[i].name,
		       w.loss, w.grad, w.tensor);
		CHECK(w.loss < 1e-5 && w.grad < 1e-5);
		model_free(m);
	}
}

void test_ref64_grad__dpo_of_every_kind_loss_and_table(void)
{
	static struct toy_batch b;

	EACH_BACKEND(k)
	for (size_t i = 0; i < n_toy_kinds; i++) {
		struct model *m = toy_model(&toy_kinds[i].c, 5);
		struct worst w = {0};

		toy_batch_make(&b, m->cfg.vocab, 6);
		for (size_t j = i % 2; j < N_LOSSES; j += 2)
			check_dpo(m, k, &losses[j], &b, &w);
		printf("# %s, %s: loss %.1e, gradient %.1e (%s)\n", k->name, toy_kinds[i].name,
		       w.loss, w.grad, w.tensor);
		CHECK(w.loss < 1e-5 && w.grad < 1e-5);
		model_free(m);
	}
}

/* A window that no text outgrows, but a prompt with two endings one after the other does: the
 * second ending still sees the whole prompt. */
void test_ref64_grad__pairs_longer_than_the_window_of_their_texts(void)
{
	static struct toy_batch b;
	struct model_config c = toy_kinds[3].c;
	struct model *m;
	struct worst w = {0};

	c.sliding_window = TOY_LENGTH;
	m = toy_model(&c, 5);
	toy_batch_make(&b, c.vocab, 6);
	for (int i = 0; i < TOY_BATCH; i++) {
		b.pairs[i].n_prompt = TOY_LENGTH - TOY_RESPONSE;
		b.pairs[i].n_chosen = b.pairs[i].n_rejected = TOY_RESPONSE;
	}
	check_dpo(m, kern_cpu(), &losses[0], &b, &w);
	CHECK(w.loss < 1e-5 && w.grad < 1e-5);
	model_free(m);
}

/* --- adapters --------------------------------------------------------------------------------- */

static struct lora *toy_lora(const struct model *m, bool rslora)
{
	struct lora_settings s = {.r = 4, .alpha = 6, .targets = MODEL_ALL_PARTS, .rslora = rslora};
	struct lora *l = NULL;
	uint32_t seed = 9;

	CHECK_RC(lora_new(&m->cfg, &s, 1, &l, &e), RC_OK);
	for (size_t i = 0; i < l->n_params; i++)
		l->params[i] += 0.2f * number(&seed);
	return l;
}

void test_ref64_grad__adapters(void)
{
	static struct toy_batch b;
	struct kern_pool *pool = kern_pool_new(2);

	for (size_t i = 0; i < n_toy_kinds; i++) {
		struct model *m = toy_model(&toy_kinds[i].c, 5);
		struct lora *l = toy_lora(m, i % 2);
		struct ref64 *r = ref64_new(m);
		struct train_opts o = still_opts(100);
		struct train_metrics got;
		struct trainer *tr;
		struct worst w = {0};
		double want;

		ref64_adapt(r, l);
		toy_batch_make(&b, m->cfg.vocab, 6);
		check_reference(r, &b);
		o.lora = l;
		CHECK_RC(trainer_new(m, kern_cpu(), pool, &o, &tr, &e), RC_OK);
		want = ref64_sft_loss(r, b.ex, TOY_BATCH);
		CHECK_RC(trainer_sft_step(tr, b.ex, TOY_BATCH, 0, &got, &e), RC_OK);
		compare_grads(tr, r, got.loss, want, &w);
		want = ref64_dpo_loss(r, &o.dpo, b.pairs, TOY_BATCH, NULL, 0);
		CHECK_RC(trainer_dpo_step(tr, b.pairs, TOY_BATCH, NULL, 0, 0, &got, &e), RC_OK);
		compare_grads(tr, r, got.loss, want, &w);
		printf("# %s: loss %.1e, gradient %.1e (%s)\n", toy_kinds[i].name, w.loss, w.grad,
		       w.tensor);
		CHECK(w.loss < 1e-5 && w.grad < 1e-5);
		trainer_free(tr);
		ref64_free(r);
		lora_free(l);
		model_free(m);
	}
	kern_pool_free(pool);
}
