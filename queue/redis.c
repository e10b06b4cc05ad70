#include "queue/redis.h"

#include "base/check.h"
#include "base/clk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/limits.h"
#include "queue/redis_url.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#if defined(HIREDIS_MAJOR) && HIREDIS_MAJOR >= 1 && __has_include(<hiredis/hiredis_ssl.h>)
#include <hiredis/hiredis_ssl.h>
#define HAVE_TLS 1
#else
#define HAVE_TLS 0
#endif
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct conn {
	redisContext *ctx; /* owned */
	struct conn *next; /* in the free list */
	int64_t used_ms;   /* monotonic, end of last use */
	int64_t timeout_ms;
	unsigned generation;
};

struct redis {
	struct redis_url url;
	int64_t timeout_ms;
	int pool_max;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t freed;
	struct conn *free;
	int n_conns;
	unsigned generation;
	int64_t down_ms, retry_at_ms; /* since when nothing could be reached, 0 while it can */
	bool troubled;
};

/* --- connections ------------------------------------------------------------------------------- */

static struct timeval timeval_of(int64_t ms)
{
	return (struct timeval){.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
}

static void conn_free(struct conn *c)
{
	if (c && c->ctx)
		redisFree(c->ctx);
	free(c);
}

static enum rc conn_error(const struct conn *c, struct err *e)
{
	if (c->ctx->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK))
		return err_set(e, RC_TIMEOUT, "redis did not answer in %lld ms",
			       (long long)c->timeout_ms);
	return err_set(e, RC_UNREACHABLE, "redis: %s", c->ctx->errstr);
}

/* One short command while setting a connection up; the reply, or NULL with the error. */
static redisReply *conn_ask(struct conn *c, int argc, const char **argv, enum rc *rc, struct err *e)
{
	redisReply *rep = redisCommandArgv(c->ctx, argc, argv, NULL);

	*rc = RC_OK;
	if (!rep) {
		*rc = conn_error(c, e);
	} else if (rep->type == REDIS_REPLY_ERROR) {
		*rc = err_set(e, !strncmp(rep->str, "LOADING", 7) ? RC_UNREACHABLE : RC_DENIED,
			      "redis: %s: %s", argv[0], rep->str);
		freeReplyObject(rep);
		rep = NULL;
	}
	return rep;
}

static enum rc conn_say(struct conn *c, const char *a, const char *b, const char *d, struct err *e)
{
	const char *argv[3] = {a, b, d};
	enum rc rc;
	redisReply *rep = conn_ask(c, b ? d ? 3 : 2 : 1, argv, &rc, e);

	freeReplyObject(rep);
	return rc;
}

static enum rc conn_tls(struct redis *r, struct conn *c, struct err *e)
{
	if (!r->url.tls)
		return RC_OK;
#if HAVE_TLS
	{
		redisSSLContextError why = 0;
		redisSSLContext *ssl;

		redisInitOpenSSL();
		ssl = redisCreateSSLContext(NULL, "/etc/ssl/certs", NULL, NULL, r->url.host.name, &why);
		if (!ssl || redisInitiateSSLWithContext(c->ctx, ssl) != REDIS_OK)
			return err_set(e, RC_UNREACHABLE, "redis: TLS: %s",
				       ssl ? c->ctx->errstr : redisSSLContextGetError(why));
		/* The connection keeps what it needs of the context. */
		redisFreeSSLContext(ssl);
		return RC_OK;
	}
#else
	(void)c;
	return err_set(e, RC_UNSUPPORTED,
		       "rediss://: this program was built on a hiredis without TLS (1.0 has it); use a Unix "
		       "socket or stunnel");
#endif
}

/* hiredis makes room for as many elements as an array announces, before any of them is there. */
#if defined(HIREDIS_MAJOR) && HIREDIS_MAJOR >= 1
#define ARRAY_LEN size_t
#else
#define ARRAY_LEN int
#endif
static redisReplyObjectFunctions bounded;
static void *(*unbounded_array)(const redisReadTask *, ARRAY_LEN);

static void *bounded_array(const redisReadTask *task, ARRAY_LEN n)
{
	return n > REPLY_ELEMENTS_MAX ? NULL : unbounded_array(task, n);
}

