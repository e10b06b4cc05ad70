/* AWS Signature Version 4: a pure function from a request to the value of its Authorization header.
 * Knows nothing of sockets, clocks or where keys come from. libcurl's own signer is not used: the
 * release of Debian 12 signs parameters without a value ("?uploads") wrongly.
 *
 * Checked against AWS's published vectors (tests/unit/test_sigv4.c).
 */
#pragma once

#include "base/buf.h"
#include "base/sha256.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIGV4_TIME_SIZE 17 /* "20150830T123600Z" */

struct sigv4_pair {
	const char *name, *value; /* not encoded */
};

struct sigv4_req {
	const char *method;
	const char *path;		/* encoded, as it stands in the request line */
	const struct sigv4_pair *query; /* any order */
	size_t n_query;
	const struct sigv4_pair
		*headers; /* every header to be signed: Host and X-Amz-Date among them */
	size_t n_headers;
	const char *payload;	      /* sha256 of the body in hex, or "UNSIGNED-PAYLOAD" */
	const char *region, *service; /* "us-east-1", "s3" */
	const char *time;	      /* SIGV4_TIME_SIZE form, the same as in X-Amz-Date */
	const char *key_id, *secret;
};

/* Unix seconds as "20150830T123600Z". */
void sigv4_time(int64_t s, char out[SIGV4_TIME_SIZE]);
/* Percent-encodes all but A-Z a-z 0-9 - . _ ~, and '/' when asked to keep it. Appends. */
void sigv4_encode(const char *text, bool keep_slash, struct buf *out);
/* The query as signed and to be sent, sorted, without '?'. Appends. */
void sigv4_query(const struct sigv4_pair *query, size_t n, struct buf *out);
/* Appends; `signed_names` gets "host;x-amz-date". */
void sigv4_canonical(const struct sigv4_req *r, struct buf *out, struct buf *signed_names);
/* Value of the Authorization header. Appends. */
void sigv4_authorization(const struct sigv4_req *r, struct buf *out);
