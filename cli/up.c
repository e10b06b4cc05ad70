#include "cli/up.h"

#include "base/check.h"
#include "base/clk.h"
#include "base/fetch.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS_MAX 64
#define READY_MS 60000
#define POLL_MS 50
#define PROBE_MS 300 /* one question whether a child is at work; others wait behind it */
#define BACKOFF_MS_MIN 250
#define BACKOFF_MS_MAX 30000
#define WORKER_WELL_MS 3000 /* a worker that lived so long started well */
#define WORKER_STOP_MS 30000 /* to save a checkpoint and hand the job back */
#define STOP_MS 10000
#define EXIT_CONFIG 78

struct child {
	char name[32];
	struct proc proc;       /* pid -1 while down */
	char **argv;            /* owned, with its strings */
	int64_t started_ms, retry_at_ms, backoff_ms;
	bool well;              /* it has been at work since it was started */
};

struct up {
	char dir[PATH_MAX - 256];
	char socket[108];
	char socket_dir[64];    /* made in /tmp when `dir` is too deep for a socket; else "" */
	char url[160], admin_url[160], listen[128], admin_listen[64];
	char *token, *login;
	int lock_fd, n_workers;
	bool quiet;
	struct child redis, server, workers[WORKERS_MAX];
};

static void in_dir(const struct up *u, const char *name, char out[PATH_MAX])
{
	str_fmt(out, PATH_MAX, "%s/%s", u->dir, name);
}

/* Beside this program, above it (test programs), or anywhere in PATH. */
static char *program(const char *name)
{
	static const char *const places[] = {"", "/.."};

	for (size_t i = 0; i < 2; i++) {
		char *path = mem_printf("%s%s/%s", proc_self_dir(), places[i], name);
		if (!access(path, X_OK))
			return path;
		free(path);
	}
	return mem_str(name);
}

/* Takes over the strings; the first is looked up as a program. */
static void set_argv(struct child *c, const char *name, char **words, size_t n)
{
	str_copy(c->name, sizeof(c->name), name);
	c->proc = (struct proc){-1, -1, -1, -1};
	c->argv = mem_array(n + 1, sizeof(char *));
	for (size_t i = 0; i < n; i++)
		c->argv[i] = words[i];
}

static enum rc child_start(const struct up *u, struct child *c, struct err *e)
{
	char name[64], path[PATH_MAX];

	str_fmt(name, sizeof(name), "log/%s.log", c->name);
	in_dir(u, name, path);
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_set(e, err_from_errno(errno), "open %s: %m", path);
	/* Own groups: Ctrl-C in a terminal must reach us alone, so that we can stop in order. */
	struct proc_opts o = {.argv = (const char *const *)c->argv, .own_group = true,
			      .log_fd = u->quiet || c == &u->redis ? fd : -1};
	c->started_ms = clk_mono_ms();
	c->well = false;
	enum rc rc = proc_start(&o, &c->proc, e);
	close(fd);
	if (rc)
		c->proc.pid = -1;
	else
		log_debug("up", "started", "child=%s pid=%d", c->name, (int)c->proc.pid);
	return rc;
}

/* True when it is down; says how it ended, once. */
static bool child_down(struct child *c, int *status)
{
	if (c->proc.pid <= 0)
		return true;
	if (waitpid(c->proc.pid, status, WNOHANG) == 0)
		return false;
	proc_release(&c->proc);
	c->proc.pid = -1;
	return true;
}

static void child_stop(struct child *c, int64_t patience_ms)
{
	int status;

	if (c->proc.pid > 0) {
		kill(c->proc.pid, SIGTERM);
		if (proc_wait(&c->proc, patience_ms, &status, NULL) == RC_TIMEOUT) {
			log_warn("up", "killed", "child=%s patience_ms=%lld", c->name,
				 (long long)patience_ms);
			kill(c->proc.pid, SIGKILL);
			(void)proc_wait(&c->proc, -1, &status, NULL);
		}
		proc_release(&c->proc);
		c->proc.pid = -1;
	}
}

