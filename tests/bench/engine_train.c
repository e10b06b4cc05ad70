/* Supervised and preference steps: tokens per second, padding never counted. */
#include "tests/bench/engine.h"
#include "tests/bench/limits.h"

#include "base/mem.h"
#include "worker/train/memory.h"
#include "worker/train/scorer.h"
#include "worker/train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct training {
	struct kern_pool *pool;
	struct model *m, *reference; /* reference: NULL when its log-probabilities are recorded */
	struct scorer *scorer;	     /* of the reference */
	struct trainer *tr;
	struct bench_lengths *rows; /* one per sequence or pair of all batches */
	int n_rows, batch, steps, longest;
	enum kern_format format;
	int32_t *ids;
};

static void open_training(struct training *t, const struct bench_args *a, bool pairs)
{
	const char *dir = bench_str(a, "dir", NULL), *lengths = bench_str(a, "lengths", NULL);
	int length = bench_int(a, "length", 256), prompt = bench_int(a, "prompt", 1), longest, rows;
	struct train_opts o = train_opts_default();
	struct memory_plan plan;
	struct err e = {0};

	if (!dir || prompt < 1 || length <= prompt)
		bench_die("bench_engine: dir= and length= over prompt= are needed");
	t->batch = bench_int(a, "batch", 8);
	t->steps = bench_int(a, "steps", 4);
	if (lengths) {
		t->rows = bench_lengths_read(lengths, &t->n_rows);
		rows = bench_int(a, "rows", t->n_rows);
		t->n_rows = rows < t->n_rows ? rows : t->n_rows;
	} else {
		t->n_rows = t->batch;
		t->rows = mem_array((size_t)t->n_rows, sizeof *t->rows);
		for (int i = 0; i < t->n_rows; i++)
			t->rows[i] =
				(struct bench_lengths){prompt, length - prompt, length - prompt};
	}
	for (int i = 0; i < t->n_rows; i++) {
		struct bench_lengths *l = &t->rows[i];
		int n = l->prompt + (pairs && l->rejected > l->chosen ? l->rejected : l->chosen);

		t->longest = n > t->longest ? n : t->longest;
	}
	longest = t->longest;
	bench_check(model_load(dir, &t->m, &e), &e);
	if (longest > t->m->cfg.max_pos)
		bench_die("bench_engine: a sequence of %d tokens", longest);
	t->ids = mem_array(4 * (size_t)longest + 64 * (size_t)t->n_rows, sizeof *t->ids);
	for (int i = 0; i < 4 * longest + 64 * t->n_rows; i++)
		t->ids[i] = 3 + (int32_t)((uint32_t)i * 2654435761u >> 8) % (t->m->cfg.vocab - 3);
	o.max_length = longest;
	o.pairs = pairs;
	o.format = t->format = bench_format(bench_str(a, "format", "f32"));
	o.recompute = bench_int(a, "recompute", 0) != 0;
	/* One micro-batch, and room for no more than that. */
	o.micro_tokens = bench_int(a, "micro", lengths ? 0 : (pairs ? 2 : 1) * t->batch * length);
	bench_check(memory_plan(t->m, kern_cpu(), &o, 0, &plan, &e), &e);
	printf("plan_mib %.0f\n", (double)(plan.weights + plan.needed) / (1 << 20));
	bench_check(trainer_new(t->m, kern_cpu(), t->pool, &o, &t->tr, &e), &e);
}

static void close_training(struct training *t)
{
	scorer_free(t->scorer);
	trainer_free(t->tr);
	model_free(t->reference);
	model_free(t->m);
	free(t->rows);
	free(t->ids);
}

/* Runs `step` over all batches `steps` times after a warm-up and prints tokens per second. Steps of one
 * size: the best of them and the peak beside it; of real lengths: tokens over seconds of all. */
