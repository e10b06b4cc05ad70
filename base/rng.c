#include "base/rng.h"

#include "base/check.h"

#include <math.h>

#define M0 0xD2511F53u
#define M1 0xCD9E8D57u
#define W0 0x9E3779B9u
#define W1 0xBB67AE85u

void rng_philox(const uint32_t key[2], const uint32_t ctr[4], uint32_t out[4])
{
	uint32_t k0 = key[0], k1 = key[1];
	uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3];

	for (int round = 0; round < 10; round++) {
		uint64_t p0 = (uint64_t)M0 * c0, p1 = (uint64_t)M1 * c2;
		c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
		c1 = (uint32_t)p1;
		c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
		c3 = (uint32_t)p0;
		k0 += W0;
		k1 += W1;
	}
	out[0] = c0;
	out[1] = c1;
	out[2] = c2;
	out[3] = c3;
}

void rng_open(struct rng *r, uint64_t seed, enum rng_stage stage, uint32_t iteration, uint64_t item,
	      uint32_t sample)
{
	const uint32_t seed_key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
	const uint32_t name[4] = {(uint32_t)stage, iteration, 0, 0x6c776170u /* "pawl" */};
	uint32_t key[4];

	rng_philox(seed_key, name, key);
	*r = (struct rng){
		.key = {key[0], key[1]},
		.item = {(uint32_t)item, (uint32_t)(item >> 32)},
		.sample = sample,
		.block_at = UINT64_MAX,
	};
}

uint32_t rng_u32(struct rng *r)
{
	uint64_t at = r->n >> 2;

	if (at != r->block_at) {
		ASSERT(at <= UINT32_MAX);
		const uint32_t ctr[4] = {(uint32_t)at, r->item[0], r->sample, r->item[1]};
		rng_philox(r->key, ctr, r->block);
		r->block_at = at;
	}
	return r->block[r->n++ & 3];
}

uint64_t rng_u64(struct rng *r)
{
	uint64_t lo = rng_u32(r);

	return lo | (uint64_t)rng_u32(r) << 32;
}

float rng_unit(struct rng *r)
{
	return (float)(rng_u32(r) >> 8) * 0x1p-24f;
}

double rng_unit64(struct rng *r)
{
	return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

uint32_t rng_below(struct rng *r, uint32_t bound)
{
	ASSERT(bound > 0);
	uint64_t m = (uint64_t)rng_u32(r) * bound;
	if ((uint32_t)m < bound) {
		uint32_t least = -bound % bound;
		while ((uint32_t)m < least)
			m = (uint64_t)rng_u32(r) * bound;
	}
	return (uint32_t)(m >> 32);
}

float rng_normal(struct rng *r)
{
	double u = ((double)rng_u32(r) + 1.0) * 0x1p-32; /* (0, 1] */
	double v = (double)rng_u32(r) * 0x1p-32;

	return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586476925 * v));
}

void rng_shuffle(struct rng *r, uint32_t *items, uint32_t n)
{
	for (uint32_t i = n; i > 1; i--) {
		uint32_t j = rng_below(r, i);
		uint32_t t = items[i - 1];
		items[i - 1] = items[j];
		items[j] = t;
	}
}
