/* The table of commands, and what turns a command line into a call of one of them. Help is made
 * from the same table.
 */
#include "cli/cli.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/demo.h"

#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct command commands[] = {
	{"up", "", "[--data DIR] [--listen ADDR] [--workers N] [--verbose]",
	 "run Redis, server and workers here", cmd_up, false},
	{"demo", "", "[--quick] [--json] [--seed N] [--no-kill] [--data DIR]",
	 "the whole loop on a small world, with a worker killed on the way", NULL, false},
	{"run", "submit", "-f FILE [--set KEY=VALUE]... [--dry-run] [--wait]",
	 "submit a run", cmd_run_submit, true},
	{"run", "list", "[--state STATE] [--tag TAG] [--starred] [--limit N]", "runs, newest first",
	 cmd_run_list, true},
	{"run", "show", "RUN", "one run with its stages and models", cmd_run_show, true},
	{"run", "watch", "RUN", "follow a run to its end", cmd_run_watch, true},
	{"run", "logs", "RUN [--stage S] [--job JOB] [--grep TEXT] [--since 10m|TIME] [-o FILE]",
	 "what all its attempts wrote, by time", cmd_run_logs, true},
	{"run", "diff", "RUN RUN [--ignore KEY]... [--all]", "where their specifications differ",
	 cmd_run_diff, true},
	{"run", "cost", "RUN", "what of its work lives on, what was lost, and the money", cmd_run_cost, true},
	{"run", "gantt", "RUN [--jobs] [--width COLUMNS] [--ascii]", "its attempts over time", cmd_run_gantt,
	 true},
	{"run", "cancel", "RUN", "stop a run for good", cmd_run_cancel, true},
	{"run", "pause", "RUN", "save progress and hold", cmd_run_pause, true},
	{"run", "drain", "RUN", "begin nothing new, let what runs finish", cmd_run_drain, true},
	{"run", "set", "RUN [--class N] [--weight W] [--max-running N]", "its place among other runs",
	 cmd_run_set, true},
	{"run", "tag", "RUN [--add TAG]... [--remove TAG]... [--star|--unstar]",
	 "mark it, for `run list --tag`", cmd_run_tag, true},
	{"run", "note", "RUN TEXT | --file FILE", "what to remember about it", cmd_run_note, true},
	{"run", "resume", "RUN", "go on after a pause or a drain", cmd_run_resume, true},
	{"run", "retry", "RUN", "try the failed jobs again", cmd_run_retry, true},
	{"run", "bulk",
	 "cancel|pause|drain|resume|retry|tag [--state STATE] [--tag TAG] [-q TEXT] [--starred] "
	 "[--add TAG]... [--remove TAG]... [--dry-run]",
	 "one decision for all runs that match", cmd_run_bulk, true},
	{"job", "list", "RUN [--stage S] [--iter T] [--state STATE]", "jobs of a run", cmd_job_list,
	 true},
	{"job", "show", "JOB", "one job with its attempts", cmd_job_show, true},
	{"job", "logs", "JOB [-f] [--attempt N] [--tail BYTES] [--grep TEXT] [--since 10m|TIME]",
	 "what a job wrote", cmd_job_logs, true},
	{"job", "retry", "JOB", "try a failed job again", cmd_job_retry, true},
	{"job", "invalidate", "JOB", "do a finished job again, and all that came of it",
	 cmd_job_invalidate, true},
	{"job", "set", "JOB --priority N", "before (up to 9) or after (-9) others of its kind", cmd_job_set,
	 true},
	{"job", "cancel", "JOB", "stop one job", cmd_job_cancel, true},
	{"worker", "list", "", "workers and what they do", cmd_worker_list, true},
	{"worker", "drain", "WORKER", "let it save, hand its job back and leave", cmd_worker_drain, true},
	{"worker", "cordon", "WORKER", "let it finish its job and give it no other", cmd_worker_cordon, true},
	{"worker", "resume", "WORKER", "take jobs again after a cordon, or a drain it has not heard of",
	 cmd_worker_resume, true},
	{"quota", "list", "", "limits of owners, and what they use", cmd_quota_list, true},
	{"quota", "set", "OWNER [--runs N] [--running N] [--gpu-hours H]",
	 "limit what one owner's runs use; what is left out has no limit", cmd_quota_set, true},
	{"data", "ls", "[--run RUN] [--iter T] [--stage S]", "datasets", cmd_data_ls, true},
	{"data", "export", "DIGEST | --run RUN --stage S [--iter T] [--role R] "
	 "[--min-score X] [--max-score X] [--min-margin X] [--max-margin X] [--min-length N] "
	 "[--max-length N] [--flag FLAG] [-q TEXT] [--sort KEY] [-o FILE]",
	 "rows as JSON lines", cmd_data_export, true},
	{"data", "reviews", "DIGEST | --run RUN [--summary] [-o FILE]",
	 "what people said of preference pairs, as JSON lines; or how far they agree", cmd_data_reviews,
	 true},
	{"ckpt", "ls", "[--run RUN]", "checkpoints", cmd_ckpt_ls, true},
	{"ckpt", "get", "DIGEST [-o FILE] [--unpack DIR]",
	 "download, resume after a break, check the digest", cmd_ckpt_get, true},
	{"ckpt", "gc", "[--dry-run [--keep-last N] [--keep-every N] [--keep-best FIGURE]]",
	 "put aside what nothing names any more", cmd_ckpt_gc, true},
	{"ckpt", "rm", "DIGEST", "give a checkpoint up: it goes with the next garbage", cmd_ckpt_rm, true},
	{"ckpt", "verify", "FILE [DIGEST]", "check an archive on this machine", cmd_ckpt_verify, false},
	{"eval", "compare", "RUN... [--model NAME]... [--markdown]",
	 "models side by side, who beats whom, and whether answers grew longer", cmd_eval_compare, true},
	{"token", "create", "NAME --role viewer|operator|admin|worker [--expires SECONDS]",
	 "make a token; it is shown once", cmd_token_create, true},
	{"token", "list", "", "tokens, without their secrets", cmd_token_list, true},
	{"token", "revoke", "ID", "make a token worthless now", cmd_token_revoke, true},
	{"user", "list", "", "people who may log in", cmd_user_list, true},
	{"user", "set", "NAME [--role viewer|operator|admin] [--password-file FILE]",
	 "make or change a user; FILE - is standard input", cmd_user_set, true},
	{"user", "delete", "NAME", "remove a user and end their sessions", cmd_user_delete, true},
	{"hook", "list", "", "webhooks, and what waits for them", cmd_hook_list, true},
	{"hook", "set", "NAME [--url URL] [--event KIND]... [--secret-file FILE] [--on|--off]",
	 "make or change a webhook; KIND * is all", cmd_hook_set, true},
	{"hook", "test", "NAME", "send it a test notice now", cmd_hook_test, true},
	{"hook", "delete", "NAME", "remove a webhook and what waits for it", cmd_hook_delete, true},
	{"notice", "list", "[--limit N]", "what people want to be told of, newest first", cmd_notice_list,
	 true},
	{"op", "list", "[--limit N]", "what takes longer than a request, newest first", cmd_op_list, true},
	{"op", "cancel", "OPERATION", "end it before its next step", cmd_op_cancel, true},
	{"audit", "", "[--who NAME] [--limit N]", "who changed what, newest first", cmd_audit, true},
	{"login", "", "", "a one-time link for the browser", cmd_login, true},
	{"db", "backup", "FOLDER [--link]",
	 "copy what must not be lost (store, tokens, webhooks), while all goes on", cmd_db_backup, false},
	{"db", "restore", "FOLDER", "make --data of a backup; `pawl up` then brings its runs back",
	 cmd_db_restore, false},
	{"db", "check", "[FOLDER] [--deep]", "whether data or a backup are whole; deep: every byte",
	 cmd_db_check, false},
	{"db", "migrate", "", "bring the keyspace of a running Redis up to date", cmd_db_migrate, false},
	{"doctor", "", "", "what this machine, its folder and its server lack", cmd_doctor, false},
	{"config", "check", "[FILE]", "whether the settings, or those of a file, are right", cmd_config_check,
	 false},
	{"config", "show", "[--origin]", "every setting and where it comes from", cmd_config_show, false},
	{"completion", "", "bash|zsh|fish", "what a shell wants to know of these commands", cmd_completion,
	 false},
	{"man", "", "", "the manual page, for man -l -", cmd_man, false},
	{"version", "", "", "version of this program", cmd_version, false},
	{"help", "", "[COMMAND...]", "this text", cmd_help, false},
};
const size_t n_commands = sizeof(commands) / sizeof(commands[0]);

