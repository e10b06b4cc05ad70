/* The promises of training, to the last bit: the number of threads, the company in a pack and a
 * stop at any step change nothing. For F32 and BF16, whole models and adapters, every table of
 * operations of this machine (a stop: the table it would use). */
#include "base/fs.h"
#include "base/str.h"
#include "store/volume.h"
#include "tests/kern_util.h"
#include "tests/ref64_toys.h"
#include "worker/model/lora.h"
#include "worker/train/scorer.h"
#include "worker/train/trainer.h"

#define STEPS 5

static struct err e;
static struct toy_batch batch;

struct setup {
	const struct kern *k;
	const struct toy_kind *kind;
	enum kern_format format;
	bool adapt;
	int threads;
};

/* What is trained, and with what. */
struct run {
	struct setup s;
	struct model *m;
	struct lora *lora; /* or NULL */
	struct kern_pool *pool;
	struct trainer *tr;
};

static struct train_opts opts_of(const struct run *r)
{
	struct train_opts o = train_opts_default();

	o.max_length = TOY_LENGTH;
	o.micro_tokens = 90; /* several micro-batches a step */
	o.weight_decay = 0.1;
	o.dropout = 0.1;
	o.seed = 5;
	o.schedule = (struct schedule){SCHEDULE_COSINE, 3e-3, 1e-4, 2, STEPS};
	o.dpo.nll_coef = 0.1;
	o.format = r->s.format;
	o.lora = r->lora;
	return o;
}

/* Takes the model and the adapter over; makes them when NULL. */
static void begin(struct run *r, const struct setup *s, struct model *m, struct lora *l)
{
	struct lora_settings ls = {.r = 4, .alpha = 8, .targets = MODEL_ALL_PARTS};
	struct train_opts o;

	*r = (struct run){.s = *s, .m = m ? m : toy_model(&s->kind->c, 3), .lora = l};
	if (s->adapt && !l)
		CHECK_RC(lora_new(&r->m->cfg, &ls, 8, &r->lora, &e), RC_OK);
	r->pool = kern_pool_new(s->threads);
	o = opts_of(r);
	CHECK_RC(trainer_new(r->m, s->k, r->pool, &o, &r->tr, &e), RC_OK);
}

static void end(struct run *r)
{
	trainer_free(r->tr);
	kern_pool_free(r->pool);
	lora_free(r->lora);
	model_free(r->m);
}

/* Log-probabilities of the pairs under the untrained model, the same for every run of a setup. */
static void set_references(const struct setup *s)
{
	struct scorer_opts so = {.format = s->format, .max_length = TOY_LENGTH, .ld_alpha = 1};
	struct model *m = toy_model(&s->kind->c, 3);
	struct kern_pool *pool = kern_pool_new(2);
	double logp[2 * TOY_BATCH];
	struct scorer *sc;

	toy_batch_make(&batch, m->cfg.vocab, 4);
	CHECK_RC(scorer_new(m, s->k, pool, &so, &sc, &e), RC_OK);
	CHECK_RC(scorer_pairs(sc, batch.pairs, TOY_BATCH, logp, &e), RC_OK);
	for (int i = 0; i < TOY_BATCH; i++) {
		batch.pairs[i].ref_chosen = logp[2 * i];
		batch.pairs[i].ref_rejected = logp[2 * i + 1];
	}
	scorer_free(sc);
	kern_pool_free(pool);
	model_free(m);
}

static void steps(struct run *r, bool pairs, int from, int to)
{
	struct train_metrics got;

	for (int s = from; s < to; s++)
		if (pairs)
			CHECK_RC(trainer_dpo_step(r->tr, batch.pairs + s % 5, 6, batch.ex, s % 2, s,
						  &got, &e),
				 RC_OK);
		else
			CHECK_RC(trainer_sft_step(r->tr, batch.ex + s % 5, 7, s, &got, &e), RC_OK);
}

