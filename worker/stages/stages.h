/* The stages, one function each, listed in worker/stages/table.c. Rows and roles of every stage
 * are described at the head of its file.
 */
#pragma once

#include "base/err.h"

struct stage_ctx;

enum rc stage_import(struct stage_ctx *ctx, struct err *e);
enum rc stage_eft(struct stage_ctx *ctx, struct err *e);
enum rc stage_sft(struct stage_ctx *ctx, struct err *e);
enum rc stage_protegi(struct stage_ctx *ctx, struct err *e);
enum rc stage_prompts(struct stage_ctx *ctx, struct err *e);
enum rc stage_generate(struct stage_ctx *ctx, struct err *e);
enum rc stage_judge(struct stage_ctx *ctx, struct err *e);
enum rc stage_pair(struct stage_ctx *ctx, struct err *e);
/* SPIN (Chen et al. 2024): the answers people wrote against the model's own. Part of `pair`. */
enum rc stage_pair_spin(struct stage_ctx *ctx, struct err *e);
enum rc stage_health(struct stage_ctx *ctx, struct err *e);
enum rc stage_bench(struct stage_ctx *ctx, struct err *e);
enum rc stage_import_bench(struct stage_ctx *ctx, struct err *e); /* part of `import` */
enum rc stage_versus(struct stage_ctx *ctx, struct err *e);
enum rc stage_reference(struct stage_ctx *ctx, struct err *e);
enum rc stage_dpo(struct stage_ctx *ctx, struct err *e);
enum rc stage_eval(struct stage_ctx *ctx, struct err *e);
