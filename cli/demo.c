/* `pawl demo`: makes a world, starts the embedded stack, submits a run, kills a worker twice on the
 * way, and prints what became of the models. Nothing here is special to the demo but the world:
 * the run goes through the same server, queue, workers and engine as any other.
 */
#include "cli/demo.h"

#include "base/clk.h"
#include "base/fetch.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/sha256.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/demo_parts.h"
#include "cli/up.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POLL_MS 300
#define LEASE_MS 6000 /* Short, so that a killed worker's job is taken up within seconds. */
#define BEAT_MS 300   /* Generating takes a second or two: progress is to be seen in it. */

struct demo {
	const struct demo_plan *plan;
	bool json, no_kill;
	uint64_t seed;
	char dir[PATH_MAX - 64];
	const char *listen;
	FILE *say; /* stdout, or stderr when stdout is for the JSON */
	struct up *up;
	char run[64];
	json_t *jobs; /* the last answer of GET /runs/{id}/jobs; owned */
	bool killed_generate, killed_dpo;
	char last_line[256];
};

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
	interrupted = sig;
}

static int usage(void)
{
	fputs("usage: pawl demo [--quick] [--json] [--seed N] [--no-kill] [--data DIR] [--listen ADDR]\n"
	      "       pawl demo world --data DIR [--quick|--tiny] [--seed N]   (data and run.json, no run)\n"
	      "       pawl demo score|compare      (JSON lines in, JSON lines out)\n",
	      stderr);
	return 2;
}

static int parse_args(struct demo *d, int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(a, "--quick") == 0) {
			d->plan = &demo_quick;
		} else if (strcmp(a, "--tiny") == 0) {
			d->plan = &demo_tiny;
		} else if (strcmp(a, "--json") == 0) {
			d->json = true;
		} else if (strcmp(a, "--no-kill") == 0) {
			d->no_kill = true;
		} else if (strcmp(a, "--seed") == 0 && value && str_to_u64(value, &d->seed)) {
			i++;
		} else if (strcmp(a, "--data") == 0 && value && value[0] != '-') {
			str_copy(d->dir, sizeof d->dir, value);
			i++;
		} else if (strcmp(a, "--listen") == 0 && value) {
			d->listen = value;
			i++;
		} else {
			return usage();
		}
	}
	return 0;
}

/* One API call with the admin token; *answer is NULL for an empty body. */
static enum rc call(struct demo *d, const char *method, const char *path, const json_t *body,
		    json_t **answer, struct err *e)
{
	char url[1024];
	char *text = body ? jx_text(body) : NULL;
	struct fetch_resp resp = {0};
	struct fetch_req req = {.method = method, .url = url, .token = up_token(d->up), .body = text,
				.body_len = text ? strlen(text) : 0, .timeout_ms = 30000};
	enum rc rc;

	*answer = NULL;
	str_fmt(url, sizeof url, "%s/api/v1/%s", up_url(d->up), path);
	rc = fetch(&req, &resp, e);
	if (!rc && resp.status >= 400)
		rc = err_set(e, RC_INVALID, "%s %s: status %d: %.*s", method, path, resp.status,
			     (int)resp.body.len, resp.body.data ? resp.body.data : "");
	if (!rc && resp.body.len)
		rc = jx_parse(resp.body.data, resp.body.len, path, answer, e);
	fetch_resp_release(&resp);
	free(text);
	return rc;
}

static enum rc submit(struct demo *d, const json_t *spec, struct err *e)
{
	json_t *answer = NULL;
	enum rc rc = call(d, "POST", "runs", spec, &answer, e);

	if (!rc)
		str_copy(d->run, sizeof d->run, jx_get_str(answer, "id", ""));
	if (!rc && !d->run[0])
		rc = err_set(e, RC_INVALID, "the server's answer to the submission has no id");
	json_decref(answer);
	return rc;
}

/* A job of `stage` that is running and not at its end, or NULL (borrowed). One of dpo is half done,
 * past a checkpoint; generate may be over before its first beat, so any moment will do. */
