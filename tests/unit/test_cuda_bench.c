/* What bench-gpu runs on a device, at toy sizes through the emulator: that every part of it works.
 */
#include "base/fs.h"
#include "base/str.h"
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

/* A real model, small enough for the emulator; formats that its widths or the table do not take are left
 * out. */
void test_cuda_bench__what_formats_cost(void)
{
	struct gpu g = emulated("cuda-steady");
	char dir[512], text[4200];
	struct err e = {0};
	double loss[4];

	str_copy(dir, sizeof dir, test_data("models/stories260K/config.json"));
	*strrchr(dir, '/') = 0;
	str_fmt(text, sizeof text, "%s/text", test_tmpdir());
	CHECK_RC(fs_write_durable(text, "Once upon a time, there was a little girl", 41, &e), RC_OK);
	CHECK_EQ(bench_quality(&g, dir, text, 12, loss), 2);
	CHECK(isnan(loss[0]) && isnan(loss[2]));
	CHECK(positive(loss[1]) && loss[1] < 4 && fabs(loss[3] - loss[1]) < 0.3);
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
