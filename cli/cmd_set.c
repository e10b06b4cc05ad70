/* run set, job set, quota: numbers an operator changes while things run. */
#include "cli/cli.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>

/* One number that may be given: "--class" -> "class". */
struct setting {
	const char *option, *field;
	bool real;
};

/* Reads the options that were given into a new object; NULL after saying what is wrong. */
static json_t *settings_read(const struct setting *s, size_t n, int *argc, char **argv, int *code)
{
	const char *texts[4] = {NULL};
	struct opt opts[4];
	json_t *body = json_object();

	for (size_t i = 0; i < n; i++)
		opts[i] = (struct opt){s[i].option, OPT_VALUE, &texts[i]};
	*code = opt_parse(opts, n, argc, argv, 1, 1);
	for (size_t i = 0; !*code && i < n; i++) {
		int64_t whole;
		double real;

		if (!texts[i])
			continue;
		if (s[i].real ? !str_to_f64(texts[i], &real) : !str_to_i64(texts[i], &whole)) {
			fprintf(stderr, "pawl: %s: expected a number, not \"%s\"\n", s[i].option,
				texts[i]);
			*code = EXIT_USAGE;
			break;
		}
		json_object_set_new(body, s[i].field,
				    s[i].real ? json_real(real) : json_integer(whole));
	}
	if (*code) {
		json_decref(body);
		return NULL;
	}
	return body;
}

/* Sends the settings to {kind}/{argv[0]} and says that it is done. */
static int settings_send(struct cli *c, const struct setting *s, size_t n, int argc, char **argv,
			 const char *method, const char *kind, bool may_be_empty)
{
	static const char *const whatever[] = {"If-Match: *", NULL};
	struct err e;
	json_t *answer = NULL, *body;
	char *name, *path;
	int code;

	body = settings_read(s, n, &argc, argv, &code);
	if (!body)
		return code;
	if (!json_object_size(body) && !may_be_empty) {
		fputs("pawl: nothing to set; see `pawl help`\n", stderr);
		json_decref(body);
		return EXIT_USAGE;
	}
	name = url_quote(argv[0]);
	path = mem_printf("%s/%s", kind, name);
	if (api_headers(c, method, path, body, whatever, &answer, &e))
		code = fail(&e);
	else if (c->json && answer)
		json_print(answer);
	else if (!c->quiet)
		printf("%s set\n", argv[0]);
	json_decref(answer);
	json_decref(body);
	free(path);
	free(name);
	return code;
}

int cmd_run_set(struct cli *c, int argc, char **argv)
{
	static const struct setting s[] = {{"--class", "class", false},
					   {"--weight", "weight", true},
					   {"--max-running", "max_running", false}};

	return settings_send(c, s, 3, argc, argv, "PATCH", "runs", false);
}

int cmd_job_set(struct cli *c, int argc, char **argv)
{
	static const struct setting s[] = {{"--priority", "priority", false}};

	return settings_send(c, s, 1, argc, argv, "PATCH", "jobs", false);
}

int cmd_quota_set(struct cli *c, int argc, char **argv)
{
	static const struct setting s[] = {{"--runs", "runs", false},
					   {"--running", "running", false},
					   {"--gpu-hours", "gpu_hours", true}};

	return settings_send(c, s, 3, argc, argv, "PUT", "quotas", true);
}

int cmd_quota_list(struct cli *c, int argc, char **argv)
{
	static const char *const columns[] = {
		"OWNER:owner",	    "RUNS:used_runs",
		"OF:runs",	    "RUNNING:used_running",
		"OF:running",	    "GPU-HOURS TODAY:used_gpu_hours@num",
		"OF:gpu_hours@num", NULL};
	struct err e;
	json_t *rows;
	int code = opt_parse(NULL, 0, &argc, argv, 0, 0);

	if (code)
		return code;
	if (api(c, "GET", "quotas", NULL, &rows, &e))
		return fail(&e);
	code = show_rows(c, json_object_get(rows, "items"), columns);
	json_decref(rows);
	return code;
}
