/* Answers: JSON, lists, problems. One place decides how an error code becomes a status.
 * JSON over 1 KiB is gzipped when the client takes it; a GET's 200 carries an ETag and
 * If-None-Match is answered by 304. json_t arguments are taken.
 */
#pragma once

#include "base/err.h"
#include "server/http.h"

#include <jansson.h>

void reply_json(struct req *r, int status, json_t *body);
/* A 200 of JSON that was made before: text, its digest as ETag, and gzipped (NULL when it is not). */
void reply_kept(struct req *r, const char *etag, const char *text, size_t text_len, const char *gz,
		size_t gz_len);
/* Before a reader's answer: the ETag begins with `revision` and a colon, and If-Match looks at that alone:
 * figures that move meanwhile refuse nobody. kind and id as queue_match() has them, 'u' for a user, 'h' for
 * a webhook. */
void reply_revision(struct req *r, char kind, const char *id, const char *revision);
/* {"items": [...], "next_cursor": ... or null}; Link: rel="next" when there is one. */
void reply_list(struct req *r, json_t *items, const char *next_cursor);
/* The stretch [from, from + limit) of a list that only grows at its end, with the cursor behind it;
 * `all` is borrowed. */
void reply_page(struct req *r, const json_t *all, int64_t from, int64_t limit);
/* A page of a list that grows at its beginning: what comes after the item whose "id" is the cursor, so that
 * nothing comes twice; `all` is borrowed. What has left the list meanwhile ends it. */
void reply_after(struct req *r, const json_t *all, const char *cursor, int64_t limit);
/* {"items": ...} with further members of `more` merged in (may be NULL). */
void reply_problem(struct req *r, int status, const char *type, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* 422 with field errors [{pointer, detail}]. */
void reply_invalid(struct req *r, const char *detail, json_t *errors);
void reply_err(struct req *r, const struct err *e);
int reply_status_of(enum rc rc);

/* The request's JSON object; NULL after answering 4xx. An absent body is {}. */
json_t *req_json(struct req *r);
/* RFC 3339 text, or JSON null for 0. */
json_t *json_time(int64_t ms);
/* Sets `key` to `value` (taken); NULL becomes null. */
void json_put(json_t *obj, const char *key, json_t *value);