static const json_t *job_in_work(const json_t *jobs, const char *stage)
{
	const json_t *job;
	size_t i;

	json_array_foreach(json_object_get(jobs, "items"), i, job)
	{
		const json_t *p = json_object_get(job, "progress");
		int64_t done = jx_get_i64(p, "done", 0), total = jx_get_i64(p, "total", 0);

		if (strcmp(jx_get_str(job, "stage", ""), stage) == 0 &&
		    strcmp(jx_get_str(job, "state", ""), "running") == 0 &&
		    (strcmp(stage, "generate") == 0 ? done == 0 || done < total
						    : 2 * done >= total && done > 0 && done < total))
			return job;
	}
	return NULL;
}

static enum rc kill_once(struct demo *d, const char *stage, bool *killed, struct err *e)
{
	const json_t *job, *p;

	if (d->no_kill || *killed || !(job = job_in_work(d->jobs, stage)))
		return RC_OK;
	p = json_object_get(job, "progress");
	fprintf(d->say, "  ** killing the worker (kill -9) during %s", jx_get_str(job, "id", "?"));
	if (jx_get_i64(p, "total", 0))
		fprintf(d->say, ", at %d of %d %s", (int)jx_get_i64(p, "done", 0),
			(int)jx_get_i64(p, "total", 0), jx_get_str(p, "unit", ""));
	fputc('\n', d->say);
	fflush(d->say);
	*killed = true;
	return up_restart_worker(d->up, 0, SIGKILL, e);
}

/* Prints a line whenever the set of jobs in work changes. */
static void say_progress(struct demo *d, int64_t started_ms)
{
	char line[sizeof d->last_line] = "";
	const json_t *job;
	size_t i, len = 0;

	json_array_foreach(json_object_get(d->jobs, "items"), i, job)
	{
		const char *id = jx_get_str(job, "id", ""), *dot = strchr(id, '.');

		if (strcmp(jx_get_str(job, "state", ""), "running") != 0 || !dot)
			continue;
		len += (size_t)snprintf(line + len, sizeof line - len, "%s%s", len ? " " : "", dot + 1);
		if (len >= sizeof line)
			break;
	}
	if (!line[0] || strcmp(line, d->last_line) == 0)
		return;
	str_copy(d->last_line, sizeof d->last_line, line);
	fprintf(d->say, "  %4d s  %s\n", (int)((clk_mono_ms() - started_ms) / 1000), line);
	fflush(d->say);
}

static const char *first_failure(const json_t *jobs)
{
	const json_t *job;
	size_t i;

	json_array_foreach(json_object_get(jobs, "items"), i, job)
		if (strcmp(jx_get_str(job, "state", ""), "failed") == 0)
			return job_failure(job) ? job_failure(job) : jx_get_str(job, "id", "?");
	return "no failed job";
}

static enum rc watch(struct demo *d, int64_t started_ms, json_t **run, struct err *e)
{
	char run_path[128], jobs_path[128];
	enum rc rc = RC_OK;

	str_fmt(run_path, sizeof run_path, "runs/%s", d->run);
	str_fmt(jobs_path, sizeof jobs_path, "runs/%s/jobs?limit=1000", d->run);
	while (!rc) {
		const char *state;

		if (interrupted)
			return err_set(e, RC_CANCELLED, "interrupted");
		json_decref(*run);
		json_decref(d->jobs);
		*run = d->jobs = NULL;
		if ((rc = call(d, "GET", jobs_path, NULL, &d->jobs, e)) ||
		    (rc = call(d, "GET", run_path, NULL, run, e)))
			break;
		say_progress(d, started_ms);
		state = jx_get_str(*run, "state", "");
		if (strcmp(state, "done") == 0)
			return RC_OK;
		if (strcmp(state, "failed") == 0 || strcmp(state, "cancelled") == 0)
			return err_set(e, RC_INVALID, "the run is %s: %s", state, first_failure(d->jobs));
		if ((rc = kill_once(d, "generate", &d->killed_generate, e)) ||
		    (rc = kill_once(d, "dpo", &d->killed_dpo, e)))
			break;
		clk_sleep_ms(POLL_MS);
	}
	return rc;
}

static enum rc report(struct demo *d, const json_t *run, double human_score, int64_t started_ms,
		      struct err *e)
{
	char path[128];
	json_t *compare = NULL, *result = NULL;
	char *text;
	enum rc rc;

	str_fmt(path, sizeof path, "compare?run=%s", d->run);
	if ((rc = call(d, "GET", path, NULL, &compare, e)))
		return rc;
	result = demo_result(compare, run, d->jobs, human_score,
			     (double)(clk_mono_ms() - started_ms) / 1000);
	demo_print(result, d->say);
	fprintf(d->say, "\nto look at it again: %s/pawl up --data %s\n", proc_self_dir(), d->dir);
	if (d->json) {
		text = jx_text(result);
		puts(text);
		free(text);
	}
	json_decref(compare);
	json_decref(result);
	return RC_OK;
}

