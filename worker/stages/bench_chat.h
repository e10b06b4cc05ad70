/* Conversations of a benchmark, as MT-Bench has them: answered turn by turn, greedily or at the temperature
 * of their category, and every turn
 * graded with the templates of MT-Bench (those with references where there are any) by the endpoint of
 * eval.head_to_head when it has one, else by the model itself. Private to bench.c.
 */
#pragma once

#include "base/err.h"
#include "worker/stages/asker.h"

#include <jansson.h>
#include <stdint.h>

struct stage_ctx;
struct textgen;

struct bench_chat {
	struct stage_ctx *ctx; /* borrowed */
	struct textgen *gen;   /* borrowed */
	struct asker asker;
	int max_new;
};

enum rc bench_chat_open(struct bench_chat *c, struct stage_ctx *ctx, struct textgen *gen, int max_new,
			struct err *e);
void bench_chat_close(struct bench_chat *c);
/* Adds "said" and "grades" (null where it could not be read) to `out`. */
enum rc bench_chat_row(struct bench_chat *c, const json_t *row, json_t *out, struct err *e);

struct bench_grades {
	int64_t n[2], ungraded;
	double sum[2];
};
void bench_grades_add(struct bench_grades *g, const json_t *grades);
/* bench.<set>.score (mean over questions and turns), .score_turn_1, .score_turn_2, .ungraded. */
void bench_grades_report(const struct bench_grades *g, struct stage_ctx *ctx, const char *set);
