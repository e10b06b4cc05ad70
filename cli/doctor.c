/* doctor: what this machine, its data folder and its server need in order to work, one line each.
 */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fetch.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DISK_LEAST_GB 5.0
#define SKEW_MAX_S 5
#define ASK_MS 5000

enum verdict { FINE, WARN, BAD };

struct doctor {
	struct cli *c;
	json_t *list; /* owned; [{"check","state","detail"}] */
	int bad;
};

__attribute__((format(printf, 4, 5))) static void say(struct doctor *d, enum verdict v,
						      const char *check, const char *fmt, ...)
{
	static const char *const states[] = {"ok", "warn", "fail"};
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d->bad += v == BAD;
	json_array_append_new(d->list, json_pack("{s:s, s:s, s:s}", "check", check, "state",
						 states[v], "detail", text));
	if (!d->c->json && (v != FINE || !d->c->quiet))
		printf("%-5s %-14s %s\n", states[v], check, text);
}

/* The first line a program prints; false when it cannot be run or fails. */
static bool first_line(const char *const *argv, char *out, size_t size)
{
	struct proc_opts o = {.argv = argv};
	struct buf b = BUF_INIT;
	int status = -1;
	bool ok = !proc_run(&o, NULL, 0, 65536, ASK_MS, &b, &status, NULL) && WIFEXITED(status) &&
		  WEXITSTATUS(status) == 0;

	str_copy(out, size, b.data ? b.data : "");
	out[strcspn(out, "\r\n")] = 0;
	buf_release(&b);
	return ok;
}

static void programs(struct doctor *d)
{
	static const char *const ours[] = {"pawl-server", "pawl-worker"};
	const char *const redis[] = {"redis-server", "--version", NULL};
	char line[200];

	if (first_line(redis, line, sizeof(line)))
		say(d, FINE, "redis-server", "%s", line);
	else
		say(d, WARN, "redis-server",
		    "not found: `pawl up` needs it (apt-get install redis-server)");
	for (int i = 0; i < 2; i++) {
		char *path = mem_printf("%s/%s", proc_self_dir(), ours[i]);
		const char *const argv[] = {access(path, X_OK) ? ours[i] : path, "version", NULL};
		if (first_line(argv, line, sizeof(line)))
			say(d, FINE, ours[i], "%s", line);
		else
			say(d, WARN, ours[i], "neither in %s nor in PATH: `pawl up` needs it",
			    proc_self_dir());
		free(path);
	}
}

static void gpu(struct doctor *d)
{
	const char *const argv[] = {"nvidia-smi", "--query-gpu=name,driver_version,memory.total",
				    "--format=csv,noheader", NULL};
	char line[200];

	if (access("/dev/nvidiactl", F_OK))
		say(d, FINE, "gpu", "none: workers here compute on the CPU");
	else if (first_line(argv, line, sizeof(line)))
		say(d, FINE, "gpu", "%s", line);
	else
		say(d, WARN, "gpu",
		    "there is a device, but nvidia-smi does not answer: is the driver loaded?");
}

static void folder(struct doctor *d)
{
	const char *dir = d->c->data ? d->c->data : default_data_dir();
	double free_gb;

	if (!fs_exists(dir)) {
		say(d, FINE, "data", "%s: not there yet, `pawl up` makes it", dir);
		return;
	}
	free_gb = (double)fs_free_bytes(dir) / 1e9;
	if (access(dir, R_OK | W_OK | X_OK))
		say(d, BAD, "data", "%s: may not be written by this user", dir);
	else if (free_gb < DISK_LEAST_GB)
		say(d, WARN, "disk", "%s: %.1f GB free, a run needs more", dir, free_gb);
	else
		say(d, FINE, "disk", "%s: %.1f GB free", dir, free_gb);
}

static void on_date(void *ctx, const char *line, size_t len)
{
	struct tm tm = {0};
	char text[40];

	if (len < 6 || strncasecmp(line, "Date:", 5))
		return;
	str_fmt(text, sizeof(text), "%.*s", (int)(len - 5 < 38 ? len - 5 : 38), line + 5);
	if (strptime(text + strspn(text, " "), "%a, %d %b %Y %H:%M:%S", &tm))
		*(int64_t *)ctx = (int64_t)timegm(&tm);
}

static void server_answers(struct doctor *d, const struct fetch_resp *r, int64_t date_s)
{
	json_t *v = NULL;
	int64_t skew = date_s ? clk_now_ms() / 1000 - date_s : 0;

	if (r->status != 200 || jx_parse(r->body.data, r->body.len, "health", &v, NULL)) {
		say(d, BAD, "server", "%s answered %d: is it Pawl?", d->c->server, r->status);
		return;
	}
	say(d, FINE, "server", "%s answers", d->c->server);
	if (jx_get_bool(v, "redis", false))
		say(d, FINE, "redis", "reached by the server");
	else
		say(d, BAD, "redis", "the server does not reach it: see its log");
	json_decref(v);
	if (date_s && llabs(skew) > SKEW_MAX_S)
		say(d, WARN, "clock", "%lld s %s the server's: start ntp or chrony",
		    (long long)llabs(skew), skew > 0 ? "ahead of" : "behind");
	else if (date_s)
		say(d, FINE, "clock", "as the server's");
}

static void token(struct doctor *d)
{
	json_t *v = NULL;
	struct err e;

	if (api(d->c, "GET", "session", NULL, &v, &e))
		say(d, BAD, "token", "%s", e.text);
	else
		say(d, FINE, "token", "%s, role %s", jx_get_str(v, "name", "?"),
		    jx_get_str(v, "role", "?"));
	json_decref(v);
}

static void workers(struct doctor *d)
{
	json_t *v = NULL;
	const json_t *w;
	size_t i;
	int alive = 0;
	struct err e;

	if (!api(d->c, "GET", "workers", NULL, &v, &e)) {
		json_array_foreach(json_object_get(v, "items"), i, w) alive +=
			!strcmp(jx_get_str(w, "state", ""), "idle") ||
			!strcmp(jx_get_str(w, "state", ""), "busy");
		if (alive)
			say(d, FINE, "workers", "%d take jobs", alive);
		else
			say(d, WARN, "workers", "none takes jobs: start pawl-worker --server %s",
			    d->c->server);
	}
	json_decref(v);
}

static void server(struct doctor *d)
{
	int64_t date_s = 0;
	struct fetch_resp r = {0};
	struct err e;

	if (cli_connect(d->c, &e)) {
		say(d, WARN, "server", "%s", e.text);
		return;
	}
	char *url = mem_printf("%s/api/v1/health", d->c->server);
	struct fetch_req q = {.method = "GET",
			      .url = url,
			      .timeout_ms = ASK_MS,
			      .on_header = on_date,
			      .sink_ctx = &date_s};
	enum rc rc = fetch(&q, &r, &e);
	free(url);
	if (rc) {
		say(d, BAD, "server", "%s", e.text);
		return;
	}
	server_answers(d, &r, date_s);
	fetch_resp_release(&r);
	token(d);
	workers(d);
}

int cmd_doctor(struct cli *c, int argc, char **argv)
{
	struct doctor d = {.c = c};
	int code = opt_parse(NULL, 0, &argc, argv, 0, 0);

	if (code)
		return code;
	d.list = json_array();
	programs(&d);
	gpu(&d);
	folder(&d);
	server(&d);
	if (c->json)
		json_print(d.list);
	json_decref(d.list);
	return d.bad ? EXIT_FAILED : EXIT_DONE;
}
