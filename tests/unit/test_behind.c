/* Writing behind: every byte once, in order, with the digests of the whole and of its members,
 * wherever the threads begin. */
#include "store/behind.h"

#include "base/fs.h"
#include "base/str.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define SIZE ((int64_t)21 << 20)

static struct err e;
static char *bytes;

static void make_bytes(void)
{
	bytes = malloc(SIZE);
	for (int64_t i = 0; i < SIZE; i++)
		bytes[i] = (char)((uint64_t)i * 2654435761u >> 19);
}

static int create(char path[PATH_MAX])
{
	str_fmt(path, PATH_MAX, "%s/file", test_tmpdir());
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
	CHECK(fd >= 0);
	return fd;
}

static void check_digest(struct sha256 *s, int64_t from, int64_t to)
{
	uint8_t digest[SHA256_SIZE];
	char got[SHA256_HEX_SIZE], want[SHA256_HEX_SIZE];

	sha256_end(s, digest);
	sha256_hex(digest, got);
	sha256_of(bytes + from, (size_t)(to - from), want);
	CHECK_STR(got, want);
}

/* [from, to) in steps of their own. */
static void give(struct behind *b, int64_t from, int64_t to, int64_t step, bool member)
{
	for (int64_t at = from; at < to; at += step)
		CHECK_EQ(behind_put(b, bytes + at, (size_t)(to - at < step ? to - at : step),
				    member),
			 0);
}

/* Members at [m[0], m[1]) and [m[2], m[3]); the threads come at byte `begin`. */
static void write_through(int64_t begin, const int64_t m[4], int64_t step)
{
	char path[PATH_MAX];
	struct sha256 all, member, none;
	struct buf back = BUF_INIT;
	bool inside = begin > m[0];
	int fd = create(path);

	CHECK_EQ(write(fd, bytes, (size_t)begin), begin);
	sha256_init(&all);
	sha256_init(&none);
	member = none;
	sha256_add(&all, bytes, (size_t)begin);
	if (inside)
		sha256_add(&member, bytes + m[0], (size_t)(begin - m[0]));
	struct behind *b = behind_new(fd, begin, &all, inside ? &member : NULL);
	CHECK(b);
	if (!inside)
		give(b, begin, m[0], step, false);
	give(b, inside ? begin : m[0], m[1], step, true);
	behind_member(b, &member);
	check_digest(&member, m[0], m[1]);
	give(b, m[1], m[2], step, false);
	give(b, m[2], m[3], step, true);
	behind_member(b, &member);
	check_digest(&member, m[2], m[3]);
	give(b, m[3], SIZE, step, false);
	CHECK_EQ(behind_end(b, &all), 0);
	check_digest(&all, 0, SIZE);
	behind_free(b);
	close(fd);
	CHECK_RC(fs_read(path, SIZE + 1, &back, &e), RC_OK);
	CHECK(back.len == SIZE && !memcmp(back.data, bytes, SIZE));
	buf_release(&back);
}

void test_behind__every_byte_once_with_its_digests(void)
{
	static const int64_t members[][4] = {
		{512, 9 << 20, 9 << 20, (9 << 20) + 3},
		{4096, (5 << 20) + 77, (6 << 20) + 1, SIZE - 1024},
		{4096, 4096, 5000, SIZE},
	};
	static const int64_t steps[] = {1 << 20, 100003, SIZE};

	make_bytes();
	for (size_t i = 0; i < 3; i++)
		for (size_t k = 0; k < 3; k++) {
			write_through(0, members[i], steps[k]);
			if (members[i][1] > 70001)
				write_through(70001, members[i], steps[k]);
		}
	free(bytes);
}

void test_behind__a_full_disk_is_told_and_stays(void)
{
	char path[PATH_MAX];
	struct sha256 all;
	struct rlimit r = {5 << 20, 5 << 20};
	int fd = create(path), failed = 0;

	make_bytes();
	signal(SIGXFSZ, SIG_IGN);
	CHECK(!setrlimit(RLIMIT_FSIZE, &r));
	sha256_init(&all);
	struct behind *b = behind_new(fd, 0, &all, NULL);
	CHECK(b);
	for (int i = 0; i < 40 && !failed; i++)
		failed = behind_put(b, bytes, 1 << 20, false);
	CHECK_EQ(failed, EFBIG);
	CHECK_EQ(behind_put(b, bytes, 1, false), EFBIG);
	CHECK_EQ(behind_end(b, &all), EFBIG);
	behind_free(b);
	/* Given up with most of it unwritten. */
	b = behind_new(fd, 0, &all, NULL);
	(void)behind_put(b, bytes, 3 << 20, false);
	behind_free(b);
	behind_free(NULL);
	close(fd);
	free(bytes);
}
