/* Tools of the worker binary with a command line of their own, listed in worker/tools.c. */
#pragma once

struct tool {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the tool's name */
};

extern const struct tool tools[]; /* ends with a NULL name */

int tool_model_main(int argc, char **argv);
int tool_method_main(int argc, char **argv);
