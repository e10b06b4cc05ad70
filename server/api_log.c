/* Logs of attempts: a window at any offset, waiting for more of it; the whole as a file; and a search
 * that runs here, so that nobody loads a gigabyte to find a line. */
#include "server/api.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "queue/queue.h"
#include "server/logs.h"
#include "server/range.h"
#include "server/reply.h"
#include "server/run_log.h"
#include "server/server.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW_MAX (16 << 20) /* without a limit: the most one answer holds */
#define WAIT_MAX_S 20
#define POLL_MS 200
#define SLICE (256u * 1024)
#define HITS_DEFAULT 100
#define HITS_MAX 1000
#define HIT_TEXT_MAX 1000 /* of a line, in bytes */
#define NEEDLE_MAX 200

/* The attempt named in the path, 404 and 0 when it names none. */
static int attempt_arg(struct req *r)
{
	int64_t n = 0;

	if (job_id_valid(r->args[0], NULL) && str_to_i64(r->args[1], &n) && n >= 1 && n <= 1000000)
		return (int)n;
	reply_problem(r, 404, "not-found", "no attempt %s of job \"%s\"", r->args[1], r->args[0]);
	return 0;
}

static bool attempt_runs(struct server *s, const char *job, int attempt)
{
	json_t *v = NULL;
	bool runs;

	if (queue_job(s->queue, job, &v, NULL))
		return false;
	runs = strcmp(jx_get_str(v, "state", ""), "running") == 0 &&
	       jx_get_i64(v, "starts", 0) == attempt;
	json_decref(v);
	return runs;
}

/* Until the log grows beyond `offset`, the attempt ends, or the time is over. */
static void wait_until(struct req *r, int attempt, int64_t offset, int64_t until)
{
	int64_t look = 0;

	while (clk_mono_ms() < until && !atomic_load(&r->srv->stopping)) {
		if (logs_size(r->srv->data_dir, r->args[0], attempt) > offset)
			return;
		if (clk_mono_ms() >= look) {
			if (!attempt_runs(r->srv, r->args[0], attempt))
				return;
			look = clk_mono_ms() + 1000;
		}
		clk_sleep_ms(POLL_MS);
	}
}

/* Each holds a thread: where many wait already, the next is told at once how things are. */
static void wait_for_log(struct req *r, int attempt, int64_t offset, int64_t wait_s)
{
	struct server_stats *st = &r->srv->stats;

	if (atomic_fetch_add(&st->log_waits, 1) < r->srv->threads / 4)
		wait_until(r, attempt, offset, clk_mono_ms() + wait_s * 1000);
	atomic_fetch_sub(&st->log_waits, 1);
}

static void text_headers(struct req *r)
{
	req_add_header(r, "Cache-Control", "no-store");
	req_add_header(r, "Content-Security-Policy", "sandbox; default-src 'none'");
}

void api_job_log(struct req *r)
{
	int64_t offset, limit, wait_s, from, size;
	struct buf text = BUF_INIT;
	struct err e = {0};
	int attempt = attempt_arg(r);

	if (!attempt || !req_query_i64(r, "offset", 0, -LOG_FILE_MAX, LOG_FILE_MAX, &offset) ||
	    !req_query_i64(r, "limit", WINDOW_MAX, 1, WINDOW_MAX, &limit) ||
	    !req_query_i64(r, "wait", 0, 0, WAIT_MAX_S, &wait_s))
		return;
	if (offset >= 0 && wait_s)
		wait_for_log(r, attempt, offset, wait_s);
	if (logs_read(r->srv->data_dir, r->args[0], attempt, offset, (size_t)limit, &text, &from,
		      &size, &e)) {
		reply_err(r, &e);
	} else {
		req_add_header(r, "X-Log-Size", "%lld", (long long)size);
		req_add_header(r, "X-Log-Offset", "%lld", (long long)from);
		text_headers(r);
		req_send(r, 200, "text/plain; charset=utf-8", text.data, text.len);
	}
	buf_release(&text);
}

/* --- the whole ----------------------------------------------------------------------------- */

static void send_slices(struct req *r, int fd, int64_t from, int64_t len)
{
	char *slice = malloc(SLICE);

	while (slice && len > 0) {
		size_t want = len < (int64_t)SLICE ? (size_t)len : SLICE;
		ssize_t n = pread(fd, slice, want, from);

		if (n <= 0 || atomic_load(&r->srv->stopping) || !req_write(r, slice, (size_t)n))
			break;
		from += n;
		len -= n;
	}
	if (len > 0 && !r->head)
		req_abort(r);
	free(slice);
}