static void conn_bound(struct conn *c)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&lock);
	if (!unbounded_array) {
		bounded = *c->ctx->reader->fn;
		unbounded_array = bounded.createArray;
		bounded.createArray = bounded_array;
	}
	pthread_mutex_unlock(&lock);
	c->ctx->reader->fn = &bounded;
}

/* Connected, with time-outs set, nothing said yet. `host` is not used for a Unix socket. */
static enum rc conn_dial(struct redis *r, const struct redis_host *host, int64_t timeout_ms,
			 struct conn **out, struct err *e)
{
	struct timeval tv = timeval_of(timeout_ms < CONNECT_TIMEOUT_MS ? timeout_ms
								       : CONNECT_TIMEOUT_MS);
	struct conn *c = mem_new(sizeof(*c));

	*out = c;
	c->ctx = r->url.path ? redisConnectUnixWithTimeout(r->url.path, tv)
			     : redisConnectWithTimeout(host->name, host->port, tv);
	if (!c->ctx || c->ctx->err)
		return err_set(e, RC_UNREACHABLE, "redis at %s: %s", r->url.path ? r->url.path : host->name,
			       c->ctx ? c->ctx->errstr : "out of memory");
	conn_bound(c);
	c->ctx->reader->maxbuf = READ_BUFFER_KEPT;
	c->timeout_ms = timeout_ms;
	redisSetTimeout(c->ctx, timeval_of(timeout_ms));
	if (!r->url.path)
		redisEnableKeepAlive(c->ctx);
	return RC_OK;
}

/* --- sentinels: who is master now ------------------------------------------------------------- */

static enum rc sentinel_ask(struct redis *r, const struct redis_host *s, int64_t timeout_ms,
			    struct redis_host *master, struct err *e)
{
	const char *argv[] = {"SENTINEL", "get-master-addr-by-name", r->url.master};
	struct conn *c;
	redisReply *rep = NULL;
	int64_t port = 0;
	enum rc rc = conn_dial(r, s, timeout_ms, &c, e);

	if (!rc)
		rep = conn_ask(c, 3, argv, &rc, e);
	if (!rc && (rep->type != REDIS_REPLY_ARRAY || rep->elements != 2 || !rep->element[1]->str ||
		    !str_to_i64(rep->element[1]->str, &port)))
		rc = err_set(e, RC_UNREACHABLE, "sentinel at %s:%d knows no master \"%s\"", s->name, s->port,
			     r->url.master);
	if (!rc) {
		master->name = mem_str(rep->element[0]->str);
		master->port = (int)port;
	}
	freeReplyObject(rep);
	conn_free(c);
	return rc;
}

/* The first sentinel that answers. */
static enum rc sentinel_find(struct redis *r, int64_t timeout_ms, struct redis_host *master, struct err *e)
{
	enum rc rc = RC_UNREACHABLE;

	for (int i = 0; rc && i < r->url.n_sentinels; i++)
		rc = sentinel_ask(r, &r->url.sentinels[i], timeout_ms, master, e);
	return rc;
}

/* An old master that has not heard of its fall says so too late; a replica says so at once. */
static enum rc conn_is_master(struct conn *c, const struct redis_host *h, struct err *e)
{
	const char *argv[] = {"ROLE"};
	enum rc rc;
	redisReply *rep = conn_ask(c, 1, argv, &rc, e);

	if (!rc && (rep->type != REDIS_REPLY_ARRAY || rep->elements < 1 || !rep->element[0]->str ||
		    strcmp(rep->element[0]->str, "master") != 0))
		rc = err_set(e, RC_UNREACHABLE, "redis at %s:%d is not the master (yet)", h->name, h->port);
	freeReplyObject(rep);
	return rc;
}

static enum rc conn_open(struct redis *r, int64_t timeout_ms, struct conn **out, struct err *e)
{
	struct redis_host found = {NULL, 0}, *host = r->url.n_sentinels ? &found : &r->url.host;
	struct conn *c = NULL;
	char db[16];
	enum rc rc = RC_OK;

