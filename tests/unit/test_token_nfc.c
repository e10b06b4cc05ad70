/* Normal form C: known hard cases, then everything Python knows about it, then a tokenizer. */
#include "tests/test.h"
#include "tests/tiny_tokenizer.h"

#include "base/proc.h"
#include "worker/model/token_impl.h"

#include <stdio.h>

#define UNICODE "14.0.0" /* of token_nfc_tables.h */

static struct err e;

static void check_nfc(const char *text, size_t len, const char *want, size_t want_len)
{
	struct buf b = BUF_INIT;
	bool changed = token_nfc(text, len, &b);
	const char *got = changed ? b.data : text;
	size_t got_len = changed ? b.len : len;

	if (got_len != want_len || memcmp(got, want, want_len)) {
		printf("# of");
		for (size_t i = 0; i < len; i++)
			printf(" %02x", (uint8_t)text[i]);
		printf("\n# got");
		for (size_t i = 0; i < got_len; i++)
			printf(" %02x", (uint8_t)got[i]);
		test_fail(__FILE__, __LINE__, "normal form C");
	}
	buf_release(&b);
}

void test_token_nfc__known_cases(void)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{"", ""},
		{"plain ASCII, \xc3\xa9 and \xe4\xbd\xa0\xe5\xa5\xbd", NULL},
		{"e\xcc\x81", "\xc3\xa9"},			    /* e + acute */
		{"\xe2\x84\xab \xe2\x84\xa6", "\xc3\x85 \xce\xa9"}, /* angstrom, ohm */
		{"\xef\xac\x81", NULL},				    /* fi ligature: only NFKC */
		{"q\xcc\x87\xcc\xa3", "q\xcc\xa3\xcc\x87"},	    /* reordered */
		{"d\xcc\x87\xcc\xa3", "\xe1\xb8\x8d\xcc\x87"},	    /* below joins first */
		{"\xe1\xb8\x8b\xcc\xa3", "\xe1\xb8\x8d\xcc\x87"}, /* taken apart and joined again */
		{"\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab", "\xed\x95\x9c"}, /* Hangul L V T */
		{"\xed\x95\x98\xe1\x86\xab", "\xed\x95\x9c"},		  /* LV + T */
		{"\xed\x95\x9c\xe1\x86\xab", NULL},			  /* LVT + T */
		{"\xe0\xad\x87\xcc\x80\xe0\xac\xbe", NULL}, /* a mark in between keeps them apart */
		{"\xe0\xad\x87\xe0\xac\xbe", "\xe0\xad\x8b"},
		{"\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc"}, /* Devanagari qa: never composed */
		{"\xcd\x84", "\xcc\x88\xcc\x81"},	      /* a mark that falls apart */
		{"\xf0\xaf\xa0\x80", "\xe4\xb8\xbd"},	      /* compatibility ideograph */
		{"\xcc\x81", NULL},			      /* nothing to join */
		{"e\xcc\x81\xcc\x81", "\xc3\xa9\xcc\x81"},
		{"e\xff\xcc\x81", NULL}, /* malformed byte between: stays, keeps apart */
		{"\xffo\xcc\x88\xcc", "\xff\xc3\xb6\xcc"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const char *want = cases[i].want ? cases[i].want : cases[i].text;
		check_nfc(cases[i].text, strlen(cases[i].text), want, strlen(want));
		check_nfc(want, strlen(want), want, strlen(want));
	}
}

static size_t unhex(const char *hex, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i + 1 < len; i += 2)
		out[i / 2] = (char)((strchr(digits, hex[i]) - digits) << 4 |
				    (strchr(digits, hex[i + 1]) - digits));
	return len / 2;
}

void test_token_nfc__agrees_with_python(void)
{
	static const char *const argv[] = {"python3", "tests/unit/nfc_vectors.py", NULL};
	static char text[1 << 16], want[1 << 16];
	const struct proc_opts o = {.argv = argv, .pipe_out = true};
	struct buf out = BUF_INIT;
	int status, n = 0;

	if (proc_run(&o, NULL, 0, 64 << 20, 60000, &out, &status, &e) || status)
		SKIP("python3 does not run");
	buf_putc(&out, 0);
	char *line = out.data + strcspn(out.data, "\n");
	if (strncmp(out.data, UNICODE "\n", strlen(UNICODE) + 1))
		SKIP("python3 has another version of Unicode than the tables");
	while (*line == '\n' && line[1]) {
		char *in = line + 1, *semicolon = in + strcspn(in, ";");
		line = semicolon + strcspn(semicolon, "\n");
		size_t len = unhex(in, (size_t)(semicolon - in), text);
		size_t want_len = unhex(semicolon + 1, (size_t)(line - semicolon - 1), want);
		check_nfc(text, len, want, want_len);
		check_nfc(want, want_len, want, want_len);
		n++;
	}
	printf("# %d cases of Unicode " UNICODE "\n", n);
	CHECK(n > 30000);
	buf_release(&out);
}

