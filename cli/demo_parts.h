/* The parts of `pawl demo`: the run it submits, the truth it reports, the table it prints. */
#pragma once

#include "base/err.h"
#include "cli/world_data.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct demo_plan {
	struct world_sizes sizes;
	int sft_steps, prompts, iterations, dpo_epochs;
	bool baseline; /* also the model of demonstrations alone, to compare with */
	int shard_size, chunk, dpo_shard_steps, save_every_steps;
};

/* full: five minutes, M1 to M3. quick: two minutes, M1 to M2. tiny: seconds, for tests of the
 * machinery; the models learn nothing. */
extern const struct demo_plan demo_full, demo_quick, demo_tiny;

/* The run to submit for a world in `world_dir`; `pawl` is the path of this program, which the
 * evaluation calls as verifiable scorer. New reference. */
json_t *demo_spec(const struct demo_plan *plan, const char *world_dir, const char *pawl, uint64_t seed);

/* `pawl demo score` and `pawl demo compare`: JSON lines in, JSON lines out; see demo_score.c. */
int demo_score_main(FILE *in, FILE *out);
int demo_compare_main(FILE *in, FILE *out);

/* The last object of `pawl demo --json`: models in order, digest, seconds. New reference.
 * `compare` is GET /compare, `run` GET /runs/{id}, `jobs` GET /runs/{id}/jobs. */
json_t *demo_result(const json_t *compare, const json_t *run, const json_t *jobs, double human_score,
		    double seconds);
void demo_print(const json_t *result, FILE *out);
