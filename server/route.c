#include "server/route.h"

#include "base/str.h"
#include "server/api.h"
#include "server/assets.h"
#include "server/audit.h"
#include "server/auth.h"
#include "server/guard.h"
#include "server/reply.h"
#include "server/server.h"

#include <string.h>

#define V1 "/api/v1/"
#define ROWS_QUERY \
	"limit cursor q min_score max_score min_margin max_margin min_length max_length flag sort"

/* clang-format off */
static const struct route routes[] = {
	{"GET",    V1 "health",                   ROLE_NONE,     "", api_health, ROUTE_ALWAYS},
	{"GET",    V1 "openapi.json",             ROLE_NONE,     "", api_openapi, 0},
	{"POST",   V1 "session",                  ROLE_NONE,     "", api_session_post, 0},
	{"GET",    V1 "session",                  ROLE_VIEWER,   "", api_session_get, 0},
	{"DELETE", V1 "session",                  ROLE_VIEWER,   "", api_session_delete, 0},
	{"POST",   V1 "login-link",               ROLE_ADMIN,    "", api_login_link, ROUTE_OWN_KEYS},
	{"GET",    V1 "tokens",                   ROLE_ADMIN,    "limit cursor", api_token_list, 0},
	{"POST",   V1 "tokens",                   ROLE_ADMIN,    "", api_token_create, ROUTE_OWN_KEYS},
	{"DELETE", V1 "tokens/{}",                ROLE_ADMIN,    "", api_token_delete, 0},
	{"GET",    V1 "users",                    ROLE_ADMIN,    "", api_user_list, 0},
	{"GET",    V1 "users/{}",                 ROLE_ADMIN,    "", api_user_get, 0},
	{"PUT",    V1 "users/{}",                 ROLE_ADMIN,    "", api_user_put, ROUTE_MATCH},
	{"DELETE", V1 "users/{}",                 ROLE_ADMIN,    "", api_user_delete, ROUTE_MATCH},
	{"GET",    V1 "audit",                    ROLE_ADMIN,    "limit cursor who path",
	 api_audit_list, 0},

	{"GET",    V1 "filters",                  ROLE_VIEWER,   "page", api_saved_list, 0},
	{"PUT",    V1 "filters/{}",               ROLE_VIEWER,   "", api_saved_put, ROUTE_OWN},
	{"DELETE", V1 "filters/{}",               ROLE_VIEWER,   "", api_saved_delete, ROUTE_OWN},

	{"GET",    V1 "hooks",                    ROLE_ADMIN,    "", api_hook_list, 0},
	{"GET",    V1 "hooks/{}",                 ROLE_ADMIN,    "", api_hook_get, 0},
	{"PUT",    V1 "hooks/{}",                 ROLE_ADMIN,    "", api_hook_put, ROUTE_MATCH},
	{"DELETE", V1 "hooks/{}",                 ROLE_ADMIN,    "", api_hook_delete, ROUTE_MATCH},
	{"POST",   V1 "hooks/{}/test",            ROLE_ADMIN,    "", api_hook_test, 0},
	{"GET",    V1 "hooks/{}/deliveries",      ROLE_ADMIN,    "limit cursor",
	 api_hook_deliveries, 0},
	{"GET",    V1 "notices",                  ROLE_VIEWER,   "limit cursor", api_notices, 0},

	{"GET",    V1 "config/defaults",          ROLE_VIEWER,   "", api_defaults, 0},
	{"POST",   V1 "runs",                     ROLE_OPERATOR, "dry_run", api_run_submit,
	 ROUTE_OWN_KEYS},
	{"GET",    V1 "runs",                     ROLE_VIEWER,   "state q tag starred limit cursor",
	 api_run_list, ROUTE_SHARED},
	{"POST",   V1 "runs/bulk",                ROLE_OPERATOR, "", api_run_bulk, 0},
	{"GET",    V1 "runs/{}",                  ROLE_VIEWER,   "", api_run_get, ROUTE_SHARED},
	{"POST",   V1 "runs/{}/cancel",           ROLE_OPERATOR, "", api_run_act, 0},
	{"POST",   V1 "runs/{}/pause",            ROLE_OPERATOR, "", api_run_act, 0},
	{"POST",   V1 "runs/{}/drain",            ROLE_OPERATOR, "", api_run_act, 0},
	{"POST",   V1 "runs/{}/resume",           ROLE_OPERATOR, "", api_run_act, 0},
	{"POST",   V1 "runs/{}/retry",            ROLE_OPERATOR, "", api_run_act, 0},
	{"PATCH",  V1 "runs/{}",                  ROLE_OPERATOR, "", api_run_tune, ROUTE_MATCH},
	{"GET",    V1 "runs/{}/stages",           ROLE_VIEWER,   "", api_run_stages, ROUTE_SHARED},
	{"GET",    V1 "runs/{}/jobs",             ROLE_VIEWER,   "stage iter state limit cursor",
	 api_run_jobs, ROUTE_SHARED},
	{"GET",    V1 "runs/{}/attempts",         ROLE_VIEWER,   "stage iter",
	 api_run_attempts, ROUTE_SHARED},
	{"GET",    V1 "runs/{}/log",              ROLE_VIEWER,   "job stage q case limit cursor",
	 api_run_log, 0},
	{"GET",    V1 "runs/{}/log/content",      ROLE_VIEWER,   "job stage q case", api_run_log_content,
	 ROUTE_LONG},
	{"GET",    V1 "runs/{}/metrics",          ROLE_VIEWER,   "points", api_run_metrics, ROUTE_SHARED},
	{"GET",    V1 "runs/{}/events",           ROLE_VIEWER,   "metrics limit cursor",
	 api_run_events, ROUTE_SHARED},

	{"POST",   V1 "jobs/bulk",                ROLE_OPERATOR, "", api_job_bulk, 0},
	{"GET",    V1 "jobs/{}",                  ROLE_VIEWER,   "", api_job_get, ROUTE_SHARED},
	{"POST",   V1 "jobs/{}/cancel",           ROLE_OPERATOR, "", api_job_act, 0},
	{"POST",   V1 "jobs/{}/retry",            ROLE_OPERATOR, "", api_job_act, 0},
	{"POST",   V1 "jobs/{}/invalidate",       ROLE_OPERATOR, "", api_job_act, 0},
	{"PATCH",  V1 "jobs/{}",                  ROLE_OPERATOR, "", api_job_tune, ROUTE_MATCH},
	{"GET",    V1 "jobs/{}/attempts",         ROLE_VIEWER,   "", api_job_attempts, ROUTE_SHARED},
	{"GET",    V1 "jobs/{}/attempts/{}/log",  ROLE_VIEWER,   "offset limit wait",
	 api_job_log, 0},
	{"GET",    V1 "jobs/{}/attempts/{}/log/content", ROLE_VIEWER, "", api_log_content, ROUTE_LONG},
	{"GET",    V1 "jobs/{}/attempts/{}/log/search",  ROLE_VIEWER, "q case limit cursor",
	 api_log_search, 0},
	{"GET",    V1 "jobs/{}/metrics",          ROLE_VIEWER,   "points", api_job_metrics, ROUTE_SHARED},
	{"GET",    V1 "metrics/series",           ROLE_VIEWER,   "job name points", api_series, ROUTE_SHARED},
	{"GET",    V1 "workers",                  ROLE_VIEWER,   "", api_worker_list, ROUTE_SHARED},
	{"POST",   V1 "workers/{}/drain",         ROLE_OPERATOR, "", api_worker_act, 0},
	{"POST",   V1 "workers/{}/cordon",        ROLE_OPERATOR, "", api_worker_act, 0},
	{"POST",   V1 "workers/{}/resume",        ROLE_OPERATOR, "", api_worker_act, 0},
	{"GET",    V1 "quotas",                   ROLE_VIEWER,   "", api_quota_list, ROUTE_SHARED},
	{"GET",    V1 "quotas/{}",                ROLE_VIEWER,   "", api_quota_get, ROUTE_SHARED},
	{"PUT",    V1 "quotas/{}",                ROLE_ADMIN,    "", api_quota_put, ROUTE_MATCH},

	{"GET",    V1 "datasets",                 ROLE_VIEWER,   "run iter stage limit cursor",
	 api_dataset_list, ROUTE_SHARED},
	{"GET",    V1 "datasets/{}",              ROLE_VIEWER,   "", api_dataset_get, 0},
	{"GET",    V1 "datasets/{}/rows",         ROLE_VIEWER,   ROWS_QUERY, api_dataset_rows, 0},
	{"GET",    V1 "datasets/{}/rows/{}",      ROLE_VIEWER,   "", api_dataset_row, 0},
	{"GET",    V1 "datasets/{}/export",       ROLE_VIEWER,   ROWS_QUERY, api_dataset_export, ROUTE_LONG},
	{"GET",    V1 "datasets/{}/stats",        ROLE_VIEWER,   "", api_dataset_stats, 0},
	{"GET",    V1 "datasets/{}/reviews",      ROLE_VIEWER,   "by limit cursor",
	 api_review_list, 0},
	{"GET",    V1 "datasets/{}/reviews/export", ROLE_VIEWER, "", api_review_export, ROUTE_LONG},
	{"GET",    V1 "datasets/{}/rows/{}/review", ROLE_VIEWER, "", api_review_get, 0},
	{"PUT",    V1 "datasets/{}/rows/{}/review", ROLE_OPERATOR, "", api_review_put, 0},
	{"DELETE", V1 "datasets/{}/rows/{}/review", ROLE_OPERATOR, "", api_review_delete, 0},
	{"GET",    V1 "runs/{}/reviews",          ROLE_VIEWER,   "", api_run_reviews, 0},
	{"GET",    V1 "runs/{}/reviews/export",   ROLE_VIEWER,   "", api_run_reviews_export, ROUTE_LONG},
	{"GET",    V1 "checkpoints",              ROLE_VIEWER,   "run limit cursor",
	 api_ckpt_list, ROUTE_SHARED},
	{"GET",    V1 "checkpoints/{}",           ROLE_VIEWER,   "", api_ckpt_get, 0},
	{"DELETE", V1 "checkpoints/{}",           ROLE_ADMIN,    "", api_ckpt_delete, 0},
	{"GET",    V1 "checkpoints/{}/content",   ROLE_VIEWER,   "", api_ckpt_content, ROUTE_LONG},
	{"GET",    V1 "store/garbage",            ROLE_OPERATOR,
	 "keep_last keep_every keep_best keep_states", api_garbage_get, 0},
	{"POST",   V1 "store/garbage",            ROLE_ADMIN,    "", api_garbage_post, 0},
	{"POST",   V1 "store/rebuild",            ROLE_ADMIN,    "", api_rebuild_post, 0},
	{"GET",    V1 "operations",               ROLE_OPERATOR, "limit cursor", api_operation_list, 0},
	{"GET",    V1 "operations/{}",            ROLE_OPERATOR, "", api_operation_get, 0},
	{"POST",   V1 "operations/{}/cancel",     ROLE_OPERATOR, "", api_operation_cancel, 0},
	{"GET",    V1 "compare",                  ROLE_VIEWER,   "run", api_compare, ROUTE_SHARED},
	{"GET",    V1 "events",                   ROLE_VIEWER,   "topics after", api_events, 0},

	{"POST",   V1 "worker/register",          ROLE_WORKER,   "",
	 api_work_register, ROUTE_ALWAYS},
	{"POST",   V1 "worker/claim",             ROLE_WORKER,   "", api_work_claim, 0},
	{"POST",   V1 "worker/beat",              ROLE_WORKER,   "", api_work_beat, ROUTE_ALWAYS},
	{"POST",   V1 "worker/complete",          ROLE_WORKER,   "",
	 api_work_complete, ROUTE_ALWAYS},
	{"POST",   V1 "worker/fail",              ROLE_WORKER,   "", api_work_fail, ROUTE_ALWAYS},
	{"POST",   V1 "worker/log",               ROLE_WORKER,   "job token attempt offset worker",
	 api_work_log, 0},
	{"GET",    V1 "worker/blobs/{}",          ROLE_WORKER,   "", api_blob_get, 0},
	{"PUT",    V1 "worker/blobs/{}",          ROLE_WORKER,   "", api_blob_put, 0},
	{"GET",    V1 "worker/blobs/{}/upload",   ROLE_WORKER,   "", api_upload_get, 0},
	{"PUT",    V1 "worker/blobs/{}/upload",   ROLE_WORKER,   "offset size", api_upload_put, 0},
};
/* clang-format on */

