/* Load on a running pawl-server; tests/bench/server.sh starts it and reads what this prints.
 *
 *	server hello PORT SECONDS                 a bare CivetWeb that answers "hello"
 *	server rps PORT PATH CONNECTIONS SECONDS  requests a second, keep-alive, closed loop
 *	server load PORT ADMIN_PORT RUN DIGEST WORKER SECONDS STREAMS POLLERS DOWNLOADS MB_S
 *	server cap PORT STREAMS                   one stream more than the server takes
 *
 * Tokens come in the environment: BENCH_ADMIN, BENCH_WORKER.
 */
#include "base/clk.h"
#include "base/mem.h"
#include "base/str.h"
#include "tests/bench/http_client.h"

#include <civetweb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 512
#define SAMPLES_MAX 200000

static struct {
	int port, admin_port, mb_s;
	const char *admin, *worker_token, *run, *digest, *worker;
	atomic_bool stop;
	atomic_long events, bytes, polls, errors, streams;
} load;

static int number(const char *text)
{
	int64_t v;

	return str_to_i64(text, &v) && v >= 0 && v < 1000000 ? (int)v : 0;
}

/* --- samples ------------------------------------------------------------------------------- */

struct samples {
	double ms[SAMPLES_MAX];
	size_t n;
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_samples(const char *name, struct samples *s)
{
	if (!s->n)
		return;
	qsort(s->ms, s->n, sizeof *s->ms, by_value);
	printf("%-10s n %6zu  p50 %7.2f ms  p95 %7.2f ms  p99 %7.2f ms  max %7.2f ms\n", name, s->n,
	       s->ms[s->n / 2], s->ms[s->n * 95 / 100], s->ms[s->n * 99 / 100], s->ms[s->n - 1]);
}

/* --- who loads ----------------------------------------------------------------------------- */

static void *stream(void *arg)
{
	struct http_conn *c = mem_new(sizeof *c);
	char piece[16384];
	int64_t length;
	size_t n;

	(void)arg;
	http_conn_init(c, load.port, load.admin);
	if (http_ask(c, "GET", "/api/v1/events", NULL, &length) != 200)
		atomic_fetch_add(&load.errors, 1);
	else
		atomic_fetch_add(&load.streams, 1);
	while (c->fd >= 0 && !atomic_load(&load.stop) && (n = http_body(c, piece, sizeof piece)))
		for (size_t i = 0; i + 4 <= n; i++)
			if (memcmp(piece + i, "\nid:", 4) == 0)
				atomic_fetch_add(&load.events, 1);
	http_conn_close(c);
	free(c);
	return NULL;
}

static void *poller(void *arg)
{
	struct http_conn *c = mem_new(sizeof *c);
	char body[256];

	(void)arg;
	http_conn_init(c, load.port, load.worker_token);
	snprintf(body, sizeof body, "{\"worker\":\"%s\",\"wait_s\":5,\"stages\":[\"eval\"]}", load.worker);
	while (!atomic_load(&load.stop)) {
		int status = http_exchange(c, "POST", "/api/v1/worker/claim", body);

		http_conn_close(c);
		if (status != 204 && status != 200 && !atomic_load(&load.stop)) {
			atomic_fetch_add(&load.errors, 1);
			clk_sleep_ms(100);
		}
		atomic_fetch_add(&load.polls, 1);
	}
	free(c);
	return NULL;
}

/* At a steady pace, as through a network. */
static void *download(void *arg)
{
	struct http_conn *c = mem_new(sizeof *c);
	char path[256], *piece = mem_new(1 << 20);
	int64_t began = clk_mono_ms(), got = 0, left;
	size_t n;

	(void)arg;
	http_conn_init(c, load.port, load.admin);
	snprintf(path, sizeof path, "/api/v1/checkpoints/%s/content", load.digest);
	while (!atomic_load(&load.stop)) {
		if (http_ask(c, "GET", path, NULL, &left) != 200) {
			atomic_fetch_add(&load.errors, 1);
			break;
		}
		while (left > 0 && !atomic_load(&load.stop) &&
		       (n = http_body(c, piece, left < 65536 ? (size_t)left : 65536))) {
			int64_t due;

			left -= (int64_t)n;
			got += (int64_t)n;
			atomic_fetch_add(&load.bytes, (long)n);
			due = began + got / (load.mb_s * 1000L) - clk_mono_ms();
			if (due > 0)
				clk_sleep_ms(due);
		}
	}
	http_conn_close(c);
	free(c);
	free(piece);
	return NULL;
}

/* Events for the streams: the run is paused and resumed ten times a second. */
static void *toggler(void *arg)
{
	struct http_conn *c = mem_new(sizeof *c);
	char path[128];

	(void)arg;
	http_conn_init(c, load.port, load.admin);
	for (int i = 0; !atomic_load(&load.stop); i++) {
		snprintf(path, sizeof path, "/api/v1/runs/%s/%s", load.run, i % 2 ? "resume" : "pause");
		if (http_exchange(c, "POST", path, "{}") != 202)
			atomic_fetch_add(&load.errors, 1);
		clk_sleep_ms(100);
	}
	http_conn_close(c);
	free(c);
	return NULL;
}

/* --- what is measured ---------------------------------------------------------------------- */

static struct samples health, api;
static pthread_mutex_t api_lock = PTHREAD_MUTEX_INITIALIZER;

static void *probe(void *arg)
{
	struct http_conn *c = mem_new(sizeof *c);

	(void)arg;
	while (!atomic_load(&load.stop)) {
		double began = clk_mono_s();

		http_conn_init(c, load.admin_port, NULL); /* A probe connects anew every time. */
		if (http_exchange(c, "GET", "/livez", NULL) != 200)
			atomic_fetch_add(&load.errors, 1);
		http_conn_close(c);
		if (health.n < SAMPLES_MAX)
			health.ms[health.n++] = (clk_mono_s() - began) * 1000;
		clk_sleep_ms(20);
	}
	free(c);
	return NULL;
}

static void *asker(void *arg)
{
	static const char *const paths[] = {"/api/v1/runs", "/api/v1/workers", "/api/v1/runs/%s",
					    "/api/v1/runs/%s/jobs", "/api/v1/session",
					    "/api/v1/runs/%s/stages"};
	struct http_conn *c = mem_new(sizeof *c);
	char path[128];

	(void)arg;
	http_conn_init(c, load.port, load.admin);
	for (size_t i = 0; !atomic_load(&load.stop); i++) {
		double began = clk_mono_s();
		const char *form = paths[i % (sizeof paths / sizeof *paths)], *hole = strstr(form, "%s");

		snprintf(path, sizeof path, "%.*s%s%s", hole ? (int)(hole - form) : 99, form,
			 hole ? load.run : "", hole ? hole + 2 : "");
		if (http_exchange(c, "GET", path, NULL) != 200)
			atomic_fetch_add(&load.errors, 1);
		pthread_mutex_lock(&api_lock);
		if (api.n < SAMPLES_MAX)
			api.ms[api.n++] = (clk_mono_s() - began) * 1000;
		pthread_mutex_unlock(&api_lock);
		clk_sleep_ms(50);
	}
	http_conn_close(c);
	free(c);
	return NULL;
}

static pthread_t threads[THREADS_MAX];
static int n_threads;

static void begin(void *(*what)(void *), int n)
{
	pthread_attr_t small;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 256 << 10);
	for (int i = 0; i < n && n_threads < THREADS_MAX; i++)
		if (pthread_create(&threads[n_threads], &small, what, NULL) == 0)
			n_threads++;
	pthread_attr_destroy(&small);
}