static void child_free(struct child *c)
{
	for (char **p = c->argv; p && *p; p++)
		free(*p);
	free(c->argv);
	c->argv = NULL;
}

/* The last words of a child's log, for an error sentence. */
static enum rc died(const struct up *u, const struct child *c, int status, struct err *e)
{
	char name[64], path[PATH_MAX], how[64];
	struct buf b = BUF_INIT;

	proc_status_text(status, how, sizeof(how));
	str_fmt(name, sizeof(name), "log/%s.log", c->name);
	in_dir(u, name, path);
	const char *tail = "";
	if (!fs_read(path, (size_t)64 << 20, &b, NULL) && b.len) {
		if (b.data[b.len - 1] == '\n')
			b.data[b.len - 1] = 0;
		tail = strrchr(b.data, '\n');
		tail = tail ? tail + 1 : b.data;
	}
	err_set(e, RC_IO, "%s ended with %s at its start: %.400s (log: %s)", c->name, how, tail, path);
	buf_release(&b);
	return RC_IO;
}

/* Polls `ready` until it holds, the child dies, or time is up. */
static enum rc wait_ready(struct up *u, struct child *c, bool (*ready)(const struct up *),
			  struct err *e)
{
	int64_t until = clk_mono_ms() + READY_MS;
	int status = 0;

	for (;;) {
		if (child_down(c, &status))
			return died(u, c, status, e);
		if (ready(u)) {
			c->well = true;
			return RC_OK;
		}
		if (clk_mono_ms() > until)
			return err_set(e, RC_TIMEOUT, "%s was not ready within %d s (log: %s/log/%s.log)",
				       c->name, READY_MS / 1000, u->dir, c->name);
		clk_sleep_ms(POLL_MS);
	}
}

/* Redis. */

static enum rc choose_socket(struct up *u, struct err *e)
{
	if (strlen(u->dir) + strlen("/redis/redis.sock") < sizeof(u->socket)) {
		str_fmt(u->socket, sizeof(u->socket), "%s/redis/redis.sock", u->dir);
		return RC_OK;
	}
	/* A Unix socket path holds 107 bytes. */
	str_copy(u->socket_dir, sizeof(u->socket_dir), "/tmp/pawl-redis-XXXXXX");
	if (!mkdtemp(u->socket_dir)) {
		u->socket_dir[0] = 0;
		return err_set(e, err_from_errno(errno), "make a folder for the Redis socket: %m");
	}
	str_fmt(u->socket, sizeof(u->socket), "%s/redis.sock", u->socket_dir);
	return RC_OK;
}

/* Redis takes "..." with backslash escapes. */
static void put_quoted(struct buf *b, const char *key, const char *value)
{
	buf_printf(b, "%s \"", key);
	for (const char *p = value; *p; p++) {
		if (*p == '"' || *p == '\\')
			buf_putc(b, '\\');
		buf_putc(b, *p);
	}
	buf_puts(b, "\"\n");
}

/* The same promises as deploy/redis.conf: every acknowledged change is on disk, none evicted. */
static enum rc prepare_redis(struct up *u, struct err *e)
{
	char dir[PATH_MAX], conf[PATH_MAX];
	struct buf b = BUF_INIT;
	enum rc rc = choose_socket(u, e);

	if (rc)
		return rc;
	in_dir(u, "redis", dir);
	in_dir(u, "redis/redis.conf", conf);
	buf_puts(&b, "# Written by `pawl up` at every start.\n"
		     "port 0\nunixsocketperm 700\ndaemonize no\nappendonly yes\n"
		     "appendfsync always\nno-appendfsync-on-rewrite no\nsave \"\"\n"
		     "maxmemory-policy noeviction\nstop-writes-on-bgsave-error no\n"
		     "hash-max-listpack-value 1024\n");
	put_quoted(&b, "dir", dir);
	put_quoted(&b, "unixsocket", u->socket);
	rc = fs_write_durable(conf, b.data, b.len, e);
	buf_release(&b);
	if (rc)
		return rc;
	char *words[] = {mem_str("redis-server"), mem_str(conf)};
	set_argv(&u->redis, "redis", words, 2);
	return RC_OK;
}