const char *const common_flags[][2] = {
	{"--json", "what the API said, as JSON"},
	{"--quiet", "only what was asked for"},
	{"--no-color", "accepted; nothing here is coloured, so NO_COLOR changes nothing either"},
	{"--yes", "do what cannot be undone without asking"},
	{"--no-input", "never ask: what would be asked is not done"},
	{"--data DIR", "talk to the `pawl up` of this folder"},
	{"--server URL", "talk to this server"},
	{"--token-file FILE", "with the token in this file"},
	{"--help, -h", "what a command takes"},
};
const size_t n_common_flags = sizeof(common_flags) / sizeof(common_flags[0]);

volatile int cli_stop;

static void on_signal(int sig)
{
	cli_stop = sig;
}

void cli_catch_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
}

const char *default_data_dir(void)
{
	static char dir[PATH_MAX];
	const char *base = getenv("XDG_DATA_HOME"), *home = getenv("HOME");

	if (base && base[0] == '/' && strlen(base) < PATH_MAX - 64)
		str_fmt(dir, sizeof(dir), "%s/pawl", base);
	else
		str_fmt(dir, sizeof(dir), "%.3900s/.local/share/pawl", home && *home ? home : "/tmp");
	return dir;
}

static void help_line(FILE *out, const struct command *d, bool full)
{
	char line[512];

	str_fmt(line, sizeof(line), "pawl %s%s%s%s%s", d->noun, *d->verb ? " " : "", d->verb,
		full && *d->args ? " " : "", full ? d->args : "");
	if (full)
		fprintf(out, "%s\n    %s\n", line, d->help);
	else
		fprintf(out, "  %-20s %s\n", line + 5, d->help);
}

