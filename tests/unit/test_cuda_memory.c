/* What a device is said to be needed for, and what is really taken; what does not fit is refused
 * with the numbers before anything is taken. */
#include "tests/cuda_util.h"
#include "tests/gpu/bench.h"
#include "worker/model/infer.h"
#include "worker/model/lora.h"
#include "worker/train/trainer.h"

static struct err e;

/* The output head and the adapter's factors large enough to be seen beside the least of scratch. */
static const struct bench_shape shape = {"wide", 64, 128, 1, 4, 4, 16, 8000, KERN_Q8};

/* Arrays are planned to the byte; scratch for the fullest pack, of which a toy's batch makes a
 * part. */
static void check_planned(const char *what, const struct bench_step *r)
{
	size_t arrays = r->planned - r->scratch;
	bool right = r->taken > arrays && r->taken <= r->planned;

	if (!right)
		printf("# %s: %zu bytes planned, %zu of them scratch, %zu taken\n", what,
		       r->planned, r->scratch, r->taken);
	CHECK(right);
}

void test_cuda_memory__training_takes_what_was_planned(void)
{
	struct gpu g = emulated("cuda");
	struct bench b = {&g, &bench_toy, 1e9, 1e9};
	struct bench_shape plain = shape;
	struct bench_step r;

	plain.weights = KERN_BF16;
	CHECK(bench_train(&b, &plain, BENCH_SFT, &r));
	check_planned("SFT", &r);
	CHECK(bench_train(&b, &shape, BENCH_LORA_DPO, &r));
	check_planned("LoRA-DPO", &r);
	gpu_close(&g);
}

static bool has_all(const char *text, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strstr(text, words[i]))
			return false;
	return true;
}

void test_cuda_memory__what_does_not_fit_is_refused_with_numbers(void)
{
	static const char *const words[] = {"training needs ", "gradients ",	  "moments ",
					    "scratch ",	       "activations of ", " MiB are left",
					    "max_length"};
	static const char *const generation[] = {"generation needs ", "weights as q8 ", "scratch ",
						 "a cache of ", " are available"};
	struct gpu g = emulated("cuda");
	struct model_config c = bench_config(&shape);
	struct train_opts o = train_opts_default();
	struct infer_opts io = {
		.weights = KERN_Q8, .max_batch = 2, .chunk = 16, .kv_tokens = 16000};
	struct model *m = NULL;
	struct trainer *tr = NULL;
	struct infer *f = NULL;
	size_t left;

	CHECK_RC(model_new(&c, &m, &e), RC_OK);
	o.max_length = 40;
	o.micro_tokens = 48;
	left = g.k->room(g.pool);
	/* Room is what is there less what the driver may want. */
	cuemu_memory(cuemu_live(NULL) + ((size_t)256 << 20) + ((size_t)4 << 20));
	CHECK(g.k->room(g.pool) < left);
	left = g.k->room(g.pool);
	CHECK_RC(trainer_new(m, g.k, g.pool, &o, &tr, &e), RC_NOMEM);
	CHECK(has_all(e.text, words, sizeof words / sizeof *words));
	CHECK_RC(infer_new(m, g.k, g.pool, &io, &f, &e), RC_NOMEM);
	CHECK(has_all(e.text, generation, sizeof generation / sizeof *generation));
	CHECK(!tr && !f && g.k->room(g.pool) == left);
	CHECK(!g.k->fault(g.pool));
	model_free(m);
	gpu_close(&g);
}
