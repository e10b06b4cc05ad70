#include "server/quota.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/hold.h"
#include "server/server.h"
#include "store/store.h"

#include <string.h>

#define PATH_MAX_ 128

static struct queue_quota quota_of(const json_t *doc)
{
	return (struct queue_quota){jx_get_i64(doc, "runs", 0), jx_get_i64(doc, "running", 0),
				    jx_get_f64(doc, "gpu_hours", 0)};
}

/* Redis checks name and numbers, and compares, so it goes first; a crash between the two is mended by asking
 * again. */
static enum rc set_held(struct server *s, const char *owner, const struct queue_quota *q, const char *match,
			json_t **kept, struct err *e)
{
	char path[PATH_MAX_];
	enum rc rc;

	queue_match(match);
	rc = queue_quota_set(s->queue, owner, q, e);
	queue_match(NULL);
	if (rc)
		return rc;
	*kept = json_pack("{s:I, s:I, s:f}", "runs", (json_int_t)q->runs, "running",
			  (json_int_t)q->running, "gpu_hours", q->gpu_hours);
	str_fmt(path, sizeof path, "quotas/%.64s.json", owner);
	rc = store_doc_put(s->store, path, *kept, e);
	if (rc) {
		json_decref(*kept);
		*kept = NULL;
	}
	return rc;
}

enum rc quota_set(struct server *s, const char *owner, const json_t *doc, const char *match, json_t **kept,
		  struct err *e)
{
	struct queue_quota q = quota_of(doc);
	struct hold h;
	enum rc rc;

	*kept = NULL;
	if (!owner[0] || strlen(owner) >= OWNER_MAX)
		return err_set(e, RC_INVALID, "owner \"%.70s\": expected a short word", owner);
	/* Store and Redis change in one order. */
	rc = hold_take(s, "quota", owner, &h, e);
	if (rc)
		return rc;
	rc = set_held(s, owner, &q, match, kept, e);
	hold_drop(&h);
	return rc;
}

enum rc quotas_restore(struct server *s, struct err *e)
{
	char **names = NULL, path[PATH_MAX_], owner[OWNER_MAX];
	size_t n = 0;
	enum rc rc = store_doc_list(s->store, "quotas", &names, &n, e);

	if (rc)
		return rc == RC_NOTFOUND ? RC_OK : rc;
	for (size_t i = 0; !rc && i < n; i++) {
		struct queue_quota q;
		json_t *doc = NULL;
		size_t len = strlen(names[i]);

		if (len <= 5 || len - 5 >= sizeof owner || strcmp(names[i] + len - 5, ".json") != 0)
			continue;
		str_fmt(owner, sizeof owner, "%.*s", (int)(len - 5), names[i]);
		str_fmt(path, sizeof path, "quotas/%s", names[i]);
		rc = store_doc_get(s->store, path, &doc, e);
		q = quota_of(doc);
		if (!rc)
			rc = queue_quota_set(s->queue, owner, &q, e);
		json_decref(doc);
	}
	fs_list_free(names);
	return rc;
}

enum rc quota_allows_run(struct server *s, const char *owner, struct err *e)
{
	json_t *quotas = NULL;
	enum rc rc = queue_quotas(s->queue, &quotas, e);
	const json_t *q = json_object_get(quotas, owner);
	int64_t most = jx_get_i64(q, "runs", 0), open = jx_get_i64(q, "used_runs", 0);

	if (!rc && most > 0 && open >= most)
		rc = err_set(e, RC_FULL, "%s has %lld open runs, the quota is %lld", owner,
			     (long long)open, (long long)most);
	json_decref(quotas);
	return rc;
}
