/* Where a job stands, what it has waited for, and what is noted of it; against a real Redis. */
#include "base/clk.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "tests/queue_fixture.h"
#include "tests/test.h"

#include <string.h>

#define T 1800000000000LL

static struct queue_fixture f;
static struct err e;
static char job[JOB_ID_MAX], token[TOKEN_MAX];

static json_t *waits_of(const char *id)
{
	json_t *j = NULL, *attempts = NULL, *w = NULL;

	CHECK_RC(queue_job(f.q, id, &j, &e), RC_OK);
	CHECK_RC(queue_attempts(f.q, id, &attempts, &e), RC_OK);
	CHECK_RC(queue_waits(f.q, j, attempts, &w, &e), RC_OK);
	json_decref(j);
	json_decref(attempts);
	return w;
}

static json_t *noted(const char *run, const char *queue)
{
	json_t *log = NULL, *list;

	CHECK_RC(queue_waits_note(f.q, &e), RC_OK);
	if (queue_kv_get(f.q, "waits", run, &log, &e))
		return json_array();
	list = json_incref(json_object_get(log, queue));
	json_decref(log);
	return list;
}

static const char *kind(const json_t *list, size_t i)
{
	const char *text = json_string_value(json_array_get(json_array_get(list, i), 1));

	return text ? text : "?";
}

void test_queue_waits__a_ready_job_has_a_place(void)
{
	json_t *w;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	qf_run(&f, "rb", NULL);
	qf_jobs(&f, "ra", "generate.0 generate.1 generate.2 pair.0<generate.0");
	qf_jobs(&f, "rb", "generate.0");
	CHECK_RC(queue_prioritize_job(f.q, "ra.1.generate.2.0", 3, &e), RC_OK);
	w = waits_of("ra.1.generate.1.0");
	CHECK_EQ(jx_get_i64(w, "position", 0), 3);
	CHECK_EQ(jx_get_i64(w, "queue_length", 0), 3);
	CHECK_EQ(jx_get_i64(w, "runs_ahead", -1), 0);
	CHECK_STR(jx_get_str(w, "reason", ""), "no worker is connected");
	json_decref(w);
	w = waits_of("rb.1.generate.0.0");
	CHECK_EQ(jx_get_i64(w, "position", 0), 1);
	CHECK_EQ(jx_get_i64(w, "runs_ahead", -1), 1);
	json_decref(w);
	w = waits_of("ra.1.pair.0.0");
	CHECK(json_is_null(json_object_get(w, "position")));
	CHECK_EQ(json_array_size(json_object_get(w, "history")), 1);
	CHECK(json_is_integer(json_object_get(w, "since_ms")));
	json_decref(w);
	CHECK_RC(queue_pause_run(f.q, "ra", &e), RC_OK);
	w = waits_of("ra.1.generate.1.0");
	CHECK_EQ(jx_get_i64(w, "position", 0), 3);
	CHECK(json_is_null(json_object_get(w, "runs_ahead")));
	CHECK_STR(jx_get_str(w, "reason", ""), "the run is paused");
	json_decref(w);
	qf_close(&f);
}

void test_queue_waits__what_changes_is_noted_once(void)
{
	json_t *list;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	qf_jobs(&f, "ra", "generate.0");
	json_decref(noted("ra", "generate"));
	list = noted("ra", "generate");
	CHECK_EQ(json_array_size(list), 1);
	CHECK_STR(kind(list, 0), "nobody");
	json_decref(list);
	qf_worker(&f, "w1");
	qf_worker(&f, "w2");
	json_decref(noted("ra", "generate"));
	CHECK_RC(queue_worker_gone(f.q, "w2", &e), RC_OK); /* Another number is no other reason. */
	list = noted("ra", "generate");
	CHECK_EQ(json_array_size(list), 2);
	CHECK_STR(kind(list, 1), "busy");
	json_decref(list);
	CHECK(qf_claim(&f, "w1", job, token));
	list = noted("ra", "generate");
	CHECK_EQ(json_array_size(list), 3);
	CHECK_STR(kind(list, 2), "");
	json_decref(list);
	qf_audit(&f);
	qf_close(&f);
}

/* "FROM-TO REASON" in seconds after T, a line each; TO "" while it lasts. */
static void lines(const json_t *w, char *out, size_t size)
{
	size_t i, n = 0;
	const json_t *h;
	char to[24];

	out[0] = 0;
	json_array_foreach(json_object_get(w, "history"), i, h)
	{
		int64_t end = jx_get_i64(h, "to_ms", 0);

		to[0] = 0;
		if (end)
			str_fmt(to, sizeof(to), "%lld", (long long)(end - T) / 1000);
		str_fmt(out + n, size - n, "%lld-%s %s\n",
			(long long)(jx_get_i64(h, "from_ms", 0) - T) / 1000, to,
			jx_get_str(h, "reason", "?"));
		n = strlen(out);
	}
}

