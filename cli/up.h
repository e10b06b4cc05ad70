/* The embedded stack: redis-server on a Unix socket in the data folder, pawl-server, and workers,
 * all children of this process. `pawl up` is a shell around it; `pawl demo` drives it.
 *
 * A child that dies is started again by whoever runs up_supervise(): at once when it had been at work,
 * with back-off when it dies before it is, the server once Redis answers. Everything is stopped by the
 * process ids started here, never by name. One stack per data folder (lock file).
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct up;

struct up_opts {
	const char *listen;  /* "127.0.0.1:8080"; port 0 picks a free one; NULL = default */
	int workers;         /* how many; 0 is allowed */
	int64_t lease_ms, beat_ms; /* 0 = the server's defaults */
	bool quiet;          /* children log to DATA/log/<name>.log only */
};

/* Starts everything and waits until the server is ready and every worker has registered. On
 * failure nothing is left running. */
enum rc up_start(const char *data_dir, const struct up_opts *o, struct up **up, struct err *e);
const char *up_url(const struct up *u);   /* "http://127.0.0.1:8080", borrowed */
const char *up_token(const struct up *u); /* admin token, borrowed */
const char *up_login(const struct up *u); /* one-time login link, borrowed */
pid_t up_worker_pid(const struct up *u, int i);
/* Sends `sig` to worker i, waits for its end and starts it again. */
enum rc up_restart_worker(struct up *u, int i, int sig, struct err *e);
/* Restarts dead children until *stop becomes non-zero. */
enum rc up_supervise(struct up *u, volatile int *stop, struct err *e);
/* Workers first (they hand their jobs back), then the server, then Redis. NULL is fine. */
void up_stop(struct up *u);
