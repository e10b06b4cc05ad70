#include "base/version.h"

#ifndef PAWL_VERSION
#define PAWL_VERSION "unknown"
#endif

const char *version_text(void)
{
	return PAWL_VERSION;
}
