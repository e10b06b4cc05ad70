/* pawl-server: flags, start, signals, drain. `pawl-server rebuild` recreates the runs of the store
 * in an empty Redis; `pawl-server config` prints the settings in effect. */
#include "base/clk.h"
#include "base/conf.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "base/version.h"
#include "migrations/migrations.h"
#include "queue/keys.h"
#include "queue/queue.h"
#include "queue/restore.h"
#include "server/admin.h"
#include "server/auth.h"
#include "server/events.h"
#include "server/http.h"
#include "server/rebuild.h"
#include "server/keeper.h"
#include "server/notify.h"
#include "server/operation.h"
#include "server/reconcile.h"
#include "server/route.h"
#include "server/server.h"
#include "server/slots.h"
#include "store/store.h"

#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define DRAIN_MS 5000

static const char usage[] =
	"usage: pawl-server [--server-listen HOST:PORT] [--server-redis ADDRESS] "
	"[--server-data-dir DIR] ...\n"
	"       pawl-server rebuild ...   recreate every run in an empty Redis from the store\n"
	"       pawl-server check ...     compare every index of the queue with its jobs\n"
	"       pawl-server migrate ...   bring the keyspace up to date, as every start does\n"
	"       pawl-server config ...    print the settings in effect and where they come from\n"
	"       pawl-server version\n"
	"Every setting is a flag, a PAWL_* variable or a line of /etc/pawl/pawl.conf; see "
	"`config`.\n";

static enum log_level level_of(const char *text)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};

	for (int i = 0; i < 4; i++)
		if (strcmp(names[i], text) == 0)
			return (enum log_level)i;
	die("log.level is \"%s\"; expected debug, info, warn or error", text);
}

/* Addresses first: a wrong one must be told before anything is touched. */
static void check_listen(const struct server *s, const struct conf *c)
{
	char host[256];
	struct err e = {0};
	int port;

	if (http_listen_parse(conf_str(c, "server.listen"), host, sizeof host, &port, &e))
		die("server.listen: %s", e.text);
	if (s->no_auth && !http_is_loopback(host))
		die("server.insecure_no_auth is set and server.listen is %s: without a login only "
		    "a loopback "
		    "address is allowed; remove one of the two",
		    host);
	if (http_listen_parse(conf_str(c, "server.admin_listen"), host, sizeof host, &port, &e))
		die("server.admin_listen: %s", e.text);
	if (s->threads < 16 || s->threads > 4096)
		die("server.threads is %d; expected 16 to 4096", s->threads);
	if (s->max_downloads < 0 || s->max_downloads > SLOTS_MAX)
		die("server.max_downloads is %d; expected 0 (no limit) to %d", s->max_downloads, SLOTS_MAX);
}

static void settings(struct server *s, const struct conf *c)
{
	s->conf = c;
	s->threads = (int)conf_i64(c, "server.threads");
	s->max_sse = (int)conf_i64(c, "server.max_sse");
	s->max_downloads = (int)conf_i64(c, "server.max_downloads");
	s->rate = (int)conf_i64(c, "server.rate_limit");
	s->no_auth = conf_bool(c, "server.insecure_no_auth");
	s->lease_ms = conf_i64(c, "server.lease_ms");
	s->beat_ms = conf_i64(c, "server.beat_ms");
	s->started_ms = clk_mono_ms();
	str_copy(s->data_dir, sizeof s->data_dir, conf_str(c, "server.data_dir"));
	str_copy(s->web_dir, sizeof s->web_dir, conf_str(c, "server.web_dir"));
	str_copy(s->public_url, sizeof s->public_url, conf_str(c, "server.public_url"));
	while (s->public_url[0] && s->public_url[strlen(s->public_url) - 1] == '/')
		s->public_url[strlen(s->public_url) - 1] = 0;
	if (s->max_sse > s->threads / 2 + s->threads / 10)
		s->max_sse = s->threads / 2 + s->threads / 10;
	if (s->max_downloads > s->threads / 2)
		s->max_downloads = s->threads / 2;
	check_listen(s, c);
}

