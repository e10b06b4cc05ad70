/* pawl run ... */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPEC_MAX ((size_t)8 << 20)
#define WATCH_MS 2000
#define SUBMIT_TRIES 4

static const char *const run_columns[] = {"ID:id",	 "NAME:name",		 "STATE:state",
					  "JOBS:progress@progress", "ITER:iterations",
					  "AGE:created_at@age", NULL};
static const char *const stage_columns[] = {"ITER:iter", "STAGE:stage", "STATE:state",
					    "JOBS:jobs", "WORK:work", "UNIT:unit", NULL};

static enum rc read_spec(const char *file, json_t **out, struct err *e)
{
	struct buf b = BUF_INIT;
	enum rc rc = RC_OK;

	*out = NULL;
	if (strcmp(file, "-"))
		return jx_load(file, SPEC_MAX, out, e);
	while (!feof(stdin) && !ferror(stdin) && b.len <= SPEC_MAX) {
		buf_reserve(&b, 65536);
		size_t n = fread(b.data + b.len, 1, 65536, stdin);
		b.len += n;
		b.data[b.len] = 0;
	}
	if (b.len > SPEC_MAX)
		rc = err_set(e, RC_INVALID, "stdin: larger than %zu bytes", SPEC_MAX);
	else
		rc = jx_parse(b.data, b.len, "stdin", out, e);
	buf_release(&b);
	return rc;
}

/* "dpo.lr=1e-6": the value is JSON when it reads as JSON, text otherwise. */
static enum rc apply_set(json_t *spec, const char *text, struct err *e)
{
	const char *eq = strchr(text, '=');
	json_t *at = spec, *value;
	char key[128];

	if (!eq || eq == text)
		return err_set(e, RC_INVALID, "--set \"%s\": expected key=value", text);
	if (jx_parse(eq + 1, strlen(eq + 1), "value", &value, NULL))
		value = json_string(eq + 1);
	for (const char *p = text;;) {
		size_t n = strcspn(p, ".=");
		if (!n || n >= sizeof(key))
			break;
		memcpy(key, p, n);
		key[n] = 0;
		p += n;
		if (*p == '=') {
			json_object_set_new(at, key, value);
			return RC_OK;
		}
		json_t *next = json_object_get(at, key);
		if (!next) {
			next = json_object();
			json_object_set_new(at, key, next);
		}
		if (!json_is_object(next))
			break;
		at = next;
		p++;
	}
	json_decref(value);
	return err_set(e, RC_INVALID, "--set \"%s\": \"%.*s\" is no path of fields", text,
		       (int)(eq - text), text);
}

static int show_plan(struct cli *c, const json_t *answer)
{
	static const char *const columns[] = {"ITER:iter", "STAGE:stage", "JOBS:jobs", NULL};
	const json_t *plan = json_object_get(answer, "plan"), *errors = json_object_get(answer, "errors");
	const json_t *x;
	size_t i;

	if (c->json)
		json_print(answer);
	else if (plan)
		table_print(stdout, json_object_get(plan, "stages"), columns);
	if (!c->json && plan)
		printf("%lld jobs known so far\n", (long long)jx_get_i64(plan, "total_jobs", 0));
	json_array_foreach(errors, i, x)
		fprintf(stderr, "pawl: %s: %s\n", jx_get_str(x, "pointer", "?"),
			jx_get_str(x, "detail", "?"));
	return json_array_size(errors) ? EXIT_FAILED : EXIT_DONE;
}

/* The key makes trying again after a lost answer safe: the server submits once. */
static enum rc post_run(struct cli *c, const json_t *spec, bool dry, json_t **out, struct err *e)
{
	uint8_t raw[SHA256_SIZE];
	char hex[SHA256_HEX_SIZE], header[100];
	const char *headers[] = {header, NULL};
	enum rc rc = RC_OK;

	random_bytes(raw, sizeof(raw));
	sha256_hex(raw, hex);
	str_fmt(header, sizeof(header), "Idempotency-Key: %.32s", hex);
	for (int i = 0; i < SUBMIT_TRIES; i++) {
		rc = api_headers(c, "POST", dry ? "runs?dry_run=1" : "runs", spec, headers, out, e);
		if (rc != RC_UNREACHABLE && rc != RC_TIMEOUT)
			break;
		clk_sleep_ms(500 << i);
	}
	return rc;
}

