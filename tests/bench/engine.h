/* The parts of bench_engine: each measures one thing of the engine in a process of its own and
 * prints lines "name value" that tests/bench/engine.py reads and sets beside limits and peers.
 *
 * Arguments are words "key=value"; an unknown key is refused. Errors end the process with a
 * sentence on stderr: a bench has no caller to hand them to.
 */
#pragma once

#include "base/err.h"
#include "kernels/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench_args {
	int argc;
	char **argv; /* borrowed */
};

/* Every part looks its keys up here; the value otherwise `otherwise`. */
int bench_int(const struct bench_args *a, const char *key, int otherwise);
const char *bench_str(const struct bench_args *a, const char *key, const char *otherwise);
/* Ends the process when an argument is not one of `keys` (words with a blank between). */
void bench_known(const struct bench_args *a, const char *keys);
/* Comma-separated positive numbers; returns how many (at most max). */
int bench_list(const struct bench_args *a, const char *key, const char *otherwise, int *out,
	       int max);
void bench_check(enum rc rc, const struct err *e);
_Noreturn void bench_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
enum kern_format bench_format(const char *name); /* "f32", "bf16", "q8" */
/* Largest resident size of this process so far, in MiB. */
double bench_peak_mib(void);

/* Three lengths in tokens of a preference pair of a real data set. */
struct bench_lengths {
	int prompt, chosen, rejected;
};
/* Lines "prompt chosen rejected" of a file, '#' begins a comment; *n of them, malloc'd. */
struct bench_lengths *bench_lengths_read(const char *path, int *n);

/* The parts. `pool` is borrowed. */
void bench_model(const struct bench_args *a); /* writes a model directory with random weights */
void bench_decode(const struct bench_args *a, struct kern_pool *pool);
void bench_prefill(const struct bench_args *a, struct kern_pool *pool);
void bench_workload(const struct bench_args *a, struct kern_pool *pool);
void bench_sft(const struct bench_args *a, struct kern_pool *pool);
void bench_dpo(const struct bench_args *a, struct kern_pool *pool);
