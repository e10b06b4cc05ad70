/* The files of the demo world, in the formats of real data: a base model directory, human
 * demonstrations (IFT), judge-format rows (EFT), ranked replies (eval, and others beside the EFT rows to
 * improve a judge template on), a pool of prompts, and held-out test instructions. A pure function of
 * seed and sizes: same arguments, same bytes.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

struct world_sizes {
	uint32_t ift, eft, eval, pool, test, ranked;
};

/* Writes DIR/{ift,eft,eval,ranked,prompts,test}.jsonl and DIR/base/. *human_score is the mean true score
 * of the demonstrations, the bar that a self-rewarding model should pass. */
enum rc world_write(const char *dir, uint64_t seed, const struct world_sizes *n, double *human_score,
		    struct err *e);
/* The base model alone: tokenizer.json, config.json, model.safetensors from the seed. */
enum rc world_write_model(const char *dir, uint64_t seed, struct err *e);