static bool redis_ready(const struct up *u)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_usec = PROBE_MS * 1000};
	char answer[16] = "";
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	str_copy(a.sun_path, sizeof(a.sun_path), u->socket);
	bool ok = fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof(a)) &&
		  write(fd, "PING\r\n", 6) == 6 && read(fd, answer, sizeof(answer) - 1) > 0 &&
		  str_starts(answer, "+PONG");
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Server. */

/* A port nobody uses now; it is bound by the server a moment later. */
static int free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int port = 0, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && !bind(fd, (struct sockaddr *)&a, len) &&
	    !getsockname(fd, (struct sockaddr *)&a, &len))
		port = ntohs(a.sin_port);
	if (fd >= 0)
		close(fd);
	return port;
}

static enum rc choose_address(struct up *u, const char *listen, struct err *e)
{
	const char *colon = strrchr(listen, ':');
	int64_t port;

	if (!colon || strlen(listen) > 100 || !str_to_i64(colon + 1, &port) || port < 0 ||
	    port > 65535)
		return err_set(e, RC_INVALID, "listen address \"%s\": expected host:port", listen);
	int host = (int)(colon - listen);
	if (!port)
		port = free_port();
	str_fmt(u->listen, sizeof(u->listen), "%.*s:%d", host, listen, (int)port);
	/* What we and the workers here connect to. */
	bool any = !host || str_starts(listen, "0.0.0.0:") || str_starts(listen, "[::]:");
	str_fmt(u->url, sizeof(u->url), "http://%.*s:%d", any ? 9 : host, any ? "127.0.0.1" : listen,
		(int)port);
	str_fmt(u->admin_listen, sizeof(u->admin_listen), "127.0.0.1:%d", free_port());
	str_fmt(u->admin_url, sizeof(u->admin_url), "http://%s", u->admin_listen);
	return RC_OK;
}

static void prepare_server(struct up *u, const struct up_opts *o)
{
	char *words[24];
	size_t n = 0;

	words[n++] = program("pawl-server");
	words[n++] = mem_printf("--listen=%s", u->listen);
	words[n++] = mem_printf("--admin-listen=%s", u->admin_listen);
	words[n++] = mem_printf("--redis=unix:%s", u->socket);
	if (!getenv("PAWL_SERVER_STORE")) /* Else a bucket, say. */
		words[n++] = mem_printf("--store=file://%s/store", u->dir);
	words[n++] = mem_printf("--data-dir=%s", u->dir);
	if (!getenv("PAWL_SERVER_PUBLIC_URL"))
		words[n++] = mem_printf("--public-url=%s", u->url);
	if (o->lease_ms)
		words[n++] = mem_printf("--lease-ms=%lld", (long long)o->lease_ms);
	if (o->beat_ms)
		words[n++] = mem_printf("--beat-ms=%lld", (long long)o->beat_ms);
	set_argv(&u->server, "server", words, n);
}

static bool server_ready(const struct up *u)
{
	char url[256];
	struct fetch_resp r;
	struct fetch_req q = {.method = "GET", .url = url, .timeout_ms = PROBE_MS};

	str_fmt(url, sizeof(url), "%s/readyz", u->admin_url);
	bool ok = !fetch(&q, &r, NULL) && r.status == 200;
	fetch_resp_release(&r);
	return ok;
}

static enum rc call(const struct up *u, const char *method, const char *path, json_t **out,
		    struct err *e)
{
	char url[256];
	struct fetch_resp r;
	struct fetch_req q = {.method = method, .url = url, .token = u->token, .timeout_ms = 10000};