	if (r->url.n_sentinels)
		rc = sentinel_find(r, timeout_ms, &found, e);
	if (!rc)
		rc = conn_dial(r, host, timeout_ms, &c, e);
	if (!rc)
		rc = conn_tls(r, c, e);
	if (!rc && r->url.password)
		rc = r->url.user ? conn_say(c, "AUTH", r->url.user, r->url.password, e)
				 : conn_say(c, "AUTH", r->url.password, NULL, e);
	if (!rc && r->url.n_sentinels)
		rc = conn_is_master(c, host, e);
	if (!rc && r->url.db) {
		str_fmt(db, sizeof(db), "%d", r->url.db);
		rc = conn_say(c, "SELECT", db, NULL, e);
	}
	if (rc) {
		conn_free(c);
		c = NULL;
	}
	free(found.name);
	*out = c;
	return rc;
}

/* Waits (under the lock) until a connection may be taken or made. */
static enum rc pool_wait(struct redis *r, int64_t deadline_ms, struct err *e)
{
	while (!r->free && r->n_conns >= r->pool_max) {
		if (clk_mono_ms() >= deadline_ms)
			return err_set(e, RC_UNREACHABLE, "all %d redis connections are busy",
				       r->pool_max);
		struct timespec ts = clk_after(50);
		pthread_cond_timedwait(&r->freed, &r->lock, &ts);
	}
	return RC_OK;
}

static void pool_forget(struct redis *r, struct conn *c)
{
	conn_free(c);
	pthread_mutex_lock(&r->lock);
	r->n_conns--;
	pthread_cond_signal(&r->freed);
	pthread_mutex_unlock(&r->lock);
}

/* After a failure: this connection is closed and those that are as old with it when next looked at. */
static void pool_broken(struct redis *r, struct conn *c)
{
	pthread_mutex_lock(&r->lock);
	r->troubled = true;
	if (c->generation == r->generation)
		r->generation++;
	pthread_mutex_unlock(&r->lock);
	pool_forget(r, c);
}

static void pool_give(struct redis *r, struct conn *c)
{
	c->used_ms = clk_mono_ms();
	pthread_mutex_lock(&r->lock);
	c->next = r->free;
	r->free = c;
	pthread_cond_signal(&r->freed);
	pthread_mutex_unlock(&r->lock);
}

/* A kept connection that is still good, or NULL with a place reserved for a new one. */
static enum rc pool_kept(struct redis *r, int64_t deadline_ms, struct conn **out, struct err *e)
{
	struct conn *c;
	unsigned generation;
	enum rc rc;

	for (;;) {
		pthread_mutex_lock(&r->lock);
		rc = pool_wait(r, deadline_ms, e);
		c = r->free;
		if (!rc && c)
			r->free = c->next;
		else if (!rc)
			r->n_conns++;
		generation = r->generation;
		pthread_mutex_unlock(&r->lock);
		*out = c;
		if (rc || !c)
			return rc;
		if (c->generation == generation &&
		    (clk_mono_ms() - c->used_ms < IDLE_PING_MS || !conn_say(c, "PING", NULL, NULL, NULL)))
			return RC_OK;
		pool_forget(r, c);
	}
}

/* Under the lock. A quarter of the outage so far, however many threads keep trying: what comes back is
 * found soon after, and nobody hammers what stays away. */
static void connect_failed(struct redis *r)
{
	int64_t now = clk_mono_ms(), pause;

	r->troubled = true;
	r->down_ms = r->down_ms ? r->down_ms : now;
	pause = (now - r->down_ms) / 4;
	r->retry_at_ms = now + (pause < 10			 ? 10
				: pause > BACKOFF_CONNECT_MS_MAX ? BACKOFF_CONNECT_MS_MAX
								 : pause);
}

static enum rc pool_connect(struct redis *r, int64_t deadline_ms, struct conn **out, struct err *e)
{
	int64_t now, wait;
	enum rc rc;

