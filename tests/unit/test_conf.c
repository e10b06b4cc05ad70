#include "base/conf.h"

#include "base/fs.h"
#include "base/str.h"

#include "tests/test.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char *write_conf(const char *text)
{
	static char path[PATH_MAX];

	str_fmt(path, sizeof(path), "%s/pawl.conf", test_tmpdir());
	CHECK_EQ(fs_write_durable(path, text, strlen(text), NULL), RC_OK);
	return path;
}

void test_conf__flag_beats_environment_beats_file(void)
{
	struct err e;
	struct conf *c = conf_new();
	const char *path = write_conf("# comment\nserver.max_sse = 11\nserver.threads=12\n"
				      "server.lease_ms = 13\n");
	char *argv[] = {"pawl-server", "--config", (char *)path, "--max-sse", "31", "rest", NULL};
	int argc = 6;

	setenv("PAWL_SERVER_MAX_SSE", "21", 1);
	setenv("PAWL_SERVER_THREADS", "22", 1);
	CHECK_RC(conf_load(c, &argc, argv, false, &e), RC_OK);
	CHECK_EQ(conf_i64(c, "server.max_sse"), 31);
	CHECK_EQ(conf_origin(c, "server.max_sse"), CONF_FLAG);
	CHECK_EQ(conf_i64(c, "server.threads"), 22);
	CHECK_EQ(conf_origin(c, "server.threads"), CONF_ENV);
	CHECK_EQ(conf_i64(c, "server.lease_ms"), 13);
	CHECK_EQ(conf_origin(c, "server.lease_ms"), CONF_FILE);
	CHECK_EQ(conf_i64(c, "server.tick_ms"), 1000);
	CHECK_EQ(conf_origin(c, "server.tick_ms"), CONF_DEFAULT);
	CHECK_EQ(argc, 2);
	CHECK_STR(argv[1], "rest");
	CHECK(!argv[2]);
	conf_free(c);
}

void test_conf__unknown_flag_and_unknown_key_are_errors(void)
{
	struct err e;
	struct conf *c = conf_new();
	const char *path = write_conf("server.listen = x\n\nserver.lisen = y\n");
	char *bad[] = {"pawl-server", "--lisen=1", NULL};
	char *file[] = {"pawl-server", "--config", (char *)path, NULL};
	int argc = 2;

	CHECK_RC(conf_load(c, &argc, bad, false, &e), RC_INVALID);
	CHECK(strstr(e.text, "unknown flag --lisen"));
	argc = 2;
	bad[1] = "--lisen=1";
	CHECK_RC(conf_load(c, &argc, bad, true, &e), RC_OK);
	CHECK_EQ(argc, 2);
	argc = 3;
	CHECK_RC(conf_load(c, &argc, file, false, &e), RC_INVALID);
	CHECK(strstr(e.text, "pawl.conf:3: unknown setting \"server.lisen\""));
	conf_free(c);
}

void test_conf__wrong_type_names_the_setting(void)
{
	struct err e;
	struct conf *c = conf_new();

	CHECK_RC(conf_set(c, "server.threads", "many", CONF_FLAG, &e), RC_INVALID);
	CHECK(strstr(e.text, "server.threads") && strstr(e.text, "many"));
	CHECK_RC(conf_set(c, "log.json", "maybe", CONF_FLAG, &e), RC_INVALID);
	CHECK_RC(conf_set(c, "worker.price_per_hour", "1.5", CONF_FLAG, &e), RC_OK);
	CHECK_NEAR(conf_f64(c, "worker.price_per_hour"), 1.5, 0);
	conf_free(c);
}

void test_conf__short_flags_belong_to_the_program(void)
{
	struct err e;
	struct conf *c = conf_new();
	char *argv[] = {"/usr/bin/pawl-worker", "--server=http://x", "--token-file", "t",
			"--client-server", "y", "--log-json", "--", "--server", NULL};
	int argc = 9;

	CHECK_RC(conf_load(c, &argc, argv, false, &e), RC_OK);
	CHECK_STR(conf_str(c, "worker.server"), "http://x");
	CHECK_STR(conf_str(c, "worker.token_file"), "t");
	CHECK_STR(conf_str(c, "client.server"), "y");
	CHECK(conf_bool(c, "log.json"));
	CHECK_EQ(argc, 3);
	CHECK_STR(argv[2], "--server");
	conf_free(c);
}

void test_conf__flag_without_value(void)
{
	struct err e;
	struct conf *c = conf_new();
	char *argv[] = {"pawl-server", "--listen", NULL};
	int argc = 2;

	CHECK_RC(conf_load(c, &argc, argv, false, &e), RC_INVALID);
	CHECK(strstr(e.text, "--listen needs a value"));
	conf_free(c);
}

void test_conf__passwords_are_not_printed(void)
{
	struct err e;
	struct conf *c = conf_new();
	char *text = NULL;
	size_t size = 0;

	CHECK_RC(conf_set(c, "server.redis", "redis://u:hunter2@h", CONF_FLAG, &e), RC_OK);
	FILE *f = open_memstream(&text, &size);
	conf_print(c, f, true, false);
	conf_print(c, f, true, true);
	fclose(f);
	CHECK(!strstr(text, "hunter2"));
	CHECK(strstr(text, "(set)"));
	CHECK(strstr(text, "server.listen = 127.0.0.1:8080  # default"));
	free(text);
	conf_free(c);
}
