/* Which job made an artifact: digest -> {digest, run, job, role, kind, stage, iter, size, meta,
 * created_ms, inputs, progress}, kept in Redis beside the queue. A convenience, not a truth: the
 * manifests in the store say the same and `rebuild` writes it again. Also the names of manifest
 * documents.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DOC_PATH_MAX 192
#define KIND_LIST "checkpoint, train_state, dataset, progress"

struct server;

enum rc index_put(struct server *s, const char *digest, const json_t *entry, struct err *e);
/* The entry; when Redis has none, {digest, size, kind, meta} as the archive itself tells. */
enum rc index_get(struct server *s, const char *digest, json_t **entry, struct err *e);
/* One entry per output of a completion manifest. */
enum rc index_manifest(struct server *s, const json_t *manifest, struct err *e);
bool kind_valid(const char *kind);
bool kind_is_weights(const char *kind); /* a model or the state of training one */
/* jobs/<run>/<job>.<fence>.json; fence = the token up to its dot. */
void manifest_path(const char *run, const char *job, const char *token, char out[DOC_PATH_MAX]);
/* Digest of everything a job's output depends on; empty when the stage may not be reused.
 * `claim_job`: stage, iter, shard, pass, params, inputs with digests; engine and code of the
 * worker. */
void reuse_key(const json_t *spec, const json_t *claim_job, const char *engine, const char *code,
	       char out[65]);
void key_path(const char *key, char out[DOC_PATH_MAX]);
