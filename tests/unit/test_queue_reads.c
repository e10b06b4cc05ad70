/* Fairness, workers, events, metrics and small things with a life span, against a real Redis. */
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "queue/redis.h"
#include "tests/queue_fixture.h"
#include "tests/test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct queue_fixture f;
static struct err e;
static char job[JOB_ID_MAX], token[TOKEN_MAX];

static const char *many(char *out, size_t size, int n)
{
	size_t len = 0;

	for (int i = 0; i < n; i++)
		len += (size_t)snprintf(out + len, size - len, "%sgenerate.%d", i ? " " : "", i);
	return out;
}

void test_queue_reads__a_lower_class_goes_first_and_weights_share(void)
{
	char jobs[4000];
	int n[3] = {0};

	qf_open(&f, true);
	qf_worker(&f, "w");
	qf_run(&f, "ra", "{\"weight\":1}");
	qf_run(&f, "rb", "{\"weight\":3}");
	qf_run(&f, "rc", "{\"class\":2}");
	qf_jobs(&f, "ra", many(jobs, sizeof(jobs), 100));
	qf_jobs(&f, "rb", jobs);
	qf_jobs(&f, "rc", many(jobs, sizeof(jobs), 10));
	for (int i = 0; i < 90; i++) {
		CHECK(qf_claim(&f, "w", job, token));
		n[job[1] - 'a']++;
		if (i < 10)
			CHECK_EQ(job[1], 'c');
		qf_pass(&f, 1000, 1000); /* each job takes a second */
		CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
	}
	CHECK_EQ(n[2], 10);
	CHECK(n[0] >= 18 && n[0] <= 22);
	CHECK(n[1] >= 58 && n[1] <= 62);
	qf_close(&f);
}

void test_queue_reads__an_idle_run_earns_no_credit(void)
{
	char jobs[4000];
	int n = 0;

	qf_open(&f, true);
	qf_worker(&f, "w");
	qf_run(&f, "ra", NULL);
	qf_run(&f, "rb", NULL);
	qf_jobs(&f, "ra", many(jobs, sizeof(jobs), 100));
	for (int i = 0; i < 50; i++) {
		CHECK(qf_claim(&f, "w", job, token));
		CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
	}
	qf_jobs(&f, "rb", jobs);
	for (int i = 0; i < 20; i++) {
		CHECK(qf_claim(&f, "w", job, token));
		n += job[1] == 'b';
		qf_pass(&f, 1000, 1000);
		CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
	}
	CHECK(n >= 9 && n <= 12);
	qf_close(&f);
}

void test_queue_reads__workers_come_and_go(void)
{
	const char *stages[] = {"judge", "dpo", NULL};
	struct queue_claim_req r = {.worker = "w", .stages = stages};
	json_t *claim, *list, *doc;
	enum queue_action action;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	qf_jobs(&f, "ra", "generate.0 dpo.0");
	CHECK_RC(queue_claim(f.q, &r, &claim, &e), RC_NOTFOUND);
	CHECK_RC(queue_worker_beat(f.q, "w", &action, &e), RC_NOTFOUND);
	CHECK_RC(queue_job(f.q, "ra.1.generate.0.0", &doc, &e), RC_OK);
	CHECK_STR(jx_get_str(doc, "wait_reason", ""), "no worker is connected");
	json_decref(doc);
	qf_worker(&f, "w");
	CHECK_RC(queue_claim(f.q, &r, &claim, &e), RC_OK);
	CHECK_STR(jx_get_str(json_object_get(claim, "job"), "stage", ""), "dpo");
	CHECK_RC(queue_workers(f.q, &list, &e), RC_OK);
	CHECK_STR(jx_get_str(json_array_get(list, 0), "state", ""), "busy");
	CHECK_STR(jx_get_str(json_array_get(list, 0), "job", ""), "ra.1.dpo.0.0");
	json_decref(list);
	CHECK_EQ(qf_pass(&f, 12000, 1000).n_workers_lost, 1);
	CHECK_RC(queue_workers(f.q, &list, &e), RC_OK);
	CHECK_STR(jx_get_str(json_array_get(list, 0), "state", ""), "lost");
	json_decref(list);
	CHECK_RC(queue_worker_beat(f.q, "w", &action, &e), RC_OK);
	CHECK_EQ(action, QUEUE_CONTINUE);
	CHECK_RC(queue_worker_drain(f.q, "w", &e), RC_OK);
	CHECK_RC(queue_worker_beat(f.q, "w", &action, &e), RC_OK);
	CHECK_EQ(action, QUEUE_DRAIN);
	CHECK(!qf_claim(&f, "w", job, token));
	CHECK_RC(queue_worker_gone(f.q, "w", &e), RC_OK);
	CHECK_RC(queue_worker_beat(f.q, "w", &action, &e), RC_NOTFOUND);
	qf_worker(&f, "w");
	CHECK(qf_claim(&f, "w", job, token));
	qf_close(&f);
}

