#include "server/run_log.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "server/logs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW (2 * RUN_LOG_LINE_MAX)
#define STAMP_LEN 24

/* One attempt's log, read backward. Opened for each window: thousands may be part of one answer. */
struct source {
	struct run_log_place at; /* of the line at hand; its ms and offset */
	char *path;		 /* owned */
	int64_t size, end;	 /* bytes; end of what is still to be read */
	int64_t top_ms;		 /* no line still to be read is later */
	bool opened, has_line;
	int64_t stamp_at, stamp_ms; /* the line whose time the one at hand has; -1 when unknown */
	char *window;		    /* owned; bytes from `from` to where end was when it was read */
	int64_t from;
	const char *line; /* in the window */
	size_t line_len;
};

struct merge {
	const struct run_log_query *q;
	struct source *list; /* by top_ms, the latest first */
	size_t n, n_open;
	int64_t scanned;
};

/* --- bytes -------------------------------------------------------------------------------------
 */

static size_t read_at(const char *path, int64_t from, char *out, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t got = 0;
	ssize_t n;

	while (fd >= 0 && got < len &&
	       (n = pread(fd, out + got, len - got, from + (int64_t)got)) > 0)
		got += (size_t)n;
	if (fd >= 0)
		close(fd);
	return got;
}

static bool stamp_of(const char *text, size_t len, int64_t *ms)
{
	static const char json[] = "{\"ts\":\"";
	size_t skip =
		len > sizeof json && memcmp(text, json, sizeof json - 1) == 0 ? sizeof json - 1 : 0;

	return clk_parse(text + skip, len - skip, ms);
}

/* The last line with a time that begins before byte `end`: its place and time. -1 when none does
 * before `least` is reached. */
static int64_t stamp_before(const char *path, int64_t end, int64_t least, int64_t *ms)
{
	char *piece = mem_new(WINDOW + STAMP_LEN * 2);
	int64_t found = -1;

	while (found < 0 && end > least) {
		int64_t from = end - WINDOW > least ? end - WINDOW : least;
		size_t want = (size_t)(end - from),
		       got = read_at(path, from, piece, want + STAMP_LEN * 2);

		for (size_t i = want < got ? want : got; found < 0 && i-- > 0;) {
			const char *nl = memrchr(piece, '\n', i);
			size_t start = nl ? (size_t)(nl + 1 - piece) : 0;

			if ((nl || from == 0) && stamp_of(piece + start, got - start, ms))
				found = from + (int64_t)start;
			i = nl ? start : 0;
		}
		end = from > least && found < 0 ? from + 1
						: from; /* A line may begin just at `from`. */
		if (from == least)
			break;
	}
	free(piece);
	return found;
}

/* --- where a time begins -----------------------------------------------------------------------
 */

/* The first line at or after `ms` within [lo, hi), which begins a line with such a time; hi when
 * none. */
static int64_t first_in(const char *path, int64_t lo, int64_t hi, int64_t ms)
{
	char *piece = mem_new(2 * WINDOW + STAMP_LEN * 2);
	size_t len = read_at(path, lo, piece, (size_t)(hi - lo) + STAMP_LEN * 2), at = 0;
	int64_t t, found = hi;

	while (lo + (int64_t)at < hi && at < len) {
		const char *nl = memchr(piece + at, '\n', len - at);

		if ((at > 0 || lo == 0) && stamp_of(piece + at, len - at, &t) && t >= ms) {
			found = lo + (int64_t)at;
			break;
		}
		if (!nl)
			break;
		at = (size_t)(nl + 1 - piece);
	}
	free(piece);
	return found;
}

/* The byte before which all lines are earlier than `ms`. No line that begins at or before lo is as
 * late; at hi one begins that is, or the file ends. */
static int64_t begin_of(const char *path, int64_t size, int64_t ms)
{
	int64_t lo = 0, hi = size, t;

	if (ms <= 0 || first_in(path, 0, size < WINDOW ? size : WINDOW, ms) == 0)
		return 0; /* What stands before the first time has time 0. */
	while (hi - lo > 2 * WINDOW) {
		int64_t mid = lo + (hi - lo) / 2, at = stamp_before(path, mid, lo, &t);

		if (at >= 0 && t >= ms)
			hi = at;
		else
			lo = mid - 1;
	}
	return first_in(path, lo, hi, ms);
}

