/* JSON: what is accepted has one canonical text, and reads back as the same. */
#include "base/jsonx.h"

#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e;
	json_t *v, *again;

	if (jx_parse((const char *)data, size, "fuzz", &v, &e))
		return 0;
	char *text = jx_text(v);
	if (jx_parse(text, strlen(text), "again", &again, &e))
		abort();
	char *second = jx_text(again);
	if (strcmp(text, second))
		abort();
	free(second);
	free(text);
	json_decref(again);
	json_decref(v);
	return 0;
}

void fuzz_seed(struct buf *out)
{
	buf_puts(out, "{\"a\":[1,2.5,-3e-7,true,null,\"x\\u00e9\\n\"],\"b\":{\"c\":\"\xc3\xa9\"},\"d\":{}}");
}
