#include "tests/queue_fixture.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/internal.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void qf_open(struct queue_fixture *f, bool fast)
{
	memset(f, 0, sizeof(*f));
	redis_fixture_start(&f->redis, test_tmpdir(), fast);
	f->q = redis_fixture_queue(&f->redis, 10000);
	f->now_ms = 1000000000000;
	qf_pass(f, 0, 1);
}

void qf_close(struct queue_fixture *f)
{
	qf_audit(f);
	queue_close(f->q);
	redis_fixture_stop(&f->redis);
}

void qf_run(struct queue_fixture *f, const char *id, const char *extra)
{
	json_t *record = json_loads(extra ? extra : "{}", 0, NULL);
	char run[RUN_ID_MAX];
	bool existed;
	struct err e = {0};

	json_object_set_new(record, "id", json_string(id));
	CHECK_RC(queue_submit(f->q, record, NULL, NULL, run, &existed, &e), RC_OK);
	CHECK_STR(run, id);
	json_decref(record);
}

/* "pair.0!1?<generate.0,generate.1" */
static json_t *job_of(const char *run, const char *text)
{
	char stage[32], id[JOB_ID_MAX];
	const char *dot = strchr(text, '.'), *lt = strchr(text, '<'), *mark;
	int shard = (int)strtol(dot + 1, NULL, 10);
	json_t *parents = json_array(), *job;

	str_fmt(stage, sizeof(stage), "%.*s", (int)(dot - text), text);
	str_fmt(id, sizeof(id), "%s.1.%s.%d.0", run, stage, shard);
	for (const char *p = lt; p && *p; p = strchr(p + 1, ',')) {
		char parent[JOB_ID_MAX];
		const char *d = strchr(p, '.');
		str_fmt(parent, sizeof(parent), "%s.1.%.*s.%ld.0", run, (int)(d - p - 1), p + 1,
			strtol(d + 1, NULL, 10));
		json_array_append_new(parents, json_string(parent));
	}
	job = json_pack("{s:s, s:s, s:i, s:i, s:i, s:o, s:[], s:{}, s:i}", "id", id, "stage", stage,
			"iter", 1, "shard", shard, "pass", 0, "parents", parents, "inputs",
			"params", "cost_hint", 1);
	mark = strchr(text, '!');
	if (mark && (!lt || mark < lt))
		json_object_set_new(job, "need", json_integer(strtol(mark + 1, NULL, 10)));
	mark = strchr(text, '?');
	if (mark && (!lt || mark < lt))
		json_object_set_new(job, "optional", json_true());
	return job;
}

int64_t qf_jobs(struct queue_fixture *f, const char *run, const char *jobs)
{
	json_t *list = json_array();
	int64_t n = 0;
	struct err e = {0};

	while (*jobs) {
		size_t len = strcspn(jobs, " ");
		char *one = mem_strn(jobs, len);
		json_array_append_new(list, job_of(run, one));
		free(one);
		jobs += len + (jobs[len] == ' ');
	}
	CHECK_RC(queue_add_jobs(f->q, run, list, &n, &e), RC_OK);
	json_decref(list);
	return n;
}

void qf_worker(struct queue_fixture *f, const char *id)
{
	json_t *info = json_pack("{s:s}", "name", id);
	struct err e = {0};

	CHECK_RC(queue_worker_register(f->q, id, info, &e), RC_OK);
	json_decref(info);
}

static struct queue_tick tick_at(struct queue_fixture *f)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	struct queue_tick t;
	struct err e = {0};

	call_begin(&c, "tick");
	redis_cmd_words(&c, "test");
	redis_cmd_i64(&c, queue_lease_ms(f->q));
	redis_cmd_i64(&c, f->now_ms);
	CHECK_RC(call_end(f->q, &c, &p, &e), RC_OK);
	t = (struct queue_tick){reply_i64(reply_at(p, 0)), reply_i64(reply_at(p, 1)),
				reply_i64(reply_at(p, 2)), reply_i64(reply_at(p, 3)),
				reply_i64(reply_at(p, 4)), reply_i64(reply_at(p, 5)),
				reply_i64(reply_at(p, 6)), false, {0}};
	reply_free(p);
	return t;
}

struct queue_tick qf_pass(struct queue_fixture *f, int64_t ms, int64_t step)
{
	struct queue_tick sum = {0}, t;

	do {
		int64_t by = ms < step ? ms : step;
		f->now_ms += by;
		ms -= by;
		t = tick_at(f);
		sum.lease_clock_ms = t.lease_clock_ms;
		sum.frozen_ms = t.frozen_ms;
		sum.advanced_ms += t.advanced_ms;
		sum.n_expired += t.n_expired;
		sum.n_due += t.n_due;
		sum.n_cancelled += t.n_cancelled;
		sum.n_workers_lost += t.n_workers_lost;
	} while (ms > 0);
	return sum;
}

bool qf_claim(struct queue_fixture *f, const char *w, char job[JOB_ID_MAX], char token[TOKEN_MAX])
{
	struct queue_claim_req r = {.worker = w};
	json_t *claim = NULL;
	struct err e = {0};

	CHECK_RC(queue_claim(f->q, &r, &claim, &e), RC_OK);
	if (!claim)
		return false;
	str_copy(job, JOB_ID_MAX, jx_get_str(json_object_get(claim, "job"), "id", ""));
	str_copy(token, TOKEN_MAX, jx_get_str(claim, "token", ""));
	json_decref(claim);
	return true;
}

enum rc qf_complete(struct queue_fixture *f, const char *job, const char *token, char d)
{
	char digest[65];
	json_t *outputs;
	struct err e = {0};
	enum rc rc;

	memset(digest, d, 64);
	digest[64] = '\0';
	outputs = json_pack("[{s:s, s:s, s:s, s:i, s:{s:i}}]", "role", "data", "kind", "dataset",
			    "digest", digest, "size", 10, "meta", "rows", 3);
	rc = queue_complete(f->q, job, token, outputs, NULL, NULL, NULL, NULL, NULL, &e);
	json_decref(outputs);
	return rc;
}

void qf_state(struct queue_fixture *f, const char *job, const char *want)
{
	json_t *j = NULL;
	struct err e = {0};

	CHECK_RC(queue_job(f->q, job, &j, &e), RC_OK);
	CHECK_STR(jx_get_str(j, "state", ""), want);
	json_decref(j);
}

void qf_run_state(struct queue_fixture *f, const char *run, const char *want)
{
	json_t *r = NULL;
	struct err e = {0};

	CHECK_RC(queue_run(f->q, run, &r, &e), RC_OK);
	CHECK_STR(jx_get_str(r, "state", ""), want);
	json_decref(r);
}

int64_t qf_number(struct queue_fixture *f, const char *job, const char *field)
{
	json_t *j = NULL;
	int64_t v;
	struct err e = {0};

	CHECK_RC(queue_job(f->q, job, &j, &e), RC_OK);
	v = jx_get_i64(j, field, -1);
	json_decref(j);
	return v;
}

void qf_audit(struct queue_fixture *f)
{
	json_t *problems = NULL, *p;
	size_t i;
	struct err e = {0};

	CHECK_RC(queue_audit(f->q, &problems, &e), RC_OK);
	json_array_foreach(problems, i, p) printf("# audit: %s\n", json_string_value(p));
	CHECK_EQ(json_array_size(problems), 0);
	json_decref(problems);
}
