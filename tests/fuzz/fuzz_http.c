/* Raw bytes on a connection to a whole server in this process: CivetWeb, gate, routes, handlers, a Redis and
 * a store of its own. Without login, so that every handler can be reached. No answer may be 500, and
 * every connection must end. Skips where there is no redis-server. */
#include "base/clk.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "server/auth.h"
#include "server/events.h"
#include "server/reconcile.h"
#include "server/route.h"
#include "server/server.h"
#include "store/store.h"
#include "tests/fuzz/fuzz.h"
#include "tests/redis_fixture.h"
#include "tests/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MS 3000 /* of a loaded machine; streams are cut after QUIET_MS */
#define QUIET_MS 100

static struct server srv = {
	.no_auth = true, .threads = 64, .max_sse = 4, .lease_ms = 45000, .beat_ms = 10000};
static struct redis_fixture redis = {.pid = -1};
static struct http *http;

void test_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}

void test_rc(const char *file, int line, const char *what, int got, int want, const char *text)
{
	if (got != want)
		test_fail(file, line, text ? text : what);
}

void test_skip(const char *why)
{
	printf("skipped: %s\n", why);
	exit(0);
}

static void end(void)
{
	redis_fixture_kill(&redis);
	fs_remove_tree(srv.data_dir, NULL);
}

static void start(void)
{
	static struct http_opts o = {.listen = "127.0.0.1:0",
				     .threads = 64,
				     .allowed_hosts = "",
				     .public_url = "",
				     .trusted_proxies = "127.0.0.1",
				     .always = route_always,
				     .handle = route_handle};
	char store[SERVER_URL_MAX + 16];
	struct err e = {0};

	signal(SIGPIPE, SIG_IGN);
	log_init("fuzz", LOG_ERROR, false);
	str_copy(srv.data_dir, sizeof srv.data_dir, "/tmp/pawl-fuzz-XXXXXX");
	if (!mkdtemp(srv.data_dir))
		abort();
	redis_fixture_start(&redis, srv.data_dir, true);
	atexit(end);
	srv.conf = conf_new();
	srv.queue = redis_fixture_queue(&redis, 0);
	srv.started_ms = clk_mono_ms();
	str_fmt(store, sizeof store, "file://%s/store", srv.data_dir);
	if (store_open(store, true, &srv.store, &e) || reconcile_start(&srv, &srv.reconcile, &e) ||
	    hub_start(&srv, &srv.hub, &e) || http_start(&o, &srv, &http, &e)) {
		fprintf(stderr, "%s\n", e.text);
		abort();
	}
	str_fmt(srv.public_url, sizeof srv.public_url, "http://127.0.0.1:%d", http_port(http));
}

static int connect_to(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http_port(http))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0) {
		perror("connect");
		abort();
	}
	return fd;
}

/* What the server says until it hangs up; a stream that has begun is left to itself. */
static void hear(int fd, struct buf *out)
{
	int64_t until = clk_mono_ms() + ANSWER_MS;

	while (clk_mono_ms() < until && out->len < (1u << 20)) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&p, 1, out->len ? QUIET_MS : ANSWER_MS) <= 0)
			return;
		buf_reserve(out, 65536);
		n = recv(fd, out->data + out->len, 65535, 0);
		if (n <= 0)
			return;
		out->len += (size_t)n;
		out->data[out->len] = 0;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf out = BUF_INIT;
	int fd;

	if (!http)
		start();
	fd = connect_to();
	for (size_t at = 0; at < size;) {
		ssize_t n = send(fd, data + at, size - at, MSG_NOSIGNAL);

		if (n <= 0)
			break; /* The server may hang up before it has heard all. */
		at += (size_t)n;
	}
	shutdown(fd, SHUT_WR);
	hear(fd, &out);
	close(fd);
	if (out.len && (!str_starts(out.data, "HTTP/1.1 ") || str_starts(out.data, "HTTP/1.1 500"))) {
		fprintf(stderr, "answer: %.2000s\n", out.data);
		abort();
	}
	buf_release(&out);
	return 0;
}

void fuzz_seed(struct buf *out)
{
	static const char body[] =
		"{\"name\":\"f\",\"base_model\":\"/m\",\"data\":{\"ift\":[{\"path\":\"/d/i\"}]}}";

	buf_printf(out,
		   "POST /api/v1/runs?dry_run=1 HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
		   "application/json\r\nIdempotency-Key: a\r\nContent-Length: %zu\r\n\r\n%s",
		   sizeof body - 1, body);
}
