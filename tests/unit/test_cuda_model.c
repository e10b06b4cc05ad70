/* What check-gpu does with whole models on a device, here by the emulator: a part of it, since a
 * step of a toy takes seconds. */
#include "tests/cuda_util.h"
#include "tests/gpu/whole.h"

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

static void check_text(const char *table, enum kern_format weights, const struct toy_kind *kind)
{
	struct gpu g = emulated(table);
	struct whole w = whole_open(&g, false);

	whole_text(&w, kind, weights);
	whole_close(&w);
	CHECK_EQ(w.bad, 0);
	gpu_close(&g);
}

/* Prompts that share blocks, decoding from recorded passes, drawing on the device, scores. */
void test_cuda_model__generation_in_f32(void)
{
	for (size_t i = 0; i < n_toy_kinds; i++)
		check_text("cuda-f32", KERN_F32, &toy_kinds[i]);
}

void test_cuda_model__generation_in_bf16_and_int8(void)
{
	check_text("cuda", KERN_BF16, &toy_kinds[0]);
	check_text("cuda", KERN_Q8, &toy_kinds[1]);
}
