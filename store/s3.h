/* A bucket of an S3-speaking service: signed requests with retries, ranges, multipart, lists.
 *
 *   s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=eu-west-1&style=path
 *
 * endpoint: else AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, else Amazon's of the region; region: else
 * AWS_REGION, AWS_DEFAULT_REGION, else us-east-1; style: "path" (the default with an endpoint of
 * one's own) or "host"; tries (8) and retry_ms (200): how often, and the first pause.
 *
 * Every call is tried again after 429, 5xx, a lost connection or a stall, with full jitter; a clock
 * that is off is put right from the answer's Date. Payloads are signed by their digest, so the
 * service refuses what the wire changed. The ETag of an object is never taken for a hash.
 * Memory is bounded, whatever the size of an object. Thread safe.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define S3_KEY_MAX 1024
#define S3_PART_MIN ((int64_t)5 << 20) /* the service's own bounds */
#define S3_PARTS_MAX 10000
#define S3_PART ((int64_t)64 << 20) /* smaller files go in one piece */
#define S3_OBJECT_MAX ((int64_t)5 << 40)

struct s3;

/* `place`: what follows "s3://". Sends nothing. */
enum rc s3_open(const char *place, struct s3 **out, struct err *e);
void s3_close(struct s3 *s);
/* Parts of this size from now on, S3_PART_MIN or more unless it is a test's own server. */
void s3_set_part(struct s3 *s, int64_t bytes);

/* Keys are below the prefix of the URL. RC_NOTFOUND when absent. */
enum rc s3_head(struct s3 *s, const char *key, int64_t *size, struct err *e);
/* Bytes from `offset`, `len` of them or, with -1, all. sink() gets each byte once and in order,
 * also over broken connections; its non-zero return ends the call with that code. */
struct s3_sink {
	enum rc (*data)(void *ctx, const void *data, size_t len, struct err *e);
	void *ctx;
};
enum rc s3_get(struct s3 *s, const char *key, int64_t offset, int64_t len,
	       const struct s3_sink *sink, struct err *e);
/* An object of that size to a file (created or truncated), in ranges side by side. Not fsynced. */
enum rc s3_get_file(struct s3 *s, const char *key, int64_t size, const char *path, struct err *e);
enum rc s3_get_buf(struct s3 *s, const char *key, size_t max, struct buf *out, struct err *e);

/* create: RC_CONFLICT when there is an object of that name already. */
enum rc s3_put(struct s3 *s, const char *key, const void *data, size_t len, bool create,
	       struct err *e);
/* Whole file, in parts when it is large; `hex` is the digest of all of it. What was sent of an
 * upload that fails is removed again. */
enum rc s3_put_file(struct s3 *s, const char *key, const char *path, int64_t size, const char *hex,
		    bool create, struct err *e);
enum rc s3_delete(struct s3 *s, const char *key, struct err *e); /* Absent is fine. */

/* Every object below `folder` ("" or ending in '/'), in the order of names; with `deep` false
 * what lies deeper is one entry, its name ending in '/'. Names are relative to the folder. */
struct s3_lister {
	enum rc (*entry)(void *ctx, const char *name, int64_t size, int64_t modified_ms,
			 struct err *e);
	void *ctx;
};
enum rc s3_list(struct s3 *s, const char *folder, bool deep, const struct s3_lister *l,
		struct err *e);