	for (;;) {
		pthread_mutex_lock(&r->lock);
		now = clk_mono_ms();
		wait = r->retry_at_ms - now;
		unsigned generation = r->generation;
		pthread_mutex_unlock(&r->lock);
		if (wait > 0)
			clk_sleep_ms(wait < deadline_ms - now ? wait : deadline_ms - now);
		rc = conn_open(r, r->timeout_ms, out, e);
		pthread_mutex_lock(&r->lock);
		if (!rc) {
			(*out)->generation = generation;
			r->down_ms = 0;
			r->retry_at_ms = 0;
		} else {
			connect_failed(r);
		}
		pthread_mutex_unlock(&r->lock);
		if (!rc || rc == RC_DENIED || clk_mono_ms() >= deadline_ms)
			return rc;
	}
}

bool redis_troubled(struct redis *r)
{
	bool was;

	pthread_mutex_lock(&r->lock);
	was = r->troubled;
	r->troubled = false;
	pthread_mutex_unlock(&r->lock);
	return was;
}

static enum rc pool_take(struct redis *r, int64_t deadline_ms, struct conn **out, struct err *e)
{
	enum rc rc = pool_kept(r, deadline_ms, out, e);

	if (rc || *out)
		return rc;
	rc = pool_connect(r, deadline_ms, out, e);
	if (rc) {
		pthread_mutex_lock(&r->lock);
		r->n_conns--;
		pthread_cond_signal(&r->freed);
		pthread_mutex_unlock(&r->lock);
	}
	return rc;
}

/* --- commands ---------------------------------------------------------------------------------- */

void redis_cmd_addn(struct redis_cmd *c, const void *data, size_t len)
{
	if (c->argc == c->cap) {
		c->cap = c->cap ? c->cap * 2 : 16;
		c->ends = mem_grow(c->ends, (size_t)c->cap, sizeof(*c->ends));
	}
	buf_append(&c->bytes, data, len);
	c->ends[c->argc++] = c->bytes.len;
}

void redis_cmd_add(struct redis_cmd *c, const char *text)
{
	redis_cmd_addn(c, text, strlen(text));
}

void redis_cmd_i64(struct redis_cmd *c, int64_t v)
{
	char text[24];

	str_fmt(text, sizeof(text), "%lld", (long long)v);
	redis_cmd_add(c, text);
}

void redis_cmd_f64(struct redis_cmd *c, double v)
{
	char text[40];

	str_fmt(text, sizeof(text), "%.17g", v);
	redis_cmd_add(c, text);
}

void redis_cmd_words(struct redis_cmd *c, const char *words)
{
	size_t len;

	for (words += strspn(words, " "); *words; words += len, words += strspn(words, " ")) {
		len = strcspn(words, " ");
		redis_cmd_addn(c, words, len);
	}
}

void redis_cmd_release(struct redis_cmd *c)
{
	buf_release(&c->bytes);
	free(c->ends);
	*c = (struct redis_cmd)REDIS_CMD_INIT;
}

static void cmd_append(struct conn *conn, const struct redis_cmd *c)
{
	const char **argv = mem_array((size_t)c->argc + 1, sizeof(*argv));
	size_t *len = mem_array((size_t)c->argc + 1, sizeof(*len));

	for (int i = 0; i < c->argc; i++) {
		size_t from = i ? c->ends[i - 1] : 0;
		argv[i] = c->bytes.data ? c->bytes.data + from : "";
		len[i] = c->ends[i] - from;
	}
	redisAppendCommandArgv(conn->ctx, c->argc, argv, len);
	free(argv);
	free(len);
}

/* --- replies: the opaque struct is hiredis's own tree ------------------------------------------ */

static const redisReply *raw(const struct redis_reply *p)
{
	return (const redisReply *)(const void *)p;
}

enum redis_kind reply_kind(const struct redis_reply *p)
{
	static const enum redis_kind kinds[] = {
		[REDIS_REPLY_STRING] = REDIS_TEXT, [REDIS_REPLY_ARRAY] = REDIS_ARRAY,
		[REDIS_REPLY_INTEGER] = REDIS_INT, [REDIS_REPLY_NIL] = REDIS_NIL,
		[REDIS_REPLY_STATUS] = REDIS_TEXT, [REDIS_REPLY_ERROR] = REDIS_ERROR,
	};
	int t = p ? raw(p)->type : REDIS_REPLY_NIL;

	return t > 0 && t < (int)(sizeof(kinds) / sizeof(*kinds)) ? kinds[t] : REDIS_NIL;
}

