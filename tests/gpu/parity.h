/* Every operation of a table beside the CPU's on the same numbers: random, none of them zero, all of
 * them bfloat16, so that both begin alike; outputs begin as what is not a number. */
#pragma once

#include "tests/gpu/gpu.h"

/* Runs all operations at sizes that fit no tile and at some that do. Prints a line for each that is
 * further off than its bound, `all` for the others too; returns how many are. */
int gpu_parity(const struct gpu *g, const struct gpu *cpu, bool all);