/* --- one source --------------------------------------------------------------------------------
 */

static bool window_load(struct merge *m, struct source *s, int64_t from)
{
	if (!s->window)
		s->window = mem_new(WINDOW + 1);
	s->from = from;
	m->scanned += s->end - from;
	/* Less only when it was cut off under us. */
	return (int64_t)read_at(s->path, from, s->window, (size_t)(s->end - from)) == s->end - from;
}

/* Where the line that ends before `stop` (in the window) begins. One that is too long begins at a
 * multiple of the longest. */
static int64_t line_start(const struct source *s, int64_t stop)
{
	const char *nl = memrchr(s->window, '\n', (size_t)(stop - s->from));
	int64_t cut = (stop - 1) / RUN_LOG_LINE_MAX * RUN_LOG_LINE_MAX;
	int64_t start = nl ? s->from + (nl + 1 - s->window) : s->from == 0 ? 0 : -1;

	return start >= 0 && stop - start <= RUN_LOG_LINE_MAX ? start : cut > start ? cut : start;
}

static void line_time(struct source *s)
{
	int64_t t;

	if (stamp_of(s->line, s->line_len, &t)) {
		s->stamp_at = s->at.offset;
		s->stamp_ms = t;
	} else if (s->stamp_at < 0 || s->stamp_at > s->at.offset) {
		s->stamp_at = stamp_before(s->path, s->at.offset + 1, 0, &t);
		s->stamp_ms = s->stamp_at < 0 ? 0 : t;
		s->stamp_at = s->stamp_at < 0 ? 0 : s->stamp_at;
	}
	s->at.ms = s->stamp_ms;
}

/* Takes the last line of what is left; none when nothing is. */
static void source_step(struct merge *m, struct source *s)
{
	int64_t stop, start;

	s->has_line = false;
	if (s->end <= 0)
		return;
	/* A whole line and the newline before it fit into what is loaded. */
	if ((!s->window || (s->from > 0 && s->end - s->from < RUN_LOG_LINE_MAX + 2)) &&
	    !window_load(m, s, s->end > WINDOW ? s->end - WINDOW : 0))
		return;
	stop = s->end;
	if (s->window[stop - 1 - s->from] == '\n')
		stop--;
	start = stop > s->from ? line_start(s, stop) : stop;
	s->line = s->window + (start - s->from);
	s->line_len = (size_t)(stop - start);
	s->at.offset = start;
	s->end = start;
	line_time(s);
	s->has_line = true;
}

static int place_cmp(const struct run_log_place *a, const struct run_log_place *b)
{
	int c;

	if (a->ms != b->ms)
		return a->ms < b->ms ? -1 : 1;
	c = strcmp(a->job, b->job);
	if (c)
		return c;
	if (a->attempt != b->attempt)
		return a->attempt < b->attempt ? -1 : 1;
	return (a->offset > b->offset) - (a->offset < b->offset);
}

/* Leaves only what comes before the cursor. */
static void source_open(struct merge *m, struct source *s)
{
	const struct run_log_place *b = m->q->before;
	int c;

	s->opened = true;
	if (b) {
		c = strcmp(s->at.job, b->job);
		c = c ? c : s->at.attempt - b->attempt;
		if (c == 0)
			s->end = b->offset < s->size ? b->offset : s->size;
		else
			s->end = begin_of(s->path, s->size, c < 0 ? b->ms + 1 : b->ms);
	}
	source_step(m, s);
}

/* --- all of them -------------------------------------------------------------------------------
 */