static void help_all(FILE *out)
{
	fputs("pawl: self-rewarding training that survives anything\n\n"
	      "usage: pawl COMMAND [ARGUMENTS] [FLAGS]\n\n",
	      out);
	for (size_t i = 0; i < n_commands; i++)
		help_line(out, &commands[i], false);
	fputs("\nFlags of every command:\n", out);
	for (size_t i = 0; i < n_common_flags; i++)
		fprintf(out, "  %-20s %s\n", common_flags[i][0], common_flags[i][1]);
	fputs("\nWithout --server, commands talk to the `pawl up` of --data DIR.\n"
	      "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 not allowed, 5 conflict,\n"
	      "6 unreachable, 7 run failed, 78 settings, 130 interrupted.\n",
	      out);
}

/* Every command that starts with these words; false when none does. */
static bool help_words(FILE *out, const char *noun, const char *verb)
{
	bool any = false;

	for (size_t i = 0; i < n_commands; i++)
		if (!strcmp(commands[i].noun, noun) && (!verb || !strcmp(commands[i].verb, verb))) {
			help_line(out, &commands[i], true);
			any = true;
		}
	return any;
}

bool confirmed(const struct cli *c, const char *fmt, ...)
{
	char answer[16] = "";
	va_list ap;

	if (c->yes || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return true;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	if (c->no_input) {
		fputs("? Not done: --no-input, and no --yes.\n", stderr);
		return false;
	}
	fputs("? [y/N] ", stderr);
	if (fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y'))
		return true;
	fputs("Not done.\n", stderr);
	return false;
}

static const struct command *find(const char *noun, const char *verb)
{
	for (size_t i = 0; i < n_commands; i++)
		if (!strcmp(commands[i].noun, noun) &&
		    (!*commands[i].verb || (verb && !strcmp(commands[i].verb, verb))))
			return &commands[i];
	return NULL;
}

static int unknown(const char *noun, const char *verb)
{
	const char *names[160];
	size_t n = 0;
	bool known_noun = false;

	for (size_t i = 0; i < n_commands; i++)
		known_noun |= !strcmp(commands[i].noun, noun);
	if (known_noun && !verb) {
		fprintf(stderr, "pawl: %s needs one more word:\n", noun);
		help_words(stderr, noun, NULL);
		return EXIT_USAGE;
	}
	for (size_t i = 0; i < n_commands && n < 160; i++)
		if (!known_noun || !strcmp(commands[i].noun, noun))
			names[n++] = known_noun ? commands[i].verb : commands[i].noun;
	const char *near = nearest(known_noun ? verb : noun, names, n);
	fprintf(stderr, "pawl: unknown command \"%s%s%s\"", noun, known_noun ? " " : "",
		known_noun ? verb : "");
	if (near)
		fprintf(stderr, ". Did you mean \"%s%s%s\"?", known_noun ? noun : "",
			known_noun ? " " : "", near);
	fputs("\nSee `pawl help`.\n", stderr);
	return EXIT_USAGE;
}

int cmd_help(struct cli *c, int argc, char **argv)
{
	(void)c;
	if (!argc)
		help_all(stdout);
	else if (!help_words(stdout, argv[0], argc > 1 ? argv[1] : NULL))
		return unknown(argv[0], argc > 1 ? argv[1] : NULL);
	return EXIT_DONE;
}

/* Takes the flags every command knows. */
static int take_common(struct cli *c, int *argc, char **argv, bool *help)
{
	int out = 1;

	for (int i = 1; i < *argc; i++) {
		if (!strcmp(argv[i], "--json"))
			c->json = true;
		else if (!strcmp(argv[i], "--quiet") || !strcmp(argv[i], "--no-color"))
			c->quiet |= argv[i][2] == 'q';
		else if (!strcmp(argv[i], "--yes") || !strcmp(argv[i], "-y"))
			c->yes = true;
		else if (!strcmp(argv[i], "--no-input"))
			c->no_input = true;
		else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			*help = true;
		else if (str_starts(argv[i], "--data="))
			c->data = argv[i] + 7;
		else if (!strcmp(argv[i], "--data") && i + 1 < *argc)
			c->data = argv[++i];
		else
			argv[out++] = argv[i];
	}
	argv[out] = NULL;
	*argc = out;
	return EXIT_DONE;
}

/* client.conf of a data folder stands below every other source of settings. */
static enum rc load_data_conf(struct cli *c, struct err *e)
{
	char path[PATH_MAX];
	struct buf b = BUF_INIT;
	const char *dir = c->data ? c->data : default_data_dir();
	enum rc rc = RC_OK;

	if (conf_origin(c->conf, "client.server") != CONF_DEFAULT)
		return RC_OK;
	if (strlen(dir) > sizeof(path) - 32)
		return err_set(e, RC_INVALID, "--data: path is too long");
	str_fmt(path, sizeof(path), "%s/client.conf", dir);
	if (!fs_exists(path))
		return c->data ? err_set(e, RC_NOTFOUND, "%s is not there: is `pawl up --data %s` running?",
					 path, dir)
			       : RC_OK;
	rc = fs_read(path, 65536, &b, e);
	if (!rc)
		rc = conf_load_text(c->conf, path, b.data, b.len, e);
	buf_release(&b);
	return rc;
}

static enum rc load_token(struct cli *c, struct err *e)
{
	const char *file = conf_str(c->conf, "client.token_file");
	struct buf b = BUF_INIT;

	if (!*file)
		return RC_OK;
	enum rc rc = fs_read(file, 4096, &b, e);
	if (!rc) {
		struct str s = str_trim((struct str){b.data, b.len});
		c->token = mem_strn(s.p, s.len);
	} else {
		err_wrap(e, "token");
	}
	buf_release(&b);
	return rc;
}

enum rc cli_connect(struct cli *c, struct err *e)
{
	enum rc rc = load_data_conf(c, e);

	if (!rc)
		rc = load_token(c, e);
	c->server = conf_str(c->conf, "client.server");
	if (!rc && !*c->server)
		rc = err_set(e, RC_INVALID,
			     "no server: give --server URL and --token-file FILE, or --data DIR of a "
			     "running `pawl up`");
	return rc;
}

static int dispatch(struct cli *c, const struct command *d, int argc, char **argv)
{
	struct err e;

	if (d->online && cli_connect(c, &e)) {
		int code = fail(&e);
		return e.code == RC_INVALID ? EXIT_USAGE : code;
	}
	return d->run(c, argc, argv);
}

static enum log_level level_of(const char *text)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};

	for (int i = 0; i < 4; i++)
		if (!strcmp(text, names[i]))
			return (enum log_level)i;
	return LOG_INFO;
}