const char *reply_text(const struct redis_reply *p)
{
	enum redis_kind k = reply_kind(p);

	return k == REDIS_TEXT || k == REDIS_ERROR ? raw(p)->str : "";
}

size_t reply_len(const struct redis_reply *p)
{
	enum redis_kind k = reply_kind(p);

	return k == REDIS_TEXT || k == REDIS_ERROR ? (size_t)raw(p)->len : 0;
}

int64_t reply_i64(const struct redis_reply *p)
{
	int64_t v = 0;

	if (reply_kind(p) == REDIS_INT)
		return raw(p)->integer;
	str_to_i64(reply_text(p), &v);
	return v;
}

size_t reply_n(const struct redis_reply *p)
{
	return reply_kind(p) == REDIS_ARRAY ? raw(p)->elements : 0;
}

const struct redis_reply *reply_at(const struct redis_reply *p, size_t i)
{
	return i < reply_n(p) ? (const struct redis_reply *)(const void *)raw(p)->element[i] : NULL;
}

struct redis_reply *reply_take(struct redis_reply *p, size_t i)
{
	redisReply *all = (redisReply *)(void *)p, *one;

	if (i >= reply_n(p))
		return NULL;
	one = all->element[i];
	all->element[i] = NULL;
	return (struct redis_reply *)(void *)one;
}

void reply_free(struct redis_reply *p)
{
	if (p)
		freeReplyObject(p);
}

/* --- calls ------------------------------------------------------------------------------------- */

/* Error replies by first word. The first N_OURS are our function library's, the rest Redis's. */
#define N_OURS 8
static const struct {
	const char *word;
	enum rc rc;
	bool again; /* Redis is not itself just now: same as a lost connection. */
} error_words[] = {
	{"STALE", RC_STALE, false},      {"CONFLICT", RC_CONFLICT, false},
	{"CHANGED", RC_CHANGED, false},  {"NOTFOUND", RC_NOTFOUND, false},
	{"INVALID", RC_INVALID, false},
	{"FULL", RC_FULL, false},        {"SCHEMA", RC_UNSUPPORTED, false},
	{"BEHIND", RC_UNREACHABLE, true},
	{"OOM", RC_FULL, false},         {"NOPERM", RC_DENIED, false},
	{"NOAUTH", RC_DENIED, false},    {"WRONGPASS", RC_DENIED, false},
	{"MISCONF", RC_IO, false},       {"LOADING", RC_UNREACHABLE, true},
	{"READONLY", RC_UNREACHABLE, true}, {"MASTERDOWN", RC_UNREACHABLE, true},
	{"NOREPLICAS", RC_UNREACHABLE, true}, {"BUSY", RC_TIMEOUT, true},
};

static enum rc error_of(const struct redis_reply *p, bool *again, struct err *e)
{
	const char *text = reply_text(p);
	size_t len = strcspn(text, " ");

	*again = false;
	for (size_t i = 0; i < sizeof(error_words) / sizeof(*error_words); i++) {
		if (strlen(error_words[i].word) != len || strncmp(text, error_words[i].word, len))
			continue;
		*again = error_words[i].again;
		if (i < N_OURS)
			text += len + (text[len] == ' ');
		return err_set(e, error_words[i].rc, "%s%s", i < N_OURS ? "" : "redis: ", text);
	}
	return err_set(e, RC_IO, "redis: %s", text);
}

enum rc reply_error(const struct redis_reply *p, struct err *e)
{
	bool again;

	return reply_kind(p) == REDIS_ERROR ? error_of(p, &again, e) : RC_OK;
}

/* All commands out, all replies in, on one connection. */
static enum rc conn_exchange(struct conn *c, const struct redis_cmd *cmds, size_t n,
			     int64_t timeout_ms, struct redis_reply **out, struct err *e)
{
	if (timeout_ms != c->timeout_ms) {
		redisSetTimeout(c->ctx, timeval_of(timeout_ms));
		c->timeout_ms = timeout_ms;
	}
	for (size_t i = 0; i < n; i++)
		cmd_append(c, &cmds[i]);
	for (size_t i = 0; i < n; i++) {
		void *p = NULL;
		errno = 0;
		if (redisGetReply(c->ctx, &p) != REDIS_OK) {
			enum rc rc = conn_error(c, e);
			while (i > 0) {
				reply_free(out[--i]);
				out[i] = NULL;
			}
			return rc;
		}
		out[i] = p;
	}
	return RC_OK;
}

