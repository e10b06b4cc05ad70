/* Quotas: what the runs of one owner (the name of a token) may use together. The store keeps them
 * (quotas/<owner>.json), Redis goes by them. Knows no request.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>

struct server;

/* Sets `owner`'s quota to `doc`'s `runs`, `running` and `gpu_hours` (0 or absent: no limit). On
 * success the caller frees `*kept`, the document as stored. RC_INVALID: a name or number is out of
 * range. With `match` ("q:<owner>=<revision>") only what that names, else RC_CHANGED. */
enum rc quota_set(struct server *s, const char *owner, const json_t *doc, const char *match, json_t **kept,
		  struct err *e);
/* Tells Redis every quota of the store: after a rebuild. */
enum rc quotas_restore(struct server *s, struct err *e);
/* RC_FULL when `owner` has all open runs the quota grants. Asked before a run's record is written;
 * the submission itself asks once more, in one step with the rest. */
enum rc quota_allows_run(struct server *s, const char *owner, struct err *e);
