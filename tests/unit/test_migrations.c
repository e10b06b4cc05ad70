/* Keyspaces of every schema ever released (tests/golden/queue) become today's: whole, after the
 * migrator or Redis was killed at any point, and with servers of the old version still about. The
 * jobs in them can then be worked off.
 */
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/rng.h"
#include "base/str.h"
#include "migrations/migrations.h"
#include "queue/internal.h"
#include "queue/keys.h"
#include "tests/keyspace.h"
#include "tests/queue_fixture.h"
#include "tests/test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OLDEST 1

static struct queue_fixture f;
static struct err e;

static struct redis *plain_open(void)
{
	struct redis_opts o = {.timeout_ms = 5000, .pool_max = 1};
	struct redis *r = NULL;

	CHECK_RC(redis_open(f.redis.url, &o, &r, &e), RC_OK);
	return r;
}

static void run_words(struct redis *r, const char *words)
{
	struct redis_cmd c = REDIS_CMD_INIT;

	redis_cmd_words(&c, words);
	CHECK_RC(redis_call(r, &c, NULL, &e), RC_OK);
}

/* The keyspace of an earlier schema and nothing else. */
static void fill(int schema)
{
	struct redis *r = plain_open();
	char path[128];

	run_words(r, "FLUSHALL");
	run_words(r, "FUNCTION FLUSH");
	str_fmt(path, sizeof(path), "tests/golden/queue/schema-%d.jsonl", schema);
	keyspace_load(r, path);
	redis_close(r);
}

static void load_schema(int schema, bool fast)
{
	memset(&f, 0, sizeof(f));
	redis_fixture_start(&f.redis, test_tmpdir(), fast);
	fill(schema);
}

static void expect_good(void)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;

	f.q = redis_fixture_queue(&f.redis, 10000);
	redis_cmd_words(&c, "HMGET " KEY_META " schema m2:run m2:job");
	CHECK_RC(redis_call(queue_redis(f.q), &c, &p, &e), RC_OK);
	CHECK_STR(reply_text(reply_at(p, 0)), QUEUE_SCHEMA);
	CHECK_EQ(reply_kind(reply_at(p, 1)), REDIS_NIL);
	reply_free(p);
	qf_audit(&f);
}

/* Leases of the old time run out, everything is retried and done, every run ends. */
static void work_off(void)
{
	char job[JOB_ID_MAX], token[TOKEN_MAX], *next = NULL;
	json_t *runs = NULL, *run;
	size_t i, n_done = 0;
	int64_t n;

	f.now_ms = clk_now_ms();
	qf_pass(&f, 90000, 2000);
	CHECK_RC(queue_runs(f.q, NULL, NULL, 100, &runs, &next, &e), RC_OK);
	CHECK(json_array_size(runs) > 0);
	json_array_foreach(runs, i, run)
	{
		const char *id = jx_get_str(run, "id", "");

		queue_resume_run(f.q, id, &e);
		CHECK_RC(queue_retry_run(f.q, id, &n, &e), RC_OK);
		queue_resume_run(f.q, id, &e);
	}
	qf_worker(&f, "w0");
	for (int idle = 0; idle < 700; idle++)
		if (qf_claim(&f, "w0", job, token)) {
			CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
			n_done++;
			idle = 0;
		} else {
			qf_pass(&f, 2000, 2000);
		}
	CHECK(n_done > 0);
	qf_audit(&f);
	json_array_foreach(runs, i, run)
	{
		json_t *done = NULL;
		bool finished;
		const char *id = jx_get_str(run, "id", "");

		CHECK_RC(queue_done_outputs(f.q, id, &done, &e), RC_OK);
		CHECK_RC(queue_finish_run(f.q, id, (int64_t)json_object_size(done), NULL, &finished,
					  &e),
			 RC_OK);
		qf_run_state(&f, id, "done");
		json_decref(done);
	}
	json_decref(runs);
	free(next);
}

void test_migrations__every_old_schema_becomes_todays(void)
{
	for (int s = OLDEST; s < (int)strtol(QUEUE_SCHEMA, NULL, 10); s++) {
		load_schema(s, true);
		expect_good();
		work_off();
		qf_close(&f);
	}
}

/* In a process of its own, killed after delay_us if it still runs. True when it was killed. */
static bool migrate_and_die(unsigned delay_us)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct queue_opts o = {.accept_loss = true, .migrate = migrations_run};
		struct queue *q;
		_exit(queue_open(f.redis.url, &o, &q, &e) ? 1 : 0);
	}
	usleep(delay_us);
	kill(pid, SIGKILL);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status);
}

/* The lock of a dead migrator lapses. */
static void lock_lapses(void)
{
	struct redis *r = plain_open();

	run_words(r, "PEXPIRE " KEY_TAG "migrate 1");
	redis_close(r);
}

void test_migrations__a_migrator_killed_anywhere_is_continued(void)
{
	struct rng r;
	int killed = 0;

	rng_open(&r, 7, RNG_TEST, 1, 0, 0);
	load_schema(OLDEST, true);
	for (int i = 0; i < 12; i++) {
		fill(OLDEST);
		killed += migrate_and_die(500 + rng_below(&r, 12000));
		lock_lapses();
		killed += migrate_and_die(500 + rng_below(&r, 12000));
		lock_lapses();
		expect_good();
		queue_close(f.q);
	}
	redis_fixture_stop(&f.redis);
	printf("# %d of 24 migrators were killed at work\n", killed);
	CHECK(killed > 0);
}

void test_migrations__redis_killed_on_the_way_loses_no_step(void)
{
	load_schema(OLDEST, false);
	migrate_and_die(4000);
	redis_fixture_kill(&f.redis);
	redis_fixture_again(&f.redis);
	lock_lapses();
	expect_good();
	work_off();
	qf_close(&f);
}

/* A server of the version before keeps its library in Redis; its calls change nothing any more. */
void test_migrations__an_older_server_is_refused(void)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	int64_t n;

	load_schema(OLDEST, true);
	expect_good();
	redis_cmd_words(&c, "FCALL " QUEUE_VERB "retry_run 1 " KEY_META " 1 r0");
	CHECK_RC(redis_call(queue_redis(f.q), &c, NULL, &e), RC_UNSUPPORTED);
	CHECK(strstr(e.text, "schema") != NULL);
	run_words(queue_redis(f.q), "HSET " KEY_META " schema -2");
	CHECK_RC(queue_retry_run(f.q, "r0", &n, &e), RC_UNSUPPORTED); /* while a migration runs */
	run_words(queue_redis(f.q), "HSET " KEY_META " schema " QUEUE_SCHEMA);
	qf_close(&f);
}
