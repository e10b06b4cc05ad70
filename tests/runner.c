#include "tests/test.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXIT_SKIP 77
#define TIMEOUT_S_DEFAULT 300 /* ten times what the longest takes on a machine of its own */

static char tmpdir[PATH_MAX];

void test_skip(const char *why)
{
	printf("# SKIP %s\n", why);
	fflush(stdout);
	_exit(EXIT_SKIP);
}

const char *test_tmpdir(void)
{
	return tmpdir;
}

const char *test_data(const char *relative)
{
	static char path[PATH_MAX];
	const char *root = getenv("PAWL_TEST_DATA");

	snprintf(path, sizeof path, "%s/%s", root ? root : "../shared/data", relative);
	if (access(path, R_OK) != 0)
		test_skip("shared test data is not present");
	return path;
}

static void remove_tmpdir(void)
{
	char *argv[] = {"rm", "-rf", "--", tmpdir, NULL};
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[0], argv);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

static int wait_bounded(pid_t pid, int timeout_s)
{
	int status = 0;
	sigset_t set;
	struct timespec ts = {.tv_sec = timeout_s};

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (sigtimedwait(&set, NULL, &ts) < 0 && errno == EAGAIN) {
			printf("# timed out after %d s\n", timeout_s);
			kill(-pid, SIGKILL);
			waitpid(pid, &status, 0);
			return status;
		}
	}
	kill(-pid, SIGKILL); /* Anything the test left running. */
	return status;
}

static int run_one(const struct test_entry *t, int timeout_s)
{
	const char *root = getenv("TMPDIR");
	int status, code;

	snprintf(tmpdir, sizeof tmpdir, "%s/pawl-test-XXXXXX", root ? root : "/tmp");
	if (!mkdtemp(tmpdir)) {
		perror("mkdtemp");
		return 1;
	}
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		sigset_t none;

		setpgid(0, 0);
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		t->run();
		fflush(stdout);
		_exit(0);
	}
	setpgid(pid, pid);
	status = wait_bounded(pid, timeout_s);
	remove_tmpdir();
	code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	if (code == 0)
		printf("ok %s\n", t->name);
	else if (code == EXIT_SKIP)
		printf("skip %s\n", t->name);
	else
		printf("not ok %s (code %d)\n", t->name, code);
	return code != 0 && code != EXIT_SKIP;
}

int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : NULL;
	const char *limit = getenv("PAWL_TEST_TIMEOUT_S");
	int failed = 0, timeout_s = limit ? (int)strtol(limit, NULL, 10) : TIMEOUT_S_DEFAULT;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (const struct test_entry *t = test_entries; t->name; t++)
		if (!only || strstr(t->name, only))
			failed += run_one(t, timeout_s);
	return failed ? 1 : 0;
}
