#include "cli/cli.h"
#include "cli/log_filter.h"

#include "base/buf.h"
#include "base/clk.h"
#include "base/fs.h"
#include "base/str.h"

#include "tests/test.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGS(...) ((char *[]){__VA_ARGS__, NULL})

void test_cli__flags_and_words(void)
{
	bool wait = false;
	const char *file = NULL;
	int64_t n = 0;
	struct opt_list set = {0};
	const struct opt opts[] = {{"--wait", OPT_FLAG, &wait},
				   {"--file|-f", OPT_VALUE, &file},
				   {"--count", OPT_INT, &n},
				   {"--set", OPT_LIST, &set}};
	char **argv = ARGS("a", "-f", "x", "--set", "k=v", "--wait", "--set=q=2", "--count=7", "-", "--",
			   "--b");
	int argc = 11;

	CHECK_EQ(opt_parse(opts, 4, &argc, argv, 0, 9), EXIT_DONE);
	CHECK_EQ(argc, 3);
	CHECK_STR(argv[0], "a");
	CHECK_STR(argv[1], "-");
	CHECK_STR(argv[2], "--b");
	CHECK(wait && n == 7 && set.n == 2);
	CHECK_STR(file, "x");
	CHECK_STR(set.v[1], "q=2");
	argc = 1;
	CHECK_EQ(opt_parse(opts, 4, &argc, ARGS("--wiat"), 0, 9), EXIT_USAGE);
	argc = 1;
	CHECK_EQ(opt_parse(opts, 4, &argc, ARGS("--wait=1"), 0, 9), EXIT_USAGE);
	argc = 1;
	CHECK_EQ(opt_parse(opts, 4, &argc, ARGS("--file"), 0, 9), EXIT_USAGE);
	argc = 2;
	CHECK_EQ(opt_parse(opts, 4, &argc, ARGS("--file", "--wait"), 0, 9), EXIT_USAGE);
	argc = 2;
	CHECK_EQ(opt_parse(opts, 4, &argc, ARGS("--count", "x"), 0, 9), EXIT_USAGE);
	argc = 2;
	CHECK_EQ(opt_parse(opts, 4, &argc, ARGS("a", "b"), 0, 1), EXIT_USAGE);
	argc = 0;
	CHECK_EQ(opt_parse(opts, 4, &argc, ARGS("a"), 1, 1), EXIT_USAGE);
}

void test_cli__did_you_mean(void)
{
	static const char *const names[] = {"run", "job", "worker", "ckpt"};

	CHECK_STR(nearest("rnu", names, 4), "run");
	CHECK_STR(nearest("wroker", names, 4), "worker");
	CHECK_STR(nearest("jobs", names, 4), "job");
	CHECK(!nearest("zebra", names, 4));
	CHECK(!nearest("", names, 4));
}

void test_cli__problem_becomes_a_sentence_and_an_exit_code(void)
{
	struct err e;
	const char *body = "{\"type\":\"x\",\"title\":\"Invalid\",\"status\":422,\"detail\":\"two fields "
			   "are wrong\",\"errors\":[{\"pointer\":\"/dpo/lr\",\"detail\":\"too large\"}]}";

	CHECK_EQ(problem(422, body, strlen(body), &e), RC_INVALID);
	CHECK_STR(e.text, "two fields are wrong\n  /dpo/lr: too large");
	CHECK_EQ(exit_code(problem(404, "", 0, &e)), EXIT_NOT_FOUND);
	CHECK_EQ(exit_code(problem(401, "x", 1, &e)), EXIT_AUTH);
	CHECK_EQ(exit_code(problem(403, "x", 1, &e)), EXIT_AUTH);
	CHECK_EQ(exit_code(problem(409, "x", 1, &e)), EXIT_CONFLICT);
	CHECK_EQ(exit_code(problem(503, "<html>", 6, &e)), EXIT_UNREACHABLE);
}

void test_cli__exit_codes_of_wrong_lines(void)
{
	setenv("XDG_DATA_HOME", test_tmpdir(), 1);
	CHECK_EQ(cli_main(1, ARGS("pawl")), EXIT_USAGE);
	CHECK_EQ(cli_main(2, ARGS("pawl", "rnu")), EXIT_USAGE);
	CHECK_EQ(cli_main(2, ARGS("pawl", "run")), EXIT_USAGE);
	CHECK_EQ(cli_main(3, ARGS("pawl", "run", "lits")), EXIT_USAGE);
	CHECK_EQ(cli_main(3, ARGS("pawl", "run", "list")), EXIT_USAGE);
	CHECK_EQ(cli_main(5, ARGS("pawl", "run", "list", "--server", "http://127.0.0.1:1")),
		 EXIT_UNREACHABLE);
	CHECK_EQ(cli_main(5, ARGS("pawl", "run", "list", "--data", "/no/such")), EXIT_NOT_FOUND);
	CHECK_EQ(cli_main(4, ARGS("pawl", "ckpt", "verify", "/no/such")), EXIT_NOT_FOUND);
	CHECK_EQ(cli_main(2, ARGS("pawl", "version")), EXIT_DONE);
	CHECK_EQ(cli_main(3, ARGS("pawl", "--help", "run")), EXIT_DONE);
}

