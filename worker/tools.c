#include "worker/tools.h"

#include <stddef.h>

const struct tool tools[] = {
	{NULL, NULL},
};
