/* The whole model on the CUDA table, its kernels run by the emulator, beside the CPU twin. */
#include "kernels/gpu.h"
#include "tests/kern_util.h"
#include "tests/twin.h"

/* Normalised errors allowed: floats in another order; activations in bfloat16. */
#define F32_ERROR 1e-5
#define BF16_ERROR 1e-2

static struct twin device(const char *name, enum kern_format format)
{
	const struct kern *k = kern_gpu_table(&pawl_gpu, name);
	struct kern_open o = {0};
	char why[256] = "";
	struct twin t = {k, k->open(&o, why, sizeof why), format};

	CHECK(t.pool);
	return t;
}

static void check_near(const char *what, const char *kind, const float *got, const float *want,
			size_t n, double bound)
{
	double error = twin_error(got, want, n);

	if (!(error <= bound))
		printf("# %s of %s: %.3g > %.3g\n", what, kind, error, bound);
	CHECK(error <= bound);
}

static void check_trained(const char *table, const struct twin_task *task)
{
	bool f32 = strcmp(table, "cuda-f32") == 0;
	struct twin far = device(table, f32 ? KERN_F32 : KERN_BF16);
	struct kern_pool *pool = kern_pool_new(2);
	struct twin near = {kern_cpu(), pool, KERN_F32};
	struct twin_trained a = twin_train(&far, task), b = twin_train(&near, task);
	double bound = f32 ? F32_ERROR : BF16_ERROR;

	for (int i = 0; i < task->steps; i++) {
		CHECK_NEAR(a.loss[i], b.loss[i], bound * fabs(b.loss[i]));
		CHECK_NEAR(a.norm[i], b.norm[i], 2 * bound * b.norm[i]);
	}
	check_near("gradients", task->kind->name, a.grads, b.grads, a.n, f32 ? 5e-5 : 3e-2);
	check_near("weights", task->kind->name, a.weights, b.weights, a.n, bound);
	twin_trained_free(&a);
	twin_trained_free(&b);
	kern_pool_free(pool);
	far.k->close(far.pool);
}

void test_cuda_model__training_in_f32(void)
{
	for (size_t i = 0; i < n_toy_kinds; i++)
		check_trained("cuda-f32", &(struct twin_task){.kind = &toy_kinds[i],
							      .pairs = i % 2,
							      .recompute = i % 3 == 0,
							      .steps = 1});
}

void test_cuda_model__training_in_bf16(void)
{
	for (size_t i = 0; i < n_toy_kinds; i++)
		check_trained("cuda", &(struct twin_task){.kind = &toy_kinds[i],
							  .pairs = i % 2 == 0,
							  .steps = 1});
}

void test_cuda_model__adapters(void)
{
	check_trained("cuda-f32",
		      &(struct twin_task){.kind = &toy_kinds[0], .pairs = true, .lora = true, .steps = 1});
	check_trained("cuda", &(struct twin_task){.kind = &toy_kinds[0], .lora = true, .steps = 1});
}

/* The same task twice on the device: every bit. */
void test_cuda_model__the_same_seed_gives_the_same_bits(void)
{
	const struct twin_task task = {
		.kind = &toy_kinds[0], .pairs = true, .dropout = 0.1, .steps = 2};
	struct twin far = device("cuda", KERN_BF16);
	struct twin_trained a = twin_train(&far, &task), b = twin_train(&far, &task);

	CHECK(a.loss[1] == b.loss[1] && a.norm[1] == b.norm[1]);
	check_same(a.grads, b.grads, a.n);
	check_same(a.weights, b.weights, a.n);
	check_same(a.moments, b.moments, 2 * a.n);
	twin_trained_free(&a);
	twin_trained_free(&b);
	far.k->close(far.pool);
}

static void check_text(const char *table, enum kern_format weights, const struct toy_kind *kind,
		       double bound)
{
	bool f32 = strcmp(table, "cuda-f32") == 0;
	struct twin far = device(table, weights);
	struct kern_pool *pool = kern_pool_new(2);
	struct twin near = {kern_cpu(), pool, weights};
	struct twin_text a = twin_generate(&far, kind, weights, 0);
	struct twin_text again = twin_generate(&far, kind, weights, 0);
	struct twin_text b = twin_generate(&near, kind, weights, 0);
	size_t n = (size_t)(TWIN_GIVEN * b.vocab);

	check_near("logits", kind->name, a.logits, b.logits, n, bound);
	check_near("scores", kind->name, a.scores, b.scores, TWIN_GIVEN - 1, bound);
	check_same(a.logits, again.logits, n);
	for (int i = 0; i < TWIN_ANSWERS; i++) {
		CHECK(a.logp[i] == again.logp[i]);
		CHECK(!memcmp(a.tokens[i], again.tokens[i], sizeof a.tokens[i]));
		if (!f32)
			continue; /* Near ties fall otherwise. */
		CHECK(!memcmp(a.tokens[i], b.tokens[i], sizeof a.tokens[i]));
		CHECK_NEAR(a.logp[i], b.logp[i], 1e-3);
	}
	twin_text_free(&a);
	twin_text_free(&again);
	twin_text_free(&b);
	kern_pool_free(pool);
	far.k->close(far.pool);
}

/* Prompts that share blocks, decoding from recorded passes, drawing on the device, scores. */
void test_cuda_model__generation_in_f32(void)
{
	for (size_t i = 0; i < n_toy_kinds; i++)
		check_text("cuda-f32", KERN_F32, &toy_kinds[i], F32_ERROR);
}

void test_cuda_model__generation_in_bf16_and_int8(void)
{
	check_text("cuda", KERN_BF16, &toy_kinds[0], BF16_ERROR);
	check_text("cuda", KERN_Q8, &toy_kinds[1], 3e-2);
}
