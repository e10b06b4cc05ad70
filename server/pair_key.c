#include "server/pair_key.h"

#include "base/jsonx.h"
#include "base/sha256.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

/* The candidate that row.<which> names, or the answer that stands there itself. */
static const json_t *side(const json_t *row, const char *which)
{
	const json_t *at = json_object_get(row, which), *c;
	size_t i;

	if (!json_is_integer(at))
		return at;
	json_array_foreach(json_object_get(row, "candidates"), i, c)
		if (json_equal(json_object_get(c, "index"), at))
			return c;
	return NULL;
}

static const char *text_of(const json_t *v)
{
	return json_is_string(v) ? json_string_value(v) : jx_get_str(v, "text", NULL);
}

bool pair_texts(const json_t *row, const char *texts[3])
{
	texts[0] = jx_get_str(row, "prompt", NULL);
	texts[1] = text_of(side(row, "chosen"));
	texts[2] = text_of(side(row, "rejected"));
	return texts[0] && texts[1] && texts[2];
}

bool pair_key(const json_t *row, char out[PAIR_KEY_SIZE])
{
	const char *texts[3];
	char digest[SHA256_HEX_SIZE];
	uint8_t sum[SHA256_SIZE];
	struct sha256 h;

	if (!pair_texts(row, texts))
		return false;
	sha256_init(&h);
	for (int i = 0; i < 3; i++)
		sha256_add(&h, texts[i], strlen(texts[i]) + 1); /* The NUL keeps them apart. */
	sha256_end(&h, sum);
	sha256_hex(sum, digest);
	str_fmt(out, PAIR_KEY_SIZE, "%.32s", digest);
	return true;
}

uint64_t pair_key_number(const char *key)
{
	char text[17];

	str_fmt(text, sizeof text, "%.16s", key);
	return strtoull(text, NULL, 16);
}

bool pair_key_chosen_first(const char *key)
{
	return strchr("02468ace", key[31]) != NULL;
}
