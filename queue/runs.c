/* Verbs on whole runs, and the operator's verbs on jobs. */
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "queue/internal.h"
#include "queue/keys.h"

#include <stdlib.h>
#include <string.h>

/* A member of the record, or of its spec. */
static const json_t *record_member(const json_t *record, const char *key)
{
	const json_t *v = json_object_get(record, key);

	return v ? v : json_object_get(json_object_get(record, "spec"), key);
}

static double record_number(const json_t *record, const char *key, double dflt)
{
	const json_t *v = record_member(record, key);

	return json_is_number(v) ? json_number_value(v) : dflt;
}

static enum rc submit_command(struct redis_cmd *c, const json_t *record, const char *idem_key,
			      const char *digest, struct err *e)
{
	const char *id = jx_get_str(record, "id", "");
	double class = record_number(record, "class", 5), weight = record_number(record, "weight", 1);
	double lease = record_number(record, "lease_ms", 0), most = record_number(record, "max_running", 0);
	const char *owner = jx_get_str(record, "owner", "");

	if (!word_valid(id, RUN_ID_MAX) || strchr(id, '.'))
		return err_set(e, RC_INVALID, "run id \"%.32s\": expected a short word", id);
	if (!(class >= 0 && class <= 9) || !(weight >= 0.001 && weight <= 1000))
		return err_set(e, RC_INVALID, "class %g, weight %g: expected 0 to 9, 0.001 to 1000",
			       class, weight);
	if (lease != 0 && !(lease >= LEASE_MS_MIN && lease <= LEASE_MS_MAX))
		return err_set(e, RC_INVALID, "lease_ms %g: expected 0 or %d to %d", lease,
			       LEASE_MS_MIN, LEASE_MS_MAX);
	if (!(most >= 0 && most <= JOBS_PER_RUN_MAX))
		return err_set(e, RC_INVALID, "max_running %g: expected 0 to %d", most, JOBS_PER_RUN_MAX);
	if (owner[0] && !word_valid(owner, OWNER_MAX))
		return err_set(e, RC_INVALID, "owner \"%.70s\": expected a short word", owner);
	call_begin(c, "submit");
	redis_cmd_add(c, id);
	cmd_json(c, record);
	redis_cmd_i64(c, (int64_t)class);
	redis_cmd_f64(c, weight);
	redis_cmd_i64(c, (int64_t)lease);
	redis_cmd_add(c, jx_get_str(record, "name", jx_get_str(json_object_get(record, "spec"),
							       "name", "")));
	redis_cmd_add(c, idem_key ? idem_key : "");
	redis_cmd_add(c, digest ? digest : "");
	redis_cmd_add(c, owner);
	redis_cmd_i64(c, (int64_t)most);
	if (c->bytes.len > DOC_BYTES_MAX)
		return err_set(e, RC_FULL, "run record of %zu bytes: the limit is %d", c->bytes.len,
			       DOC_BYTES_MAX);
	return RC_OK;
}

enum rc queue_submit(struct queue *q, const json_t *record, const char *idem_key,
		     const char *body_digest, char run[RUN_ID_MAX], bool *existed, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	enum rc rc = submit_command(&c, record, idem_key, body_digest, e);

	if (rc) {
		redis_cmd_release(&c);
		return rc;
	}
	rc = call_end(q, &c, &p, e);
	if (!rc) {
		*existed = reply_i64(reply_at(p, 0)) == 1;
		str_copy(run, RUN_ID_MAX, reply_text(reply_at(p, 1)));
	}
	reply_free(p);
	return rc;
}

/* --- adding jobs ------------------------------------------------------------------------------- */

/* The jobs whose outputs it takes in, once each, separated by spaces. */
static void sources_argument(struct redis_cmd *c, const json_t *inputs)
{
	json_t *seen = json_object(), *in;
	struct buf text = BUF_INIT;
	const char *job;
	size_t i;

	json_array_foreach(inputs, i, in) {
		job = jx_get_str(in, "job", NULL);
		if (!job || json_object_get(seen, job))
			continue;
		json_object_set_new(seen, job, json_true());
		buf_printf(&text, "%s%s", text.len ? " " : "", job);
	}
	redis_cmd_addn(c, text.data, text.len);
	buf_release(&text);
	json_decref(seen);
}

