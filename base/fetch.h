/* HTTP client; the one owner of libcurl. Handles are per thread. Unix-domain sockets by
 * `unix_path`. Never follows redirects to another host, never sends a token over one.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fetch_req {
	const char *method;       /* "GET", "POST", ... */
	const char *url;
	const char *token;        /* Bearer, or NULL */
	const char *const *headers; /* extra "K: V", NULL-terminated, or NULL */
	const void *body;         /* NULL for none */
	size_t body_len;
	const char *content_type; /* default application/json when a body is given */
	const char *body_file;    /* instead of body: streamed from disk, read as it is sent */
	int64_t body_offset, body_size; /* the part of body_file to send; size 0: all after offset */
	int stall_s;              /* no byte either way for so long ends it; 0 = 120 */
	int64_t timeout_ms;       /* whole request; 0 = 30 s, -1 = until it stalls */
	size_t resp_max;          /* bound on the collected body; 0 = 64 MiB */
	/* When set the body goes here instead of resp->body; non-zero return aborts. */
	int (*sink)(void *ctx, const void *data, size_t len);
	void *sink_ctx;           /* also for on_header */
	void (*on_header)(void *ctx, const char *line, size_t len); /* each header line, or NULL */
	bool public_only;         /* no address of this machine or of private networks, whatever names say */
	const char *unix_path;    /* connect here instead of the URL's host, or NULL */
};

struct fetch_resp {
	int status;       /* HTTP status */
	struct buf body;  /* owned */
	char etag[96];
	char content_type[96];
	int64_t retry_after_s; /* -1 when absent */
};

/* Whether an address (struct sockaddr of IPv4 or IPv6) is one anybody on the internet may have. */
struct sockaddr;
bool fetch_address_public(const struct sockaddr *a);
/* RC_OK whenever an HTTP answer came, whatever its status; RC_UNREACHABLE / RC_TIMEOUT else. */
enum rc fetch(const struct fetch_req *q, struct fetch_resp *r, struct err *e);
void fetch_resp_release(struct fetch_resp *r);
