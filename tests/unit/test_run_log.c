/* The merged log of a run: order, pages that fit together, search, long lines, times that are missing. */
#include "base/buf.h"
#include "base/clk.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "server/run_log.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN "rlog"
#define T0 1763740000000
#define FILES 6
#define LINES 150

static struct err e;
static const char *dir;

struct line {
	struct run_log_place at;
	char text[64];
	size_t len;
};
static struct line seen[8000];
static size_t n_seen;

static void see(void *ctx, const struct run_log_place *at, const char *text, size_t len)
{
	struct line *l = &seen[n_seen++];

	(void)ctx;
	CHECK(n_seen < sizeof seen / sizeof *seen);
	l->at = *at;
	l->len = len;
	str_fmt(l->text, sizeof l->text, "%.*s", (int)(len < 60 ? len : 60), text);
}

static FILE *log_open(const char *job, int attempt)
{
	char path[512];

	str_fmt(path, sizeof path, "%s/logs/" RUN "/%s", dir, job);
	CHECK_RC(fs_mkdirs(path, &e), RC_OK);
	str_fmt(path, sizeof path, "%s/logs/" RUN "/%s/%d.log", dir, job, attempt);
	FILE *f = fopen(path, "we");
	CHECK(f != NULL);
	return f;
}

static void say(FILE *f, int64_t ms, const char *text)
{
	char at[CLK_TEXT_MAX];

	clk_text(ms, at);
	fprintf(f, "%s info test %s\n", at, text);
}

/* Everything, page by page of `bytes`, into seen: the latest first. Returns the number of pages. */
static int all_pages(struct run_log_query q, size_t bytes)
{
	struct run_log_place before;
	struct run_log_sum sum = {0};
	int pages = 0;

	n_seen = 0;
	q.data_dir = dir;
	q.run = RUN;
	q.bytes = bytes;
	q.see = see;
	do {
		char cursor[RUN_LOG_CURSOR_MAX];

		CHECK_RC(run_log(&q, &sum, &e), RC_OK);
		run_log_cursor(&sum.next, cursor);
		CHECK(!sum.more || run_log_cursor_parse(cursor, &before));
		q.before = &before;
		CHECK(++pages < 10000);
	} while (sum.more);
	return pages;
}

static void rising(void)
{
	for (size_t i = 1; i < n_seen; i++) {
		const struct run_log_place *a = &seen[i].at, *b = &seen[i - 1].at;
		int job = strcmp(a->job, b->job);

		CHECK(a->ms < b->ms ||
		      (a->ms == b->ms &&
		       (job < 0 || (job == 0 && (a->attempt < b->attempt ||
						 (a->attempt == b->attempt && a->offset < b->offset))))));
	}
}

void test_run_log__times_are_read_as_they_are_written(void)
{
	char text[CLK_TEXT_MAX];
	int64_t ms, at;

	for (int64_t i = -3000; i < 30000; i++) {
		at = i * 86399999 * 3 + i;
		clk_text(at, text);
		CHECK(clk_parse(text, strlen(text), &ms));
		CHECK_EQ(ms, at);
	}
	CHECK(!clk_parse("2026-11-21T04:54:44.911", 23, &ms));
	CHECK(!clk_parse("2026-13-21T04:54:44.911Z", 24, &ms));
	CHECK(!clk_parse("2026-11-21 04:54:44.911Z", 24, &ms));
	CHECK(!clk_parse("2026-11-21T0x:54:44.911Z", 24, &ms));
}

