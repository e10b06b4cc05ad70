/* Fifty steps of training, engine in F32 beside the reference in double: the same data in the same
 * order, AdamW with decay, warm-up and a decay to the end, clipping, gradients summed over several
 * micro-batches. */
#include "tests/kern_util.h"
#include "tests/ref64.h"
#include "tests/ref64_toys.h"
#include "worker/train/scorer.h"
#include "worker/train/trainer_inner.h"

#define STEPS 50
#define BATCHES 4
#define SEEDS 3
#define NEAR 1e-4

static struct err e;

static struct train_opts curve_opts(uint32_t seed)
{
	struct train_opts o = train_opts_default();

	o.max_length = TOY_LENGTH;
	o.micro_tokens = 80;
	o.weight_decay = 0.1;
	o.clip_norm = 1;
	o.schedule = (struct schedule){seed % 2 ? SCHEDULE_LINEAR : SCHEDULE_COSINE, 3e-3, 1e-4, 5,
				       STEPS - 2};
	return o;
}

struct curve {
	struct model *m;
	struct lora *lora; /* or NULL */
	struct kern_pool *pool;
	struct trainer *tr;
	struct ref64 *r;
	struct train_opts o;
	struct toy_batch mine[BATCHES], theirs[BATCHES]; /* of the engine, of the reference */
	double worst, worst_norm, first, last;
	int clipped;
};

static void begin(struct curve *c, const struct toy_kind *kind, uint32_t seed, bool adapt)
{
	*c = (struct curve){.m = toy_model(&kind->c, seed), .o = curve_opts(seed)};
	c->pool = kern_pool_new(2);
	c->r = ref64_new(c->m);
	if (adapt) {
		struct lora_settings s = {.r = 8, .alpha = 16, .targets = MODEL_ALL_PARTS};

		CHECK_RC(lora_new(&c->m->cfg, &s, seed, &c->lora, &e), RC_OK);
		ref64_adapt(c->r, c->lora);
		c->o.lora = c->lora;
	}
	CHECK_RC(trainer_new(c->m, kern_cpu(), c->pool, &c->o, &c->tr, &e), RC_OK);
	for (uint32_t i = 0; i < BATCHES; i++) {
		toy_batch_make(&c->mine[i], c->m->cfg.vocab, seed * 77 + i * 1000003);
		toy_batch_make(&c->theirs[i], c->m->cfg.vocab, seed * 77 + i * 1000003);
	}
}

/* Weights (those trained) as a share of their size. */
static double far_weights(const struct curve *c)
{
	double far = 0, size = 0;

	for (int i = 0; i < c->tr->set.n_tensors; i++) {
		const struct tensor_ref *t = &c->tr->set.tensors[i];
		const struct ref64_tensor *mine = ref64_find(c->r, t->name);

		for (size_t k = 0; k < mine->n; k++) {
			double d = (double)c->tr->set.params[t->offset + k] - mine->w[k];

			far += d * d;
			size += mine->w[k] * mine->w[k];
		}
	}
	return sqrt(far / size);
}

static void end(struct curve *c, const char *what, const char *kind)
{
	printf("# %s, %s: loss %.3f to %.3f, at most %.1e off, norm %.1e, weights %.1e; %d "
	       "steps clipped\n",
	       what, kind, c->first, c->last, c->worst, c->worst_norm, far_weights(c), c->clipped);
	CHECK(c->worst < NEAR && c->worst_norm < 10 * NEAR && far_weights(c) < NEAR);
	CHECK(c->clipped > 0 && c->last < 0.8 * c->first);
	trainer_free(c->tr);
	kern_pool_free(c->pool);
	ref64_free(c->r);
	lora_free(c->lora);
	model_free(c->m);
}

