/* What this machine can do in this minute: the figures every bench prints beside its own.
 *
 * Knows nothing of the engine but its threads. Each probe runs on all threads of the pool and takes
 * the best of several short runs, so a neighbour's burst lowers it less than an average would.
 */
#pragma once

#include "kernels/kernels.h"

struct limits {
	double f32;  /* GFLOP/s of fused multiply-add in registers */
	double bf16; /* of vdpbf16ps; 0: the processor has none, f32 is the limit */
	double int8; /* GOP/s of vpdpbusd; 0: none */
	double dram; /* GB/s read from a set no cache holds, huge pages advised */
	double l3;   /* GB/s read from three quarters of the last-level cache */
	double l3_bytes;
};

/* About `seconds` per probe. */
struct limits limits_measure(struct kern_pool *pool, double seconds);
/* Best GB/s of all threads, each reading its own part of `size` bytes again and again. */
double limits_read(struct kern_pool *pool, size_t size, double seconds);
/* GFLOP/s (GOP/s) of multiply-add in a format's registers; that of floats where it has none. */
double limits_arith(struct kern_pool *pool, enum kern_format f, double seconds);

#define PROBE_S 0.03 /* of a probe beside every repetition */

/* A figure and the limit of its own moment, probed right before it and behind it: on a machine whose
 * speed moves with its neighbours' work the two belong together. */
struct beside {
	double rate, limit;
};
/* Keeps the better rate with the larger of its two limits. */
void beside_keep(struct beside *b, double rate, double before, double after);

/* One line per quantity on stdout: "f32 234.0". */
void limits_print(const struct limits *l);

double bench_now_s(void);