static void replies_free(struct redis_reply **out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		reply_free(out[i]);
		out[i] = NULL;
	}
}

/* One try. *again: worth another one before the deadline. */
static enum rc try_once(struct redis *r, const struct redis_cmd *c, size_t n, int64_t deadline_ms,
			struct redis_reply **out, bool *again, struct err *e)
{
	struct conn *conn = NULL;
	bool busy = false;
	enum rc rc;

	*again = false;
	rc = pool_take(r, deadline_ms, &conn, e);
	if (rc)
		return rc;
	rc = conn_exchange(conn, c, n, r->timeout_ms + c->extra_ms, out, e);
	if (rc) {
		*again = rc == RC_UNREACHABLE && !c->once;
		pool_broken(r, conn);
		return rc;
	}
	if (reply_kind(out[0]) == REDIS_ERROR)
		rc = error_of(out[0], &busy, e);
	if (busy) {
		bool ours = str_starts(reply_text(out[0]), "BEHIND"); /* The connection is not at fault. */
		replies_free(out, n);
		if (ours) {
			pool_give(r, conn);
			pthread_mutex_lock(&r->lock);
			r->troubled = true;
			pthread_mutex_unlock(&r->lock);
		} else {
			pool_broken(r, conn);
		}
		*again = true;
		return rc;
	}
	pool_give(r, conn);
	return n == 1 ? rc : RC_OK;
}

static enum rc exchange(struct redis *r, struct redis_cmd *c, size_t n, struct redis_reply **out,
			struct err *e)
{
	int64_t deadline = clk_mono_ms() + r->timeout_ms + c->extra_ms, pause = 10;
	bool again;
	enum rc rc;

	for (;;) {
		rc = try_once(r, c, n, deadline, out, &again, e);
		if (!again || clk_mono_ms() + pause >= deadline)
			break;
		log_debug("redis", "again", "pause_ms=%lld", (long long)pause);
		clk_sleep_ms(pause);
		pause = pause * 2 < 200 ? pause * 2 : 200;
	}
	for (size_t i = 0; i < n; i++)
		redis_cmd_release(&c[i]);
	return rc;
}

enum rc redis_call(struct redis *r, struct redis_cmd *c, struct redis_reply **out, struct err *e)
{
	struct redis_reply *p = NULL;
	enum rc rc = exchange(r, c, 1, &p, e);

	if (rc || !out) {
		reply_free(p);
		p = NULL;
	}
	if (out)
		*out = p;
	return rc;
}

enum rc redis_pipe(struct redis *r, struct redis_cmd *c, size_t n, struct redis_reply **out,
		   struct err *e)
{
	memset(out, 0, n * sizeof(*out));
	return n ? exchange(r, c, n, out, e) : RC_OK;
}

/* --- life -------------------------------------------------------------------------------------- */

static void ignore_sigpipe(void)
{
	struct sigaction old;

	if (!sigaction(SIGPIPE, NULL, &old) && old.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
}

enum rc redis_open(const char *url, const struct redis_opts *o, struct redis **out, struct err *e)
{
	struct redis *r = mem_new(sizeof(*r));
	struct redis_cmd ping = REDIS_CMD_INIT;
	enum rc rc;

	*out = NULL;
	ignore_sigpipe();
	r->timeout_ms = o->timeout_ms;
	r->pool_max = o->pool_max;
	pthread_mutex_init(&r->lock, NULL);
	clk_cond_init(&r->freed);
	rc = redis_url_parse(url, &r->url, e);
	if (!rc) {
		redis_cmd_add(&ping, "PING");
		rc = redis_call(r, &ping, NULL, e);
	}
	if (rc)
		redis_close(r);
	else
		*out = r;
	return rc;
}

void redis_close(struct redis *r)
{
	struct conn *c;

	if (!r)
		return;
	while ((c = r->free)) {
		r->free = c->next;
		conn_free(c);
	}
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->freed);
	redis_url_release(&r->url);
	free(r);
}
