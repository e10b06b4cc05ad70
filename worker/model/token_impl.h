/* Inside of the tokenizers: shared by the token_*.c files and nobody else.
 *
 * Every id has a piece: its bytes in t->text and what kind it is. Byte-level vocabularies are
 * stored as the bytes they stand for. `map` finds the ids that text may become (special tokens and
 * byte pieces are not in it); `merges` finds what two neighbours become and how urgent that is.
 */
#pragma once

#include "worker/model/token.h"

enum piece_kind {
	PIECE_NONE,    /* unused id */
	PIECE_TEXT,
	PIECE_BYTE,    /* <0x41>: one byte, for what no piece covers */
	PIECE_UNK,
	PIECE_SPECIAL, /* control token: never made from text */
	PIECE_ADDED,   /* added token that is ordinary text; matched before anything else */
	PIECE_PHANTOM, /* a character that only longer pieces contain: not an id of the model */
};

struct token_piece {
	uint32_t at, len; /* bytes in t->text */
	uint8_t kind;     /* enum piece_kind */
	uint8_t byte;     /* of PIECE_BYTE */
	bool raw;         /* byte-level: not made of byte letters, so no text becomes it */
};

#define MERGE_FREE UINT32_MAX

struct token_merge {
	uint32_t left, right;
	uint32_t rank; /* lower is sooner */
	uint32_t result; /* MERGE_FREE: empty slot */
};

/* A text that is one token wherever it stands. */
struct token_word {
	uint32_t at, len; /* in t->text */
	int32_t id;
	bool special, lstrip, rstrip, single_word;
};

struct token_words {
	struct token_word *v; /* owned; sorted by bytes once token_words_end() ran */
	int n, cap;
	bool starts[256];
};

enum token_split { SPLIT_NONE, SPLIT_GPT2, SPLIT_LLAMA3, SPLIT_QWEN2, SPLIT_SPACE, SPLIT_N };
enum token_prefix { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS };

struct tokenizer {
	struct buf text;
	struct token_piece *pieces; /* owned; [n_pieces], phantoms last */
	int n_pieces, cap_pieces, n_vocab;
	uint64_t seed; /* of the hash functions, so that no file can aim at them */
	int32_t *map;  /* owned; open addressing, -1 empty */
	uint32_t map_mask;
	struct token_merge *merges; /* owned; open addressing */
	uint32_t merge_mask, n_merges;
	bool byte_level;    /* else spaces are written as U+2581 when `escape` */
	bool escape;
	bool nfc;           /* text between added tokens is brought into normal form C first */
	bool collapse;      /* runs of spaces become one, none at the ends */
	bool prefix_once;   /* no prefix before text that begins with one */
	bool strip_lead;    /* decoding drops one leading space */
	bool ignore_merges; /* a word that is a piece is that piece */
	bool fuse_unk, byte_fallback;
	bool cut_at_space;  /* no piece goes on past a word's end: words may be merged one by one */
	bool bos_known;     /* the file itself says whether there is a BOS */
	bool eos_known;     /* and not guessed by its name */
	enum token_prefix prefix;
	enum token_split split;
	int32_t byte_ids[256]; /* first symbols (byte-level) or fallback pieces; -1: none */
	int32_t ascii_ids[128]; /* map of the one-byte texts */
	int32_t bos, eos, unk;
	struct token_words words;  /* all added tokens, matched in raw text */
	struct token_words plain;  /* those of them that are not special */
	struct token_words frozen; /* SentencePiece user-defined: matched in escaped text */
	char kind[64];
};

/* --- token.c ---------------------------------------------------------------------------------- */

struct tokenizer *tokenizer_new(void);
/* Gives `id` its bytes; RC_INVALID when the id is out of range or taken. */
enum rc token_piece_set(struct tokenizer *t, int64_t id, const char *bytes, size_t len,
			enum piece_kind kind, const char *where, struct err *e);
/* The byte of "<0x41>", -1 for other texts. */
int token_byte_piece(const char *s, size_t len);
/* Builds t->map over the kinds whose bit is set; a later build replaces it. */
#define KIND_BIT(k) (1u << (k))
enum rc token_map_build(struct tokenizer *t, uint32_t kinds, struct err *e);
int32_t token_map_find(const struct tokenizer *t, const char *bytes, size_t len);
void token_merges_begin(struct tokenizer *t, size_t n);
/* The first of equal pairs stays. */
void token_merges_add(struct tokenizer *t, uint32_t left, uint32_t right, uint32_t rank,
		      uint32_t result);
const struct token_merge *token_merges_find(const struct tokenizer *t, uint32_t left,
					    uint32_t right);
void token_words_add(struct token_words *w, struct token_word word);
void token_words_end(const struct tokenizer *t, struct token_words *w);
/* Longest word that begins at p; NULL when none does. */
const struct token_word *token_words_match(const struct tokenizer *t, const struct token_words *w,
					   const char *p, size_t len);
/* By the names that models use, when there is no better source. */
void token_guess_eos(struct tokenizer *t);
/* Last step of loading: fills ascii_ids and checks what every kind must have. */
enum rc tokenizer_seal(struct tokenizer *t, const char *what, struct err *e);

/* --- token_split.c ---------------------------------------------------------------------------- */

/* Length of the first word of p[0..len), len > 0; at least 1. */
size_t token_split_next(enum token_split rule, const char *p, size_t len);
/* The same where a word is a run of U+2581 and what stands before the next one. */
size_t token_split_word(const char *p, size_t len);
/* The rule a regular expression stands for, SPLIT_NONE when it is not one of ours. */
enum token_split token_split_of_regex(const char *regex);
const char *token_split_name(enum token_split rule);
bool token_is_space(uint32_t cp);
bool token_is_word(uint32_t cp); /* letter, number or underscore */

/* --- token_nfc.c ------------------------------------------------------------------------------ */

/* Normal form C of p[0..len) to `out`, which is emptied first. False: nothing changes, and `out` is
 * empty. */
bool token_nfc(const char *p, size_t len, struct buf *out);

/* --- token_bpe.c ------------------------------------------------------------------------------ */

struct bpe_symbol;
struct bpe_candidate;

/* Memory of one encode call, reused from word to word. */
struct bpe_work {
	struct bpe_symbol *symbols; /* owned */
	size_t cap_symbols;
	struct bpe_candidate *heap; /* owned */
	size_t n_heap, cap_heap;
	struct buf escaped, normal;
};

void bpe_work_release(struct bpe_work *w);
/* Appends the ids of one word. */
enum rc bpe_word(const struct tokenizer *t, struct bpe_work *w, const char *p, size_t len,
		 struct tokens *out, struct err *e);
