/* Judge training data (EFT) from human-ranked replies: which generated judgements may be learned
 * from, and how many of each score.
 *
 * Humans gave an order, never a number. A prompt's judgements are kept when the generated scores
 * are in strict agreement with that order on every pair humans ordered. Scores come out heavily on
 * one value; resampling caps every value at `factor` times the second most frequent.
 */
#pragma once

#include "base/rng.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EFT_CLASSES_MAX 64

enum eft_order {
	EFT_AGREES,
	EFT_DISAGREES, /* some pair the other way round */
	EFT_TIED,      /* some ordered pair with equal scores, none reversed */
	EFT_MISSING    /* some reply without a score */
};
const char *eft_order_text(enum eft_order o);

/* rank 0 is best; equal ranks are not ordered. `valid[i]` false: no score. */
enum eft_order eft_order_check(const int *rank, const int64_t *milli, const bool *valid, int n);

struct eft_hist {
	int64_t milli[EFT_CLASSES_MAX]; /* ascending */
	int64_t count[EFT_CLASSES_MAX];
	int n;
};
/* False when there are more than EFT_CLASSES_MAX different scores. keep NULL: all. */
bool eft_hist_of(const int64_t *milli, const bool *keep, size_t n, struct eft_hist *h);

/* Marks what stays: per class a random choice of `cap` items, drawn from `r` in order of items.
 * factor > 0. A single class is left alone. False as above. */
bool eft_resample(const int64_t *milli, size_t n, double factor, struct rng *r, bool *keep,
		  struct eft_hist *before, struct eft_hist *after);
