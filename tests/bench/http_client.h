/* A small blocking HTTP/1.1 client for benches: one connection, one request at a time, Content-Length
 * bodies. Nothing of it is meant for a hostile peer. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_conn {
	int fd; /* -1: not connected */
	int port;
	const char *token; /* borrowed; NULL none */
	char buf[65536];
	bool closing; /* the server said that it will hang up after this answer */
	size_t have; /* bytes of buf that belong to the next answer */
};

void http_conn_init(struct http_conn *c, int port, const char *token);
void http_conn_close(struct http_conn *c);
/* Sends one request (connecting when needed) and reads the head of the answer: its status, or 0 when the
 * server hung up. *length: Content-Length, -1 when there is none. */
int http_ask(struct http_conn *c, const char *method, const char *path, const char *body,
	     int64_t *length);
/* Next bytes of the body, at most `size`; 0 when the peer closed. */
size_t http_body(struct http_conn *c, char *out, size_t size);
/* A whole exchange; the body is read and dropped. Its status, 0 when the connection broke. */
int http_exchange(struct http_conn *c, const char *method, const char *path, const char *body);
