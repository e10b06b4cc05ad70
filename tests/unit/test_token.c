#include "tests/test.h"
#include "tests/tiny_tokenizer.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fs.h"
#include "base/rng.h"
#include "worker/model/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tokenizers the tests make themselves (tiny_tokenizer.h) come first; the vectors of real ones need
 * the shared data. */

static struct err e;

static void show(const struct tokens *t, struct buf *out)
{
	buf_clear(out);
	buf_puts(out, "");
	for (size_t i = 0; i < t->n; i++)
		buf_printf(out, " %d", t->ids[i]);
}

/* Encodes and checks ids written as " 1 2 3". */
static void check_ids(const struct tokenizer *t, const char *text, size_t len, int flags,
		      const char *want)
{
	struct tokens ids = TOKENS_INIT;
	struct buf got = BUF_INIT;

	CHECK_RC(tokenizer_encode(t, text, len, flags, &ids, &e), RC_OK);
	show(&ids, &got);
	if (strcmp(got.data ? got.data : "", want))
		printf("text: \"%.*s\"\n", (int)len, text);
	CHECK_STR(got.data ? got.data : "", want);
	buf_release(&got);
	tokens_release(&ids);
}

static void check_round_trip(const struct tokenizer *t, const char *text, size_t len)
{
	struct tokens ids = TOKENS_INIT;
	struct buf back = BUF_INIT, streamed = BUF_INIT, whole = BUF_INIT;
	struct token_stream s;

	CHECK_RC(tokenizer_encode(t, text, len, 0, &ids, &e), RC_OK);
	tokenizer_decode(t, ids.ids, ids.n, 0, &back);
	CHECK_EQ(back.len, len);
	CHECK(!len || !memcmp(back.data, text, len));
	token_stream_begin(&s, t, 0);
	for (size_t i = 0; i < ids.n; i++)
		token_stream_push(&s, ids.ids[i], &streamed);
	token_stream_end(&s, &streamed);
	tokenizer_decode_text(t, ids.ids, ids.n, 0, &whole);
	CHECK_EQ(streamed.len, whole.len);
	CHECK(!whole.len || !memcmp(streamed.data, whole.data, whole.len));
	buf_release(&back);
	buf_release(&streamed);
	buf_release(&whole);
	tokens_release(&ids);
}

/* --- made here -------------------------------------------------------------------------------- */

void test_token__byte_level_merges_in_order(void)
{
	struct tokenizer *t = tiny_byte_level(&e);

	CHECK(t);
	/* ids: 0-255 bytes in letter order of tiny_tokenizer.c, 256 "he", 257 "ll", 258 "hell",
	 * 259 "Ġw", 260 "<s>", 261 "</s>" */
	check_ids(t, "hello world", 11, 0, " 258 111 259 111 114 108 100");
	check_ids(t, "", 0, 0, "");
	check_ids(t, "<s>", 3, 0, " 60 115 62");
	check_ids(t, "a<s></s>", 8, TOKEN_SPECIALS, " 97 260 261");
	CHECK_EQ(tokenizer_vocab(t), 262);
	CHECK_EQ(tokenizer_bos(t), 260);
	CHECK_EQ(tokenizer_special(t, "</s>"), 261);
	CHECK_EQ(tokenizer_special(t, "he"), -1);
	check_round_trip(t, "any\0byte \xff\xfe \xe2\x96 goes", 20);
	tokenizer_free(t);
}

void test_token__fallback_and_prefix_agree_in_both_formats(void)
{
	static const char *const texts[] = {"", " ", "hi", "hi hi", "  hi", "\n\nhi", "h\xc3\xa9",
					    "hihihi hi ih", "\xe4\xbd\xa0\xe5\xa5\xbd", "<s>", "hi </s>"};
	struct tokenizer *j = tiny_fallback_json(&e), *s = tiny_fallback_spm(&e);
	struct tokens a = TOKENS_INIT;
	struct buf want = BUF_INIT;

	CHECK(j && s);
	check_ids(j, "hi", 2, 0, " 263");
	check_ids(j, "hi", 2, TOKEN_CONTINUES, " 262");
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		for (int flags = 0; flags < 4; flags++) {
			a.n = 0;
			CHECK_RC(tokenizer_encode(j, texts[i], strlen(texts[i]), flags, &a, &e), RC_OK);
			show(&a, &want);
			/* After a special token the two formats differ in the prefix. */
			if (!(flags & TOKEN_SPECIALS))
				check_ids(s, texts[i], strlen(texts[i]), flags, want.data);
		}
		check_round_trip(j, texts[i], strlen(texts[i]));
		check_round_trip(s, texts[i], strlen(texts[i]));
	}
	buf_release(&want);
	tokens_release(&a);
	tokenizer_free(j);
	tokenizer_free(s);
}

