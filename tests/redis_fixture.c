#include "tests/redis_fixture.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/str.h"
#include "migrations/migrations.h"
#include "queue/redis.h"
#include "tests/test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS_MAX 10000

static void child(const struct redis_fixture *f)
{
	char socket[600];
	int null = open("/dev/null", O_WRONLY);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(null, 1);
	str_fmt(socket, sizeof(socket), "%s/redis.sock", f->dir);
	execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket, "--dir",
	       f->dir, "--appendonly", "yes", "--appendfsync", f->fast ? "no" : "always", "--save",
	       "", "--maxmemory-policy", "noeviction", "--loglevel", "warning", (char *)NULL);
	_exit(127);
}

static void wait_ready(struct redis_fixture *f)
{
	int64_t until = clk_mono_ms() + START_MS_MAX;
	struct redis_opts o = {.timeout_ms = 200, .pool_max = 1};
	struct redis *r;
	struct err e;
	int status;

	while (redis_open(f->url, &o, &r, &e) != RC_OK) {
		if (waitpid(f->pid, &status, WNOHANG) == f->pid) {
			f->pid = -1;
			if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
				test_skip("there is no redis-server");
			test_fail(__FILE__, __LINE__, "redis-server ended at once");
		}
		if (clk_mono_ms() > until)
			test_fail(__FILE__, __LINE__, e.text);
		clk_sleep_ms(10);
	}
	redis_close(r);
}

void redis_fixture_again(struct redis_fixture *f)
{
	f->pid = fork();
	CHECK(f->pid >= 0);
	if (f->pid == 0)
		child(f);
	wait_ready(f);
}

void redis_fixture_start(struct redis_fixture *f, const char *dir, bool fast)
{
	log_init("test", LOG_ERROR, 0);
	str_copy(f->dir, sizeof(f->dir), dir);
	str_fmt(f->url, sizeof(f->url), "unix:%s/redis.sock", dir);
	f->fast = fast;
	redis_fixture_again(f);
}

/* A server that is writing its first append-only file does not heed SIGTERM. */
static void end(struct redis_fixture *f, int sig)
{
	int64_t until = clk_mono_ms() + 3000;

	if (f->pid <= 0)
		return;
	kill(f->pid, sig);
	while (waitpid(f->pid, NULL, WNOHANG) == 0) {
		if (clk_mono_ms() > until)
			kill(f->pid, SIGKILL);
		clk_sleep_ms(2);
	}
	f->pid = -1;
}

void redis_fixture_kill(struct redis_fixture *f)
{
	end(f, SIGKILL);
}

void redis_fixture_stop(struct redis_fixture *f)
{
	end(f, SIGTERM);
}

struct queue *redis_fixture_queue(const struct redis_fixture *f, int64_t lease_ms)
{
	/* Hours of operations on a machine with other work: a slow answer is no failure there. */
	struct queue_opts o = {.accept_loss = f->fast,
			       .lease_ms = lease_ms,
			       .timeout_ms = f->fast ? 60000 : 0,
			       .migrate = migrations_run};
	struct queue *q = NULL;
	struct err e = {0};

	CHECK_RC(queue_open(f->url, &o, &q, &e), RC_OK);
	return q;
}