void test_run_log__lines_of_all_attempts_stand_in_order_of_time(void)
{
	struct run_log_sum sum;
	FILE *f;

	dir = test_tmpdir();
	f = log_open(RUN ".1.dpo.0.0", 1);
	say(f, T0, "a");
	fputs("  goes on\n\n", f);
	say(f, T0 + 20, "c");
	fclose(f);
	f = log_open(RUN ".1.dpo.0.0", 2);
	say(f, T0 + 20, "d");
	fputs("not yet a whole li", f);
	fclose(f);
	f = log_open(RUN ".1.judge.0.0", 1);
	fputs("before any time\n", f);
	say(f, T0 + 10, "b");
	fclose(f);
	CHECK_EQ(all_pages((struct run_log_query){0}, 1 << 20), 1);
	static const char *const want[] = {"not yet a whole li", "d", "c", "b", "", "  goes on", "a",
					   "before any time"};
	CHECK_EQ(n_seen, 8);
	for (size_t i = 0; i < 8; i++)
		CHECK(str_ends(seen[i].text, want[i]));
	CHECK_EQ(seen[0].at.ms, T0 + 20);
	CHECK_EQ(seen[5].at.ms, T0);
	CHECK_EQ(seen[7].at.ms, 0);
	rising();
	CHECK_EQ(all_pages((struct run_log_query){0}, 1), 8);
	CHECK_EQ(n_seen, 8);
	rising();
	all_pages((struct run_log_query){.job = RUN ".1.judge.0.0"}, 1000);
	CHECK_EQ(n_seen, 2);
	all_pages((struct run_log_query){.stage = "dpo"}, 1000);
	CHECK_EQ(n_seen, 6);
	all_pages((struct run_log_query){.stage = "dp"}, 1000);
	CHECK_EQ(n_seen, 0);
	all_pages((struct run_log_query){.needle = "info"}, 1000);
	CHECK_EQ(n_seen, 4);
	all_pages((struct run_log_query){.needle = "INFO", .exact = true}, 1000);
	CHECK_EQ(n_seen, 0);
	struct run_log_query none = {.data_dir = dir, .run = "rnone", .bytes = 100, .see = see};
	CHECK_RC(run_log(&none, &sum, &e), RC_OK);
	CHECK(!sum.more && sum.sources == 0);
}

static bool collect(void *ctx, const char *data, size_t len)
{
	buf_append(ctx, data, len);
	return true;
}

static struct buf whole(struct run_log_query q)
{
	struct buf b = BUF_INIT;

	q.data_dir = dir;
	q.run = RUN;
	CHECK_RC(run_log_write(&q, collect, &b, &e), RC_OK);
	return b;
}

static bool one_piece(void *ctx, const char *data, size_t len)
{
	(void)data;
	(void)len;
	return ++*(int *)ctx < 3;
}

void test_run_log__the_whole_as_a_file(void)
{
	struct run_log_query gone = {.data_dir = "/nowhere", .run = RUN};
	struct buf b;
	FILE *f;
	int n = 0;

	dir = test_tmpdir();
	f = log_open(RUN ".1.dpo.0.0", 1);
	fputs("2025-11-21T15:46:40.000Z a\n  goes on\n\n2025-11-21T15:46:40.020Z c\n", f);
	fclose(f);
	f = log_open(RUN ".1.dpo.0.0", 2);
	fputs("2025-11-21T15:46:40.020Z d\nnot yet a whole li", f);
	fclose(f);
	f = log_open(RUN ".1.judge.0.0", 1);
	fputs("before any time\n2025-11-21T15:46:40.010Z b\n", f);
	fclose(f);
	b = whole((struct run_log_query){0});
	CHECK_STR(b.data,
		  "1.judge.0.0#1 before any time\n1.dpo.0.0#1 2025-11-21T15:46:40.000Z a\n"
		  "1.dpo.0.0#1   goes on\n1.dpo.0.0#1 \n1.judge.0.0#1 2025-11-21T15:46:40.010Z b\n"
		  "1.dpo.0.0#1 2025-11-21T15:46:40.020Z c\n1.dpo.0.0#2 2025-11-21T15:46:40.020Z d\n"
		  "1.dpo.0.0#2 not yet a whole li\n");
	buf_release(&b);
	b = whole((struct run_log_query){.stage = "dpo", .needle = "goes"});
	CHECK_STR(b.data, "1.dpo.0.0#1   goes on\n");
	buf_release(&b);
	CHECK_RC(run_log_write(&gone, one_piece, &n, &e), RC_OK);
	CHECK_EQ(n, 0);
	gone.data_dir = dir;
	CHECK_RC(run_log_write(&gone, one_piece, &n, &e), RC_OK); /* Its reader has left. */
	CHECK_EQ(n, 3);
}

