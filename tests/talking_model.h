/* A model that says random words with chosen probabilities, with its tokenizer, for tests of the
 * stages with a real engine.
 */
#pragma once

#include "base/buf.h"
#include "base/fs.h"
#include "base/str.h"
#include "tests/test.h"
#include "tests/tiny_tokenizer.h"
#include "worker/model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_WORD 262

struct said {
	const char *token; /* spelled as in tokenizer.json: a blank is \xc4\xa0, a line break
			      \xc4\x8a */
	float weight;
};

static inline void put_file(const char *dir, const char *name, const char *text)
{
	char path[1024], folder[1024];
	struct err e = {0};

	str_fmt(path, sizeof path, "%s/%s", dir, name);
	str_copy(folder, sizeof folder, path);
	*strrchr(folder, '/') = 0;
	CHECK_RC(fs_mkdirs(folder, &e), RC_OK);
	CHECK_RC(fs_write_durable(path, text, strlen(text), &e), RC_OK);
}

static inline void put_tokenizer(const char *dir, const struct said *words, int n)
{
	char *text = tiny_byte_level_json(), *at = strstr(text, "\"he\":256");
	struct buf b = BUF_INIT;

	buf_append(&b, text, (size_t)(at - text));
	for (int i = 0; i < n; i++)
		buf_printf(&b, "\"%s\":%d,", words[i].token, FIRST_WORD + i);
	buf_puts(&b, at);
	put_file(dir, "in/model/tokenizer.json", b.data);
	put_file(dir, "in/model/generation_config.json",
		 "{\"bos_token_id\":260,\"eos_token_id\":261}");
	buf_release(&b);
	free(text);
}

/* Below dir/in/model. All weights are zero but those of the output head, which say how often each
 * word comes, and of the end; dim is a multiple of 4. */
static inline void put_model(const char *dir, const struct said *words, int n, int dim,
			     float end_weight)
{
	struct model_config cfg = {.arch = "llama",
				   .vocab = FIRST_WORD + n,
				   .dim = dim,
				   .n_layers = 1,
				   .n_heads = 2,
				   .n_kv_heads = 2,
				   .head_dim = dim / 2,
				   .ffn_dim = dim,
				   .max_pos = 2048,
				   .rope_theta = 10000,
				   .rms_eps = 1e-5f,
				   .bos_id = 260,
				   .pad_id = -1,
				   .eos_ids = {261},
				   .n_eos = 1};
	struct err e = {0};
	struct model *m;
	char path[1024];

	put_tokenizer(dir, words, n);
	CHECK_RC(model_new(&cfg, &m, &e), RC_OK);
	for (int i = 0; i < cfg.vocab * dim; i++)
		m->params[m->embed + (size_t)i] = 1;
	for (int i = 0; i < dim; i++)
		m->params[m->norm_out + (size_t)i] = 1;
	for (int i = 0; i < cfg.vocab; i++) {
		float w = i == 261	    ? end_weight
			  : i >= FIRST_WORD ? words[i - FIRST_WORD].weight
					    : 0;
		for (int k = 0; k < dim; k++)
			m->params[m->head + (size_t)(i * dim) + (size_t)k] =
				(w > 0 ? logf(w) : -40) / dim;
	}
	str_fmt(path, sizeof path, "%s/in/model", dir);
	CHECK_RC(model_save(m, path, &e), RC_OK);
	model_free(m);
}
