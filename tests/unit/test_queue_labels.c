/* What people write about runs, If-Match compared in the step that changes, and the marks of attempts,
 * against a real Redis. */
#include "base/jsonx.h"
#include "base/str.h"
#include "tests/queue_fixture.h"
#include "tests/test.h"

#include <pthread.h>
#include <string.h>

static struct queue_fixture f;
static struct err e;
static char job[JOB_ID_MAX], token[TOKEN_MAX];

static enum rc tune(const char *run, const char *text)
{
	json_t *fields = json_loads(text, 0, NULL);
	enum rc rc = queue_tune_run(f.q, run, fields, &e);

	CHECK(fields != NULL);
	json_decref(fields);
	return rc;
}

static json_t *run_of(const char *run)
{
	json_t *v = NULL;

	CHECK_RC(queue_run(f.q, run, &v, &e), RC_OK);
	return v;
}

static void match_run(const char *run)
{
	json_t *v = run_of(run);
	char what[MATCH_MAX];

	str_fmt(what, sizeof(what), "r:%s=%s", run, jx_get_str(v, "revision", "?"));
	queue_match(what);
	json_decref(v);
}

void test_queue_labels__a_run_keeps_notes_tags_and_a_star(void)
{
	json_t *v;

	qf_open(&f, true);
	qf_run(&f, "ra", "{\"spec\":{\"notes\":\"as sent\"}}");
	v = run_of("ra");
	CHECK_STR(jx_get_str(v, "notes", ""), "as sent");
	CHECK_EQ(json_array_size(json_object_get(v, "tags")), 0);
	json_decref(v);
	CHECK_RC(tune("ra", "{\"notes\":\"two\\nlines\",\"tags\":[\"a b\",\"\xc3\xa9\"],\"starred\":true,"
			    "\"class\":3}"), RC_OK);
	v = run_of("ra");
	CHECK_STR(jx_get_str(v, "notes", ""), "two\nlines");
	CHECK_STR(json_string_value(json_array_get(json_object_get(v, "tags"), 1)), "\xc3\xa9");
	CHECK(jx_get_bool(v, "starred", false));
	CHECK_EQ(jx_get_i64(v, "class", 0), 3);
	json_decref(v);
	CHECK_RC(tune("ra", "{\"notes\":\"\",\"starred\":false}"), RC_OK);
	v = run_of("ra");
	CHECK_STR(jx_get_str(v, "notes", "?"), "");
	CHECK_EQ(json_array_size(json_object_get(v, "tags")), 2);
	json_decref(v);
	qf_close(&f);
}

void test_queue_labels__settings_of_an_ended_run_are_refused_whole_and_labels_are_not(void)
{
	json_t *v;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	qf_jobs(&f, "ra", "dpo.0");
	CHECK_RC(queue_cancel_run(f.q, "ra", &e), RC_OK);
	qf_run_state(&f, "ra", "cancelled");
	CHECK_RC(tune("ra", "{\"notes\":\"n\",\"class\":1}"), RC_CONFLICT);
	v = run_of("ra");
	CHECK_STR(jx_get_str(v, "notes", "?"), "");
	json_decref(v);
	CHECK_RC(tune("ra", "{\"tags\":[\"over\"]}"), RC_OK);
	qf_audit(&f);
	qf_close(&f);
}

void test_queue_labels__bad_ones_are_named(void)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{"{}", "expected one of"},
		{"{\"notes\":1}", "notes"},
		{"{\"notes\":\"\\u0007\"}", "control"},
		{"{\"tags\":\"a\"}", "tags"},
		{"{\"tags\":[\"a,b\"]}", "tags/0"},
		{"{\"tags\":[\"a\",\" b\"]}", "tags/1"},
		{"{\"tags\":[\"a\",\"a\"]}", "twice"},
		{"{\"tags\":[\"0123456789012345678901234567890123456789x\"]}", "tags/0"},
		{"{\"starred\":1}", "starred"},
		{"{\"class\":10}", "class"},
		{"{\"weight\":0}", "weight"},
		{"{\"colour\":\"red\"}", "colour"},
	};

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		CHECK_RC(tune("ra", bad[i].text), RC_INVALID);
		if (!strstr(e.text, bad[i].says))
			test_fail(__FILE__, __LINE__, e.text);
	}
	qf_close(&f);
}

/* --- If-Match ---------------------------------------------------------------------------------- */