/* Taken apart by file it is the files again, and times rise. */
static void is_whole(size_t total)
{
	struct buf b = whole((struct run_log_query){0}), back[FILES] = {BUF_INIT};
	int64_t last = 0, t;
	size_t sum = 0;

	for (char *p = b.data, *end; p < b.data + b.len; p = end + 1) {
		int file = 2 * (p[8] - '0') + p[12] - '1'; /* 1.judge.N.0#M */

		end = strchr(p, '\n');
		CHECK(end && file >= 0 && file < FILES);
		buf_append(&back[file], p + 14, (size_t)(end + 1 - p - 14));
		if (clk_parse(p + 14, (size_t)(end - p - 14), &t)) {
			CHECK(t >= last);
			last = t;
		}
	}
	for (int i = 0; i < FILES; i++) {
		char path[512];
		struct buf file = BUF_INIT;

		str_fmt(path, sizeof path, "%s/logs/" RUN "/" RUN ".1.judge.%d.0/%d.log", dir,
			i / 2, 1 + i % 2);
		CHECK_RC(fs_read(path, 1 << 24, &file, &e), RC_OK);
		CHECK(file.len == back[i].len && !memcmp(file.data, back[i].data, file.len));
		sum += file.len;
		buf_release(&file);
		buf_release(&back[i]);
	}
	CHECK_EQ(sum, total);
	buf_release(&b);
}

/* Many files with random gaps, equal times, lines without a time and lines that are too long:
 * whatever the size of the pages, every byte comes once and in order. */
void test_run_log__pages_of_any_size_hold_every_byte_once(void)
{
	struct rng rng;
	size_t total = 0, sum, n_all = 0;
	int pages = 0;
	FILE *f;

	dir = test_tmpdir();
	rng_open(&rng, 7, 0, 0, 0, 0);
	for (int i = 0; i < FILES; i++) {
		char job[64];
		int64_t t = T0 + i * 1000;

		str_fmt(job, sizeof job, RUN ".1.judge.%d.0", i / 2);
		f = log_open(job, 1 + i % 2);
		for (int k = 0; k < LINES; k++) {
			char *filler = mem_new(60000);
			size_t len = k % 97 == 50 ? 50000 : rng_u32(&rng) % 80;

			memset(filler, 'x', len);
			t += rng_u32(&rng) % 3 ? rng_u32(&rng) % 300 : 0;
			if (rng_u32(&rng) % 4)
				say(f, t, filler);
			else
				fprintf(f, "%s\n", filler);
			free(filler);
		}
		total += (size_t)ftell(f);
		fclose(f);
	}
	for (size_t bytes = 1; bytes < 3000000; bytes *= 61) {
		pages = all_pages((struct run_log_query){0}, bytes);
		rising();
		sum = 0;
		for (size_t i = 0; i < n_seen; i++)
			sum += seen[i].len;
		/* Newlines are left out, and pieces of a long line have none. */
		CHECK(sum < total && sum + FILES * LINES >= total);
		CHECK(n_all == 0 || n_seen == n_all);
		n_all = n_seen;
		CHECK(bytes > 1 || pages == (int)n_seen);
	}
	CHECK(n_all >= FILES * LINES);
	is_whole(total);
}

void test_run_log__cursors_from_strangers_are_refused(void)
{
	static const char *const bad[] = {"", "1", "1:2", "1:2:3", "1:2:3:", "x:2:3:" RUN ".1.dpo.0.0",
					  "1:2:3:../../etc.1.1.1", "1:-2:3:" RUN ".1.dpo.0.0",
					  "1:2:99999999:" RUN ".1.dpo.0.0"};
	struct run_log_place p;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK(!run_log_cursor_parse(bad[i], &p));
	CHECK(run_log_cursor_parse("1:2:3:" RUN ".1.dpo.0.0", &p));
	CHECK_EQ(p.offset, 2);
}
