/* Child processes without a shell: argv in, pipes out. Children get their own process group, are
 * killed when we die (PR_SET_PDEATHSIG), and inherit no descriptor but those named.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct proc_opts {
	const char *const *argv;   /* NULL-terminated; argv[0] is looked up in PATH */
	const char *const *env;    /* extra "K=V", NULL-terminated; NULL for none */
	const char *dir;           /* working folder or NULL */
	bool pipe_in, pipe_out, pipe_err; /* else inherited */
	int extra_fd;              /* passed as fd 3, or -1 (0 also means none) */
	int log_fd;                /* stdout and stderr go here, unless piped; 0 or -1 for none */
	bool own_group;
};

struct proc {
	pid_t pid;
	int in, out, err; /* our ends, -1 when not piped; owned */
};

enum rc proc_start(const struct proc_opts *o, struct proc *p, struct err *e);
/* Feeds `input`, collects stdout (bounded by out_max), waits; kills the group on timeout.
 * *status is the waitpid status. stderr is inherited. */
enum rc proc_run(const struct proc_opts *o, const void *input, size_t len, size_t out_max,
		 int64_t timeout_ms, struct buf *out, int *status, struct err *e);
enum rc proc_wait(struct proc *p, int64_t timeout_ms, int *status, struct err *e); /* RC_TIMEOUT */
void proc_kill(struct proc *p, int sig); /* the group when own_group, else the process */
void proc_release(struct proc *p);       /* closes our ends */
/* "exit 3", "signal 9 (Killed)". */
void proc_status_text(int status, char *out, size_t size);
/* Folder of the running binary (for finding pawl-worker beside pawl); static storage. */
const char *proc_self_dir(void);
