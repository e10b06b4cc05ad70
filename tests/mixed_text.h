/* Text of every kind for the tokenizers: what people write in many scripts, and what breaks things.
 * A function of the seed and of the shared data sets where those are present.
 */
#pragma once

#include "base/buf.h"
#include "base/fs.h"
#include "base/rng.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIXED __attribute__((unused)) static

/* Words that scripts, joiners and marks make hard. No U+2581: to SentencePiece it is a space. */
static const char *const mixed_words[] = {
	"Γειά σου Κόσμε, ", "Съешь же ещё этих мягких французских булок. ", "السلام عليكم ",
	"שָׁלוֹם עולם ", "नमस्ते दुनिया, क्षत्रिय ", "สวัสดีชาวโลก ", "안녕하세요 세계 ", "한글",
	"こんにちは、世界。", "天地玄黃，宇宙洪荒。", "Grüße, ça va? ñandú ", "Tiếng Việt có dấu ",
	"👩‍👩‍👧‍👦👍🏽🏳️‍🌈 ", "e\xcc\x81\xcc\xa3 Z\xcc\x8d\xcc\xb3\xcc\x91 ", "ﬁﬂ Å Ω ㎏ ½ ",
	"\r\n", "\r\n\r\n\t", "   ",
	"                    ", "\n\n\n \n", "\xc2\xa0\xe2\x80\x8b\xe3\x80\x80", "\xef\xbb\xbf",
	"<s> </s> <unk> [INST] <<SYS>> <0x41> <|eot_id|> <|im_start|>", "1234567890 3.14159e-27 0x1F ",
	"don't WE'LL I'M they've'd", "snake_case camelCase __init__(self) -> {\"a\": [1, 2]};\n",
	"!!!???...———", "\xf0\x9d\x94\xb8\xf0\x9d\x93\xaa\xf0\x90\x8d\x88", "\xf4\x8f\xbf\xbf\xef\xbf\xbe",
};

#define MIXED_WORDS (sizeof(mixed_words) / sizeof(*mixed_words))

static const uint32_t mixed_blocks[][2] = {
	{0x00, 0x7f},	{0x80, 0x24f},	 {0x300, 0x36f},   {0x370, 0x3ff},   {0x400, 0x4ff},
	{0x590, 0x5ff}, {0x600, 0x6ff},	 {0x900, 0x97f},   {0xe00, 0xe7f},   {0x1100, 0x11ff},
	{0x2000, 0x206f}, {0x2190, 0x21ff}, {0x3040, 0x30ff}, {0x4e00, 0x9fff}, {0xac00, 0xd7a3},
	{0x1f300, 0x1f6ff}, {0x20000, 0x200ff}, {0xe000, 0xe0ff},
};

#define MIXED_BLOCKS (sizeof(mixed_blocks) / sizeof(*mixed_blocks))

/* A few characters of one block. */
MIXED void mixed_run(struct buf *b, struct rng *r)
{
	const uint32_t *block = mixed_blocks[rng_below(r, MIXED_BLOCKS)];
	char utf8[4];

	for (uint32_t n = 1 + rng_below(r, 24); n; n--) {
		uint32_t cp = block[0] + rng_below(r, block[1] - block[0] + 1);
		buf_append(b, utf8, (size_t)utf8_encode(cp, utf8));
	}
}

/* Bytes that are no UTF-8, some of them nearly. */
MIXED void mixed_bytes(struct buf *b, struct rng *r)
{
	static const char *const broken[] = {"\xff", "\xc0\xaf", "\xe2\x82", "\xed\xa0\x80",
					     "\xf5\x80\x80\x80", "\x80\xbf", "\xf0\x9f\x98"};

	for (uint32_t n = 1 + rng_below(r, 4); n; n--)
		if (rng_below(r, 2))
			buf_puts(b, broken[rng_below(r, 7)]);
		else
			buf_putc(b, (char)rng_u32(r));
}

/* Appends whole characters from a random place of `from`. */
MIXED void mixed_quote(struct buf *b, struct rng *r, const struct buf *from)
{
	size_t at = rng_u32(r) % from->len, n = 200 + rng_below(r, 4000);

	while (at < from->len && (from->data[at] & 0xc0) == 0x80)
		at++;
	n = n > from->len - at ? from->len - at : n;
	while (n && at + n < from->len && (from->data[at + n] & 0xc0) == 0x80)
		n--;
	buf_append(b, from->data + at, n);
}

/* `size` bytes or a little more; `broken` allows what is not UTF-8. Returns how many bytes of data
 * sets were there to quote. `data` gives the path of one or NULL. */
MIXED size_t mixed_text(struct buf *out, size_t size, uint64_t seed, bool broken,
			const char *(*data)(const char *name))
{
	static const char *const names[] = {
		"datasets/oasst_trees/en_100_tree.jsonl", "datasets/poetry_corpus_zh.json",
		"datasets/mt_bench/question.jsonl", "datasets/self_instruct_seed_tasks.jsonl",
		"datasets/oasst2_eft/00_eft.jsonl"};
	struct buf quotes = BUF_INIT, file = BUF_INIT;
	struct rng r;

	for (size_t i = 0; data && i < 5; i++)
		if (data(names[i]) && fs_read(data(names[i]), 8u << 20, &file, NULL) == RC_OK)
			buf_append(&quotes, file.data, file.len);
	buf_release(&file);
	rng_open(&r, seed, RNG_TEST, 0, 0, 0);
	while (out->len < size) {
		uint32_t kind = rng_below(&r, 64);
		if (kind < 2 && quotes.len)
			mixed_quote(out, &r, &quotes);
		else if (kind < 44)
			buf_puts(out, mixed_words[rng_below(&r, MIXED_WORDS)]);
		else if (kind < 62)
			mixed_run(out, &r);
		else if (broken)
			mixed_bytes(out, &r);
	}
	size_t quoted = quotes.len;
	buf_release(&quotes);
	return quoted;
}
