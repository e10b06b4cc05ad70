/* Attempt logs: offsets make appends safe to repeat; ids cannot leave the folder. */
#include "server/logs.h"
#include "tests/test.h"

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
