/* Adapters: what they compute, their gradients, their files. The gradient of a merged model,
 * checked elsewhere against double precision, gives that of the adapter: dA = s B^T dW, dB = s dW
 * A^T. */
#include "tests/kern_util.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "worker/model/llama.h"
#include "worker/model/lora.h"
#include "worker/train/scorer.h"
#include "worker/train/trainer.h"

#define TARGETS_MAX 64

static struct err e;

static struct model *toy_model(void)
{
	struct model_config c = {.arch = "llama",
				 .vocab = 41,
				 .dim = 32,
				 .n_layers = 2,
				 .n_heads = 4,
				 .n_kv_heads = 2,
				 .head_dim = 8,
				 .ffn_dim = 40,
				 .max_pos = 64,
				 .rope_theta = 100,
				 .rms_eps = 1e-5f,
				 .tied = true,
				 .qkv_bias = true,
				 .bos_id = 1,
				 .pad_id = -1,
				 .eos_ids = {2},
				 .n_eos = 1};
	struct model *m = NULL;
	uint32_t seed = 3;

	CHECK_RC(model_new(&c, &m, &e), RC_OK);
	model_init(m, 5);
	for (size_t i = 0; i < m->n_params; i++)
		m->params[i] += 0.15f * number(&seed);
	return m;
}

static struct lora *toy_lora(const struct model *m, unsigned targets, bool trained)
{
	struct lora_settings s = {.r = 4, .alpha = 6, .targets = targets};
	struct lora *l = NULL;
	uint32_t seed = 9;

	CHECK_RC(lora_new(&m->cfg, &s, 1, &l, &e), RC_OK);
	for (size_t i = 0; trained && i < l->n_params; i++)
		l->params[i] += 0.2f * number(&seed);
	return l;
}

/* Sequences [from, to) of three; the second is a pair. */
static void some_pack(struct pack *p, int from, int to)
{
	int32_t ids[24];
	uint32_t seed = 31;

	CHECK_RC(pack_new(64, 8, p, &e), RC_OK);
	for (int s = 0; s < 3; s++) {
		for (int i = 0; i < 24; i++)
			ids[i] = (int32_t)((number(&seed) + 1) * 20.4f);
		if (s < from || s >= to)
			continue;
		if (s == 1)
			pack_add_pair(p, s, ids, 5, ids + 5, 4, ids + 12, 6);
		else
			pack_add(p, s, ids, 3 + s, ids + 8, 7);
	}
}

struct run {
	float logp[TARGETS_MAX];
	float *grads; /* owned; NULL without */
};

/* Log-probabilities and, with `size`, the gradient of sum g logp in a slab of so many floats. */
static struct run run(const struct model *m, const struct lora *lora, int threads, bool recompute,
		      size_t size)
{
	struct llama_opts o = {.max_tokens = 64,
			       .max_targets = TARGETS_MAX,
			       .lora = lora,
			       .recompute = recompute,
			       .forward_only = size == 0};
	struct kern_pool *pool = kern_pool_new(threads);
	struct llama *l = NULL;
	struct run r = {.grads = NULL};
	float g[TARGETS_MAX];
	uint8_t hit[TARGETS_MAX];
	struct pack p;
	uint32_t seed = 77;

	const struct llama_dropout masks = {0, {5, 6}};

	some_pack(&p, 0, 3);
	for (int i = 0; i < TARGETS_MAX; i++)
		g[i] = number(&seed);
	CHECK_RC(llama_new(m, kern_cpu(), pool, &o, &l, &e), RC_OK);
	if (size > 0) {
		struct llama_loss loss = {.g = g, .unit = 1};

		r.grads = calloc(size, sizeof *r.grads);
		llama_train(l, &p, &masks, &loss, r.grads, false, r.logp, hit);
	} else {
		llama_forward(l, &p, &masks, r.logp, hit);
	}
	llama_free(l);
	pack_release(&p);
	kern_pool_free(pool);
	return r;
}

void test_lora__a_new_adapter_changes_no_bit(void)
{
	struct model *m = toy_model();
	struct lora *l = toy_lora(m, MODEL_ALL_PARTS, false);
	struct run bare = run(m, NULL, 1, false, 0), with = run(m, l, 2, false, 0);
	bool some = false;

	CHECK(memcmp(bare.logp, with.logp, sizeof bare.logp) == 0);
	for (size_t i = 0; i < l->n_params; i++)
		some = some || l->params[i] != 0;
	CHECK(some);
	lora_free(l);
	model_free(m);
}

