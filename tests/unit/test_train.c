/* Training: losses against golden values, step 0 of DPO, gradients, resume, learning. */
#include "tests/kern_util.h"

#include "base/jsonx.h"
#include "base/str.h"
#include "worker/model/model.h"
#include "worker/train/scorer.h"
#include "worker/train/trainer.h"
#include "worker/train/trainer_inner.h"

enum { VOCAB = 29, N_EX = 10, LEN = 8 };

static struct model *toy_model(bool tied)
{
	struct model_config c = {.arch = "llama",
				 .vocab = VOCAB,
				 .dim = 32,
				 .n_layers = 2,
				 .n_heads = 4,
				 .n_kv_heads = 2,
				 .head_dim = 8,
				 .ffn_dim = 48,
				 .max_pos = 64,
				 .rope_theta = 10000,
				 .rms_eps = 1e-5f,
				 .tied = tied,
				 .bos_id = 1,
				 .pad_id = -1,
				 .eos_ids = {2},
				 .n_eos = 1};
	struct model *m = NULL;
	struct err e = {0};

	CHECK_RC(model_new(&c, &m, &e), RC_OK);
	model_init(m, 7);
	for (size_t i = 0; i < m->n_params; i++)
		m->params[i] *= m->params[i] == 1 ? 1 : 5;
	return m;
}

static int32_t tokens[4096];

static void make_examples(struct train_example ex[N_EX])
{
	fill_ids(tokens, 4096, VOCAB);
	for (int i = 0; i < N_EX; i++)
		ex[i] = (struct train_example){.prompt = tokens + 40 * i,
					       .n_prompt = 2 + i % 3,
					       .response = tokens + 40 * i + 20,
					       .n_response = 3 + (i * 5) % LEN,
					       .weight = 1};
}

static void make_pairs(struct train_pair p[N_EX])
{
	fill_ids(tokens, 4096, VOCAB);
	for (int i = 0; i < N_EX; i++)
		p[i] = (struct train_pair){.prompt = tokens + 90 * i,
					   .n_prompt = 1 + i % 4,
					   .chosen = tokens + 90 * i + 20,
					   .n_chosen = 2 + i % LEN,
					   .rejected = tokens + 90 * i + 50,
					   .n_rejected = 1 + (i * 3) % LEN};
}

static struct train_opts toy_opts(void)
{
	struct train_opts o = train_opts_default();

	o.max_length = 32;
	o.schedule.lr = 2e-3;
	o.seed = 42;
	return o;
}

static struct trainer *toy_trainer(struct model *m, struct kern_pool *pool,
				   const struct train_opts *o)
{
	struct trainer *tr = NULL;
	struct err e = {0};

	CHECK_RC(trainer_new(m, kern_cpu(), pool, o, &tr, &e), RC_OK);
	return tr;
}

static struct scorer *toy_scorer(const struct model *m, struct kern_pool *pool,
				 const struct train_opts *o)
{
	struct scorer_opts so = {.format = o->format,
				 .max_length = o->max_length,
				 .micro_tokens = o->micro_tokens,
				 .ld_alpha = o->dpo.ld_alpha};
	struct scorer *sc = NULL;
	struct err e = {0};

	CHECK_RC(scorer_new(m, kern_cpu(), pool, &so, &sc, &e), RC_OK);
	return sc;
}

/* Reference log-probabilities from the model itself. */
static void set_reference(const struct model *m, struct kern_pool *pool, const struct train_opts *o,
			  struct train_pair *p, int n)
{
	struct scorer *sc = toy_scorer(m, pool, o);
	double logp[2 * N_EX];
	struct err e = {0};

	CHECK_RC(scorer_pairs(sc, p, n, logp, &e), RC_OK);
	for (int i = 0; i < n; i++) {
		p[i].ref_chosen = logp[2 * i];
		p[i].ref_rejected = logp[2 * i + 1];
	}
	scorer_free(sc);
}

