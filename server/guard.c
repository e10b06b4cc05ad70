#include "server/guard.h"

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/sha256.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/answers.h"
#include "server/http.h"
#include "server/reply.h"
#include "server/route.h"
#include "server/server.h"
#include "server/throttle.h"

#include <string.h>

#define NS_IDEM "idem"
#define IDEM_TTL_S 86400
#define IDEM_KEY_MAX 64
#define IDEM_ANSWER_MAX (256u << 10)

/* --- If-Match ------------------------------------------------------------------------------ */

/* The route that reads what this request would change: its own path, or that before the verb. */
static const struct route *reader_of(struct req *look)
{
	const struct route *rt;
	char *path = arena_str(&look->arena, look->path), *cut;
	int allowed;

	while (!(rt = route_find("GET", path, &look->arena, look->args, &allowed))) {
		cut = strrchr(path, '/');
		if (!cut || cut == path)
			return NULL;
		*cut = 0;
	}
	look->path = path;
	return rt;
}

/* Asks the reader for the ETag it would send now. Between this look and the act another request may
 * come; the states of runs and jobs have their own guards for that. */
static bool precondition(struct req *r)
{
	const char *want = req_header(r, "If-Match");
	struct req look = *r;
	char etag[64] = "";
	const struct route *rt;

	if (!want || strcmp(want, "*") == 0)
		return true;
	look.method = "GET";
	look.query = "";
	look.probe = etag;
	look.ending = NULL;
	look.keep_answer = look.shared = false;
	memset(&look.headers, 0, sizeof look.headers);
	arena_init(&look.arena);
	rt = reader_of(&look);
	if (rt && rt->role != ROLE_NONE)
		rt->fn(&look);
	buf_release(&look.headers);
	arena_release(&look.arena);
	if (etag[0] && strstr(want, etag))
		return true;
	if (!etag[0] && look.status == 404)
		return true; /* The handler says it better. */
	reply_problem(r, 412, "changed", "it is no longer what If-Match names; read it again");
	return false;
}

/* --- Idempotency-Key ----------------------------------------------------------------------- */

static bool keeps_answers(const struct req *r, const struct route *rt)
{
	return strcmp(r->method, "POST") == 0 && rt->role != ROLE_WORKER &&
	       rt->role != ROLE_NONE && !(rt->flags & ROUTE_OWN_KEYS) &&
	       req_header(r, "Idempotency-Key");
}

/* Name of the answer: who, where, which key; and the digest of what was sent. */
static void idem_names(const struct req *r, char name[SHA256_HEX_SIZE], char body[SHA256_HEX_SIZE])
{
	struct buf b = BUF_INIT;

	buf_printf(&b, "%s %s %s %s?%s", r->who.id, req_header(r, "Idempotency-Key"), r->method,
		   r->path, r->query);
	sha256_of(b.data, b.len, name);
	sha256_of(r->body.data ? r->body.data : "", r->body.len, body);
	buf_release(&b);
}

static bool replay(struct req *r)
{
	char name[SHA256_HEX_SIZE], digest[SHA256_HEX_SIZE];
	const char *key = req_header(r, "Idempotency-Key");
	struct err e = {0};
	json_t *kept = NULL;
	enum rc rc;

	if (!key[0] || strlen(key) > IDEM_KEY_MAX) {
		reply_problem(r, 400, "invalid", "Idempotency-Key: expected 1 to %d characters",
			      IDEM_KEY_MAX);
		return true;
	}
	if (req_keep_body(r, HTTP_BODY_MAX, &e)) {
		reply_err(r, &e);
		return true;
	}
	idem_names(r, name, digest);
	rc = queue_kv_get(r->srv->queue, NS_IDEM, name, &kept, &e);
	if (rc == RC_NOTFOUND) {
		r->keep_answer = true;
		return false;
	}
	if (rc) {
		reply_err(r, &e);
	} else if (strcmp(jx_get_str(kept, "body", ""), digest) != 0) {
		reply_problem(r, 422, "idempotency",
			      "this Idempotency-Key was used with another body");
	} else {
		req_add_header(r, "Idempotency-Replayed", "true");
		reply_json(r, (int)jx_get_i64(kept, "status", 200),
			   json_incref(json_object_get(kept, "answer")));
	}
	json_decref(kept);
	return true;
}

/* Before the handler and after: an answer made in between is kept for nobody. */
static void changed(struct req *r, const struct route *rt)
{
	atomic_fetch_add(&r->srv->changes, 1);
	if (rt->role != ROLE_WORKER)
		atomic_fetch_add(&r->srv->rights, 1);
}

bool guard_before(struct req *r, const struct route *rt)
{
	if (rt->role != ROLE_NONE && !(rt->flags & ROUTE_ALWAYS) &&
	    !throttle_allows(r, r->srv->rate))
		return false;
	if (strcmp(r->method, "GET") == 0 || r->head)
		return !(rt->flags & ROUTE_SHARED) || !answers_send(r);
	changed(r, rt);
	return precondition(r) && !(keeps_answers(r, rt) && replay(r));
}

void guard_after(struct req *r, const struct route *rt)
{
	char name[SHA256_HEX_SIZE], digest[SHA256_HEX_SIZE];
	json_t *answer = NULL, *kept;

	if (strcmp(r->method, "GET") != 0 && !r->head)
		changed(r, rt);
	if (r->keep_answer && r->status >= 200 && r->status < 300 && r->answer.len &&
	    r->answer.len < IDEM_ANSWER_MAX &&
	    !jx_parse(r->answer.data, r->answer.len, "answer", &answer, NULL)) {
		idem_names(r, name, digest);
		kept = json_pack("{s:s, s:i, s:o}", "body", digest, "status", r->status, "answer",
				 answer);
		queue_kv_put(r->srv->queue, NS_IDEM, name, kept, IDEM_TTL_S, NULL);
		json_decref(kept);
	}
}

bool guard_audits(const struct route *rt)
{
	return strcmp(rt->method, "GET") != 0 && rt->role != ROLE_WORKER;
}