void test_lora__merged_is_the_same_model(void)
{
	struct model *m = toy_model(), *merged = NULL;
	struct lora *l = toy_lora(m, MODEL_ALL_PARTS, true);
	struct kern_pool *pool = kern_pool_new(2);
	struct run with = run(m, l, 1, false, 0), bare = run(m, NULL, 1, false, 0), after;
	double moved = 0;

	CHECK_RC(model_clone(m, &merged, &e), RC_OK);
	lora_merge(l, merged, kern_cpu(), pool);
	after = run(merged, NULL, 1, false, 0);
	for (int i = 0; i < 20; i++) {
		CHECK_NEAR(with.logp[i], after.logp[i], 2e-5);
		moved = fmax(moved, fabs((double)bare.logp[i] - (double)with.logp[i]));
	}
	CHECK(moved > 0.05);
	kern_pool_free(pool);
	lora_free(l);
	model_free(m);
	model_free(merged);
}

static void check_same_file(const char *a, const char *b, const char *name)
{
	char path[2][4200];
	struct buf x = BUF_INIT, y = BUF_INIT;

	str_fmt(path[0], sizeof path[0], "%s/%s", a, name);
	str_fmt(path[1], sizeof path[1], "%s/%s", b, name);
	CHECK_RC(fs_read(path[0], 1u << 26, &x, &e), RC_OK);
	CHECK_RC(fs_read(path[1], 1u << 26, &y, &e), RC_OK);
	CHECK(x.len > 0 && x.len == y.len && memcmp(x.data, y.data, x.len) == 0);
	buf_release(&x);
	buf_release(&y);
}

/* All of it merged in memory and saved, and one tensor after the other: the same bytes. */
void test_lora__merged_while_it_is_written(void)
{
	struct model *m = toy_model(), *merged = NULL;
	struct lora *l = toy_lora(m, MODEL_Q | MODEL_O | MODEL_UP | MODEL_DOWN, true);
	struct kern_pool *pool = kern_pool_new(2);
	char from[4200], whole[4200], fed[4200];

	str_fmt(from, sizeof from, "%s/from", test_tmpdir());
	str_fmt(whole, sizeof whole, "%s/whole", test_tmpdir());
	str_fmt(fed, sizeof fed, "%s/fed", test_tmpdir());
	str_copy(m->cfg.arch, sizeof m->cfg.arch, "qwen2"); /* It has biases. */
	CHECK_RC(model_save(m, from, &e), RC_OK);
	CHECK_RC(model_load(from, &merged, &e), RC_OK);
	lora_merge(l, merged, kern_cpu(), pool);
	CHECK_RC(model_save(merged, whole, &e), RC_OK);
	CHECK_RC(lora_merge_save(l, from, fed, kern_cpu(), pool, &e), RC_OK);
	check_same_file(whole, fed, "model.safetensors");
	check_same_file(whole, fed, "config.json");
	CHECK(memcmp(m->params, merged->params, m->n_params * sizeof *m->params) != 0);
	kern_pool_free(pool);
	lora_free(l);
	model_free(m);
	model_free(merged);
}

/* Largest difference between the gradient of one adapted part and what dW says, over its size. */
static double part_error(const struct model *m, const struct lora *l, const float *dw,
			 const float *got, int layer, int part)
{
	struct model_shape s = model_part_shape(&m->cfg, 1u << part);
	size_t at = (size_t)layer * MODEL_PARTS + (size_t)part;
	const float *w = dw + model_part_at(m, layer, 1u << part);
	const float *a = l->params + l->a[at], *b = l->params + l->b[at];
	double worst = 0, largest = 0;
	int r = l->s.r;

	for (int i = 0; i < r; i++)
		for (int k = 0; k < s.in; k++) {
			double want = 0;

			for (int o = 0; o < s.out; o++)
				want += (double)b[o * r + i] * (double)w[o * s.in + k];
			want *= (double)l->scale;
			worst = fmax(worst,
				     fabs(want - (double)got[l->a[at] + (size_t)(i * s.in + k)]));
			largest = fmax(largest, fabs(want));
		}
	for (int o = 0; o < s.out; o++)
		for (int i = 0; i < r; i++) {
			double want = 0;

			for (int k = 0; k < s.in; k++)
				want += (double)a[i * s.in + k] * (double)w[o * s.in + k];
			want *= (double)l->scale;
			worst = fmax(worst,
				     fabs(want - (double)got[l->b[at] + (size_t)(o * r + i)]));
			largest = fmax(largest, fabs(want));
		}
	return worst / largest;
}

