/* What config.json of a Hugging Face model directory says about a Llama-family decoder: Llama 2
 * and 3, Mistral, Qwen2. Anything this engine would compute wrongly is refused with the reason.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define MODEL_EOS_MAX 8

enum rope_scaling { ROPE_NONE, ROPE_LINEAR, ROPE_LLAMA3 };

struct model_config {
	char arch[16]; /* "llama", "mistral", "qwen2" */
	int vocab, dim, n_layers, n_heads, n_kv_heads, head_dim, ffn_dim, max_pos;
	float rope_theta, rms_eps;
	enum rope_scaling rope_scaling;
	float rope_factor, rope_low_freq, rope_high_freq; /* llama3, linear */
	int rope_old_max_pos;				  /* llama3 */
	bool tied;					  /* output head is the embedding */
	bool qkv_bias;
	int sliding_window; /* 0: none */
	int bos_id, pad_id; /* -1: none */
	int eos_ids[MODEL_EOS_MAX], n_eos;
	/* A part of a model that n_ranks hold together (shard.h): heads, key/value heads and ffn_dim
	 * are its own then, vocab the whole. n_ranks 0: all of it. */
	int rank, n_ranks;
};

struct model_span {
	int from, n;
};
/* The words whose rows of embedding and output head it has. */
static inline struct model_span model_vocab_span(const struct model_config *c)
{
	int64_t n = c->n_ranks > 1 ? c->n_ranks : 1, v = c->vocab;
	int from = (int)(v * c->rank / n);

	return (struct model_span){from, (int)(v * (c->rank + 1) / n) - from};
}

/* Reads DIR/config.json, and the ids of DIR/generation_config.json where present. */
enum rc model_config_load(const char *dir, struct model_config *cfg, struct err *e);
/* From parsed JSON; the ids of `generation` win (it may be NULL). */
enum rc model_config_parse(const json_t *config, const json_t *generation, struct model_config *cfg,
			   struct err *e);
/* Checks ranges and divisibility of a filled configuration. */
enum rc model_config_check(const struct model_config *cfg, struct err *e);
/* config.json of such a model, for models made here; new reference. */
json_t *model_config_json(const struct model_config *cfg);
bool model_is_eos(const struct model_config *cfg, int id);
