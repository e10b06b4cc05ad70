/* What any tokenizer that was accepted must withstand. */
#pragma once

#include "base/check.h"
#include "tests/tiny_tokenizer.h"

#include <stdlib.h>

static void use_tokenizer(struct tokenizer *t)
{
	static const char text[] = "hi hi  hello\r\n world's 12345 <s></s><|eot|> "
				   "\xe4\xbd\xa0\xf0\x9f\x98\x80 \xff\xfe\xe2\x96"
				   "\xe2\x96\x81hihihihi\t\x7f a";
	struct tokens ids = TOKENS_INIT;
	struct buf out = BUF_INIT;
	struct token_stream s;
	size_t len;

	for (int flags = 0; flags < 8; flags++) {
		ids.n = 0;
		buf_clear(&out);
		if (tokenizer_encode(t, text, sizeof(text) - 1, flags, &ids, NULL))
			continue;
		token_stream_begin(&s, t, flags);
		for (size_t i = 0; i < ids.n; i++) {
			ASSERT(ids.ids[i] >= 0 && ids.ids[i] < tokenizer_vocab(t));
			ASSERT((flags & TOKEN_SPECIALS) || ids.ids[i] == tokenizer_unk(t) ||
			       !tokenizer_is_special(t, ids.ids[i]));
			token_stream_push(&s, ids.ids[i], &out);
		}
		token_stream_end(&s, &out);
		ASSERT(utf8_valid(out.data ? out.data : "", out.len));
		tokenizer_decode(t, ids.ids, ids.n, flags, &out);
	}
	for (int id = -1; id <= tokenizer_vocab(t) && id < 600; id++) {
		tokenizer_piece(t, id, &len);
		tokenizer_decode_text(t, &id, 1, 0, &out);
	}
	tokens_release(&ids);
	buf_release(&out);
	tokenizer_free(t);
}