int cmd_run_submit(struct cli *c, int argc, char **argv)
{
	const char *file = NULL;
	struct opt_list sets = {0};
	bool dry = false, wait = false;
	const struct opt opts[] = {{"--file|-f", OPT_VALUE, &file},
				   {"--set", OPT_LIST, &sets},
				   {"--dry-run", OPT_FLAG, &dry},
				   {"--wait", OPT_FLAG, &wait}};
	struct err e;
	json_t *spec = NULL, *answer = NULL;
	int code = opt_parse(opts, 4, &argc, argv, 0, 0);

	if (code)
		return code;
	if (!file) {
		fputs("pawl: run submit needs -f FILE (\"-\" for stdin)\n", stderr);
		return EXIT_USAGE;
	}
	enum rc rc = read_spec(file, &spec, &e);
	for (size_t i = 0; i < sets.n && !rc; i++)
		rc = apply_set(spec, sets.v[i], &e);
	if (!rc)
		rc = post_run(c, spec, dry, &answer, &e);
	const char *id = jx_get_str(answer, "id", "?");
	if (rc) {
		code = fail(&e);
	} else if (dry) {
		code = show_plan(c, answer);
	} else {
		if (c->json)
			json_print(answer);
		else
			puts(id);
		if (!c->quiet && !c->json && !wait)
			fprintf(stderr, "\nfollow it:  pawl run watch %s\nits jobs:   pawl job list %s\n"
				"stop it:    pawl run cancel %s\n", id, id, id);
		if (wait)
			code = watch_run(c, id);
	}
	json_decref(answer);
	json_decref(spec);
	return code;
}

int cmd_run_list(struct cli *c, int argc, char **argv)
{
	const char *state = NULL, *tag = NULL;
	bool starred = false;
	int64_t limit = 50;
	const struct opt opts[] = {{"--state", OPT_VALUE, &state},
				   {"--tag", OPT_VALUE, &tag},
				   {"--starred", OPT_FLAG, &starred},
				   {"--limit", OPT_INT, &limit}};
	struct buf path = BUF_INIT;
	struct err e;
	json_t *rows;
	int code = opt_parse(opts, 4, &argc, argv, 0, 0);

	if (code)
		return code;
	buf_puts(&path, "runs");
	url_put_query(&path, "state", state);
	url_put_query(&path, "tag", tag);
	url_put_query(&path, "starred", starred ? "1" : NULL);
	enum rc rc = api_list(c, path.data, limit, &rows, &e);
	code = rc ? fail(&e) : show_rows(c, rows, run_columns);
	json_decref(rows);
	buf_release(&path);
	return code;
}

/* Stages with their counts as text, ready for the table. */
static json_t *stage_rows(const json_t *run)
{
	json_t *rows = json_array();
	const json_t *s;
	size_t i;

	json_array_foreach(json_object_get(run, "stages"), i, s) {
		json_t *row = json_deep_copy(s), *n;
		const char *state;
		int64_t total = 0;
		char text[64];
		json_object_foreach(json_object_get(row, "counts"), state, n)
			total += json_integer_value(n);
		int64_t done = jx_get_i64(json_object_get(s, "counts"), "done", 0);
		int64_t planned = jx_get_i64(s, "planned", total);
		str_fmt(text, sizeof(text), "%lld/%lld", (long long)done,
			(long long)(planned > total ? planned : total));
		json_object_set_new(row, "jobs", json_string(text));
		str_fmt(text, sizeof(text), "%lld/%lld", (long long)jx_get_i64(s, "done_units", 0),
			(long long)jx_get_i64(s, "total_units", 0));
		json_object_set_new(row, "work",
				    jx_get_i64(s, "total_units", 0) ? json_string(text) : json_null());
		json_array_append_new(rows, row);
	}
	return rows;
}

static void print_stages(FILE *out, const json_t *run)
{
	json_t *rows = stage_rows(run);

	table_print(out, rows, stage_columns);
	json_decref(rows);
}

enum rc get_run(struct cli *c, const char *id, json_t **out, struct err *e)
{
	char *q = url_quote(id), *path = mem_printf("runs/%s", q);
	enum rc rc = api(c, "GET", path, NULL, out, e);

	free(path);
	free(q);
	return rc;
}

