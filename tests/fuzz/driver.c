/* Runs a fuzz target without libFuzzer: files named on the command line, then `-runs=N` mutations
 * (default 20000) of the target's own seed and of those files, others with each `-dice=N`.
 * `-seed=FILE` writes the seed there, for libFuzzer to start from, and stops.
 */
#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_MAX_BYTES ((size_t)1 << 20)
#define SEEDS_MAX 256

static struct buf seeds[SEEDS_MAX + 1];
static size_t n_seeds;

static const uint32_t telling[] = {0, 1, 0x7f, 0x80, 0xff, '"', '{', '}', '[', ']', ',', ':', '=', '\n',
				   '.', '/', '\\', '0', '9', '-'};

static void mutate(struct rng *r, struct buf *b)
{
	uint32_t n = 1 + rng_below(r, 6);

	while (n-- && b->len) {
		uint32_t at = rng_below(r, (uint32_t)b->len);
		uint32_t span = 1 + rng_below(r, b->len - at < 64 ? (uint32_t)(b->len - at) : 64);
		switch (rng_below(r, 6)) {
		case 0:
			b->data[at] = (char)rng_u32(r);
			break;
		case 1:
			b->data[at] = (char)telling[rng_below(r, sizeof(telling) / sizeof(*telling))];
			break;
		case 2: /* Cut. */
			memmove(b->data + at, b->data + at + span, b->len - at - span);
			b->len -= span;
			break;
		case 3: { /* Repeat. */
			char *copy = mem_strn(b->data + at, span);
			buf_reserve(b, span);
			memmove(b->data + at + span, b->data + at, b->len - at);
			memcpy(b->data + at, copy, span);
			b->len += span;
			free(copy);
			break;
		}
		case 4:
			b->len = at;
			break;
		case 5:
			b->data[at] ^= (char)(1u << rng_below(r, 8));
			break;
		}
		b->data[b->len] = 0;
	}
}

static void add_seed(const char *path)
{
	if (n_seeds < SEEDS_MAX && !fs_read(path, SIZE_MAX_BYTES, &seeds[n_seeds], NULL))
		n_seeds++;
}

static int write_seed(const char *path)
{
	struct buf b = BUF_INIT;

	fuzz_seed(&b);
	enum rc rc = fs_write_durable(path, b.data, b.len, NULL);
	buf_release(&b);
	return rc != RC_OK;
}

int main(int argc, char **argv)
{
	int64_t runs = 20000, dice = 1;
	struct rng r;

	for (int i = 1; i < argc; i++)
		if (str_starts(argv[i], "-runs="))
			(void)str_to_i64(argv[i] + 6, &runs);
		else if (str_starts(argv[i], "-dice="))
			(void)str_to_i64(argv[i] + 6, &dice);
		else if (str_starts(argv[i], "-seed="))
			return write_seed(argv[i] + 6);
		else
			add_seed(argv[i]);
	for (size_t i = 0; i < n_seeds; i++)
		LLVMFuzzerTestOneInput((const uint8_t *)seeds[i].data, seeds[i].len);
	fuzz_seed(&seeds[n_seeds++]);
	rng_open(&r, (uint64_t)dice, RNG_TEST, 0, 0, 0);
	for (int64_t i = 0; i < runs; i++) {
		const struct buf *s = &seeds[rng_below(&r, (uint32_t)n_seeds)];
		struct buf b = BUF_INIT;
		buf_append(&b, s->data, s->len);
		mutate(&r, &b);
		LLVMFuzzerTestOneInput((const uint8_t *)b.data, b.len);
		buf_release(&b);
	}
	for (size_t i = 0; i < n_seeds; i++)
		buf_release(&seeds[i]);
	printf("%lld inputs, nothing found\n", (long long)runs);
	return 0;
}
