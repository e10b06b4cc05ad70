/* One request to S3, for the files of the client alone (s3*.c). */
#pragma once

#include "store/s3.h"
#include "store/sigv4.h"

#define S3_QUERY_MAX 8
#define S3_HEADERS_MAX 4
#define S3_ANSWER_MAX ((size_t)16 << 20)

struct s3_call {
	const char *method, *key; /* key "": the bucket itself */
	struct sigv4_pair query[S3_QUERY_MAX];
	size_t n_query;
	struct sigv4_pair headers[S3_HEADERS_MAX]; /* beside host, date, payload and token */
	size_t n_headers;
	const void *body;
	size_t body_len;
	const char *file; /* instead of body */
	int64_t file_offset, file_size;
	const char *payload;	    /* digest of the body; NULL: made from `body` */
	const struct s3_sink *sink; /* of a GET; offset is where the range began */
	int64_t offset, len, got;   /* got: bytes the sink has had */
	/* answer */
	int status;
	int64_t size; /* Content-Length, -1 when absent */
	char etag[96];
	char code[64];	   /* S3's word for the error, "" when none */
	struct buf answer; /* body, unless it went to the sink */
};

/* Sends, tries again, and turns what is left of an error into a sentence. The caller releases
 * `answer` whatever is returned. */
enum rc s3_send(struct s3 *s, struct s3_call *c, struct err *e);
int64_t s3_part(const struct s3 *s);
const char *s3_prefix(const struct s3 *s);
