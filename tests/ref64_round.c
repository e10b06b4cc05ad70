/* What formats do to a number. */
#include "tests/ref64.h"

#include <math.h>
#include <string.h>

double ref64_bf16(double x)
{
	int power;
	double part = frexp(x, &power); /* in [1/2, 1): eight bits of it stay */

	return ldexp(nearbyint(part * 256), power - 8);
}

/* The largest becomes 127; the scale is a float. */
static void block_q8(double *out, const double *x)
{
	double top = 0, scale;

	for (int i = 0; i < KERN_Q8_BLOCK; i++)
		top = fmax(top, fabs(x[i]));
	scale = (double)(float)(top / 127);
	for (int i = 0; i < KERN_Q8_BLOCK; i++)
		out[i] = scale > 0 ? nearbyint(x[i] / scale) * scale : 0;
}

double ref64_e4m3(double x)
{
	double a = fmin(fabs(x), 448);
	int power;
	double part = frexp(a, &power); /* four bits of it stay */

	a = a < ldexp(1, -6) ? ldexp(nearbyint(ldexp(a, 9)), -9)
			     : ldexp(nearbyint(part * 16), power - 4);
	return copysign(a, x);
}

/* The largest of a row becomes 448. Both scales are floats, and so is a quotient: weights in bfloat16 lie
 * between two numbers too often to leave open which way they go. */
static void row_fp8(double *out, const double *x, int k)
{
	float top = 0, inverse, scale;

	for (int i = 0; i < k; i++)
		top = fmaxf(top, fabsf((float)x[i]));
	scale = top / 448;
	inverse = top > 0 ? 448 / top : 0;
	for (int i = 0; i < k; i++)
		out[i] = ref64_e4m3((double)((float)x[i] * inverse)) * (double)scale;
}

void ref64_round_rows(enum kern_format f, double *out, const double *x, int rows, int k)
{
	size_t n = (size_t)rows * (size_t)k;

	if (f == KERN_F32)
		memcpy(out, x, n * sizeof *out);
	for (size_t i = 0; f == KERN_BF16 && i < n; i++)
		out[i] = ref64_bf16(x[i]);
	for (size_t i = 0; f == KERN_Q8 && i < n; i += KERN_Q8_BLOCK)
		block_q8(out + i, x + i);
	for (int r = 0; f == KERN_FP8 && r < rows; r++)
		row_fp8(out + (size_t)r * (size_t)k, x + (size_t)r * (size_t)k, k);
}
