/* Whole models on a device beside the CPU's table and beside double precision: steps of training
 * with their losses and gradients, generation with its log-probabilities. Small models of every
 * family; the same programs run on the emulator. */
#pragma once

#include "tests/gpu/gpu.h"
#include "tests/twin.h"

struct whole {
	const struct gpu *g;
	struct twin far, near; /* the device; the CPU in F32 */
	bool tell;	       /* a line for everything, not only for what is too far off */
	int bad;	       /* that were */
};
struct whole whole_open(const struct gpu *g, bool tell);
void whole_close(struct whole *w);

/* The first step's loss and gradient beside the CPU's and the reference's; weights after the last.
 */
void whole_training(struct whole *w, const struct twin_task *task);
/* Every bit of a task that is done twice. */
void whole_repeated(struct whole *w, const struct twin_task *task);
/* Logits, scores and, where nothing is rounded, the very tokens; twice. */
void whole_text(struct whole *w, const struct toy_kind *kind, enum kern_format weights);
/* All of these for every family; returns how many were too far off. */
int whole_all(const struct gpu *g, bool tell);
