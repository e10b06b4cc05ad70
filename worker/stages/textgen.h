/* Text in, sampled text out: what every generating stage shares. Owns model, tokenizer, chat
 * template and inference engine of one checkpoint directory.
 *
 * Invariant: a result depends on its own request alone (prompt, sampling, stream name), never on
 * what else is in the batch, on chunk size or on thread count.
 */
#pragma once

#include "base/err.h"
#include "base/rng.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stage_ctx;
struct textgen;

struct textgen_sampling {
	float temperature, top_p; /* temperature 0: greedy */
	int top_k;                /* 0: off */
	int max_new;
	int stop_repeats;         /* as in struct infer_req; 0: off */
};

struct textgen_req {
	const char *prompt;   /* instruction, put into the chat template; or the bare text when raw */
	bool raw;
	const char *before[2]; /* an earlier turn, instruction and answer; NULL: this is the first */
	struct textgen_sampling sampling;
	enum rng_stage stage;
	uint32_t iter;
	uint64_t item;        /* stage_item(id) */
	uint32_t sample;      /* name of the first sample; the n-th is sample + n */
	int n;                /* samples of this prompt, they share its KV cache */
	const char *stop_text; /* cut before this text and finish "stop", or NULL (raw prompts) */
};

struct textgen_result {
	char *text;      /* valid UTF-8; without the end token */
	int32_t *tokens; /* as sampled, with the end token when finish is stop */
	int n_tokens;
	bool stopped;    /* finish "stop", else "length" */
	bool too_long;   /* the prompt left no room for an answer: no tokens */
	double logp;     /* sum over tokens, under temperature 1 */
};

enum rc textgen_open(struct stage_ctx *ctx, const char *model_dir, const char *template_name,
		     struct textgen **out, struct err *e);
void textgen_close(struct textgen *g);
/* Copies what it needs. Returns the request's number since the last clear, through *index. */
enum rc textgen_add(struct textgen *g, const struct textgen_req *q, int *index, struct err *e);
/* Runs everything added since the last clear. RC_CANCELLED when the job must stop before that is
 * done; then nothing of it counts. */
enum rc textgen_run(struct textgen *g, struct err *e);
/* Borrowed until textgen_clear(). */
const struct textgen_result *textgen_result(const struct textgen *g, int index, int sample);
/* Rendered prompt of a request, with its one BOS. Borrowed. */
const int32_t *textgen_prompt(const struct textgen *g, int index, int *n);
void textgen_clear(struct textgen *g);
int textgen_context(const struct textgen *g); /* longest prompt + answer, in tokens */
/* Adds to the meta of an output how its texts were made: templates {name: sha256}, beside those that
 * are there, and precision {"weights": "f32|bf16|q8|fp8"}. */
void textgen_meta(const struct textgen *g, json_t *meta);
/* Final figures of the job, over what this attempt generated:
 *   gen.prompt_tokens    of all requests, once for each however many its samples
 *   gen.reused_tokens    found in the cache of earlier requests
 *   gen.sampled_tokens, gen.seconds
 *   speed.tokens_per_s, speed.prompt_tokens_per_s   sampled, and of prompts, by those seconds
 *   speed.reused_share   of the prompt tokens of all samples, those that were not computed anew */
void textgen_report(const struct textgen *g);
