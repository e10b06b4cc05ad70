/* What survives: kill -9 of Redis, a lost library, odd configuration, migrations run twice. */
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "migrations/migrations.h"
#include "queue/keys.h"
#include "queue/redis.h"
#include "queue/redis_url.h"
#include "tests/queue_fixture.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

static struct queue_fixture f;
static struct err e;

static enum rc words(const char *text)
{
	struct redis_cmd c = REDIS_CMD_INIT;

	redis_cmd_words(&c, text);
	return redis_call(queue_redis(f.q), &c, NULL, &e);
}

void test_queue_outage__kill_9_loses_nothing_acknowledged(void)
{
	char job[JOB_ID_MAX], token[TOKEN_MAX], held[JOB_ID_MAX], held_token[TOKEN_MAX];
	int done = 0;
	json_t *outputs;

	qf_open(&f, false);
	qf_run(&f, "ra", NULL);
	qf_worker(&f, "w");
	qf_jobs(&f, "ra",
		"generate.0 generate.1 generate.2 generate.3 generate.4 generate.5 generate.6 "
		"pair.0<generate.0,generate.1,generate.2,generate.3,generate.4,generate.5");
	for (int round = 0; round < 3; round++) {
		CHECK(qf_claim(&f, "w", job, token));
		CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
		done++;
		CHECK(qf_claim(&f, "w", held, held_token));
		redis_fixture_kill(&f.redis);
		redis_fixture_again(&f.redis);
		CHECK_RC(queue_owns(f.q, held, held_token, &e), RC_OK);
		CHECK_RC(qf_complete(&f, job, token, 'a'),
			 RC_OK); /* answered before, answered again */
		CHECK_RC(qf_complete(&f, held, held_token, 'b'), RC_OK);
		done++;
		CHECK_RC(queue_done_outputs(f.q, "ra", &outputs, &e), RC_OK);
		CHECK_EQ(json_object_size(outputs), done);
		json_decref(outputs);
		qf_audit(&f);
	}
	qf_state(&f, "ra.1.pair.0.0", "ready");
	qf_close(&f);
}

void test_queue_outage__a_call_fails_in_time_when_redis_is_away_and_works_after(void)
{
	struct queue_opts o = {.accept_loss = true, .timeout_ms = 500, .migrate = migrations_run};
	struct queue *q;
	int64_t start;

	qf_open(&f, false);
	CHECK_RC(queue_open(f.redis.url, &o, &q, &e), RC_OK);
	redis_fixture_kill(&f.redis);
	start = clk_mono_ms();
	CHECK_RC(queue_ping(q, &e), RC_UNREACHABLE);
	CHECK(clk_mono_ms() - start < 2000);
	redis_fixture_again(&f.redis);
	CHECK_RC(queue_ping(q, &e), RC_OK);
	queue_close(q);
	qf_close(&f);
}

void test_queue_outage__a_hung_redis_is_a_time_out(void)
{
	struct redis_opts o = {.timeout_ms = 200, .pool_max = 2};
	struct redis_cmd c = REDIS_CMD_INIT, ping = REDIS_CMD_INIT;
	struct redis *r;
	int64_t start;

	qf_open(&f, true);
	CHECK_RC(redis_open(f.redis.url, &o, &r, &e), RC_OK);
	redis_cmd_words(&c, "BLPOP nothing 1");
	start = clk_mono_ms();
	CHECK_RC(redis_call(r, &c, NULL, &e), RC_TIMEOUT);
	CHECK(clk_mono_ms() - start < 900);
	redis_cmd_words(&ping, "PING");
	CHECK_RC(redis_call(r, &ping, NULL, &e), RC_OK);
	redis_close(r);
	qf_close(&f);
}

void test_queue_outage__a_forgetful_redis_is_refused(void)
{
	static const struct {
		const char *set, *back, *word;
	} cases[] = {
		{"CONFIG SET appendfsync everysec", "CONFIG SET appendfsync always", "appendfsync"},
		{"CONFIG SET maxmemory-policy allkeys-lru",
		 "CONFIG SET maxmemory-policy noeviction", "maxmemory"},
		{"CONFIG SET appendonly no", "CONFIG SET appendonly yes", "appendonly"},
	};
	struct queue_opts o = {.migrate = migrations_run};
	struct queue *q;

	qf_open(&f, false);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		CHECK_RC(words(cases[i].set), RC_OK);
		o.accept_loss = false;
		CHECK_RC(queue_open(f.redis.url, &o, &q, &e), RC_INVALID);
		CHECK(strstr(e.text, cases[i].word) != NULL);
		o.accept_loss = true;
		CHECK_RC(queue_open(f.redis.url, &o, &q, &e), RC_OK);
		queue_close(q);
		CHECK_RC(words(cases[i].back), RC_OK);
	}
	qf_close(&f);
}

