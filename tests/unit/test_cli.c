#include "cli/cli.h"

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
