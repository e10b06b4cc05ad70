/* What the parts of bench-gpu share: shapes, how much work is given, the machine's own limits.
 *
 * Everything runs on any table of a device, at any sizes: the tests run all of it at toy sizes
 * through the emulator. Weights are random; a shape has as many layers of its own as the model it
 * is named after. Nothing but bench_quality.c reads a file of weights.
 */
#pragma once

#include "tests/gpu/gpu.h"
#include "worker/model/config.h"
#include "worker/model/weights.h"

struct bench_shape {
	const char *name;
	int dim, ffn, layers, heads, kv_heads, head, vocab;
	enum kern_format weights; /* of generation, and of the base under an adapter */
};

struct bench_sizes {
	size_t copy_bytes;
	int product;		    /* rows and columns of the large product */
	int best_of;		    /* short measurements */
	int keys, most_seqs;	    /* decoding: context, largest batch */
	int prefill;		    /* rows of the smaller one; the larger has twice as many */
	int attention, longest;	    /* tokens, of the longest sequence */
	int steps;		    /* of training that are counted, after one that is not */
	int pairs, micro;	    /* in a step; rows of a micro-batch */
	int prompt, answer, judged; /* tokens: of a prompt, of an answer, of a judgement */
	int judge_template;	    /* tokens before what is judged */
	int prompts, batch;	    /* of generation; answers at once */
};
extern const struct bench_sizes bench_full, bench_toy;

struct bench {
	const struct gpu *g;
	const struct bench_sizes *z;
	double copy, product; /* bytes/s read and written, flop/s: what the machine itself shows */
};

/* --- bench_tools.c --- */

struct bench bench_begin(const struct gpu *g, const struct bench_sizes *z); /* prints the limits */
/* Seconds of the best of z->best_of calls after a first one, with everything asked for done. */
double bench_timed(const struct bench *b, void (*fn)(void *), void *ctx);
void bench_wait(const struct bench *b);
struct model_config bench_config(const struct bench_shape *s);
/* Parameters that a token is multiplied with, the output head among them. */
double bench_multiplied(const struct bench_shape *s);
/* The same few rows again and again. Ends the program when memory is short. */
struct weights bench_weights(const struct bench *b, const struct bench_shape *s,
			     enum weights_use use);
/* False, and said: this shape needs more than there is. */
bool bench_fits(const struct bench *b, const struct bench_shape *s, double bytes);
/* Ends the program with the reason. */
void bench_must(int rc, const char *why);

/* --- bench_pass.c, bench_attn.c: kernels alone --- */

void bench_passes(const struct bench *b, const struct bench_shape *s);
void bench_attention(const struct bench *b, int heads, int kv_heads, int head, int len);

/* --- bench_train.c --- */

enum bench_kind { BENCH_SFT, BENCH_DPO, BENCH_LORA_DPO };
/* Of one step, means over z->steps. */
struct bench_step {
	double seconds, reference_s; /* the latter: log-probabilities of the same pairs alone */
	double tokens;		     /* of prompts (once for each answer) and answers */
	double rows;		     /* that went through the model: a pair's prompt goes once */
	double share;		     /* of the large product's rate, recomputation counted */
	double loss;
	double snapshot_s, snapshot_bytes; /* parameters and moments to pinned memory */
	size_t planned, scratch, taken; /* bytes of the device; scratch is part of the plan */
};
/* False: not enough memory, and said. */
bool bench_train(const struct bench *b, const struct bench_shape *s, enum bench_kind kind,
		 struct bench_step *out);

/* --- bench_text.c --- */

struct bench_text {
	double answers, judgements; /* asked for */
	double answer_s, judge_s;   /* for each answer: making it, judging it three times */
	double answer_alone_s, judge_alone_s; /* without shared beginnings; 0: not measured */
	double single; /* tokens/s of z->batch prompts with one answer each */
	size_t planned, taken;
};
/* False as above. `alone`: measure that as well. */
bool bench_generate(const struct bench *b, const struct bench_shape *s, bool alone,
		    struct bench_text *out);

/* --- bench_quality.c --- */

/* Mean loss per token of the first `most` tokens (0: all) of a text under the model of a directory, by format
 * of weights: F32, BF16, Q8, FP8; NAN where the table has no such format, and said. How many it has. */
int bench_quality(const struct gpu *g, const char *dir, const char *path, size_t most, double loss[4]);

/* --- an iteration --- */

/* Hours of one iteration of the paper's size at these rates. */
double bench_hours(const struct bench_sizes *z, const struct bench_text *t,
		   const struct bench_step *s);
