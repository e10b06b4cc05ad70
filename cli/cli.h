/* What the commands of `pawl` share: settings, one HTTP call, tables, flags of their own.
 * Data goes to stdout, everything said to a person to stderr. `--json` prints what the API said.
 */
#pragma once

#include "base/buf.h"
#include "base/conf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Exit codes, the same for every command. */
enum cli_exit {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NOT_FOUND = 3,
	EXIT_AUTH = 4,
	EXIT_CONFLICT = 5,
	EXIT_UNREACHABLE = 6,
	EXIT_RUN_FAILED = 7,
	EXIT_INTERRUPTED = 130,
};

struct cli {
	struct conf *conf;  /* owned */
	bool json, quiet;
	const char *data;   /* --data, or NULL */
	const char *server; /* URL, borrowed from conf */
	char *token;        /* owned, NULL when there is none */
};

struct command {
	const char *noun, *verb; /* verb "" for commands of one word */
	const char *args;        /* "RUN [--stage S]" */
	const char *help;        /* one line */
	int (*run)(struct cli *c, int argc, char **argv); /* what follows noun and verb */
	bool online;             /* needs a server */
};
extern const struct command commands[];
extern const size_t n_commands;

/* The whole program after main(). */
int cli_main(int argc, char **argv);

/* Flags of one command. Matching flags are taken out of argv; what is left are the words. */
enum opt_kind { OPT_FLAG, OPT_VALUE, OPT_INT, OPT_LIST };
#define OPT_LIST_MAX 64
struct opt_list {
	const char *v[OPT_LIST_MAX];
	size_t n;
};
struct opt {
	const char *name; /* "--wait"; a one-letter form may follow after '|': "--file|-f" */
	enum opt_kind kind;
	void *dest;       /* bool, const char *, int64_t, struct opt_list */
};
/* `words`: least and most number of words. Prints what is wrong; returns EXIT_DONE or EXIT_USAGE. */
int opt_parse(const struct opt *opts, size_t n, int *argc, char **argv, int least, int most);

/* Nearest of the names, or NULL when none is near. */
const char *nearest(const char *word, const char *const *names, size_t n);

/* Says "pawl: <sentence>" and gives the exit code. */
int fail(const struct err *e);
int exit_code(enum rc rc);

/* Interrupted by Ctrl-C or SIGTERM; set once cli_catch_signals was called. */
extern volatile int cli_stop;
void cli_catch_signals(void);

/* One call of the API, path below /api/v1/. `*out` is the JSON answer or NULL when it was empty.
 * Error answers become errors: 404 RC_NOTFOUND, 401/403 RC_DENIED, 409 RC_CONFLICT, 5xx and 429
 * RC_UNREACHABLE; the sentence is the problem's detail, with the fields it complains about. */
enum rc api(struct cli *c, const char *method, const char *path, const json_t *body, json_t **out,
	    struct err *e);
enum rc api_headers(struct cli *c, const char *method, const char *path, const json_t *body,
		    const char *const *headers, json_t **out, struct err *e);
/* All pages of a list: an array. `path` without limit and cursor. */
enum rc api_list(struct cli *c, const char *path, int64_t max, json_t **out, struct err *e);
/* "a b" -> "a%20b"; heap. */
char *url_quote(const char *s);
/* "?name=value", or "&name=value" after the first; nothing when value is NULL. */
void url_put_query(struct buf *b, const char *name, const char *value);
/* POST {kind}/{argv[0]}/{verb}, and says the new state; the exit code. */
int post_verb(struct cli *c, int argc, char **argv, const char *kind, const char *verb);
/* An error answer's body as an error. */
enum rc problem(int status, const char *body, size_t len, struct err *e);

/* Tables: one column per spec, "title:path" where path is a dotted member; a suffix @age, @bytes,
 * @progress, @list, @short or @num formats it. NULL-terminated. */
void table_print(FILE *out, const json_t *rows, const char *const *columns);
/* Members of one object, a line each. */
void object_print(FILE *out, const json_t *obj, const char *const *columns);
void json_print(const json_t *v);
/* json: the answer itself; else the table. Always EXIT_DONE. */
int show_rows(struct cli *c, const json_t *rows, const char *const *columns);