static void check_gradient(unsigned targets)
{
	struct model *m = toy_model(), *merged = NULL;
	struct lora *l = toy_lora(m, targets, true);
	struct kern_pool *pool = kern_pool_new(1);
	struct run full, adapter;

	CHECK_RC(model_clone(m, &merged, &e), RC_OK);
	lora_merge(l, merged, kern_cpu(), pool);
	full = run(merged, NULL, 1, false, m->n_params);
	adapter = run(m, l, 1, false, l->n_params);
	for (int layer = 0; layer < m->cfg.n_layers; layer++)
		for (int p = 0; p < MODEL_PARTS; p++)
			if (targets & 1u << p)
				CHECK_NEAR(part_error(m, l, full.grads, adapter.grads, layer, p), 0,
					   5e-5);
	free(full.grads);
	free(adapter.grads);
	kern_pool_free(pool);
	lora_free(l);
	model_free(m);
	model_free(merged);
}

void test_lora__gradients_follow_from_the_merged_model(void)
{
	check_gradient(MODEL_ALL_PARTS);
	for (unsigned p = MODEL_Q; p <= MODEL_DOWN; p *= 2)
		check_gradient(p);
	check_gradient(MODEL_Q | MODEL_V);
	check_gradient(MODEL_K | MODEL_V | MODEL_UP);
}

void test_lora__threads_and_recomputation_change_no_bit(void)
{
	struct model *m = toy_model();
	struct lora *l = toy_lora(m, MODEL_ALL_PARTS, true);
	struct run one = run(m, l, 1, false, l->n_params);

	for (int threads = 1; threads <= 4; threads++) {
		struct run r = run(m, l, threads, threads % 2 == 0, l->n_params);

		CHECK(memcmp(one.logp, r.logp, sizeof r.logp) == 0);
		CHECK(memcmp(one.grads, r.grads, l->n_params * sizeof *r.grads) == 0);
		free(r.grads);
	}
	free(one.grads);
	lora_free(l);
	model_free(m);
}

/* Sum g logp, g as in run(), of a run with gradients: only they draw masks. */
static double loss_of(const struct model *m, const struct lora *l)
{
	struct run r = run(m, l, 1, false, l->n_params);
	uint32_t seed = 77;
	struct pack p;
	double sum = 0;

	some_pack(&p, 0, 3);
	for (int i = 0; i < p.n_targets; i++)
		sum += (double)number(&seed) * (double)r.logp[i];
	pack_release(&p);
	free(r.grads);
	return sum;
}

/* The slope along a random direction, by differences, against the gradient; and a score is never
 * dropped out. */
void test_lora__dropout_and_its_gradient(void)
{
	struct model *m = toy_model();
	struct lora *l = toy_lora(m, MODEL_ALL_PARTS, true);
	struct run plain = run(m, l, 1, false, l->n_params), r, score;
	const float by = 2e-3f;
	float *keep = copy_of(l->params, l->n_params);

	l->s.dropout = 0.3;
	r = run(m, l, 3, true, l->n_params);
	score = run(m, l, 1, false, 0);
	CHECK(memcmp(plain.logp, score.logp, sizeof score.logp) == 0);
	CHECK(memcmp(plain.logp, r.logp, sizeof r.logp) != 0);
	for (uint32_t direction = 1; direction <= 6; direction++) {
		double along = 0, up, down;

		for (int side = 1; side >= -1; side -= 2) {
			uint32_t seed = direction;

			along = 0;
			for (size_t i = 0; i < l->n_params; i++) {
				float u = number(&seed);

				l->params[i] = keep[i] + (float)side * by * u;
				along += (double)u * (double)r.grads[i];
			}
			*(side > 0 ? &up : &down) = loss_of(m, l);
		}
		CHECK_NEAR((up - down) / (2 * (double)by), along, 4e-3 * (1 + fabs(along)));
	}
	guarded_free(keep);
	free(plain.grads);
	free(r.grads);
	lora_free(l);
	model_free(m);
}

