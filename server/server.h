/* What one pawl-server process shares between its threads. Built by main.c before any listener
 * opens and torn down after the last one closed, so handlers read it without a lock; the members
 * that change after start are atomics or own their lock (hub, reconcile).
 * All durable state is elsewhere: in Redis (queue) and in the store.
 */
#pragma once

#include "base/conf.h"
#include "base/err.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SERVER_URL_MAX 512

struct queue;
struct store;
struct hub;
struct reconcile;

/* Counters behind /metrics; relaxed, monotone unless said otherwise. */
struct server_stats {
	atomic_long requests[6]; /* by status class, index 1..5 */
	atomic_long request_us;	 /* total time in handlers that end (no streams) */
	atomic_int in_flight;	 /* now */
	atomic_int sse_open;	 /* now */
	atomic_long refused_busy, refused_gate, auth_failed;
	atomic_long claims, claims_empty, completions, reused, stale, bytes_in, bytes_out;
	atomic_long events, plans, plan_errors;
	atomic_long notices, hooks_delivered, hooks_failed, hooks_given_up;
	atomic_long log_waits;	   /* now: requests that wait for more of a log */
	atomic_long hooks_waiting; /* now, as the server that delivers saw it last */
	/* As the last tick had it: struct queue_work. */
	atomic_long useful_ms, lost_ms, useful_cost, lost_cost, torn_off;
};

struct server {
	const struct conf *conf;	 /* borrowed */
	struct queue *queue;		 /* borrowed */
	struct store *store;		 /* borrowed */
	struct hub *hub;		 /* borrowed */
	struct reconcile *reconcile;	 /* borrowed */
	char public_url[SERVER_URL_MAX]; /* no slash at the end */
	char data_dir[SERVER_URL_MAX];
	char web_dir[SERVER_URL_MAX]; /* "" = embedded assets */
	bool no_auth;
	int threads, max_sse, max_downloads;
	int rate; /* requests a second of one identity; 0 = no limit */
	int64_t lease_ms, beat_ms, started_ms;
	/* Rise with every event heard and around every request that may change something; the second
	 * leaves out workers, who change no one's rights. */
	atomic_long changes, rights;
	atomic_bool stopping; /* set once; long waits end */
	atomic_bool redis_ok; /* as the reconciler saw it last */
	atomic_bool behind;   /* Redis is being compared with the store; only reads are answered */
	struct server_stats stats;
};
