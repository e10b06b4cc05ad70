/* Folders of a job into archives. */
#pragma once

#include "base/err.h"
#include "store/artifact.h"
#include "worker/stage.h"

#include <jansson.h>

/* Folder -> archive at `tar`, volumes beside it when it is large. Consumes `meta`. */
enum rc stage_pack_output(struct stage_ctx *ctx, const char *kind, const char *dir, const char *tar,
			  json_t *meta, struct artifact_ref *ref, struct err *e);
/* {"role","kind","digest","size","path"} and, where there are any, "volumes". */
json_t *stage_packed(const char *role, const char *kind, const char *tar,
		     const struct artifact_ref *ref);
/* A part of a checkpoint -> DIR/<role>.tar, and an entry of `outputs`. What did not change since
 * the checkpoint before is referred to: the part as a whole, or those of its large files. */
enum rc stage_pack_part(struct stage_ctx *ctx, const char *dir, const struct stage_part *part,
			json_t *outputs, struct err *e);
