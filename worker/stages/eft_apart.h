/* Judge data, what measures the judge, and instruction data share no prompt: shown here, whatever made
 * them, because a judge that is measured on what it was trained with looks better than it is. Part of `eft`.
 */
#pragma once

#include "base/err.h"
#include "worker/method/judge_template.h"

#include <jansson.h>

struct stage_ctx;

/* train, eval: ranked rows; judge: rows whose prompt is a filled-in template, where it is this one.
 * RC_INVALID names the two rows. Figures eft.apart (rows compared) and eft.apart_unknown (judge rows of
 * another template, whose prompts cannot be told). Without an input "ift" nothing is compared with it. */
enum rc eft_apart(struct stage_ctx *ctx, const struct judge_template *t, const json_t *train,
		  const json_t *judge, const json_t *eval, struct err *e);
