/* pawl-worker: the command line. */
#include "base/conf.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/str.h"
#include "base/version.h"
#include "store/volume.h"
#include "worker/agent.h"
#include "worker/engine.h"
#include "worker/executor.h"
#include "worker/stage.h"
#include "worker/tools.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct conf *conf;

static int usage(FILE *out)
{
	fputs("usage: pawl-worker [run] --server URL --token-file FILE [settings]\n"
	      "       pawl-worker stage DIR      run one job folder by hand\n"
	      "       pawl-worker model ...      look at, score and sample a model directory\n"
	      "       pawl-worker method ...     the rules of the method on files\n"
	      "       pawl-worker version\n\n",
	      out);
	conf_help(out, "worker.");
	return out == stdout ? 0 : 64;
}

static int threads_arg(const char *text)
{
	int64_t n = conf_i64(conf, "worker.threads");

	if (text && (!str_to_i64(text, &n) || n < 0 || n > 4096))
		die("threads: \"%s\" is not a number from 0 to 4096", text);
	return (int)n;
}

static int cmd_run(int argc, char **argv)
{
	(void)argv;
	if (argc > 0)
		return usage(stderr);
	return agent_main(conf);
}

static int cmd_executor(int argc, char **argv)
{
	if (argc < 1)
		return usage(stderr);
	return executor_main(argv[0], threads_arg(argc > 1 ? argv[1] : NULL));
}

static int cmd_rank(int argc, char **argv)
{
	if (argc < 1)
		return usage(stderr);
	return rank_main(argv[0], threads_arg(argc > 1 ? argv[1] : NULL));
}

static int cmd_stage(int argc, char **argv)
{
	if (argc != 1)
		return usage(stderr);
	return stage_main(argv[0], threads_arg(NULL));
}

static int cmd_version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	printf("pawl-worker %s (%s)\n", version_text(), stage_engine_name());
	return 0;
}

static int cmd_help(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return usage(stdout);
}

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv); /* what follows the name */
} commands[] = {
	{"run", cmd_run},         {"--executor", cmd_executor}, {"--rank", cmd_rank}, {"stage", cmd_stage},
	{"version", cmd_version}, {"--version", cmd_version},   {"help", cmd_help},
	{"--help", cmd_help},     {"-h", cmd_help},
};

static enum log_level level_of(const char *text)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};

	for (int i = 0; i < 4; i++)
		if (strcmp(text, names[i]) == 0)
			return (enum log_level)i;
	return LOG_INFO;
}

int main(int argc, char **argv)
{
	struct err e;
	const char *name = "run";

	setvbuf(stdout, NULL, _IOLBF, 0);
	/* Tools have flags of their own, which the settings table does not know. */
	for (const struct tool *t = tools; argc > 1 && t->name; t++)
		if (strcmp(argv[1], t->name) == 0)
			return t->run(argc - 1, argv + 1);
	conf = conf_new();
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return usage(stdout);
		else if (strcmp(argv[i], "--version") == 0)
			return cmd_version(0, NULL);
	if (conf_load(conf, &argc, argv, true, &e) != RC_OK)
		die("%s", e.text);
	log_init("pawl-worker", level_of(conf_str(conf, "log.level")), conf_bool(conf, "log.json"));
	if (conf_i64(conf, "worker.volume_bytes") > 0)
		volume_bytes_set(conf_i64(conf, "worker.volume_bytes"));
	engine_settings(conf_str(conf, "worker.kernels"), (int)conf_i64(conf, "worker.device"),
			conf_str(conf, "worker.nvml"));
	if (argc > 1)
		name = argv[1];
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (strcmp(commands[i].name, name) == 0)
			return commands[i].run(argc > 2 ? argc - 2 : 0, argv + (argc > 1 ? 2 : 1));
	fprintf(stderr, "pawl-worker: unknown command \"%s\"\n", name);
	return usage(stderr);
}