void test_cli__every_command_has_help_and_a_unique_name(void)
{
	for (size_t i = 0; i < n_commands; i++) {
		CHECK(commands[i].help[0]);
		CHECK(commands[i].run || !strcmp(commands[i].noun, "demo"));
		for (size_t k = 0; k < i; k++)
			CHECK(strcmp(commands[i].noun, commands[k].noun) ||
			      strcmp(commands[i].verb, commands[k].verb));
	}
}

void test_cli__tables_never_pass_control_bytes(void)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);
	static const char *const columns[] = {"NAME:name", "P:p@progress", "B:b@bytes", "X:no.such",
					      NULL};
	json_t *rows = json_pack("[{s:s,s:{s:i,s:i},s:i}]", "name", "a\x1b[31mb\nc\xc2\x9b", "p", "done",
				 1, "total", 3, "b", 2048);

	table_print(f, rows, columns);
	fclose(f);
	CHECK_STR(text, "NAME        P    B        X\na?[31mb c?  1/3  2.0 KiB  -\n");
	free(text);
	json_decref(rows);
}

static char *taken(struct log_filter *f, const char *text, size_t piece)
{
	char *got = NULL;
	size_t size = 0, len = strlen(text);

	f->out = open_memstream(&got, &size);
	f->late = false;
	for (size_t at = 0; at < len; at += piece)
		CHECK_EQ(log_filter_take(f, text + at, len - at < piece ? len - at : piece), 0);
	log_filter_end(f);
	fclose(f->out);
	return got;
}

void test_cli__a_log_is_filtered_however_it_comes(void)
{
	static const char log[] = "2026-11-21T10:00:00.000Z a one\nmore of one\n"
				  "2026-11-21T10:05:00.000Z a two\nmore of "
				  "two\n{\"ts\":\"2026-11-21T10:06:00.000Z\"} three";
	static const char merged[] =
		"1.dpo.0.0#1 2026-11-21T10:00:00.000Z x\n1.dpo.0.0#1 2026-11-21T10:05:00.000Z y\n";

	for (size_t piece = 1; piece < 300; piece += 7) {
		struct log_filter f = {.text = "one"};
		char *got = taken(&f, log, piece);
		CHECK_STR(got, "2026-11-21T10:00:00.000Z a one\nmore of one\n");
		free(got);
		f = (struct log_filter){0};
		CHECK(log_since("2026-11-21T10:01", &f.since_ms));
		got = taken(&f, log, piece);
		CHECK_STR(got, "2026-11-21T10:05:00.000Z a two\nmore of "
			       "two\n{\"ts\":\"2026-11-21T10:06:00.000Z\"} three\n");
		free(got);
		f = (struct log_filter){.prefixed = true};
		CHECK(log_since("2026-11-21T10:01:00Z", &f.since_ms));
		got = taken(&f, merged, piece);
		CHECK_STR(got, "1.dpo.0.0#1 2026-11-21T10:05:00.000Z y\n");
		free(got);
	}
}

void test_cli__since_is_an_age_or_a_time(void)
{
	int64_t ms = 0, now = clk_now_ms();

	CHECK(log_since("10m", &ms) && ms <= now - 599000 && ms >= now - 700000);
	CHECK(log_since("1d", &ms) && ms <= now - 86399000);
	CHECK(log_since("2026-11-21", &ms) && ms == 1795219200000);
	CHECK(log_since("2026-11-21T00:00:01.500Z", &ms) && ms == 1795219201500);
	CHECK(!log_since("", &ms) && !log_since("m", &ms) && !log_since("-5m", &ms) &&
	      !log_since("5w", &ms));
	CHECK(!log_since("yesterday", &ms) && !log_since("2026-13-21T00:00", &ms) &&
	      !log_since("999999999999d", &ms));
}

/* What a command prints. */
static char *printed(int argc, char **argv, int want)
{
	char path[PATH_MAX];
	struct buf b = BUF_INIT;
	struct err e;

	str_fmt(path, sizeof(path), "%s/out", test_tmpdir());
	fflush(stdout);
	int keep = dup(STDOUT_FILENO);
	CHECK(keep >= 0 && freopen(path, "w", stdout));
	int code = cli_main(argc, argv);
	fflush(stdout);
	CHECK(dup2(keep, STDOUT_FILENO) >= 0);
	close(keep);
	CHECK_EQ(code, want);
	CHECK_RC(fs_read(path, 1 << 20, &b, &e), RC_OK);
	return b.data ? buf_detach(&b) : strdup("");
}

void test_cli__completions_and_the_manual_name_every_command(void)
{
	static const char *const shells[] = {"bash", "zsh", "fish"};
	char *man = printed(2, ARGS("pawl", "man"), EXIT_DONE), word[64];

	for (size_t i = 0; i < n_commands; i++) {
		str_fmt(word, sizeof(word), "pawl %s%s%s", commands[i].noun,
			*commands[i].verb ? " " : "", commands[i].verb);
		CHECK(strstr(man, word));
	}
	for (int s = 0; s < 3; s++) {
		char *text = printed(3, ARGS("pawl", "completion", (char *)(uintptr_t)shells[s]),
				     EXIT_DONE);
		for (size_t i = 0; i < n_commands; i++) {
			CHECK(strstr(text, commands[i].noun));
			CHECK(strstr(text, commands[i].verb));
		}
		CHECK(strstr(text, "max-length"));
		CHECK(strstr(text, "token-file"));
		free(text);
	}
	free(man);
	free(printed(3, ARGS("pawl", "completion", "csh"), EXIT_USAGE));
}
