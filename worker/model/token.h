/* Text to token ids and back, exactly as the model's own files say.
 *
 * Reads Hugging Face tokenizer.json (BPE: byte-level with the GPT-2, Llama 3 or Qwen 2 splitting
 * rule, or with byte fallback as converted from Llama 2 and Mistral) and SentencePiece
 * tokenizer.model (BPE). A normal form C asked for (Qwen 2) is made; then text comes back as that.
 * Everything else is refused with the reason: a tokenizer that is nearly right is worse than none.
 * Knows no model and no template.
 *
 * Invariants: ids are below tokenizer_vocab(). Without TOKEN_SPECIALS no text, whatever it says,
 * becomes a special token. Encoding takes O(n log n). A tokenizer is read-only after loading and
 * may be used by many threads.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKEN_VOCAB_MAX (1 << 20)    /* ids; the largest published vocabularies have 262,144 */
#define TOKEN_TEXT_MAX  (256u << 20) /* bytes of one text */

struct tokenizer;

struct tokens {
	int32_t *ids; /* owned */
	size_t n, cap;
};

#define TOKENS_INIT {0}

void tokens_release(struct tokens *t);
void tokens_push(struct tokens *t, int32_t id);
void tokens_append(struct tokens *t, const int32_t *ids, size_t n);

/* DIR/tokenizer.json, else DIR/tokenizer.model. BOS and EOS come from the file's own rule, then
 * from tokenizer_config.json, then from config.json. */
enum rc tokenizer_load(const char *dir, struct tokenizer **out, struct err *e);
/* One file by its path: *.json or *.model. */
enum rc tokenizer_open(const char *path, struct tokenizer **out, struct err *e);
/* From memory; `what` names the source in errors. */
enum rc tokenizer_parse_json(const char *data, size_t len, const char *what, struct tokenizer **out,
			     struct err *e);
enum rc tokenizer_parse_spm(const uint8_t *data, size_t len, const char *what,
			    struct tokenizer **out, struct err *e);
void tokenizer_free(struct tokenizer *t);

int tokenizer_vocab(const struct tokenizer *t); /* largest id + 1 */
int tokenizer_bos(const struct tokenizer *t);   /* put before every prompt; -1: none is */
int tokenizer_eos(const struct tokenizer *t);   /* -1: none */
int tokenizer_unk(const struct tokenizer *t);   /* -1: none */
/* "bpe, byte-level, llama-3": for people. */
const char *tokenizer_kind(const struct tokenizer *t);
/* Id of a special token by its text, or -1. */
int tokenizer_special(const struct tokenizer *t, const char *text);
bool tokenizer_is_special(const struct tokenizer *t, int id);
/* Bytes as stored in the vocabulary (byte-level ones decoded); NULL for an unused id. Borrowed. */
const char *tokenizer_piece(const struct tokenizer *t, int id, size_t *len);

enum {
	TOKEN_SPECIALS = 1,      /* encode: special tokens written in the text become themselves */
	TOKEN_CONTINUES = 2,     /* the text goes on: no dummy prefix, no leading space removed */
	TOKEN_KEEP_SPECIALS = 4, /* decode: write special tokens out instead of skipping them */
};

/* Appends to `out`; never adds BOS or EOS. Malformed UTF-8 is encoded byte by byte. */
enum rc tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, int flags,
			 struct tokens *out, struct err *e);
/* Appends the exact bytes. Ids out of range and unused ids give nothing. */
void tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, int flags,
		      struct buf *out);
/* The same as valid UTF-8: each malformed byte becomes U+FFFD. */
void tokenizer_decode_text(const struct tokenizer *t, const int32_t *ids, size_t n, int flags,
			   struct buf *out);

/* Token by token: holds back an unfinished character until its last byte has come. */
struct token_stream {
	const struct tokenizer *t; /* borrowed */
	int flags;
	bool started;
	char held[4];
	int n_held;
};

void token_stream_begin(struct token_stream *s, const struct tokenizer *t, int flags);
void token_stream_push(struct token_stream *s, int32_t id, struct buf *out);
void token_stream_end(struct token_stream *s, struct buf *out); /* the rest as U+FFFD */