void test_queue_labels__every_decision_and_end_changes_the_revision_and_progress_does_not(void)
{
	json_t *beat = json_loads("{\"progress\":{\"done\":1,\"total\":2,\"unit\":\"x\"}}", 0, NULL);
	enum queue_action action;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	qf_worker(&f, "w");
	qf_jobs(&f, "ra", "dpo.0");
	match_run("ra");
	CHECK_RC(queue_pause_run(f.q, "ra", &e), RC_OK);
	CHECK_RC(queue_resume_run(f.q, "ra", &e), RC_CHANGED);
	match_run("ra");
	queue_match(NULL);
	CHECK_RC(queue_resume_run(f.q, "ra", &e), RC_OK);
	match_run("ra");
	queue_match(NULL);
	match_run("ra"); /* of now */
	json_t *before = run_of("ra");
	queue_match(NULL);
	CHECK(qf_claim(&f, "w", job, token));
	CHECK_RC(queue_beat(f.q, job, token, beat, &action, &e), RC_OK);
	json_t *after = run_of("ra");
	CHECK_STR(jx_get_str(after, "revision", "?"), jx_get_str(before, "revision", ""));
	match_run("ra");
	CHECK_RC(tune("ra", "{\"class\":2}"), RC_OK);
	CHECK_RC(tune("ra", "{\"class\":3}"), RC_CHANGED);
	queue_match("r:rnone=5");
	CHECK_RC(tune("ra", "{\"class\":3}"), RC_CHANGED);
	queue_match("nonsense");
	CHECK_RC(tune("ra", "{\"class\":3}"), RC_CHANGED);
	queue_match(NULL);
	CHECK_RC(tune("ra", "{\"class\":3}"), RC_OK);
	json_decref(before);
	json_decref(after);
	json_decref(beat);
	qf_close(&f);
}

void test_queue_labels__a_job_is_matched_by_what_an_operator_sees_of_it(void)
{
	char what[MATCH_MAX];
	json_t *v = NULL;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	qf_worker(&f, "w");
	qf_jobs(&f, "ra", "dpo.0");
	CHECK_RC(queue_job(f.q, "ra.1.dpo.0.0", &v, &e), RC_OK);
	str_fmt(what, sizeof(what), "j:ra.1.dpo.0.0=%s", jx_get_str(v, "tag", ""));
	json_decref(v);
	queue_match(what);
	CHECK_RC(queue_prioritize_job(f.q, "ra.1.dpo.0.0", 4, &e), RC_OK);
	CHECK_RC(queue_prioritize_job(f.q, "ra.1.dpo.0.0", 5, &e), RC_CHANGED);
	queue_match(NULL);
	CHECK_RC(queue_job(f.q, "ra.1.dpo.0.0", &v, &e), RC_OK);
	str_fmt(what, sizeof(what), "j:ra.1.dpo.0.0=%s", jx_get_str(v, "tag", ""));
	json_decref(v);
	CHECK(qf_claim(&f, "w", job, token));
	queue_match(what);
	CHECK_RC(queue_cancel_job(f.q, "ra.1.dpo.0.0", &e), RC_CHANGED);
	queue_match(NULL);
	qf_state(&f, "ra.1.dpo.0.0", "running");
	qf_close(&f);
}

struct racer {
	pthread_t thread;
	char what[MATCH_MAX];
	int class;
	int won;
};

static void *race(void *arg)
{
	struct racer *r = arg;
	json_t *fields = json_pack("{s:i}", "class", r->class);
	struct err own = {0};
	enum rc rc;

	queue_match(r->what);
	rc = queue_tune_run(f.q, "ra", fields, &own);
	queue_match(NULL);
	r->won = rc == RC_OK ? 1 : rc == RC_CHANGED ? 0 : -1;
	json_decref(fields);
	return NULL;
}

void test_queue_labels__of_many_with_the_same_revision_one_wins(void)
{
	struct racer r[8];
	json_t *v;
	int won = 0, class = -1;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	for (int round = 0; round < 20; round++) {
		v = run_of("ra");
		for (int i = 0; i < 8; i++) {
			str_fmt(r[i].what, sizeof(r[i].what), "r:ra=%s", jx_get_str(v, "revision", ""));
			r[i].class = i;
			pthread_create(&r[i].thread, NULL, race, &r[i]);
		}
		json_decref(v);
		won = 0;
		for (int i = 0; i < 8; i++) {
			pthread_join(r[i].thread, NULL);
			CHECK(r[i].won >= 0);
			won += r[i].won;
			class = r[i].won ? r[i].class : class;
		}
		CHECK_EQ(won, 1);
		v = run_of("ra");
		CHECK_EQ(jx_get_i64(v, "class", -1), class);
		json_decref(v);
	}
	qf_close(&f);
}