void test_token_nfc__long_runs_of_marks_are_not_quadratic(void)
{
	struct buf b = BUF_INIT, out = BUF_INIT;

	buf_putc(&b, 'a');
	for (int i = 0; i < 1 << 20; i++) /* classes 220 and 230 in turn */
		buf_puts(&b, i & 1 ? "\xcc\xa7" : "\xcc\x83");
	CHECK(token_nfc(b.data, b.len, &out));
	CHECK_EQ(out.len, b.len - 1); /* a with tilde is one character of two bytes */
	CHECK(!memcmp(out.data, "\xc3\xa3\xcc\xa7\xcc\xa7", 6));
	CHECK(!memcmp(out.data + out.len - 4, "\xcc\x83\xcc\x83", 4));
	buf_release(&b);
	buf_release(&out);
}

/* The byte-level tokenizer of the tests with a normaliser, and its first `normalized` as given. */
static struct tokenizer *with_normalizer(const char *normalizer, const char *normalized)
{
	static const char cut[] = "\"normalized\":false", hole[] = "\"normalizer\":null";
	char *json = tiny_byte_level_json(), *at = strstr(json, cut), *gap = strstr(json, hole);
	struct tokenizer *t = NULL;
	struct buf b = BUF_INIT;

	CHECK(at && gap > at);
	buf_append(&b, json, (size_t)(at - json));
	buf_printf(&b, "\"normalized\":%s", normalized);
	buf_append(&b, at + strlen(cut), (size_t)(gap - at) - strlen(cut));
	buf_printf(&b, "\"normalizer\":%s%s", normalizer, gap + strlen(hole));
	tokenizer_parse_json(b.data, b.len, "tiny.json", &t, &e);
	buf_release(&b);
	free(json);
	return t;
}

void test_token_nfc__tokenizers_that_ask_get_it(void)
{
	static const char text[] = "he\xcc\x81<s>e\xcc\x81", plain[] = "h\xc3\xa9<s>\xc3\xa9";
	struct tokenizer *t = with_normalizer("{\"type\":\"NFC\"}", "false");
	struct tokenizer *off = with_normalizer("null", "true");
	struct tokens a = TOKENS_INIT, b = TOKENS_INIT, c = TOKENS_INIT;
	struct buf back = BUF_INIT;

	CHECK(t && off);
	CHECK_RC(tokenizer_encode(t, text, strlen(text), TOKEN_SPECIALS, &a, &e), RC_OK);
	CHECK_RC(tokenizer_encode(off, plain, strlen(plain), TOKEN_SPECIALS, &b, &e), RC_OK);
	CHECK_RC(tokenizer_encode(off, text, strlen(text), TOKEN_SPECIALS, &c, &e), RC_OK);
	CHECK_EQ(a.n, b.n);
	CHECK(!memcmp(a.ids, b.ids, a.n * sizeof(*a.ids)) && c.n > b.n);
	tokenizer_decode(t, a.ids, a.n, TOKEN_KEEP_SPECIALS, &back);
	CHECK(back.len == strlen(plain) && !memcmp(back.data, plain, back.len));
	CHECK(!with_normalizer("{\"type\":\"NFKC\"}", "false"));
	CHECK(strstr(e.text, "NFKC") && strstr(e.text, "known: none, NFC"));
	CHECK(!with_normalizer("{\"type\":\"NFC\"}", "true"));
	CHECK(strstr(e.text, "id 260 is looked for in normalised text"));
	CHECK(!with_normalizer("{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"}]}",
			       "false"));
	tokenizer_free(t);
	tokenizer_free(off);
	tokens_release(&a);
	tokens_release(&b);
	tokens_release(&c);
	buf_release(&back);
}