void test_train__schedules(void)
{
	struct schedule s = {SCHEDULE_COSINE, 1, 0.2, 4, 14};
	enum schedule_kind kind;
	struct err e = {0};

	CHECK_NEAR(schedule_lr(&s, 0), 0.25, 1e-12);
	CHECK_NEAR(schedule_lr(&s, 3), 1, 1e-12);
	CHECK_NEAR(schedule_lr(&s, 4), 1, 1e-12);
	CHECK_NEAR(schedule_lr(&s, 9), 0.6, 1e-12);
	CHECK_NEAR(schedule_lr(&s, 14), 0.2, 1e-12);
	CHECK_NEAR(schedule_lr(&s, 99), 0.2, 1e-12);
	s.kind = SCHEDULE_LINEAR;
	CHECK_NEAR(schedule_lr(&s, 9), 0.6, 1e-12);
	CHECK_NEAR(schedule_lr(&s, 5), 0.92, 1e-12);
	s.kind = SCHEDULE_CONSTANT;
	CHECK_NEAR(schedule_lr(&s, 99), 1, 1e-12);
	CHECK_RC(schedule_parse("cosine", &kind, &e), RC_OK);
	CHECK_EQ(kind, SCHEDULE_COSINE);
	CHECK_RC(schedule_parse("wavy", &kind, &e), RC_INVALID);
}

/* --- Losses
 * --------------------------------------------------------------------------------------- */

struct golden {
	struct dpo_pair in;
	double sigmoid, cdpo, robust, hinge, ipo_sum, ipo, sigmoid_norm;
};

static const struct golden golden[] = {
	{{-50, -60, -50, -60, 20, 30, -50}, .693147, .693147, .693147, 1, 25, 25, .693147},
	{{-48, -63.5, -50, -60, 20, 30, -48},
	 .455492,
	 .510492,
	 .386742,
	 .45,
	 .25,
	 22.880278,
	 .682373},
	{{-55, -58, -50, -60, 20, 30, -55},
	 1.103186,
	 1.033186,
	 1.190686,
	 1.7,
	 144,
	 28.266944,
	 .709106},
	{{-900, -10, -100, -600, 100, 350, -900},
	 139.0,
	 125.1,
	 156.375,
	 140,
	 1946025,
	 215.670204,
	 1.290383},
};

static double loss_of(enum dpo_loss_kind kind, double smoothing, const struct dpo_pair *p)
{
	return dpo_loss(&(struct dpo_settings){.loss = kind,
					       .beta = 0.1,
					       .label_smoothing = smoothing,
					       .ld_alpha = 1},
			p)
		.loss;
}

static double normalised_loss(const struct dpo_pair *p)
{
	struct dpo_settings s = dpo_settings_default();

	s.length_normalised = true;
	return dpo_loss(&s, p).loss;
}

static void check_golden(const struct golden *g, double tol)
{
	CHECK_NEAR(loss_of(DPO_SIGMOID, 0, &g->in), g->sigmoid, tol);
	CHECK_NEAR(loss_of(DPO_SIGMOID, 0.1, &g->in), g->cdpo, tol);
	CHECK_NEAR(loss_of(DPO_ROBUST, 0.1, &g->in), g->robust, tol);
	CHECK_NEAR(loss_of(DPO_HINGE, 0, &g->in), g->hinge, tol);
	CHECK_NEAR(loss_of(DPO_IPO_SUM, 0, &g->in), g->ipo_sum, tol);
	CHECK_NEAR(loss_of(DPO_IPO, 0, &g->in), g->ipo, tol);
	CHECK_NEAR(normalised_loss(&g->in), g->sigmoid_norm, tol);
}

void test_train__dpo_losses_are_the_published_ones(void)
{
	for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++)
		check_golden(&golden[i], 6e-7);
}