	*out = NULL;
	str_fmt(url, sizeof(url), "%s/api/v1/%s", u->url, path);
	enum rc rc = fetch(&q, &r, e);
	if (!rc && r.status >= 300)
		rc = err_set(e, RC_IO, "%s %s: status %d: %.200s", method, url, r.status, r.body.data);
	if (!rc)
		rc = jx_parse(r.body.data, r.body.len, path, out, e);
	fetch_resp_release(&r);
	return rc;
}

static enum rc read_token(struct up *u, struct err *e)
{
	char path[PATH_MAX];
	struct buf b = BUF_INIT;

	in_dir(u, "tokens/admin", path);
	enum rc rc = fs_read(path, 4096, &b, e);
	if (!rc) {
		struct str s = str_trim((struct str){b.data, b.len});
		u->token = mem_strn(s.p, s.len);
	}
	buf_release(&b);
	return rc;
}

static enum rc write_client_conf(struct up *u, struct err *e)
{
	char path[PATH_MAX];
	struct buf b = BUF_INIT;

	in_dir(u, "client.conf", path);
	buf_printf(&b, "# Written by `pawl up`; read by `pawl --data %s`.\nclient.server = %s\n"
		       "client.token_file = %s/tokens/admin\n",
		   u->dir, u->url, u->dir);
	enum rc rc = fs_write_durable(path, b.data, b.len, e);
	buf_release(&b);
	return rc;
}

static enum rc get_login(struct up *u, struct err *e)
{
	json_t *v;
	enum rc rc = call(u, "POST", "login-link", &v, e);

	if (!rc)
		u->login = mem_str(jx_get_str(v, "url", u->url));
	json_decref(v);
	return rc;
}

/* Workers. */

static enum rc prepare_worker(struct up *u, int i, struct err *e)
{
	char name[32], work[PATH_MAX], part[64];
	char *words[8];
	size_t n = 0;

	str_fmt(name, sizeof(name), "worker-%d", i);
	str_fmt(part, sizeof(part), "work/%d", i);
	in_dir(u, part, work);
	enum rc rc = fs_mkdirs(work, e);
	if (rc)
		return rc;
	words[n++] = program("pawl-worker");
	words[n++] = mem_str("run");
	words[n++] = mem_printf("--server=%s", u->url);
	words[n++] = mem_printf("--token-file=%s/tokens/worker", u->dir);
	words[n++] = mem_printf("--work-dir=%s", work);
	words[n++] = mem_printf("--name=%s", name);
	if (u->n_workers > 1 && !getenv("PAWL_WORKER_THREADS")) {
		long each = sysconf(_SC_NPROCESSORS_ONLN) / u->n_workers;
		words[n++] = mem_printf("--threads=%ld", each > 1 ? each : 1);
	}
	set_argv(&u->workers[i], name, words, n);
	return RC_OK;
}

static bool here(const json_t *workers, const char *name)
{
	const json_t *w;
	size_t i;

	json_array_foreach(json_object_get(workers, "items"), i, w) {
		const char *state = jx_get_str(w, "state", "");
		if (!strcmp(jx_get_str(w, "name", ""), name) && strcmp(state, "lost") &&
		    strcmp(state, "gone"))
			return true;
	}
	return false;
}

static bool workers_ready(const struct up *u)
{
	json_t *v;
	bool all = !call(u, "GET", "workers", &v, NULL);

	for (int i = 0; i < u->n_workers && all; i++)
		all = here(v, u->workers[i].name);
	json_decref(v);
	return all;
}

static enum rc start_workers(struct up *u, struct err *e)
{
	enum rc rc = RC_OK;

	for (int i = 0; i < u->n_workers && !rc; i++) {
		rc = prepare_worker(u, i, e);
		if (!rc)
			rc = child_start(u, &u->workers[i], e);
	}
	/* Dying is only watched for on the first; the others differ in nothing but their name. */
	if (!rc && u->n_workers)
		rc = wait_ready(u, &u->workers[0], workers_ready, e);
	return rc;
}

