#include "server/admin.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/version.h"
#include "server/http.h"
#include "server/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_MS 500 /* a prober sends its few bytes at once or not at all */

struct admin {
	struct server *srv;
	int fd, port;
	atomic_bool stop;
	pthread_t thread;
};

static void put_counter(struct buf *b, const char *name, const char *help, const char *type,
			long long v)
{
	buf_printf(b, "# HELP pawl_%s %s\n# TYPE pawl_%s %s\npawl_%s %lld\n", name, help, name,
		   type, name, v);
}

/* Of attempts that have ended: what of their time and money lives on. */
static void put_work(struct server_stats *st, struct buf *b)
{
	buf_printf(b,
		   "# HELP pawl_work_seconds_total Time of ended attempts, by what became of it\n"
		   "# TYPE pawl_work_seconds_total counter\n"
		   "pawl_work_seconds_total{of=\"useful\"} %.3f\n"
		   "pawl_work_seconds_total{of=\"lost\"} %.3f\n"
		   "# HELP pawl_work_cost_total The same at the workers' prices\n"
		   "# TYPE pawl_work_cost_total counter\n"
		   "pawl_work_cost_total{of=\"useful\"} %.6f\n"
		   "pawl_work_cost_total{of=\"lost\"} %.6f\n",
		   (double)atomic_load(&st->useful_ms) / 1e3, (double)atomic_load(&st->lost_ms) / 1e3,
		   (double)atomic_load(&st->useful_cost) / 1e6,
		   (double)atomic_load(&st->lost_cost) / 1e6);
	put_counter(b, "torn_off_total", "Attempts that a lost or preempted worker ended", "counter",
		    atomic_load(&st->torn_off));
}

static int answer_metrics(struct server *s, struct buf *b)
{
	struct server_stats *st = &s->stats;
	const struct {
		const char *name, *help, *type;
		long long v;
	} list[] = {
		{"up", "The server runs", "gauge", 1},
		{"redis_up", "The last tick reached Redis", "gauge", atomic_load(&s->redis_ok)},
		{"uptime_seconds", "Since start", "gauge", (clk_mono_ms() - s->started_ms) / 1000},
		{"http_in_flight", "Requests being handled", "gauge", atomic_load(&st->in_flight)},
		{"http_threads", "Request threads", "gauge", s->threads},
		{"http_handler_microseconds_total", "Time in handlers", "counter",
		 atomic_load(&st->request_us)},
		{"http_refused_busy_total", "Refused, no thread", "counter",
		 atomic_load(&st->refused_busy)},
		{"http_refused_gate_total", "Refused, malformed", "counter",
		 atomic_load(&st->refused_gate)},
		{"auth_failed_total", "Requests without a valid identity", "counter",
		 atomic_load(&st->auth_failed)},
		{"event_streams", "Open event streams", "gauge", atomic_load(&st->sse_open)},
		{"events_total", "Events read from Redis", "counter", atomic_load(&st->events)},
		{"claims_total", "Jobs handed out", "counter", atomic_load(&st->claims)},
		{"claims_empty_total", "Claims that found nothing", "counter",
		 atomic_load(&st->claims_empty)},
		{"completions_total", "Jobs completed", "counter", atomic_load(&st->completions)},
		{"reused_total", "Jobs settled by an earlier result", "counter",
		 atomic_load(&st->reused)},
		{"stale_total", "Writes refused for a stale token", "counter",
		 atomic_load(&st->stale)},
		{"plans_total", "Planner passes", "counter", atomic_load(&st->plans)},
		{"plan_errors_total", "Planner passes that failed", "counter",
		 atomic_load(&st->plan_errors)},
		{"received_bytes_total", "Request bodies", "counter", atomic_load(&st->bytes_in)},
		{"sent_bytes_total", "Answers", "counter", atomic_load(&st->bytes_out)},
		{"notices_total", "Notices made", "counter", atomic_load(&st->notices)},
		{"webhook_delivered_total", "Notices that webhooks took", "counter",
		 atomic_load(&st->hooks_delivered)},
		{"webhook_failed_total", "Tries that failed", "counter",
		 atomic_load(&st->hooks_failed)},
		{"webhook_given_up_total", "Notices no longer tried", "counter",
		 atomic_load(&st->hooks_given_up)},
		{"webhook_waiting", "Notices not yet delivered", "gauge",
		 atomic_load(&st->hooks_waiting)},
		{"disk_free_bytes", "Where logs and tokens lie", "gauge",
		 fs_free_bytes(s->data_dir)},
	};

	for (size_t i = 0; i < sizeof list / sizeof *list; i++)
		put_counter(b, list[i].name, list[i].help, list[i].type, list[i].v);
	put_work(st, b);
	buf_puts(b, "# HELP pawl_http_requests_total Answers by status class\n"
		    "# TYPE pawl_http_requests_total counter\n");
	for (int c = 1; c <= 5; c++)
		buf_printf(b, "pawl_http_requests_total{class=\"%dxx\"} %ld\n", c,
			   atomic_load(&st->requests[c]));
	return 200;
}