void test_train__dpo_losses_match_the_oracle_file(void)
{
	const char *path = test_data("oracles/dpo_rouge_rank_golden.json");
	json_t *all = NULL, *row;
	struct err e = {0};
	size_t i;

	CHECK_RC(jx_load(path, 1 << 24, &all, &e), RC_OK);
	json_array_foreach(json_object_get(all, "dpo"), i, row)
	{
		const json_t *x = json_object_get(row, "expect");
		struct golden g = {{jx_get_f64(row, "pi_c", 0), jx_get_f64(row, "pi_r", 0),
				    jx_get_f64(row, "ref_c", 0), jx_get_f64(row, "ref_r", 0),
				    (int)jx_get_i64(row, "len_c", 0),
				    (int)jx_get_i64(row, "len_r", 0), jx_get_f64(row, "pi_c", 0)},
				   jx_get_f64(x, "sigmoid", 0),
				   jx_get_f64(x, "cdpo", 0),
				   jx_get_f64(x, "robust", 0),
				   jx_get_f64(x, "hinge", -1),
				   jx_get_f64(x, "ipo_sum", 0),
				   jx_get_f64(x, "ipo_avg", 0),
				   jx_get_f64(x, "sigmoid_norm", 0)};
		struct dpo_result r =
			dpo_loss(&(struct dpo_settings){DPO_SIGMOID, 0.1, 0, 0, false, 1}, &g.in);

		check_golden(&g, 1e-9 * (1 + fabs(g.ipo_sum)));
		CHECK_NEAR(r.nll, jx_get_f64(x, "rpo_nll_mean", 0), 1e-12);
		CHECK_NEAR(r.reward_c, jx_get_f64(x, "rewards_chosen", 9), 1e-9);
		CHECK_NEAR(r.reward_r, jx_get_f64(x, "rewards_rejected", 9), 1e-9);
		CHECK_NEAR(r.d_pi_c, jx_get_f64(x, "grad_sigmoid_pc", 9), 1e-12);
		CHECK_NEAR(r.d_pi_r, jx_get_f64(x, "grad_sigmoid_pr", 9), 1e-12);
	}
	CHECK(i >= 5);
}

/* Of loss + nll_coef * nll in one of the log-probabilities, which `at` points to within p. */
static double slope_in(const struct dpo_settings *s, struct dpo_pair *p, double *at)
{
	double keep = *at, up, down, h = 1e-4;
	struct dpo_result r;

	*at = keep + h;
	r = dpo_loss(s, p);
	up = r.loss + s->nll_coef * r.nll;
	*at = keep - h;
	r = dpo_loss(s, p);
	down = r.loss + s->nll_coef * r.nll;
	*at = keep;
	return (up - down) / (2 * h);
}

void test_train__dpo_slopes_match_central_differences(void)
{
	for (int kind = DPO_SIGMOID; kind <= DPO_IPO_SUM; kind++)
		for (size_t i = 0; i < 6; i++) {
			struct dpo_settings s = {.loss = (enum dpo_loss_kind)kind,
						 .beta = 0.1,
						 .label_smoothing = kind <= DPO_ROBUST ? 0.1 : 0,
						 .nll_coef = 0.3,
						 .length_normalised = i >= 3};
			struct dpo_pair p = golden[i % 3].in;
			struct dpo_result r;

			p.all_c = p.pi_c;
			r = dpo_loss(&s, &p);
			CHECK_NEAR(r.d_pi_c, slope_in(&s, &p, &p.pi_c), 1e-6);
			CHECK_NEAR(r.d_pi_r, slope_in(&s, &p, &p.pi_r), 1e-6);
			CHECK_NEAR(r.d_all_c, slope_in(&s, &p, &p.all_c), 1e-6);
		}
}

/* --- Steps
 * ---------------------------------------------------------------------------------------- */

