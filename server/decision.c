#include "server/decision.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/server.h"
#include "store/store.h"

#include <math.h>
#include <string.h>

#define NS_DECIDED "decided" /* the last decision of a run that Redis carried out */

/* --- the verbs ----------------------------------------------------------------------------- */

static enum rc run_retry(struct queue *q, const char *run, const json_t *detail, struct err *e)
{
	int64_t n;

	(void)detail;
	return queue_retry_run(q, run, &n, e);
}

/* What the detail leaves out stays as it is. */
static enum rc run_tune(struct queue *q, const char *run, const json_t *detail, struct err *e)
{
	struct queue_tuning t;
	json_t *now = NULL;
	enum rc rc = queue_run(q, run, &now, e);

	if (rc)
		return rc;
	t = (struct queue_tuning){
		(int)jx_get_i64(detail, "class", jx_get_i64(now, "class", 5)),
		jx_get_f64(detail, "weight", jx_get_f64(now, "weight", 1)),
		(int)jx_get_i64(detail, "max_running", jx_get_i64(now, "max_running", 0))};
	json_decref(now);
	return queue_tune_run(q, run, &t, e);
}

static enum rc job_retry(struct queue *q, const char *job, const json_t *detail, struct err *e)
{
	int64_t n;

	return queue_retry_job(q, job, jx_get_bool(detail, "subtree", true), &n, e);
}

static enum rc job_invalidate(struct queue *q, const char *job, const json_t *detail, struct err *e)
{
	int64_t n;

	(void)detail;
	return queue_invalidate_job(q, job, &n, e);
}

static enum rc job_priority(struct queue *q, const char *job, const json_t *detail, struct err *e)
{
	return queue_prioritize_job(q, job, (int)jx_get_i64(detail, "priority", 0), e);
}

static const struct verb {
	const char *what;
	bool of_job;
	enum rc (*plain)(struct queue *q, const char *id, struct err *e); /* without a detail */
	enum rc (*with)(struct queue *q, const char *id, const json_t *detail, struct err *e);
	const char *fields; /* of the detail that are numbers; at least one must be there */
} verbs[] = {
	{"cancel", false, queue_cancel_run, NULL, NULL},
	{"pause", false, queue_pause_run, NULL, NULL},
	{"drain", false, queue_drain_run, NULL, NULL},
	{"resume", false, queue_resume_run, NULL, NULL},
	{"retry", false, NULL, run_retry, NULL},
	{"tune", false, NULL, run_tune, "class weight max_running"},
	{"cancel", true, queue_cancel_job, NULL, NULL},
	{"retry", true, NULL, job_retry, NULL},
	{"invalidate", true, NULL, job_invalidate, NULL},
	{"priority", true, NULL, job_priority, "priority"},
};

static const struct verb *verb_of(const char *what, bool of_job)
{
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (verbs[i].of_job == of_job && strcmp(verbs[i].what, what) == 0)
			return &verbs[i];
	return NULL;
}

/* Every field named is a number where it is there, one is, and no other field is. */
static enum rc detail_check(const struct verb *v, const json_t *detail, struct err *e)
{
	const char *key;
	json_t *value;
	int n = 0;

	if (!v->fields)
		return RC_OK;
	json_object_foreach((json_t *)(uintptr_t)detail, key, value)
	{
		const char *at = strstr(v->fields, key);
		size_t len = strlen(key);

		if (!at || !len || (at[len] != ' ' && at[len] != 0) ||
		    (at != v->fields && at[-1] != ' '))
			return err_set(e, RC_INVALID, "%s: unknown field; expected %s", key,
				       v->fields);
		if (!(strcmp(key, "weight") == 0 ? json_is_number(value) : json_is_integer(value)))
			return err_set(e, RC_INVALID, "%s: expected a number", key);
		n++;
	}
	return n ? RC_OK : err_set(e, RC_INVALID, "expected one of: %s", v->fields);
}

/* --- the record ---------------------------------------------------------------------------- */

static void record_path(const char *run, char path[64])
{
	str_fmt(path, 64, "runs/%s/decisions.jsonl", run);
}

