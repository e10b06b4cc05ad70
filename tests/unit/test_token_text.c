/* Ten megabytes of mixed languages, there and back, for each family of tokenizer. */
#include "tests/mixed_text.h"
#include "tests/test.h"
#include "tests/tiny_tokenizer.h"

#include "base/clk.h"
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