void test_train__sft_loss_is_the_mean_over_target_tokens(void)
{
	struct kern_pool *pool = kern_pool_new(2);
	struct model *m = toy_model(true);
	struct train_opts o = toy_opts();
	struct trainer *tr = toy_trainer(m, pool, &o);
	struct train_example ex[N_EX];
	struct train_metrics out;
	struct err e = {0};
	double logp[N_EX], sum = 0, n = 0;

	make_examples(ex);
	ex[3].weight = 0.5f;
	struct scorer *sc = toy_scorer(m, pool, &o);
	CHECK_RC(scorer_examples(sc, ex, N_EX, logp, &e), RC_OK);
	scorer_free(sc);
	for (int i = 0; i < N_EX; i++) {
		sum -= (double)ex[i].weight * logp[i];
		n += (double)ex[i].weight * ex[i].n_response;
	}
	CHECK_RC(trainer_sft_step(tr, ex, N_EX, 0, &out, &e), RC_OK);
	CHECK_NEAR(out.loss, sum / n, 1e-12);
	CHECK(out.grad_norm > 0 && out.num_tokens > n);
	trainer_free(tr);
	kern_pool_free(pool);
}

void test_train__dpo_starts_at_ln2_with_zero_rewards(void)
{
	struct kern_pool *pool = kern_pool_new(2);
	struct model *m = toy_model(false);
	struct train_opts o = toy_opts();
	struct train_pair p[N_EX];
	struct train_metrics out;
	struct err e = {0};

	make_pairs(p);
	for (int i = 0; i < 9; i++) {
		struct trainer *tr;

		o.format = i % 2 ? KERN_BF16 : KERN_F32;
		o.dpo.ld_alpha = i == 4 || i == 5 ? 0.25 : 1;
		o.micro_tokens = 4096;
		set_reference(m, pool, &o, p, N_EX);
		o.micro_tokens = i < 3 ? 16 : i < 6 ? 256 : 4096;
		o.schedule.lr = 0;
		tr = toy_trainer(m, pool, &o);
		CHECK_RC(trainer_check_reference(tr, p, N_EX, &e), RC_OK);
		CHECK_RC(trainer_dpo_step(tr, p, N_EX, NULL, 0, 0, &out, &e), RC_OK);
		CHECK_NEAR(out.loss, 0.69314718055994531, 1e-15);
		CHECK(out.reward_chosen == 0 && out.reward_rejected == 0 && out.margin == 0);
		CHECK(out.accuracy == 0);
		CHECK(out.tokens_saved == 23);
		trainer_free(tr);
	}
	p[4].ref_rejected += 0.5;
	struct trainer *tr = toy_trainer(m, pool, &o);
	CHECK_RC(trainer_check_reference(tr, p, N_EX, &e), RC_CORRUPT);
	CHECK(strstr(e.text, "pair 4"));
	trainer_free(tr);
	kern_pool_free(pool);
}

/* Loss of a batch as it stands (learning rate 0 leaves the weights alone). */
static double batch_loss(struct trainer *tr, const struct train_pair *p,
			 const struct train_example *ex, int n_ex)
{
	struct train_metrics out;
	struct err e = {0};

	CHECK_RC(trainer_dpo_step(tr, p, N_EX, ex, n_ex, 0, &out, &e), RC_OK);
	return out.loss;
}

/* The slope along the gradient itself must be its squared norm. */
void test_train__dpo_gradient_of_every_loss(void)
{
	struct kern_pool *pool = kern_pool_new(2);

	for (int kind = DPO_SIGMOID; kind <= DPO_IPO_SUM; kind++)
		for (int drop = 0; drop < 2; drop++) {
			struct model *m = toy_model(true);
			struct train_opts o = toy_opts();
			struct train_pair p[N_EX];
			struct train_example ex[N_EX];
			struct trainer *tr;
			double norm2, eps, up, down;

			make_pairs(p);
			make_examples(ex);
			ex[1].weight = 0.25f;
			o.dpo = (struct dpo_settings){.loss = (enum dpo_loss_kind)kind,
						      .beta = 0.2,
						      .label_smoothing =
							      kind <= DPO_ROBUST ? 0.1 : 0,
						      .nll_coef = 0.5,
						      .length_normalised = kind == DPO_HINGE,
						      .ld_alpha = drop ? 0.3 : 1};
			o.schedule.lr = 0;
			o.dropout = drop ? 0.1 : 0;
			set_reference(m, pool, &o, p, N_EX);
			for (int i = 0; i < N_EX; i++)
				p[i].ref_chosen += (i % 3 - 1) * 1.5; /* away from the kink */
			tr = toy_trainer(m, pool, &o);
			batch_loss(tr, p, ex, 4);
			float *g = copy_of(tr->grads, m->n_params),
			      *w = copy_of(m->params, m->n_params);
			norm2 = tr->k->sumsq(pool, g, m->n_params);
			eps = 2e-3 / sqrt(norm2);
			for (size_t i = 0; i < m->n_params; i++)
				m->params[i] = w[i] + (float)eps * g[i];
			up = batch_loss(tr, p, ex, 4);
			for (size_t i = 0; i < m->n_params; i++)
				m->params[i] = w[i] - (float)eps * g[i];
			down = batch_loss(tr, p, ex, 4);
			CHECK_NEAR((up - down) / (2 * eps) / norm2, 1, 5e-3);
			trainer_free(tr);
			model_free(m);
		}
	kern_pool_free(pool);
}