const struct route *route_table(size_t *n)
{
	*n = sizeof routes / sizeof *routes;
	return routes;
}

static const char *const role_names[] = {"none", "viewer", "operator", "admin", "worker"};

const char *role_text(enum role role)
{
	return role_names[role];
}

enum role role_parse(const char *text)
{
	for (int i = ROLE_VIEWER; i <= ROLE_WORKER; i++)
		if (strcmp(text, role_names[i]) == 0)
			return (enum role)i;
	return ROLE_NONE;
}

bool role_covers(enum role have, enum role need)
{
	if (need == ROLE_NONE)
		return true;
	if (have == ROLE_WORKER || need == ROLE_WORKER)
		return have == need;
	return have >= need;
}

/* Path against pattern; segments for "{}" go to args (NULL: only test). */
static bool matches(const char *pattern, const char *path, struct arena *a, const char **args)
{
	int n = 0;

	while (*pattern) {
		size_t len;

		if (pattern[0] != '{') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		len = strcspn(path, "/");
		if (!len)
			return false;
		if (args && n < HTTP_ARGS_MAX)
			args[n++] = arena_strn(a, path, len);
		path += len;
		pattern += 2;
	}
	return *path == 0;
}

static bool method_is(const struct route *rt, const char *method)
{
	if (strcmp(method, "HEAD") == 0)
		method = "GET";
	return strcmp(rt->method, method) == 0;
}

