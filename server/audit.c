#include "server/audit.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "server/http.h"
#include "server/reply.h"
#include "server/route.h"
#include "server/server.h"
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#define DAY_LEN 10 /* 2026-11-21 */
#define PATH_KEPT 300

/* Strangers cannot fill the log: of them only logins are kept, and those are slowed down. Dry runs change
 * nothing. */
static bool is_kept(struct req *r, int status)
{
	if (r->who.role == ROLE_NONE && (status != 401 || !str_ends(r->path, "/session")))
		return false;
	return status != 429 && !(status == 200 && req_query(r, "dry_run"));
}

void audit_note(struct req *r, int status)
{
	int64_t now = clk_now_ms();
	char at[CLK_TEXT_MAX], doc[64], path[PATH_KEPT];
	char *clean;
	struct err e = {0};
	json_t *line;

	if (!is_kept(r, status))
		return;
	clk_text(now, at);
	str_fmt(doc, sizeof doc, "audit/%.*s.jsonl", DAY_LEN, at);
	str_copy(path, sizeof path, r->path);
	clean = utf8_scrub(path, strlen(path));
	line = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:s*}", "at", at, "who",
			 r->who.name, "identity", r->who.id, "role", role_text(r->who.role),
			 "method", r->method, "path", clean, "status", status, "from", r->remote,
			 "request", r->id, "note", r->note[0] ? r->note : NULL);
	if (!line || store_doc_append(r->srv->store, doc, line, &e))
		log_warn("audit", "not_kept", "request=%s method=%s path=%s who=%s status=%d "
			 "error=%s", r->id, r->method, path, r->who.name, status, e.text);
	json_decref(line);
	free(clean);
}

/* "<day>:<n>": the lines of that day before its n-th, then the days before. */
static bool cursor_parse(const char *text, char day[DAY_LEN + 1], int64_t *n)
{
	if (!text || !text[0]) {
		day[0] = 0;
		*n = INT64_MAX;
		return true;
	}
	if (strlen(text) < DAY_LEN + 2 || text[DAY_LEN] != ':')
		return false;
	str_fmt(day, DAY_LEN + 1, "%.*s", DAY_LEN, text);
	return str_to_i64(text + DAY_LEN + 1, n) && *n >= 0;
}

static bool line_hits(const json_t *line, const struct audit_query *q)
{
	if (q->who && q->who[0] && strcmp(q->who, jx_get_str(line, "who", "")) != 0)
		return false;
	return !q->path || !q->path[0] || strstr(jx_get_str(line, "path", ""), q->path);
}

/* Lines of one day from before `until` down; sets *next when there are enough. */
static enum rc take_day(struct server *s, const char *name, int64_t until,
			const struct audit_query *q, json_t *items, char **next, struct err *e)
{
	json_t *lines = NULL;
	char doc[64];
	int64_t n;
	enum rc rc;

	str_fmt(doc, sizeof doc, "audit/%.32s", name);
	rc = store_doc_lines(s->store, doc, &lines, e);
	n = (int64_t)json_array_size(lines);
	for (int64_t i = (until < n ? until : n) - 1; !rc && i >= 0 && !*next; i--) {
		if (line_hits(json_array_get(lines, (size_t)i), q))
			json_array_append(items, json_array_get(lines, (size_t)i));
		if ((int64_t)json_array_size(items) == q->limit)
			*next = mem_printf("%.*s:%lld", DAY_LEN, name, (long long)i);
	}
	json_decref(lines);
	return rc;
}

enum rc audit_list(struct server *s, const struct audit_query *q, json_t **items, char **next,
		   struct err *e)
{
	char day[DAY_LEN + 1], **names = NULL;
	int64_t until;
	size_t n = 0;
	enum rc rc;

	*items = NULL;
	*next = NULL;
	if (!cursor_parse(q->cursor, day, &until))
		return err_set(e, RC_INVALID, "cursor \"%.40s\" is none of this list", q->cursor);
	rc = store_doc_list(s->store, "audit", &names, &n, e);
	if (rc && rc != RC_NOTFOUND)
		return rc;
	*items = json_array();
	rc = RC_OK;
	for (size_t i = n; !rc && i-- > 0 && !*next;) {
		int past = day[0] ? strncmp(names[i], day, DAY_LEN) : -1;

		if (past <= 0)
			rc = take_day(s, names[i], past == 0 ? until : INT64_MAX, q, *items, next, e);
	}
	fs_list_free(names);
	if (rc)
		json_decref(*items);
	return rc;
}
