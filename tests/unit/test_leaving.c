/* The end of a notice. In children, since it ends the process. */
#include "base/clk.h"
#include "tests/test.h"
#include "worker/leaving.h"

#include <sys/wait.h>
#include <unistd.h>

#define HANGS_S 60 /* what would go on but for the notice */

static int status_of(pid_t pid)
{
	int status = -1;

	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	return status;
}

void test_leaving__no_notice_no_hurry(void)
{
	CHECK_EQ(leaving_left(-1), -1);
	CHECK_EQ(leaving_left(7), 7);
}

void test_leaving__the_first_word_counts(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		leaving_begin(600000);
		leaving_begin(100);
		_exit(leaving_left(-1) > 300000 && leaving_left(-1) <= 420000 ? 0 : 1);
	}
	CHECK_EQ(status_of(pid), 0);
}

void test_leaving__what_hangs_is_left_as_it_is(void)
{
	int64_t begun = clk_mono_ms();
	pid_t pid = fork();

	if (pid == 0) {
		leaving_begin(1000);
		sleep(HANGS_S);
		_exit(1);
	}
	CHECK_EQ(status_of(pid), 0);
	CHECK(clk_mono_ms() - begun >= 800 && clk_mono_ms() - begun < HANGS_S * 1000);
}
