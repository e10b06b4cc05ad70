/* What a failed check says before it ends the program: of a test, or of one that uses their parts. */
#include "tests/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void test_fail(const char *file, int line, const char *what)
{
	printf("# %s:%d: failed: %s\n", file, line, what);
	fflush(stdout);
	_exit(1);
}

void test_eq(const char *file, int line, const char *a, const char *b, long long va, long long vb)
{
	if (va == vb)
		return;
	printf("# %s:%d: %s is %lld, %s is %lld\n", file, line, a, va, b, vb);
	fflush(stdout);
	_exit(1);
}

void test_str(const char *file, int line, const char *what, const char *got, const char *want)
{
	if (got && want && strcmp(got, want) == 0)
		return;
	printf("# %s:%d: %s is \"%s\", expected \"%s\"\n", file, line, what, got ? got : "(null)",
	       want ? want : "(null)");
	fflush(stdout);
	_exit(1);
}

void test_near(const char *file, int line, const char *what, double got, double want, double tol)
{
	if (fabs(got - want) <= tol)
		return;
	printf("# %s:%d: %s is %.17g, expected %.17g within %g\n", file, line, what, got, want, tol);
	fflush(stdout);
	_exit(1);
}

void test_rc(const char *file, int line, const char *what, int got, int want, const char *text)
{
	if (got == want)
		return;
	printf("# %s:%d: %s returned %d (%s), expected %d\n", file, line, what, got, got ? text : "ok",
	       want);
	fflush(stdout);
	_exit(1);
}
