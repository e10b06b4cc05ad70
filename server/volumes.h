/* The volumes of large artifacts, as the records of outputs name them: "volumes": [{"digest",
 * "size"}], absent where one archive holds all. What keeps them from the garbage is what a worker said, so
 * it is compared with what the archive itself says; of that at most ARTIFACT_ROOT_MAX bytes are read.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

struct server;

/* `output` has a "digest" and maybe "volumes". RC_INVALID: malformed, or not what the archive names;
 * RC_CONFLICT: something is not in the store; the text says which field. */
enum rc volumes_check(struct server *s, const json_t *output, struct err *e);
/* Adds the output's volumes to `digests` as keys, each with a copy of `value` (borrowed). */
void volumes_add(const json_t *output, json_t *digests, const json_t *value);
