#include "worker/model/dtype.h"

#include "base/check.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

static const struct {
	enum st_dtype t;
	const char *name, *torch;
} types[] = {{ST_F32, "f32", "float32"}, {ST_BF16, "bf16", "bfloat16"}, {ST_F16, "f16", "float16"}};

#define N_TYPES (sizeof types / sizeof types[0])

bool dtype_is_weight(enum st_dtype t)
{
	return t == ST_F32 || t == ST_BF16 || t == ST_F16;
}

bool dtype_named(const char *name, enum st_dtype *out)
{
	for (size_t i = 0; i < N_TYPES; i++)
		if (strcmp(name, types[i].name) == 0 || strcmp(name, types[i].torch) == 0) {
			*out = types[i].t;
			return true;
		}
	return false;
}

const char *dtype_torch_name(enum st_dtype t)
{
	for (size_t i = 0; i < N_TYPES; i++)
		if (types[i].t == t)
			return types[i].torch;
	return "unknown";
}

static uint32_t bits_of(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof u);
	return u;
}

static float of_bits(uint32_t u)
{
	float x;

	memcpy(&x, &u, sizeof x);
	return x;
}

static float from_half(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, frac = h & 1023;

	if (exp == 0)
		return (h & 0x8000 ? -1.0f : 1.0f) * (float)frac * 0x1p-24f;
	return of_bits(sign | (exp == 31 ? 255u << 23 : (exp + 112) << 23) | frac << 13);
}

/* A finite value. Adding half of the last place kept, and one more when that place is odd, rounds
 * to nearest even; a carry out of the fraction raises the exponent, which is right. */
static uint16_t to_bf16(float x)
{
	uint32_t u = bits_of(x);

	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static uint16_t to_half(float x)
{
	uint32_t u = bits_of(x), sign = u >> 16 & 0x8000, mag = u & 0x7fffffff;

	if (mag < 113u << 23) /* Below 2^-14: a multiple of 2^-24, rounded by the addition. */
		return (uint16_t)(sign | (bits_of(of_bits(mag) + 0x1p-1f) - bits_of(0x1p-1f)));
	mag += 0xfff + (mag >> 13 & 1);
	mag = (mag >> 13) - (112u << 10);
	return (uint16_t)(sign | (mag < 0x7c00 ? mag : 0x7c00));
}

void dtype_widen(float *out, const void *in, enum st_dtype t, size_t n)
{
	const uint16_t *half = in;

	ASSERT(dtype_is_weight(t));
	if (t == ST_F32)
		memcpy(out, in, n * sizeof *out);
	else if (t == ST_BF16)
		for (size_t i = 0; i < n; i++)
			out[i] = of_bits((uint32_t)half[i] << 16);
	else
		for (size_t i = 0; i < n; i++)
			out[i] = from_half(half[i]);
}

size_t dtype_narrow(void *out, const float *in, enum st_dtype t, size_t n)
{
	uint16_t *half = out;
	size_t bad = n;

	ASSERT(dtype_is_weight(t));
	if (t == ST_F32)
		memcpy(out, in, n * sizeof *in);
	for (size_t i = n; i-- > 0;) {
		bool ok = isfinite(in[i]);

		if (ok && t == ST_BF16)
			ok = ((half[i] = to_bf16(in[i])) & 0x7f80) != 0x7f80;
		if (ok && t == ST_F16)
			ok = ((half[i] = to_half(in[i])) & 0x7c00) != 0x7c00;
		if (!ok)
			bad = i;
	}
	return bad;
}