void test_lora__a_neighbour_changes_no_bit(void)
{
	struct model *m = toy_model();
	struct lora *l = toy_lora(m, MODEL_ALL_PARTS, true);
	struct kern_pool *pool = kern_pool_new(2);
	float logp[3][TARGETS_MAX], among[TARGETS_MAX];
	uint8_t hit[TARGETS_MAX];
	struct llama *run_of = NULL;
	struct pack p;

	for (int format = KERN_F32; format <= KERN_BF16; format++) {
		struct llama_opts o = {.max_tokens = 64,
				       .max_targets = TARGETS_MAX,
				       .lora = l,
				       .format = (enum kern_format)format,
				       .forward_only = true};
		int at = 0;

		CHECK_RC(llama_new(m, kern_cpu(), pool, &o, &run_of, &e), RC_OK);
		some_pack(&p, 0, 3);
		llama_forward(run_of, &p, NULL, among, hit);
		pack_release(&p);
		for (int s = 0; s < 3; s++) {
			some_pack(&p, s, s + 1);
			llama_forward(run_of, &p, NULL, logp[s], hit);
			CHECK(p.n_targets > 0);
			CHECK(memcmp(logp[s], among + at, sizeof(float) * (size_t)p.n_targets) ==
			      0);
			at += p.n_targets;
			pack_release(&p);
		}
		llama_free(run_of);
	}
	kern_pool_free(pool);
	lora_free(l);
	model_free(m);
}

/* --- training --------------------------------------------------------------------------------- */

static void steps(struct trainer *tr, int from, int to)
{
	int32_t ids[40];
	struct train_metrics out;
	uint32_t seed = 5;

	for (int i = 0; i < 40; i++)
		ids[i] = (int32_t)((number(&seed) + 1) * 20.4f);
	for (int s = from; s < to; s++) {
		struct train_example ex[3] = {{ids + s, ids + 10, 4, 6, 1},
					      {ids + 3, ids + 17 + s, 5, 3, 1},
					      {ids + 20, ids + 30, 2, 9, 0.5f}};

		CHECK_RC(trainer_sft_step(tr, ex, 3, s, &out, &e), RC_OK);
	}
}

static struct train_opts toy_opts(struct lora *l)
{
	struct train_opts o = train_opts_default();

	o.schedule.lr = 1e-2;
	o.max_length = 32;
	o.micro_tokens = 20;
	o.dropout = 0.1;
	o.pairs = false;
	o.lora = l;
	return o;
}

/* Only the adapter moves, and from any step on the files give the same bits as no stop at all. */
void test_lora__training_resumes_to_the_same_bits(void)
{
	enum { STEPS = 5 };
	struct model *m = toy_model(), *before = NULL;
	struct kern_pool *pool = kern_pool_new(2);
	struct lora *whole = toy_lora(m, MODEL_ALL_PARTS, false);
	struct train_opts o = toy_opts(whole);
	struct trainer *tr = NULL;
	char dir[256];

	CHECK_RC(model_clone(m, &before, &e), RC_OK);
	CHECK_RC(trainer_new(m, kern_cpu(), pool, &o, &tr, &e), RC_OK);
	steps(tr, 0, STEPS);
	trainer_free(tr);
	CHECK(memcmp(m->params, before->params, m->n_params * sizeof(float)) == 0);
	for (int k = 0; k <= STEPS; k++) {
		struct lora *l = toy_lora(m, MODEL_ALL_PARTS, false), *again = NULL;

		snprintf(dir, sizeof dir, "%s/%d", test_tmpdir(), k);
		o.lora = l;
		CHECK_RC(trainer_new(m, kern_cpu(), pool, &o, &tr, &e), RC_OK);
		steps(tr, 0, k);
		CHECK_RC(trainer_save_state(tr, dir, NULL, &e), RC_OK);
		CHECK_RC(lora_save(l, dir, "toy", &e), RC_OK);
		trainer_free(tr);
		CHECK_RC(lora_load(dir, &m->cfg, &again, &e), RC_OK);
		CHECK(memcmp(l->params, again->params, l->n_params * sizeof(float)) == 0);
		o.lora = again;
		CHECK_RC(trainer_new(m, kern_cpu(), pool, &o, &tr, &e), RC_OK);
		CHECK_RC(trainer_load_state(tr, dir, NULL, &e), RC_OK);
		steps(tr, k, STEPS);
		trainer_free(tr);
		CHECK(memcmp(again->params, whole->params, l->n_params * sizeof(float)) == 0);
		lora_free(l);
		lora_free(again);
	}
	lora_free(whole);
	kern_pool_free(pool);
	model_free(m);
	model_free(before);
}