/* Takes path. */
static void source_add(void *ctx, const struct run_log_place *at, char *path, int64_t size)
{
	struct merge *m = ctx;
	struct source s = {.at = *at, .path = path, .size = size, .end = size, .stamp_at = -1};
	int64_t ms = 0;

	s.top_ms = stamp_before(s.path, s.size, 0, &ms) < 0 ? 0 : ms;
	if (m->q->before && s.top_ms > m->q->before->ms)
		s.top_ms = m->q->before->ms;
	m->list = mem_grow(m->list, m->n + 1, sizeof *m->list);
	m->list[m->n++] = s;
}

static bool job_wanted(const struct run_log_query *q, const char *job)
{
	const char *stage;

	if (!job_id_valid(job, NULL) || (q->job && strcmp(q->job, job) != 0))
		return false;
	if (!q->stage)
		return true;
	stage = strchr(strchr(job, '.') + 1, '.') + 1;
	return strncmp(stage, q->stage, strlen(q->stage)) == 0 && stage[strlen(q->stage)] == '.';
}

static int by_top(const void *a, const void *b)
{
	const struct source *x = a, *y = b;

	return (x->top_ms < y->top_ms) - (x->top_ms > y->top_ms);
}

/* "7.log" of a job: its place and path, unless it is empty. */
static char *log_path(const char *folder, const char *job, const char *name, struct run_log_place *at,
		      int64_t *size)
{
	size_t len = strlen(name);
	int64_t attempt;
	char number[16], *path;

	if (len <= 4 || len >= sizeof number || strcmp(name + len - 4, ".log") != 0)
		return NULL;
	str_fmt(number, sizeof number, "%.*s", (int)(len - 4), name);
	if (!str_to_i64(number, &attempt) || attempt < 1 || attempt > 1000000)
		return NULL;
	path = mem_printf("%s/%s", folder, name);
	*size = fs_size(path);
	if (*size <= 0) {
		free(path);
		return NULL;
	}
	str_copy(at->job, sizeof at->job, job);
	at->attempt = (int)attempt;
	return path;
}

/* Calls `see` for every log that is asked for and has something in it; it takes the path. */
static enum rc each_log(const struct run_log_query *q,
			void (*see)(void *ctx, const struct run_log_place *at, char *path, int64_t size),
			void *ctx, struct err *e)
{
	char *root = mem_printf("%s/logs/%s", q->data_dir, q->run), **jobs = NULL, **names;
	size_t n = 0, k;
	enum rc rc = fs_list(root, &jobs, &n, e);

	for (size_t i = 0; !rc && i < n; i++) {
		char *folder = mem_printf("%s/%s", root, jobs[i]), *path;

		names = NULL;
		k = 0;
		if (job_wanted(q, jobs[i]) && !fs_list(folder, &names, &k, NULL)) {
			for (size_t j = 0; j < k; j++) {
				struct run_log_place at = {0};
				int64_t size;

				path = log_path(folder, jobs[i], names[j], &at, &size);
				if (path)
					see(ctx, &at, path, size);
			}
			fs_list_free(names);
		}
		free(folder);
	}
	if (!rc)
		fs_list_free(jobs);
	free(root);
	return rc == RC_NOTFOUND ? RC_OK : rc;
}

static enum rc find_sources(struct merge *m, struct err *e)
{
	enum rc rc = each_log(m->q, source_add, m, e);

	if (m->n)
		qsort(m->list, m->n, sizeof *m->list, by_top);
	return rc;
}

/* The source with the latest line. Those whose last line is earlier need not be opened yet. */
static struct source *latest(struct merge *m)
{
	struct source *best = NULL;

	for (size_t i = 0; i < m->n; i++) {
		struct source *s = &m->list[i];

		if (!s->opened) {
			if (best && s->top_ms < best->at.ms)
				break;
			source_open(m, s);
		}
		if (s->has_line && (!best || place_cmp(&s->at, &best->at) > 0))
			best = s;
	}
	return best;
}

static bool text_hits(const struct run_log_query *q, const char *text, size_t len, char *folded)
{
	if (!q->needle)
		return true;
	for (size_t i = 0; i < len; i++)
		folded[i] = !q->exact && text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] | 32) : text[i];
	return memmem(folded, len, q->needle, strlen(q->needle)) != NULL;
}

