#include "tests/bench/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

void http_conn_init(struct http_conn *c, int port, const char *token)
{
	c->fd = -1;
	c->port = port;
	c->token = token;
	c->have = 0;
}

void http_conn_close(struct http_conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->have = 0;
}

static bool connect_to(struct http_conn *c)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)c->port)};
	struct timeval limit = {.tv_sec = 60};
	int one = 1;

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	if (connect(c->fd, (struct sockaddr *)&at, sizeof at) == 0)
		return true;
	http_conn_close(c);
	return false;
}

/* Reads until the head is whole; its length with the empty line, 0 when the peer closed. */
static size_t read_head(struct http_conn *c)
{
	for (;;) {
		const char *end = c->have ? memmem(c->buf, c->have, "\r\n\r\n", 4) : NULL;
		ssize_t n;

		if (end)
			return (size_t)(end - c->buf) + 4;
		if (c->have + 1 >= sizeof c->buf)
			return 0;
		n = recv(c->fd, c->buf + c->have, sizeof c->buf - 1 - c->have, 0);
		if (n <= 0)
			return 0;
		c->have += (size_t)n;
	}
}

int http_ask(struct http_conn *c, const char *method, const char *path, const char *body,
	     int64_t *length)
{
	char head[2048];
	const char *at;
	size_t n;
	int len, status;

	*length = -1;
	if (c->fd < 0 && !connect_to(c))
		return 0;
	len = snprintf(head, sizeof head,
		       "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s%s%s%sContent-Length: %zu\r\n\r\n%s",
		       method, path, c->token ? "Authorization: Bearer " : "",
		       c->token ? c->token : "", c->token ? "\r\n" : "",
		       body ? "Content-Type: application/json\r\n" : "", body ? strlen(body) : 0,
		       body ? body : "");
	if (len >= (int)sizeof head || send(c->fd, head, (size_t)len, MSG_NOSIGNAL) != len ||
	    !(n = read_head(c))) {
		http_conn_close(c);
		return 0;
	}
	c->buf[n - 1] = 0;
	status = c->have > 12 ? (int)strtol(c->buf + 9, NULL, 10) : 0;
	c->closing = strcasestr(c->buf, "\nConnection: close") != NULL;
	at = strcasestr(c->buf, "\nContent-Length:");
	if (at)
		*length = strtoll(at + 16, NULL, 10);
	memmove(c->buf, c->buf + n, c->have - n);
	c->have -= n;
	return status;
}

size_t http_body(struct http_conn *c, char *out, size_t size)
{
	ssize_t n;

	if (c->have) {
		n = (ssize_t)(c->have < size ? c->have : size);
		memcpy(out, c->buf, (size_t)n);
		memmove(c->buf, c->buf + n, c->have - (size_t)n);
		c->have -= (size_t)n;
		return (size_t)n;
	}
	n = recv(c->fd, out, size, 0);
	return n > 0 ? (size_t)n : 0;
}

int http_exchange(struct http_conn *c, const char *method, const char *path, const char *body)
{
	char drop[65536];
	int64_t left;
	int status = http_ask(c, method, path, body, &left);

	while (status && left > 0) {
		size_t n = http_body(c, drop, left < (int64_t)sizeof drop ? (size_t)left : sizeof drop);

		if (!n) {
			status = 0;
			break;
		}
		left -= (int64_t)n;
	}
	if (!status || left < 0 || c->closing)
		http_conn_close(c);
	return status;
}