static void compare(struct curve *c, int step, const struct train_metrics *got, double want)
{
	double norm = ref64_update(c->r, &c->o, step);

	c->worst = fmax(c->worst, fabs(got->loss / want - 1));
	c->worst_norm = fmax(c->worst_norm, fabs(got->grad_norm / norm - 1));
	c->clipped += norm > c->o.clip_norm;
	c->first = step == 0 ? want : c->first;
	c->last = want;
	CHECK_NEAR(got->learning_rate, ref64_learning_rate(&c->o.schedule, step), 1e-15);
}

static void sft_curve(const struct toy_kind *kind, uint32_t seed, bool adapt)
{
	static struct curve c;

	begin(&c, kind, seed, adapt);
	for (int s = 0; s < STEPS; s++) {
		struct train_example *ex = c.mine[s % BATCHES].ex + s / BATCHES % 5;
		struct train_metrics got;

		CHECK_RC(trainer_sft_step(c.tr, ex, 6, s, &got, &e), RC_OK);
		compare(&c, s, &got, ref64_sft_loss(c.r, ex, 6));
	}
	end(&c, adapt ? "SFT of an adapter" : "SFT", kind->name);
}

/* Each side scores the reference by itself. */
static void set_references(struct curve *c)
{
	struct scorer_opts so = {.max_length = TOY_LENGTH, .ld_alpha = c->o.dpo.ld_alpha};
	struct scorer *sc;

	CHECK_RC(scorer_new(c->m, kern_cpu(), c->pool, &so, &sc, &e), RC_OK);
	for (int i = 0; i < BATCHES; i++) {
		double logp[2 * TOY_BATCH];

		CHECK_RC(scorer_pairs(sc, c->mine[i].pairs, TOY_BATCH, logp, &e), RC_OK);
		for (int k = 0; k < TOY_BATCH; k++) {
			c->mine[i].pairs[k].ref_chosen = logp[2 * k];
			c->mine[i].pairs[k].ref_rejected = logp[2 * k + 1];
		}
		ref64_reference(c->r, c->o.dpo.ld_alpha, c->theirs[i].pairs, TOY_BATCH);
	}
	scorer_free(sc);
}

static void dpo_curve(const struct toy_kind *kind, uint32_t seed, bool adapt)
{
	static const struct dpo_settings settings[] = {{DPO_SIGMOID, 0.1, 0, 0, false, 1},
						       {DPO_SIGMOID, 0.3, 0.1, 0.2, true, 1},
						       {DPO_IPO, 0.2, 0, 0, false, 0.5}};
	static struct curve c;

	begin(&c, kind, seed, adapt);
	c.tr->o.dpo = c.o.dpo = settings[seed % 3];
	set_references(&c);
	for (int s = 0; s < STEPS; s++) {
		int from = s / BATCHES % 5;
		struct train_metrics got;
		double want;

		CHECK_RC(trainer_dpo_step(c.tr, c.mine[s % BATCHES].pairs + from, 4, c.mine[0].ex,
					  s % 3 == 2, s, &got, &e),
			 RC_OK);
		want = ref64_dpo_loss(c.r, &c.o.dpo, c.theirs[s % BATCHES].pairs + from, 4,
				      c.theirs[0].ex, s % 3 == 2);
		compare(&c, s, &got, want);
	}
	end(&c, adapt ? "DPO of an adapter" : "DPO", kind->name);
}

void test_ref64_curve__fifty_steps_of_sft(void)
{
	for (uint32_t seed = 0; seed < SEEDS; seed++)
		sft_curve(&toy_kinds[2 * seed % n_toy_kinds], seed + 1, false);
}

void test_ref64_curve__fifty_steps_of_dpo(void)
{
	for (uint32_t seed = 0; seed < SEEDS; seed++)
		dpo_curve(&toy_kinds[(2 * seed + 1) % n_toy_kinds], seed, false);
}

void test_ref64_curve__fifty_steps_of_an_adapter(void)
{
	sft_curve(&toy_kinds[1], 11, true);
	dpo_curve(&toy_kinds[4], 12, true);
}