int cmd_run_show(struct cli *c, int argc, char **argv)
{
	static const char *const columns[] = {
		"run:id",	   "name:name",	  "state:state",
		"jobs:progress@progress", "iterations:iterations", "seed:seed",
		"created:created_at", "ended:ended_at", "final:final_digest", "error:error", NULL};
	static const char *const models[] = {"MODEL:name", "ITER:iter", "CHECKPOINT:checkpoint",
					     NULL};
	struct err e;
	json_t *run;
	int code = opt_parse(NULL, 0, &argc, argv, 1, 1);

	if (code)
		return code;
	if (get_run(c, argv[0], &run, &e))
		return fail(&e);
	if (c->json) {
		json_print(run);
	} else {
		object_print(stdout, run, columns);
		putchar('\n');
		print_stages(stdout, run);
		if (json_array_size(json_object_get(run, "models"))) {
			putchar('\n');
			table_print(stdout, json_object_get(run, "models"), models);
		}
	}
	json_decref(run);
	return EXIT_DONE;
}

static bool ended(const char *state)
{
	return !strcmp(state, "done") || !strcmp(state, "failed") || !strcmp(state, "cancelled");
}

/* In place on a terminal; one line per change elsewhere. Returns the number of lines drawn. */
static int draw(const json_t *run, int drawn, json_t *last)
{
	static const char *const columns[] = {"run:id", "state:state", "jobs:progress@progress", NULL};
	json_t *rows = stage_rows(run), *row;
	size_t i;

	if (isatty(STDOUT_FILENO)) {
		if (drawn)
			printf("\033[%dA\033[J", drawn);
		object_print(stdout, run, columns);
		table_print(stdout, rows, stage_columns);
		drawn = 3 + 1 + (int)json_array_size(rows);
	} else {
		json_array_foreach(rows, i, row) {
			char key[32], now[200];
			str_fmt(key, sizeof(key), "%zu", i);
			str_fmt(now, sizeof(now), "%lld %.30s %.30s %.40s",
				(long long)jx_get_i64(row, "iter", 0), jx_get_str(row, "stage", ""),
				jx_get_str(row, "state", ""), jx_get_str(row, "jobs", ""));
			if (!strcmp(jx_get_str(last, key, ""), now))
				continue;
			json_object_set_new(last, key, json_string(now));
			puts(now);
		}
	}
	fflush(stdout);
	json_decref(rows);
	return drawn;
}

int watch_run(struct cli *c, const char *id)
{
	struct err e;
	json_t *run = NULL, *last = json_object();
	int drawn = 0, lost = 0, code = -1;

	cli_catch_signals();
	while (code < 0 && !cli_stop) {
		enum rc rc = get_run(c, id, &run, &e);
		if (rc == RC_UNREACHABLE || rc == RC_TIMEOUT) {
			/* The run goes on without us; a server that restarts comes back. */
			if (!lost++)
				fprintf(stderr, "pawl: %s; trying again\n", e.text);
			code = lost > 150 ? fail(&e) : -1;
		} else if (rc) {
			code = fail(&e);
		} else {
			const char *state = jx_get_str(run, "state", "");
			lost = 0;
			if (!c->json && !c->quiet)
				drawn = draw(run, drawn, last);
			if (ended(state))
				code = strcmp(state, "done") ? EXIT_RUN_FAILED : EXIT_DONE;
			if (code >= 0 && c->json)
				json_print(run);
			else if (code == EXIT_RUN_FAILED)
				fprintf(stderr, "pawl: run %s is %s: %s\n", id, state,
					jx_get_str(run, "error", "see `pawl job list`"));
		}
		json_decref(run);
		run = NULL;
		if (code < 0)
			clk_sleep_ms(WATCH_MS);
	}
	json_decref(last);
	return code < 0 ? EXIT_INTERRUPTED : code;
}

int cmd_run_watch(struct cli *c, int argc, char **argv)
{
	int code = opt_parse(NULL, 0, &argc, argv, 1, 1);

	return code ? code : watch_run(c, argv[0]);
}

int cmd_run_cancel(struct cli *c, int argc, char **argv)
{
	if (argc == 1 && !confirmed(c, "Stop run %s for good", argv[0]))
		return EXIT_FAILED;
	return post_verb(c, argc, argv, "runs", "cancel");
}

int cmd_run_pause(struct cli *c, int argc, char **argv)
{
	return post_verb(c, argc, argv, "runs", "pause");
}

int cmd_run_drain(struct cli *c, int argc, char **argv)
{
	return post_verb(c, argc, argv, "runs", "drain");
}

int cmd_run_resume(struct cli *c, int argc, char **argv)
{
	return post_verb(c, argc, argv, "runs", "resume");
}

int cmd_run_retry(struct cli *c, int argc, char **argv)
{
	return post_verb(c, argc, argv, "runs", "retry");
}
