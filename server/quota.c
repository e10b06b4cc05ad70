#include "server/quota.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/server.h"
#include "store/store.h"

#include <string.h>

#define PATH_MAX_ 128

static struct queue_quota quota_of(const json_t *doc)
{
	return (struct queue_quota){jx_get_i64(doc, "runs", 0), jx_get_i64(doc, "running", 0),
				    jx_get_f64(doc, "gpu_hours", 0)};
}

enum rc quota_set(struct server *s, const char *owner, const json_t *doc, json_t **kept,
		  struct err *e)
{
	struct queue_quota q = quota_of(doc);
	char path[PATH_MAX_];
	/* Redis checks name and numbers, so it goes first; a crash between the two is mended by
	 * asking again. */
	enum rc rc = queue_quota_set(s->queue, owner, &q, e);

	*kept = NULL;
	if (rc)
		return rc;
	*kept = json_pack("{s:I, s:I, s:f}", "runs", (json_int_t)q.runs, "running",
			  (json_int_t)q.running, "gpu_hours", q.gpu_hours);
	str_fmt(path, sizeof path, "quotas/%.64s.json", owner);
	rc = store_doc_put(s->store, path, *kept, e);
	if (rc) {
		json_decref(*kept);
		*kept = NULL;
	}
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
