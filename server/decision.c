#include "server/decision.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/server.h"
#include "store/store.h"

#include <string.h>

#define WITHDRAWN "withdrawn"
#define NS_DECIDED "decided" /* the last decision of a run that Redis carried out */

/* --- the verbs ----------------------------------------------------------------------------- */

static enum rc run_retry(struct queue *q, const char *run, const json_t *detail, struct err *e)
{
	int64_t n;

	(void)detail;
	return queue_retry_run(q, run, &n, e);
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

static enum rc priority_check(const json_t *detail, struct err *e)
{
	static const char *const known[] = {"priority", NULL};

	if (!json_is_integer(json_object_get(detail, "priority")))
		return err_set(e, RC_INVALID, "priority: expected a number");
	return jx_only(detail, known, e);
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
	enum rc (*check)(const json_t *detail, struct err *e); /* or NULL */
} verbs[] = {
	{"cancel", false, queue_cancel_run, NULL, NULL},
	{"pause", false, queue_pause_run, NULL, NULL},
	{"drain", false, queue_drain_run, NULL, NULL},
	{"resume", false, queue_resume_run, NULL, NULL},
	{"retry", false, NULL, run_retry, NULL},
	{"tune", false, NULL, queue_tune_run, queue_tuning_check},
	{"cancel", true, queue_cancel_job, NULL, NULL},
	{"retry", true, NULL, job_retry, NULL},
	{"invalidate", true, NULL, job_invalidate, NULL},
	{"priority", true, NULL, job_priority, priority_check},
};

static const struct verb *verb_of(const char *what, bool of_job)
{
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (verbs[i].of_job == of_job && strcmp(verbs[i].what, what) == 0)
			return &verbs[i];
	return NULL;
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

/* Takes out what was withdrawn, and the lines that say so. */
static void drop_withdrawn(json_t *all)
{
	json_t *gone = json_object();
	json_t *d;
	size_t i;

	json_array_foreach(all, i, d) if (strcmp(jx_get_str(d, "what", ""), WITHDRAWN) == 0)
		json_object_set_new(gone, jx_get_str(d, "of", ""), json_true());
	for (i = json_object_size(gone) ? json_array_size(all) : 0; i-- > 0;) {
		d = json_array_get(all, i);
		if (json_object_get(gone, jx_get_str(d, "id", "")) ||
		    strcmp(jx_get_str(d, "what", ""), WITHDRAWN) == 0)
			json_array_remove(all, i);
	}
	json_decref(gone);
}

enum rc decision_list(struct server *s, const char *run, json_t **out, struct err *e)
{
	char path[64];
	enum rc rc;

	record_path(run, path);
	rc = store_doc_lines(s->store, path, out, e);
	if (!rc)
		drop_withdrawn(*out);
	return rc;
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

/* What the run or job had changed before Redis got to it: the record must not bring it back. */
static void withdraw(struct server *s, const char *run, const json_t *d)
{
	json_t *w = json_pack("{s:s, s:s}", "what", WITHDRAWN, "of", jx_get_str(d, "id", ""));

	append(s, run, w, NULL);
	json_decref(w);
}

enum rc decision_make(struct server *s, const char *run, const char *what, const char *job,
		      const json_t *detail, const struct decider *by, struct err *e)
{
	const struct verb *v = verb_of(what, job != NULL);
	json_t *d = decision_new(what, job, detail, by->who);
	enum rc rc = v ? RC_OK : err_set(e, RC_NOTFOUND, "no verb \"%s\"", what);

	if (!rc && v->check)
		rc = v->check(detail, e);
	if (!rc)
		rc = append(s, run, d, e);
	if (!rc) {
		queue_match(by->match);
		rc = decision_apply(s->queue, run, d, e);
		queue_match(NULL);
		/* One that was refused is over as well; of one without an answer nothing is known. */
		if (!rc)
			rc = decision_mark(s, run, d, e);
		else if (rc == RC_CHANGED)
			withdraw(s, run, d);
		else if (rc != RC_UNREACHABLE && rc != RC_TIMEOUT)
			decision_mark(s, run, d, NULL);
	}
	json_decref(d);
	return rc;
}
