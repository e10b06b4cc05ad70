#include "tests/gpu/whole.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

struct whole whole_open(const struct gpu *g, bool tell)
{
	struct whole w = {.g = g, .tell = tell};

	w.far = (struct twin){g->k, g->pool, g->k->act};
	w.near = (struct twin){kern_cpu(), kern_pool_new(2), KERN_F32};
	return w;
}

void whole_close(struct whole *w)
{
	kern_pool_free(w->near.pool);
}

static bool f32(const struct whole *w)
{
	return w->g->k->act == KERN_F32;
}

static void judge(struct whole *w, const char *what, const struct toy_kind *kind, double error,
		  double bound)
{
	bool far = !(error <= bound);

	w->bad += far;
	if (far || w->tell)
		printf("# %-8s %-34s %-38s error %.2e of %.0e%s\n", w->g->k->name, what, kind->name,
		       error, bound, far ? "  TOO FAR" : "");
}

static double relative(double a, double b)
{
	return fabs(a - b) / fabs(b);
}

void whole_training(struct whole *w, const struct twin_task *task)
{
	struct twin_trained a = twin_train(&w->far, task), b = twin_train(&w->near, task);
	struct twin_trained ref = twin_reference(task);
	/* Floats in another order: a few times 1e-7 for each of the sums behind one another, 1.3e-6
	 * at most in these models, as much as the CPU's are off. Activations in bfloat16 are off by
	 * 2e-3 each time they are stored, some ten times a layer and twice as often on the way
	 * back; what the two answers of a pair share falls out of the gradient, its error does not.
	 */
	double loss = f32(w) ? 1e-5 : 1e-2, grad = f32(w) ? 1e-5 : 3e-2;

	judge(w, "loss beside the CPU", task->kind, relative(a.loss[0], b.loss[0]), loss);
	judge(w, "gradient's norm", task->kind, relative(a.norm[0], b.norm[0]), 2 * loss);
	if (task->steps == 1) {
		judge(w, "loss beside double precision", task->kind,
		      relative(a.loss[0], ref.loss[0]), loss);
		judge(w, "gradient beside the CPU", task->kind, twin_error(a.grads, b.grads, a.n),
		      grad);
		judge(w, "gradient beside double precision", task->kind,
		      twin_error(a.grads, ref.grads, a.n), grad);
		if (w->tell)
			printf("# %-8s %-34s %-38s error %.2e\n", "cpu",
			       "gradient beside double precision", task->kind->name,
			       twin_error(b.grads, ref.grads, a.n));
	}
	judge(w, "weights after the last step", task->kind, twin_error(a.weights, b.weights, a.n),
	      loss);
	twin_trained_free(&a);
	twin_trained_free(&b);
	twin_trained_free(&ref);
}

static bool same_floats(const float *a, const float *b, size_t n)
{
	return memcmp(a, b, n * sizeof *a) == 0;
}

void whole_repeated(struct whole *w, const struct twin_task *task)
{
	struct twin_trained a = twin_train(&w->far, task), b = twin_train(&w->far, task);
	int last = task->steps - 1;
	bool same = a.loss[last] == b.loss[last] && a.norm[last] == b.norm[last] &&
		    same_floats(a.grads, b.grads, a.n) && same_floats(a.weights, b.weights, a.n) &&
		    same_floats(a.moments, b.moments, 2 * a.n);

	judge(w, "the same seed once more", task->kind, same ? 0 : INFINITY, 0);
	twin_trained_free(&a);
	twin_trained_free(&b);
}

static void compare_answers(struct whole *w, const struct toy_kind *kind, const struct twin_text *a,
			    const struct twin_text *b, const char *what, double bound)
{
	double worst = 0;

	for (int i = 0; i < TWIN_ANSWERS; i++) {
		if (memcmp(a->tokens[i], b->tokens[i], sizeof a->tokens[i]) != 0)
			worst = INFINITY;
		worst = fmax(worst, fabs(a->logp[i] - b->logp[i]));
	}
	judge(w, what, kind, worst, bound);
}

void whole_text(struct whole *w, const struct toy_kind *kind, enum kern_format weights)
{
	struct twin far = w->far, near = w->near;
	struct twin_text a, again, b;
	bool exact = f32(w) && weights == KERN_F32; /* Else the cache is bfloat16. */
	double bound = exact ? 1e-5 : weights >= KERN_Q8 ? 3e-2 : 1e-2;

	far.format = near.format = weights;
	a = twin_generate(&far, kind, weights, 0);
	again = twin_generate(&far, kind, weights, 0);
	b = twin_generate(&near, kind, weights, 0);
	judge(w, "logits", kind,
	      twin_error(a.logits, b.logits, (size_t)TWIN_GIVEN * (size_t)b.vocab), bound);
	judge(w, "scores", kind, twin_error(a.scores, b.scores, TWIN_GIVEN - 1), bound);
	compare_answers(w, kind, &a, &again, "answers once more", 0);
	if (exact) /* Else near ties fall otherwise. */
		compare_answers(w, kind, &a, &b, "answers beside the CPU", 1e-3);
	twin_text_free(&a);
	twin_text_free(&again);
	twin_text_free(&b);
}

int whole_all(const struct gpu *g, bool tell)
{
	struct whole w = whole_open(g, tell);
	char why[200];

	for (size_t i = 0; i < n_toy_kinds; i++) {
		const struct toy_kind *kind = &toy_kinds[i];

		for (int pairs = 0; pairs < 2; pairs++)
			whole_training(&w, &(struct twin_task){.kind = kind,
							       .pairs = pairs,
							       .recompute = i % 3 == 0,
							       .steps = 1});
		whole_training(&w, &(struct twin_task){
					   .kind = kind, .pairs = true, .lora = true, .steps = 1});
		whole_text(&w, kind, g->k->act);
	}
	whole_training(&w, &(struct twin_task){.kind = &toy_kinds[0], .pairs = true, .steps = 3});
	whole_repeated(&w,
		       &(struct twin_task){
			       .kind = &toy_kinds[0], .pairs = true, .dropout = 0.1, .steps = 2});
	if (!f32(&w))
		whole_text(&w, &toy_kinds[1], KERN_Q8);
	if (!g->k->has_format || g->k->has_format(g->pool, KERN_FP8, why, sizeof why))
		whole_text(&w, &toy_kinds[1], KERN_FP8);
	else
		printf("# FP8 is left out: %s\n", why);
	whole_close(&w);
	return w.bad;
}
