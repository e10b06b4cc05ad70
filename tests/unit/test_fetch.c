#include "base/fetch.h"

#include "base/fs.h"
#include "base/str.h"

#include "tests/test.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Answers each connection with one canned text and keeps what it was asked. */
static struct {
	int fd;
	const char *answer; /* NULL: never answers */
	char asked[8192];
	size_t want; /* bytes of request body to read */
} srv;

static void *serve(void *arg)
{
	(void)arg;
	for (;;) {
		int c = accept(srv.fd, NULL, NULL);
		size_t len = 0;
		if (c < 0)
			return NULL;
		while (len < sizeof(srv.asked) - 1) {
			ssize_t n = read(c, srv.asked + len, sizeof(srv.asked) - 1 - len);
			if (n <= 0)
				break;
			len += (size_t)n;
			srv.asked[len] = 0;
			char *end = strstr(srv.asked, "\r\n\r\n");
			if (end && len >= (size_t)(end + 4 - srv.asked) + srv.want)
				break;
		}
		if (srv.answer) {
			(void)!write(c, srv.answer, strlen(srv.answer));
			close(c);
		}
	}
}

static const char *start(const char *answer)
{
	static char url[64];
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	pthread_t t;

	srv.answer = answer;
	srv.fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(!bind(srv.fd, (struct sockaddr *)&a, len) && !listen(srv.fd, 8));
	CHECK(!getsockname(srv.fd, (struct sockaddr *)&a, &len));
	CHECK(!pthread_create(&t, NULL, serve, NULL));
	str_fmt(url, sizeof(url), "http://127.0.0.1:%d/x", ntohs(a.sin_port));
	return url;
}

void test_fetch__answer_with_headers(void)
{
	struct err e;
	struct fetch_resp r;
	struct fetch_req q = {.method = "GET", .token = "secret"};

	setenv("http_proxy", "http://127.0.0.1:1", 1); /* Loopback goes around it. */
	q.url = start("HTTP/1.1 429 Slow\r\nETag: \"abc\"\r\nContent-Type: text/plain\r\n"
		      "retry-after: 7\r\nContent-Length: 5\r\n\r\nhello");
	CHECK_RC(fetch(&q, &r, &e), RC_OK);
	CHECK_EQ(r.status, 429);
	CHECK_STR(r.body.data, "hello");
	CHECK_STR(r.etag, "\"abc\"");
	CHECK_STR(r.content_type, "text/plain");
	CHECK_EQ(r.retry_after_s, 7);
	CHECK(strstr(srv.asked, "Authorization: Bearer secret\r\n"));
	fetch_resp_release(&r);
}

void test_fetch__redirects_are_not_followed(void)
{
	struct err e;
	struct fetch_resp r;
	struct fetch_req q = {.method = "GET", .token = "secret"};

	q.url = start("HTTP/1.1 302 Go\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n");
	CHECK_RC(fetch(&q, &r, &e), RC_OK);
	CHECK_EQ(r.status, 302);
	CHECK_EQ(r.retry_after_s, -1);
	fetch_resp_release(&r);
}

void test_fetch__body_and_file_body(void)
{
	struct err e;
	struct fetch_resp r;
	char path[PATH_MAX];
	struct fetch_req q = {.method = "POST", .body = "{\"a\":1}", .body_len = 7};

	srv.want = 7;
	q.url = start("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	CHECK_RC(fetch(&q, &r, &e), RC_OK);
	CHECK(str_starts(srv.asked, "POST /x HTTP/1.1\r\n"));
	CHECK(strstr(srv.asked, "Content-Type: application/json\r\n"));
	CHECK(str_ends(srv.asked, "\r\n\r\n{\"a\":1}"));
	fetch_resp_release(&r);
	str_fmt(path, sizeof(path), "%s/f", test_tmpdir());
	CHECK_RC(fs_write_durable(path, "filedata", 8, &e), RC_OK);
	srv.want = 8;
	q = (struct fetch_req){.method = "PUT", .url = q.url, .body_file = path,
			       .content_type = "application/x-tar"};
	CHECK_RC(fetch(&q, &r, &e), RC_OK);
	CHECK(str_starts(srv.asked, "PUT /x HTTP/1.1\r\n"));
	CHECK(strstr(srv.asked, "Content-Length: 8\r\n"));
	CHECK(str_ends(srv.asked, "\r\n\r\nfiledata"));
	fetch_resp_release(&r);
}

static int refuse(void *ctx, const void *data, size_t len)
{
	(void)data;
	*(size_t *)ctx += len;
	return 1;
}

void test_fetch__bounds(void)
{
	struct err e;
	struct fetch_resp r;
	size_t seen = 0;
	struct fetch_req q = {.method = "GET", .resp_max = 4};

	q.url = start("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
	CHECK_RC(fetch(&q, &r, &e), RC_INVALID);
	CHECK(strstr(e.text, "larger than 4 bytes"));
	fetch_resp_release(&r);
	q.sink = refuse;
	q.sink_ctx = &seen;
	CHECK_RC(fetch(&q, &r, &e), RC_CANCELLED);
	CHECK_EQ(seen, 5);
	fetch_resp_release(&r);
}

void test_fetch__time_out_and_unreachable(void)
{
	struct err e;
	struct fetch_resp r;
	struct fetch_req q = {.method = "GET", .timeout_ms = 200};

	q.url = start(NULL);
	CHECK_RC(fetch(&q, &r, &e), RC_TIMEOUT);
	fetch_resp_release(&r);
	q.url = "http://127.0.0.1:1/";
	CHECK_RC(fetch(&q, &r, &e), RC_UNREACHABLE);
	fetch_resp_release(&r);
	q.url = "file:///etc/passwd";
	CHECK_RC(fetch(&q, &r, &e), RC_INVALID);
	fetch_resp_release(&r);
}