static enum rc prepare(struct demo *d, json_t **spec, double *human_score, struct err *e)
{
	char world[PATH_MAX], pawl[PATH_MAX];
	enum rc rc;

	if (!d->dir[0]) {
		const char *tmp = getenv("TMPDIR");

		str_fmt(d->dir, sizeof d->dir, "%s/pawl-demo-XXXXXX", tmp ? tmp : "/tmp");
		if (!mkdtemp(d->dir))
			return err_set(e, RC_IO, "make %s: %m", d->dir);
	} else if ((rc = fs_mkdirs(d->dir, e))) {
		return rc;
	}
	str_fmt(world, sizeof world, "%s/world", d->dir);
	str_fmt(pawl, sizeof pawl, "%s/pawl", proc_self_dir());
	if ((rc = world_write(world, d->seed, &d->plan->sizes, human_score, e)))
		return rc;
	*spec = demo_spec(d->plan, world, pawl, d->seed);
	fprintf(d->say, "world: %u demonstrations (true score %.2f), %u judgements, seed %llu\n",
		d->plan->sizes.ift, *human_score, d->plan->sizes.eft, (unsigned long long)d->seed);
	return RC_OK;
}

static enum rc demo_run(struct demo *d, struct err *e)
{
	struct up_opts opts = {.listen = d->listen, .workers = 1, .lease_ms = LEASE_MS,
			       .beat_ms = BEAT_MS, .quiet = true};
	json_t *spec = NULL, *run = NULL;
	double human_score = 0;
	int64_t started_ms = clk_mono_ms();
	enum rc rc;

	if ((rc = prepare(d, &spec, &human_score, e)))
		goto out;
	if ((rc = up_start(d->dir, &opts, &d->up, e)))
		goto out;
	fprintf(d->say, "watch it in a browser: %s\n", up_login(d->up));
	fflush(d->say);
	if ((rc = submit(d, spec, e)) || (rc = watch(d, started_ms, &run, e)))
		goto out;
	rc = report(d, run, human_score, started_ms, e);
out:
	up_stop(d->up);
	json_decref(spec);
	json_decref(run);
	json_decref(d->jobs);
	return rc;
}

/* `pawl demo world`: the files and the run to submit, for those who want to do the rest by hand. */
static int world_main(struct demo *d, int argc, char **argv)
{
	char path[PATH_MAX];
	json_t *spec = NULL;
	double human_score;
	struct err e = {0};
	struct buf b = BUF_INIT;
	enum rc rc;
	int code = parse_args(d, argc, argv);

	if (code)
		return code;
	rc = prepare(d, &spec, &human_score, &e);
	if (!rc) {
		jx_dump(spec, &b);
		str_fmt(path, sizeof path, "%s/run.json", d->dir);
		rc = fs_write_durable(path, b.data, b.len, &e);
	}
	if (rc)
		fprintf(stderr, "pawl demo world: %s\n", e.text);
	else
		printf("%s\n", path);
	buf_release(&b);
	json_decref(spec);
	return rc ? 1 : 0;
}

int demo_main(int argc, char **argv)
{
	struct demo d = {.plan = &demo_full, .seed = 1, .listen = "127.0.0.1:0", .say = stdout};
	struct sigaction sa = {.sa_handler = on_signal};
	struct err e = {0};
	int code;

	if (argc == 2 && strcmp(argv[1], "score") == 0)
		return demo_score_main(stdin, stdout);
	if (argc == 2 && strcmp(argv[1], "compare") == 0)
		return demo_compare_main(stdin, stdout);
	if (argc > 1 && strcmp(argv[1], "world") == 0)
		return world_main(&d, argc - 1, argv + 1);
	if ((code = parse_args(&d, argc, argv)))
		return code;
	d.say = d.json ? stderr : stdout;
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (demo_run(&d, &e)) {
		fprintf(stderr, "pawl demo: %s\n", e.text);
		if (d.dir[0])
			fprintf(stderr, "pawl demo: logs and data are in %s\n", d.dir);
		return interrupted ? 130 : 1;
	}
	return 0;
}