/* The reference is the model without the adapter, whose log-probabilities were taken before there
 * was one: a new adapter starts at ln 2 and rewards of exactly 0, and then moves alone. */
void test_lora__preferences_begin_at_ln_2(void)
{
	struct model *m = toy_model(), *before = NULL;
	struct kern_pool *pool = kern_pool_new(2);
	int32_t ids[40];
	uint32_t seed = 5;

	CHECK_RC(model_clone(m, &before, &e), RC_OK);
	for (int i = 0; i < 40; i++)
		ids[i] = (int32_t)((number(&seed) + 1) * 20.4f);
	for (int format = KERN_F32; format <= KERN_BF16; format++) {
		struct lora *l = toy_lora(m, MODEL_ALL_PARTS, false);
		struct train_pair pairs[2] = {
			{.prompt = ids, .chosen = ids + 9, .rejected = ids + 20, 5, 4, 6, 0, 0},
			{.prompt = ids + 3,
			 .chosen = ids + 27,
			 .rejected = ids + 11,
			 3,
			 8,
			 2,
			 0,
			 0}};
		struct train_opts o = toy_opts(l);
		struct scorer_opts so = {
			.format = (enum kern_format)format, .max_length = 32, .ld_alpha = 1};
		struct train_metrics first, second;
		struct scorer *sc = NULL;
		struct trainer *tr = NULL;
		double ref[4];

		o.format = (enum kern_format)format;
		o.pairs = true;
		o.dropout = 0;
		CHECK_RC(scorer_new(before, kern_cpu(), pool, &so, &sc, &e), RC_OK);
		CHECK_RC(scorer_pairs(sc, pairs, 2, ref, &e), RC_OK);
		scorer_free(sc);
		for (int i = 0; i < 2; i++) {
			pairs[i].ref_chosen = ref[2 * i];
			pairs[i].ref_rejected = ref[2 * i + 1];
		}
		CHECK_RC(trainer_new(m, kern_cpu(), pool, &o, &tr, &e), RC_OK);
		CHECK_RC(trainer_check_reference(tr, pairs, 2, &e), RC_OK);
		CHECK_RC(trainer_dpo_step(tr, pairs, 2, NULL, 0, 0, &first, &e), RC_OK);
		CHECK_NEAR(first.loss, 0.69314718055994531, 1e-15);
		CHECK(first.reward_chosen == 0 && first.reward_rejected == 0);
		CHECK(first.grad_norm > 0);
		CHECK_RC(trainer_check_reference(tr, pairs, 2, &e), RC_CORRUPT);
		CHECK_RC(trainer_dpo_step(tr, pairs, 2, NULL, 0, 1, &second, &e), RC_OK);
		CHECK(second.loss < first.loss && second.margin > 0);
		trainer_free(tr);
		lora_free(l);
	}
	CHECK(memcmp(m->params, before->params, m->n_params * sizeof(float)) == 0);
	kern_pool_free(pool);
	model_free(m);
	model_free(before);
}

/* --- files ------------------------------------------------------------------------------------ */

static void read_all(const char *dir, const char *name, struct buf *out)
{
	char path[300];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	CHECK_RC(fs_read(path, 1 << 20, out, &e), RC_OK);
}

