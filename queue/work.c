/* What workers do with jobs: claim, beat, complete, fail; and the tick of the lease clock. */
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/internal.h"
#include "queue/keys.h"
#include "queue/states.h"

#include <stdlib.h>
#include <string.h>

static const char *const actions[] = {"continue", "cancel", "pause", "drain", "checkpoint_now"};
static const char *const fail_kinds[] = {"retry", "fatal", "preempted"};

const char *queue_action_text(enum queue_action a)
{
	return actions[a];
}

static enum queue_action action_of(const char *text)
{
	for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++)
		if (!strcmp(text, actions[i]))
			return (enum queue_action)i;
	return QUEUE_CONTINUE;
}

bool queue_fail_kind_of(const char *text, enum queue_fail_kind *out)
{
	for (size_t i = 0; i < sizeof(fail_kinds) / sizeof(*fail_kinds); i++)
		if (!strcmp(text, fail_kinds[i])) {
			*out = (enum queue_fail_kind)i;
			return true;
		}
	return false;
}

/* --- claim ------------------------------------------------------------------------------------- */

void nonce_make(char out[NONCE_MAX])
{
	uint8_t bytes[NONCE_MAX / 2];

	random_bytes(bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		str_fmt(out + 2 * i, 3, "%02x", bytes[i]);
}

enum rc claim_worker(struct queue *q, struct redis_cmd *c, const char *worker, struct err *e)
{
	char nonce[NONCE_MAX];

	if (!word_valid(worker, WORKER_ID_MAX))
		return err_set(e, RC_INVALID, "worker id \"%.70s\": expected a short word", worker);
	nonce_make(nonce);
	redis_cmd_add(c, worker);
	redis_cmd_add(c, nonce);
	redis_cmd_i64(c, q->lease_ms);
	return RC_OK;
}

/* Adds worker, nonce, lease and queues. */
static enum rc claim_arguments(struct queue *q, struct redis_cmd *c, const struct queue_claim_req *r,
			       struct err *e)
{
	const char *const *stages = r->stages && *r->stages ? r->stages : stage_names;
	struct buf queues = BUF_INIT;
	enum rc rc;

	for (const char *const *p = r->pools; p && *p; p++)
		if (!word_valid(*p, POOL_NAME_MAX))
			return err_set(e, RC_INVALID, "pool \"%.40s\": expected a short word", *p);
	for (const char *const *s = stages; *s; s++) {
		buf_printf(&queues, "%s%s", queues.len ? "," : "", *s);
		for (const char *const *p = r->pools; p && *p; p++)
			buf_printf(&queues, ",%s@%s", *s, *p);
	}
	rc = claim_worker(q, c, r->worker, e);
	redis_cmd_add(c, queues.data);
	buf_release(&queues);
	return rc;
}

/* The output `role` in a job's stored list, or NULL. Borrowed. */
static const json_t *output_of(const json_t *outputs, const char *role)
{
	size_t i;
	json_t *o;

	json_array_foreach(outputs, i, o)
		if (!strcmp(jx_get_str(o, "role", ""), role))
			return o;
	return NULL;
}

/* Replaces {"role","job","output"} by what that job made; sources = {job, outputs, job, outputs…}. */
static enum rc resolve_input(const struct redis_reply *sources, json_t *input, struct err *e)
{
	static const char *const members[] = {"digest", "kind", "size", "meta"};
	const char *job = jx_get_str(input, "job", NULL), *role = jx_get_str(input, "output", "");
	json_t *outputs = NULL;
	const json_t *o;

	for (size_t i = 0; job && !outputs && i + 1 < reply_n(sources); i += 2)
		if (!strcmp(reply_text(reply_at(sources, i)), job))
			outputs = json_of_text(reply_text(reply_at(sources, i + 1)),
					       reply_len(reply_at(sources, i + 1)));
	o = output_of(outputs, role);
	for (size_t i = 0; o && i < sizeof(members) / sizeof(*members); i++)
		json_object_set(input, members[i], json_object_get(o, members[i]));
	json_decref(outputs);
	if (job && !o)
		return err_set(e, RC_NOTFOUND, "input \"%s\": job %s has no output \"%s\"",
			       jx_get_str(input, "role", ""), job, role);
	return RC_OK;
}

/* Where some parents may fail, the inputs they would have made are left out. */
static enum rc resolve_inputs(const struct redis_reply *sources, json_t *job, struct err *e)
{
	json_t *inputs = json_object_get(job, "inputs");
	bool some = jx_get_i64(job, "need", 0) <
		    (int64_t)json_array_size(json_object_get(job, "parents"));

	for (size_t i = 0; i < json_array_size(inputs);) {
		enum rc rc = resolve_input(sources, json_array_get(inputs, i), e);
		if (rc && some)
			json_array_remove(inputs, i);
		else if (rc)
			return rc;
		else
			i++;
	}
	return RC_OK;
}

/* How often a worker of this run is lost, for the interval of checkpoints: as seen so far, with one
 * loss in LOSS_PRIOR_S to begin with. */
static double loss_every_s(const struct redis_reply *grant)
{
	double worked = (double)reply_i64(reply_at(grant, 7)) / 1e3;

	return (worked + LOSS_PRIOR_S) / ((double)reply_i64(reply_at(grant, 8)) + 1);
}

/* grant = {job, token, starts, lease, hash, record, sources, ms worked, torn off} from Redis. */
static enum rc claim_json(const struct redis_reply *grant, json_t **claim, struct err *e)
{
	json_t *job = job_json(reply_text(reply_at(grant, 0)), reply_at(grant, 4));
	json_t *record = json_of_text(reply_text(reply_at(grant, 5)), reply_len(reply_at(grant, 5)));
	enum rc rc = resolve_inputs(reply_at(grant, 6), job, e);

	json_object_set_new(job, "loss_every_s", json_real(loss_every_s(grant)));
	*claim = rc ? NULL
		    : json_pack("{s:O, s:s, s:I, s:I, s:O, s:O?}", "job", job, "token",
				reply_text(reply_at(grant, 1)), "attempt",
				(json_int_t)reply_i64(reply_at(grant, 2)), "lease_ms",
				(json_int_t)reply_i64(reply_at(grant, 3)), "resume",
				json_object_get(job, "checkpoint"), "record", record);
	json_decref(job);
	json_decref(record);
	return rc;
}

/* What was granted as a claim; see claim_call(). */
static enum rc claim_or_park(struct queue *q, const struct redis_reply *grant, json_t **claim,
			     struct err *e)
{
	struct err why = {0};
	enum rc rc;
	json_t *reason;

	*claim = NULL;
	if (reply_n(grant) < 7)
		return RC_OK;
	rc = claim_json(grant, claim, &why);
	if (rc == RC_NOTFOUND) {
		reason = json_pack("{s:s}", "message", why.text);
		rc = queue_fail(q, reply_text(reply_at(grant, 0)), reply_text(reply_at(grant, 1)),
				QUEUE_FAIL_FATAL, reason, e);
		json_decref(reason);
		return rc;
	}
	return rc ? err_set(e, rc, "%s", why.text) : RC_OK;
}

enum rc claim_call(struct queue *q, struct redis_cmd *c, json_t **claim, struct err *e)
{
	struct redis_reply *p = NULL;
	enum rc rc = call_end(q, c, &p, e);

	if (!rc)
		rc = claim_or_park(q, p, claim, e);
	reply_free(p);
	return rc;
}

enum rc queue_claim(struct queue *q, const struct queue_claim_req *r, json_t **claim, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	enum rc rc;

	*claim = NULL;
	call_begin(&c, "claim");
	c.once = true;
	rc = claim_arguments(q, &c, r, e);
	if (!rc)
		rc = call_joined(q, &c, &p, e);
	if (!rc)
		rc = claim_or_park(q, p, claim, e);
	redis_cmd_release(&c);
	reply_free(p);
	return rc;
}

/* --- beat -------------------------------------------------------------------------------------- */

static void beat_progress(struct redis_cmd *c, const json_t *p)
{
	if (!json_is_object(p)) {
		redis_cmd_add(c, "");
		redis_cmd_add(c, "");
		redis_cmd_add(c, "");
		return;
	}
	redis_cmd_i64(c, jx_get_i64(p, "done", 0));
	redis_cmd_i64(c, jx_get_i64(p, "total", 0));
	redis_cmd_add(c, jx_get_str(p, "unit", ""));
}

static enum rc beat_metrics(struct redis_cmd *c, const json_t *metrics, struct err *e)
{
	size_t i, n = json_array_size(metrics);
	json_t *m;

	if (n > METRICS_PER_BEAT_MAX)
		return err_set(e, RC_FULL, "%zu metrics in one beat: the limit is %d", n,
			       METRICS_PER_BEAT_MAX);
	if (!n)
		return RC_OK;
	cmd_json(c, metrics);
	json_array_foreach(metrics, i, m) {
		if (!json_is_integer(json_object_get(m, "step")))
			return err_set(e, RC_INVALID, "metrics[%zu]: expected an integer \"step\"", i);
		redis_cmd_i64(c, jx_get_i64(m, "step", 0));
		cmd_json(c, m);
	}
	return RC_OK;
}

enum rc queue_beat(struct queue *q, const char *job, const char *token, const json_t *beat,
		   enum queue_action *action, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	const json_t *ck = json_object_get(beat, "checkpoint");
	const json_t *log_size = json_object_get(beat, "log_size");
	enum rc rc;

	call_begin(&c, "beat");
	redis_cmd_add(&c, job);
	redis_cmd_add(&c, token);
	beat_progress(&c, json_object_get(beat, "progress"));
	cmd_json(&c, json_is_object(ck) ? ck : NULL);
	if (json_is_integer(log_size))
		redis_cmd_i64(&c, json_integer_value(log_size));
	else
		redis_cmd_add(&c, "");
	rc = beat_metrics(&c, json_object_get(beat, "metrics"), e);
	if (!rc && c.bytes.len > DOC_BYTES_MAX)
		rc = err_set(e, RC_FULL, "beat of %zu bytes: the limit is %d", c.bytes.len, DOC_BYTES_MAX);
	if (!rc)
		rc = call_joined(q, &c, &p, e);
	if (!rc)
		*action = action_of(reply_text(p));
	redis_cmd_release(&c);
	reply_free(p);
	return rc;
}

enum rc queue_owns(struct queue *q, const char *job, const char *token, struct err *e)
{
	return call_words(q, "owns", (const char *[]){job, token, NULL}, NULL, e);
}

enum rc queue_notice(struct queue *q, const char *job, const char *token, struct err *e)
{
	return call_words(q, "notice", (const char *[]){job, token, NULL}, NULL, e);
}

/* --- the end of an attempt --------------------------------------------------------------------- */

static enum rc check_outputs(const json_t *outputs, struct err *e)
{
	size_t i, k;
	json_t *o;

	if (!json_is_array(outputs))
		return err_set(e, RC_INVALID, "outputs: expected a list");
	json_array_foreach(outputs, i, o) {
		const char *role = jx_get_str(o, "role", "");
		if (!role[0] || !sha256_hex_valid(jx_get_str(o, "digest", "")))
			return err_set(e, RC_INVALID, "outputs[%zu]: expected \"role\" and a sha256 "
						      "\"digest\"", i);
		for (k = 0; k < i; k++)
			if (!strcmp(role, jx_get_str(json_array_get(outputs, k), "role", "")))
				return err_set(e, RC_INVALID, "outputs: role \"%s\" twice", role);
	}
	return RC_OK;
}

enum rc queue_complete(struct queue *q, const char *job, const char *token, const json_t *outputs,
		       const json_t *metrics, const json_t *info, const struct queue_claim_req *next,
		       bool *again, json_t **claim, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	enum rc rc = check_outputs(outputs, e);

	if (claim)
		*claim = NULL;
	call_begin(&c, "complete");
	redis_cmd_add(&c, job);
	redis_cmd_add(&c, token);
	cmd_json(&c, outputs);
	cmd_json(&c, metrics);
	cmd_json(&c, info);
	if (!rc && next && claim)
		rc = claim_arguments(q, &c, next, e);
	if (!rc && c.bytes.len > DOC_BYTES_MAX)
		rc = err_set(e, RC_FULL, "outputs and metrics of %zu bytes: the limit is %d",
			     c.bytes.len, DOC_BYTES_MAX);
	if (!rc)
		rc = call_joined(q, &c, &p, e);
	if (!rc && again)
		*again = reply_i64(reply_at(p, 0)) == 1;
	/* The completion stands whatever becomes of the next claim. */
	if (!rc && next && claim && claim_or_park(q, reply_at(p, 1), claim, NULL))
		*claim = NULL;
	redis_cmd_release(&c);
	reply_free(p);
	return rc;
}

enum rc queue_fail(struct queue *q, const char *job, const char *token, enum queue_fail_kind kind,
		   const json_t *reason, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;

	call_begin(&c, "fail");
	redis_cmd_add(&c, job);
	redis_cmd_add(&c, token);
	redis_cmd_add(&c, fail_kinds[kind]);
	cmd_json(&c, reason);
	redis_cmd_add(&c, jx_get_str(reason, "message", ""));
	if (c.bytes.len > DOC_BYTES_MAX) {
		redis_cmd_release(&c);
		return err_set(e, RC_FULL, "reason is too long");
	}
	return call_joined(q, &c, NULL, e);
}

/* --- time -------------------------------------------------------------------------------------- */

/* INFO's run_id names the process: another one means that Redis was restarted or replaced. */
static enum rc redis_run_id(struct queue *q, char out[64], struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	const char *at;
	enum rc rc;

	redis_cmd_words(&c, "INFO server");
	rc = redis_call(q->redis, &c, &p, e);
	str_copy(out, 64, "unknown");
	at = rc ? NULL : strstr(reply_text(p), "run_id:");
	if (at) {
		at += strlen("run_id:");
		size_t n = strcspn(at, "\r\n");
		str_fmt(out, 64, "%.*s", (int)(n < 63 ? n : 63), at);
	}
	reply_free(p);
	return rc;
}

enum rc queue_tick(struct queue *q, struct queue_tick *out, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	char run_id[64];
	enum rc rc = redis_run_id(q, run_id, e);

	*out = (struct queue_tick){0};
	if (rc)
		return rc;
	call_begin(&c, "tick");
	redis_cmd_add(&c, run_id);
	redis_cmd_i64(&c, q->lease_ms);
	rc = call_end(q, &c, &p, e);
	if (!rc)
		*out = (struct queue_tick){
			.lease_clock_ms = reply_i64(reply_at(p, 0)),
			.advanced_ms = reply_i64(reply_at(p, 1)),
			.frozen_ms = reply_i64(reply_at(p, 2)),
			.n_expired = reply_i64(reply_at(p, 3)),
			.n_due = reply_i64(reply_at(p, 4)),
			.n_cancelled = reply_i64(reply_at(p, 5)),
			.n_workers_lost = reply_i64(reply_at(p, 6)),
			.behind = reply_i64(reply_at(p, 7)) == 1,
			.work = {reply_i64(reply_at(p, 8)), reply_i64(reply_at(p, 9)),
				 reply_i64(reply_at(p, 10)), reply_i64(reply_at(p, 11)),
				 reply_i64(reply_at(p, 12))},
		};
	reply_free(p);
	return rc;
}
