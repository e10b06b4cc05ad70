#include "queue/restore.h"

#include "queue/internal.h"
#include "queue/keys.h"

enum rc queue_guard(struct queue *q, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;

	redis_cmd_words(&c, "HSETNX " KEY_META " trust none");
	return redis_call(q->redis, &c, NULL, e);
}

enum rc queue_restore_open(struct queue *q, const char *run, json_t **jobs, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	struct redis_reply *p = NULL;
	enum rc rc;

	*jobs = NULL;
	call_begin(&c, "restore_open");
	redis_cmd_add(&c, run);
	rc = call_end(q, &c, &p, e);
	if (rc)
		return rc;
	*jobs = json_array();
	for (size_t i = 0; i < reply_n(p); i++)
		json_array_append_new(*jobs, json_string(reply_text(reply_at(p, i))));
	reply_free(p);
	return RC_OK;
}

enum rc queue_restore_take(struct queue *q, const char *worker, const char *job, int64_t fence,
			   json_t **claim, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	enum rc rc;

	*claim = NULL;
	call_begin(&c, "restore_take");
	c.once = true;
	rc = claim_worker(q, &c, worker, e);
	redis_cmd_add(&c, job);
	redis_cmd_i64(&c, fence);
	if (!rc)
		rc = claim_call(q, &c, claim, e);
	redis_cmd_release(&c);
	return rc;
}

enum rc queue_restore_trust(struct queue *q, int64_t fence, struct err *e)
{
	struct redis_cmd c = REDIS_CMD_INIT;
	char nonce[NONCE_MAX];

	nonce_make(nonce);
	call_begin(&c, "restore_trust");
	redis_cmd_add(&c, nonce);
	redis_cmd_i64(&c, fence);
	return call_end(q, &c, NULL, e);
}
