/* Training data as token ids, and the order in which it is seen.
 *
 * Texts become ids through the chat template; ids that came from generation are used as they are,
 * never re-tokenised. Nothing is cut: what is longer than max_length is left out and counted.
 * The order of an epoch is a Philox shuffle named by (seed, stage, iteration, epoch): step s is a
 * pure function of s, so a resumed job needs no cursor but its step.
 */
#pragma once

#include "base/err.h"
#include "base/rng.h"

#include <jansson.h>
#include <stdint.h>

struct stage_ctx;
struct template;

struct example {
	int32_t *prompt, *response; /* owned; the response ends with its end token */
	int n_prompt, n_response;
};

struct examples {
	struct example *items; /* owned */
	uint32_t n, cap;
	int64_t too_long, tokens;
};

/* Appends rows {"prompt","response"}. */
enum rc examples_add_rows(struct examples *x, const json_t *rows, const struct template *t,
			  int max_length, struct err *e);
/* Appends answers that were generated, as their ids: rows {"prompt_tokens","tokens"}. */
enum rc examples_add_generated(struct examples *x, const json_t *rows, int vocab, int max_length,
			       struct err *e);
void examples_release(struct examples *x);

/* Preference pairs; item 2i is the chosen and 2i + 1 the rejected side of row i. A row with a side
 * that is too long keeps its place with n_response = 0 on both sides, so that steps do not shift. */
enum rc examples_add_pairs(struct examples *x, const json_t *rows, int vocab, int max_length,
			   struct err *e);

/* Which items step `step` sees: positions [from, to) of the shuffled epoch. */
struct order {
	uint64_t seed;
	enum rng_stage stage;
	uint32_t iter, stream; /* streams of one stage: 0 data, 1 replay */
	uint32_t n, batch;
	uint32_t epoch;        /* the one `perm` holds; UINT32_MAX none */
	uint32_t *perm;        /* owned */
};

void order_init(struct order *o, uint64_t seed, enum rng_stage stage, uint32_t iter,
		uint32_t stream, uint32_t n, uint32_t batch);
void order_release(struct order *o);
uint32_t order_steps_per_epoch(const struct order *o);
/* Items of the step, borrowed until the next call; returns how many (at most batch; the last step of
 * an epoch may have fewer). */
uint32_t order_step(struct order *o, int64_t step, const uint32_t **items);
/* Item `i` of the endless stream of epochs. */
uint32_t order_at(struct order *o, uint64_t i);
