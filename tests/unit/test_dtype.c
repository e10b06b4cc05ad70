/* Weight types: every 16-bit pattern both ways, rounding against the two neighbours in double. */
#include "tests/kern_util.h"

#include "worker/model/dtype.h"

/* What the bits of half precision and bfloat16 mean, from their definitions. */
static double value_of(enum st_dtype t, uint16_t h)
{
	int frac_bits = t == ST_F16 ? 10 : 7, bias = t == ST_F16 ? 15 : 127;
	int exp = (h & 0x7fff) >> frac_bits, frac = h & ((1 << frac_bits) - 1);
	double v = exp ? ldexp(1 + ldexp(frac, -frac_bits), exp - bias)
		       : ldexp(frac, 1 - bias - frac_bits);

	return h & 0x8000 ? -v : v;
}

static bool is_finite_half(enum st_dtype t, uint16_t h)
{
	int mask = t == ST_F16 ? 0x7c00 : 0x7f80;

	return (h & mask) != mask;
}

void test_dtype__every_pattern_goes_both_ways(void)
{
	static const enum st_dtype types[] = {ST_F16, ST_BF16};

	for (int k = 0; k < 2; k++)
		for (uint32_t i = 0; i < 65536; i++) {
			uint16_t h = (uint16_t)i, back = 1;
			float x;

			dtype_widen(&x, &h, types[k], 1);
			CHECK(isfinite(x) == is_finite_half(types[k], h));
			if (!isfinite(x)) {
				CHECK_EQ(dtype_narrow(&back, &x, types[k], 1), 0);
				continue;
			}
			CHECK((double)x == value_of(types[k], h));
			CHECK_EQ(dtype_narrow(&back, &x, types[k], 1), 1);
			CHECK_EQ(back, h);
		}
}

/* x lies between h and its neighbours; the nearest wins, and of two equally near the even one. */
static void check_rounding(enum st_dtype t, float x)
{
	uint16_t h = 0, mag;
	double d, up, down;

	if (dtype_narrow(&h, &x, t, 1) == 0) { /* Overflow begins half a step over the largest. */
		double top = t == ST_F16 ? 65520 : ldexp(511, 119);
		CHECK(fabs((double)x) >= top);
		return;
	}
	CHECK(!(h & 0x8000) == !signbit(x));
	mag = h & 0x7fff;
	d = fabs(fabs((double)x) - value_of(t, mag));
	up = fabs(fabs((double)x) - value_of(t, (uint16_t)(mag + 1)));
	down = mag ? fabs(fabs((double)x) - value_of(t, (uint16_t)(mag - 1))) : INFINITY;
	CHECK(d < up || (d == up && !(h & 1)));
	CHECK(d < down || (d == down && !(h & 1)));
}

void test_dtype__rounds_to_nearest_even(void)
{
	static const float hard[] = {
		65504,	     65519.996f, 65520,	   -65520,	 0x1p-14f,	  0x1p-24f,
		0x1p-25f,    0x1.8p-24f, 0x1p-26f, 0x1.002p-14f, 0x1.ffep-15f,	  2049,
		2051,	     -0.0f,	 0,	   3.4e38f,	 0x1.fefffep127f, 0x1.ffp127f,
		1.00390625f, 1.01171875f};
	uint32_t seed = 9;

	for (size_t i = 0; i < sizeof hard / sizeof hard[0]; i++) {
		check_rounding(ST_F16, hard[i]);
		check_rounding(ST_BF16, hard[i]);
	}
	for (int i = 0; i < 200000; i++) {
		float x = ldexpf(number(&seed), (int)(seed >> 16 & 63) - 40);

		check_rounding(ST_F16, x);
		check_rounding(ST_BF16, x);
	}
}

void test_dtype__names_the_first_overflow(void)
{
	float x[] = {1, 65504, 65520, -1e30f, 2}, nan = NAN;
	uint16_t out[5];
	float copy[5];
	enum st_dtype t;

	CHECK_EQ(dtype_narrow(out, x, ST_F16, 5), 2);
	CHECK_EQ(dtype_narrow(out, x, ST_BF16, 5), 5);
	CHECK_EQ(dtype_narrow(copy, x, ST_F32, 5), 5);
	CHECK(memcmp(copy, x, sizeof x) == 0);
	CHECK_EQ(dtype_narrow(copy, &nan, ST_F32, 1), 0);
	CHECK(dtype_named("bf16", &t) && t == ST_BF16);
	CHECK(dtype_named("float16", &t) && t == ST_F16 && !dtype_named("int8", &t));
	CHECK_STR(dtype_torch_name(ST_F32), "float32");
}
