#include "queue/queue.h"

#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/internal.h"
#include "queue/keys.h"
#include "queue/restore.h"

#include <stdlib.h>
#include <string.h>

extern const char queue_lua_text[], queue_lua_end[];

/* --- calling functions ------------------------------------------------------------------------- */

static _Thread_local bool restoring;

void queue_restoring(bool on)
{
	restoring = on;
}

static _Thread_local char match[MATCH_MAX];

void queue_match(const char *what)
{
	str_copy(match, sizeof(match), what ? what : "");
}

void call_begin(struct redis_cmd *c, const char *verb)
{
	char name[64], word[MATCH_MAX + 8];

	str_fmt(name, sizeof(name), QUEUE_VERB "%s", verb);
	str_fmt(word, sizeof(word), match[0] ? QUEUE_SCHEMA "?%s" : QUEUE_SCHEMA "%s",
		match[0] ? match : restoring ? "!" : "");
	redis_cmd_add(c, "FCALL");
	redis_cmd_add(c, name);
	redis_cmd_words(c, "1 " KEY_META);
	redis_cmd_add(c, word);
	c->once = match[0] != 0; /* The second time it would have changed. */
}

/* A Redis that has lost the library gets it again. */
static enum rc call_answered(struct queue *q, enum rc rc, struct err *e)
{
	if (rc == RC_IO && strstr(e->text, "Function not found")) {
		log_warn("queue", "library_lost", "library=%s", QUEUE_LIB);
		if (queue_lib_load(q, e) == RC_OK)
			rc = err_set(e, RC_UNREACHABLE, "redis had lost the function library; it is "
							"loaded again, repeat the request");
		else
			rc = e->code;
	}
	return rc;
}

enum rc call_end(struct queue *q, struct redis_cmd *c, struct redis_reply **out, struct err *e)
{
	struct err own;

	if (!e)
		e = &own;
	return call_answered(q, redis_call(q->redis, c, out, e), e);
}

enum rc call_joined(struct queue *q, struct redis_cmd *c, struct redis_reply **out, struct err *e)
{
	struct err own;

	if (restoring || match[0] || c->bytes.len > COMBINE_BYTES_MAX)
		return call_end(q, c, out, e);
	if (!e)
		e = &own;
	return call_answered(q, combine_call(q->combine, c, out, e), e);
}

enum rc call_words(struct queue *q, const char *verb, const char *const *args, int64_t *n,
		   struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	enum rc rc;

	call_begin(&c, verb);
	for (; *args; args++)
		redis_cmd_add(&c, *args);
	rc = call_end(q, &c, &p, e);
	if (!rc && n)
		*n = reply_i64(p);
	reply_free(p);
	return rc;
}

void cmd_json(struct redis_cmd *c, const json_t *v)
{
	struct buf b = BUF_INIT;

	if (v)
		jx_dump(v, &b);
	redis_cmd_addn(c, b.data, b.len);
	buf_release(&b);
}

/* --- library ----------------------------------------------------------------------------------- */

/* The text of our library as Redis has it; NULL when it has none. */
static enum rc lib_text(struct queue *q, char **text, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	const struct redis_reply *lib;
	enum rc rc;

	*text = NULL;
	redis_cmd_words(&c, "FUNCTION LIST WITHCODE LIBRARYNAME " QUEUE_LIB);
	rc = redis_call(q->redis, &c, &p, e);
	lib = rc ? NULL : reply_at(p, 0);
	for (size_t i = 0; i + 1 < reply_n(lib); i += 2)
		if (!strcmp(reply_text(reply_at(lib, i)), "library_code")) {
			free(*text);
			*text = mem_str(reply_text(reply_at(lib, i + 1)));
		}
	reply_free(p);
	return rc;
}

enum rc queue_lib_load(struct queue *q, struct err *e)
{
	size_t len = (size_t)(queue_lua_end - queue_lua_text);
	struct redis_cmd c = REDIS_CMD_INIT;
	char *have = NULL;
	enum rc rc = lib_text(q, &have, e);

	if (!rc && (!have || strlen(have) != len || memcmp(have, queue_lua_text, len) != 0)) {
		redis_cmd_words(&c, "FUNCTION LOAD REPLACE");
		redis_cmd_addn(&c, queue_lua_text, len);
		rc = redis_call(q->redis, &c, NULL, e);
		if (!rc)
			log_info("queue", "library_loaded", "library=%s bytes=%zu", QUEUE_LIB, len);
	}
	free(have);
	return rc ? err_wrap(e, "function library " QUEUE_LIB) : RC_OK;
}

/* --- what Redis promises ----------------------------------------------------------------------- */

#define SYNCED 1
#define N_PROMISES (sizeof(promises) / sizeof(*promises))
static const struct {
	const char *key, *want, *why;
} promises[] = {
	{"appendonly", "yes", "nothing is written to disk as it happens"},
	[SYNCED] = {"appendfsync", "always", "a crash may lose acknowledged work"},
	{"maxmemory-policy", "noeviction", "keys may be thrown away when memory is short"},
};