static void history_is(json_t *j, const char *attempts, const char *want)
{
	json_t *a = json_loads(attempts, 0, NULL), *w = NULL;
	char got[2000];

	CHECK(a != NULL);
	CHECK_RC(queue_waits(f.q, j, a, &w, &e), RC_OK);
	lines(w, got, sizeof(got));
	CHECK_STR(got, want);
	json_decref(w);
	json_decref(a);
	json_decref(j);
}

static json_t *made_up(const char *state, int64_t ended_ms)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:[]}", "id", "rx.1.generate.0.0",
			 "run", "rx", "stage", "generate", "state", state, "created_ms",
			 (json_int_t)T, "ended_ms", (json_int_t)ended_ms, "wait_reason", "now",
			 "parents");
}

static int64_t later(void)
{
	return T + 400000;
}

void test_queue_waits__the_history_is_put_together(void)
{
	json_t *log = json_pack("{s:[[I,s,s],[I,s,s],[I,s,s],[I,s,s]]}", "generate",
				(json_int_t)(T + 5000), "nobody", "no worker is connected",
				(json_int_t)(T + 30000), "busy", "waits for one of 2 workers",
				(json_int_t)(T + 60500), "", "", (json_int_t)(T + 170000), "paused",
				"the run is paused");
	static const char first[] =
		"{\"started_ms\":1800000060000,\"ended_ms\":1800000120000,\"end\":\"failed\","
		"\"reason\":{\"message\":\"boom\"},\"again_ms\":1800000150000}";
	static const char begin[] =
		"0-30 no worker is connected\n30-60 waits for one of 2 workers\n";
	static const char mid[] = "120-150 after a failure: boom\n150-170 waits for a worker\n"
				  "170-200 the run is paused\n";
	char attempts[1000], want[1000];

	qf_open(&f, true);
	CHECK_RC(queue_kv_put(f.q, "waits", "rx", log, 0, &e), RC_OK);
	json_decref(log);
	clk_replace(later, NULL);
	/* It runs for the third time: torn off once. */
	str_fmt(attempts, sizeof(attempts),
		"[%s,{\"started_ms\":1800000200000,\"ended_ms\":1800000260000,"
		"\"end\":\"preempted\"},{\"started_ms\":1800000300000,\"end\":null}]",
		first);
	str_fmt(want, sizeof(want), "%s%s260-300 the run is paused\n", begin, mid);
	history_is(made_up("running", 0), attempts, want);
	/* Or has failed for good. */
	str_fmt(attempts, sizeof(attempts),
		"[%s,{\"started_ms\":1800000200000,\"ended_ms\":1800000260000,"
		"\"end\":\"failed\",\"reason\":{\"message\":\"bang\"}}]",
		first);
	str_fmt(want, sizeof(want), "%s%s260- after a failure: bang\n", begin, mid);
	history_is(made_up("failed", T + 260000), attempts, want);
	/* Or is ready since a while, or done. */
	str_fmt(attempts, sizeof(attempts), "[%s]", first);
	str_fmt(want, sizeof(want),
		"%s120-150 after a failure: boom\n150-170 waits for a worker\n"
		"170- the run is paused\n",
		begin);
	history_is(made_up("ready", 0), attempts, want);
	history_is(made_up("done", T + 70000),
		   "[{\"started_ms\":1800000060000,\"ended_ms\":1800000070000,"
		   "\"end\":\"completed\"}]",
		   begin);
	history_is(made_up("cancelled", T + 50000), "[]", "0-50 waits for earlier jobs\n");
	history_is(made_up("skipped", T + 50000), "[]", "0-50 waits for earlier jobs\n50- now\n");
	history_is(made_up("blocked", 0), "[]", "0- now\n");
	clk_replace(NULL, NULL);
	qf_close(&f);
}

void test_queue_waits__an_attempt_tells_when_its_job_was_ready_again(void)
{
	json_t *attempts = NULL, *reason = json_pack("{s:s}", "message", "out of memory");

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	qf_jobs(&f, "ra", "generate.0");
	qf_worker(&f, "w1");
	for (int i = 0; i < 2; i++) {
		CHECK(qf_claim(&f, "w1", job, token));
		CHECK_RC(queue_fail(f.q, job, token, QUEUE_FAIL_RETRY, reason, &e), RC_OK);
		CHECK_RC(queue_attempts(f.q, job, &attempts, &e), RC_OK);
		CHECK(!json_object_get(json_array_get(attempts, (size_t)i), "again_ms"));
		json_decref(attempts);
		qf_pass(&f, BACKOFF_MS_MAX, TICK_ADVANCE_MS_MAX);
		qf_worker(&f, "w1");
		qf_state(&f, job, "ready");
		CHECK_RC(queue_attempts(f.q, job, &attempts, &e), RC_OK);
		CHECK_EQ(json_array_size(attempts), i + 1);
		CHECK(jx_get_i64(json_array_get(attempts, (size_t)i), "again_ms", 0) >=
		      jx_get_i64(json_array_get(attempts, (size_t)i), "ended_ms", 1));
		json_decref(attempts);
	}
	json_decref(reason);
	qf_audit(&f);
	qf_close(&f);
}