/* The whole. */

static enum rc lock_dir(struct up *u, struct err *e)
{
	char path[PATH_MAX], pid[32] = "";

	in_dir(u, "up.lock", path);
	u->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (u->lock_fd < 0)
		return err_set(e, err_from_errno(errno), "open %s: %m", path);
	if (flock(u->lock_fd, LOCK_EX | LOCK_NB)) {
		(void)!pread(u->lock_fd, pid, sizeof(pid) - 1, 0);
		pid[strcspn(pid, "\n")] = 0;
		return err_set(e, RC_CONFLICT, "%s is in use by `pawl up` with process id %s", u->dir,
			       pid[0] ? pid : "unknown");
	}
	str_fmt(pid, sizeof(pid), "%d\n", (int)getpid());
	if (ftruncate(u->lock_fd, 0) || pwrite(u->lock_fd, pid, strlen(pid), 0) < 0)
		return err_set(e, err_from_errno(errno), "write %s: %m", path);
	return RC_OK;
}

static enum rc make_dirs(struct up *u, const char *data_dir, struct err *e)
{
	static const char *const parts[] = {"log", "redis", "store", "work"};
	char path[PATH_MAX], *full;
	enum rc rc = fs_mkdirs(data_dir, e);

	if (rc)
		return rc;
	full = realpath(data_dir, NULL);
	if (!full || strlen(full) >= sizeof(u->dir))
		rc = err_set(e, RC_INVALID, "data folder %s: path is unusable", data_dir);
	else
		str_copy(u->dir, sizeof(u->dir), full);
	free(full);
	for (size_t i = 0; i < 4 && !rc; i++) {
		in_dir(u, parts[i], path);
		rc = fs_mkdirs(path, e);
	}
	/* Queue, tokens and scratch are nobody else's business. */
	if (!rc && (in_dir(u, "redis", path), chmod(path, 0700)))
		rc = err_set(e, err_from_errno(errno), "chmod %s: %m", path);
	return rc;
}

static enum rc start_all(struct up *u, const struct up_opts *o, struct err *e)
{
	enum rc rc = prepare_redis(u, e);

	if (!rc)
		rc = child_start(u, &u->redis, e);
	if (!rc)
		rc = wait_ready(u, &u->redis, redis_ready, e);
	if (!rc)
		rc = choose_address(u, o->listen ? o->listen : "127.0.0.1:8080", e);
	if (rc)
		return rc;
	prepare_server(u, o);
	rc = child_start(u, &u->server, e);
	if (!rc)
		rc = wait_ready(u, &u->server, server_ready, e);
	if (!rc)
		rc = read_token(u, e);
	if (!rc)
		rc = write_client_conf(u, e);
	if (!rc)
		rc = get_login(u, e);
	return rc ? rc : start_workers(u, e);
}

enum rc up_start(const char *data_dir, const struct up_opts *o, struct up **up, struct err *e)
{
	struct up *u = mem_new(sizeof(*u));
	enum rc rc = RC_OK;

	*up = NULL;
	u->lock_fd = -1;
	u->quiet = o->quiet;
	if (o->workers < 0 || o->workers > WORKERS_MAX)
		rc = err_set(e, RC_INVALID, "%d workers: expected 0 to %d", o->workers, WORKERS_MAX);
	else
		u->n_workers = o->workers;
	if (!rc)
		rc = make_dirs(u, data_dir, e);
	if (!rc)
		rc = lock_dir(u, e);
	if (!rc)
		rc = start_all(u, o, e);
	if (rc)
		up_stop(u);
	else
		*up = u;
	return rc;
}

const char *up_url(const struct up *u)
{
	return u->url;
}

const char *up_token(const struct up *u)
{
	return u->token;
}

const char *up_login(const struct up *u)
{
	return u->login;
}