static enum rc check_promise(struct queue *q, size_t i, bool accept_loss, bool *kept, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	const char *have;
	enum rc rc;

	redis_cmd_words(&c, "CONFIG GET");
	redis_cmd_add(&c, promises[i].key);
	rc = redis_call(q->redis, &c, &p, e);
	if (rc == RC_UNREACHABLE || rc == RC_TIMEOUT)
		return rc;
	have = rc ? "(unknown: CONFIG GET is refused)" : reply_text(reply_at(p, 1));
	rc = RC_OK;
	*kept = !strcmp(have, promises[i].want);
	if (!*kept) {
		if (accept_loss)
			log_warn("queue", "redis_may_lose", "key=%s value=%s want=%s",
				 promises[i].key, have, promises[i].want);
		else
			rc = err_set(e, RC_INVALID,
				     "redis has %s = %s, so %s; set %s %s in redis.conf, or start with "
				     "server.accept_loss = true", promises[i].key, have,
				     promises[i].why, promises[i].key, promises[i].want);
	}
	reply_free(p);
	return rc;
}

/* What only costs memory is no reason to refuse. */
static enum rc check_packing(struct queue *q, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	int64_t have = 0;
	enum rc rc;

	redis_cmd_words(&c, "CONFIG GET hash-max-listpack-value");
	rc = redis_call(q->redis, &c, &p, e);
	if (!rc && str_to_i64(reply_text(reply_at(p, 1)), &have) && have < PACKED_VALUE_MIN)
		log_info("queue", "redis_takes_more_memory",
			 "key=hash-max-listpack-value value=%lld want=%d", (long long)have,
			 PACKED_VALUE_MIN);
	reply_free(p);
	return rc == RC_UNREACHABLE || rc == RC_TIMEOUT ? rc : RC_OK;
}

/* --- life -------------------------------------------------------------------------------------- */

enum rc queue_open(const char *url, const struct queue_opts *o, struct queue **out, struct err *e)
{
	struct queue *q = mem_new(sizeof(*q));
	struct redis_opts ro = {
		.timeout_ms = o->timeout_ms ? o->timeout_ms : CALL_TIMEOUT_MS,
		.pool_max = o->pool_max ? o->pool_max : POOL_MAX,
	};
	bool kept[N_PROMISES] = {false};
	enum rc rc;

	*out = NULL;
	q->lease_ms = o->lease_ms ? o->lease_ms : LEASE_MS_DEFAULT;
	if (q->lease_ms < LEASE_MS_MIN || q->lease_ms > LEASE_MS_MAX) {
		rc = err_set(e, RC_INVALID, "lease of %lld ms: expected %d to %d",
			     (long long)q->lease_ms, LEASE_MS_MIN, LEASE_MS_MAX);
		goto out;
	}
	rc = redis_open(url, &ro, &q->redis, e);
	for (size_t i = 0; !rc && i < N_PROMISES; i++)
		rc = check_promise(q, i, o->accept_loss, &kept[i], e);
	q->combine = rc ? NULL : combine_new(q->redis, ro.timeout_ms, kept[SYNCED]);
	if (!rc)
		rc = check_packing(q, e);
	if (!rc && o->migrate)
		rc = o->migrate(q, e);
out:
	if (rc)
		queue_close(q);
	else
		*out = q;
	return rc;
}

void queue_close(struct queue *q)
{
	if (!q)
		return;
	combine_free(q->combine);
	redis_close(q->redis);
	free(q);
}

enum rc queue_ping(struct queue *q, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;

	redis_cmd_add(&c, "PING");
	return redis_call(q->redis, &c, NULL, e);
}

struct redis *queue_redis(struct queue *q)
{
	return q->redis;
}

bool queue_troubled(struct queue *q)
{
	return redis_troubled(q->redis);
}

int64_t queue_lease_ms(const struct queue *q)
{
	return q->lease_ms;
}

/* --- small shared readers ---------------------------------------------------------------------- */

void cmd_key(struct redis_cmd *c, const char *command, const char *prefix, const char *name,
	     const char *words)
{
	char *key = mem_printf("%s%s", prefix, name);

	redis_cmd_words(c, command);
	redis_cmd_add(c, key);
	redis_cmd_words(c, words);
	free(key);
}

const char *hash_get(const struct redis_reply *h, const char *field, const char *dflt)
{
	for (size_t i = 0; i + 1 < reply_n(h); i += 2)
		if (!strcmp(reply_text(reply_at(h, i)), field))
			return reply_text(reply_at(h, i + 1));
	return dflt;
}

int64_t hash_i64(const struct redis_reply *h, const char *field, int64_t dflt)
{
	int64_t v = dflt;

	str_to_i64(hash_get(h, field, ""), &v);
	return v;
}

json_t *json_of_text(const char *text, size_t len)
{
	json_t *v = len ? json_loadb(text, len, JSON_DECODE_ANY, NULL) : NULL;

	return v ? v : json_null();
}

json_t *hash_json(const struct redis_reply *h, const char *field)
{
	const char *text = hash_get(h, field, "");

	return json_of_text(text, strlen(text));
}

json_t *json_text_or_null(const char *text)
{
	return text[0] ? json_string(text) : json_null();
}

json_t *json_ms_or_null(int64_t ms)
{
	return ms ? json_integer(ms) : json_null();
}

bool word_valid(const char *s, size_t max)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return n > 0 && n < max && s[n] == '\0';
}

bool job_run_of(const char *job, char run[RUN_ID_MAX])
{
	const char *dot = strchr(job, '.');
	size_t n = dot ? (size_t)(dot - job) : 0;

	if (!dot || n == 0 || n >= RUN_ID_MAX || !word_valid(job, JOB_ID_MAX))
		return false;
	memcpy(run, job, n);
	run[n] = '\0';
	return true;
}