void test_token__stream_holds_unfinished_characters(void)
{
	struct tokenizer *t = tiny_byte_level(&e);
	struct token_stream s;
	struct buf out = BUF_INIT;

	CHECK(t);
	token_stream_begin(&s, t, 0);
	token_stream_push(&s, 0xe2, &out);
	token_stream_push(&s, 0x82, &out);
	CHECK_EQ(out.len, 0);
	token_stream_push(&s, 0xac, &out);
	CHECK_STR(out.data, "\xe2\x82\xac");
	token_stream_push(&s, 0xe2, &out);
	token_stream_push(&s, 'x', &out);
	CHECK_STR(out.data, "\xe2\x82\xac\xef\xbf\xbdx");
	token_stream_push(&s, 0xf0, &out);
	token_stream_end(&s, &out);
	CHECK_STR(out.data, "\xe2\x82\xac\xef\xbf\xbdx\xef\xbf\xbd");
	buf_release(&out);
	tokenizer_free(t);
}

void test_token__long_text_is_not_quadratic(void)
{
	struct tokenizer *t = tiny_fallback_json(&e);
	size_t len = 1 << 20;
	char *text = malloc(len);
	struct tokens ids = TOKENS_INIT;
	double begin = clk_mono_s();

	CHECK(t && text);
	for (size_t i = 0; i < len; i++)
		text[i] = "hi"[i & 1];
	CHECK_RC(tokenizer_encode(t, text, len, 0, &ids, &e), RC_OK);
	CHECK_EQ(ids.n, len / 2);
	printf("%.1f MB/s in one word\n", 1.0 / (clk_mono_s() - begin));
	CHECK(clk_mono_s() - begin < 8);
	free(text);
	tokens_release(&ids);
	tokenizer_free(t);
}

/* Replaces `from` in a good file and expects the given code and words in the sentence. */
static void check_refused(const char *json, const char *from, const char *to, enum rc want,
			  const char *words)
{
	const char *at = strstr(json, from);
	struct buf b = BUF_INIT;
	struct tokenizer *t;

	CHECK(at);
	buf_append(&b, json, (size_t)(at - json));
	buf_puts(&b, to);
	buf_puts(&b, at + strlen(from));
	CHECK_RC(tokenizer_parse_json(b.data, b.len, "x.json", &t, &e), want);
	CHECK(!t);
	if (!strstr(e.text, words) || !strstr(e.text, "x.json"))
		CHECK_STR(e.text, words);
	buf_release(&b);
}

void test_token__what_is_not_known_is_refused(void)
{
	char *b = tiny_byte_level_json(), *f = tiny_fallback_json_text();

	check_refused(b, "\"BPE\"", "\"Unigram\"", RC_UNSUPPORTED, "model.type is \"Unigram\"");
	check_refused(b, "\"type\":\"ByteLevel\"", "\"type\":\"BertPreTokenizer\"", RC_UNSUPPORTED,
		      "pre_tokenizer[0]: \"BertPreTokenizer\"");
	check_refused(f, "\"type\":\"Prepend\"", "\"type\":\"Lowercase\"", RC_UNSUPPORTED,
		      "normalizer[0]: \"Lowercase\"");
	check_refused(f, "\"h i\"", "\"h q\"", RC_INVALID, "model.merges[0]: \"q\"");
	check_refused(f, "\"h i\"", "\"hi\"", RC_INVALID, "model.merges[0]: not two");
	check_refused(f, "\"id\":1", "\"id\":9999999", RC_INVALID, "added_tokens[1]");
	check_refused(f, "\"id\":1", "\"id\":2", RC_INVALID, "added_tokens");
	check_refused(f, "\"<0x41>\"", "\"<0x4x>\"", RC_INVALID, "<0x41> is missing");
	check_refused(f, "\"<unk>\":0", "\"<unk>\":0.5", RC_INVALID, "not an integer");
	check_refused(f, "\"model\"", "\"nodel\"", RC_INVALID, "model: missing");
	check_refused(b, "\"pre_tokenizer\":{", "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":"
		      "{\"Regex\":\"[a-z]+\"}},\"x\":{", RC_UNSUPPORTED, "\"[a-z]+\" is not a known rule");
	free(b);
	free(f);
}

void test_token__torn_sentencepiece_files_are_refused(void)
{
	struct buf good = BUF_INIT;
	struct tokenizer *t;
	struct rng r;

	tiny_fallback_spm_bytes(&good);
	for (size_t len = 0; len < good.len; len++) /* A cut file is never taken for a whole one. */
		CHECK(tokenizer_parse_spm((uint8_t *)good.data, len, "x.model", &t, &e) != RC_OK);
	rng_open(&r, 1, RNG_TEST, 0, 0, 0);
	for (int i = 0; i < 3000; i++) {
		struct buf b = BUF_INIT;
		buf_append(&b, good.data, good.len);
		for (int k = 0; k < 3; k++)
			b.data[rng_below(&r, (uint32_t)b.len)] = (char)rng_u32(&r);
		if (tokenizer_parse_spm((uint8_t *)b.data, b.len, "x.model", &t, &e) == RC_OK)
			tokenizer_free(t);
		else
			CHECK(strstr(e.text, "x.model"));
		buf_release(&b);
	}
	buf_release(&good);
}

