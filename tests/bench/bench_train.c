/* Prints tokens per second of supervised and preference steps on a small model with random weights
 * and the share of time a perfect machine would need.
 * Usage: bench_train [threads [dim layers vocab batch length]]
 */
#include "kernels/kernels.h"
#include "worker/model/model.h"
#include "worker/train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define STEPS 20

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int arg(int argc, char **argv, int i, int otherwise)
{
	return argc > i ? (int)strtol(argv[i], NULL, 10) : otherwise;
}

static void check(enum rc rc, const struct err *e)
{
	if (rc == RC_OK)
		return;
	fprintf(stderr, "%s\n", e->text);
	exit(1);
}

struct bench {
	struct kern_pool *pool;
	struct model *m;
	struct trainer *tr;
	int32_t *ids;
	int batch, length;
};

static double run_sft(struct bench *b)
{
	struct train_example *ex = calloc((size_t)b->batch, sizeof *ex);
	struct train_metrics out;
	struct err e = {0};
	double best = 0, t;

	for (int i = 0; i < b->batch; i++)
		ex[i] = (struct train_example){b->ids + i, b->ids + i + b->length / 2,
					       b->length / 2, b->length - b->length / 2, 1};
	for (int s = 0; s < STEPS; s++) {
		t = now_s();
		check(trainer_sft_step(b->tr, ex, b->batch, s, &out, &e), &e);
		t = out.num_tokens / (now_s() - t);
		best = t > best ? t : best;
	}
	free(ex);
	return best;
}

static double run_dpo(struct bench *b)
{
	struct train_pair *p = calloc((size_t)b->batch, sizeof *p);
	struct train_metrics out;
	struct err e = {0};
	double best = 0, t;
	int half = b->length / 2;

	for (int i = 0; i < b->batch; i++)
		p[i] = (struct train_pair){.prompt = b->ids + i,
					   .n_prompt = half,
					   .chosen = b->ids + i + half,
					   .n_chosen = half,
					   .rejected = b->ids + i + half + 7,
					   .n_rejected = half,
					   .ref_chosen = -300,
					   .ref_rejected = -300};
	for (int s = 0; s < STEPS; s++) {
		t = now_s();
		check(trainer_dpo_step(b->tr, p, b->batch, NULL, 0, s, &out, &e), &e);
		t = out.num_tokens / (now_s() - t);
		best = t > best ? t : best;
	}
	free(p);
	return best;
}

int main(int argc, char **argv)
{
	int dim = arg(argc, argv, 2, 128), layers = arg(argc, argv, 3, 4);
	struct model_config c = {.arch = "llama",
				 .vocab = arg(argc, argv, 4, 900),
				 .dim = dim,
				 .n_layers = layers,
				 .n_heads = dim / 32,
				 .n_kv_heads = dim / 64,
				 .head_dim = 32,
				 .ffn_dim = (dim * 8 / 3 + 31) / 32 * 32,
				 .max_pos = 1024,
				 .rope_theta = 1e4f,
				 .rms_eps = 1e-5f,
				 .tied = true,
				 .bos_id = 1,
				 .pad_id = -1,
				 .eos_ids = {2},
				 .n_eos = 1};
	struct train_opts o = train_opts_default();
	struct bench b = {.batch = arg(argc, argv, 5, 16), .length = arg(argc, argv, 6, 80)};
	struct err e = {0};
	double sft, dpo;

	b.pool = kern_pool_new(arg(argc, argv, 1, 0));
	check(model_new(&c, &b.m, &e), &e);
	model_init(b.m, 1);
	b.ids = calloc((size_t)(b.batch + 2 * b.length), sizeof *b.ids);
	for (int i = 0; i < b.batch + 2 * b.length; i++)
		b.ids[i] = (i * 7919) % c.vocab;
	check(trainer_new(b.m, kern_cpu(), b.pool, &o, &b.tr, &e), &e);
	sft = run_sft(&b);
	dpo = run_dpo(&b);
	printf("%s, %d threads, %.2fM parameters, batch %d x %d tokens\n", kern_cpu()->name,
	       kern_pool_threads(b.pool), (double)b.m->n_weights * 1e-6, b.batch, b.length);
	printf("SFT %.0f tokens/s (%.1f GFLOP/s of 6 N), DPO %.0f tokens/s of chosen and "
	       "rejected\n",
	       sft, sft * 6 * (double)b.m->n_weights * 1e-9, dpo);
	trainer_free(b.tr);
	model_free(b.m);
	kern_pool_free(b.pool);
	free(b.ids);
	return 0;
}
