/* What check-gpu does with whole models on a device, here by the emulator: a part of it, since a
 * step of a toy takes seconds. */
#include "tests/cuda_util.h"
#include "base/rng.h"
#include "tests/gpu/whole.h"
#include "tests/cuemu/cuemu.h"
#include "worker/model/infer.h"

static void check_trained(const char *table, const struct twin_task *task)
{
	struct gpu g = emulated(table);
	struct whole w = whole_open(&g, false);

	whole_training(&w, task);
	whole_close(&w);
	CHECK_EQ(w.bad, 0);
	gpu_close(&g);
}

void test_cuda_model__training_in_f32(void)
{
	for (size_t i = 0; i < n_toy_kinds; i += TEST_STRIDE(3))
		check_trained("cuda-f32", &(struct twin_task){.kind = &toy_kinds[i],
							      .pairs = i % 2,
							      .recompute = i % 3 == 0,
							      .steps = 1});
}

void test_cuda_model__training_in_bf16(void)
{
	for (size_t i = 0; i < n_toy_kinds; i += TEST_STRIDE(3))
		check_trained("cuda", &(struct twin_task){.kind = &toy_kinds[i],
							  .pairs = i % 2 == 0,
							  .steps = 1});
}

void test_cuda_model__adapters(void)
{
	check_trained("cuda-f32",
		      &(struct twin_task){
			      .kind = &toy_kinds[0], .pairs = true, .lora = true, .steps = 1});
	check_trained("cuda", &(struct twin_task){.kind = &toy_kinds[0], .lora = true, .steps = 1});
}

/* The same task twice on the device: every bit. */
void test_cuda_model__the_same_seed_gives_the_same_bits(void)
{
	struct gpu g = emulated("cuda");
	struct whole w = whole_open(&g, false);

	whole_repeated(&w,
		       &(struct twin_task){
			       .kind = &toy_kinds[0], .pairs = true, .dropout = 0.1, .steps = 2});
	whole_close(&w);
	CHECK_EQ(w.bad, 0);
	gpu_close(&g);
}

struct text {
	const char *table;
	enum kern_format weights;
	int kind;
};

static void check_text(struct text t)
{
	struct gpu g = emulated(t.table);
	struct whole w = whole_open(&g, false);

	whole_text(&w, &toy_kinds[t.kind], t.weights);
	whole_close(&w);
	CHECK_EQ(w.bad, 0);
	gpu_close(&g);
}

/* Prompts that share blocks, decoding from recorded passes, drawing on the device, scores. */
void test_cuda_model__generation_in_f32(void)
{
	for (int i = 0; i < (int)n_toy_kinds; i += TEST_STRIDE(3))
		check_text((struct text){"cuda-f32", KERN_F32, i});
}

void test_cuda_model__generation_in_bf16_and_int8(void)
{
	check_text((struct text){"cuda", KERN_BF16, 0});
	check_text((struct text){"cuda", KERN_Q8, 1});
}

/* Beside floats that are what weights in E4M3 stand for. */
void test_cuda_model__generation_in_fp8(void)
{
	static const struct text texts[] = {
		{"cuda", KERN_FP8, 1}, {"cuda-steady", KERN_FP8, 0}, {"cuda-f32", KERN_FP8, 2}};

	for (int i = 0; i < 3; i += TEST_STRIDE(3))
		check_text(texts[i]);
}

static void refused(const struct kern *k, struct kern_pool *pool, const char *why)
{
	struct infer_opts o = {.weights = KERN_FP8, .kv_tokens = 512};
	struct model *m = toy_model(&toy_kinds[0].c, 11);
	struct infer *f = NULL;
	struct err e = {0};

	CHECK_RC(infer_new(m, k, pool, &o, &f, &e), RC_UNSUPPORTED);
	CHECK(!f && strstr(e.text, why));
	model_free(m);
}

void test_cuda_model__fp8_is_refused_where_it_cannot_be(void)
{
	struct kern_pool *threads = kern_pool_new(1);
	struct gpu g;

	cuemu_capability(8, 0);
	g = emulated("cuda");
	refused(g.k, g.pool, "weights as fp8: cuemu has compute capability 8.0 and no 8-bit floats");
	gpu_close(&g);
	cuemu_capability(8, 9);
	if (TEST_STRIDE(2) == 1)
		check_text((struct text){"cuda", KERN_FP8, 0});
	cuemu_capability(9, 0);
	refused(kern_cpu(), threads, "which has no 8-bit floats; q8 is possible");
	kern_pool_free(threads);
}

/* --- recorded passes -------------------------------------------------------------------------- */

