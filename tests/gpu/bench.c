/* Speed of the table "cuda" on the device of this machine, each figure beside what the same run
 * shows of a large copy and a large product of cuBLAS. `bench-gpu [1b] [7b] [70b]`: those shapes
 * alone. `bench-gpu quality MODEL TEXT`: what formats of weights cost that model on that text, on
 * "cuda" (whose large products bring rows to FP8 as well) and on "cuda-steady". */
#include "tests/gpu/bench.h"

#include <stdio.h>
#include <string.h>

static const struct bench_shape shapes[] = {
	{"1b", 2048, 5632, 22, 32, 4, 64, 32000, KERN_BF16},
	{"7b", 4096, 11008, 32, 32, 32, 128, 32000, KERN_BF16},
	{"7b-int8", 4096, 11008, 32, 32, 32, 128, 32000, KERN_Q8},
	{"7b-fp8", 4096, 11008, 32, 32, 32, 128, 32000, KERN_FP8},
	{"70b-int8", 8192, 28672, 80, 64, 8, 128, 32000, KERN_Q8},
	{"70b-fp8", 8192, 28672, 80, 64, 8, 128, 32000, KERN_FP8},
};

/* What is measured with which shape: every weight trained only where that fits, the price of not
 * sharing only where it does not take minutes. */
static void bench_shape(const struct bench *b, const struct bench_shape *s)
{
	bool small = strcmp(s->name, "1b") == 0, large = strncmp(s->name, "70b", 3) == 0;
	struct bench_text text;
	struct bench_step step;
	char why[200];

	if (!b->g->k->has_format(b->g->pool, s->weights, why, sizeof why)) {
		printf("%-9s left out: %s\n", s->name, why);
		return;
	}
	bench_passes(b, s);
	if (small) {
		bench_train(b, s, BENCH_SFT, &step);
		bench_train(b, s, BENCH_DPO, &step);
	}
	/* What is trained beside a frozen base has int8, not FP8. */
	if (bench_generate(b, s, !large, &text) && s->weights != KERN_FP8 &&
	    bench_train(b, s, BENCH_LORA_DPO, &step))
		printf("%-9s one iteration of 3,964 pairs at these rates: %.1f hours (reference "
		       "recorded: %.1f)\n",
		       s->name, bench_hours(b->z, &text, &step),
		       bench_hours(b->z, &text, &(struct bench_step){.seconds = step.seconds}));
	fflush(stdout);
}

/* What it costs that a row never depends on the others: the same passes on the other table. */
static void bench_steady(const struct bench *fast, const struct bench_shape *s)
{
	struct bench b = *fast;
	struct gpu g;

	if (!gpu_open(&g, "cuda-steady"))
		return;
	printf("cuda-steady:\n");
	b.g = &g;
	bench_passes(&b, s);
	gpu_close(&g);
}

static int quality(const char *dir, const char *path)
{
	static const char *const names[] = {"cuda", "cuda-steady"};
	struct gpu g;
	double loss[4];

	for (int i = 0; i < 2; i++) {
		if (!gpu_open(&g, names[i]))
			return GPU_NONE;
		printf("%s%s", i ? "" : g.name, i ? "" : "\n");
		bench_quality(&g, dir, path, 0, loss);
		gpu_close(&g);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct gpu g;
	struct bench b;

	if (argc == 4 && strcmp(argv[1], "quality") == 0)
		return quality(argv[2], argv[3]);
	if (!gpu_open(&g, "cuda"))
		return GPU_NONE;
	printf("%s\n", g.name);
	b = bench_begin(&g, &bench_full);
	bench_attention(&b, 32, 32, 128, 2048);
	bench_attention(&b, 64, 8, 128, 2048);
	bench_attention(&b, 64, 8, 128, 512);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		bool wanted = argc < 2;

		for (int a = 1; a < argc; a++)
			wanted = wanted || !strncmp(shapes[i].name, argv[a], strlen(argv[a]));
		if (!wanted)
			continue;
		bench_shape(&b, &shapes[i]);
		if (!strncmp(shapes[i].name, "7b", 2))
			bench_steady(&b, &shapes[i]);
	}
	gpu_close(&g);
	return 0;
}
