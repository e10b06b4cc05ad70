/* pawl job ..., pawl worker ... */
#include "cli/cli.h"
#include "cli/log_filter.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fetch.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LOG_WAIT_S 20
#define LOG_CHUNK (256 << 10)

static const char *const job_columns[] = {
	"ID:id", "STATE:state", "PROGRESS:progress@progress", "WORKER:worker", "ATTEMPTS:attempts",
	"STARTED:started_at@age", "WHY:why", NULL};

const char *job_failure(const json_t *job)
{
	const json_t *why = json_object_get(job, "error");

	if (json_is_string(why))
		return json_string_value(why);
	return jx_get_str(why, "message", jx_get_str(why, "reason", NULL));
}

/* Why it waits, or why it failed. */
static void add_why(json_t *rows)
{
	json_t *job;
	size_t i;

	json_array_foreach(rows, i, job)
	{
		const char *text = jx_get_str(job, "wait_reason", NULL);

		if (!text)
			text = job_failure(job);
		if (text)
			json_object_set_new(job, "why", json_string(text));
	}
}

int cmd_job_list(struct cli *c, int argc, char **argv)
{
	const char *stage = NULL, *iter = NULL, *state = NULL;
	const struct opt opts[] = {{"--stage", OPT_VALUE, &stage},
				   {"--iter", OPT_VALUE, &iter},
				   {"--state", OPT_VALUE, &state}};
	struct buf path = BUF_INIT;
	struct err e;
	json_t *rows;
	int code = opt_parse(opts, 3, &argc, argv, 1, 1);

	if (code)
		return code;
	char *q = url_quote(argv[0]);
	buf_printf(&path, "runs/%s/jobs", q);
	url_put_query(&path, "stage", stage);
	url_put_query(&path, "iter", iter);
	url_put_query(&path, "state", state);
	enum rc rc = api_list(c, path.data, 100000, &rows, &e);
	if (!rc && !c->json)
		add_why(rows);
	code = rc ? fail(&e) : show_rows(c, rows, job_columns);
	json_decref(rows);
	buf_release(&path);
	free(q);
	return code;
}

static enum rc get_job(struct cli *c, const char *id, const char *part, json_t **out, struct err *e)
{
	char *q = url_quote(id), *path = mem_printf("jobs/%s%s", q, part);
	enum rc rc = api(c, "GET", path, NULL, out, e);

	free(path);
	free(q);
	return rc;
}

/* "2 of 5, after 1 run": where a ready job stands. */
static void add_place(json_t *job)
{
	const json_t *w = json_object_get(job, "waiting");
	int64_t ahead = jx_get_i64(w, "runs_ahead", 0);

	if (!json_is_integer(json_object_get(w, "position")))
		return;
	json_object_set_new(job, "place",
			    json_sprintf(ahead ? "%lld of %lld of its run, after %lld other runs"
					       : "%lld of %lld of its run",
					 (long long)jx_get_i64(w, "position", 0),
					 (long long)jx_get_i64(w, "queue_length", 0), (long long)ahead));
}

static void print_waits(const json_t *job)
{
	static const char *const columns[] = {"WAITED FROM:from_at", "TO:to_at", "FOR:reason", NULL};
	const json_t *history = json_object_get(json_object_get(job, "waiting"), "history");

	if (!json_array_size(history))
		return;
	putchar('\n');
	table_print(stdout, history, columns);
}

int cmd_job_show(struct cli *c, int argc, char **argv)
{
	static const char *const columns[] = {
		"job:id", "run:run", "stage:stage", "iteration:iter", "state:state",
		"progress:progress@progress", "worker:worker", "attempts:attempts", "losses:losses",
		"preemptions:preemptions", "waits for:wait_reason", "place:place", "started:started_at",
		"ended:ended_at", "error:error", NULL};
	static const char *const attempts[] = {"ATTEMPT:n", "WORKER:worker", "END:end",
					       "REASON:reason", NULL};
	struct err e;
	json_t *job, *list = NULL;
	int code = opt_parse(NULL, 0, &argc, argv, 1, 1);

	if (code)
		return code;
	if (get_job(c, argv[0], "", &job, &e))
		return fail(&e);
	if (c->json) {
		json_print(job);
	} else {
		add_place(job);
		object_print(stdout, job, columns);
		print_waits(job);
		if (!get_job(c, argv[0], "/attempts", &list, &e) &&
		    json_array_size(json_object_get(list, "items"))) {
			putchar('\n');
			table_print(stdout, json_object_get(list, "items"), attempts);
		}
	}
	json_decref(list);
	json_decref(job);
	return EXIT_DONE;
}

struct log_at {
	int64_t offset, size; /* X-Log-Offset and X-Log-Size of the answer, -1 when absent */
};

static void on_header(void *ctx, const char *line, size_t len)
{
	struct log_at *at = ctx;
	char text[24];
	static const char *const names[] = {"X-Log-Offset:", "X-Log-Size:"};

	for (int i = 0; i < 2; i++) {
		size_t n = strlen(names[i]);
		if (len <= n || strncasecmp(line, names[i], n))
			continue;
		struct str v = str_trim((struct str){line + n, len - n});
		if (v.len >= sizeof(text))
			continue;
		memcpy(text, v.p, v.len);
		text[v.len] = 0;
		(void)str_to_i64(text, i ? &at->size : &at->offset);
	}
}