static void print_rate(struct training *t, int (*step)(struct training *, int at, int number))
{
	int n_batches = t->n_rows / t->batch, number = 0;
	double tokens = 0, seconds = 0;
	struct beside best = {0};

	if (n_batches < 1)
		bench_die("bench_engine: fewer rows than batch=");
	step(t, 0, number++);
	for (int i = 0; i < t->steps * n_batches; i++) {
		double before = n_batches > 1 ? 0 : limits_arith(t->pool, t->format, PROBE_S);
		double start = bench_now_s();
		int n = step(t, i % n_batches * t->batch, number++);
		double spent = bench_now_s() - start;

		tokens += n;
		seconds += spent;
		if (n_batches == 1)
			beside_keep(&best, n / spent, before,
				    limits_arith(t->pool, t->format, PROBE_S));
	}
	printf("tokens_per_s %.1f\n", n_batches > 1 ? tokens / seconds : best.rate);
	if (n_batches == 1)
		printf("peak %.1f\n", best.limit);
}

/* --- supervised ------------------------------------------------------------------------------- */

static int sft_step(struct training *t, int at, int number)
{
	struct train_example *ex = mem_array((size_t)t->batch, sizeof *ex);
	struct train_metrics out;
	struct err e = {0};
	int tokens = 0;

	for (int i = 0; i < t->batch; i++) {
		const struct bench_lengths *l = &t->rows[at + i];
		const int32_t *ids = t->ids + 64 * (size_t)(at + i);

		ex[i] = (struct train_example){ids, ids + l->prompt, l->prompt, l->chosen, 1};
		tokens += l->prompt + l->chosen;
	}
	bench_check(trainer_sft_step(t->tr, ex, t->batch, number, &out, &e), &e);
	free(ex);
	return tokens;
}

void bench_sft(const struct bench_args *a, struct kern_pool *pool)
{
	struct training t = {.pool = pool};

	bench_known(a, "threads dir format batch length prompt steps lengths rows recompute micro");
	open_training(&t, a, false);
	print_rate(&t, sft_step);
	close_training(&t);
}

/* --- preference pairs ------------------------------------------------------------------------- */

/* Log-probabilities of both endings of each pair under the reference model. */
static void score_pairs(struct training *t, struct train_pair *p)
{
	double *logp = mem_array(2 * (size_t)t->batch, sizeof *logp);
	struct err e = {0};

	bench_check(scorer_pairs(t->scorer, p, t->batch, logp, &e), &e);
	for (int i = 0; i < t->batch; i++) {
		p[i].ref_chosen = logp[2 * i];
		p[i].ref_rejected = logp[2 * i + 1];
	}
	free(logp);
}

static int dpo_step(struct training *t, int at, int number)
{
	struct train_pair *p = mem_array((size_t)t->batch, sizeof *p);
	struct train_metrics out;
	struct err e = {0};
	int tokens = 0;

	for (int i = 0; i < t->batch; i++) {
		const struct bench_lengths *l = &t->rows[at + i];
		const int32_t *ids = t->ids + 64 * (size_t)(at + i);

		p[i] = (struct train_pair){.prompt = ids,
					   .n_prompt = l->prompt,
					   .chosen = ids + l->prompt,
					   .n_chosen = l->chosen,
					   .rejected = ids + l->prompt + 7,
					   .n_rejected = l->rejected,
					   .ref_chosen = -10.0 * l->chosen,
					   .ref_rejected = -10.0 * l->rejected};
		tokens += 2 * l->prompt + l->chosen + l->rejected;
	}
	if (t->scorer)
		score_pairs(t, p);
	bench_check(trainer_dpo_step(t->tr, p, t->batch, NULL, 0, number, &out, &e), &e);
	free(p);
	return tokens;
}

/* Tokens count chosen and rejected each with its prompt, however often the prompt is computed. */
void bench_dpo(const struct bench_args *a, struct kern_pool *pool)
{
	struct training t = {.pool = pool};
	struct scorer_opts so = {.ld_alpha = 1};
	struct err e = {0};

	bench_known(a, "threads dir format batch length prompt steps lengths rows recompute micro "
		       "recorded");
	open_training(&t, a, true);
	if (!bench_int(a, "recorded", 0)) {
		so.format = bench_format(bench_str(a, "format", "f32"));
		so.max_length = t.longest;
		bench_check(model_clone(t.m, &t.reference, &e), &e);
		bench_check(scorer_new(t.reference, kern_cpu(), t.pool, &so, &t.scorer, &e), &e);
	}
	print_rate(&t, dpo_step);
	close_training(&t);
}
