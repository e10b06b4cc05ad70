/* What weights of eight bits cost: the loss of a real model on a text, with its weights in each format the
 * device has. The only part that reads a model, so it is asked for by name. */
#include "tests/gpu/bench.h"

#include "base/buf.h"
#include "base/fs.h"
#include "worker/model/infer.h"
#include "worker/model/token.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW 1024 /* tokens that are read together */
#define TEXT_BYTES_MAX ((size_t)64 << 20)

static struct tokens read_text(const char *dir, const char *path)
{
	struct tokens t = TOKENS_INIT;
	struct tokenizer *tok = NULL;
	struct buf text = BUF_INIT;
	struct err e = {0};

	bench_must(tokenizer_load(dir, &tok, &e), e.text);
	bench_must(fs_read(path, TEXT_BYTES_MAX, &text, &e), e.text);
	bench_must(tokenizer_encode(tok, text.data ? text.data : "", text.len, 0, &t, &e), e.text);
	buf_release(&text);
	tokenizer_free(tok);
	return t;
}

/* Mean loss of what follows the first token of each window. */
static double loss_of(struct infer *f, const struct tokens *t, size_t most)
{
	size_t all = most && t->n > most ? most : t->n, window = WINDOW;
	float *logp = malloc(WINDOW * sizeof *logp);
	double sum = 0, n = 0;
	struct err e = {0};

	if (!logp)
		exit(1);
	if (window > (size_t)infer_context(f))
		window = (size_t)infer_context(f);
	for (size_t at = 0; at + 1 < all; at += window) {
		int len = (int)(all - at < window ? all - at : window);

		if (len < 2)
			break;
		bench_must(infer_score(f, t->ids + at, len, 1, logp, &e), e.text);
		for (int i = 0; i < len - 1; i++)
			sum -= (double)logp[i];
		n += len - 1;
	}
	free(logp);
	return n > 0 ? sum / n : NAN;
}

int bench_quality(const struct gpu *g, const char *dir, const char *path, size_t most, double loss[4])
{
	static const enum kern_format formats[] = {KERN_F32, KERN_BF16, KERN_Q8, KERN_FP8};
	struct tokens t = read_text(dir, path);
	int measured = 0, first = -1;

	for (int i = 0; i < 4; i++) {
		struct infer_opts o = {.weights = formats[i], .kv_tokens = 4 * WINDOW};
		const char *name = weights_format_name(formats[i]);
		struct infer *f = NULL;
		struct err e = {0};

		loss[i] = NAN;
		if (infer_open(dir, g->k, g->pool, &o, &f, &e)) {
			printf("%-11s %-4s left out: %s\n", g->k->name, name, e.text);
			continue;
		}
		loss[i] = loss_of(f, &t, most);
		infer_free(f);
		first = first < 0 ? i : first;
		measured++;
		printf("%-11s %-4s loss per token %.4f: perplexity %+.2f %% beside %s\n", g->k->name,
		       name, loss[i], 100 * (exp(loss[i] - loss[first]) - 1),
		       weights_format_name(formats[first]));
	}
	tokens_release(&t);
	gpu_check(g);
	return measured;
}