static void merge_release(struct merge *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->list[i].path);
		free(m->list[i].window);
	}
	free(m->list);
}

enum rc run_log(const struct run_log_query *q, struct run_log_sum *sum, struct err *e)
{
	struct merge m = {.q = q};
	char *folded = mem_new(RUN_LOG_LINE_MAX + 1);
	size_t used = 0;
	struct source *s = NULL;
	enum rc rc = find_sources(&m, e);

	memset(sum, 0, sizeof *sum);
	sum->sources = (int)m.n;
	for (size_t i = 0; i < m.n; i++)
		sum->bytes += m.list[i].size;
	while (!rc && m.scanned < RUN_LOG_SCAN_MAX && (s = latest(&m))) {
		if (text_hits(q, s->line, s->line_len, folded)) {
			if (used && used + s->line_len + 1 > q->bytes)
				break;
			used += s->line_len + 1;
			q->see(q->ctx, &s->at, s->line, s->line_len);
		}
		sum->next = s->at;
		source_step(&m, s);
		s = NULL;
	}
	sum->more = !rc && sum->next.job[0] && (s || latest(&m));
	merge_release(&m);
	free(folded);
	return rc;
}

/* --- the whole of them, forward ------------------------------------------------------------------
 */

struct reader {
	struct run_log_place at; /* of the piece at hand */
	char *path, *window;	 /* owned; bytes from `from` on */
	int64_t size, first_ms, from, next; /* next: where the piece after the one at hand begins */
	size_t have, len;
	const char *text; /* the piece at hand, in the window */
	bool opened, whole; /* whole: the piece ends its line */
};

struct writer {
	const struct run_log_query *q;
	struct reader *list; /* by first_ms */
	size_t n, n_opened, n_open;
	char *folded; /* owned; for text_hits */
	bool (*put)(void *ctx, const char *data, size_t len);
	void *ctx;
};

/* The next piece: a line, or as much of it as is told at once. False at the end. */
static bool reader_step(struct reader *s)
{
	int64_t t;
	const char *nl;
	size_t left;

	if (s->next >= s->size) {
		free(s->window);
		s->window = NULL;
		return false;
	}
	if (s->from + (int64_t)s->have < s->size &&
	    s->next - s->from + RUN_LOG_LINE_MAX + 1 > (int64_t)s->have) {
		int64_t want = s->size - s->next < WINDOW ? s->size - s->next : WINDOW;

		s->from = s->next;
		s->have = read_at(s->path, s->from, s->window, (size_t)want);
	}
	s->text = s->window + (s->next - s->from);
	left = s->have - (size_t)(s->next - s->from);
	nl = memchr(s->text, '\n', left < RUN_LOG_LINE_MAX + 1 ? left : RUN_LOG_LINE_MAX + 1);
	s->len = nl ? (size_t)(nl - s->text) : left < RUN_LOG_LINE_MAX ? left : RUN_LOG_LINE_MAX;
	if (stamp_of(s->text, s->len, &t))
		s->at.ms = t;
	s->at.offset = s->next;
	s->whole = nl || s->next + (int64_t)s->len >= s->size;
	s->next += (int64_t)s->len + (nl != NULL);
	return left > 0; /* Nothing: it was cut off under us. */
}

static void reader_add(void *ctx, const struct run_log_place *at, char *path, int64_t size)
{
	struct writer *w = ctx;
	struct reader s = {.at = *at, .path = path, .size = size};
	char head[STAMP_LEN * 2];

	if (!stamp_of(head, read_at(path, 0, head, sizeof head), &s.first_ms))
		s.first_ms = 0;
	w->list = mem_grow(w->list, w->n + 1, sizeof *w->list);
	w->list[w->n++] = s;
}

static int by_first(const void *a, const void *b)
{
	const struct reader *x = a, *y = b;

	return (x->first_ms > y->first_ms) - (x->first_ms < y->first_ms);
}