/* Why a job failed, borrowed from it; NULL when it does not say. */
const char *job_failure(const json_t *job);

/* The commands, by file. */
int cmd_run_submit(struct cli *c, int argc, char **argv);
int cmd_run_list(struct cli *c, int argc, char **argv);
int cmd_run_show(struct cli *c, int argc, char **argv);
int cmd_run_watch(struct cli *c, int argc, char **argv);
int cmd_run_cancel(struct cli *c, int argc, char **argv);
int cmd_run_pause(struct cli *c, int argc, char **argv);
int cmd_run_drain(struct cli *c, int argc, char **argv);
int cmd_run_set(struct cli *c, int argc, char **argv);
int cmd_run_tag(struct cli *c, int argc, char **argv);
int cmd_hook_list(struct cli *c, int argc, char **argv);
int cmd_hook_set(struct cli *c, int argc, char **argv);
int cmd_hook_delete(struct cli *c, int argc, char **argv);
int cmd_hook_test(struct cli *c, int argc, char **argv);
int cmd_notice_list(struct cli *c, int argc, char **argv);
int cmd_op_list(struct cli *c, int argc, char **argv);
int cmd_op_cancel(struct cli *c, int argc, char **argv);
int cmd_run_note(struct cli *c, int argc, char **argv);
int cmd_run_resume(struct cli *c, int argc, char **argv);
int cmd_run_retry(struct cli *c, int argc, char **argv);
int cmd_job_list(struct cli *c, int argc, char **argv);
int cmd_job_show(struct cli *c, int argc, char **argv);
int cmd_job_logs(struct cli *c, int argc, char **argv);
int cmd_job_retry(struct cli *c, int argc, char **argv);
int cmd_job_invalidate(struct cli *c, int argc, char **argv);
int cmd_job_set(struct cli *c, int argc, char **argv);
int cmd_job_cancel(struct cli *c, int argc, char **argv);
int cmd_worker_list(struct cli *c, int argc, char **argv);
int cmd_worker_drain(struct cli *c, int argc, char **argv);
int cmd_worker_resume(struct cli *c, int argc, char **argv);
int cmd_user_list(struct cli *c, int argc, char **argv);
int cmd_user_set(struct cli *c, int argc, char **argv);
int cmd_user_delete(struct cli *c, int argc, char **argv);
int cmd_audit(struct cli *c, int argc, char **argv);
int cmd_quota_list(struct cli *c, int argc, char **argv);
int cmd_quota_set(struct cli *c, int argc, char **argv);
int cmd_data_ls(struct cli *c, int argc, char **argv);
int cmd_data_export(struct cli *c, int argc, char **argv);
int cmd_data_reviews(struct cli *c, int argc, char **argv);
int cmd_ckpt_ls(struct cli *c, int argc, char **argv);
int cmd_ckpt_get(struct cli *c, int argc, char **argv);
int cmd_ckpt_gc(struct cli *c, int argc, char **argv);
int cmd_ckpt_verify(struct cli *c, int argc, char **argv);
int cmd_eval_compare(struct cli *c, int argc, char **argv);
int cmd_token_create(struct cli *c, int argc, char **argv);
int cmd_token_list(struct cli *c, int argc, char **argv);
int cmd_token_revoke(struct cli *c, int argc, char **argv);
int cmd_login(struct cli *c, int argc, char **argv);
int cmd_config_show(struct cli *c, int argc, char **argv);
int cmd_version(struct cli *c, int argc, char **argv);
int cmd_up(struct cli *c, int argc, char **argv);
int cmd_help(struct cli *c, int argc, char **argv);

/* $XDG_DATA_HOME/pawl or ~/.local/share/pawl: where `pawl up` lives and commands look. Static. */
const char *default_data_dir(void);
/* Follows a run to its end on the terminal; EXIT_DONE or EXIT_RUN_FAILED. */
int watch_run(struct cli *c, const char *id);