/* What a worker says of its GPUs; while it says it can do no work it is given none. */
void test_queue_reads__an_unhealthy_worker_gets_no_job(void)
{
	json_t *gpus = json_loads("[{\"device\":0,\"load\":0.5}]", 0, NULL), *list, *w;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	qf_jobs(&f, "ra", "dpo.0 dpo.1");
	CHECK_RC(queue_worker_status(f.q, "w", gpus, "", &e), RC_NOTFOUND);
	qf_worker(&f, "w");
	CHECK_RC(queue_workers(f.q, &list, &e), RC_OK);
	w = json_array_get(list, 0);
	CHECK(json_is_null(json_object_get(w, "gpus")) && json_is_null(json_object_get(w, "unhealthy")));
	json_decref(list);
	CHECK_RC(queue_worker_status(f.q, "w", gpus, "", &e), RC_OK);
	CHECK(qf_claim(&f, "w", job, token));
	CHECK_RC(queue_worker_status(f.q, "w", gpus, "GPU 0: XID 79", &e), RC_OK);
	CHECK_RC(queue_workers(f.q, &list, &e), RC_OK);
	w = json_array_get(list, 0);
	CHECK_STR(jx_get_str(w, "state", ""), "unhealthy");
	CHECK_STR(jx_get_str(w, "unhealthy", ""), "GPU 0: XID 79");
	CHECK_STR(jx_get_str(w, "job", ""), job);
	CHECK(json_equal(json_object_get(w, "gpus"), gpus));
	json_decref(list);
	CHECK_RC(queue_fail(f.q, job, token, QUEUE_FAIL_PREEMPTED, NULL, &e), RC_OK);
	CHECK(!qf_claim(&f, "w", job, token));
	CHECK_RC(queue_worker_status(f.q, "w", gpus, "", &e), RC_OK);
	CHECK(qf_claim(&f, "w", job, token));
	json_decref(gpus);
	qf_close(&f);
}

void test_queue_reads__metrics_are_kept_by_step(void)
{
	json_t *beat =
		json_loads("{\"progress\":{\"done\":2,\"total\":9,\"unit\":\"steps\"},"
			   "\"metrics\":[{\"step\":10,\"loss\":0.5},{\"step\":2,\"loss\":0.9}]}",
			   0, NULL);
	json_t *bad = json_loads("{\"metrics\":[{\"loss\":1}]}", 0, NULL), *list, *doc;
	enum queue_action action;

	qf_open(&f, true);
	qf_worker(&f, "w");
	qf_run(&f, "ra", NULL);
	qf_jobs(&f, "ra", "dpo.0");
	CHECK(qf_claim(&f, "w", job, token));
	CHECK_RC(queue_beat(f.q, job, token, beat, &action, &e), RC_OK);
	CHECK_RC(queue_beat(f.q, job, token, beat, &action, &e), RC_OK);
	CHECK_RC(queue_beat(f.q, job, token, bad, &action, &e), RC_INVALID);
	CHECK_RC(queue_checkpoint_job(f.q, job, &e), RC_OK);
	CHECK_RC(queue_beat(f.q, job, token, NULL, &action, &e), RC_OK);
	CHECK_EQ(action, QUEUE_CHECKPOINT_NOW);
	CHECK_RC(queue_metrics(f.q, job, &list, &e), RC_OK);
	CHECK_EQ(json_array_size(list), 2);
	CHECK_EQ(jx_get_i64(json_array_get(list, 0), "step", 0), 2);
	CHECK_EQ(jx_get_i64(json_array_get(list, 1), "step", 0), 10);
	json_decref(list);
	CHECK_RC(queue_job(f.q, job, &doc, &e), RC_OK);
	CHECK_EQ(jx_get_i64(json_object_get(doc, "progress"), "total", 0), 9);
	json_decref(doc);
	json_decref(beat);
	json_decref(bad);
	qf_close(&f);
}

static void *late_event(void *arg)
{
	struct err own;

	(void)arg;
	clk_sleep_ms(100);
	CHECK(queue_event_add(f.q, "log", "ra", "ra.1.dpo.0.0", NULL, &own) == RC_OK);
	return NULL;
}