int cli_main(int argc, char **argv)
{
	struct cli c = {0};
	struct err e;
	bool help = false;

	log_init("pawl", LOG_INFO, 0);
	signal(SIGPIPE, SIG_DFL);
	if (argc > 1 && !strcmp(argv[1], "demo") && (argc < 3 || strcmp(argv[2], "--help")))
		return demo_main(argc - 1, argv + 1); /* Its flags are its own. */
	take_common(&c, &argc, argv, &help);
	c.conf = conf_new();
	if (conf_load(c.conf, &argc, argv, true, &e))
		die("%s", e.text);
	log_init("pawl", level_of(conf_str(c.conf, "log.level")), conf_bool(c.conf, "log.json"));
	int code;
	const char *noun = argc > 1 ? argv[1] : NULL;
	if (noun && !strcmp(noun, "--version"))
		noun = "version";
	const struct command *d = noun ? find(noun, argc > 2 ? argv[2] : NULL) : NULL;
	int used = d && *d->verb ? 3 : 2;
	if (!noun || (help && !d)) {
		help_all(help ? stdout : stderr);
		code = help ? EXIT_DONE : EXIT_USAGE;
	} else if (!d) {
		code = unknown(noun, argc > 2 ? argv[2] : NULL);
	} else if (help) {
		help_words(stdout, d->noun, *d->verb ? d->verb : NULL);
		code = EXIT_DONE;
	} else {
		code = dispatch(&c, d, argc - used < 0 ? 0 : argc - used, argv + used);
	}
	if (fflush(stdout) && code == EXIT_DONE)
		code = EXIT_FAILED;
	conf_free(c.conf);
	free(c.token);
	return code;
}