static void tokens(void)
{
	load.admin = getenv("BENCH_ADMIN");
	load.worker_token = getenv("BENCH_WORKER");
}

static int run_load(char **a)
{
	int seconds = number(a[5]);

	tokens();
	load.port = number(a[0]);
	load.admin_port = number(a[1]);
	load.run = a[2];
	load.digest = a[3];
	load.worker = a[4];
	load.mb_s = number(a[9]);
	begin(stream, number(a[6]));
	begin(poller, number(a[7]));
	begin(download, number(a[8]));
	begin(toggler, 1);
	clk_sleep_ms(2000);
	begin(probe, 1);
	begin(asker, 4);
	clk_sleep_ms(1000LL * seconds);
	atomic_store(&load.stop, true);
	printf("streams %ld  events %ld  polls %ld  downloaded %.0f MB  errors %ld\n",
	       atomic_load(&load.streams), atomic_load(&load.events), atomic_load(&load.polls),
	       (double)atomic_load(&load.bytes) / 1e6, atomic_load(&load.errors));
	pthread_mutex_lock(&api_lock);
	print_samples("livez", &health);
	print_samples("api", &api);
	return atomic_load(&load.errors) > 0;
}

/* --- requests a second --------------------------------------------------------------------- */

static atomic_long asked;
static const char *rps_path;