void test_queue_reads__every_change_is_one_event_and_readers_can_wait(void)
{
	char older[EVENT_ID_MAX], at[EVENT_ID_MAX];
	json_t *items, *ev;
	bool gap;
	size_t i, n = 0;
	pthread_t thread;

	qf_open(&f, true);
	CHECK_RC(queue_snapshot_id(f.q, at, &e), RC_OK);
	CHECK_STR(at, "0-0");
	qf_worker(&f, "w");
	qf_run(&f, "ra", NULL);
	qf_jobs(&f, "ra", "dpo.0 dpo.1<dpo.0");
	CHECK(qf_claim(&f, "w", job, token));
	CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
	CHECK_RC(queue_events(f.q, "0-0", 0, 100, &items, &gap, &e), RC_OK);
	CHECK(!gap);
	json_array_foreach(items, i, ev)
	{
		CHECK(strcmp(at, jx_get_str(ev, "id", "")) < 0);
		str_copy(at, sizeof(at), jx_get_str(ev, "id", ""));
		n += !strcmp(jx_get_str(ev, "type", ""), "job");
	}
	CHECK_EQ(n, 5); /* two made, one claimed, one done, one released */
	CHECK_STR(jx_get_str(json_object_get(json_array_get(items, json_array_size(items) - 1),
					     "data"),
			     "state", ""),
		  "ready");
	json_decref(items);
	pthread_create(&thread, NULL, late_event, NULL);
	CHECK_RC(queue_events(f.q, at, 5000, 10, &items, &gap, &e), RC_OK);
	CHECK_EQ(json_array_size(items), 1);
	CHECK_STR(jx_get_str(json_array_get(items, 0), "type", ""), "log");
	pthread_join(thread, NULL);
	json_decref(items);
	CHECK_RC(queue_snapshot_id(f.q, at, &e), RC_OK);
	CHECK_RC(queue_events(f.q, at, 50, 10, &items, &gap, &e), RC_OK);
	CHECK_EQ(json_array_size(items), 0);
	json_decref(items);
	CHECK_RC(queue_events(f.q, "9999999999999-0", 0, 10, &items, &gap, &e), RC_OK);
	CHECK(gap); /* an id from another life */
	json_decref(items);
	CHECK_RC(queue_events(f.q, "bread", 0, 10, &items, &gap, &e), RC_INVALID);
	/* Backwards: newest first, and on from where a page ended. */
	CHECK_RC(queue_events_before(f.q, "+", 2, &items, &e), RC_OK);
	CHECK_EQ(json_array_size(items), 2);
	CHECK_STR(jx_get_str(json_array_get(items, 0), "id", ""), at);
	str_copy(older, sizeof(older), jx_get_str(json_array_get(items, 1), "id", ""));
	CHECK(strcmp(older, at) < 0);
	json_decref(items);
	CHECK_RC(queue_events_before(f.q, at, 1, &items, &e), RC_OK);
	CHECK_STR(jx_get_str(json_array_get(items, 0), "id", ""), older);
	json_decref(items);
	CHECK_RC(queue_events_before(f.q, "0-1", 5, &items, &e), RC_OK);
	CHECK_EQ(json_array_size(items), 0);
	json_decref(items);
	CHECK_RC(queue_events_before(f.q, "bread", 5, &items, &e), RC_INVALID);
	qf_close(&f);
}

void test_queue_reads__a_trimmed_stream_tells_the_reader(void)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	char at[EVENT_ID_MAX];
	json_t *items;
	bool gap;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	CHECK_RC(queue_snapshot_id(f.q, at, &e), RC_OK);
	qf_jobs(&f, "ra", "dpo.0 dpo.1 dpo.2");
	redis_cmd_words(&c, "XTRIM {pawl}:ev MAXLEN 1");
	CHECK_RC(redis_call(queue_redis(f.q), &c, NULL, &e), RC_OK);
	CHECK_RC(queue_events(f.q, at, 0, 10, &items, &gap, &e), RC_OK);
	CHECK(gap);
	json_decref(items);
	qf_close(&f);
}

void test_queue_reads__one_time_things_are_taken_once(void)
{
	json_t *v = json_pack("{s:s}", "role", "admin"), *got;

	qf_open(&f, true);
	CHECK_RC(queue_kv_put(f.q, "login", "abc", v, 60, &e), RC_OK);
	CHECK_RC(queue_kv_get(f.q, "login", "abc", &got, &e), RC_OK);
	CHECK(json_equal(got, v));
	json_decref(got);
	CHECK_RC(queue_kv_take(f.q, "login", "abc", &got, &e), RC_OK);
	json_decref(got);
	CHECK_RC(queue_kv_take(f.q, "login", "abc", &got, &e), RC_NOTFOUND);
	CHECK_RC(queue_kv_put(f.q, "token", "t1", v, 0, &e), RC_OK);
	CHECK_RC(queue_kv_put(f.q, "token", "t2", v, 1, &e), RC_OK);
	CHECK_RC(queue_kv_list(f.q, "token", &got, &e), RC_OK);
	CHECK_EQ(json_object_size(got), 2);
	json_decref(got);
	clk_sleep_ms(1100);
	CHECK_RC(queue_kv_list(f.q, "token", &got, &e), RC_OK);
	CHECK_EQ(json_object_size(got), 1);
	json_decref(got);
	CHECK_RC(queue_kv_del(f.q, "token", "t1", &e), RC_OK);
	CHECK_RC(queue_kv_del(f.q, "token", "t1", &e), RC_OK);
	CHECK_RC(queue_kv_get(f.q, "token", "t1", &got, &e), RC_NOTFOUND);
	CHECK_RC(queue_kv_put(f.q, "bad ns", "k", v, 0, &e), RC_INVALID);
	json_decref(v);
	qf_close(&f);
}

