#include "tests/test.h"
#include "worker/method/eft.h"

#include <string.h>

void test_method_eft__order(void)
{
	int rank[] = {0, 1, 2}, loose[] = {0, 1, 1};
	int64_t good[] = {5000, 3000, 1000}, tied[] = {5000, 3000, 3000},
		bad[] = {3000, 3000, 4000};
	bool all[] = {true, true, true}, some[] = {true, false, true};

	CHECK_EQ(eft_order_check(rank, good, all, 3), EFT_AGREES);
	CHECK_EQ(eft_order_check(rank, tied, all, 3), EFT_TIED);
	CHECK_EQ(eft_order_check(loose, tied, all, 3),
		 EFT_AGREES); /* people ordered no pair there */
	CHECK_EQ(eft_order_check(rank, bad, all, 3), EFT_DISAGREES);
	CHECK_EQ(eft_order_check(rank, good, some, 3), EFT_MISSING);
}

void test_method_eft__resampling_caps_the_commonest(void)
{
	int64_t milli[100];
	bool keep[100], again[100];
	struct eft_hist before, after;
	struct rng r;

	for (int i = 0; i < 100; i++)
		milli[i] = i < 70 ? 4000 : i < 90 ? 3000 : 1000;
	rng_open(&r, 1, RNG_EFT, 0, 0, 0);
	CHECK(eft_resample(milli, 100, 1.0, &r, keep, &before, &after));
	CHECK_EQ(before.n, 3);
	CHECK_EQ(before.count[2], 70);
	CHECK_EQ(after.count[2], 20);
	CHECK_EQ(after.count[1], 20);
	CHECK_EQ(after.count[0], 10);
	rng_open(&r, 1, RNG_EFT, 0, 0, 0);
	CHECK(eft_resample(milli, 100, 1.0, &r, again, &before, &after));
	CHECK(memcmp(keep, again, sizeof keep) == 0);
	rng_open(&r, 2, RNG_EFT, 0, 0, 0);
	CHECK(eft_resample(milli, 100, 1.5, &r, again, &before, &after));
	CHECK_EQ(after.count[2], 30);
	CHECK(memcmp(keep, again, sizeof keep) != 0);
}

void test_method_eft__edges(void)
{
	int64_t same[] = {4000, 4000, 4000}, many[EFT_CLASSES_MAX + 1];
	bool keep[EFT_CLASSES_MAX + 1];
	struct eft_hist before, after;
	struct rng r;

	rng_open(&r, 1, RNG_EFT, 0, 0, 0);
	CHECK(eft_resample(same, 3, 1.0, &r, keep, &before, &after));
	CHECK_EQ(after.count[0], 3); /* nothing to balance against */
	CHECK(eft_resample(same, 0, 1.0, &r, keep, &before, &after));
	CHECK_EQ(after.n, 0);
	for (int i = 0; i <= EFT_CLASSES_MAX; i++)
		many[i] = i;
	CHECK(!eft_resample(many, EFT_CLASSES_MAX + 1, 1.0, &r, keep, &before, &after));
}
