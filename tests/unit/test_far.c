/* A table whose memory is not the program's: here a CPU's with that one word changed, so that all the
 * copying there and back is done. It must give the same bits. */
#include "base/fs.h"
#include "tests/kern_util.h"
#include "tests/twin.h"
#include "worker/train/trainer_inner.h"

static struct kern far_table(void)
{
	struct kern k = *kern_cpu();

	k.host = false;
	return k;
}

static void check_trained(const struct twin_task *task, enum kern_format format)
{
	struct kern there = far_table();
	struct kern_pool *pool = kern_pool_new(2);
	struct twin near = {kern_cpu(), pool, format}, far = {&there, pool, format};
	struct twin_trained a = twin_train(&near, task), b = twin_train(&far, task);

	for (int i = 0; i < task->steps; i++)
		CHECK(a.loss[i] == b.loss[i] && a.norm[i] == b.norm[i]);
	CHECK(a.n == b.n && a.norm[0] > 0);
	check_same(a.grads, b.grads, a.n);
	check_same(a.weights, b.weights, a.n);
	check_same(a.moments, b.moments, 2 * a.n);
	twin_trained_free(&a);
	twin_trained_free(&b);
	kern_pool_free(pool);
}

void test_far__training_has_the_same_bits(void)
{
	for (size_t i = 0; i < n_toy_kinds; i++)
		for (int pairs = 0; pairs < 2; pairs++)
			check_trained(&(struct twin_task){.kind = &toy_kinds[i],
							  .pairs = pairs,
							  .recompute = i % 2,
							  .dropout = i % 3 ? 0 : 0.1,
							  .steps = 2},
				      i % 2 ? KERN_F32 : KERN_BF16);
}

/* There the frozen weights are packed. */
void test_far__an_adapter_over_packed_weights(void)
{
	for (int format = KERN_F32; format <= KERN_BF16; format++)
		for (int pairs = 0; pairs < 2; pairs++)
			check_trained(&(struct twin_task){.kind = &toy_kinds[0],
							  .pairs = pairs,
							  .lora = true,
							  .steps = 2},
				      (enum kern_format)format);
}

/* The same on a CPU, and another model than the plain one. */
void test_far__an_adapter_over_int8_weights(void)
{
	struct twin_task q8 = {
		.kind = &toy_kinds[0], .lora = true, .steps = 2, .base = TRAIN_BASE_Q8};
	struct twin_task plain = {.kind = &toy_kinds[0], .lora = true, .steps = 2};
	struct kern_pool *pool = kern_pool_new(2);
	struct twin near = {kern_cpu(), pool, KERN_F32};
	struct twin_trained a, b;

	check_trained(&q8, KERN_F32);
	a = twin_train(&near, &q8);
	b = twin_train(&near, &plain);
	CHECK(a.loss[0] != b.loss[0]);
	CHECK(twin_error(a.grads, b.grads, a.n) < 0.1);
	twin_trained_free(&a);
	twin_trained_free(&b);
	kern_pool_free(pool);
}

void test_far__generation_has_the_same_bits(void)
{
	struct kern there = far_table();
	struct kern_pool *pool = kern_pool_new(2);

	for (size_t i = 0; i < n_toy_kinds; i++)
		for (int f = KERN_F32; f <= KERN_Q8; f++) {
			enum kern_format weights = (enum kern_format)f;
			struct twin near = {kern_cpu(), pool, weights}, far = {&there, pool, weights};
			struct twin_text a = twin_generate(&near, &toy_kinds[i], weights, 0);
			struct twin_text b = twin_generate(&far, &toy_kinds[i], weights, 2);

			for (int n = 0; n < TWIN_ANSWERS; n++) {
				CHECK(a.n_tokens[n] == b.n_tokens[n] && a.logp[n] == b.logp[n]);
				CHECK(!memcmp(a.tokens[n], b.tokens[n],
					      (size_t)a.n_tokens[n] * sizeof *a.tokens[n]));
			}
			check_same(a.logits, b.logits, (size_t)(TWIN_GIVEN * a.vocab));
			check_same(a.scores, b.scores, TWIN_GIVEN - 1);
			twin_text_free(&a);
			twin_text_free(&b);
		}
	kern_pool_free(pool);
}
