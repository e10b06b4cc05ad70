/* The splitting rules of byte-level tokenizers against the expressions they stand for, run by
 * Python on random texts; and a tokenizer.json as Qwen 2 has it. */
#include "tests/test.h"
#include "tests/tiny_tokenizer.h"

#include "base/proc.h"
#include "worker/model/token_impl.h"

#include <stdio.h>

#define UNICODE "14.0.0" /* of token_unicode.h */

static struct err e;

static enum token_split rule_named(const char *name, size_t len)
{
	for (int i = SPLIT_NONE; i < SPLIT_N; i++)
		if (strlen(token_split_name((enum token_split)i)) == len &&
		    !memcmp(token_split_name((enum token_split)i), name, len))
			return (enum token_split)i;
	test_fail(__FILE__, __LINE__, "unknown rule");
}

static size_t unhex(const char *hex, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i + 1 < len; i += 2)
		out[i / 2] = (char)((strchr(digits, hex[i]) - digits) << 4 |
				    (strchr(digits, hex[i + 1]) - digits));
	return len / 2;
}

/* "rule;hex;5 1 3" */
static void check_line(char *line)
{
	static char text[4096];
	char *hex = strchr(line, ';') + 1, *sizes = strchr(hex, ';') + 1;
	enum token_split rule = rule_named(line, (size_t)(hex - 1 - line));
	size_t len = unhex(hex, (size_t)(sizes - 1 - hex), text), at = 0;

	for (char *p = sizes; *p; p += strspn(p, " ")) {
		size_t want = strtoul(p, &p, 10);
		if (token_split_next(rule, text + at, len - at) != want)
			printf("# at byte %zu of %s\n", at, line);
		CHECK_EQ(token_split_next(rule, text + at, len - at), want);
		at += want;
	}
	CHECK_EQ(at, len);
}

void test_token_split__agrees_with_the_expressions(void)
{
	static const char *const argv[] = {"python3", "tests/unit/split_vectors.py", NULL};
	const struct proc_opts o = {.argv = argv, .pipe_out = true};
	struct buf out = BUF_INIT;
	int status, n = 0;

	if (proc_run(&o, NULL, 0, 64 << 20, 60000, &out, &status, &e) || status)
		SKIP("python3 does not run");
	buf_putc(&out, 0);
	if (strncmp(out.data, UNICODE "\n", strlen(UNICODE) + 1))
		SKIP("python3 has another version of Unicode than the tables");
	for (char *line = strchr(out.data, '\n') + 1, *end; (end = strchr(line, '\n'));
	     line = end + 1) {
		*end = 0;
		check_line(line);
		n++;
	}
	printf("# %d texts\n", n);
	CHECK(n >= 15000);
	buf_release(&out);
}

/* --- Qwen 2 ----------------------------------------------------------------------------------- */

/* normalizer, pre_tokenizer, post_processor and decoder as in its published tokenizer.json. */
static const char qwen_rules[] =
	"\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\","
	"\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
	"\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "
	"?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"
	"\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","
	"\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":false}]},"
	"\"post_processor\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
	"\"trim_offsets\":false,\"use_regex\":false},\"decoder\":{\"type\":\"ByteLevel\","
	"\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":false},";

static struct tokenizer *qwen_like(const char *from, const char *to)
{
	struct buf b = BUF_INIT, edited = BUF_INIT;
	struct tokenizer *t = NULL;
	const char *at;

	buf_puts(&b, "{\"version\":\"1.0\",\"added_tokens\":[");
	buf_puts(&b, TINY_ADDED(260, "<|endoftext|>") "," TINY_ADDED(
			     261, "<|im_start|>") "," TINY_ADDED(262, "<|im_end|>") "],");
	buf_puts(&b, qwen_rules);
	buf_puts(
		&b,
		"\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
		"\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\",\"fuse_unk\":false,"
		"\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":{");
	for (int i = 0; i < 256; i++) {
		buf_puts(&b, "\"");
		tiny_letter(&b, i);
		buf_printf(&b, "\":%d,", i);
	}
	buf_puts(&b, "\"12\":256,\"'t\":257,\"\xc4\xa0"
		     "a\":258,\"\xc3\x83\xc2\xa9\":259},\"merges\":["
		     "\"1 2\",\"' t\",\"\xc4\xa0 a\",\"\xc3\x83 \xc2\xa9\"]}}");
	at = from ? strstr(b.data, from) : NULL;
	CHECK(!from || at);
	buf_append(&edited, b.data, from ? (size_t)(at - b.data) : b.len);
	if (from) {
		buf_puts(&edited, to);
		buf_puts(&edited, at + strlen(from));
	}
	tokenizer_parse_json(edited.data, edited.len, "qwen.json", &t, &e);
	buf_release(&b);
	buf_release(&edited);
	return t;
}

void test_token_split__qwen2_as_published(void)
{
	/* Digits never join; 't does; normal form C comes first; no BOS. */
	static const int32_t want[] = {'1', '2', ' ', '1', 'a', 'n', 257, 258, 259, 262};
	static const char text[] = "12 1an't ae\xcc\x81<|im_end|>";
	struct tokenizer *t = qwen_like(NULL, NULL);
	struct tokens ids = TOKENS_INIT;

	CHECK(t);
	CHECK_STR(tokenizer_kind(t), "bpe, byte-level, qwen-2");
	CHECK_EQ(tokenizer_bos(t), -1);
	CHECK_RC(tokenizer_encode(t, text, strlen(text), TOKEN_SPECIALS, &ids, &e), RC_OK);
	CHECK_EQ(ids.n, sizeof want / sizeof want[0]);
	CHECK(!memcmp(ids.ids, want, sizeof want));
	tokenizer_free(t);
	tokens_release(&ids);
}

void test_token_split__other_expressions_are_refused(void)
{
	CHECK(!qwen_like("\\\\p{N}|", "\\\\p{N}{1,2}|"));
	CHECK(strstr(e.text, "is not a known rule (known: GPT-2, Llama 3, Qwen 2)"));
	CHECK(!qwen_like("\"Isolated\"", "\"Removed\""));
	CHECK(strstr(e.text, "Split.behavior"));
	CHECK(!qwen_like("\"invert\":false", "\"invert\":true"));
	CHECK(strstr(e.text, "Split.behavior"));
	CHECK(!qwen_like("\"use_regex\":false}]", "\"use_regex\":true}]"));
	CHECK(strstr(e.text, "use_regex"));
	CHECK(!qwen_like("\"Regex\"", "\"String\""));
	CHECK(strstr(e.text, "is not a known rule"));
}
