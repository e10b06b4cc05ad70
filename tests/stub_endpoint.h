/* An OpenAI-compatible endpoint in a thread of the test: answers what a function says, and misbehaves
 * as told. One connection at a time is enough for what is tested here, so many wait in the backlog.
 */
#pragma once

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "tests/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum stub_trick {
	STUB_ANSWER, STUB_HANG, STUB_429, STUB_500, STUB_CUT, STUB_NO_JSON, STUB_WRONG_JSON, STUB_401,
	STUB_LENGTH
};

struct stub {
	const enum stub_trick *script; /* one a request, the last going on */
	int n_script;
	/* Appends what the model says to the whole user text. */
	void (*say)(const char *user, struct buf *out);
	int fd, port;
	pthread_t thread;
	atomic_int requests, answered;
	char keys[256][80]; /* Idempotency-Key of each request */
	char auth[128];     /* of the last */
	atomic_bool stop;
	int held[64], n_held;
};

static inline bool stub_read(int fd, struct buf *in, const char **body)
{
	char block[65536];
	size_t want = 0;

	for (;;) {
		const char *end = in->len ? strstr(in->data, "\r\n\r\n") : NULL;
		if (end) {
			const char *len = strcasestr(in->data, "\r\nContent-Length:");
			want = len ? (size_t)strtoul(len + 17, NULL, 10) : 0;
			if (in->len >= (size_t)(end + 4 - in->data) + want) {
				*body = end + 4;
				return true;
			}
		}
		ssize_t got = read(fd, block, sizeof block);
		if (got <= 0)
			return false;
		buf_append(in, block, (size_t)got);
	}
}

static inline void stub_header(const char *in, const char *name, char *out, size_t size)
{
	const char *at = strcasestr(in, name);

	out[0] = 0;
	if (at) {
		at += strlen(name);
		at += strspn(at, " ");
		str_fmt(out, size, "%.*s", (int)strcspn(at, "\r"), at);
	}
}

static inline void stub_send(int fd, int status, const char *extra, const char *body, size_t cut)
{
	struct buf b = BUF_INIT;

	buf_printf(&b, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n"
		   "Connection: close\r\n\r\n", status, extra, strlen(body));
	buf_append(&b, body, strlen(body) - cut);
	for (size_t at = 0; at < b.len;) {
		ssize_t n = send(fd, b.data + at, b.len - at, MSG_NOSIGNAL);
		if (n <= 0)
			break;
		at += (size_t)n;
	}
	buf_release(&b);
}

static inline void stub_good(struct stub *s, int fd, const char *body, enum stub_trick trick)
{
	json_t *q = json_loads(body, 0, NULL), *list = json_object_get(q, "messages"), *out;
	const char *user = jx_get_str(json_array_get(list, json_array_size(list) - 1), "content", "");
	struct buf text = BUF_INIT;

	s->say(user, &text);
	out = json_pack("{s:[{s:{s:s}, s:s}], s:{s:i, s:i}}", "choices", "message", "content",
			text.data ? text.data : "", "finish_reason",
			trick == STUB_LENGTH ? "length" : "stop", "usage", "prompt_tokens", 100,
			"completion_tokens", 7);
	char *reply = jx_text(out);
	stub_send(fd, 200, "", reply, trick == STUB_CUT ? strlen(reply) / 2 : 0);
	free(reply);
	json_decref(out);
	json_decref(q);
	buf_release(&text);
}

static inline void stub_one(struct stub *s, int fd)
{
	struct buf in = BUF_INIT;
	const char *body;

	if (stub_read(fd, &in, &body)) {
		int i = atomic_fetch_add(&s->requests, 1);
		enum stub_trick t = s->script[i < s->n_script ? i : s->n_script - 1];

		stub_header(in.data, "Idempotency-Key:", s->keys[i % 256], sizeof s->keys[0]);
		stub_header(in.data, "Authorization:", s->auth, sizeof s->auth);
		if (t == STUB_ANSWER || t == STUB_CUT || t == STUB_LENGTH)
			stub_good(s, fd, body, t);
		else if (t == STUB_429)
			stub_send(fd, 429, "Retry-After: 1\r\n", "{\"error\":\"slow down\"}", 0);
		else if (t == STUB_500)
			stub_send(fd, 500, "", "{\"error\":\"oops\"}", 0);
		else if (t == STUB_401)
			stub_send(fd, 401, "", "{\"error\":\"bad key\"}", 0);
		else if (t == STUB_NO_JSON)
			stub_send(fd, 200, "", "<html>not json</html>", 0);
		else if (t == STUB_WRONG_JSON)
			stub_send(fd, 200, "", "{\"choices\":[{\"message\":{\"content\":7}}]}", 0);
		else if (s->n_held < 64) { /* STUB_HANG: the caller gives up first. */
			s->held[s->n_held++] = fd;
			fd = -1;
		}
		atomic_fetch_add(&s->answered, t == STUB_ANSWER || t == STUB_LENGTH);
	}
	if (fd >= 0)
		close(fd);
	buf_release(&in);
}

static inline void *stub_loop(void *arg)
{
	struct stub *s = arg;

	for (;;) {
		int fd = accept(s->fd, NULL, NULL);
		if (atomic_load(&s->stop) || fd < 0)
			return NULL;
		stub_one(s, fd);
	}
}

static inline void stub_start(struct stub *s)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;

	s->fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(bind(s->fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(s->fd, 128) == 0);
	CHECK(getsockname(s->fd, (struct sockaddr *)&a, &len) == 0);
	s->port = ntohs(a.sin_port);
	CHECK(pthread_create(&s->thread, NULL, stub_loop, s) == 0);
}

static inline void stub_stop(struct stub *s)
{
	atomic_store(&s->stop, true);
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	for (int i = 0; i < s->n_held; i++)
		close(s->held[i]);
	close(s->fd);
}
