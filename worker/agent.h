/* The agent: one process per worker, without the engine. It takes jobs, lends each to an executor
 * child, and speaks for it. Three threads share `struct agent` under its lock:
 *
 *   main    claims, prepares the job's folder, watches the executor, ends the attempt; with a GPU that
 *           is not well it claims nothing
 *   beat    says "still here" and carries progress, curves and the checkpoint pointer
 *   ship    publishes checkpoints, sends the log
 *
 * Invariants: bytes are durable in the store before a pointer to them is beaten, and outputs before
 * the job is completed. A job whose token went stale publishes nothing more. When no beat succeeded
 * for lease - 10 s the agent is fenced: it publishes nothing until a beat says the lease is still
 * ours; the executor computes on, for a server that is away steals no lease. Nothing under the work
 * folder is needed after a crash.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/proc.h"
#include "worker/client.h"

#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Of what agent and server say to each other. A server takes its own and the one before; 1 did not say. */
#define WORKER_PROTOCOL 2
#define AGENT_PATH_MAX (PATH_MAX - 1024)

struct store;
struct conf;
struct gpu_guard;

/* What the server, or the operator of this machine, wants of the job at hand. In rising order:
 * a later wish replaces an earlier one, never the reverse. */
enum wish { WISH_NONE, WISH_PAUSE, WISH_PREEMPT, WISH_CANCEL, WISH_DROP };

struct agent {
	/* fixed after start */
	struct client client;
	char work[AGENT_PATH_MAX];
	char name[128];
	char *labels, *stages, *pools; /* owned */
	double price_per_hour;
	int threads;
	int64_t cache_bytes, idle_exit_ms;
	int64_t notice_ms, cloud_notice_ms; /* from a signal, from the cloud's word, to the machine's end */
	char store_url[1024]; /* override, or "" */
	int wake_fd;          /* eventfd: main has something to look at */
	_Atomic bool leaving; /* SIGTERM or drained: take nothing more */
	_Atomic bool drained; /* the server said so: leaving is no news to it */
	_Atomic bool last_job; /* a rebalance was recommended: leave after the job at hand */
	struct gpu_guard *guard; /* owned; NULL without GPUs or without a word of them */

	/* from registration */
	char id[64];
	int64_t lease_ms, beat_ms;
	struct store *store; /* the server's own, when reachable as files; else NULL */

	pthread_mutex_t lock;
	pthread_cond_t beat_cond, ship_cond, done_cond;
	bool quit;
	bool lost_identity; /* the server does not know us: register again */

	/* the job at hand; job[0] == 0 when idle. Under the lock. */
	char job[128], token[128];
	int64_t attempt;
	char dir[AGENT_PATH_MAX + 200];
	enum wish wish;
	bool checkpoint_wanted;
	int64_t done, total;
	char unit[32];
	bool fresh;            /* something to tell before the next regular beat */
	json_t *points;        /* metrics not yet beaten; owned */
	json_t *pointer;       /* checkpoint published, not yet beaten; owned */
	json_t *ckpt;          /* checkpoint waiting for publication: the executor's message; owned */
	bool publishing;
	int n_published;       /* checkpoints of this attempt that are durable */
	int64_t log_size, log_sent;
	bool log_closed;       /* no more log will come */
	int64_t beat_ok_ms;    /* clk_mono_ms() of the last beat that was answered */
};

int agent_main(const struct conf *c);

/* Wakes the main thread. Safe in signal handlers. */
void agent_wake(struct agent *a);
/* Raises the wish for the job at hand; lock held. */
void agent_wish(struct agent *a, enum wish w);
/* True while beats are too old to publish anything; lock held. */
bool agent_fenced(const struct agent *a);

/* --- beat.c ---------------------------------------------------------------------------------- */
void *beat_thread(void *agent);
/* One beat now; also used by main to move a last pointer. RC_STALE raises WISH_DROP. */
enum rc beat_once(struct agent *a, struct err *e);

/* --- ship.c ---------------------------------------------------------------------------------- */
void *ship_thread(void *agent);
/* Makes a tar durable where the server will look for it. The file may stay where it is. */
/* An output as the executor told of it: its volumes, then the archive that names them. */
enum rc ship_output(struct agent *a, const json_t *out, struct err *e);

/* --- input.c --------------------------------------------------------------------------------- */
/* DIR/in/<role> for every input and DIR/resume for the checkpoint to resume from, through the
 * cache. Everything is verified once, when it is unpacked. */
enum rc input_prepare(struct agent *a, const json_t *job, struct err *e);
/* Deletes the least recently used artifacts until the cache is within its bound. */
void input_trim(struct agent *a, const json_t *job);

/* --- attempt.c ------------------------------------------------------------------------------- */
/* Works on one claim from folder to completion or hand-back. Consumes nothing. */
void attempt_run(struct agent *a, const json_t *claim);