static void *ask_again(void *arg)
{
	struct http_conn *c = mem_new(sizeof *c);

	(void)arg;
	http_conn_init(c, load.port, load.admin);
	while (!atomic_load(&load.stop)) {
		if (http_exchange(c, "GET", rps_path, NULL) != 200)
			atomic_fetch_add(&load.errors, 1);
		atomic_fetch_add(&asked, 1);
	}
	http_conn_close(c);
	free(c);
	return NULL;
}

static int run_rps(char **a)
{
	double began = clk_mono_s(), took;

	tokens();
	load.port = number(a[0]);
	rps_path = a[1];
	begin(ask_again, number(a[2]));
	clk_sleep_ms(1000LL * number(a[3]));
	took = clk_mono_s() - began;
	printf("%.0f %ld\n", (double)atomic_load(&asked) / took, atomic_load(&load.errors));
	return atomic_load(&load.errors) > 0;
}

static int hello_request(struct mg_connection *conn)
{
	static const char text[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n"
				   "Connection: keep-alive\r\n\r\nhello\n";

	mg_write(conn, text, sizeof text - 1);
	return 200;
}

static int run_hello(char **a)
{
	const char *options[] = {"listening_ports", a[0],  "num_threads", "64", "enable_keep_alive",
				 "yes",		    "keep_alive_timeout_ms", "2000", "tcp_nodelay",
				 "1",		    NULL};
	struct mg_callbacks cb = {.begin_request = hello_request};
	struct mg_context *ctx = mg_start(&cb, NULL, options);

	if (!ctx)
		return 1;
	clk_sleep_ms(1000LL * number(a[1]));
	mg_stop(ctx);
	return 0;
}

/* --- one too many -------------------------------------------------------------------------- */

static int run_cap(char **a)
{
	struct http_conn *c = mem_new(sizeof *c);
	int64_t length, until = clk_mono_ms() + 20000;
	double began;
	int n = number(a[1]), status;

	tokens();
	load.port = number(a[0]);
	begin(stream, n);
	while (atomic_load(&load.streams) < n && clk_mono_ms() < until)
		clk_sleep_ms(10);
	http_conn_init(c, load.port, load.admin);
	http_exchange(c, "GET", "/api/v1/session", NULL); /* The connection stands. */
	began = clk_mono_s();
	status = http_ask(c, "GET", "/api/v1/events", NULL, &length);
	printf("streams %ld, one more: %d after %.2f ms\n", atomic_load(&load.streams), status,
	       (clk_mono_s() - began) * 1000);
	return status != 503;
}

static const struct {
	const char *name;
	int args;
	int (*run)(char **a);
} modes[] = {{"hello", 2, run_hello}, {"rps", 4, run_rps}, {"load", 10, run_load}, {"cap", 2, run_cap}};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof *modes; i++)
		if (strcmp(argv[1], modes[i].name) == 0 && argc == modes[i].args + 2) {
			int code = modes[i].run(argv + 2);

			fflush(stdout);
			_exit(code); /* Threads that wait for the server are of no more use. */
		}
	fprintf(stderr, "usage: see the head of tests/bench/bench_server.c, or run make bench-server\n");
	return 2;
}