/* Mixed training: supervised steps, then preference steps with extra examples, dropout on. */
static void train_steps(struct trainer *tr, const struct train_pair *p, int from, int to)
{
	struct train_example ex[N_EX];
	struct train_metrics out;
	struct err e = {0};

	make_examples(ex);
	for (int s = from; s < to; s++)
		if (s < 3)
			CHECK_RC(trainer_sft_step(tr, ex + s % 4, 6, s, &out, &e), RC_OK);
		else
			CHECK_RC(trainer_dpo_step(tr, p + s % 4, 6, ex, 2, s, &out, &e), RC_OK);
}

static struct train_opts noisy_opts(void)
{
	struct train_opts o = toy_opts();

	o.dropout = 0.1;
	o.weight_decay = 0.01;
	o.schedule = (struct schedule){SCHEDULE_COSINE, 2e-3, 1e-4, 2, 6};
	o.micro_tokens = 40;
	return o;
}

void test_train__resumed_at_any_step_gives_the_same_bits(void)
{
	struct kern_pool *pool = kern_pool_new(2);
	struct train_opts o = noisy_opts();
	struct train_pair p[N_EX];
	struct model *whole = toy_model(true);
	struct trainer *tr = toy_trainer(whole, pool, &o);
	struct err e = {0};

	make_pairs(p);
	set_reference(whole, pool, &o, p, N_EX);
	train_steps(tr, p, 0, 6);
	for (int cut = 1; cut < 6; cut++) {
		struct model *m = toy_model(true), *n = NULL;
		struct trainer *first = toy_trainer(m, pool, &o), *second;
		json_t *cursor = json_pack("{s:i}", "step", cut), *back = NULL;
		char dir[512];

		train_steps(first, p, 0, cut);
		str_fmt(dir, sizeof dir, "%s/%d", test_tmpdir(), cut);
		CHECK_RC(model_save(m, dir, &e), RC_OK);
		CHECK_RC(trainer_save_state(first, dir, cursor, &e), RC_OK);
		CHECK_RC(model_load(dir, &n, &e), RC_OK);
		second = toy_trainer(n, pool, &o);
		char file[600];
		str_fmt(file, sizeof file, "%s", dir);
		CHECK_RC(trainer_load_state(second, file, &back, &e), RC_OK);
		CHECK_EQ(jx_get_i64(back, "step", 0), cut);
		train_steps(second, p, cut, 6);
		check_same(whole->params, n->params, whole->n_params);
		trainer_free(first);
		trainer_free(second);
		model_free(m);
		model_free(n);
		json_decref(cursor);
		json_decref(back);
	}
	trainer_free(tr);
	kern_pool_free(pool);
}

void test_train__threads_change_no_bit(void)
{
	struct train_opts o = noisy_opts();
	struct model *models[3];
	int n = 0;

	for (int threads = 1; threads <= 4; threads *= 2) {
		struct kern_pool *pool = kern_pool_new(threads);
		struct train_pair p[N_EX];
		struct model *m = models[n++] = toy_model(false);
		struct trainer *tr = toy_trainer(m, pool, &o);

		make_pairs(p);
		set_reference(m, pool, &o, p, N_EX);
		train_steps(tr, p, 0, 6);
		if (n > 1)
			check_same(models[0]->params, m->params, m->n_params);
		trainer_free(tr);
		kern_pool_free(pool);
	}
}