/* What no field of the job's hash says. */
static void definition_argument(struct redis_cmd *c, const json_t *job)
{
	static const char *const fields[] = {"id",	 "stage",    "iter",	      "shard",
					     "pass",	 "parents",  "need",	      "optional",
					     "pool",	 "priority", "cost_hint",     "max_attempts",
					     "stall_ms", "run",	     "stall_requeue"};
	json_t *rest = json_copy((json_t *)job);

	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++)
		json_object_del(rest, fields[i]);
	cmd_json(c, rest);
	json_decref(rest);
}

static enum rc job_arguments(struct redis_cmd *c, const char *run, const json_t *job, struct err *e)
{
	const char *id = jx_get_str(job, "id", ""), *stage = jx_get_str(job, "stage", "");
	const char *pool = jx_get_str(job, "pool", "");
	const json_t *parents = json_object_get(job, "parents");
	int64_t priority = jx_get_i64(job, "priority", 0), stall = jx_get_i64(job, "stall_ms", 0);
	size_t n = json_array_size(parents), run_len = strlen(run);

	if (!word_valid(id, JOB_ID_MAX) || strncmp(id, run, run_len) != 0 || id[run_len] != '.')
		return err_set(e, RC_INVALID, "job id \"%.100s\": expected \"%s.…\"", id, run);
	if (pool[0] && !word_valid(pool, POOL_NAME_MAX))
		return err_set(e, RC_INVALID, "job %s: pool \"%.40s\": expected a short word", id, pool);
	if (priority < -PRIORITY_MAX || priority > PRIORITY_MAX || stall < 0)
		return err_set(e, RC_INVALID, "job %s: expected a priority of -%d to %d, stall_ms 0 or more",
			       id, PRIORITY_MAX, PRIORITY_MAX);
	if (n > PARENTS_MAX)
		return err_set(e, RC_FULL, "job %s has %zu parents: the limit is %d", id, n,
			       PARENTS_MAX);
	redis_cmd_add(c, id);
	redis_cmd_add(c, stage);
	redis_cmd_i64(c, jx_get_i64(job, "iter", 0));
	redis_cmd_i64(c, jx_get_i64(job, "shard", 0));
	redis_cmd_i64(c, jx_get_i64(job, "pass", 0));
	redis_cmd_i64(c, jx_get_i64(job, "need", (int64_t)n));
	redis_cmd_add(c, jx_get_bool(job, "optional", false) ? "1" : "0");
	redis_cmd_f64(c, jx_get_f64(job, "cost_hint", 1));
	redis_cmd_i64(c, jx_get_i64(job, "max_attempts", ATTEMPTS_MAX_DEFAULT));
	definition_argument(c, job);
	redis_cmd_add(c, pool);
	redis_cmd_i64(c, priority);
	redis_cmd_i64(c, stall);
	redis_cmd_add(c, jx_get_bool(job, "stall_requeue", false) ? "1" : "0");
	sources_argument(c, json_object_get(job, "inputs"));
	redis_cmd_i64(c, (int64_t)n);
	for (size_t i = 0; i < n; i++) {
		const char *p = json_string_value(json_array_get(parents, i));
		if (!p || !word_valid(p, JOB_ID_MAX))
			return err_set(e, RC_INVALID, "job %s: bad parent", id);
		redis_cmd_add(c, p);
	}
	return RC_OK;
}

/* Asks which jobs are known: known[i] for jobs[i]. */
static enum rc jobs_known(struct queue *q, const char *run, const json_t *jobs, bool *known,
			  struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	size_t i;
	json_t *job;
	enum rc rc;

	cmd_key(&c, "ZMSCORE", KEY_RUN_JOBS, run, "");
	json_array_foreach(jobs, i, job)
		redis_cmd_add(&c, jx_get_str(job, "id", ""));
	rc = redis_call(q->redis, &c, &p, e);
	json_array_foreach(jobs, i, job)
		known[i] = !rc && reply_kind(reply_at(p, i)) != REDIS_NIL;
	reply_free(p);
	return rc;
}