void test_queue_outage__migrations_may_run_twice_and_refuse_the_future(void)
{
	struct queue_opts o = {.migrate = migrations_run};
	struct queue *q;
	int64_t n;
	bool finished;

	qf_open(&f, false);
	CHECK_RC(migrations_run(f.q, &e), RC_OK);
	CHECK_RC(migrations_run(f.q, &e), RC_OK);
	qf_run(&f, "ra", NULL);
	CHECK_RC(words("HSET {pawl}:m schema 99"), RC_OK);
	CHECK_RC(queue_open(f.redis.url, &o, &q, &e), RC_UNSUPPORTED);
	CHECK(strstr(e.text, "newer pawl-server") != NULL);
	CHECK_RC(queue_retry_run(f.q, "ra", &n, &e),
		 RC_UNSUPPORTED);			  /* no writes with another schema */
	CHECK_RC(words("HSET {pawl}:m schema -1"), RC_OK); /* a step that was not marked done */
	CHECK_RC(queue_open(f.redis.url, &o, &q, &e), RC_OK);
	CHECK_RC(queue_finish_run(q, "ra", 0, NULL, &finished, &e), RC_OK);
	queue_close(q);
	qf_close(&f);
}

void test_queue_outage__a_lost_or_older_library_is_loaded_again(void)
{
	json_t *run = NULL, *record = json_pack("{s:s}", "id", "ra");
	char id[RUN_ID_MAX];
	bool existed;

	qf_open(&f, true);
	CHECK_RC(words("FUNCTION DELETE " QUEUE_LIB), RC_OK);
	CHECK_RC(queue_submit(f.q, record, NULL, NULL, id, &existed, &e), RC_UNREACHABLE);
	CHECK_RC(queue_submit(f.q, record, NULL, NULL, id, &existed, &e), RC_OK);
	CHECK_RC(queue_run(f.q, "ra", &run, &e), RC_OK);
	json_decref(run);
	json_decref(record);
	qf_close(&f);
}

void test_queue_outage__addresses_are_taken_apart(void)
{
	struct redis_url u;

	CHECK_RC(redis_url_parse("redis://ada:s:e@cret@db.example:7000/3", &u, &e), RC_OK);
	CHECK_STR(u.user, "ada");
	CHECK_STR(u.password, "s:e@cret");
	CHECK_STR(u.host.name, "db.example");
	CHECK_EQ(u.host.port, 7000);
	CHECK_EQ(u.db, 3);
	CHECK(!u.tls);
	redis_url_release(&u);
	CHECK_RC(redis_url_parse("rediss://[::1]", &u, &e), RC_OK);
	CHECK_STR(u.host.name, "::1");
	CHECK_EQ(u.host.port, 6379);
	CHECK(u.tls && !u.user && !u.password);
	redis_url_release(&u);
	CHECK_RC(redis_url_parse("sentinel://pw@a:1,b,[::1]:3/main/2", &u, &e), RC_OK);
	CHECK_EQ(u.n_sentinels, 3);
	CHECK_STR(u.sentinels[1].name, "b");
	CHECK_EQ(u.sentinels[1].port, 26379);
	CHECK_EQ(u.sentinels[2].port, 3);
	CHECK_STR(u.master, "main");
	CHECK_STR(u.password, "pw");
	CHECK_EQ(u.db, 2);
	redis_url_release(&u);
	CHECK_RC(redis_url_parse("sentinel://ada:hidden@a:1", &u, &e), RC_INVALID);
	CHECK(!strstr(e.text, "hidden"));
}

void test_queue_outage__addresses(void)
{
	static const char *const bad[] = {"host:notaport", "host:70000", "redis://h:1/x",
					  "sentinel://h:1", "sentinel:///m"};
	struct redis_opts o = {.timeout_ms = 100, .pool_max = 1};
	struct redis *r;
	char path[600];

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK_RC(redis_open(bad[i], &o, &r, &e), RC_INVALID);
	CHECK_RC(redis_open("unix:/nonexistent/sock", &o, &r, &e), RC_UNREACHABLE);
	CHECK(strstr(e.text, "/nonexistent/sock") != NULL);
	CHECK_RC(redis_open("127.0.0.1:1", &o, &r, &e), RC_UNREACHABLE);
	qf_open(&f, true);
	str_fmt(path, sizeof(path), "%s/redis.sock", f.redis.dir);
	CHECK_RC(redis_open(path, &o, &r, &e), RC_OK);
	redis_close(r);
	str_fmt(path, sizeof(path), "unix://%s/redis.sock", f.redis.dir);
	CHECK_RC(redis_open(path, &o, &r, &e), RC_OK);
	redis_close(r);
	qf_close(&f);
}
