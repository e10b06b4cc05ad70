#include "base/rng.h"

#include "tests/test.h"

#include <math.h>
#include <string.h>

/* Random123 kat_vectors, philox4x32 with 10 rounds: counter, key, result. */
void test_rng__philox_matches_random123(void)
{
	static const uint32_t v[][10] = {
		{0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
		{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
		 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
		 0x94fdcceb, 0x5001e420, 0x24126ea1},
	};

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		uint32_t out[4];
		rng_philox(v[i] + 4, v[i], out);
		for (int k = 0; k < 4; k++)
			CHECK_EQ(out[k], v[i][6 + k]);
	}
}

void test_rng__position_is_the_whole_state(void)
{
	struct rng a, b;

	rng_open(&a, 42, RNG_GENERATE, 3, 17, 2);
	for (int i = 0; i < 101; i++)
		rng_u32(&a);
	rng_open(&b, 42, RNG_GENERATE, 3, 17, 2);
	b.n = 101;
	for (int i = 0; i < 20; i++)
		CHECK_EQ(rng_u32(&a), rng_u32(&b));
}

void test_rng__every_part_of_the_name_counts(void)
{
	struct rng r[7];

	rng_open(&r[0], 1, RNG_JUDGE, 1, 1, 1);
	rng_open(&r[1], 2, RNG_JUDGE, 1, 1, 1);
	rng_open(&r[2], 1, RNG_PAIR, 1, 1, 1);
	rng_open(&r[3], 1, RNG_JUDGE, 2, 1, 1);
	rng_open(&r[4], 1, RNG_JUDGE, 1, 2, 1);
	rng_open(&r[5], 1, RNG_JUDGE, 1, 1, 2);
	rng_open(&r[6], 1, RNG_JUDGE, 1, 1 + (1ull << 32), 1);
	for (int i = 0; i < 7; i++)
		for (int k = i + 1; k < 7; k++) {
			struct rng a = r[i], b = r[k];
			CHECK(rng_u64(&a) != rng_u64(&b));
		}
}

void test_rng__ranges_and_moments(void)
{
	struct rng r;
	double sum = 0, sq = 0;
	int hist[7] = {0};

	rng_open(&r, 7, RNG_TEST, 0, 0, 0);
	for (int i = 0; i < 70000; i++) {
		float u = rng_unit(&r);
		double d = rng_unit64(&r), x = rng_normal(&r);
		CHECK(u >= 0 && u < 1 && d >= 0 && d < 1);
		sum += x;
		sq += x * x;
		hist[rng_below(&r, 7)]++;
	}
	CHECK_NEAR(sum / 70000, 0, 0.02);
	CHECK_NEAR(sq / 70000, 1, 0.03);
	for (int i = 0; i < 7; i++)
		CHECK_NEAR(hist[i], 10000, 500);
}

void test_rng__shuffle_is_a_permutation(void)
{
	uint32_t items[100];
	char seen[100] = {0};
	struct rng r;

	for (uint32_t i = 0; i < 100; i++)
		items[i] = i;
	rng_open(&r, 7, RNG_TEST, 0, 0, 0);
	rng_shuffle(&r, items, 100);
	int moved = 0;
	for (uint32_t i = 0; i < 100; i++) {
		CHECK(!seen[items[i]]);
		seen[items[i]] = 1;
		moved += items[i] != i;
	}
	CHECK(moved > 80);
}
