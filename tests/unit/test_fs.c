#include "base/fs.h"

#include "base/str.h"

#include "tests/test.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *tmp(const char *name)
{
	static char path[2][PATH_MAX];
	static int turn;
	char *p = path[turn ^= 1];

	str_fmt(p, PATH_MAX, "%s/%s", test_tmpdir(), name);
	return p;
}

static void limit_file_bytes(rlim_t n)
{
	struct rlimit r = {n, n};

	signal(SIGXFSZ, SIG_IGN);
	CHECK(!setrlimit(RLIMIT_FSIZE, &r));
}

static size_t count(const char *dir)
{
	char **names;
	size_t n;

	CHECK_EQ(fs_list(dir, &names, &n, NULL), RC_OK);
	fs_list_free(names);
	return n;
}

void test_fs__write_replaces_whole_files(void)
{
	struct err e;
	struct buf b = BUF_INIT;
	const char *p = tmp("f");

	CHECK_RC(fs_write_durable(p, "one", 3, &e), RC_OK);
	CHECK_RC(fs_write_durable(p, "second", 6, &e), RC_OK);
	CHECK_RC(fs_read(p, 100, &b, &e), RC_OK);
	CHECK_STR(b.data, "second");
	CHECK_EQ(count(test_tmpdir()), 1);
	CHECK_RC(fs_read(p, 5, &b, &e), RC_INVALID);
	CHECK_RC(fs_read(tmp("none"), 5, &b, &e), RC_NOTFOUND);
	CHECK_RC(fs_read(test_tmpdir(), 5, &b, &e), RC_INVALID);
	buf_release(&b);
}

void test_fs__full_disk_leaves_the_old_file(void)
{
	struct err e;
	struct buf b = BUF_INIT;
	static char big[100000];
	const char *p = tmp("f");

	CHECK_RC(fs_write_durable(p, "old", 3, &e), RC_OK);
	limit_file_bytes(50000);
	CHECK_RC(fs_write_durable(p, big, sizeof(big), &e), RC_FULL);
	CHECK_RC(fs_read(p, 100, &b, &e), RC_OK);
	CHECK_STR(b.data, "old");
	CHECK_EQ(count(test_tmpdir()), 1);
	CHECK_RC(fs_append_durable(p, big, sizeof(big), &e), RC_FULL);
	CHECK_EQ(fs_size(p), 3);
	buf_release(&b);
}

void test_fs__append_and_copy(void)
{
	struct err e;
	struct buf b = BUF_INIT;

	CHECK_RC(fs_append_durable(tmp("log"), "a\n", 2, &e), RC_OK);
	CHECK_RC(fs_append_durable(tmp("log"), "b\n", 2, &e), RC_OK);
	CHECK_RC(fs_copy(tmp("log"), tmp("copy"), &e), RC_OK);
	CHECK_RC(fs_read(tmp("copy"), 100, &b, &e), RC_OK);
	CHECK_STR(b.data, "a\nb\n");
	CHECK_RC(fs_copy(tmp("none"), tmp("copy2"), &e), RC_NOTFOUND);
	CHECK(!fs_exists(tmp("copy2")));
	buf_release(&b);
}

void test_fs__remove_tree_never_follows_links(void)
{
	struct err e;

	CHECK_RC(fs_mkdirs(tmp("d/e/f"), &e), RC_OK);
	CHECK_RC(fs_mkdirs(tmp("d/e/f"), &e), RC_OK);
	CHECK_RC(fs_write_durable(tmp("d/e/f/x"), "x", 1, &e), RC_OK);
	CHECK_RC(fs_mkdirs(tmp("keep"), &e), RC_OK);
	CHECK_RC(fs_write_durable(tmp("keep/x"), "x", 1, &e), RC_OK);
	CHECK(!symlink(tmp("keep"), tmp("d/link")));
	CHECK_RC(fs_remove_tree(tmp("d"), &e), RC_OK);
	CHECK(!fs_exists(tmp("d")));
	CHECK(fs_exists(tmp("keep/x")));
	CHECK_RC(fs_remove_tree(tmp("d"), &e), RC_OK);
	CHECK_RC(fs_mkdirs(tmp("keep/x"), &e), RC_CONFLICT);
}

void test_fs__list_is_sorted_and_map_reads(void)
{
	struct err e;
	struct fs_map m;
	char **names;
	size_t n;

	CHECK_RC(fs_write_durable(tmp("b"), "hello", 5, &e), RC_OK);
	CHECK_RC(fs_write_durable(tmp("a"), "", 0, &e), RC_OK);
	CHECK_RC(fs_write_durable(tmp("C"), "", 0, &e), RC_OK);
	CHECK_RC(fs_list(test_tmpdir(), &names, &n, &e), RC_OK);
	CHECK_EQ(n, 3);
	CHECK_STR(names[0], "C");
	CHECK_STR(names[2], "b");
	CHECK(!names[3]);
	fs_list_free(names);
	CHECK_RC(fs_map(tmp("b"), &m, &e), RC_OK);
	CHECK(m.size == 5 && !memcmp(m.data, "hello", 5));
	fs_unmap(&m);
	CHECK_RC(fs_map(tmp("a"), &m, &e), RC_OK);
	CHECK(!m.data && !m.size);
	CHECK_RC(fs_map(test_tmpdir(), &m, &e), RC_INVALID);
	CHECK(fs_free_bytes(test_tmpdir()) > 0);
	CHECK_EQ(fs_size(tmp("none")), -1);
}

void test_fs__commit_moves_or_removes(void)
{
	struct err e;

	CHECK_RC(fs_write_durable(tmp("t"), "x", 1, &e), RC_OK);
	CHECK_RC(fs_commit(tmp("t"), tmp("final"), &e), RC_OK);
	CHECK(!fs_exists(tmp("t")) && fs_exists(tmp("final")));
	CHECK_RC(fs_write_durable(tmp("t"), "x", 1, &e), RC_OK);
	CHECK_RC(fs_commit(tmp("t"), tmp("nodir/final"), &e), RC_NOTFOUND);
	CHECK(!fs_exists(tmp("t")));
}
