/* Attempt logs: offsets make appends safe to repeat; ids cannot leave the folder. */
#include "server/logs.h"
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOB "r7k2.1.dpo.0.0"

void test_server_logs__appends_continue_or_are_refused(void)
{
	const char *dir = test_tmpdir();
	struct err e = {0};
	int64_t size, from;
	struct buf b = BUF_INIT;

	CHECK_RC(logs_append(dir, JOB, 1, 0, "hello ", 6, &size, &e), RC_OK);
	CHECK_RC(logs_append(dir, JOB, 1, 6, "world", 5, &size, &e), RC_OK);
	CHECK_EQ(size, 11);
	CHECK_RC(logs_append(dir, JOB, 1, 6, "world", 5, &size, &e), RC_OK); /* repeated */
	CHECK_EQ(size, 11);
	CHECK_RC(logs_append(dir, JOB, 1, 6, "world!", 6, &size, &e), RC_OK); /* overlaps */
	CHECK_EQ(size, 12);
	CHECK_RC(logs_append(dir, JOB, 1, 20, "x", 1, &size, &e), RC_CONFLICT);
	CHECK_EQ(size, 12);
	CHECK_RC(logs_read(dir, JOB, 1, -6, 100, &b, &from, &size, &e), RC_OK);
	CHECK_STR(b.data, "world!");
	CHECK_EQ(from, 6);
	buf_clear(&b);
	CHECK_RC(logs_read(dir, JOB, 1, 2, 3, &b, &from, &size, &e), RC_OK);
	CHECK_STR(b.data, "llo");
	buf_clear(&b);
	CHECK_RC(logs_read(dir, JOB, 1, 99, 3, &b, &from, &size, &e), RC_OK);
	CHECK_EQ(b.len, 0);
	CHECK_EQ(from, 12);
	CHECK_RC(logs_read(dir, JOB, 2, 0, 3, &b, &from, &size, &e), RC_OK);
	CHECK_EQ(size, 0);
	buf_release(&b);
}

void test_server_logs__ids_are_plain(void)
{
	char run[16];

	CHECK(job_id_valid(JOB, run));
	CHECK_STR(run, "r7k2");
	CHECK(!job_id_valid("../../etc/passwd", NULL));
	CHECK(!job_id_valid("r1.0.sft.0", NULL) && !job_id_valid("r1.0.sft.0.0.0", NULL));
	CHECK(!job_id_valid("r1..sft.0.0", NULL) && !job_id_valid("r1.0.s/t.0.0", NULL));
	CHECK(!job_id_valid("", NULL) && !job_id_valid("r", NULL) &&
	      !job_id_valid("x1.0.sft.0.0", NULL));
	CHECK(run_id_valid("r7k2f9") && !run_id_valid("r../x") && !run_id_valid("7k2") &&
	      !run_id_valid("r"));
}

struct found {
	int n;
	int64_t offset[8];
	char text[8][32];
};

static void note(void *ctx, int64_t offset, const char *line, size_t len)
{
	struct found *f = ctx;

	CHECK(f->n < 8);
	f->offset[f->n] = offset;
	snprintf(f->text[f->n++], 32, "%.*s", (int)(len < 31 ? len : 31), line);
}

static struct found look(const char *needle, bool exact, int64_t from, int64_t limit, int64_t *next)
{
	struct found f = {0};
	struct logs_search s = {needle, exact, from, limit, note, &f, 0, 0};
	struct err e = {0};

	CHECK_RC(logs_find(test_tmpdir(), "r1.0.sft.0.0", 1, &s, &e), RC_OK);
	*next = s.next;
	return f;
}

void test_server_logs__search_gives_lines_with_their_offsets(void)
{
	static const char text[] = "one\nTwo loss=1\nthree\ntwo two\n\nlast loss";
	int64_t size, next;
	struct err e = {0};
	struct found f;

	CHECK_EQ(look("x", false, 0, 9, &next).n, 0); /* nothing was written */
	CHECK_EQ(next, -1);
	CHECK_RC(logs_append(test_tmpdir(), "r1.0.sft.0.0", 1, 0, text, strlen(text), &size, &e), RC_OK);
	f = look("two", false, 0, 9, &next);
	CHECK_EQ(f.n, 2); /* a line counts once */
	CHECK_EQ(f.offset[0], 4);
	CHECK_STR(f.text[0], "Two loss=1");
	CHECK_EQ(f.offset[1], 21);
	CHECK_EQ(next, -1);
	CHECK_EQ(look("two", true, 0, 9, &next).n, 1);
	f = look("loss", false, 0, 1, &next);
	CHECK_EQ(f.n, 1);
	CHECK_EQ(next, 15);
	f = look("loss", false, next, 1, &next);
	CHECK_STR(f.text[0], "last loss");
	CHECK_EQ(next, -1);
	CHECK_EQ(look("absent", false, 0, 9, &next).n, 0);
}

void test_server_logs__search_sees_lines_across_pieces(void)
{
	size_t n = (1 << 20) - 5;
	char *text = malloc(n + 64);
	int64_t size, next;
	struct err e = {0};
	struct found f;

	memset(text, 'x', n);
	for (size_t i = 99; i < n; i += 100)
		text[i] = '\n';
	text[n - 1] = '\n';
	memcpy(text + n, "the needle lies over the seam\n", 30);
	CHECK_RC(logs_append(test_tmpdir(), "r1.0.sft.0.0", 1, 0, text, n + 30, &size, &e), RC_OK);
	f = look("needle", false, 0, 9, &next);
	CHECK_EQ(f.n, 1);
	CHECK_EQ(f.offset[0], (int64_t)n);
	CHECK_STR(f.text[0], "the needle lies over the seam");
	free(text);
}