/* --- marks ------------------------------------------------------------------------------------- */

static json_t *marks(const char *id, size_t attempt)
{
	json_t *list = NULL, *m;

	CHECK_RC(queue_attempts(f.q, id, &list, &e), RC_OK);
	m = json_incref(json_object_get(json_array_get(list, attempt), "marks"));
	CHECK(json_is_array(m));
	json_decref(list);
	return m;
}

static enum queue_action save(int64_t done)
{
	json_t *beat = json_pack("{s:{s:I, s:i, s:s}, s:{s:I}}", "progress", "done", (json_int_t)done,
				 "total", 1000, "unit", "steps", "checkpoint", "step", (json_int_t)done);
	enum queue_action action = QUEUE_CONTINUE;

	CHECK_RC(queue_beat(f.q, job, token, beat, &action, &e), RC_OK);
	json_decref(beat);
	return action;
}

static const char *kind(const json_t *m, size_t i)
{
	return jx_get_str(json_array_get(m, i), "kind", "");
}

void test_queue_labels__an_attempt_that_runs_tells_when_it_kept_a_checkpoint(void)
{
	json_t *m;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	qf_worker(&f, "w");
	qf_jobs(&f, "ra", "dpo.0");
	CHECK(qf_claim(&f, "w", job, token));
	save(10);
	save(10); /* the same one again */
	save(20);
	m = marks(job, 0);
	CHECK_EQ(json_array_size(m), 2);
	CHECK_STR(kind(m, 0), "checkpoint");
	CHECK_EQ(jx_get_i64(json_array_get(m, 1), "done", 0), 20);
	CHECK(jx_get_i64(json_array_get(m, 1), "at_ms", 0) > 1000000000000);
	json_decref(m);
	CHECK_RC(queue_notice(f.q, job, token, &e), RC_OK);
	CHECK_RC(queue_notice(f.q, job, token, &e), RC_OK);
	CHECK_RC(queue_pause_run(f.q, "ra", &e), RC_OK);
	CHECK_EQ(save(20), QUEUE_PAUSE);
	CHECK_EQ(save(20), QUEUE_PAUSE);
	CHECK_RC(queue_fail(f.q, job, token, QUEUE_FAIL_PREEMPTED, NULL, &e), RC_OK);
	CHECK_RC(queue_notice(f.q, job, token, &e), RC_STALE);
	m = marks(job, 0);
	CHECK_EQ(json_array_size(m), 4);
	CHECK_STR(kind(m, 2), "notice");
	CHECK_STR(kind(m, 3), "pause");
	json_decref(m);
	CHECK_RC(queue_resume_run(f.q, "ra", &e), RC_OK);
	CHECK(qf_claim(&f, "w", job, token));
	m = marks(job, 1);
	CHECK_EQ(json_array_size(m), 0); /* not those of the one before */
	json_decref(m);
	CHECK_RC(qf_complete(&f, job, token, 'a'), RC_OK);
	m = marks(job, 1);
	CHECK_EQ(json_array_size(m), 0);
	json_decref(m);
	qf_close(&f);
}

void test_queue_labels__marks_are_bounded_and_still_tell_of_the_whole_time(void)
{
	json_t *m;
	size_t n;

	qf_open(&f, true);
	qf_run(&f, "ra", NULL);
	qf_worker(&f, "w");
	qf_jobs(&f, "ra", "dpo.0");
	CHECK(qf_claim(&f, "w", job, token));
	for (int i = 1; i <= 3 * MARKS_KEPT; i++)
		save(i);
	m = marks(job, 0);
	n = json_array_size(m);
	CHECK(n > MARKS_KEPT / 2 && n <= MARKS_KEPT);
	CHECK(jx_get_i64(json_array_get(m, 0), "done", 0) < 20);
	CHECK_EQ(jx_get_i64(json_array_get(m, n - 1), "done", 0), 3 * MARKS_KEPT);
	for (size_t i = 1; i < n; i++)
		CHECK(jx_get_i64(json_array_get(m, i), "done", 0) >
		      jx_get_i64(json_array_get(m, i - 1), "done", 0));
	json_decref(m);
	qf_close(&f);
}