enum rc queue_add_jobs(struct queue *q, const char *run, const json_t *jobs, int64_t *n_new,
		       struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	size_t n = json_array_size(jobs), todo = 0;
	bool *known = mem_array(n + 1, sizeof(*known));
	enum rc rc = n ? jobs_known(q, run, jobs, known, e) : RC_OK;

	*n_new = 0;
	call_begin(&c, "add_jobs");
	redis_cmd_add(&c, run);
	for (size_t i = 0; !rc && i < n; i++) {
		if (known[i])
			continue;
		todo++;
		rc = job_arguments(&c, run, json_array_get(jobs, i), e);
	}
	if (!rc && todo) {
		rc = call_end(q, &c, &p, e);
		if (!rc)
			*n_new = reply_i64(p);
	}
	redis_cmd_release(&c);
	reply_free(p);
	free(known);
	return rc;
}

/* --- the rest is one call each ----------------------------------------------------------------- */

enum rc queue_finish_run(struct queue *q, const char *run, int64_t n_done, const char *final_digest,
			 bool *finished, struct err *e)
{
	char n[24];
	int64_t did = 0;
	enum rc rc;

	str_fmt(n, sizeof(n), "%lld", (long long)n_done);
	rc = call_words(q, "finish",
			(const char *[]){run, n, final_digest ? final_digest : "", NULL}, &did, e);
	*finished = did == 1;
	return rc;
}

enum rc queue_fail_run(struct queue *q, const char *run, const char *error, struct err *e)
{
	return call_words(q, "stop", (const char *[]){run, "failed", error, NULL}, NULL, e);
}

enum rc queue_cancel_run(struct queue *q, const char *run, struct err *e)
{
	return call_words(q, "stop", (const char *[]){run, "cancelled", "", NULL}, NULL, e);
}

enum rc queue_pause_run(struct queue *q, const char *run, struct err *e)
{
	return call_words(q, "hold", (const char *[]){run, "1", NULL}, NULL, e);
}

enum rc queue_drain_run(struct queue *q, const char *run, struct err *e)
{
	return call_words(q, "hold", (const char *[]){run, "2", NULL}, NULL, e);
}

/* --- what is said of a run --- */

static enum rc notes_check(const json_t *v, struct err *e)
{
	const char *text = json_string_value(v);

	if (!text || strlen(text) > NOTES_MAX)
		return err_set(e, RC_INVALID, "notes: expected text of at most %d bytes", NOTES_MAX);
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 && *p != '\n' && *p != '\t' && *p != '\r')
			return err_set(e, RC_INVALID, "notes: a control character");
	return RC_OK;
}

static bool tag_valid(const char *tag)
{
	size_t n = tag ? strlen(tag) : 0;

	if (n == 0 || n > TAG_MAX || tag[0] == ' ' || tag[n - 1] == ' ')
		return false;
	for (; *tag; tag++)
		if ((unsigned char)*tag < 0x20 || *tag == ',' || *tag == 0x7f)
			return false;
	return true;
}

static enum rc tags_check(const json_t *v, struct err *e)
{
	const json_t *tag, *other;
	size_t i, k;

	if (!json_is_array(v) || json_array_size(v) > TAGS_MAX)
		return err_set(e, RC_INVALID, "tags: expected a list of at most %d", TAGS_MAX);
	json_array_foreach(v, i, tag) {
		if (!tag_valid(json_string_value(tag)))
			return err_set(e, RC_INVALID, "tags/%zu: expected 1 to %d bytes without a comma", i,
				       TAG_MAX);
		json_array_foreach(v, k, other)
			if (k < i && json_equal(tag, other))
				return err_set(e, RC_INVALID, "tags/%zu: \"%s\" twice", i,
					       json_string_value(tag));
	}
	return RC_OK;
}

static enum rc starred_check(const json_t *v, struct err *e)
{
	return json_is_boolean(v) ? RC_OK : err_set(e, RC_INVALID, "starred: expected true or false");
}

static enum rc class_check(const json_t *v, struct err *e)
{
	json_int_t n = json_integer_value(v);

	return json_is_integer(v) && n >= 0 && n <= 9 ? RC_OK
						      : err_set(e, RC_INVALID, "class: expected 0 to 9");
}

static enum rc weight_check(const json_t *v, struct err *e)
{
	double w = json_number_value(v);

