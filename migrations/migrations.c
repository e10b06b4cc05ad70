#include "migrations/migrations.h"

#include "migrations/step.h"

#include "base/clk.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/keys.h"
#include "queue/queue.h"
#include "queue/redis.h"

#include <stdlib.h>
#include <string.h>

#define LOCK_KEY KEY_TAG "migrate"
#define LOCK_MS 30000	   /* renewed before each step; a step must be shorter */
#define LOCK_WAIT_MS 60000 /* another server migrates */

/* 0001: the meta hash. Every field that functions read has a value from here on. */
enum rc m0001_meta(const struct migration_step *s, struct err *e)
{
	static const char *const fields[] = {"fence 0", "seq 0", "lclock 0", "frozen 0"};

	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		struct redis_cmd c = REDIS_CMD_INIT;
		enum rc rc;

		redis_cmd_words(&c, "HSETNX " KEY_META);
		redis_cmd_words(&c, fields[i]);
		rc = redis_call(s->redis, &c, NULL, e);
		if (rc)
			return rc;
	}
	return RC_OK;
}

static const struct migration {
	int to;
	const char *name;
	enum rc (*run)(const struct migration_step *s, struct err *e);
} migrations[] = {
	{1, "0001-meta", m0001_meta},
	{2, "0002-queues", m0002_queues},
};
#define N_MIGRATIONS (sizeof(migrations) / sizeof(*migrations))

/* Below 0: on the way from that schema to the next. */
static enum rc schema_read(struct redis *r, int64_t *schema, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	enum rc rc;

	redis_cmd_words(&c, "HGET " KEY_META " schema");
	rc = redis_call(r, &c, &p, e);
	*schema = reply_i64(p);
	reply_free(p);
	return rc;
}

/* --- lock: a random value with an expiry, so that a killed migrator does not block for ever -----
 */

static enum rc lock_take(struct redis *r, const char *token, struct err *e)
{
	int64_t until = clk_mono_ms() + LOCK_WAIT_MS;

	for (;;) {
		struct redis_cmd c = REDIS_CMD_INIT;
		struct redis_reply *p = NULL;
		bool got;
		enum rc rc;

		redis_cmd_words(&c, "SET " LOCK_KEY);
		redis_cmd_add(&c, token);
		redis_cmd_words(&c, "NX PX");
		redis_cmd_i64(&c, LOCK_MS);
		rc = redis_call(r, &c, &p, e);
		got = reply_kind(p) == REDIS_TEXT;
		reply_free(p);
		if (rc || got)
			return rc;
		if (clk_mono_ms() > until)
			return err_set(e, RC_TIMEOUT, "another server has been migrating for %d s",
				       LOCK_WAIT_MS / 1000);
		clk_sleep_ms(200);
	}
}

/* Runs a small script that acts only while the lock is ours. RC_STALE when it is not. */
static enum rc lock_script(struct redis *r, const char *token, const char *action, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	char script[256];
	enum rc rc;

	str_fmt(script, sizeof(script),
		"if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end %s return 1", action);
	redis_cmd_add(&c, "EVAL");
	redis_cmd_add(&c, script);
	redis_cmd_words(&c, "2 " LOCK_KEY " " KEY_META);
	redis_cmd_add(&c, token);
	rc = redis_call(r, &c, &p, e);
	if (!rc && reply_i64(p) != 1)
		rc = err_set(e, RC_STALE, "the migration lock was lost to another server");
	reply_free(p);
	return rc;
}

static enum rc lock_renew(struct redis *r, const char *token, struct err *e)
{
	char action[96];

	str_fmt(action, sizeof(action), "redis.call('PEXPIRE', KEYS[1], %d)", LOCK_MS);
	return lock_script(r, token, action, e);
}

static enum rc schema_write(struct redis *r, const char *token, int schema, struct err *e)
{
	char action[96];

	str_fmt(action, sizeof(action), "redis.call('HSET', KEYS[2], 'schema', '%d')", schema);
	return lock_script(r, token, action, e);
}

struct lock {
	struct redis *redis;
	const char *token;
};

static enum rc lock_alive(void *ctx, struct err *e)
{
	const struct lock *l = ctx;

	return lock_renew(l->redis, l->token, e);
}

/* --- run ---------------------------------------------------------------------------------------
 */

static enum rc steps_run(struct redis *r, const char *token, struct err *e)
{
	struct lock lock = {r, token};
	struct migration_step step = {.redis = r, .alive = lock_alive, .ctx = &lock};
	int64_t schema;
	enum rc rc = schema_read(r, &schema, e);

	for (size_t i = 0; !rc && i < N_MIGRATIONS; i++) {
		const struct migration *m = &migrations[i];
		if (m->to <= llabs(schema))
			continue;
		rc = lock_renew(r, token, e);
		/* An empty keyspace has no servers to hold off. */
		if (!rc && m->to > 1)
			rc = schema_write(r, token, -(m->to - 1), e);
		if (!rc)
			rc = m->run(&step, e);
		if (!rc)
			rc = schema_write(r, token, m->to, e);
		if (rc)
			return err_wrap(e, "migration %s", m->name);
		log_info("migrations", "applied", "name=%s schema=%d", m->name, m->to);
	}
	return rc;
}

enum rc migrations_run(struct queue *q, struct err *e)
{
	struct redis *r = queue_redis(q);
	int64_t schema, ours = migrations[N_MIGRATIONS - 1].to;
	uint8_t bytes[SHA256_SIZE];
	char token[SHA256_HEX_SIZE];
	enum rc rc = schema_read(r, &schema, e);

	if (!rc && schema > ours)
		return err_set(e, RC_UNSUPPORTED,
			       "redis holds schema %lld, this program knows %lld: start a newer "
			       "pawl-server",
			       (long long)schema, (long long)ours);
	if (!rc && schema < ours) {
		random_bytes(bytes, sizeof(bytes));
		sha256_hex(bytes, token);
		rc = lock_take(r, token, e);
		if (!rc) {
			rc = steps_run(r, token, e);
			lock_script(r, token, "redis.call('DEL', KEYS[1])", NULL);
		}
	}
	return rc ? rc : queue_lib_load(q, e);
}