/* As long as it is now; a range may continue a broken download, for a log only grows. */
void api_log_content(struct req *r)
{
	struct err e = {0};
	int64_t size, from = 0, to;
	int attempt = attempt_arg(r), fd = -1;
	enum range_kind kind;

	if (!attempt)
		return;
	if (logs_open(r->srv->data_dir, r->args[0], attempt, &fd, &size, &e)) {
		reply_err(r, &e);
		return;
	}
	to = size - 1;
	kind = range_parse(req_header(r, "If-Range") ? NULL : req_header(r, "Range"), size, &from,
			   &to);
	req_add_header(r, "Accept-Ranges", "bytes");
	req_add_header(r, "Content-Disposition", "attachment; filename=\"%s.%d.log\"", r->args[0],
		       attempt);
	text_headers(r);
	if (kind == RANGE_BAD) {
		req_add_header(r, "Content-Range", "bytes */%lld", (long long)size);
		reply_problem(r, 416, "range", "the log has %lld bytes", (long long)size);
	} else {
		if (kind == RANGE_PART)
			req_add_header(r, "Content-Range", "bytes %lld-%lld/%lld", (long long)from,
				       (long long)to, (long long)size);
		req_begin(r, kind == RANGE_PART ? 206 : 200, "text/plain; charset=utf-8",
			  to - from + 1);
		send_slices(r, fd, from, to - from + 1);
	}
	close(fd);
}

/* --- search -------------------------------------------------------------------------------- */

static void add_hit(void *ctx, int64_t offset, const char *line, size_t len)
{
	char *text = utf8_scrub(line, len < HIT_TEXT_MAX ? len : HIT_TEXT_MAX);

	json_array_append_new(ctx, json_pack("{s:I, s:s}", "offset", (json_int_t)offset, "text", text));
	free(text);
}

void api_log_search(struct req *r)
{
	const char *q = req_query(r, "q"), *exact = req_query(r, "case");
	struct logs_search s = {.needle = q, .exact = exact && strcmp(exact, "1") == 0};
	json_t *items, *next;
	struct err e = {0};
	char cursor[24];
	int attempt = attempt_arg(r);

	if (!attempt || !req_query_i64(r, "limit", HITS_DEFAULT, 1, HITS_MAX, &s.limit) ||
	    !req_query_i64(r, "cursor", 0, 0, LOG_FILE_MAX, &s.from))
		return;
	if (!q || !q[0] || strlen(q) > NEEDLE_MAX) {
		reply_problem(r, 400, "invalid", "q: expected 1 to %d bytes to look for",
			      NEEDLE_MAX);
		return;
	}
	items = json_array();
	s.see = add_hit;
	s.ctx = items;
	if (logs_find(r->srv->data_dir, r->args[0], attempt, &s, &e)) {
		json_decref(items);
		reply_err(r, &e);
		return;
	}
	str_fmt(cursor, sizeof cursor, "%lld", (long long)s.next);
	next = s.next < 0 ? json_null() : json_string(cursor);
	reply_json(r, 200,
		   json_pack("{s:o, s:o, s:I}", "items", items, "next_cursor", next, "size",
			     (json_int_t)s.size));
}

/* --- of a whole run -------------------------------------------------------------------------- */

#define MERGED_DEFAULT 65536
#define MERGED_MAX (1 << 20)
#define MERGED_TEXT_MAX 4000 /* of one line */

static void add_line(void *ctx, const struct run_log_place *at, const char *line, size_t len)
{
	char *text = utf8_scrub(line, len < MERGED_TEXT_MAX ? len : MERGED_TEXT_MAX);

	json_array_append_new(ctx, json_pack("{s:o, s:s, s:i, s:I, s:s, s:b}", "at", json_time(at->ms), "job",
					     at->job, "attempt", at->attempt, "offset",
					     (json_int_t)at->offset, "text", text, "cut",
					     len > MERGED_TEXT_MAX));
	free(text);
}

static json_t *reversed(const json_t *list)
{
	json_t *out = json_array();

	for (size_t i = json_array_size(list); i-- > 0;)
		json_array_append(out, json_array_get(list, i));
	return out;
}

