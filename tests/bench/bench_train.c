/* Prints tokens per second of supervised and preference steps on models with random weights, and
 * the operations a second they amount to: 6 N + attention for each row.
 * Usage: bench_train [SHAPE [f32|bf16 [THREADS [SECONDS]]]]     SHAPE: toy, 15M, 110M
 *        bench_train memory [f32|bf16]     plan and peak of one step of 16 pairs x 256 tokens, 110M
 */
#include "kernels/kernels.h"
#include "tests/bench/limits.h"
#include "worker/model/model.h"
#include "worker/train/memory.h"
#include "worker/train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct shape {
	const char *name;
	int dim, ffn, layers, heads, vocab, batch, length;
};

static const struct shape shapes[] = {
	{"toy", 128, 352, 4, 4, 900, 16, 80},
	{"15M", 288, 768, 6, 6, 32000, 8, 256},
	{"110M", 768, 2048, 12, 12, 32000, 4, 256},
};

static const struct shape large = {"110M", 768, 2048, 12, 12, 32000, 16, 256};

struct bench {
	const struct shape *s;
	struct model *m;
	struct trainer *tr;
	int32_t *ids;
	double seconds;
	double rows; /* of a step */
};

static void check(enum rc rc, const struct err *e)
{
	if (rc == RC_OK)
		return;
	fprintf(stderr, "%s\n", e->text);
	exit(1);
}

/* Every token after the first is a target. */
static void sft_step(struct bench *b, int step)
{
	struct train_example ex[64];
	struct train_metrics out;
	struct err e = {0};

	for (int i = 0; i < b->s->batch; i++)
		ex[i] = (struct train_example){b->ids + i, b->ids + i + 1, 1, b->s->length, 1};
	check(trainer_sft_step(b->tr, ex, b->s->batch, step, &out, &e), &e);
	b->rows = out.num_tokens;
}

/* Half of each side is the prompt. */
static void dpo_step(struct bench *b, int step)
{
	struct train_pair p[64];
	struct train_metrics out;
	struct err e = {0};
	int half = b->s->length / 2;

	for (int i = 0; i < b->s->batch; i++)
		p[i] = (struct train_pair){.prompt = b->ids + i,
					   .n_prompt = half,
					   .chosen = b->ids + i + half,
					   .n_chosen = half,
					   .rejected = b->ids + i + half + 7,
					   .n_rejected = half,
					   .ref_chosen = -300,
					   .ref_rejected = -300};
	check(trainer_dpo_step(b->tr, p, b->s->batch, NULL, 0, step, &out, &e), &e);
	b->rows = out.num_tokens;
}

/* Seconds of the fastest step. */
static double fastest(struct bench *b, void (*run)(struct bench *, int))
{
	double best = 1e9, end = bench_now_s() + b->seconds;

	for (int s = 0; s < 2 || bench_now_s() < end; s++) {
		double t = bench_now_s();

		run(b, s);
		t = bench_now_s() - t;
		best = t < best ? t : best;
	}
	return best;
}

static struct train_opts opts_of(const struct shape *s, enum kern_format format)
{
	struct train_opts o = train_opts_default();

	o.format = format;
	o.max_length = s->length + 1;
	return o;
}

static void open_bench(struct bench *b, struct kern_pool *pool, enum kern_format format)
{
	const struct shape *s = b->s;
	struct model_config c = {.arch = "llama",
				 .vocab = s->vocab,
				 .dim = s->dim,
				 .n_layers = s->layers,
				 .n_heads = s->heads,
				 .n_kv_heads = s->heads,
				 .head_dim = s->dim / s->heads,
				 .ffn_dim = s->ffn,
				 .max_pos = 1024,
				 .rope_theta = 1e4f,
				 .rms_eps = 1e-5f,
				 .tied = true,
				 .bos_id = 1,
				 .pad_id = -1,
				 .eos_ids = {2},
				 .n_eos = 1};
	int n = s->batch + 2 * s->length + 8;
	struct train_opts o = opts_of(s, format);
	struct err e = {0};

	check(model_new(&c, &b->m, &e), &e);
	model_init(b->m, 1);
	b->ids = calloc((size_t)n, sizeof *b->ids);
	for (int i = 0; i < n; i++)
		b->ids[i] = (i * 7919) % c.vocab;
	check(trainer_new(b->m, kern_cpu(), pool, &o, &b->tr, &e), &e);
}

static void run_shape(const struct shape *s, enum kern_format format, struct kern_pool *pool,
		      double seconds)
{
	struct bench b = {.s = s, .seconds = seconds};
	double flops, t;

	open_bench(&b, pool, format);
	flops = 6 * ((double)b.m->n_weights + (double)s->layers * s->dim * s->length);
	printf("%s %s, %s, %d threads, %.1fM parameters, %d x %d tokens\n", s->name,
	       format == KERN_BF16 ? "bf16" : "f32", kern_cpu()->name, kern_pool_threads(pool),
	       (double)b.m->n_weights * 1e-6, s->batch, s->length);
	t = fastest(&b, sft_step);
	printf("  sft %8.0f tokens/s, %.0f GFLOP/s\n", b.rows / t, b.rows * flops / t * 1e-9);
	t = fastest(&b, dpo_step);
	printf("  dpo %8.0f tokens/s of chosen and rejected (%.0f rows/s), %.0f GFLOP/s\n",
	       2.0 * s->batch * s->length / t, b.rows / t, b.rows * flops / t * 1e-9);
	trainer_free(b.tr);
	model_free(b.m);
	free(b.ids);
}

static double peak_mib(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	double kib = 0;

	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "VmHWM:", 6) == 0)
			kib = strtod(line + 6, NULL);
	if (f)
		fclose(f);
	return kib / 1024;
}

static void run_memory(struct kern_pool *pool, enum kern_format format)
{
	struct bench b = {.s = &large};
	struct train_opts o = opts_of(&large, format);
	struct memory_plan p;
	struct err e = {0};

	open_bench(&b, pool, format);
	check(memory_plan(b.m, kern_cpu(), &o, 0, &p, &e), &e);
	dpo_step(&b, 0);
	printf("%s %s, 16 pairs x 256 tokens: plan %.0f MiB, peak %.0f MiB\n", large.name,
	       format == KERN_BF16 ? "bf16" : "f32", (double)(p.weights + p.needed) / (1 << 20),
	       peak_mib());
	trainer_free(b.tr);
	model_free(b.m);
	free(b.ids);
}

int main(int argc, char **argv)
{
	const char *shape = argc > 1 ? argv[1] : NULL, *format = argc > 2 ? argv[2] : NULL;
	struct kern_pool *pool = kern_pool_new(argc > 3 ? (int)strtol(argv[3], NULL, 10) : 0);
	double seconds = argc > 4 ? strtod(argv[4], NULL) : 2;

	if (shape && strcmp(shape, "memory") == 0)
		run_memory(pool, format && strcmp(format, "bf16") == 0 ? KERN_BF16 : KERN_F32);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		for (int f = KERN_F32; f <= KERN_BF16; f++)
			if ((!shape || strcmp(shape, shapes[i].name) == 0) &&
			    (!format || strcmp(format, f == KERN_BF16 ? "bf16" : "f32") == 0))
				run_shape(&shapes[i], (enum kern_format)f, pool, seconds);
	kern_pool_free(pool);
	return 0;
}