/* A new keyspace is guarded before it is made, so that no other server may fill it unseen. */
static enum rc guard_and_migrate(struct queue *q, struct err *e)
{
	enum rc rc = queue_guard(q, e);

	return rc ? rc : migrations_run(q, e);
}

static void open_state(struct server *s, const struct conf *c)
{
	struct queue_opts o = {.accept_loss = conf_bool(c, "server.accept_loss"),
			       .lease_ms = s->lease_ms,
			       .migrate = guard_and_migrate};
	char store[SERVER_URL_MAX + 16];
	struct err e = {0};

	if (fs_mkdirs(s->data_dir, &e))
		die("server.data_dir: %s", e.text);
	if (queue_open(conf_str(c, "server.redis"), &o, &s->queue, &e))
		die("server.redis: %s", e.text);
	str_copy(store, sizeof store, conf_str(c, "server.store"));
	if (!store[0])
		str_fmt(store, sizeof store, "file://%s/store", s->data_dir);
	if (store_open(store, true, &s->store, &e))
		die("server.store: %s", e.text);
}

static void close_state(struct server *s)
{
	store_close(s->store);
	queue_close(s->queue);
}

/* The URL of browsers and workers when none is set. */
static void guess_url(struct server *s, const struct conf *c, int port)
{
	char host[256];
	int ignored;

	if (s->public_url[0])
		return;
	http_listen_parse(conf_str(c, "server.listen"), host, sizeof host, &ignored, NULL);
	str_fmt(s->public_url, sizeof s->public_url, "http://%s:%d",
		strcmp(host, "0.0.0.0") ? host : "127.0.0.1", port);
}

/* Where others find us, for programs that start this one with port 0. */
static void write_join(struct server *s, int port, int admin)
{
	char path[SERVER_URL_MAX + 32], text[SERVER_URL_MAX + 128];
	struct err e = {0};

	str_fmt(path, sizeof path, "%s/server.json", s->data_dir);
	str_fmt(text, sizeof text, "{\"url\":\"%s\",\"port\":%d,\"admin_port\":%d,\"pid\":%d}\n",
		s->public_url, port, admin, (int)getpid());
	if (fs_write_durable(path, text, strlen(text), &e))
		log_warn("main", "join_file", "error=%s", e.text);
}

static void print_login(struct server *s)
{
	struct err e = {0};
	char *url = NULL;

	if (s->no_auth)
		printf("login: %s (no login needed)\n", s->public_url);
	else if (auth_login_link(s, AUTH_FIRST_LOGIN_TTL_S, &url, &e))
		log_warn("main", "login_link", "error=%s", e.text);
	else
		printf("login: %s\n", url);
	fflush(stdout);
	free(url);
}

static void wait_for_signal(const sigset_t *set)
{
	int fd = signalfd(-1, set, SFD_CLOEXEC), got = 0;
	struct signalfd_siginfo info;

	while (got != (int)sizeof info)
		got = (int)read(fd, &info, sizeof info);
	close(fd);
	log_info("main", "stopping", "signal=%u", info.ssi_signo);
}

/* CivetWeb refuses to write once it stops, so goodbyes and last answers come before. */
static void drain(struct server *s, struct hub *hub)
{
	int64_t until = clk_mono_ms() + DRAIN_MS;

	atomic_store(&s->stopping, true);
	hub_wake(hub);
	while (atomic_load(&s->stats.in_flight) > 0 && clk_mono_ms() < until)
		clk_sleep_ms(10);
}

/* What Redis lost comes back before anybody is answered. */
static enum rc compare_first(struct server *s, struct err *e)
{
	struct queue_tick t;
	enum rc rc = queue_tick(s->queue, &t, e);

	return rc || !t.behind ? rc : rebuild_compare(s, e);
}

