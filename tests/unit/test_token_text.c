/* Ten megabytes of mixed languages, there and back, for each family of tokenizer. */
#include "tests/mixed_text.h"
#include "tests/test.h"
#include "tests/tiny_tokenizer.h"

#include "base/clk.h"
#include "base/proc.h"
#include "worker/model/token_impl.h"

#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEXT_BYTES ((size_t)1 << 20)
#else
#define TEXT_BYTES ((size_t)10 << 20)
#endif

#define CUT_BYTES ((size_t)2 << 20) /* of them cut into small texts */

static struct err e;

/* Text becomes ids, those the text again, to the byte (or its normal form), and that the same ids.
 */
static void check_both_ways(const struct tokenizer *t, const char *text, size_t len, int flags,
			    struct tokens *a, struct tokens *b, struct buf *back, struct buf *form)
{
	bool changed = t->nfc && token_nfc(text, len, form);
	const char *want = changed ? form->data : text;
	size_t want_len = changed ? form->len : len;

	a->n = b->n = 0;
	buf_clear(back);
	CHECK_RC(tokenizer_encode(t, text, len, flags, a, &e), RC_OK);
	for (size_t i = 0; i < a->n; i++)
		CHECK(a->ids[i] >= 0 && a->ids[i] < t->n_vocab &&
		      !tokenizer_is_special(t, a->ids[i]));
	tokenizer_decode(t, a->ids, a->n, flags, back);
	if (back->len != want_len || memcmp(back->data ? back->data : "", want, want_len))
		printf("# came back otherwise: %zu bytes for %zu\n", back->len, want_len);
	CHECK_EQ(back->len, want_len);
	CHECK(!want_len || !memcmp(back->data, want, want_len));
	CHECK_RC(tokenizer_encode(t, back->data ? back->data : "", back->len, flags, b, &e), RC_OK);
	CHECK_EQ(a->n, b->n);
	CHECK(!a->n || !memcmp(a->ids, b->ids, a->n * sizeof(*a->ids)));
}

/* The whole text at once, and the beginning cut anywhere; `data` quotes the shared data sets. */
static void check_text(struct tokenizer *t, const char *name, size_t size, bool broken,
		       const char *(*data)(const char *))
{
	struct tokens a = TOKENS_INIT, b = TOKENS_INIT;
	struct buf text = BUF_INIT, back = BUF_INIT, form = BUF_INIT;
	struct rng r;

	mixed_text(&text, size, 7, broken, data);
	double begin = clk_mono_s();
	CHECK_RC(tokenizer_encode(t, text.data, text.len, 0, &a, &e), RC_OK);
	double encoded = clk_mono_s();
	tokenizer_decode(t, a.ids, a.n, 0, &back);
	printf("# %s: %.1f MB, %zu ids, to ids %.1f MB/s, to text %.0f MB/s\n", name,
	       (double)text.len / 1e6, a.n, (double)text.len / 1e6 / (encoded - begin),
	       (double)text.len / 1e6 / (clk_mono_s() - encoded));
	check_both_ways(t, text.data, text.len, 0, &a, &b, &back, &form);
	rng_open(&r, 1, RNG_TEST, 0, 0, 1);
	text.len = text.len < CUT_BYTES ? text.len : CUT_BYTES;
	for (size_t at = 0, n; at < text.len; at += n) {
		n = rng_below(&r, 1u << rng_below(&r, 14));
		n = n > text.len - at ? text.len - at : n;
		check_both_ways(t, text.data + at, n, rng_below(&r, 2) ? TOKEN_CONTINUES : 0, &a,
				&b, &back, &form);
	}
	tokens_release(&a);
	tokens_release(&b);
	buf_release(&text);
	buf_release(&back);
	buf_release(&form);
}

/* Whatever a model may say: any ids give bytes that come back as themselves. */
static void check_any_ids(const struct tokenizer *t)
{
	struct tokens ids = TOKENS_INIT, a = TOKENS_INIT, b = TOKENS_INIT;
	struct buf text = BUF_INIT, back = BUF_INIT, form = BUF_INIT;
	struct rng r;

	rng_open(&r, 3, RNG_TEST, 0, 0, 0);
	for (int i = 0; i < 2000; i++) {
		ids.n = 0;
		for (uint32_t n = rng_below(&r, 40); n; n--) {
			int32_t id = (int32_t)rng_below(&r, (uint32_t)t->n_vocab);
			if (!tokenizer_is_special(t, id))
				tokens_push(&ids, id);
		}
		buf_clear(&text);
		tokenizer_decode(t, ids.ids, ids.n, TOKEN_CONTINUES, &text);
		check_both_ways(t, text.data ? text.data : "", text.len, 0, &a, &b, &back, &form);
	}
	tokens_release(&ids);
	tokens_release(&a);
	tokens_release(&b);
	buf_release(&text);
	buf_release(&back);
	buf_release(&form);
}