void test_queue_reads__runs_are_listed_newest_first_by_page(void)
{
	json_t *items;
	char id[RUN_ID_MAX], *next, *after;

	qf_open(&f, true);
	for (int i = 0; i < 75; i++) {
		str_fmt(id, sizeof(id), "r%d", i);
		qf_run(&f, id, NULL);
	}
	CHECK_RC(queue_cancel_run(f.q, "r3", &e), RC_OK);
	CHECK_RC(queue_runs(f.q, NULL, NULL, 70, &items, &next, &e), RC_OK);
	CHECK_EQ(json_array_size(items), 70);
	CHECK_STR(jx_get_str(json_array_get(items, 0), "id", ""), "r74");
	CHECK(next != NULL);
	json_decref(items);
	CHECK_RC(queue_runs(f.q, NULL, next, 70, &items, &after, &e), RC_OK);
	CHECK_EQ(json_array_size(items), 5);
	CHECK_STR(jx_get_str(json_array_get(items, 0), "id", ""), "r4");
	CHECK(after == NULL);
	json_decref(items);
	free(next);
	CHECK_RC(queue_runs(f.q, "cancelled", NULL, 70, &items, &next, &e), RC_OK);
	CHECK_EQ(json_array_size(items), 1);
	CHECK(next == NULL);
	json_decref(items);
	CHECK_RC(queue_runs(f.q, NULL, "x", 70, &items, &next, &e), RC_INVALID);
	CHECK_RC(queue_open_runs(f.q, &items, &e), RC_OK);
	CHECK_EQ(json_array_size(items), 74);
	json_decref(items);
	qf_close(&f);
}

/* Counts down in names: the newest first, each once. */
static enum rc expect_next(void *ctx, const json_t *run, struct err *err)
{
	int *left = ctx;
	char id[RUN_ID_MAX];

	str_fmt(id, sizeof(id), "r%d", --*left);
	CHECK_STR(jx_get_str(run, "id", ""), id);
	return *left == 5 ? err_set(err, RC_CANCELLED, "enough") : RC_OK;
}

void test_queue_reads__every_run_until_an_error(void)
{
	char id[RUN_ID_MAX];
	int left = 210;

	qf_open(&f, true);
	CHECK_RC(queue_each_run(f.q, expect_next, &left, &e), RC_OK);
	CHECK_EQ(left, 210);
	for (int i = 0; i < left; i++) {
		str_fmt(id, sizeof(id), "r%d", i);
		qf_run(&f, id, NULL);
	}
	CHECK_RC(queue_each_run(f.q, expect_next, &left, &e), RC_CANCELLED);
	CHECK_EQ(left, 5);
	qf_close(&f);
}

/* --- threads -----------------------------------------------------------------------------------
 */

#define THREADS 8
#define JOBS 300

static _Atomic int completed;

static void *claims(void *arg)
{
	struct queue_claim_req r = {.worker = arg};
	json_t *claim = NULL, *outputs = json_array();
	struct err own = {0};

	while (queue_claim(f.q, &r, &claim, &own) == RC_OK && claim) {
		bool again = true;
		enum rc rc =
			queue_complete(f.q, jx_get_str(json_object_get(claim, "job"), "id", ""),
				       jx_get_str(claim, "token", ""), outputs, NULL, NULL, NULL,
				       &again, NULL, &own);
		CHECK(rc == RC_OK && !again);
		completed++;
		json_decref(claim);
		claim = NULL;
	}
	json_decref(outputs);
	return NULL;
}

void test_queue_reads__many_threads_share_the_work(void)
{
	static const char *const names[THREADS] = {"w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7"};
	pthread_t t[THREADS];
	char jobs[8000];
	int64_t start;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	CHECK_EQ(qf_jobs(&f, "ra", many(jobs, sizeof(jobs), JOBS)), JOBS);
	for (int i = 0; i < THREADS; i++)
		qf_worker(&f, names[i]);
	start = clk_mono_ms();
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, claims, (void *)(uintptr_t)names[i]);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	CHECK_EQ(completed, JOBS);
	printf("# %d jobs claimed and completed by %d threads in %lld ms\n", JOBS, THREADS,
	       (long long)(clk_mono_ms() - start));
	qf_close(&f);
}