static int answer_live(struct server *s, struct buf *b)
{
	(void)s;
	buf_puts(b, "ok\n");
	return 200;
}

static int answer_ready(struct server *s, struct buf *b)
{
	const char *why = atomic_load(&s->stopping)   ? "stopping"
			  : atomic_load(&s->behind)   ? "Redis is being compared with the store"
			  : atomic_load(&s->redis_ok) ? "ready"
						      : "Redis does not answer";

	buf_printf(b, "%s\n", why);
	return strcmp(why, "ready") == 0 ? 200 : 503;
}

static int answer_version(struct server *s, struct buf *b)
{
	(void)s;
	buf_printf(b, "{\"version\":\"%s\"}\n", version_text());
	return 200;
}

static const struct {
	const char *path, *type;
	int (*answer)(struct server *s, struct buf *b);
} pages[] = {
	{"/livez", "text/plain", answer_live},
	{"/readyz", "text/plain", answer_ready},
	{"/metrics", "text/plain; version=0.0.4", answer_metrics},
	{"/version", "application/json", answer_version},
};

/* Reads until the head of the request is whole. */
static bool read_head(int fd, char *head, size_t size)
{
	int64_t until = clk_mono_ms() + READ_MS;
	size_t n = 0;

	while (n + 1 < size) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = until - clk_mono_ms();
		ssize_t got;

		if (left <= 0 || poll(&p, 1, (int)left) <= 0)
			return false;
		got = recv(fd, head + n, size - 1 - n, 0);
		if (got <= 0)
			return false;
		n += (size_t)got;
		head[n] = 0;
		if (strstr(head, "\r\n\r\n") || strstr(head, "\n\n"))
			return true;
	}
	return false;
}

static void serve(struct admin *a, int fd)
{
	struct timeval limit = {.tv_usec = READ_MS * 1000};
	struct buf body = BUF_INIT, out = BUF_INIT;
	const char *type = "text/plain";
	char head[4096];
	int status = 404;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	if (!read_head(fd, head, sizeof head))
		return;
	for (size_t i = 0; i < sizeof pages / sizeof *pages && str_starts(head, "GET "); i++) {
		size_t n = strlen(pages[i].path);

		if (strncmp(head + 4, pages[i].path, n) == 0 &&
		    (head[4 + n] == ' ' || head[4 + n] == '?')) {
			type = pages[i].type;
			status = pages[i].answer(a->srv, &body);
		}
	}
	if (!body.len)
		buf_puts(&body, "not found\n");
	buf_printf(&out,
		   "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: "
		   "close\r\n\r\n",
		   status, http_status_text(status), type, body.len);
	buf_append(&out, body.data, body.len);
	if (send(fd, out.data, out.len, MSG_NOSIGNAL) < 0)
		status = 0; /* The prober is gone; nobody to tell. */
	buf_release(&body);
	buf_release(&out);
}

static void *admin_thread(void *arg)
{
	struct admin *a = arg;

	while (!atomic_load(&a->stop)) {
		struct pollfd p = {.fd = a->fd, .events = POLLIN};
		int fd = poll(&p, 1, 200) > 0 ? accept4(a->fd, NULL, NULL, SOCK_CLOEXEC) : -1;

		if (fd < 0)
			continue;
		serve(a, fd);
		close(fd);
	}
	return NULL;
}

static enum rc bind_to(struct admin *a, const char *host, int port, struct err *e)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	socklen_t len = sizeof at;
	int one = 1;

	if (inet_pton(AF_INET, strcmp(host, "localhost") ? host : "127.0.0.1", &at.sin_addr) != 1)
		return err_set(e, RC_INVALID, "server.admin_listen: \"%s\" is no IPv4 address",
			       host);
	a->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (a->fd < 0)
		return err_set(e, RC_IO, "socket: %m");
	setsockopt(a->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(a->fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(a->fd, 64) != 0)
		return err_set(e, RC_IO, "server.admin_listen: cannot listen on %s:%d: %m", host,
			       port);
	getsockname(a->fd, (struct sockaddr *)&at, &len);
	a->port = ntohs(at.sin_port);
	return RC_OK;
}

enum rc admin_start(struct server *s, const char *listen_at, struct admin **out, struct err *e)
{
	struct admin *a = mem_new(sizeof *a);
	char host[64];
	int port;
	enum rc rc = http_listen_parse(listen_at, host, sizeof host, &port, e);

	a->srv = s;
	a->fd = -1;
	if (!rc)
		rc = bind_to(a, host, port, e);
	if (!rc && pthread_create(&a->thread, NULL, admin_thread, a) != 0)
		rc = err_set(e, RC_NOMEM, "cannot start the admin thread");
	if (rc) {
		if (a->fd >= 0)
			close(a->fd);
		free(a);
		return rc;
	}
	*out = a;
	return RC_OK;
}

int admin_port(const struct admin *a)
{
	return a->port;
}

void admin_stop(struct admin *a)
{
	if (!a)
		return;
	atomic_store(&a->stop, true);
	pthread_join(a->thread, NULL);
	close(a->fd);
	free(a);
}