void test_train__micro_batches_only_change_rounding(void)
{
	struct kern_pool *pool = kern_pool_new(2);
	struct train_example ex[N_EX];
	float *first = NULL;
	double loss = 0;

	make_examples(ex);
	for (int micro = 1; micro <= 4096; micro *= 16) {
		struct model *m = toy_model(false);
		struct train_opts o = toy_opts();
		struct trainer *tr;
		struct train_metrics out;
		struct err e = {0};

		o.micro_tokens = micro;
		o.dropout = 0.1; /* Masks are named by sequence, so they do not change either. */
		tr = toy_trainer(m, pool, &o);
		CHECK_RC(trainer_sft_step(tr, ex, N_EX, 0, &out, &e), RC_OK);
		if (!first) {
			first = copy_of(tr->grads, m->n_params);
			loss = out.loss;
		}
		CHECK_NEAR(out.loss, loss, 1e-12);
		for (size_t i = 0; i < m->n_params; i++)
			CHECK_NEAR((double)tr->grads[i], (double)first[i], 1e-7);
		trainer_free(tr);
		model_free(m);
	}
	kern_pool_free(pool);
}

void test_train__learns_a_toy(void)
{
	struct kern_pool *pool = kern_pool_new(2);
	struct model *m = toy_model(true);
	struct train_opts o = toy_opts();
	struct trainer *tr = toy_trainer(m, pool, &o);
	struct train_example ex[N_EX];
	struct train_pair p[N_EX];
	struct train_metrics out = {0};
	struct err e = {0};
	double first = 0;

	make_examples(ex);
	for (int s = 0; s < 120; s++) {
		CHECK_RC(trainer_sft_step(tr, ex, N_EX, s, &out, &e), RC_OK);
		first = s == 0 ? out.loss : first;
	}
	CHECK(first > 2.5 && out.loss < 0.05 && out.mean_token_accuracy == 1);
	make_pairs(p);
	set_reference(m, pool, &o, p, N_EX);
	for (int s = 0; s < 40; s++)
		CHECK_RC(trainer_dpo_step(tr, p, N_EX, NULL, 0, s, &out, &e), RC_OK);
	CHECK(out.loss < 0.2 && out.accuracy == 1 && out.margin > 1);
	trainer_free(tr);
	kern_pool_free(pool);
}

void test_train__a_loss_that_is_not_finite_is_refused_with_its_step(void)
{
	struct kern_pool *pool = kern_pool_new(1);
	struct model *m = toy_model(true);
	struct train_opts o = toy_opts();
	struct trainer *tr = toy_trainer(m, pool, &o);
	struct train_example ex[N_EX];
	struct train_metrics out;
	struct err e = {0};

	make_examples(ex);
	m->params[m->layers[1].w2 + 3] = NAN;
	float *before = copy_of(m->params, m->n_params);
	CHECK_RC(trainer_sft_step(tr, ex, N_EX, 17, &out, &e), RC_INVALID);
	CHECK(strstr(e.text, "step 17") && strstr(e.text, "1=nan/"));
	check_same(before, m->params, m->n_params);
	CHECK_EQ(tr->adam_steps, 0);
	trainer_free(tr);
	kern_pool_free(pool);
}