	return json_is_number(v) && w >= 0.001 && w <= 1000
		       ? RC_OK
		       : err_set(e, RC_INVALID, "weight: expected a number from 0.001 to 1000");
}

static enum rc most_check(const json_t *v, struct err *e)
{
	json_int_t n = json_integer_value(v);

	return json_is_integer(v) && n >= 0 && n <= JOBS_PER_RUN_MAX
		       ? RC_OK
		       : err_set(e, RC_INVALID, "max_running: expected 0 to %d", JOBS_PER_RUN_MAX);
}

static const struct {
	const char *name;
	enum rc (*check)(const json_t *v, struct err *e);
} tunings[] = {
	{"class", class_check}, {"weight", weight_check}, {"max_running", most_check},
	{"notes", notes_check}, {"tags", tags_check},	  {"starred", starred_check},
};
#define N_TUNINGS (sizeof(tunings) / sizeof(*tunings))

enum rc queue_tuning_check(const json_t *fields, struct err *e)
{
	const char *name;
	json_t *v;

	if (!json_object_size(fields))
		return err_set(e, RC_INVALID,
			       "expected one of: class weight max_running notes tags starred");
	json_object_foreach((json_t *)(uintptr_t)fields, name, v) {
		size_t i = 0;

		while (i < N_TUNINGS && strcmp(tunings[i].name, name) != 0)
			i++;
		if (i == N_TUNINGS)
			return err_set(e, RC_INVALID, "%.40s: a run has no such setting", name);
		if (tunings[i].check(v, e))
			return RC_INVALID;
	}
	return RC_OK;
}

static void tuning_value(struct redis_cmd *c, const json_t *v)
{
	if (json_is_integer(v))
		redis_cmd_i64(c, json_integer_value(v));
	else if (json_is_real(v))
		redis_cmd_f64(c, json_real_value(v));
	else if (json_is_string(v))
		redis_cmd_add(c, json_string_value(v));
	else if (json_is_array(v))
		cmd_json(c, v);
	else
		redis_cmd_add(c, json_is_true(v) ? "1" : "0");
}

enum rc queue_tune_run(struct queue *q, const char *run, const json_t *fields, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	const char *name;
	json_t *v;
	enum rc rc = queue_tuning_check(fields, e);

	if (rc)
		return rc;
	call_begin(&c, "tune");
	redis_cmd_add(&c, run);
	json_object_foreach((json_t *)(uintptr_t)fields, name, v) {
		redis_cmd_add(&c, name);
		tuning_value(&c, v);
	}
	return call_end(q, &c, NULL, e);
}

enum rc queue_resume_run(struct queue *q, const char *run, struct err *e)
{
	return call_words(q, "hold", (const char *[]){run, "0", NULL}, NULL, e);
}

enum rc queue_retry_run(struct queue *q, const char *run, int64_t *n, struct err *e)
{
	return call_words(q, "retry_run", (const char *[]){run, NULL}, n, e);
}

enum rc queue_cancel_job(struct queue *q, const char *job, struct err *e)
{
	return call_words(q, "cancel_job", (const char *[]){job, NULL}, NULL, e);
}

enum rc queue_retry_job(struct queue *q, const char *job, bool subtree, int64_t *n, struct err *e)
{
	return call_words(q, "retry_job", (const char *[]){job, subtree ? "1" : "0", NULL}, n, e);
}

enum rc queue_invalidate_job(struct queue *q, const char *job, int64_t *n, struct err *e)
{
	return call_words(q, "invalidate", (const char *[]){job, NULL}, n, e);
}

enum rc queue_prioritize_job(struct queue *q, const char *job, int priority, struct err *e)
{
	char text[16];

	if (priority < -PRIORITY_MAX || priority > PRIORITY_MAX)
		return err_set(e, RC_INVALID, "priority %d: expected -%d to %d", priority, PRIORITY_MAX,
			       PRIORITY_MAX);
	str_fmt(text, sizeof(text), "%d", priority);
	return call_words(q, "job_prio", (const char *[]){job, text, NULL}, NULL, e);
}

enum rc queue_checkpoint_job(struct queue *q, const char *job, struct err *e)
{
	return call_words(q, "checkpoint_job", (const char *[]){job, NULL}, NULL, e);
}