static void serve(struct server *s, const struct conf *c, const sigset_t *set)
{
	struct http_opts o = {.listen = conf_str(c, "server.listen"),
			      .threads = s->threads,
			      .allowed_hosts = conf_str(c, "server.allowed_hosts"),
			      .public_url = s->public_url,
			      .trusted_proxies = conf_str(c, "server.trusted_proxies"),
			      .always = route_always,
			      .handle = route_handle};
	struct reconcile *reconcile = NULL;
	struct keeper *keeper = NULL;
	struct notify *notify = NULL;
	struct operations *operations = NULL;
	struct admin *admin = NULL;
	struct http *http = NULL;
	struct hub *hub = NULL;
	struct err e = {0};

	if (compare_first(s, &e) ||
	    auth_start(s, &e) || reconcile_start(s, &reconcile, &e) || hub_start(s, &hub, &e) ||
	    keeper_start(s, &keeper, &e) ||
	    admin_start(s, conf_str(c, "server.admin_listen"), &admin, &e) ||
	    http_start(&o, s, &http, &e))
		die("%s", e.text);
	guess_url(s, c, http_port(http));
	if (notify_start(s, &notify, &e) || operations_start(s, &operations, &e))
		die("%s", e.text);
	write_join(s, http_port(http), admin_port(admin));
	log_info("main", "listening", "url=%s admin_port=%d version=%s", s->public_url,
		 admin_port(admin), version_text());
	print_login(s);
	wait_for_signal(set);
	/* Long waits end first, then the handlers, then what they use. */
	drain(s, hub);
	http_stop(http);
	admin_stop(admin);
	hub_stop(hub);
	operations_stop(operations);
	notify_stop(notify);
	keeper_stop(keeper);
	reconcile_stop(reconcile);
}

static int run_rebuild(struct server *s)
{
	struct rebuild_sum sum;
	struct err e = {0};
	enum rc rc = rebuild(s, &sum, &e);

	printf("rebuilt: %d runs, %d jobs settled, %d with missing outputs\n", sum.n_runs,
	       sum.n_jobs, sum.n_missing);
	if (rc)
		log_error("rebuild", "failed", "error=%s", e.text);
	return rc ? 1 : 0;
}

/* The keyspace was brought up to date when it was opened. */
static int run_check(struct server *s, bool audit)
{
	json_t *problems = NULL, *p;
	struct err e = {0};
	size_t i;

	if (!audit) {
		printf("keyspace: schema %s\n", QUEUE_SCHEMA);
		return 0;
	}
	if (queue_audit(s->queue, &problems, &e)) {
		log_error("check", "failed", "error=%s", e.text);
		return 1;
	}
	json_array_foreach(problems, i, p) printf("queue: %s\n", json_string_value(p));
	printf("queue: %zu problems\n", json_array_size(problems));
	i = json_array_size(problems);
	json_decref(problems);
	return i > 0;
}

static int run_verb(struct server *s, const char *verb)
{
	return strcmp(verb, "rebuild") == 0 ? run_rebuild(s) : run_check(s, strcmp(verb, "check") == 0);
}

/* Blocked before any thread starts, so that only signalfd sees them. */
static void block_signals(sigset_t *set)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};

	sigaction(SIGPIPE, &ignore, NULL);
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigprocmask(SIG_BLOCK, set, NULL);
}

int main(int argc, char **argv)
{
	static struct server s;
	struct conf *c = conf_new();
	struct err e = {0};
	const char *verb;
	sigset_t set;
	int code = 0;

	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		fputs(usage, stdout);
		return 0;
	}
	if (conf_load(c, &argc, argv, false, &e))
		die("%s", e.text);
	verb = argc > 1 ? argv[1] : "";
	log_init("pawl-server", level_of(conf_str(c, "log.level")), conf_bool(c, "log.json"));
	json_object_seed(0);
	if (strcmp(verb, "version") == 0) {
		printf("pawl-server %s\n", version_text());
	} else if (strcmp(verb, "config") == 0) {
		conf_print(c, stdout, true, false);
	} else if (verb[0] && strcmp(verb, "rebuild") != 0 && strcmp(verb, "check") != 0 &&
		   strcmp(verb, "migrate") != 0) {
		fputs(usage, stderr);
		code = 2;
	} else {
		block_signals(&set);
		settings(&s, c);
		open_state(&s, c);
		if (verb[0])
			code = run_verb(&s, verb);
		else
			serve(&s, c, &set);
		close_state(&s);
	}
	conf_free(c);
	return code;
}
