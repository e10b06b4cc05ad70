/* pawl up, token, login, config, version. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/version.h"
#include "cli/up.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONF_MAX 65536

static int64_t conf_if_set(const struct conf *c, const char *key)
{
	return conf_origin(c, key) == CONF_DEFAULT ? 0 : conf_i64(c, key);
}

int cmd_up(struct cli *c, int argc, char **argv)
{
	const char *listen = NULL, *dir = c->data ? c->data : default_data_dir();
	int64_t workers = 1;
	bool verbose = false;
	const struct opt opts[] = {{"--listen", OPT_VALUE, &listen},
				   {"--workers", OPT_INT, &workers},
				   {"--verbose|-v", OPT_FLAG, &verbose}};
	struct err e;
	struct up *up;
	int code = opt_parse(opts, 3, &argc, argv, 0, 0);

	if (code)
		return code;
	if (workers < 0 || workers > 64) {
		fputs("pawl: --workers: expected 0 to 64\n", stderr);
		return EXIT_USAGE;
	}
	if (!listen && conf_origin(c->conf, "server.listen") != CONF_DEFAULT)
		listen = conf_str(c->conf, "server.listen");
	struct up_opts o = {.listen = listen, .workers = (int)workers, .quiet = !verbose,
			    .lease_ms = conf_if_set(c->conf, "server.lease_ms"),
			    .beat_ms = conf_if_set(c->conf, "server.beat_ms")};
	cli_catch_signals();
	if (up_start(dir, &o, &up, &e))
		return fail(&e);
	if (c->json)
		printf("{\"url\":\"%s\",\"login\":\"%s\",\"pid\":%d}\n", up_url(up), up_login(up),
		       (int)getpid());
	else
		printf("Pawl is running at %s\n\n  open     %s\n  data     %s\n  logs     %s/log\n"
		       "  command  pawl --data %s run list\n\nCtrl-C stops it; nothing is lost.\n",
		       up_url(up), up_login(up), dir, dir, dir);
	fflush(stdout);
	code = up_supervise(up, &cli_stop, &e) ? fail(&e) : EXIT_DONE;
	if (!c->quiet)
		fputs("stopping: workers hand back their jobs\n", stderr);
	up_stop(up);
	return code;
}

int cmd_token_create(struct cli *c, int argc, char **argv)
{
	const char *role = NULL;
	int64_t expires = 0;
	const struct opt opts[] = {{"--role", OPT_VALUE, &role}, {"--expires", OPT_INT, &expires}};
	struct err e;
	json_t *answer;
	int code = opt_parse(opts, 2, &argc, argv, 1, 1);

	if (code)
		return code;
	if (!role) {
		fputs("pawl: token create needs --role viewer|operator|admin|worker\n", stderr);
		return EXIT_USAGE;
	}
	json_t *body = json_pack("{s:s,s:s}", "name", argv[0], "role", role);
	if (!body) {
		fputs("pawl: the name is not valid UTF-8\n", stderr);
		return EXIT_USAGE;
	}
	if (expires > 0)
		json_object_set_new(body, "expires_s", json_integer(expires));
	enum rc rc = api(c, "POST", "tokens", body, &answer, &e);
	json_decref(body);
	if (rc)
		return fail(&e);
	if (c->json)
		json_print(answer);
	else
		puts(jx_get_str(answer, "token", jx_get_str(answer, "secret", "?")));
	if (!c->quiet && !c->json)
		fputs("keep it: it is not shown again\n", stderr);
	json_decref(answer);
	return EXIT_DONE;
}

int cmd_token_list(struct cli *c, int argc, char **argv)
{
	static const char *const columns[] = {"ID:id", "NAME:name", "ROLE:role",
					      "CREATED:created_at", "EXPIRES:expires_at", NULL};
	struct err e;
	json_t *rows;
	int code = opt_parse(NULL, 0, &argc, argv, 0, 0);

	if (code)
		return code;
	if (api_list(c, "tokens", 10000, &rows, &e))
		return fail(&e);
	code = show_rows(c, rows, columns);
	json_decref(rows);
	return code;
}

int cmd_token_revoke(struct cli *c, int argc, char **argv)
{
	struct err e;
	json_t *answer;
	int code = opt_parse(NULL, 0, &argc, argv, 1, 1);

	if (code)
		return code;
	if (!confirmed(c, "Make token %s worthless", argv[0]))
		return EXIT_FAILED;
	char *q = url_quote(argv[0]), *path = mem_printf("tokens/%s", q);
	if (api(c, "DELETE", path, NULL, &answer, &e))
		code = fail(&e);
	json_decref(answer);
	free(path);
	free(q);
	return code;
}

int cmd_login(struct cli *c, int argc, char **argv)
{
	struct err e;
	json_t *answer;
	int code = opt_parse(NULL, 0, &argc, argv, 0, 0);

	if (code)
		return code;
	if (api(c, "POST", "login-link", NULL, &answer, &e))
		return fail(&e);
	if (c->json)
		json_print(answer);
	else
		puts(jx_get_str(answer, "url", "?"));
	json_decref(answer);
	return EXIT_DONE;
}

int cmd_config_show(struct cli *c, int argc, char **argv)
{
	bool origin = false;
	const struct opt opts[] = {{"--origin", OPT_FLAG, &origin}};
	int code = opt_parse(opts, 1, &argc, argv, 0, 0);

	if (!code)
		conf_print(c->conf, stdout, origin, c->json);
	return code;
}

/* Wrong settings of flags, variables and the usual file have ended the program before. */
int cmd_config_check(struct cli *c, int argc, char **argv)
{
	struct buf b = BUF_INIT;
	struct err e;
	int code = opt_parse(NULL, 0, &argc, argv, 0, 1);

	if (code)
		return code;
	if (argc && (fs_read(argv[0], CONF_MAX, &b, &e) ||
		     conf_load_text(c->conf, argv[0], b.data ? b.data : "", b.len, &e)))
		code = fail(&e) == EXIT_NOT_FOUND ? EXIT_NOT_FOUND : EXIT_SETTINGS;
	else if (!c->quiet)
		printf("%s: right\n", argc ? argv[0] : "settings");
	buf_release(&b);
	return code;
}

int cmd_version(struct cli *c, int argc, char **argv)
{
	int code = opt_parse(NULL, 0, &argc, argv, 0, 0);

	if (!code)
		printf(c->json ? "{\"version\":\"%s\"}\n" : "pawl %s\n", version_text());
	return code;
}