#define ANSWERS 11
static uint64_t keys[64];
static int n_keys;
static const struct kern *behind;

static void note_begin(struct kern_pool *p, uint64_t key)
{
	int i = 0;

	while (i < n_keys && keys[i] != key)
		i++;
	CHECK(i < 64);
	keys[i] = key;
	n_keys = i == n_keys ? i + 1 : n_keys;
	behind->graph_begin(p, key);
}

/* Answers of 1 to ANSWERS tokens, so that one ends in every step. */
static void answer_all(const struct kern *k, struct kern_pool *pool, int32_t *tokens)
{
	struct infer_opts o = {
		.weights = KERN_F32, .kv_tokens = 512, .chunk = 16, .max_batch = ANSWERS};
	struct model *m = toy_model(&toy_kinds[0].c, 11);
	int32_t prompt[4] = {3, 1, 4, 1};
	struct infer *f = NULL;
	struct err e = {0};

	CHECK_RC(infer_new(m, k, pool, &o, &f, &e), RC_OK);
	for (int i = 0; i < ANSWERS; i++) {
		struct infer_req q = {.prompt = prompt,
				      .n_prompt = 4,
				      .sampling = {0.8f, 0.9f, 0},
				      .max_new = i + 1,
				      .n = 1,
				      .name = {.seed = 2, .stage = RNG_TEST, .item = (uint64_t)i}};

		prompt[3] = i;
		CHECK_RC(infer_add(f, &q, NULL, &e), RC_OK);
	}
	CHECK_RC(infer_run(f, NULL, NULL, &e), RC_OK);
	for (int i = 0; i < ANSWERS; i++) {
		struct infer_result r = infer_result(f, i, 0);

		CHECK_EQ(r.n_tokens, i + 1);
		memcpy(tokens + ANSWERS * i, r.tokens, (size_t)r.n_tokens * sizeof *tokens);
	}
	infer_free(f);
	model_free(m);
}

/* Ten sizes of a batch are filled up to four. */
void test_cuda_model__few_sizes_of_a_batch_are_recorded(void)
{
	static int32_t here[ANSWERS * ANSWERS], there[ANSWERS * ANSWERS];
	struct gpu g = emulated("cuda-f32");
	struct kern_pool *pool = kern_pool_new(2);
	struct kern noting = *g.k;

	behind = g.k;
	noting.graph_begin = note_begin;
	answer_all(&noting, g.pool, there);
	answer_all(kern_cpu(), pool, here);
	CHECK(memcmp(here, there, sizeof here) == 0);
	CHECK(n_keys > 1 && n_keys <= 5);
	kern_pool_free(pool);
	gpu_close(&g);
}

/* The bytes of a copy travel beside the next step, whose update waits for them. */
void test_cuda_model__a_copy_is_of_before_the_step(void)
{
	struct gpu g = emulated("cuda-f32");
	struct train_opts o = train_opts_default();
	struct toy_batch *b = calloc(1, sizeof *b);
	struct model *m = toy_model(&toy_kinds[0].c, 11);
	struct trainer_copy *copy = NULL;
	struct train_metrics got;
	struct trainer *tr = NULL;
	struct err e = {0};
	float *want;

	CHECK(b);
	toy_batch_make(b, m->cfg.vocab, 31);
	o.max_length = TOY_LENGTH;
	o.micro_tokens = 2 * TOY_LENGTH;
	o.schedule.lr = 1e-2;
	CHECK_RC(trainer_new(m, g.k, g.pool, &o, &tr, &e), RC_OK);
	CHECK_RC(trainer_sft_step(tr, b->ex, 2, 0, &got, &e), RC_OK);
	CHECK_RC(trainer_pull(tr, &e), RC_OK);
	want = malloc(m->n_params * sizeof *want);
	CHECK(want);
	memcpy(want, m->params, m->n_params * sizeof *want);
	CHECK_RC(trainer_copy_new(tr, &copy, &e), RC_OK);
	CHECK_RC(trainer_copy_take(copy, &e), RC_OK);
	CHECK_RC(trainer_sft_step(tr, b->ex, 2, 1, &got, &e), RC_OK);
	/* The emulator does only what is waited for: now the update, then what is left of the copy. */
	CHECK_RC(trainer_pull(tr, &e), RC_OK);
	CHECK(memcmp(m->params, want, m->n_params * sizeof *want) != 0);
	CHECK_RC(trainer_copy_save(copy, test_tmpdir(), NULL, &e), RC_OK);
	check_same(trainer_copy_params(copy), want, m->n_params);
	trainer_copy_free(copy);
	trainer_free(tr);
	model_free(m);
	free(want);
	free(b);
	gpu_close(&g);
}
