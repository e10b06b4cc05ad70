/* Any configuration, any company in a batch: engine against reference for a number of seeds. A
 * failure names its seed; `one(seed)` alone shows it again. */
#include "tests/kern_util.h"
#include "tests/ref64.h"
#include "tests/ref64_toys.h"
#include "worker/model/infer.h"
#include "worker/train/trainer_inner.h"

#define SEEDS 60
#define LEN_MAX 70

static struct err e;

struct worst {
	double logits, loss, grad;
};

static const struct kern *some_kern(uint32_t *seed)
{
	const struct kern *k = kern_cpu_named(backend_names[toy_int(seed, 0, 3)]);

	return k ? k : kern_cpu();
}

static void generation(const struct model *m, const struct ref64 *r, uint32_t *seed,
		       struct worst *w)
{
	struct kern_pool *pool = kern_pool_new(toy_int(seed, 1, 3));
	struct infer_opts o = {.kv_tokens = 256, .chunk = toy_int(seed, 1, 40)};
	int n = toy_int(seed, 1, LEN_MAX);
	size_t all = (size_t)n * (size_t)m->cfg.vocab;
	float *got = calloc(all, sizeof *got);
	double *want = calloc(all, sizeof *want), top = 0, far = 0;
	struct infer *f = NULL;
	int32_t ids[LEN_MAX];

	for (int i = 0; i < n; i++)
		ids[i] = toy_int(seed, 0, m->cfg.vocab - 1);
	CHECK_RC(infer_new(m, some_kern(seed), pool, &o, &f, &e), RC_OK);
	CHECK_RC(infer_logits(f, ids, n, got, &e), RC_OK);
	ref64_logits(r, ids, n, want);
	for (size_t i = 0; i < all; i++) {
		far = fmax(far, fabs((double)got[i] - want[i]));
		top = fmax(top, fabs(want[i]));
	}
	w->logits = fmax(w->logits, far / top);
	infer_free(f);
	kern_pool_free(pool);
	free(got);
	free(want);
}

static double far_grads(const struct trainer *tr, const struct ref64 *r)
{
	double far = 0;

	for (int i = 0; i < tr->set.n_tensors; i++) {
		const struct tensor_ref *t = &tr->set.tensors[i];
		const struct ref64_tensor *mine = ref64_find(r, t->name);

		for (size_t k = 0; k < mine->n; k++) {
			double d = (double)tr->grads[t->offset + k] - mine->g[k];

			far += d * d;
		}
	}
	return sqrt(far) / ref64_grad_norm(r);
}

static struct dpo_settings some_settings(uint32_t *seed)
{
	struct dpo_settings s = dpo_settings_default();

	s.loss = (enum dpo_loss_kind)toy_int(seed, DPO_SIGMOID, DPO_IPO_SUM);
	s.label_smoothing = s.loss <= DPO_ROBUST ? 0.1 * toy_int(seed, 0, 3) : 0;
	s.nll_coef = 0.5 * toy_int(seed, 0, 1);
	s.length_normalised = toy_int(seed, 0, 1);
	s.ld_alpha = 0.5 * toy_int(seed, 0, 2);
	return s;
}

static void training(struct model *m, struct ref64 *r, uint32_t *seed, struct worst *w)
{
	static struct toy_batch b;
	struct kern_pool *pool = kern_pool_new(toy_int(seed, 1, 3));
	struct train_opts o = train_opts_default();
	int n = toy_int(seed, 1, 6), from = toy_int(seed, 0, TOY_BATCH - n);
	int extra = toy_int(seed, 0, 2);
	struct train_metrics got;
	struct trainer *tr;
	double want;

	toy_batch_make(&b, m->cfg.vocab, *seed);
	b.ex[from].weight = 1; /* one weight above 0 at least */
	o.max_length = TOY_LENGTH;
	o.micro_tokens = toy_int(seed, 1, 200);
	o.recompute = toy_int(seed, 0, 1);
	o.schedule.lr = 0;
	o.dpo = some_settings(seed);
	CHECK_RC(trainer_new(m, some_kern(seed), pool, &o, &tr, &e), RC_OK);
	want = ref64_sft_loss(r, b.ex + from, n);
	CHECK_RC(trainer_sft_step(tr, b.ex + from, n, 0, &got, &e), RC_OK);
	w->loss = fmax(w->loss, fabs(got.loss / want - 1));
	w->grad = fmax(w->grad, far_grads(tr, r));
	ref64_reference(r, o.dpo.ld_alpha, b.pairs, TOY_BATCH);
	for (int i = 0; i < TOY_BATCH; i++)
		b.pairs[i].ref_chosen += 0.7 - 0.3 * i;
	want = ref64_dpo_loss(r, &o.dpo, b.pairs + from, n, b.ex, extra);
	CHECK_RC(trainer_dpo_step(tr, b.pairs + from, n, b.ex, extra, 0, &got, &e), RC_OK);
	w->loss = fmax(w->loss, fabs(got.loss / want - 1));
	w->grad = fmax(w->grad, far_grads(tr, r));
	trainer_free(tr);
	kern_pool_free(pool);
}

static struct worst one(uint32_t number_of)
{
	uint32_t seed = number_of * 2654435761u + 99;
	struct model_config c = toy_random_config(&seed);
	struct model *m = toy_model(&c, seed);
	struct ref64 *r = ref64_new(m);
	struct worst w = {0, 0, 0};

	generation(m, r, &seed, &w);
	training(m, r, &seed, &w);
	ref64_free(r);
	model_free(m);
	return w;
}

void test_ref64_random__engine_and_reference_agree(void)
{
	struct worst all = {0, 0, 0};

	for (uint32_t i = 0; i < SEEDS; i++) {
		struct worst w = one(i);

		if (!(w.logits < 1e-5 && w.loss < 1e-5 && w.grad < 1e-5)) {
			printf("# seed %u: logits %.1e, loss %.1e, gradient %.1e\n", i, w.logits,
			       w.loss, w.grad);
			test_fail(__FILE__, __LINE__, "engine and reference differ");
		}
		all.logits = fmax(all.logits, w.logits);
		all.loss = fmax(all.loss, w.loss);
		all.grad = fmax(all.grad, w.grad);
	}
	printf("# %d configurations: logits %.1e, loss %.1e, gradient %.1e\n", SEEDS, all.logits,
	       all.loss, all.grad);
}
