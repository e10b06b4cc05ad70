/* Webhooks, notices, operations. */
#include "cli/cli.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

#define SECRET_FILE_MAX 1024

static int list(struct cli *c, int argc, char **argv, const char *path, const char *const *columns)
{
	int64_t limit = 50;
	const struct opt opts[] = {{"--limit", OPT_INT, &limit}};
	struct err e;
	json_t *rows = NULL;
	int code = opt_parse(opts, 1, &argc, argv, 0, 0);

	if (code)
		return code;
	code = api_list(c, path, limit, &rows, &e) ? fail(&e) : show_rows(c, rows, columns);
	json_decref(rows);
	return code;
}

int cmd_hook_list(struct cli *c, int argc, char **argv)
{
	static const char *const columns[] = {
		"NAME:name", "URL:url", "ON:enabled", "WAITING:waiting", "CHANGED:changed_at@age",
		NULL};
	struct err e;
	json_t *answer = NULL;
	int code = opt_parse(NULL, 0, &argc, argv, 0, 0);

	if (code)
		return code;
	if (api(c, "GET", "hooks", NULL, &answer, &e))
		return fail(&e);
	code = show_rows(c, json_object_get(answer, "items"), columns);
	json_decref(answer);
	return code;
}

int cmd_notice_list(struct cli *c, int argc, char **argv)
{
	static const char *const columns[] = {"AGE:at@age", "KIND:kind", "RUN:run", "TEXT:text",
					      NULL};

	return list(c, argc, argv, "notices", columns);
}

int cmd_op_list(struct cli *c, int argc, char **argv)
{
	static const char *const columns[] = {
		"ID:id",    "KIND:kind", "STATE:state",	       "DONE:done",
		"OF:total", "BY:by",	 "AGE:created_at@age", NULL};

	return list(c, argc, argv, "operations", columns);
}

int cmd_op_cancel(struct cli *c, int argc, char **argv)
{
	return post_verb(c, argc, argv, "operations", "cancel");
}

/* The first line of a file; "-" is standard input. Never an argument, which others could see. */
static enum rc secret_read(const char *file, json_t *body, struct err *e)
{
	struct buf b = BUF_INIT;
	enum rc rc = fs_read(strcmp(file, "-") ? file : "/dev/stdin", SECRET_FILE_MAX, &b, e);

	if (!rc && b.data)
		json_object_set_new(body, "secret", json_stringn(b.data, strcspn(b.data, "\r\n")));
	buf_release(&b);
	return rc;
}

static int send_hook(struct cli *c, const char *method, const char *name, const json_t *body)
{
	static const char *const whatever[] = {"If-Match: *", NULL};
	char *q = url_quote(name), *path = mem_printf("hooks/%s", q);
	json_t *answer = NULL;
	const char *secret;
	struct err e;
	int code = EXIT_DONE;

	if (api_headers(c, method, path, body, whatever, &answer, &e)) {
		code = fail(&e);
	} else if (c->json && answer) {
		json_print(answer);
	} else if (!c->quiet) {
		secret = jx_get_str(answer, "secret", "");
		printf("%s %s\n", name, body ? "set" : "deleted");
		if (secret[0])
			printf("secret of its signatures, shown once: %s\n", secret);
	}
	json_decref(answer);
	free(path);
	free(q);
	return code;
}

int cmd_hook_set(struct cli *c, int argc, char **argv)
{
	const char *url = NULL, *file = NULL;
	struct opt_list events = {0};
	bool on = false, off = false;
	const struct opt opts[] = {{"--url", OPT_VALUE, &url},
				   {"--event", OPT_LIST, &events},
				   {"--secret-file", OPT_VALUE, &file},
				   {"--on", OPT_FLAG, &on},
				   {"--off", OPT_FLAG, &off}};
	json_t *body = json_object(), *kinds = json_array();
	struct err e;
	int code = opt_parse(opts, 5, &argc, argv, 1, 1);

	for (size_t i = 0; i < events.n; i++)
		json_array_append_new(kinds, json_string(events.v[i]));
	if (url)
		json_object_set_new(body, "url", json_string(url));
	if (events.n)
		json_object_set(body, "events", kinds);
	if (on != off)
		json_object_set_new(body, "enabled", json_boolean(on));
	if (!code && file && secret_read(file, body, &e))
		code = fail(&e);
	if (!code)
		code = send_hook(c, "PUT", argv[0], body);
	json_decref(kinds);
	json_decref(body);
	return code;
}

int cmd_hook_delete(struct cli *c, int argc, char **argv)
{
	int code = opt_parse(NULL, 0, &argc, argv, 1, 1);

	return code ? code : send_hook(c, "DELETE", argv[0], NULL);
}

int cmd_hook_test(struct cli *c, int argc, char **argv)
{
	json_t *answer = NULL;
	struct err e;
	int code = opt_parse(NULL, 0, &argc, argv, 1, 1);

	if (code)
		return code;
	char *q = url_quote(argv[0]), *path = mem_printf("hooks/%s/test", q);
	if (api(c, "POST", path, NULL, &answer, &e))
		code = fail(&e);
	else if (c->json)
		json_print(answer);
	else
		printf("%s: %s\n", argv[0], jx_get_str(answer, "error", "delivered"));
	if (!code && !jx_get_bool(answer, "delivered", false))
		code = EXIT_FAILED;
	json_decref(answer);
	free(path);
	free(q);
	return code;
}