static void check_trained_same(const struct run *a, const struct run *b)
{
	CHECK(a->m->n_params == b->m->n_params);
	check_same(a->m->params, b->m->params, a->m->n_params);
	if (a->lora)
		check_same(a->lora->params, b->lora->params, a->lora->n_params);
}

static void check_threads(struct setup s, bool pairs)
{
	struct run one, more;

	set_references(&s);
	s.threads = 1;
	begin(&one, &s, NULL, NULL);
	steps(&one, pairs, 0, STEPS);
	for (s.threads = 2; s.threads <= 4; s.threads *= 2) {
		begin(&more, &s, NULL, NULL);
		steps(&more, pairs, 0, STEPS);
		check_trained_same(&one, &more);
		end(&more);
	}
	end(&one);
}

/* Stopped after k steps, everything from files in new objects, on another number of threads. */
static void check_resume_at(const struct setup *s, bool pairs, int k, const struct run *whole)
{
	struct setup other = *s;
	struct run first, second;
	struct model *m = NULL;
	struct lora *l = NULL;
	char dir[600];

	str_fmt(dir, sizeof dir, "%s/%s-%d-%d-%d-%d", test_tmpdir(), s->k->name, s->format,
		s->adapt, pairs, k);
	begin(&first, s, NULL, NULL);
	steps(&first, pairs, 0, k);
	CHECK_RC(trainer_save_state(first.tr, dir, NULL, &e), RC_OK);
	CHECK_RC(model_save(first.m, dir, &e), RC_OK);
	if (s->adapt)
		CHECK_RC(lora_save(first.lora, dir, "base", &e), RC_OK);
	end(&first);
	CHECK_RC(model_load(dir, &m, &e), RC_OK);
	if (s->adapt)
		CHECK_RC(lora_load(dir, &m->cfg, &l, &e), RC_OK);
	other.threads = 1;
	begin(&second, &other, m, l);
	CHECK_RC(trainer_load_state(second.tr, dir, NULL, &e), RC_OK);
	steps(&second, pairs, k, STEPS);
	check_trained_same(whole, &second);
	end(&second);
}

static void check_resume(const struct setup *s, bool pairs)
{
	struct run whole, untrained;

	set_references(s);
	begin(&whole, s, NULL, NULL);
	steps(&whole, pairs, 0, STEPS);
	begin(&untrained, s, NULL, NULL);
	CHECK(memcmp(untrained.lora ? untrained.lora->params : untrained.m->params,
		     whole.lora ? whole.lora->params : whole.m->params, 4096) != 0);
	end(&untrained);
	for (int k = 0; k <= STEPS; k++)
		check_resume_at(s, pairs, k, &whole);
	end(&whole);
}

static void each_threads(bool pairs, bool adapt)
{
	size_t i = pairs;

	EACH_BACKEND(k)
	for (int f = KERN_F32; f <= KERN_BF16; f++, i++)
		check_threads((struct setup){.k = k,
					     .kind = &toy_kinds[i % n_toy_kinds],
					     .format = (enum kern_format)f,
					     .adapt = adapt},
			      pairs);
}

static void each_resume(bool pairs, bool adapt)
{
	for (int f = KERN_F32; f <= KERN_BF16; f++)
		check_resume(&(struct setup){.k = kern_cpu(),
					     .kind = &toy_kinds[pairs ? 4 - f : 1 + 2 * f],
					     .format = (enum kern_format)f,
					     .adapt = adapt,
					     .threads = 2},
			     pairs);
}

void test_train_exact__sft_on_one_two_and_four_threads(void)
{
	each_threads(false, false);
}

void test_train_exact__dpo_on_one_two_and_four_threads(void)
{
	each_threads(true, false);
}

void test_train_exact__adapters_on_one_two_and_four_threads(void)
{
	each_threads(false, true);
	each_threads(true, true);
}

void test_train_exact__sft_resumed_at_any_step(void)
{
	each_resume(false, false);
}

void test_train_exact__dpo_resumed_at_any_step(void)
{
	each_resume(true, false);
}