const struct route *route_find(const char *method, const char *path, struct arena *a,
			       const char **args, int *allowed)
{
	*allowed = 0;
	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
		const struct route *rt = &routes[i];

		if (!matches(rt->pattern, path, NULL, NULL))
			continue;
		(*allowed)++;
		if (method_is(rt, method)) {
			matches(rt->pattern, path, a, args);
			return rt;
		}
	}
	return NULL;
}

bool route_always(const char *method, const char *path)
{
	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
		if ((routes[i].flags & ROUTE_ALWAYS) && method_is(&routes[i], method) &&
		    matches(routes[i].pattern, path, NULL, NULL))
			return true;
	return false;
}

static bool query_known(void *ctx, const char *name)
{
	const char *list = ctx;
	size_t n = strlen(name);

	while (*list) {
		size_t len = strcspn(list, " ");

		if (len == n && strncmp(list, name, n) == 0)
			return true;
		list += len + (list[len] == ' ');
	}
	return false;
}

static void answer_unmatched(struct req *r, int allowed)
{
	bool reads = r->head || strcmp(r->method, "GET") == 0;

	if (allowed)
		reply_problem(r, 405, "method", "%s is not possible here", r->method);
	else if (str_starts(r->path, "/api/") || strcmp(r->path, "/api") == 0)
		reply_problem(r, 404, "not-found", "no such resource: %s", r->path);
	else if (reads)
		assets_serve(r);
	else
		reply_problem(r, 405, "method", "%s is not possible here", r->method);
}

void route_handle(struct req *r)
{
	int allowed;
	const struct route *rt = route_find(r->method, r->path, &r->arena, r->args, &allowed);

	if (!rt) {
		answer_unmatched(r, allowed);
		return;
	}
	if (guard_audits(rt))
		r->ending = audit_note;
	if (!auth_check(r, rt->role))
		return; /* It answered. */
	if (!req_query_each(r, query_known, (void *)(uintptr_t)rt->query)) {
		reply_problem(r, 400, "invalid", "unknown query parameter; known here: %s",
			      rt->query[0] ? rt->query : "none");
		return;
	}
	if (guard_before(r, rt))
		rt->fn(r);
	guard_after(r, rt);
}
