/* Small tokenizers that tests make themselves, in the three file formats.
 *
 * Byte-level: ids 0-255 the bytes, 256 "he", 257 "ll", 258 "hell", 259 " w", 260 <s>, 261 </s>.
 * Fallback (JSON and SentencePiece, equal): 0 <unk>, 1 <s>, 2 </s>, 3-258 bytes, 259 U+2581, 260 h,
 * 261 i, 262 "hi", 263 U+2581 "hi".
 */
#pragma once

#include "base/buf.h"
#include "base/str.h"
#include "worker/model/token.h"

#include <stdlib.h>
#include <string.h>

#define TINY __attribute__((unused)) static
#define TINY_BLOCK "\xe2\x96\x81"
#define TINY_ADDED(id, text)                                                                        \
	"{\"id\":" #id ",\"content\":\"" text "\",\"single_word\":false,\"lstrip\":false,"          \
	"\"rstrip\":false,\"normalized\":false,\"special\":true}"
#define TINY_BOS(id)                                                                                \
	"\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{"       \
	"\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],"  \
	"\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[" #id "],\"tokens\":[\"<s>\"]}}},"

TINY void tiny_letter(struct buf *b, int byte)
{
	static const char *const quoted[] = {"\\\"", "\\\\"};
	int next = 256, letter = byte;
	char utf8[4];

	for (int i = 0; i <= byte; i++) {
		bool plain = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
		letter = plain ? i : next++;
	}
	if (letter == '"' || letter == '\\')
		buf_puts(b, quoted[letter == '\\']);
	else
		buf_append(b, utf8, (size_t)utf8_encode((uint32_t)letter, utf8));
}

/* Heap text. */
TINY char *tiny_byte_level_json(void)
{
	struct buf b = BUF_INIT;

	buf_puts(&b, "{\"version\":\"1.0\",\"added_tokens\":[" TINY_ADDED(260, "<s>") ","
		     TINY_ADDED(261, "</s>") "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":"
		     "\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
		     TINY_BOS(260) "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\","
		     "\"dropout\":null,\"unk_token\":null,\"vocab\":{");
	for (int i = 0; i < 256; i++) {
		buf_puts(&b, "\"");
		tiny_letter(&b, i);
		buf_printf(&b, "\":%d,", i);
	}
	buf_puts(&b, "\"he\":256,\"ll\":257,\"hell\":258,\"\xc4\xa0w\":259},"
		     "\"merges\":[\"h e\",[\"l\",\"l\"],\"he ll\",\"\xc4\xa0 w\"]}}");
	return buf_detach(&b);
}

TINY char *tiny_fallback_json_text(void)
{
	struct buf b = BUF_INIT;

	buf_puts(&b, "{\"version\":\"1.0\",\"added_tokens\":[" TINY_ADDED(0, "<unk>") ","
		     TINY_ADDED(1, "<s>") "," TINY_ADDED(2, "</s>") "],\"normalizer\":{\"type\":"
		     "\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" TINY_BLOCK
		     "\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" TINY_BLOCK
		     "\"}]},\"pre_tokenizer\":null," TINY_BOS(1) "\"decoder\":{\"type\":\"Sequence\","
		     "\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" TINY_BLOCK
		     "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":"
		     "\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},\"model\":{\"type\":\"BPE\","
		     "\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true,\"vocab\":{"
		     "\"<unk>\":0,\"<s>\":1,\"</s>\":2,");
	for (int i = 0; i < 256; i++)
		buf_printf(&b, "\"<0x%02X>\":%d,", i, i + 3);
	buf_puts(&b, "\"" TINY_BLOCK "\":259,\"h\":260,\"i\":261,\"hi\":262,\"" TINY_BLOCK
		     "hi\":263},\"merges\":[\"h i\",\"" TINY_BLOCK " hi\"]}}");
	return buf_detach(&b);
}

TINY void tiny_piece(struct buf *b, const char *text, float score, int type)
{
	size_t n = strlen(text);

	buf_putc(b, 0x0a); /* pieces: field 1 */
	buf_putc(b, (char)(n + 9));
	buf_putc(b, 0x0a);
	buf_putc(b, (char)n);
	buf_puts(b, text);
	buf_putc(b, 0x15); /* score: field 2, four bytes */
	buf_append(b, &score, 4);
	buf_putc(b, 0x18); /* type: field 3 */
	buf_putc(b, (char)type);
}

TINY void tiny_fallback_spm_bytes(struct buf *b)
{
	static const char normalizer[] = {0x1a, 4, 0x20, 0, 0x18, 1};
	static const char trainer[] = {0x12, 5, 0x18, 2, (char)0x98, 0x02, 1};
	char name[8];

	buf_append(b, normalizer, sizeof(normalizer)); /* remove_extra_whitespaces off */
	tiny_piece(b, "<unk>", 0, 2);
	tiny_piece(b, "<s>", 0, 3);
	tiny_piece(b, "</s>", 0, 3);
	for (int i = 0; i < 256; i++) {
		str_fmt(name, sizeof(name), "<0x%02X>", i);
		tiny_piece(b, name, 0, 6);
	}
	tiny_piece(b, TINY_BLOCK, -2, 1);
	tiny_piece(b, "h", -3, 1);
	tiny_piece(b, "i", -4, 1);
	tiny_piece(b, "hi", 0, 1);
	tiny_piece(b, TINY_BLOCK "hi", -1, 1);
	buf_append(b, trainer, sizeof(trainer)); /* BPE, byte_fallback; last, so that no cut is whole */
}

TINY struct tokenizer *tiny_from_json(char *text, struct err *e)
{
	struct tokenizer *t = NULL;

	tokenizer_parse_json(text, strlen(text), "tiny.json", &t, e);
	free(text);
	return t;
}

TINY struct tokenizer *tiny_byte_level(struct err *e)
{
	return tiny_from_json(tiny_byte_level_json(), e);
}

TINY struct tokenizer *tiny_fallback_json(struct err *e)
{
	return tiny_from_json(tiny_fallback_json_text(), e);
}

TINY struct tokenizer *tiny_fallback_spm(struct err *e)
{
	struct tokenizer *t = NULL;
	struct buf b = BUF_INIT;

	tiny_fallback_spm_bytes(&b);
	tokenizer_parse_spm((const uint8_t *)b.data, b.len, "tiny.model", &t, e);
	buf_release(&b);
	return t;
}
