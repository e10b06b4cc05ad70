/* Operations: what takes longer than a request (operation.h). */
#include "server/api.h"

#include "base/log.h"
#include "server/operation.h"
#include "server/reply.h"
#include "server/server.h"

void api_operation_list(struct req *r)
{
	int64_t limit;
	json_t *items = NULL;
	struct err e = {0};

	if (operation_list(r->srv, &items, &e))
		reply_err(r, &e);
	else if (req_query_i64(r, "limit", 50, 1, 200, &limit))
		reply_after(r, items, req_query(r, "cursor"), limit);
	json_decref(items);
}

static void answer_operation(struct req *r, int status)
{
	struct err e = {0};
	json_t *rec = NULL;

	if (operation_get(r->srv, r->args[0], &rec, &e))
		reply_err(r, &e);
	else
		reply_json(r, status, operation_json(rec));
	json_decref(rec);
}

void api_operation_get(struct req *r)
{
	answer_operation(r, 200);
}

void api_operation_cancel(struct req *r)
{
	struct err e = {0};

	if (operation_cancel(r->srv, r->args[0], &e)) {
		reply_err(r, &e);
		return;
	}
	log_info("operation", "cancel", "id=%s by=%s", r->args[0], r->who.name);
	answer_operation(r, 202);
}

void api_rebuild_post(struct req *r)
{
	operation_answer(r, "rebuild", json_object(), 0);
}
