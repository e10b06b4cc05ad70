/* user, audit: who may do what, and who did what. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PASSWORD_FILE_MAX 1024

int cmd_user_list(struct cli *c, int argc, char **argv)
{
	static const char *const columns[] = {"NAME:name", "ROLE:role", "CREATED:created_at",
					      "CHANGED:changed_at", NULL};
	struct err e;
	json_t *answer;
	int code = opt_parse(NULL, 0, &argc, argv, 0, 0);

	if (code)
		return code;
	if (api(c, "GET", "users", NULL, &answer, &e))
		return fail(&e);
	code = show_rows(c, json_object_get(answer, "items"), columns);
	json_decref(answer);
	return code;
}

/* The first line of the file, "-" for standard input: never an argument, which others could see. */
static enum rc password_read(const char *path, struct buf *out, struct err *e)
{
	enum rc rc = fs_read(strcmp(path, "-") == 0 ? "/dev/stdin" : path, PASSWORD_FILE_MAX, out, e);

	if (!rc && !out->data)
		rc = err_set(e, RC_INVALID, "%s: expected a password", path);
	if (!rc)
		out->data[strcspn(out->data, "\r\n")] = 0;
	return rc;
}

static int user_send(struct cli *c, const char *name, const char *method, const json_t *body)
{
	char *quoted = url_quote(name), *path = mem_printf("users/%s", quoted);
	static const char *const whatever[] = {"If-Match: *", NULL};
	json_t *answer = NULL;
	struct err e;
	int code = EXIT_DONE;

	if (api_headers(c, method, path, body, whatever, &answer, &e))
		code = fail(&e);
	else if (c->json && answer)
		json_print(answer);
	else if (!c->quiet)
		printf("%s %s\n", name, body ? "set" : "deleted");
	json_decref(answer);
	free(path);
	free(quoted);
	return code;
}

int cmd_user_set(struct cli *c, int argc, char **argv)
{
	const char *role = NULL, *file = NULL;
	const struct opt opts[] = {{"--role", OPT_VALUE, &role}, {"--password-file", OPT_VALUE, &file}};
	struct buf password = BUF_INIT;
	json_t *body;
	struct err e;
	int code = opt_parse(opts, 2, &argc, argv, 1, 1);

	if (code)
		return code;
	if (!role && !file) {
		fputs("pawl: user set needs --role or --password-file\n", stderr);
		return EXIT_USAGE;
	}
	if (file && password_read(file, &password, &e)) {
		buf_release(&password);
		return fail(&e);
	}
	body = json_object();
	if (role)
		json_object_set_new(body, "role", json_string(role));
	if (file)
		json_object_set_new(body, "password", json_string(password.data));
	code = user_send(c, argv[0], "PUT", body);
	json_decref(body);
	buf_release(&password);
	return code;
}

int cmd_user_delete(struct cli *c, int argc, char **argv)
{
	int code = opt_parse(NULL, 0, &argc, argv, 1, 1);

	if (!code && !confirmed(c, "Remove user %s and end their sessions", argv[0]))
		code = EXIT_FAILED;
	return code ? code : user_send(c, argv[0], "DELETE", NULL);
}

int cmd_audit(struct cli *c, int argc, char **argv)
{
	static const char *const columns[] = {"WHEN:at",     "WHO:who",	      "FROM:from",
					      "METHOD:method", "STATUS:status", "PATH:path", NULL};
	const char *who = NULL;
	int64_t limit = 50;
	const struct opt opts[] = {{"--who", OPT_VALUE, &who}, {"--limit", OPT_INT, &limit}};
	struct err e;
	json_t *rows;
	char *quoted, *path;
	int code = opt_parse(opts, 2, &argc, argv, 0, 0);

	if (code)
		return code;
	quoted = url_quote(who ? who : "");
	path = mem_printf("audit?who=%s", quoted);
	if (api_list(c, path, limit, &rows, &e)) {
		code = fail(&e);
	} else {
		code = show_rows(c, rows, columns);
		json_decref(rows);
	}
	free(path);
	free(quoted);
	return code;
}
