/* What the commands of `pawl` share: settings, one HTTP call, tables, flags of their own.
 * Data goes to stdout, everything said to a person to stderr. `--json` prints what the API said.
 */
#pragma once

#include "base/buf.h"
#include "base/conf.h"
#include "base/err.h"

#include <jansson.h>
#include <limits.h>
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
	EXIT_SETTINGS = 78,
	EXIT_INTERRUPTED = 130,
};

struct cli {
	struct conf *conf;  /* owned */
	bool json, quiet;
	bool yes, no_input; /* nobody is asked: the answer is yes, or no */
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
/* {flags, help} of what every command takes. */
extern const char *const common_flags[][2];
extern const size_t n_common_flags;

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

/* Asks on the terminal before what cannot be undone; `what` is the question without its end. With --yes, and
 * where nobody can be asked, it is done; with --no-input and a terminal it is not. */
bool confirmed(const struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Finds server and token; before the first call of the API. */
enum rc cli_connect(struct cli *c, struct err *e);
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
/* What the API answers at `path`, as it comes; `what` names it in errors. A sink that says non-zero ends
 * it. */
enum rc api_stream(struct cli *c, const char *path, const char *what,
		   int (*sink)(void *ctx, const void *data, size_t len), void *ctx, struct err *e);
int to_file(void *ctx, const void *data, size_t len); /* a sink; ctx is a FILE */
/* runs/{id}. */
enum rc get_run(struct cli *c, const char *id, json_t **out, struct err *e);
/* All attempts of a run's jobs: an array. */
enum rc get_attempts(struct cli *c, const char *run, json_t **items, struct err *e);
/* A member that is a time, in ms; 0 when it is none. */
int64_t time_ms(const json_t *obj, const char *key);
/* "a b" -> "a%20b"; heap. */
char *url_quote(const char *s);
/* "?name=value", or "&name=value" after the first; nothing when value is NULL. */
void url_put_query(struct buf *b, const char *name, const char *value);
/* POST {kind}/{argv[0]}/{verb}, and says the new state; the exit code. */
int post_verb(struct cli *c, int argc, char **argv, const char *kind, const char *verb);
/* An error answer's body as an error. */
enum rc problem(int status, const char *body, size_t len, struct err *e);

/* The file a command writes, under another name until it is whole; no path: standard output. */
struct target {
	const char *path; /* borrowed */
	char part[PATH_MAX];
	FILE *out;
};
enum rc target_open(struct target *t, const char *path, struct err *e);
enum rc target_close(struct target *t, enum rc rc, struct err *e); /* rc: of what was written; kept */

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
int cmd_run_diff(struct cli *c, int argc, char **argv);
int cmd_run_cost(struct cli *c, int argc, char **argv);
int cmd_run_gantt(struct cli *c, int argc, char **argv);
int cmd_run_logs(struct cli *c, int argc, char **argv);
int cmd_run_bulk(struct cli *c, int argc, char **argv);
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
int cmd_worker_cordon(struct cli *c, int argc, char **argv);
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
int cmd_ckpt_rm(struct cli *c, int argc, char **argv);
int cmd_ckpt_verify(struct cli *c, int argc, char **argv);
int cmd_eval_compare(struct cli *c, int argc, char **argv);
int cmd_token_create(struct cli *c, int argc, char **argv);
int cmd_token_list(struct cli *c, int argc, char **argv);
int cmd_token_revoke(struct cli *c, int argc, char **argv);
int cmd_login(struct cli *c, int argc, char **argv);
int cmd_db_backup(struct cli *c, int argc, char **argv);
int cmd_db_restore(struct cli *c, int argc, char **argv);
int cmd_db_check(struct cli *c, int argc, char **argv);
int cmd_db_migrate(struct cli *c, int argc, char **argv);
int cmd_doctor(struct cli *c, int argc, char **argv);
int cmd_config_check(struct cli *c, int argc, char **argv);
int cmd_config_show(struct cli *c, int argc, char **argv);
int cmd_version(struct cli *c, int argc, char **argv);
int cmd_up(struct cli *c, int argc, char **argv);
int cmd_completion(struct cli *c, int argc, char **argv);
int cmd_man(struct cli *c, int argc, char **argv);
int cmd_help(struct cli *c, int argc, char **argv);

/* $XDG_DATA_HOME/pawl or ~/.local/share/pawl: where `pawl up` lives and commands look. Static. */
const char *default_data_dir(void);
/* Follows a run to its end on the terminal; EXIT_DONE or EXIT_RUN_FAILED. */
int watch_run(struct cli *c, const char *id);
