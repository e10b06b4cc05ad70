/* Randomness without state to lose: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers:
 * as easy as 1, 2, 3"), a function from (key, counter) to 128 bits.
 *
 * A stream is named by (run seed, stage, iteration, item, sample); its n-th number is a pure
 * function of that name and n. Resuming means naming the stream again and setting `n`.
 */
#pragma once

#include <stdint.h>

/* One stage word each, so that streams of different stages never meet. */
enum rng_stage {
	RNG_INIT = 1, RNG_IMPORT, RNG_EFT, RNG_SFT, RNG_PROMPTS, RNG_GENERATE, RNG_JUDGE,
	RNG_PAIR, RNG_DPO, RNG_EVAL, RNG_DROPOUT, RNG_WORLD, RNG_TEST, RNG_PROTEGI
};

void rng_philox(const uint32_t key[2], const uint32_t ctr[4], uint32_t out[4]);

struct rng {
	uint32_t key[2];  /* from seed, stage, iteration */
	uint32_t item[2]; /* counter words 1..3 hold item (low 32), sample and item (high) */
	uint32_t sample;
	uint64_t n;       /* 32-bit words drawn so far: the whole position; may be set to resume */
	uint64_t block_at; /* which block of four words `block` holds */
	uint32_t block[4];
};

void rng_open(struct rng *r, uint64_t seed, enum rng_stage stage, uint32_t iteration, uint64_t item,
	      uint32_t sample);
uint32_t rng_u32(struct rng *r);
uint64_t rng_u64(struct rng *r);
float rng_unit(struct rng *r);                      /* [0, 1), 24 bits */
double rng_unit64(struct rng *r);                   /* [0, 1), 53 bits */
uint32_t rng_below(struct rng *r, uint32_t bound);  /* unbiased (Lemire); bound > 0 */
float rng_normal(struct rng *r);                    /* Box-Muller, deterministic */
void rng_shuffle(struct rng *r, uint32_t *items, uint32_t n); /* Fisher-Yates */
