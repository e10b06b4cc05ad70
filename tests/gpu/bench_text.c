/* Generation by the engine itself, as an iteration does it: several answers to each prompt, then
 * three judgements of each answer; once with shared beginnings and once without. */
#include "tests/gpu/bench.h"

#include "base/mem.h"
#include "base/rng.h"
#include "worker/model/infer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWERS 4
#define JUDGEMENTS 3

struct texting {
	const struct bench *b;
	const struct bench_shape *s;
	struct infer *f;
	uint64_t asked; /* names the samples */
	bool alone;
};

/* Every prompt begins in its own way; those of judges begin alike. */
static void make_prompt(const struct texting *t, int32_t *ids, int n, int from, int number)
{
	for (int i = 0; i < n; i++) {
		uint32_t x = (uint32_t)(i < from ? i : i * 31 + number * 7919 + 1);

		ids[i] = (int32_t)(x * 2654435761u % (uint32_t)t->s->vocab);
	}
}

/* `n` prompts of `length` tokens that are alike in the first `alike`. Seconds. */
static double answer(struct texting *t, int n, int length, int alike, int samples, int new_tokens)
{
	int32_t *ids = mem_array((size_t)length, sizeof *ids);
	struct infer_req q = {.prompt = ids,
			      .n_prompt = length,
			      .sampling = {0.7f, 0.9f, 0},
			      .max_new = new_tokens,
			      .n = samples,
			      .name = {.seed = 1, .stage = RNG_TEST}};
	double from = now_s();
	struct err e = {0};

	for (int i = 0; i < n; i++) {
		make_prompt(t, ids, length, alike, i);
		q.name.item = t->asked++;
		bench_must(infer_add(t->f, &q, NULL, &e), e.text);
	}
	bench_must(infer_run(t->f, NULL, NULL, &e), e.text);
	infer_clear(t->f);
	free(ids);
	return now_s() - from;
}

static struct infer_opts options(const struct bench *b, const struct bench_shape *s, bool alone)
{
	const struct bench_sizes *z = b->z;
	int longest = z->judge_template + z->prompt + z->answer + z->judged;
	/* The last blocks of every answer are its own, and rounded up. */
	int64_t each = longest + 2 * KERN_PAGE;

	return (struct infer_opts){.weights = s->weights,
				   .max_batch = 2 * z->batch,
				   .kv_tokens = each * 2 * z->batch,
				   .chunk = 512,
				   .no_share = alone};
}

static void open_engine(struct texting *t, struct bench_text *out)
{
	const struct gpu *g = t->b->g;
	struct model_config c = bench_config(t->s);
	struct infer_opts o = options(t->b, t->s, t->alone);
	struct err e = {0};
	struct weights w;

	bench_wait(t->b);
	out->taken = g->k->room(g->pool);
	w = bench_weights(t->b, t->s, WEIGHTS_GENERATE);
	bench_must(infer_take(&c, &w, &o, &t->f, &e), e.text);
	out->planned = infer_plan(&c, g->k, 1, &o).total;
}

/* Seconds of both halves of the work; the first call warms up. */
static void work(struct texting *t, double *answers, double *judgements)
{
	const struct bench_sizes *z = t->b->z;
	int text = z->judge_template + z->prompt + z->answer;

	answer(t, 1, z->prompt, 0, 1, 2);
	*answers = answer(t, z->prompts, z->prompt, 0, ANSWERS, z->answer);
	*judgements =
		answer(t, z->prompts * ANSWERS, text, z->judge_template, JUDGEMENTS, z->judged);
	gpu_check(t->b->g);
}

static void tell(const struct texting *t, const struct bench_text *r)
{
	const struct bench_sizes *z = t->b->z;

	printf("%-9s %.0f answers of %d tokens: %.0f tokens/s; three judgements of each: %.0f "
	       "tokens/s, %.3f s an answer\n",
	       t->s->name, r->answers, z->answer, z->answer / r->answer_s,
	       JUDGEMENTS * z->judged / r->judge_s, r->judge_s);
	if (r->answer_alone_s > 0)
		printf("%-9s shared beginnings: %.2f times as fast as without (answers %.2f, "
		       "judgements %.2f)\n",
		       t->s->name,
		       (r->answer_alone_s + r->judge_alone_s) / (r->answer_s + r->judge_s),
		       r->answer_alone_s / r->answer_s, r->judge_alone_s / r->judge_s);
	printf("%-9s generate at batch %d: %.0f tokens/s\n", t->s->name, z->batch, r->single);
	printf("%-9s generation memory: %.2f GiB planned, %.2f taken (%+.1f %%)\n", t->s->name,
	       (double)r->planned / (1 << 30), (double)r->taken / (1 << 30),
	       100 * ((double)r->taken / (double)r->planned - 1));
	fflush(stdout);
}

static bool enough(const struct bench *b, const struct bench_shape *s)
{
	struct model_config c = bench_config(s);
	struct infer_opts o = options(b, s, false);

	return bench_fits(b, s, (double)infer_plan(&c, b->g->k, 1, &o).total);
}

bool bench_generate(const struct bench *b, const struct bench_shape *s, bool alone,
		    struct bench_text *out)
{
	const struct bench_sizes *z = b->z;
	struct texting t = {.b = b, .s = s};

	*out = (struct bench_text){.answers = (double)z->prompts * ANSWERS};
	out->judgements = out->answers * JUDGEMENTS;
	if (!enough(b, s))
		return false;
	if (alone) {
		t.alone = true;
		open_engine(&t, out);
		work(&t, &out->answer_alone_s, &out->judge_alone_s);
		infer_free(t.f);
		t.alone = false;
	}
	open_engine(&t, out);
	work(&t, &out->answer_s, &out->judge_s);
	out->single = answer(&t, z->batch, z->prompt, 0, 1, z->judged);
	out->single = (double)z->batch * z->judged / out->single;
	out->answer_s /= out->answers;
	out->judge_s /= out->answers;
	out->answer_alone_s /= out->answers;
	out->judge_alone_s /= out->answers;
	bench_wait(b);
	out->taken -= b->g->k->room(b->g->pool);
	tell(&t, out);
	infer_free(t.f);
	return true;
}

/* The first iteration of the paper: 3,964 pairs, of which 60 % of the prompts give one; a new
 * prompt is some 120 tokens, and as many are thrown away as kept. */
double bench_hours(const struct bench_sizes *z, const struct bench_text *t,
		   const struct bench_step *s)
{
	double pairs = 3964, prompts = pairs / 0.6, answers = ANSWERS * prompts;
	double token_s = t->answer_s / z->answer;
	double seconds = 2 * prompts * z->prompt * token_s + answers * (t->answer_s + t->judge_s) +
			 pairs / z->pairs * (s->seconds + s->reference_s);

	return seconds / 3600;
}