static void check_file(const char *path)
{
	struct tokenizer *t;

	CHECK_RC(tokenizer_open(test_data(path), &t, &e), RC_OK);
	check_text(t, path, TEXT_BYTES, true, test_data);
	check_any_ids(t);
	tokenizer_free(t);
}

void test_token_text__llama2_sentencepiece(void)
{
	check_file("tokenizers/llama2.tokenizer.model");
}

void test_token_text__mistral_json(void)
{
	check_file("tokenizers/mistral.tokenizer.json");
}

void test_token_text__llama3_json(void)
{
	check_file("tokenizers/llama3.tokenizer.json");
}

/* Without shared data: the tokenizers the tests make. */
void test_token_text__made_here(void)
{
	struct tokenizer *t[] = {tiny_byte_level(&e), tiny_fallback_json(&e), tiny_fallback_spm(&e),
				 tiny_byte_level(&e)};
	static const char *const names[] = {"byte-level", "fallback", "sentencepiece", "with NFC"};

	t[3]->nfc = true;
	for (int i = 0; i < 4; i++) {
		check_text(t[i], names[i], TEXT_BYTES / 10, true, NULL);
		check_any_ids(t[i]);
		tokenizer_free(t[i]);
	}
}

/* Words one by one give what the whole text gives at once. */
void test_token_text__cutting_at_spaces_changes_nothing(void)
{
	static const char *const files[] = {"tokenizers/llama2.tokenizer.model",
					    "tokenizers/mistral.tokenizer.json"};
	struct tokens a = TOKENS_INIT, b = TOKENS_INIT;
	struct buf text = BUF_INIT;

	mixed_text(&text, 1 << 20, 11, true, test_data);
	for (int i = 0; i < 2; i++) {
		struct tokenizer *t;
		CHECK_RC(tokenizer_open(test_data(files[i]), &t, &e), RC_OK);
		CHECK(t->cut_at_space);
		a.n = b.n = 0;
		CHECK_RC(tokenizer_encode(t, text.data, text.len, 0, &a, &e), RC_OK);
		t->cut_at_space = false;
		CHECK_RC(tokenizer_encode(t, text.data, text.len, 0, &b, &e), RC_OK);
		CHECK_EQ(a.n, b.n);
		CHECK(!memcmp(a.ids, b.ids, a.n * sizeof(*a.ids)));
		tokenizer_free(t);
	}
	tokens_release(&a);
	tokens_release(&b);
	buf_release(&text);
}

/* --- against the definition ------------------------------------------------------------------- */

/* Cuts the text into whole characters, at most 1500 bytes each; ends[n] is where the n-th ends. */
static size_t cut_text(const struct buf *text, size_t *ends, struct buf *hex)
{
	size_t n = 0;

	for (size_t at = 0, end; at < text->len; at = end) {
		end = text->len - at > 1500 ? at + 1500 : text->len;
		while (end < text->len && (text->data[end] & 0xc0) == 0x80)
			end--;
		for (size_t i = at; i < end; i++)
			buf_printf(hex, "%02x", (uint8_t)text->data[i]);
		buf_putc(hex, '\n');
		ends[n++] = end;
	}
	return n;
}

static void check_definition(const char *path)
{
	static size_t ends[512];
	struct buf text = BUF_INIT, hex = BUF_INIT, out = BUF_INIT;
	struct tokens ids = TOKENS_INIT;
	struct tokenizer *t;
	char file[1024];
	int status;

	str_copy(file, sizeof file, test_data(path));
	const char *const argv[] = {"python3", "-B", "tests/unit/bpe_vectors.py", file, NULL};
	const struct proc_opts o = {.argv = argv, .pipe_in = true, .pipe_out = true};
	CHECK_RC(tokenizer_open(file, &t, &e), RC_OK);
	mixed_text(&text, 400000, 5, false, test_data);
	size_t n = cut_text(&text, ends, &hex);
	if (proc_run(&o, hex.data, hex.len, 64 << 20, 100000, &out, &status, &e) || status)
		SKIP("python3 does not run");
	buf_putc(&out, 0);
	if (strncmp(out.data, "14.0.0\n", 7))
		SKIP("python3 has another version of Unicode than the tables");
	char *p = out.data + 7;
	for (size_t i = 0, at = 0; i < n; at = ends[i++]) {
		ids.n = 0;
		CHECK_RC(tokenizer_encode(t, text.data + at, ends[i] - at, 0, &ids, &e), RC_OK);
		for (size_t k = 0; k < ids.n; k++)
			CHECK_EQ(ids.ids[k], strtol(p, &p, 10));
		CHECK_EQ(*p++, '\n');
	}
	printf("# %s: %zu texts\n", path, n);
	buf_release(&text);
	buf_release(&hex);
	buf_release(&out);
	tokens_release(&ids);
	tokenizer_free(t);
}

void test_token_text__mistral_by_definition(void)
{
	check_definition("tokenizers/mistral.tokenizer.json");
}

void test_token_text__llama3_by_definition(void)
{
	check_definition("tokenizers/llama3.tokenizer.json");
}
