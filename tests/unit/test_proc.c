#include "base/proc.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/str.h"

#include "tests/test.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGV(...) ((const char *const[]){__VA_ARGS__, NULL})

void test_proc__run_feeds_and_collects(void)
{
	struct err e;
	struct buf out = BUF_INIT;
	struct proc_opts o = {.argv = ARGV("cat")};
	size_t len = 3000000; /* More than any pipe holds: both directions must move at once. */
	char *big = malloc(len);
	int status;

	memset(big, 'x', len);
	CHECK_RC(proc_run(&o, big, len, len, 20000, &out, &status, &e), RC_OK);
	CHECK_EQ(out.len, len);
	CHECK_EQ(status, 0);
	CHECK_RC(proc_run(&o, big, len, len - 1, 20000, &out, &status, &e), RC_INVALID);
	CHECK(strstr(e.text, "cat: output larger than"));
	free(big);
	buf_release(&out);
}

void test_proc__time_out_kills_the_group(void)
{
	struct err e;
	struct buf out = BUF_INIT;
	char script[PATH_MAX], path[PATH_MAX];
	int status;

	str_fmt(path, sizeof(path), "%s/alive", test_tmpdir());
	str_fmt(script, sizeof(script), "(sleep 1; touch %s) & sleep 30", path);
	struct proc_opts o = {.argv = ARGV("sh", "-c", script)};
	int64_t t0 = clk_mono_ms();
	CHECK_RC(proc_run(&o, NULL, 0, 100, 200, &out, &status, &e), RC_TIMEOUT);
	CHECK(clk_mono_ms() - t0 < 5000);
	CHECK(strstr(e.text, "sh: no answer within 200 ms"));
	CHECK(WIFSIGNALED(status));
	clk_sleep_ms(1300);
	CHECK(!fs_exists(path));
	buf_release(&out);
}

void test_proc__missing_program_and_folder_are_errors(void)
{
	struct err e;
	struct proc p;
	struct proc_opts o = {.argv = ARGV("pawl-no-such-program")};

	CHECK_RC(proc_start(&o, &p, &e), RC_NOTFOUND);
	CHECK(strstr(e.text, "pawl-no-such-program"));
	o = (struct proc_opts){.argv = ARGV("true"), .dir = "/no/such/folder"};
	CHECK_RC(proc_start(&o, &p, &e), RC_NOTFOUND);
}

void test_proc__status_text(void)
{
	struct err e;
	struct proc p;
	int status;
	char text[80];
	struct proc_opts o = {.argv = ARGV("sh", "-c", "exit 3")};

	CHECK_RC(proc_start(&o, &p, &e), RC_OK);
	CHECK_RC(proc_wait(&p, -1, &status, &e), RC_OK);
	proc_status_text(status, text, sizeof(text));
	CHECK_STR(text, "exit 3");
	o.argv = ARGV("sleep", "30");
	CHECK_RC(proc_start(&o, &p, &e), RC_OK);
	CHECK_RC(proc_wait(&p, 50, &status, &e), RC_TIMEOUT);
	proc_kill(&p, SIGKILL);
	CHECK_RC(proc_wait(&p, 5000, &status, &e), RC_OK);
	proc_status_text(status, text, sizeof(text));
	CHECK_STR(text, "signal 9 (Killed)");
	proc_release(&p);
}

void test_proc__inherits_only_named_descriptors_and_environment(void)
{
	struct err e;
	struct buf out = BUF_INIT;
	int status, leak = open("/dev/null", O_RDONLY), fd[2];
	const char *script = "ls /proc/self/fd | wc -l; cat <&3; echo $PAWL_X $PAWL_Y; pwd";

	CHECK(leak >= 0 && !pipe(fd));
	CHECK_EQ(write(fd[1], "three\n", 6), 6);
	close(fd[1]);
	setenv("PAWL_X", "old", 1);
	setenv("PAWL_Y", "kept", 1);
	struct proc_opts o = {.argv = ARGV("sh", "-c", script), .env = ARGV("PAWL_X=new"),
			      .dir = "/", .extra_fd = fd[0]};
	CHECK_RC(proc_run(&o, NULL, 0, 1000, 5000, &out, &status, &e), RC_OK);
	CHECK_STR(out.data, "5\nthree\nnew kept\n/\n"); /* 0 1 2 3 and ls's own folder */
	buf_release(&out);
}

void test_proc__child_that_reads_nothing_is_no_error(void)
{
	struct err e;
	struct buf out = BUF_INIT;
	static char big[1000000];
	int status;
	struct proc_opts o = {.argv = ARGV("sh", "-c", "echo done")};

	CHECK_RC(proc_run(&o, big, sizeof(big), 100, 5000, &out, &status, &e), RC_OK);
	CHECK_STR(out.data, "done\n");
	buf_release(&out);
}

void test_proc__child_dies_with_its_parent(void)
{
	struct err e;
	int fd[2];
	pid_t grandchild = 0;

	CHECK(!pipe(fd));
	pid_t pid = fork();
	if (!pid) {
		struct proc p;
		struct proc_opts o = {.argv = ARGV("sleep", "100"), .own_group = true};
		if (proc_start(&o, &p, &e))
			_exit(1);
		(void)!write(fd[1], &p.pid, sizeof(p.pid));
		pause();
	}
	CHECK_EQ(read(fd[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (int i = 0; i < 500; i++) {
		char path[64], stat[256] = "";
		str_fmt(path, sizeof(path), "/proc/%d/stat", (int)grandchild);
		struct buf b = BUF_INIT;
		bool gone = fs_read(path, sizeof(stat), &b, NULL) || strstr(b.data, ") Z");
		buf_release(&b);
		if (gone)
			return;
		clk_sleep_ms(10);
	}
	CHECK(!"the grandchild outlived its parent");
}
