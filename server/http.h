/* One HTTP request and its answer. http.c is the only file that knows CivetWeb.
 *
 * Every request passes the gate before any handler: no Transfer-Encoding, one Content-Length, one
 * Host from the allow-list, no control characters, a free thread left for those who must get
 * through. A handler answers exactly once: req_send(), or req_begin() and req_write()s.
 * Header values may come from outside: the writer drops control characters, so no value can forge
 * a second header.
 */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_ARGS_MAX 4
#define HTTP_BODY_MAX (1u << 20) /* JSON bodies */
#define HTTP_HEADER_MAX 16384	 /* request line and headers; CivetWeb answers 400 beyond */
#define REVISION_MAX 64		 /* of a run, a job or a document: the first half of its ETag */
#define ETAG_MAX 128
#define MATCH_TEXT_MAX 224
#define HTTP_RESERVED_THREADS 8	 /* for beats, completions and health */

struct server;
struct mg_connection;

enum role { ROLE_NONE, ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN, ROLE_WORKER };

struct ident {
	enum role role;
	char id[40]; /* token id, or the session's */
	char name[64];
	bool by_cookie;
};

struct req {
	struct server *srv;	   /* borrowed */
	const char *method, *path; /* path: decoded, dot segments removed */
	const char *query;	   /* raw, "" when absent */
	const char *remote; /* who asks: the peer, or whom a trusted proxy names */
	char id[17];
	struct arena arena; /* lives as long as the request */
	struct ident who;
	const char *args[HTTP_ARGS_MAX]; /* path parameters in pattern order; arena */
	int64_t body_len, body_read;	 /* -1: no Content-Length */
	int status;			 /* 0 until the answer began */
	bool head;			 /* HEAD: the body is not sent */
	bool close, broken;		 /* connection ends after this; the client is gone */
	struct buf headers;		 /* extra header lines, owned */
	struct buf body; /* what req_keep_body read, owned; handlers read it as if it came now */
	bool has_body;	 /* body is the whole of it */
	bool keep_answer;
	char note[120]; /* what the audit log says of it beside method and path, "" nothing */
	int slot; /* of slots.h, counted from 1; 0: none */
	struct buf answer; /* the JSON sent, owned; only with keep_answer */
	bool shared;	   /* the answer may be kept for others (answers.h) */
	long change;	   /* srv->changes before the first look */
	char *probe;	   /* not NULL: nothing is sent, the ETag of a 200 goes here (ETAG_MAX bytes) */
	char revision[REVISION_MAX]; /* of what a reader answers with (reply_revision), "" when it has none */
	char match[MATCH_TEXT_MAX]; /* what If-Match named, as queue_match takes it; "" when nothing */
	void (*ending)(struct req *r, int status); /* called once, before the answer begins */
	struct mg_connection *conn;
	int64_t started_us;
};

struct http;

struct http_opts {
	const char *listen; /* "host:port" or "port" (then loopback) */
	int threads;
	const char *
		allowed_hosts; /* comma list beside loopback, listen host and public_url; "*" any */
	const char *public_url;
	const char *trusted_proxies; /* comma list of addresses whose X-Forwarded-For counts */
	bool (*always)(const char *method,
		       const char *path); /* passes although threads are short */
	void (*handle)(struct req *r);
};

/* "host:port" of `text`, checked: refuses TLS suffixes and junk with a sentence. */
enum rc http_listen_parse(const char *text, char *host, size_t size, int *port, struct err *e);
bool http_is_loopback(const char *host);
enum rc http_start(const struct http_opts *o, struct server *srv, struct http **out, struct err *e);
int http_port(const struct http *h); /* the port really bound */
/* Returns when every handler has ended; set srv->stopping and wake the waiters first. */
void http_stop(struct http *h);
/* Whether `host[:port]` is in the comma list `hosts`; the port never matters. */
bool http_host_allowed(const char *host, const char *hosts);

const char *req_header(const struct req *r, const char *name); /* borrowed; NULL when absent */
const char *req_cookie(struct req *r, const char *name);       /* arena; NULL when absent */
/* Decoded query parameter (arena), NULL when absent. */
const char *req_query(struct req *r, const char *name);
/* Whole numbers with a default and bounds; false after answering 400. */
bool req_query_i64(struct req *r, const char *name, int64_t dflt, int64_t min, int64_t max,
		   int64_t *out);
bool req_query_f64(struct req *r, const char *name, double dflt, double *out);
/* Calls `see` for every parameter name of the query. */
bool req_query_each(struct req *r, bool (*see)(void *ctx, const char *name), void *ctx);
/* Next bytes of the body; 0 at its end, -1 when the client is gone. */
int req_read(struct req *r, void *out, size_t size);
enum rc req_body(struct req *r, size_t size_max, struct buf *out, struct err *e);
/* Reads the body into r->body, for whoever must see it before the handler does. */
enum rc req_keep_body(struct req *r, size_t size_max, struct err *e);

void req_add_header(struct req *r, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void req_send(struct req *r, int status, const char *type, const void *data, size_t len);
/* `len` -1: until the connection closes. Long senders look at srv->stopping themselves. */
void req_begin(struct req *r, int status, const char *type, int64_t len);
bool req_write(struct req *r, const void *data, size_t len); /* false: client gone */
/* The announced length will not come: the connection must not be used again. */
void req_abort(struct req *r);
const char *http_status_text(int status);