static void answer_merged(struct req *r, const struct run_log_query *q, const json_t *found)
{
	char cursor[RUN_LOG_CURSOR_MAX];
	struct run_log_sum sum;
	struct err e = {0};

	if (run_log(q, &sum, &e)) {
		reply_err(r, &e);
		return;
	}
	run_log_cursor(&sum.next, cursor);
	reply_json(r, 200, json_pack("{s:o, s:o, s:i, s:I}", "items", reversed(found), "next_cursor",
				     sum.more ? json_string(cursor) : json_null(), "sources", sum.sources,
				     "bytes", (json_int_t)sum.bytes));
}

/* The text to look for, folded unless it is exact; false after answering. */
static bool merged_needle(struct req *r, struct run_log_query *q, char needle[NEEDLE_MAX + 1])
{
	const char *text = req_query(r, "q"), *exact = req_query(r, "case");

	q->exact = exact && strcmp(exact, "1") == 0;
	if (!text)
		return true;
	if (!text[0] || strlen(text) > NEEDLE_MAX) {
		reply_problem(r, 400, "invalid", "q: expected 1 to %d bytes to look for", NEEDLE_MAX);
		return false;
	}
	str_copy(needle, NEEDLE_MAX + 1, text);
	for (char *p = needle; *p && !q->exact; p++)
		*p = (char)(*p >= 'A' && *p <= 'Z' ? *p | 32 : *p);
	q->needle = needle;
	return true;
}

struct sender {
	struct req *r;
	size_t n;
	char piece[64 << 10];
};

static bool send_piece(struct sender *s)
{
	bool ok = !atomic_load(&s->r->srv->stopping) && (!s->n || req_write(s->r, s->piece, s->n));

	s->n = 0;
	return ok;
}

static bool send_text(void *ctx, const char *data, size_t len)
{
	struct sender *s = ctx;

	if (s->n + len > sizeof s->piece && !send_piece(s))
		return false;
	memcpy(s->piece + s->n, data, len); /* A piece of a line is shorter than ours. */
	s->n += len;
	return true;
}

static void send_merged(struct req *r, const struct run_log_query *q)
{
	struct sender *s = malloc(sizeof *s);
	struct err e = {0};

	if (!s) {
		reply_problem(r, 503, "busy", "no memory for the log now");
		return;
	}
	s->r = r;
	s->n = 0;
	req_add_header(r, "Content-Disposition", "attachment; filename=\"%s.log\"", q->run);
	text_headers(r);
	req_begin(r, 200, "text/plain; charset=utf-8", -1);
	if (!r->head && (run_log_write(q, send_text, s, &e) || !send_piece(s)))
		req_abort(r);
	free(s);
}

void api_run_log_content(struct req *r)
{
	const char *stage = req_query(r, "stage");
	char needle[NEEDLE_MAX + 1];
	struct run_log_query q = {.data_dir = r->srv->data_dir,
				  .run = r->args[0],
				  .job = req_query(r, "job"),
				  .stage = stage && stage[0] ? stage : NULL};
	json_t *info = NULL;
	struct err e = {0};

	if (!run_id_valid(q.run))
		reply_problem(r, 404, "not-found", "no run \"%s\"", q.run);
	else if (queue_run(r->srv->queue, q.run, &info, &e))
		reply_err(r, &e);
	else if (merged_needle(r, &q, needle))
		send_merged(r, &q);
	json_decref(info);
}

void api_run_log(struct req *r)
{
	const char *cursor = req_query(r, "cursor"), *stage = req_query(r, "stage");
	json_t *found = json_array(), *info = NULL;
	char needle[NEEDLE_MAX + 1];
	struct run_log_query q = {.data_dir = r->srv->data_dir,
				  .run = r->args[0],
				  .job = req_query(r, "job"),
				  .stage = stage && stage[0] ? stage : NULL,
				  .see = add_line,
				  .ctx = found};
	struct run_log_place before;
	struct err e = {0};
	int64_t limit;

	if (!run_id_valid(r->args[0])) {
		reply_problem(r, 404, "not-found", "no run \"%s\"", r->args[0]);
	} else if (queue_run(r->srv->queue, r->args[0], &info, &e)) {
		reply_err(r, &e);
	} else if (req_query_i64(r, "limit", MERGED_DEFAULT, 1, MERGED_MAX, &limit) &&
		   merged_needle(r, &q, needle)) {
		q.bytes = (size_t)limit;
		q.before = cursor && cursor[0] ? &before : NULL;
		if (q.before && !run_log_cursor_parse(cursor, &before))
			reply_problem(r, 400, "invalid", "cursor: none of this list");
		else
			answer_merged(r, &q, found);
	}
	json_decref(info);
	json_decref(found);
}
