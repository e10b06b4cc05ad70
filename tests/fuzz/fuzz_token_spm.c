/* SentencePiece models: refused with a sentence, or a tokenizer that keeps its promises. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/token_use.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tokenizer *t;
	struct err e;

	if (!tokenizer_parse_spm(data, size, "fuzz", &t, &e))
		use_tokenizer(t);
	return 0;
}

void fuzz_seed(struct buf *out)
{
	tiny_fallback_spm_bytes(out);
}
