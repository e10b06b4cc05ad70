/* Tensor files: every byte of every accepted tensor must be readable. */
#include "store/safetensors.h"

#include "base/mem.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e;
	struct st *s;
	void *copy = mem_new(size + 1); /* aligned, and its end guarded by the sanitizer */
	volatile uint8_t sum = 0;

	if (size)
		memcpy(copy, data, size);
	if (!st_open_mem(copy, size, "fuzz", &s, &e)) {
		for (size_t i = 0; i < st_count(s); i++) {
			const struct st_tensor *t = st_at(s, i);
			const uint8_t *p = t->data;
			if ((size_t)st_elements(t) * st_dtype_size(t->dtype) != t->size_bytes ||
			    st_find(s, t->name) != t)
				abort();
			for (size_t k = 0; k < t->size_bytes; k++)
				sum = (uint8_t)(sum + p[k]);
		}
		st_close(s);
	}
	free(copy);
	return 0;
}

void fuzz_seed(struct buf *out)
{
	static const char header[] =
		"{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],"
		"\"data_offsets\":[0,16]},\"b\":{\"dtype\":\"BF16\",\"shape\":[4],"
		"\"data_offsets\":[16,24]}}     ";
	uint64_t len = (sizeof(header) - 1) / 8 * 8;

	buf_append(out, &len, 8);
	buf_append(out, header, len);
	buf_append(out, "0123456789abcdef01234567", 24);
}
