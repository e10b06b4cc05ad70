/* Reading ahead: the same bytes in order, however they are read. */
#include "store/ahead.h"

#include "base/fs.h"
#include "base/str.h"
#include "tests/test.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct err e;
static const enum ahead_how all[] = {AHEAD_THREAD, AHEAD_ALONE, AHEAD_DIRECT};

static int make(int64_t size, char **bytes)
{
	char path[PATH_MAX];
	int fd;

	*bytes = malloc((size_t)size + 1);
	for (int64_t i = 0; i < size; i++)
		(*bytes)[i] = (char)((uint64_t)i * 2654435761u >> 17);
	str_fmt(path, sizeof path, "%s/file", test_tmpdir());
	CHECK_RC(fs_write_durable(path, *bytes, (size_t)size, &e), RC_OK);
	fd = open(path, O_RDWR);
	CHECK(fd >= 0);
	return fd;
}

static void read_through(int fd, const char *bytes, int64_t from, int64_t to, size_t max,
			 enum ahead_how how)
{
	struct ahead *a;
	const void *data;
	size_t n;

	ahead_open(fd, "file", from, to, how, &a);
	for (int64_t at = from; at < to; at += (int64_t)n) {
		CHECK_RC(ahead_next(a, max, &data, &n, &e), RC_OK);
		CHECK(n > 0 && n <= max && at + (int64_t)n <= to);
		CHECK(!memcmp(data, bytes + at, n));
	}
	ahead_close(a);
}

void test_ahead__gives_every_byte_once(void)
{
	static const int64_t sizes[] = {1, 4096, (1 << 20) + 1, (9 << 20), (12 << 20) + 777};
	char *bytes;

	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		int fd = make(sizes[s], &bytes);

		for (int how = 0; how < 3; how++) {
			read_through(fd, bytes, 0, sizes[s], 1 << 20, all[how]);
			read_through(fd, bytes, 0, sizes[s], 300001, all[how]);
			read_through(fd, bytes, sizes[s] / 3, sizes[s], SIZE_MAX, all[how]);
			read_through(fd, bytes, 0, sizes[s] - sizes[s] / 3, 1 << 20, all[how]);
		}
		close(fd);
		free(bytes);
	}
}

void test_ahead__a_file_that_ends_early_is_told(void)
{
	const int64_t size = 10 << 20;
	const void *data;
	struct ahead *a;
	char *bytes;
	size_t n;
	int fd = make(size, &bytes);

	CHECK_EQ(ftruncate(fd, size - 5000), 0);
	for (int how = 0; how < 3; how++) {
		int64_t got = 0;
		enum rc rc;

		ahead_open(fd, "the file", 0, size, all[how], &a);
		while (!(rc = ahead_next(a, SIZE_MAX, &data, &n, &e)))
			got += (int64_t)n;
		CHECK_RC(rc, RC_CORRUPT);
		CHECK(got <= size - 5000 && strstr(e.text, "the file: ends"));
		ahead_close(a);
	}
	/* Closed while threads are at work. */
	for (int how = 0; how < 3; how++) {
		ahead_open(fd, "file", 0, size - 5000, all[how], &a);
		CHECK_RC(ahead_next(a, 10, &data, &n, &e), RC_OK);
		ahead_close(a);
	}
	close(fd);
	free(bytes);
}