static json_t *decision_new(const char *what, const char *job, const json_t *detail, const char *who)
{
	char id[17];
	uint8_t bytes[8];

	random_bytes(bytes, sizeof bytes);
	for (size_t i = 0; i < sizeof bytes; i++)
		str_fmt(id + 2 * i, 3, "%02x", bytes[i]);
	return json_pack("{s:s, s:s, s:s, s:I, s:s*, s:O*}", "id", id, "what", what, "by", who, "at_ms",
			 (json_int_t)clk_now_ms(), "job", job, "detail", detail);
}

static enum rc append(struct server *s, const char *run, const json_t *d, struct err *e)
{
	char path[64];

	record_path(run, path);
	return store_doc_append(s->store, path, d, e);
}

enum rc decision_append(struct server *s, const char *run, const char *what, const char *job,
			const json_t *detail, const char *who, struct err *e)
{
	json_t *d = decision_new(what, job, detail, who);
	enum rc rc = append(s, run, d, e);

	json_decref(d);
	return rc;
}

enum rc decision_list(struct server *s, const char *run, json_t **out, struct err *e)
{
	char path[64];

	record_path(run, path);
	return store_doc_lines(s->store, path, out, e);
}

enum rc decision_mark(struct server *s, const char *run, const json_t *d, struct err *e)
{
	json_t *id = json_string(jx_get_str(d, "id", ""));
	enum rc rc = queue_kv_put(s->queue, NS_DECIDED, run, id, 0, e);

	json_decref(id);
	return rc;
}

enum rc decision_mark_none(struct server *s, const char *run, struct err *e)
{
	return decision_mark(s, run, NULL, e);
}

/* Index of the first decision after the one Redis carried out last; a run from before there were marks has
 * carried out those without an id. */
static size_t first_pending(const json_t *all, const json_t *mark)
{
	const char *last = json_string_value(mark);
	size_t n = json_array_size(all), i;

	for (i = n; i > 0; i--) {
		const char *id = jx_get_str(json_array_get(all, i - 1), "id", "");

		if (last && last[0] ? strcmp(id, last) == 0 : !last && !id[0])
			break;
	}
	return i;
}

enum rc decision_pending(struct server *s, const char *run, json_t **out, struct err *e)
{
	json_t *all = NULL, *mark = NULL;
	enum rc rc = decision_list(s, run, &all, e);

	*out = NULL;
	if (!rc && json_array_size(all) > 0)
		rc = queue_kv_get(s->queue, NS_DECIDED, run, &mark, e);
	if (rc == RC_NOTFOUND)
		rc = RC_OK;
	if (!rc) {
		*out = json_array();
		for (size_t i = first_pending(all, mark); i < json_array_size(all); i++)
			json_array_append(*out, json_array_get(all, i));
	}
	json_decref(all);
	json_decref(mark);
	return rc;
}

static enum rc carry_out(struct queue *q, const char *run, const char *what, const char *job,
			 const json_t *detail, struct err *e)
{
	const struct verb *v = verb_of(what, job != NULL);
	const char *id = job ? job : run;

	if (!v)
		return err_set(e, RC_NOTFOUND, "no verb \"%s\"", what);
	return v->plain ? v->plain(q, id, e) : v->with(q, id, detail, e);
}

enum rc decision_apply(struct queue *q, const char *run, const json_t *d, struct err *e)
{
	return carry_out(q, run, jx_get_str(d, "what", ""), jx_get_str(d, "job", NULL),
			 json_object_get(d, "detail"), e);
}

enum rc decision_make(struct server *s, const char *run, const char *what, const char *job,
		      const json_t *detail, const char *who, struct err *e)
{
	const struct verb *v = verb_of(what, job != NULL);
	json_t *d = decision_new(what, job, detail, who);
	enum rc rc =
		v ? detail_check(v, detail, e) : err_set(e, RC_NOTFOUND, "no verb \"%s\"", what);

	if (!rc)
		rc = append(s, run, d, e);
	if (!rc) {
		rc = carry_out(s->queue, run, what, job, detail, e);
		/* One that was refused is over as well; of one without an answer nothing is known. */
		if (!rc)
			rc = decision_mark(s, run, d, e);
		else if (rc != RC_UNREACHABLE && rc != RC_TIMEOUT)
			decision_mark(s, run, d, NULL);
	}
	json_decref(d);
	return rc;
}