pid_t up_worker_pid(const struct up *u, int i)
{
	ASSERT(i >= 0 && i < u->n_workers);
	return u->workers[i].proc.pid;
}

enum rc up_restart_worker(struct up *u, int i, int sig, struct err *e)
{
	int status;

	ASSERT(i >= 0 && i < u->n_workers);
	struct child *c = &u->workers[i];
	if (c->proc.pid > 0) {
		kill(c->proc.pid, sig);
		enum rc rc = proc_wait(&c->proc, WORKER_STOP_MS, &status, e);
		if (rc)
			return rc;
		proc_release(&c->proc);
		c->proc.pid = -1;
	}
	return child_start(u, c, e);
}

/* Looks whether it is at work, until it was once. */
static void child_look(const struct up *u, struct child *c)
{
	if (c->well)
		return;
	c->well = c == &u->redis    ? redis_ready(u)
		  : c == &u->server ? server_ready(u)
				    : clk_mono_ms() - c->started_ms > WORKER_WELL_MS;
}

/* When to start it again: at once, unless it died before it was ever at work. */
static void plan_restart(struct child *c, int status)
{
	char how[64];

	if (c->well)
		c->backoff_ms = 0;
	c->retry_at_ms = clk_mono_ms() + c->backoff_ms;
	proc_status_text(status, how, sizeof(how));
	log_warn("up", "child_died", "child=%s end=%s restart_in_ms=%lld", c->name, how,
		 (long long)c->backoff_ms);
	c->backoff_ms = !c->backoff_ms			       ? BACKOFF_MS_MIN
			: c->backoff_ms * 2 > BACKOFF_MS_MAX ? BACKOFF_MS_MAX
							       : c->backoff_ms * 2;
}

/* Starts a dead child again when its time has come. */
static enum rc tend(struct up *u, struct child *c, struct err *e)
{
	bool was_up = c->proc.pid > 0;
	int status = 0;

	if (!child_down(c, &status)) {
		child_look(u, c);
		return RC_OK;
	}
	if (was_up) {
		if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CONFIG)
			return died(u, c, status, e);
		plan_restart(c, status);
	}
	/* A server without Redis would only die again. */
	if (clk_mono_ms() < c->retry_at_ms || (c == &u->server && !u->redis.well))
		return RC_OK;
	enum rc rc = child_start(u, c, e);
	if (!rc)
		log_info("up", "restarted", "child=%s pid=%d", c->name, (int)c->proc.pid);
	return rc;
}

enum rc up_supervise(struct up *u, volatile int *stop, struct err *e)
{
	enum rc rc = RC_OK;

	while (!*stop && !rc) {
		rc = tend(u, &u->redis, e);
		if (!rc)
			rc = tend(u, &u->server, e);
		for (int i = 0; i < u->n_workers && !rc; i++)
			rc = tend(u, &u->workers[i], e);
		if (!rc)
			clk_sleep_ms(POLL_MS);
	}
	return rc;
}

/* All at once, so that N workers take the time of one. */
static void stop_workers(struct up *u)
{
	for (int i = 0; i < u->n_workers; i++)
		if (u->workers[i].proc.pid > 0)
			kill(u->workers[i].proc.pid, SIGTERM);
	for (int i = 0; i < u->n_workers; i++)
		child_stop(&u->workers[i], WORKER_STOP_MS);
}

void up_stop(struct up *u)
{
	if (!u)
		return;
	stop_workers(u);
	child_stop(&u->server, STOP_MS);
	child_stop(&u->redis, STOP_MS);
	if (u->socket_dir[0]) {
		unlink(u->socket);
		rmdir(u->socket_dir);
	}
	for (int i = 0; i < u->n_workers; i++)
		child_free(&u->workers[i]);
	child_free(&u->server);
	child_free(&u->redis);
	if (u->lock_fd >= 0)
		close(u->lock_fd); /* The file stays: removing it would race with the next lock. */
	free(u->token);
	free(u->login);
	free(u);
}
