/* What bench-gpu runs on a device, at toy sizes through the emulator: that every part of it works.
 */
#include "tests/cuda_util.h"
#include "tests/gpu/bench.h"

#include <math.h>

static const struct bench_shape shapes[] = {
	{"toy", 64, 96, 2, 4, 2, 16, 131, KERN_BF16},
	{"toy-int8", 64, 96, 2, 4, 2, 16, 131, KERN_Q8},
	{"toy-fp8", 64, 96, 2, 4, 2, 16, 144, KERN_FP8},
};

static bool positive(double x)
{
	return isfinite(x) && x > 0;
}

static void check_step(const struct bench_step *r, bool pairs)
{
	CHECK(positive(r->seconds) && positive(r->share) && positive(r->tokens));
	CHECK(positive(r->loss) && r->loss < 20);
	CHECK(positive(r->snapshot_s) && positive(r->snapshot_bytes));
	CHECK(pairs ? r->reference_s > 0 : r->reference_s == 0);
	CHECK(pairs ? r->rows < r->tokens : r->rows == r->tokens);
	/* At these sizes scratch, counted in megabytes, is nearly all; allocations are rounded up. */
	CHECK(r->taken > 0 && (double)r->taken < 1.001 * (double)r->planned);
}

void test_cuda_bench__kernels(void)
{
	struct gpu g = emulated("cuda");
	struct bench b = bench_begin(&g, &bench_toy);

	CHECK(positive(b.copy) && positive(b.product));
	bench_attention(&b, 4, 2, 16, 24);
	bench_passes(&b, &shapes[1]);
	bench_passes(&b, &shapes[2]);
	gpu_close(&g);
}

void test_cuda_bench__training(void)
{
	struct gpu g = emulated("cuda");
	struct bench b = {&g, &bench_toy, 1e9, 1e9};
	struct bench_step r;

	CHECK(bench_train(&b, &shapes[0], BENCH_SFT, &r));
	check_step(&r, false);
	CHECK(bench_train(&b, &shapes[0], BENCH_DPO, &r));
	check_step(&r, true);
	gpu_close(&g);
}

void test_cuda_bench__an_iteration(void)
{
	struct gpu g = emulated("cuda");
	struct bench b = {&g, &bench_toy, 1e9, 1e9};
	struct bench_step s;
	struct bench_text t;

	CHECK(bench_train(&b, &shapes[1], BENCH_LORA_DPO, &s));
	check_step(&s, true);
	CHECK(bench_generate(&b, &shapes[1], true, &t));
	CHECK(t.answers == 8 && t.judgements == 24);
	CHECK(positive(t.answer_s) && positive(t.judge_s) && positive(t.single));
	CHECK(positive(t.answer_alone_s) && positive(t.judge_alone_s));
	CHECK(t.taken > 0);
	CHECK(positive(bench_hours(&bench_toy, &t, &s)));
	gpu_close(&g);
}