void test_lora__files_are_pefts_and_stable(void)
{
	struct model *m = toy_model();
	struct lora *l = toy_lora(m, MODEL_Q | MODEL_DOWN, true), *again = NULL;

	l->s.dropout = 0.25;
	struct buf a = BUF_INIT, b = BUF_INIT;
	char one[256], two[256];

	snprintf(one, sizeof one, "%s/one", test_tmpdir());
	snprintf(two, sizeof two, "%s/two", test_tmpdir());
	CHECK_RC(lora_save(l, one, "toy/base", &e), RC_OK);
	CHECK_RC(lora_load(one, &m->cfg, &again, &e), RC_OK);
	CHECK_EQ(again->s.targets, MODEL_Q | MODEL_DOWN);
	CHECK_EQ(again->s.r, 4);
	CHECK_NEAR(again->scale, 1.5, 0);
	CHECK_NEAR(again->s.dropout, 0.25, 0);
	CHECK_RC(lora_save(again, two, "toy/base", &e), RC_OK);
	read_all(one, "adapter_model.safetensors", &a);
	read_all(two, "adapter_model.safetensors", &b);
	CHECK(a.len == b.len && memcmp(a.data, b.data, a.len) == 0);
	CHECK(memmem(a.data, a.len,
		     "\"base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight\"",
		     64) != NULL);
	buf_release(&a);
	buf_release(&b);
	read_all(one, "adapter_config.json", &a);
	read_all(two, "adapter_config.json", &b);
	CHECK_STR(a.data, b.data);
	CHECK(strstr(a.data, "\"peft_type\": \"LORA\"") && strstr(a.data, "\"down_proj\""));
	CHECK(strstr(a.data, "\"lora_dropout\": 0.25"));
	buf_release(&a);
	buf_release(&b);
	lora_free(l);
	lora_free(again);
	model_free(m);
}

/* Writes the configuration with one member replaced and expects a refusal that names it. */
static void refused(const struct model *m, const char *dir, const char *key, json_t *value,
		    const char *word)
{
	char path[300];
	json_t *o = NULL;
	struct lora *l = NULL;
	char *text;

	snprintf(path, sizeof path, "%s/adapter_config.json", dir);
	CHECK_RC(jx_load(path, 1 << 20, &o, &e), RC_OK);
	json_t *old = json_deep_copy(o);
	json_object_set_new(o, key, value);
	text = json_dumps(o, 0);
	CHECK_RC(fs_write_durable(path, text, strlen(text), &e), RC_OK);
	CHECK(lora_load(dir, &m->cfg, &l, &e) != RC_OK);
	puts(e.text);
	CHECK(strstr(e.text, word) != NULL);
	free(text);
	text = json_dumps(old, 0);
	CHECK_RC(fs_write_durable(path, text, strlen(text), &e), RC_OK);
	free(text);
	json_decref(o);
	json_decref(old);
}

void test_lora__what_would_be_computed_wrongly_is_refused(void)
{
	struct model *m = toy_model();
	struct lora *l = toy_lora(m, MODEL_Q | MODEL_V, true);
	char dir[256];
	unsigned targets;

	snprintf(dir, sizeof dir, "%s/adapter", test_tmpdir());
	CHECK_RC(lora_save(l, dir, "toy", &e), RC_OK);
	refused(m, dir, "use_dora", json_true(), "use_dora");
	refused(m, dir, "bias", json_string("all"), "bias");
	refused(m, dir, "peft_type", json_string("IA3"), "IA3");
	refused(m, dir, "rank_pattern", json_pack("{s:i}", "q_proj", 8), "rank_pattern");
	refused(m, dir, "init_lora_weights", json_string("pissa_niter_16"), "pissa_niter_16");
	refused(m, dir, "layer_replication", json_pack("[[i,i]]", 0, 2), "layer_replication");
	refused(m, dir, "alora_invocation_tokens", json_pack("[i]", 7), "alora_invocation_tokens");
	refused(m, dir, "r", json_integer(5), "lora_A");
	refused(m, dir, "r", json_integer(0), "r");
	refused(m, dir, "target_modules", json_pack("[s]", "q_proj"), "v_proj");
	refused(m, dir, "target_modules", json_pack("[s, s, s]", "q_proj", "v_proj", "o_proj"),
		"o_proj");
	refused(m, dir, "target_modules", json_pack("[s]", "embed_tokens"), "embed_tokens");
	CHECK_RC(lora_targets_parse("q,v_proj,gate", &targets, &e), RC_OK);
	CHECK_EQ(targets, MODEL_Q | MODEL_V | MODEL_GATE);
	CHECK_RC(lora_targets_parse("all-linear", &targets, &e), RC_OK);
	CHECK_EQ(targets, MODEL_ALL_PARTS);
	CHECK_RC(lora_targets_parse("q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
				    &targets, &e),
		 RC_OK);
	CHECK_EQ(targets, MODEL_ALL_PARTS);
	CHECK_RC(lora_targets_parse("q,,v", &targets, &e), RC_INVALID);
	CHECK_RC(lora_targets_parse("", &targets, &e), RC_INVALID);
	lora_free(l);
	model_free(m);
}