/* One piece from `*offset` (negative: so far from the end); moves it on. */
static enum rc log_piece(struct cli *c, const char *base, int64_t *offset, bool wait, struct log_filter *f,
			 size_t *got, struct err *e)
{
	struct log_at at = {-1, -1};
	char *url = mem_printf("%s?offset=%lld&limit=%d%s", base, (long long)*offset, LOG_CHUNK,
			       wait ? "&wait=20" : "");
	struct fetch_resp r;
	struct fetch_req q = {.method = "GET", .url = url, .token = c->token, .sink_ctx = &at,
			      .on_header = on_header, .timeout_ms = (LOG_WAIT_S + 20) * 1000};
	enum rc rc = fetch(&q, &r, e);

	*got = 0;
	if (!rc && r.status >= 300 && r.status != 416)
		rc = problem(r.status, r.body.data, r.body.len, e);
	if (!rc && r.status < 300) {
		if (log_filter_take(f, r.body.data, r.body.len) || fflush(stdout))
			rc = err_set(e, RC_IO, "write: %m");
		*got = r.body.len;
		*offset = (at.offset >= 0 ? at.offset : *offset < 0 ? 0 : *offset) +
			  (int64_t)r.body.len;
	}
	fetch_resp_release(&r);
	free(url);
	return rc;
}

static enum rc latest_attempt(struct cli *c, const char *job, int64_t *n, bool *running,
			      struct err *e)
{
	json_t *v, *list = NULL;
	const json_t *x;
	size_t i;
	enum rc rc = get_job(c, job, "", &v, e);

	if (!rc)
		rc = get_job(c, job, "/attempts", &list, e);
	*running = !strcmp(jx_get_str(v, "state", ""), "running");
	if (!rc && *n <= 0) {
		json_array_foreach(json_object_get(list, "items"), i, x)
			if (jx_get_i64(x, "n", 0) > *n)
				*n = jx_get_i64(x, "n", 0);
		if (*n <= 0)
			rc = err_set(e, RC_NOTFOUND, "job %s: has not been tried yet (%s)", job,
				     jx_get_str(v, "wait_reason", jx_get_str(v, "state", "")));
	}
	json_decref(list);
	json_decref(v);
	return rc;
}

int cmd_job_logs(struct cli *c, int argc, char **argv)
{
	bool follow = false, running;
	int64_t attempt = 0, tail = 0, offset;
	struct log_filter f = {.out = stdout};
	const char *since = NULL;
	const struct opt opts[] = {{"--follow|-f", OPT_FLAG, &follow},
				   {"--attempt", OPT_INT, &attempt},
				   {"--since", OPT_VALUE, &since},
				   {"--grep", OPT_VALUE, &f.text},
				   {"--tail", OPT_INT, &tail}};
	struct err e;
	size_t got = 1;
	int code = opt_parse(opts, 5, &argc, argv, 1, 1);

	if (code)
		return code;
	if (since && !log_since(since, &f.since_ms)) {
		fprintf(stderr, "pawl: --since: expected 30s, 10m, 2h, 1d or a time, found \"%s\"\n", since);
		return EXIT_USAGE;
	}
	if (latest_attempt(c, argv[0], &attempt, &running, &e))
		return fail(&e);
	cli_catch_signals();
	char *q = url_quote(argv[0]);
	char *base = mem_printf("%s/api/v1/jobs/%s/attempts/%lld/log", c->server, q,
				(long long)attempt);
	offset = -tail;
	enum rc rc = RC_OK;
	while (!rc && !cli_stop && (got || (follow && running))) {
		rc = log_piece(c, base, &offset, follow && !got, &f, &got, &e);
		if (!rc && !got && follow)
			rc = latest_attempt(c, argv[0], &attempt, &running, &e);
	}
	log_filter_end(&f);
	free(base);
	free(q);
	if (rc)
		return fail(&e);
	return cli_stop ? EXIT_INTERRUPTED : EXIT_DONE;
}

int cmd_job_retry(struct cli *c, int argc, char **argv)
{
	return post_verb(c, argc, argv, "jobs", "retry");
}

int cmd_job_cancel(struct cli *c, int argc, char **argv)
{
	return post_verb(c, argc, argv, "jobs", "cancel");
}

int cmd_job_invalidate(struct cli *c, int argc, char **argv)
{
	if (argc == 1 && !confirmed(c, "Do job %s again, and all that came of it", argv[0]))
		return EXIT_FAILED;
	return post_verb(c, argc, argv, "jobs", "invalidate");
}

int cmd_worker_resume(struct cli *c, int argc, char **argv)
{
	return post_verb(c, argc, argv, "workers", "resume");
}

int cmd_worker_cordon(struct cli *c, int argc, char **argv)
{
	return post_verb(c, argc, argv, "workers", "cordon");
}

int cmd_worker_drain(struct cli *c, int argc, char **argv)
{
	return post_verb(c, argc, argv, "workers", "drain");
}

int cmd_worker_list(struct cli *c, int argc, char **argv)
{
	static const char *const columns[] = {"ID:id", "NAME:name", "STATE:state", "JOB:job",
					      "ENGINE:engine", "HOST:host", "THREADS:threads",
					      "DONE:jobs_done", "BEAT:last_beat_at@age",
					      "WHY:unhealthy", NULL};
	struct err e;
	json_t *rows;
	int code = opt_parse(NULL, 0, &argc, argv, 0, 0);

	if (code)
		return code;
	if (api(c, "GET", "workers", NULL, &rows, &e))
		return fail(&e);
	code = show_rows(c, json_object_get(rows, "items"), columns);
	json_decref(rows);
	return code;
}
