#include "worker/tools.h"

#include <stddef.h>

const struct tool tools[] = {
	{"method", tool_method_main},
	{"model", tool_model_main},
	{NULL, NULL},
};