/* Opens those that begin before `ms`, as many as may be open. */
static void open_until(struct writer *w, int64_t ms)
{
	while (w->n_opened < w->n && w->n_open < RUN_LOG_OPEN_MAX &&
	       (!w->n_open || w->list[w->n_opened].first_ms <= ms)) {
		struct reader *s = &w->list[w->n_opened++];

		s->window = mem_new(WINDOW + 1);
		s->opened = reader_step(s);
		w->n_open += s->opened;
	}
}

/* The earliest and the one after it; NULL where there is none. */
static struct reader *earliest(struct writer *w, struct reader **second)
{
	struct reader *best = NULL;

	*second = NULL;
	for (size_t i = 0; i < w->n_opened; i++) {
		struct reader *s = &w->list[i];

		if (!s->opened) {
			continue;
		} else if (!best || place_cmp(&s->at, &best->at) < 0) {
			*second = best;
			best = s;
		} else if (!*second || place_cmp(&s->at, &(*second)->at) < 0) {
			*second = s;
		}
	}
	return best;
}

/* One line with where it is from. False when the reader of all this is gone. */
static bool write_line(struct writer *w, struct reader *s)
{
	char from[JOB_ID_MAX + 16];
	bool hit = text_hits(w->q, s->text, s->len, w->folded), ok = true;

	str_fmt(from, sizeof from, "%s#%d ", strchr(s->at.job, '.') + 1, s->at.attempt);
	if (hit)
		ok = w->put(w->ctx, from, strlen(from));
	for (;;) {
		if (hit && ok)
			ok = w->put(w->ctx, s->text, s->len);
		if (s->whole || !ok)
			break;
		s->opened = reader_step(s);
		if (!s->opened)
			break;
	}
	if (hit && ok)
		ok = w->put(w->ctx, "\n", 1);
	s->opened = s->opened && ok && reader_step(s);
	w->n_open -= !s->opened;
	return ok;
}

static void write_all(struct writer *w)
{
	struct reader *s, *second;
	bool ok = true;

	for (open_until(w, 0); ok && (s = earliest(w, &second));) {
		open_until(w, s->at.ms);
		s = earliest(w, &second);
		/* Lines of one job come in bursts: the others are looked at once for each. */
		do {
			ok = write_line(w, s);
		} while (ok && s->opened && (!second || place_cmp(&s->at, &second->at) <= 0) &&
			 (w->n_opened == w->n || s->at.ms < w->list[w->n_opened].first_ms));
		if (!w->n_open)
			open_until(w, 0);
	}
}

enum rc run_log_write(const struct run_log_query *q, bool (*put)(void *ctx, const char *data, size_t len),
		      void *ctx, struct err *e)
{
	struct writer w = {.q = q, .put = put, .ctx = ctx, .folded = mem_new(RUN_LOG_LINE_MAX + 1)};
	enum rc rc = each_log(q, reader_add, &w, e);

	if (!rc && w.n) {
		qsort(w.list, w.n, sizeof *w.list, by_first);
		write_all(&w);
	}
	for (size_t i = 0; i < w.n; i++) {
		free(w.list[i].path);
		free(w.list[i].window);
	}
	free(w.list);
	free(w.folded);
	return rc;
}

void run_log_cursor(const struct run_log_place *p, char out[RUN_LOG_CURSOR_MAX])
{
	str_fmt(out, RUN_LOG_CURSOR_MAX, "%lld:%lld:%d:%s", (long long)p->ms, (long long)p->offset,
		p->attempt, p->job);
}

bool run_log_cursor_parse(const char *text, struct run_log_place *p)
{
	int64_t part[3];

	for (int i = 0; i < 3; i++) {
		char number[24];
		size_t len = strcspn(text, ":");

		if (!text[len] || len >= sizeof number)
			return false;
		str_fmt(number, sizeof number, "%.*s", (int)len, text);
		if (!str_to_i64(number, &part[i]) || part[i] < 0)
			return false;
		text += len + 1;
	}
	if (!job_id_valid(text, NULL) || part[2] > 1000000)
		return false;
	p->ms = part[0];
	p->offset = part[1];
	p->attempt = (int)part[2];
	str_copy(p->job, sizeof p->job, text);
	return true;
}
