#include "base/check.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void stop(void) __attribute__((noreturn));

static void stop(void)
{
	fputs("last log lines:\n", stderr);
	fflush(stderr);
	log_dump_recent(STDERR_FILENO);
	abort();
}

void check_fail(const char *file, int line, const char *func, const char *what)
{
	fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, func, what);
	stop();
}

void check_cmp(const char *file, int line, const char *what, int64_t a, int64_t b, int holds)
{
	if (holds)
		return;
	fprintf(stderr, "%s:%d: assertion failed: %s (%" PRId64 ", %" PRId64 ")\n", file, line, what,
		a, b);
	stop();
}
