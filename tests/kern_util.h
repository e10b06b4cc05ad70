/* What the kernel tests share: back ends by name, guarded buffers, repeatable numbers. */
#pragma once

#include "kernels/kernels.h"
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GUARD_WORDS 64
#define GUARD_BITS 0x7fa5c3e1u /* a NaN no operation makes */

static const char *const backend_names[] = {"plain", "avx2", "avx512", "avx512bf16"};

#define EACH_BACKEND(k)                                                                            \
	for (size_t b_ = 0; b_ < 4; b_++)                                                          \
		for (const struct kern *k = kern_cpu_named(backend_names[b_]); k; k = NULL)

static inline float *guarded(size_t n)
{
	float *p = malloc((n + 2 * GUARD_WORDS) * sizeof *p);
	const uint32_t bits = GUARD_BITS;

	CHECK(p);
	for (size_t i = 0; i < n + 2 * GUARD_WORDS; i++)
		memcpy(p + i, &bits, sizeof bits);
	return p + GUARD_WORDS;
}

static inline void check_guard(float *p, size_t n)
{
	const uint32_t bits = GUARD_BITS;

	for (int i = 0; i < GUARD_WORDS; i++) {
		CHECK(memcmp(p - 1 - i, &bits, sizeof bits) == 0);
		CHECK(memcmp(p + n + i, &bits, sizeof bits) == 0);
	}
}

static inline void guarded_free(float *p)
{
	free(p - GUARD_WORDS);
}

/* Uniform in [-1, 1), a function of the seed. */
static inline float number(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (float)(*seed >> 8) / 8388608.0f - 1.0f;
}

/* Ids of words, all of them but the first three. */
static inline void fill_ids(int32_t *ids, int n, int vocab)
{
	uint32_t seed = 99;

	for (int i = 0; i < n; i++)
		ids[i] = 3 + (int32_t)((number(&seed) + 1) * 0.4999f * (float)(vocab - 3));
}

static inline float *numbers(size_t n, uint32_t seed)
{
	float *p = guarded(n);

	for (size_t i = 0; i < n; i++)
		p[i] = number(&seed);
	return p;
}

static inline float *copy_of(const float *x, size_t n)
{
	float *p = guarded(n);

	memcpy(p, x, n * sizeof *p);
	return p;
}

static inline void check_same(const float *a, const float *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(a + i, b + i, sizeof *a) != 0) {
			printf("# element %zu: %.9g and %.9g\n", i, (double)a[i], (double)b[i]);
			test_fail(__FILE__, __LINE__, "results differ in their bits");
		}
}

static inline void check_close(const float *got, const double *want, size_t n, double tol)
{
	for (size_t i = 0; i < n; i++)
		if (!(fabs((double)got[i] - want[i]) <= tol * (1 + fabs(want[i])))) {
			printf("# element %zu: got %.9g, expected %.9g\n", i, (double)got[i],
			       want[i]);
			test_fail(__FILE__, __LINE__, "result too far from double precision");
		}
}

/* Packed weights, guarded and 64-byte aligned. */
struct slab {
	float *p;
	size_t words;
};

static inline struct slab slab_new(const struct kern *k, enum kern_format f, int n, int kk)
{
	struct slab s = {.words = k->pack_size(f, n, kk) / sizeof(float)};
	const uint32_t bits = GUARD_BITS;
	float *all = aligned_alloc(64, (s.words + 2 * GUARD_WORDS) * sizeof *all);

	CHECK(all);
	CHECK_EQ(k->pack_size(f, n, kk) % 64, 0);
	s.p = all + GUARD_WORDS;
	memset(s.p, 0, s.words * sizeof *s.p);
	for (int i = 0; i < GUARD_WORDS; i++) {
		memcpy(all + i, &bits, sizeof bits);
		memcpy(s.p + s.words + i, &bits, sizeof bits);
	}
	return s;
}

static inline void slab_free(struct slab s)
{
	check_guard(s.p, s.words);
	free(s.p - GUARD_WORDS);
}

static inline struct slab slab_packed(const struct kern *k, struct kern_pool *pool,
				      enum kern_format f, const float *w, int ldw, int n, int kk)
{
	struct slab s = slab_new(k, f, n, kk);

	k->pack(pool, f, s.p, n, kk, w, ldw, 0, n);
	return s;
}
