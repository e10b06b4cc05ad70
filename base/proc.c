#include "base/proc.h"

#include "base/clk.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct pipes {
	int in[2], out[2], err[2], exec[2];
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void close_pipes(struct pipes *p)
{
	int *all[] = {p->in, p->out, p->err, p->exec};

	for (size_t i = 0; i < 4; i++) {
		close_fd(&all[i][0]);
		close_fd(&all[i][1]);
	}
}

static enum rc open_pipes(const struct proc_opts *o, struct pipes *p, struct err *e)
{
	*p = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
	if ((o->pipe_in && pipe2(p->in, O_CLOEXEC)) || (o->pipe_out && pipe2(p->out, O_CLOEXEC)) ||
	    (o->pipe_err && pipe2(p->err, O_CLOEXEC)) || pipe2(p->exec, O_CLOEXEC)) {
		enum rc rc = err_set(e, err_from_errno(errno), "pipe: %m");
		close_pipes(p);
		return rc;
	}
	return RC_OK;
}

/* The environment with `extra` on top; one heap array, strings borrowed. */
static char **merge_env(const char *const *extra)
{
	size_t n = 0, m = 0, k = 0;

	while (environ[n])
		n++;
	while (extra && extra[m])
		m++;
	char **out = mem_array(n + m + 1, sizeof(char *));
	for (size_t i = 0; i < n; i++) {
		size_t klen = strcspn(environ[i], "=") + 1;
		size_t j = 0;
		while (j < m && strncmp(environ[i], extra[j], klen))
			j++;
		if (j == m)
			out[k++] = environ[i];
	}
	for (size_t i = 0; i < m; i++)
		out[k++] = (char *)extra[i];
	return out;
}

static int lift(int fd)
{
	return fd > 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 10) : -1;
}

/* From here to exec only async-signal-safe calls: other threads may have held locks at fork. */
static void child(const struct proc_opts *o, struct pipes *p, char **env, pid_t parent)
{
	sigset_t none;

	if (o->own_group)
		setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);

	/* Sources may themselves be 0..3: lift them all out of the way first. */
	int in = lift(o->pipe_in ? p->in[0] : -1);
	int out = lift(o->pipe_out ? p->out[1] : o->log_fd);
	int err = lift(o->pipe_err ? p->err[1] : o->log_fd);
	int extra = lift(o->extra_fd);
	int report = lift(p->exec[1]);
	if ((in >= 0 && dup2(in, 0) < 0) || (out >= 0 && dup2(out, 1) < 0) ||
	    (err >= 0 && dup2(err, 2) < 0) || (extra >= 0 && dup2(extra, 3) < 0))
		goto fail;
	/* Marks, not closes, so that `report` still works until exec. */
	if (syscall(SYS_close_range, extra >= 0 ? 4 : 3, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */))
		for (int fd = extra >= 0 ? 4 : 3; fd < 1024; fd++)
			fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (o->dir && chdir(o->dir))
		goto fail;
	execvpe(o->argv[0], (char *const *)o->argv, env);
fail:;
	int errnum = errno;
	(void)!write(report, &errnum, sizeof(errnum));
	_exit(127);
}

static int take_fd(int *fd)
{
	int out = *fd;

	*fd = -1;
	return out;
}

enum rc proc_start(const struct proc_opts *o, struct proc *p, struct err *e)
{
	struct pipes pp;
	int errnum = 0;
	ssize_t n;

	*p = (struct proc){-1, -1, -1, -1};
	enum rc rc = open_pipes(o, &pp, e);
	if (rc)
		return rc;
	char **env = merge_env(o->env);
	pid_t parent = getpid(), pid = fork();
	if (pid == 0)
		child(o, &pp, env, parent);
	free(env);
	if (pid < 0) {
		rc = err_set(e, err_from_errno(errno), "fork: %m");
		close_pipes(&pp);
		return rc;
	}
	if (o->own_group)
		setpgid(pid, pid); /* Both sides set it: whoever comes first. */
	close_fd(&pp.exec[1]);
	do {
		n = read(pp.exec[0], &errnum, sizeof(errnum));
	} while (n < 0 && errno == EINTR);
	if (n == sizeof(errnum)) {
		waitpid(pid, NULL, 0);
		errno = errnum;
		rc = err_set(e, err_from_errno(errnum), "start %s%s%s: %m", o->argv[0],
			     o->dir ? " in " : "", o->dir ? o->dir : "");
	} else {
		*p = (struct proc){pid, take_fd(&pp.in[1]), take_fd(&pp.out[0]), take_fd(&pp.err[0])};
	}
	close_pipes(&pp);
	return rc;
}

enum rc proc_wait(struct proc *p, int64_t timeout_ms, int *status, struct err *e)
{
	int64_t until = clk_mono_ms() + timeout_ms;
	int fd = (int)syscall(SYS_pidfd_open, p->pid, 0);

