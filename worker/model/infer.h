/* Generation: many prompts, several samples each, one paged key/value cache, one batch that is
 * refilled as answers end.
 *
 * What it shares: blocks of 16 tokens are counted; the samples of one prompt share all its blocks
 * and copy the last, unfinished one when they write to it; prompts that begin alike (three
 * judgements of one answer, one judge template) share every full block they have in common, also
 * one request after the other. Prompts are computed in chunks as matrix products, answers one row a
 * step, both in the same pass.
 *
 * Invariants: a result depends on its own request alone: not on the batch, the order, the chunks,
 * the cache or the number of threads (every kernel computes a row by itself, every draw is named).
 * The cache never grows over opts.kv_tokens: when it is full the youngest answer gives its blocks
 * back and is recomputed later, bit by bit the same. Knows no text: see token.h and template.h.
 */
#pragma once

#include "base/err.h"
#include "kernels/collective.h"
#include "kernels/kernels.h"
#include "worker/model/model.h"
#include "worker/model/sample.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct infer;
struct weights;

#define INFER_SAMPLES_MAX 4096

struct infer_opts {
	enum kern_format weights; /* keys and values are kept as F32 with F32, else as BF16 */
	int64_t kv_tokens; /* bound of the cache in tokens; 0: 262,144 or a quarter of the memory (1 to 4
			    * GiB), at least 16,384 */
	int max_batch;     /* answers at once; 0: 256 */
	int chunk;         /* prompt tokens in one pass; 0: 512 */
	bool no_share;     /* every sample computes its own prompt: to measure what sharing is worth */
	size_t memory_max; /* bytes it may take; 0: what the machine says is available */
	/* Ranks that hold the model together (shard.h): all of them add and run the same requests, and
	 * draw the same tokens. `stop` is rank 0's. Borrowed; NULL: alone. */
	struct coll *coll;
};

/* What it takes, in bytes; known before anything is loaded. */
struct infer_plan {
	size_t weights, cache, activations, sampling, scratch, total;
};

enum infer_finish { INFER_UNDONE, INFER_STOP, INFER_LENGTH };

#define INFER_REPEAT_PIECE 32
#define INFER_REPEAT_LEAST 16

struct infer_req {
	const int32_t *prompt; /* with its BOS; copied */
	int n_prompt;
	struct sampling sampling;
	int max_new; /* at least 1; cut to what the context leaves, and then finish is LENGTH */
	/* Above 0: an answer whose last INFER_REPEAT_LEAST tokens or more are one piece, of up to
	 * INFER_REPEAT_PIECE, so many times in a row goes round in circles: it ends, with LENGTH. */
	int stop_repeats;
	const int32_t *stops; /* copied; the one that ends an answer is kept in its tokens */
	int n_stops;
	struct sample_name name; /* of the first sample; the n-th is name.sample + n */
	int n;                   /* samples, at least 1 */
	/* Called for each token as it is drawn, in the order of one sample; true ends that sample with
	 * INFER_STOP. May be NULL. */
	bool (*on_token)(void *ctx, int sample, int32_t id);
	void *ctx;
};

struct infer_result {
	const int32_t *tokens; /* borrowed until infer_clear() */
	int n_tokens;
	enum infer_finish finish;
	double logp; /* sum over tokens of log p at temperature 1, the end token included */
};

struct infer_stats {
	int64_t prompt_tokens;   /* asked for, once per request */
	int64_t prefill_tokens;  /* computed */
	int64_t reused_tokens;   /* taken from the cache instead */
	int64_t sampled_tokens;
	int64_t passes, preempted;
	int blocks, blocks_peak;
	double seconds;
};

struct infer_plan infer_plan(const struct model_config *cfg, const struct kern *kern, int threads,
			     const struct infer_opts *opts);
/* From a model directory: its weights (with ranks: this one's part) go straight into the chosen
 * format. RC_NOMEM, with the plan, when it does not fit. Kernels and pool are borrowed. */
enum rc infer_open(const char *dir, const struct kern *kern, struct kern_pool *pool,
		   const struct infer_opts *opts, struct infer **out, struct err *e);
/* From a model in memory (with ranks: this one's part), which is not needed afterwards. */
enum rc infer_new(const struct model *m, const struct kern *kern, struct kern_pool *pool,
		  const struct infer_opts *opts, struct infer **out, struct err *e);
/* From weights packed for WEIGHTS_GENERATE that are in the back end's memory; their format is the
 * one. Taken over on RC_OK, else still the caller's. */
enum rc infer_take(const struct model_config *cfg, const struct weights *w,
		   const struct infer_opts *opts, struct infer **out, struct err *e);
void infer_free(struct infer *f);
const struct model_config *infer_config(const struct infer *f);
int infer_context(const struct infer *f); /* longest prompt + answer, in tokens */

/* *index counts the requests since the last clear. RC_INVALID, with the numbers, when the prompt
 * leaves no room for one token. */
enum rc infer_add(struct infer *f, const struct infer_req *q, int *index, struct err *e);
/* Runs all that was added. `stop` is polled once a pass; when it says true, RC_CANCELLED, and what
 * is undone stays undone until infer_run() is called again or the requests are cleared. */
enum rc infer_run(struct infer *f, bool (*stop)(void *ctx), void *ctx, struct err *e);
struct infer_result infer_result(const struct infer *f, int index, int sample);
void infer_clear(struct infer *f); /* the requests; the cache of prompts stays */
const struct infer_stats *infer_stats(const struct infer *f); /* since infer_new() */

/* Through the same cache and kernels: logits[i] follows ids[i]; out is [n][vocab]. */
enum rc infer_logits(struct infer *f, const int32_t *ids, int n, float *out, struct err *e);
/* logp[i] = log p(ids[from + i] | ids[0 .. from + i)) for the n - from last tokens; from >= 1. */
enum rc infer_score(struct infer *f, const int32_t *ids, int n, int from, float *logp,
		    struct err *e);
