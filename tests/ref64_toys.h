/* Small models and small batches for the comparisons with ref64.h: named kinds, and random ones. */
#pragma once

#include "worker/model/model.h"
#include "worker/train/trainer.h"

#include <stddef.h>
#include <stdint.h>

#define TOY_BATCH 12	/* examples, and pairs */
#define TOY_LENGTH 40	/* longest prompt + response */
#define TOY_RESPONSE 17 /* longest response */

struct toy_kind {
	const char *name;
	struct model_config c;
};
/* One of each family and setting; all widths are multiples of 32, so every format holds them. */
extern const struct toy_kind toy_kinds[];
extern const size_t n_toy_kinds;

/* A whole number in [low, high], a function of the seed. */
int toy_int(uint32_t *seed, int low, int high);
/* Any widths, heads, groups, windows and scalings that model_config_check() lets pass. */
struct model_config toy_random_config(uint32_t *seed);
/* Weights of a size that keeps signals near one; no norm is flat, no bias zero. */
struct model *toy_model(const struct model_config *c, uint32_t seed);

struct toy_batch {
	int32_t ids[TOY_BATCH][2 * TOY_LENGTH];
	struct train_example ex[TOY_BATCH];
	struct train_pair pairs[TOY_BATCH];
};
/* Examples have weights 1 and others, one is 0; some pairs have a response of one token. */
void toy_batch_make(struct toy_batch *b, int vocab, uint32_t seed);