	for (;;) {
		pid_t r = waitpid(p->pid, status, timeout_ms < 0 ? 0 : WNOHANG);
		int64_t left = until - clk_mono_ms();
		if (r == p->pid || (r < 0 && errno != EINTR) || (timeout_ms >= 0 && left <= 0)) {
			close_fd(&fd);
			if (r == p->pid)
				return RC_OK;
			if (r < 0)
				return err_set(e, err_from_errno(errno), "wait for process %d: %m",
					       (int)p->pid);
			return err_set(e, RC_TIMEOUT, "process %d still runs after %lld ms",
				       (int)p->pid, (long long)timeout_ms);
		}
		struct pollfd pfd = {fd, POLLIN, 0};
		if (fd < 0) /* Kernel before 5.3. */
			left = left < 10 ? left : 10;
		if (timeout_ms >= 0)
			poll(&pfd, 1, (int)(left > INT_MAX ? INT_MAX : left));
	}
}

void proc_kill(struct proc *p, int sig)
{
	if (p->pid <= 0)
		return;
	if (getpgid(p->pid) == p->pid)
		kill(-p->pid, sig);
	else
		kill(p->pid, sig);
}

void proc_release(struct proc *p)
{
	close_fd(&p->in);
	close_fd(&p->out);
	close_fd(&p->err);
}

struct talk {
	const char *input;
	size_t left, out_max;
	struct buf *out;
};

/* One turn of feeding and collecting. False when nothing more can come. */
static bool turn(struct proc *p, struct talk *t, int wait_ms, enum rc *rc, struct err *e)
{
	char chunk[65536];
	struct pollfd pfd[2] = {{p->out, POLLIN, 0}, {p->in, POLLOUT, 0}};

	if (p->out < 0 && p->in < 0)
		return false;
	if (poll(pfd, 2, wait_ms) <= 0)
		return true;
	if (p->in >= 0 && pfd[1].revents) {
		ssize_t n = write(p->in, t->input, t->left);
		if (n > 0) {
			t->input += n;
			t->left -= (size_t)n;
		}
		/* A child that reads no input is its own business: EPIPE only ends the feeding. */
		if (!t->left || (n < 0 && errno != EAGAIN && errno != EINTR))
			close_fd(&p->in);
	}
	if (p->out >= 0 && pfd[0].revents) {
		ssize_t n = read(p->out, chunk, sizeof(chunk));
		if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
			close_fd(&p->out);
		if (n > 0 && t->out->len + (size_t)n > t->out_max)
			*rc = err_set(e, RC_INVALID, "output larger than %zu bytes", t->out_max);
		else if (n > 0)
			buf_append(t->out, chunk, (size_t)n);
	}
	return true;
}

/* SIGPIPE of a write in this thread is swallowed; the process-wide setting is not ours. */
static void block_sigpipe(sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, old);
}

static void restore_sigpipe(const sigset_t *old)
{
	sigset_t set;
	struct timespec none = {0, 0};

	if (sigismember(old, SIGPIPE))
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	while (sigtimedwait(&set, NULL, &none) > 0)
		;
	pthread_sigmask(SIG_SETMASK, old, NULL);
}

enum rc proc_run(const struct proc_opts *o, const void *input, size_t len, size_t out_max,
		 int64_t timeout_ms, struct buf *out, int *status, struct err *e)
{
	struct proc_opts mine = *o;
	struct proc p;
	sigset_t old;
	struct talk t = {input, len, out_max, out};
	int64_t until = clk_mono_ms() + timeout_ms;

	mine.pipe_in = true;
	mine.pipe_out = true;
	mine.own_group = true;
	buf_clear(out);
	buf_reserve(out, 0);
	enum rc rc = proc_start(&mine, &p, e);
	if (rc)
		return rc;
	if (!len)
		close_fd(&p.in);
	else
		fcntl(p.in, F_SETFL, O_NONBLOCK);
	block_sigpipe(&old);
	for (int64_t left = timeout_ms; !rc && left > 0; left = until - clk_mono_ms())
		if (!turn(&p, &t, left > 1000 ? 1000 : (int)left, &rc, e))
			break;
	restore_sigpipe(&old);
	int64_t left = until - clk_mono_ms();
	if (!rc)
		rc = proc_wait(&p, left > 0 ? left : 0, status, NULL);
	if (rc) {
		struct err ignored;
		if (rc == RC_TIMEOUT)
			err_set(e, rc, "%s: no answer within %lld ms", o->argv[0],
				(long long)timeout_ms);
		else
			err_wrap(e, "%s", o->argv[0]);
		proc_kill(&p, SIGKILL);
		proc_wait(&p, -1, status, &ignored);
	}
	proc_release(&p);
	return rc;
}

void proc_status_text(int status, char *out, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(out, size, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		snprintf(out, size, "exit %d", WEXITSTATUS(status));
}

const char *proc_self_dir(void)
{
	static char dir[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);

	if (n <= 0)
		return ".";
	dir[n] = 0;
	char *slash = strrchr(dir, '/');
	if (slash)
		*slash = 0;
	return dir;
}
