/* Redis client: a pool of connections, calls with time-outs, replies as a read-only tree.
 * The one owner of hiredis (0.14 and 1.x). Knows nothing of the queue. Thread safe: a call borrows a
 * connection for its own length. A broken connection retires every older one of the pool, so a
 * restart of Redis costs one failed call, not one per thread.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct redis;

struct redis_opts {
	int64_t timeout_ms; /* per call, waiting for a connection and connecting included */
	int pool_max;
};

/* Checks the address, connects once. url: see redis_url.h. */
enum rc redis_open(const char *url, const struct redis_opts *o, struct redis **out, struct err *e);
void redis_close(struct redis *r);
/* Whether a connection was lost, could not be made, or met a Redis that is behind, since last asked. */
bool redis_troubled(struct redis *r);

/* --- commands ----------------------------------------------------------------------------------*/
struct redis_cmd {
	struct buf bytes;  /* arguments end to end; owned */
	size_t *ends;      /* owned */
	int argc, cap;
	bool once;         /* Not to be repeated after a lost reply. */
	int64_t extra_ms;  /* added to the time-out: blocking commands */
};
#define REDIS_CMD_INIT {.argc = 0}
void redis_cmd_add(struct redis_cmd *c, const char *text);
void redis_cmd_addn(struct redis_cmd *c, const void *data, size_t len);
void redis_cmd_i64(struct redis_cmd *c, int64_t v);
void redis_cmd_f64(struct redis_cmd *c, double v);
/* Space-separated words. */
void redis_cmd_words(struct redis_cmd *c, const char *words);
void redis_cmd_release(struct redis_cmd *c);

/* --- replies -----------------------------------------------------------------------------------*/
struct redis_reply; /* opaque */
enum redis_kind { REDIS_NIL, REDIS_TEXT, REDIS_INT, REDIS_ARRAY, REDIS_ERROR };
enum redis_kind reply_kind(const struct redis_reply *p);   /* NULL counts as nil */
const char *reply_text(const struct redis_reply *p);       /* borrowed, terminated; "" for nil */
size_t reply_len(const struct redis_reply *p);
int64_t reply_i64(const struct redis_reply *p);            /* integers, and text that is one; else 0 */
size_t reply_n(const struct redis_reply *p);               /* elements of an array, else 0 */
const struct redis_reply *reply_at(const struct redis_reply *p, size_t i); /* NULL outside */
/* The element is the caller's from now on, and no longer in the array; NULL outside. */
struct redis_reply *reply_take(struct redis_reply *p, size_t i);
/* The code and sentence of an error reply as redis_call() gives them, RC_OK for any other. */
enum rc reply_error(const struct redis_reply *p, struct err *e);
void reply_free(struct redis_reply *p);

/* RC_OK with a reply that is not an error; an error reply becomes its code (STALE, CONFLICT, NOTFOUND,
 * INVALID, FULL, SCHEMA, NOPERM... by its first word) and sentence. RC_UNREACHABLE and RC_TIMEOUT say
 * that it is unknown whether the command ran. Releases the command. */
enum rc redis_call(struct redis *r, struct redis_cmd *c, struct redis_reply **out, struct err *e);
/* The same for `n` commands on one connection in one round trip; out[] may hold error replies. Reads
 * only: the whole is repeated after a lost connection. Releases the commands. */
enum rc redis_pipe(struct redis *r, struct redis_cmd *c, size_t n, struct redis_reply **out,
		   struct err *e);