void test_train_exact__adapters_resumed_at_any_step(void)
{
	each_resume(false, true);
	each_resume(true, true);
}

/* --- company in a pack ------------------------------------------------------------------------ */

static struct scorer *scorer(const struct model *m, const struct setup *s, struct kern_pool *pool,
			     int micro)
{
	struct scorer_opts so = {.format = s->format,
				 .max_length = TOY_LENGTH,
				 .micro_tokens = micro,
				 .ld_alpha = 1};
	struct scorer *sc;

	CHECK_RC(scorer_new(m, s->k, pool, &so, &sc, &e), RC_OK);
	return sc;
}

/* Of one after the other, and of all in packs of any size. */
static void check_company(const struct setup *s)
{
	struct model *m = toy_model(&s->kind->c, 3);
	struct kern_pool *one = kern_pool_new(1), *more = kern_pool_new(3);
	struct scorer *sc = scorer(m, s, one, 1);
	double alone[3 * TOY_BATCH], all[3 * TOY_BATCH];

	toy_batch_make(&batch, m->cfg.vocab, 4);
	for (int i = 0; i < TOY_BATCH; i++) {
		CHECK_RC(scorer_examples(sc, &batch.ex[i], 1, &alone[i], &e), RC_OK);
		CHECK_RC(scorer_pairs(sc, &batch.pairs[i], 1, &alone[TOY_BATCH + 2 * i], &e),
			 RC_OK);
	}
	scorer_free(sc);
	for (int micro = 40; micro <= 1000; micro = micro * 2 + 7) {
		sc = scorer(m, s, more, micro);
		CHECK_RC(scorer_examples(sc, batch.ex, TOY_BATCH, all, &e), RC_OK);
		CHECK_RC(scorer_pairs(sc, batch.pairs, TOY_BATCH, all + TOY_BATCH, &e), RC_OK);
		CHECK(memcmp(alone, all, sizeof all) == 0);
		scorer_free(sc);
	}
	kern_pool_free(one);
	kern_pool_free(more);
	model_free(m);
}

void test_train_exact__a_sequence_alone_and_in_any_pack(void)
{
	EACH_BACKEND(k)
	for (size_t i = 0; i < n_toy_kinds; i++)
		for (int f = KERN_F32; f <= KERN_BF16; f++)
			check_company(&(struct setup){
				.k = k, .kind = &toy_kinds[i], .format = (enum kern_format)f});
}

/* A worker that has the instructions for BF16 and one that has not train the same float32 model. */
void test_train_exact__f32_is_the_same_on_both_tables_of_avx512(void)
{
	struct setup s = {.kind = &toy_kinds[1], .threads = 2};
	const struct kern *a = kern_cpu_named("avx512"), *b = kern_cpu_named("avx512bf16");
	struct run x, y;

	if (!a || !b)
		SKIP("no AVX-512 with BF16 here");
	s.k = a;
	set_references(&s);
	begin(&x, &s, NULL, NULL);
	steps(&x, true, 0, STEPS);
	s.k = b;
	begin(&y, &s, NULL, NULL);
	steps(&y, true, 0, STEPS);
	check_trained_same(&x, &y);
	end(&x);
	end(&y);
}

/* Weights and moments in several files each: what fits into a volume of 30 kB. */
void test_train_exact__resumed_from_several_files(void)
{
	char dir[600];
	char **names;
	size_t n, weights = 0, moments = 0;

	volume_bytes_set(30000);
	each_resume(false, false);
	each_resume(true, true);
	str_fmt(dir, sizeof dir, "%s/%s-%d-0-0-1", test_tmpdir(), kern_cpu()->name, KERN_F32);
	CHECK_RC(fs_list(dir, &names, &n, &e), RC_OK);
	for (size_t i = 0; i < n; i++) {
		weights += str_starts(names[i], "model-");
		moments += str_starts(names[i], "optimizer-");
	}
	CHECK(weights > 1 && moments > 2);
	fs_list_free(names);
}
