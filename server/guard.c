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
#include "server/slots.h"
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

/* Asks the reader for what it would answer now. False when there is no such thing. */
static bool look_up(struct req *r, char etag[ETAG_MAX], char revision[REVISION_MAX])
{
	struct req look = *r;
	const struct route *rt;

	etag[0] = 0;
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
	str_copy(revision, REVISION_MAX, look.revision);
	str_copy(r->match, sizeof r->match, look.match);
	return look.status != 404;
}

/* Whether one of the quoted tags of If-Match is the ETag; of one with a revision that half is enough. */
static bool tag_listed(const char *list, const char *etag, const char *revision)
{
	while ((list = strchr(list, '"'))) {
		const char *end = strchr(++list, '"');
		size_t n = end ? (size_t)(end - list) : 0, half = strcspn(list, ":\"");

		if (!end)
			return false;
		if (revision[0] ? half == strlen(revision) && strncmp(list, revision, half) == 0
				: n == strlen(etag) && strncmp(list, etag, n) == 0)
			return true;
		list = end + 1;
	}
	return false;
}

/* If-Match, where the client gives it or the route demands it. What a run, a job or a document has as its
 * revision is compared again in the step that changes it (guard_match); other answers only here. */
static bool precondition(struct req *r, const struct route *rt)
{
	const char *want = req_header(r, "If-Match");
	char etag[ETAG_MAX], revision[REVISION_MAX];
	bool any = want && strcmp(want, "*") == 0;

	if (any || (!want && !(rt->flags & ROUTE_MATCH)))
		return true;
	if (!look_up(r, etag, revision) || !etag[0]) {
		r->match[0] = 0;
		return true; /* The handler says it better. */
	}
	if (want && tag_listed(want, etag, revision))
		return true;
	if (want)
		reply_problem(r, 412, "changed",
			      "it is no longer what If-Match names; read it again");
	else
		reply_problem(r, 428, "precondition",
			      "If-Match is missing: send the ETag of what you read, or * to change "
			      "whatever is there");
	return false;
}

const char *guard_match(const struct req *r)
{
	return r->match[0] ? r->match : NULL;
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
		if (json_object_get(kept, "location"))
			req_add_header(r, "Location", "%s", jx_get_str(kept, "location", ""));
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
	if ((rt->flags & ROUTE_LONG) && !r->head && !slot_take(r))
		return false;
	if (strcmp(r->method, "GET") == 0 || r->head)
		return !(rt->flags & ROUTE_SHARED) || !answers_send(r);
	changed(r, rt);
	return precondition(r, rt) && !(keeps_answers(r, rt) && replay(r));
}

/* Of the answer, as text; NULL when it has none. */
static json_t *location_of(const struct req *r)
{
	const char *at = r->headers.data ? strstr(r->headers.data, "Location: ") : NULL;

	at = at ? at + strlen("Location: ") : NULL;
	return at ? json_stringn(at, strcspn(at, "\r\n")) : NULL;
}

void guard_after(struct req *r, const struct route *rt)
{
	char name[SHA256_HEX_SIZE], digest[SHA256_HEX_SIZE];
	json_t *answer = NULL, *kept;

	slot_drop(r);
	if (strcmp(r->method, "GET") != 0 && !r->head)
		changed(r, rt);
	if (r->keep_answer && r->status >= 200 && r->status < 300 && r->answer.len &&
	    r->answer.len < IDEM_ANSWER_MAX &&
	    !jx_parse(r->answer.data, r->answer.len, "answer", &answer, NULL)) {
		idem_names(r, name, digest);
		kept = json_pack("{s:s, s:i, s:o, s:o*}", "body", digest, "status", r->status, "answer",
				 answer, "location", location_of(r));
		queue_kv_put(r->srv->queue, NS_IDEM, name, kept, IDEM_TTL_S, NULL);
		json_decref(kept);
	}
}

bool guard_audits(const struct route *rt)
{
	return strcmp(rt->method, "GET") != 0 && rt->role != ROLE_WORKER && !(rt->flags & ROUTE_OWN);
}
