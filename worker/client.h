/* The worker's side of the protocol: one function per question it asks the server. Knows URLs and
 * status codes; holds no job state. Thread safe (handles are per thread in base/fetch).
 *
 * Codes: RC_STALE the token is no longer ours · RC_CONFLICT not in this state · RC_DENIED bad token or
 * role · RC_NOTFOUND unknown
 * worker or blob · RC_INVALID refused for good · RC_UNREACHABLE / RC_TIMEOUT try again later.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client {
	char url[512];   /* server, no trailing slash */
	char token[256]; /* bearer */
	int64_t piece;   /* larger blobs are sent in pieces of so many bytes */
};

/* POST /api/v1/worker/<what>. `body` is consumed. *reply is a new reference, or NULL on 204; `reply`
 * itself may be NULL. */
enum rc client_post(const struct client *c, const char *what, json_t *body, int64_t timeout_ms,
		    json_t **reply, struct err *e);
enum rc client_blob_has(const struct client *c, const char *digest, bool *has, struct err *e);
/* Goes on where an earlier try, also of another process, broke off. */
enum rc client_blob_put(const struct client *c, const char *digest, const char *path,
			struct err *e);
enum rc client_blob_get(const struct client *c, const char *digest, const char *path,
			struct err *e);
/* Appends log bytes at `offset`. RC_CONFLICT when the server has another size: *have tells. */
enum rc client_log(const struct client *c, const char *job, const char *token, int64_t attempt,
		   int64_t offset, const void *data, size_t len, int64_t *have, struct err *e);

/* Waits out attempt `n` (from 0) of a retry: up to min(15 s, 0.25 s * 2^n), half of it jitter. */
int64_t client_backoff_ms(int n);
