#include "store/volume.h"

#include "base/str.h"

#include <stdlib.h>

#define ENV "PAWL_VOLUME_BYTES"

void volume_bytes_set(int64_t bytes)
{
	char number[24];

	str_fmt(number, sizeof(number), "%lld", (long long)bytes);
	(void)setenv(ENV, number, 1);
}

int64_t volume_bytes(void)
{
	const char *text = getenv(ENV);
	int64_t n = 0;

	return text && str_to_i64(text, &n) && n > 0 ? n : VOLUME_BYTES;
}

size_t volume_tensor_bytes(void)
{
	return (size_t)(volume_bytes() - volume_bytes() / 64);
}