/* --- real files ------------------------------------------------------------------------------- */

#define GAP "\n__ggml_vocab_test__\n"

static void check_vectors(const char *tokenizer, const char *vectors)
{
	struct tokenizer *t;
	struct buf in = BUF_INIT, out = BUF_INIT;
	char name[256];
	int n = 0;

	CHECK_RC(tokenizer_open(test_data(tokenizer), &t, &e), RC_OK);
	snprintf(name, sizeof(name), "%s.inp", vectors);
	CHECK_RC(fs_read(test_data(name), 1 << 20, &in, &e), RC_OK);
	snprintf(name, sizeof(name), "%s.out", vectors);
	CHECK_RC(fs_read(test_data(name), 1 << 20, &out, &e), RC_OK);
	char *text = in.data, *line = out.data;
	for (char *gap; (gap = strstr(text, GAP)); text = gap + strlen(GAP), n++) {
		char *end = strchr(line, '\n');
		CHECK(end);
		*end = 0;
		check_ids(t, text, (size_t)(gap - text), 0, line);
		check_round_trip(t, text, (size_t)(gap - text));
		line = end + 1;
	}
	printf("%d vectors of %s, %s\n", n, tokenizer, tokenizer_kind(t));
	CHECK_EQ(n, 46);
	buf_release(&in);
	buf_release(&out);
	tokenizer_free(t);
}

void test_token__vectors_llama2_sentencepiece(void)
{
	check_vectors("tokenizers/llama2.tokenizer.model", "tokenizers/ggml-vocab-llama-spm.gguf");
}

void test_token__vectors_llama3(void)
{
	check_vectors("tokenizers/llama3.tokenizer.json", "tokenizers/ggml-vocab-llama-bpe.gguf");
}

void test_token__mistral_round_trip(void)
{
	struct tokenizer *t;
	struct buf in = BUF_INIT;

	CHECK_RC(tokenizer_open(test_data("tokenizers/mistral.tokenizer.json"), &t, &e), RC_OK);
	CHECK_RC(fs_read(test_data("tokenizers/ggml-vocab-llama-spm.gguf.inp"), 1 << 20, &in, &e),
		 RC_OK);
	check_ids(t, "Hello, world!", 13, 0, " 22557 28725 1526 28808");
	check_ids(t, "[INST] Hi [/INST]", 17, 0, " 733 16289 28793 15359 733 28748 16289 28793");
	check_ids(t, "<s>", 3, 0, " 523 28713 28767");
	CHECK_EQ(tokenizer_bos(t), 1);
	char *text = in.data;
	for (char *gap; (gap = strstr(text, GAP)); text = gap + strlen(GAP))
		check_round_trip(t, text, (size_t)(gap - text));
	check_round_trip(t, in.data, in.len);
	buf_release(&in);
	tokenizer_free(t);
}

static void check_both_files_agree(const char *model)
{
	struct tokenizer *j, *s;
	struct tokens a = TOKENS_INIT;
	struct buf in = BUF_INIT, want = BUF_INIT;
	char name[256];
	int n = 0;

	snprintf(name, sizeof(name), "models/%s/tokenizer.json", model);
	CHECK_RC(tokenizer_open(test_data(name), &j, &e), RC_OK);
	snprintf(name, sizeof(name), "models/%s/tokenizer.model", model);
	CHECK_RC(tokenizer_open(test_data(name), &s, &e), RC_OK);
	CHECK_EQ(tokenizer_vocab(j), tokenizer_vocab(s));
	CHECK_EQ(tokenizer_bos(j), tokenizer_bos(s));
	CHECK_RC(fs_read(test_data("tokenizers/ggml-vocab-llama-spm.gguf.inp"), 1 << 20, &in, &e),
		 RC_OK);
	fs_read(test_data("datasets/self_instruct_seed_tasks.jsonl"), 1 << 20, &in, &e);
	fs_read(test_data("datasets/poetry_corpus_zh.json"), 4 << 20, &in, &e);
	for (size_t i = 0; i < in.len; n++) {
		size_t len = strcspn(in.data + i, "\n");
		tokenizer_encode(j, in.data + i, len, 0, &a, &e);
		show(&a, &want);
		check_ids(s, in.data + i, len, 0, want.data);
		a.n = 0;
		i += len + 1;
	}
	printf("%s: %d texts agree\n", model, n);
	buf_release(&in);
	buf_release(&want);
	tokens_release(&a);
	tokenizer_free(j);
	tokenizer_free(s);
}

void test_token__json_and_model_of_stories_agree(void)
{
	check_both_files_agree("stories260K");
}

void test_token__json_and_model_of_poem_agree(void)
{
	check_both_files_agree("poem_zh_750K");
}
