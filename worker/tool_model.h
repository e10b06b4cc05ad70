/* Shared by the commands of `pawl-worker model` (worker/tool_model*.c): options, what is open, and
 * lines of JSON in and out.
 */
#pragma once

#include "base/err.h"
#include "base/jsonl.h"
#include "worker/engine.h"
#include "worker/model/infer.h"
#include "worker/model/model_export.h"
#include "worker/model/template.h"
#include "worker/model/token.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct tool_args {
	const char *model, *template, *system, *prompt, *out, *dtype, *weights, *adapter;
	bool raw, special, stream;
	int64_t max_tokens, top_k, samples, threads, kv_tokens, seed, max_shard_bytes;
	double temperature, top_p;
};

#define TOOL_ARGS_DEFAULT                                                                           \
	{.max_tokens = 256, .samples = 1, .seed = 1, .temperature = 0.7, .top_p = 0.9,        \
	 .max_shard_bytes = (int64_t)EXPORT_SHARD_BYTES}

/* What a command needs open; TOOL_BARE: not even the tokenizer. */
enum { TOOL_ENGINE = 1, TOOL_BARE = 2 };

struct tool_session {
	struct tool_args args;
	struct tokenizer *tok;
	struct template *tmpl;
	struct engine compute; /* with TOOL_ENGINE */
	struct infer *infer;
	struct jsonl *lines;
	int64_t n_lines;
};

/* Next input line, NULL at the end. */
enum rc tool_next(struct tool_session *s, json_t **line, struct err *e);
void tool_print(json_t *v); /* consumes it */
json_t *tool_ids(const int32_t *ids, size_t n);
/* Appends line.tokens. */
enum rc tool_read_ids(const json_t *line, struct tokens *out, struct err *e);

/* tool_model_files.c */
enum rc tool_export(struct tool_session *s, struct err *e);
enum rc tool_merge(struct tool_session *s, struct err *e);
enum rc tool_info(struct tool_session *s, struct err *e);
/* tool_model_run.c */
enum rc tool_tokenize(struct tool_session *s, struct err *e);
enum rc tool_detokenize(struct tool_session *s, struct err *e);
enum rc tool_generate(struct tool_session *s, struct err *e);
enum rc tool_score(struct tool_session *s, struct err *e);
enum rc tool_logits(struct tool_session *s, struct err *e);