void test_train__bad_batches_are_refused(void)
{
	struct kern_pool *pool = kern_pool_new(1);
	struct model *m = toy_model(true);
	struct train_opts o = toy_opts();
	struct trainer *tr = toy_trainer(m, pool, &o), *none = NULL;
	struct train_example ex[N_EX];
	struct train_pair p[N_EX];
	struct train_metrics out;
	struct err e = {0};
	int32_t bad[2] = {3, VOCAB};

	make_examples(ex);
	make_pairs(p);
	ex[2].response = bad;
	ex[2].n_response = 2;
	CHECK_RC(trainer_sft_step(tr, ex, N_EX, 0, &out, &e), RC_INVALID);
	CHECK(strstr(e.text, "example 2"));
	ex[2].n_response = 0;
	CHECK_RC(trainer_sft_step(tr, ex, N_EX, 0, &out, &e), RC_INVALID);
	ex[2].response = tokens;
	ex[2].n_response = 31;
	CHECK_RC(trainer_sft_step(tr, ex, N_EX, 0, &out, &e), RC_INVALID);
	CHECK_RC(trainer_sft_step(tr, ex, 0, 0, &out, &e), RC_INVALID);
	CHECK_RC(trainer_dpo_step(tr, p, 0, NULL, 0, 0, &out, &e), RC_INVALID);
	p[1].ref_chosen = NAN;
	CHECK_RC(trainer_dpo_step(tr, p, N_EX, NULL, 0, 0, &out, &e), RC_INVALID);
	o.max_length = 65;
	CHECK_RC(trainer_new(m, kern_cpu(), pool, &o, &none, &e), RC_INVALID);
	o.max_length = 64;
	o.dpo.label_smoothing = 0.5;
	CHECK_RC(trainer_new(m, kern_cpu(), pool, &o, &none, &e), RC_INVALID);
	trainer_free(tr);
	kern_pool_free(pool);
}

struct spread {
	double entropy, logit;
	int n;
};

/* Of all targets of answer a, from the logits of every row. */
static void add_spread(struct spread *s, const struct pack *p, int a, const float *logits)
{
	for (int i = p->answer[a]; i < p->answer[a + 1]; i++, s->n++) {
		const float *x = logits + (size_t)p->row[i] * VOCAB;
		double sum = 0;

		for (int v = 0; v < VOCAB; v++)
			sum += exp((double)x[v]);
		for (int v = 0; v < VOCAB; v++) {
			double q = exp((double)x[v]) / sum;

			s->entropy -= q * log(q);
			s->logit += (double)x[v] / VOCAB;
		}
	}
}

void test_train__entropy_and_mean_logits_are_those_of_the_logits(void)
{
	struct kern_pool *pool = kern_pool_new(2);
	struct model *m = toy_model(true);
	struct train_opts o = toy_opts();
	struct trainer *tr = toy_trainer(m, pool, &o);
	struct train_pair p[N_EX];
	struct train_metrics out;
	struct spread side[2] = {{0, 0, 0}, {0, 0, 0}};
	float *logits = calloc((size_t)o.max_length * 4 * N_EX * VOCAB, sizeof *logits);
	struct err e = {0};

	make_pairs(p);
	pack_clear(&tr->pack);
	for (int i = 0; i < N_EX; i++)
		train_add_pair(&tr->pack, i, &p[i], tr->fork);
	CHECK_RC(llama_logits(tr->llama, &tr->pack, logits, &e), RC_OK);
	for (int a = 0; a < 2 * N_EX; a++)
		add_spread(&side[a % 2], &tr->pack, a, logits);
	CHECK_RC(trainer_dpo_step(tr, p, N_EX, NULL, 0, 0, &out, &e), RC_OK);
	CHECK_NEAR(out.logit_chosen, side[0].logit / side[0].n, 1e-6);
	CHECK_NEAR(out.logit_rejected, side[1].logit / side[1].n, 1e-6);
	CHECK_NEAR(out.entropy,
		   (side[0].entropy + side[1].entropy) / (side[0].n + side[1].n), 1e-5);
	free(logits);
	trainer_free(tr);
	model_free(m);
	kern_pool_free(pool);
}

void test_train__metrics_have_the_usual_names(void)
{
	json_t *o = train_metrics_json(&(struct train_metrics){.loss = 0.5, .accuracy = 1}, true);

	CHECK(json_real_value(json_object_get(o, "rewards/accuracies")) == 1);
	CHECK(json_object_get(o, "logps/rejected") && json_object_get(o, "learning_rate"));
	CHECK(json_object_get(o, "logits/chosen") && json_object_get(o, "entropy"));
	json_decref(o);
}
