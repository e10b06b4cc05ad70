#include "store/store.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "store/artifact.h"

#include "tests/test.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *tmp(const char *name)
{
	static char path[4][PATH_MAX];
	static unsigned turn;
	char *p = path[turn++ % 4];

	str_fmt(p, PATH_MAX, "%s/%s", test_tmpdir(), name);
	return p;
}

static struct store *fresh(void)
{
	struct err e;
	struct store *s;
	char url[PATH_MAX];

	str_fmt(url, sizeof(url), "file://%s/store", test_tmpdir());
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	return s;
}

static enum rc publish(struct store *s, const void *data, size_t len, struct artifact_ref *ref,
		       struct err *e)
{
	struct artifact_writer *w;
	char path[PATH_MAX];
	enum rc rc = store_tmp(s, path, sizeof(path), e);

	if (!rc)
		rc = artifact_begin("dataset", path, &w, e);
	if (rc)
		return rc;
	rc = artifact_add_mem(w, "data.jsonl", data, len, e);
	if (rc) {
		artifact_abort(w);
		return rc;
	}
	return artifact_publish(w, NULL, s, ref, e);
}

void test_store__open_needs_a_store_or_leave_to_make_one(void)
{
	struct err e;
	struct store *s, *again;
	char url[PATH_MAX];

	str_fmt(url, sizeof(url), "file://%s/store", test_tmpdir());
	CHECK_RC(store_open(url, false, &s, &e), RC_NOTFOUND);
	CHECK_RC(store_open("ftp://bucket", true, &s, &e), RC_UNSUPPORTED);
	CHECK_RC(store_open("file://relative", true, &s, &e), RC_INVALID);
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	CHECK_RC(store_open(url + 7, false, &again, &e), RC_OK);
	CHECK_STR(store_id(s), store_id(again));
	CHECK_EQ(strlen(store_id(s)), 32);
	store_close(again);
	store_close(s);
	CHECK_EQ(fs_write_durable(tmp("store/store.json"), "{\"format\":9,\"id\":\"x\"}", 21, &e),
		 RC_OK);
	CHECK_RC(store_open(url, true, &s, &e), RC_UNSUPPORTED);
}

void test_store__publish_read_unpack(void)
{
	struct err e;
	struct store *s = fresh();
	struct artifact_ref a, b;
	struct buf out = BUF_INIT;
	int64_t size;

	CHECK_RC(publish(s, "{}\n", 3, &a, &e), RC_OK);
	CHECK_RC(publish(s, "{}\n", 3, &b, &e), RC_OK);
	CHECK_STR(a.digest, b.digest);
	CHECK_RC(store_has(s, a.digest, &size, &e), RC_OK);
	CHECK_EQ(size, a.size);
	CHECK_RC(artifact_read_member(s, a.digest, "data.jsonl", &out, 100, &e), RC_OK);
	CHECK_STR(out.data, "{}\n");
	CHECK_RC(artifact_read_member(s, a.digest, "data.jsonl", &out, 2, &e), RC_INVALID);
	CHECK_RC(artifact_read_member(s, a.digest, "nope", &out, 100, &e), RC_NOTFOUND);
	CHECK_RC(artifact_unpack(s, a.digest, tmp("out"), &e), RC_OK);
	CHECK_EQ(fs_size(tmp("out/data.jsonl")), 3);
	CHECK_RC(artifact_verify(s, a.digest, &e), RC_OK);
	CHECK_RC(store_fetch_file(s, a.digest, tmp("copy.tar"), &e), RC_OK);
	CHECK_EQ(fs_size(tmp("copy.tar")), a.size);
	a.digest[0] = a.digest[0] == 'a' ? 'b' : 'a';
	CHECK_RC(store_has(s, a.digest, NULL, &e), RC_NOTFOUND);
	CHECK_RC(artifact_verify(s, a.digest, &e), RC_NOTFOUND);
	CHECK_RC(store_has(s, "../../etc/passwd", NULL, &e), RC_INVALID);
	CHECK_RC(store_has(s, "", NULL, &e), RC_INVALID);
	buf_release(&out);
	store_close(s);
}

void test_store__a_rotten_blob_is_refused_and_healed(void)
{
	struct err e;
	struct store *s = fresh();
	struct artifact_ref a;
	char path[PATH_MAX];

	CHECK_RC(publish(s, "{}\n", 3, &a, &e), RC_OK);
	CHECK_RC(store_path(s, a.digest, path, sizeof(path), &e), RC_OK);
	CHECK(!chmod(path, 0644));
	int fd = open(path, O_RDWR);
	CHECK_EQ(pwrite(fd, "X", 1, 512), 1);
	close(fd);
	CHECK_RC(artifact_verify(s, a.digest, &e), RC_CORRUPT);
	CHECK_RC(store_fetch_file(s, a.digest, tmp("copy.tar"), &e), RC_CORRUPT);
	CHECK(!fs_exists(tmp("copy.tar")));
	CHECK_RC(publish(s, "{}\n", 3, &a, &e), RC_OK);
	CHECK_RC(artifact_verify(s, a.digest, &e), RC_OK);
	store_close(s);
}

void test_store__documents(void)
{
	struct err e;
	struct store *s = fresh();
	json_t *v = json_pack("{s:i}", "a", 1), *got;
	char **names;
	size_t n;

	CHECK_RC(store_doc_put(s, "runs/r1/record.json", v, &e), RC_OK);
	CHECK_RC(store_doc_get(s, "runs/r1/record.json", &got, &e), RC_OK);
	CHECK(json_equal(v, got));
	json_decref(got);
	CHECK_RC(store_doc_get(s, "runs/r2/record.json", &got, &e), RC_NOTFOUND);
	CHECK_RC(store_doc_put(s, "../x.json", v, &e), RC_INVALID);
	CHECK_RC(store_doc_put(s, "/x.json", v, &e), RC_INVALID);
	CHECK_RC(store_doc_put(s, "runs/x.txt", v, &e), RC_INVALID);
	CHECK_RC(store_doc_put(s, "runs/r0/record.json", v, &e), RC_OK);
	CHECK_RC(store_doc_list(s, "runs/", &names, &n, &e), RC_OK);
	CHECK_EQ(n, 2);
	CHECK_STR(names[0], "r0");
	fs_list_free(names);
	CHECK_RC(store_doc_list(s, "jobs/none/", &names, &n, &e), RC_OK);
	CHECK_EQ(n, 0);
	fs_list_free(names);
	json_decref(v);
	store_close(s);
}

void test_store__appended_lines_survive_a_torn_tail(void)
{
	struct err e;
	struct store *s = fresh();
	json_t *v = json_pack("{s:i}", "a", 1), *lines;
	const char *doc = "runs/r1/decisions.jsonl";

	CHECK_RC(store_doc_lines(s, doc, &lines, &e), RC_OK);
	CHECK_EQ(json_array_size(lines), 0);
	json_decref(lines);
	CHECK_RC(store_doc_append(s, doc, v, &e), RC_OK);
	CHECK_RC(store_doc_append(s, doc, v, &e), RC_OK);
	CHECK_EQ(fs_append_durable(tmp("store/docs/runs/r1/decisions.jsonl"), "{\"a\":", 5, &e),
		 RC_OK);
	CHECK_RC(store_doc_lines(s, doc, &lines, &e), RC_OK);
	CHECK_EQ(json_array_size(lines), 2);
	json_decref(lines);
	CHECK_RC(store_doc_append(s, doc, v, &e), RC_OK);
	CHECK_RC(store_doc_lines(s, doc, &lines, &e), RC_OK);
	CHECK_EQ(json_array_size(lines), 3);
	json_decref(lines);
	CHECK_EQ(fs_write_durable(tmp("store/docs/runs/r1/decisions.jsonl"), "{oops\n{}\n", 9, &e),
		 RC_OK);
	CHECK_RC(store_doc_lines(s, doc, &lines, &e), RC_CORRUPT);
	CHECK(strstr(e.text, "record 1"));
	json_decref(v);
	store_close(s);
}

static void append_some(int who)
{
	struct err e;
	struct store *s = fresh();

	for (int i = 0; i < 30; i++) {
		json_t *v = json_pack("{s:i,s:i}", "who", who, "i", i);
		CHECK_RC(store_doc_append(s, "runs/r1/decisions.jsonl", v, &e), RC_OK);
		json_decref(v);
	}
	_exit(0);
}

void test_store__two_servers_append_to_one_document(void)
{
	struct err e;
	struct store *s = fresh();
	json_t *lines;
	pid_t pid[2];
	int status;

	for (int i = 0; i < 2; i++)
		if (!(pid[i] = fork()))
			append_some(i);
	for (int i = 0; i < 2; i++)
		CHECK(waitpid(pid[i], &status, 0) == pid[i] && status == 0);
	CHECK_RC(store_doc_lines(s, "runs/r1/decisions.jsonl", &lines, &e), RC_OK);
	CHECK_EQ(json_array_size(lines), 60);
	json_decref(lines);
	store_close(s);
}

void test_store__killed_while_publishing_leaves_whole_blobs_only(void)
{
	struct err e;
	struct store *s = fresh();
	static char data[300000];
	char **dirs, **names;
	size_t n, m;

	for (int round = 0; round < 20; round++) {
		pid_t pid = fork();
		if (!pid)
			for (int i = 0;; i++) {
				struct artifact_ref ref;
				memcpy(data, &i, sizeof(i));
				memcpy(data + 8, &round, sizeof(round));
				publish(s, data, sizeof(data), &ref, &e);
			}
		usleep((useconds_t)(3000 + round * 1700));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	CHECK_RC(fs_list(tmp("store/blobs"), &dirs, &n, &e), RC_OK);
	for (size_t i = 0; i < n; i++) {
		char dir[PATH_MAX];
		str_fmt(dir, sizeof(dir), "%s/store/blobs/%s", test_tmpdir(), dirs[i]);
		CHECK_RC(fs_list(dir, &names, &m, &e), RC_OK);
		for (size_t k = 0; k < m; k++) {
			names[k][64] = 0; /* drops ".tar" */
			CHECK_RC(artifact_verify(s, names[k], &e), RC_OK);
		}
		fs_list_free(names);
	}
	fs_list_free(dirs);
	store_close(s);
}

void test_store__full_disk_publishes_nothing(void)
{
	struct err e;
	struct store *s;
	struct artifact_ref ref;
	static char data[900000];
	char **names;
	size_t n;

	CHECK(!mkdir(tmp("small"), 0755));
	if (mount("none", tmp("small"), "tmpfs", 0, "size=1m"))
		SKIP("mounting a small file system needs root");
	CHECK_RC(store_open(tmp("small"), true, &s, &e), RC_OK);
	CHECK_RC(publish(s, data, sizeof(data), &ref, &e), RC_OK);
	data[0] = 1;
	enum rc rc = publish(s, data, sizeof(data), &ref, &e);
	enum rc listed = fs_list(tmp("small/tmp"), &names, &n, &e);
	enum rc old = artifact_verify(s, ref.digest, NULL);
	store_close(s);
	CHECK(!umount(tmp("small")));
	CHECK_EQ(rc, RC_FULL);
	CHECK_EQ(listed, RC_OK);
	CHECK_EQ(n, 0);
	CHECK_EQ(old, RC_OK); /* ref is still the first one's */
	fs_list_free(names);
}

static enum rc fill(void *ctx, int64_t at, void *out, size_t len, struct err *err)
{
	(void)ctx;
	(void)err;
	for (size_t i = 0; i < len; i++)
		((uint8_t *)out)[i] = (uint8_t)((uint64_t)(at + (int64_t)i) * 2654435761u >> 11);
	return RC_OK;
}

/* Large enough to be written and read with the help of threads: what plain reading finds, and a flipped
 * bit is found, with and without the archive's name. */
void test_store__large_artifacts_take_threads(void)
{
	const int64_t size = (20 << 20) + 12345;
	struct artifact_feed feed = {fill, NULL};
	struct err e = {0};
	struct artifact_writer *w;
	struct artifact_ref ref;
	struct artifact *a;
	struct store *s;
	char url[600], tmp[PATH_MAX], path[PATH_MAX], hex[SHA256_HEX_SIZE];
	uint8_t byte;
	int64_t n;

	str_fmt(url, sizeof url, "%s/store", test_tmpdir());
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	CHECK_RC(store_tmp(s, tmp, sizeof tmp, &e), RC_OK);
	CHECK_RC(artifact_begin("checkpoint", tmp, &w, &e), RC_OK);
	CHECK_RC(artifact_add_fed(w, "a.safetensors", size, &feed, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "b", "b", 1, &e), RC_OK);
	CHECK_RC(artifact_publish(w, NULL, s, &ref, &e), RC_OK);
	CHECK_RC(store_path(s, ref.digest, path, sizeof path, &e), RC_OK);
	CHECK_RC(fs_sha256(path, hex, &n, &e), RC_OK);
	CHECK_STR(hex, ref.digest);
	CHECK_EQ(n, ref.size);
	CHECK_RC(artifact_open(s, ref.digest, &a, &e), RC_OK);
	const struct artifact_member *m = artifact_find(a, "a.safetensors");
	CHECK(m && m->size == size && m->offset % 4096 == 0);
	int64_t at = m->offset + size - 7;
	artifact_close(a);
	CHECK_RC(artifact_verify(s, ref.digest, &e), RC_OK);

	CHECK_EQ(chmod(path, 0644), 0);
	int fd = open(path, O_RDWR);
	CHECK(fd >= 0 && pread(fd, &byte, 1, at) == 1);
	byte ^= 4;
	CHECK(pwrite(fd, &byte, 1, at) == 1);
	close(fd);
	CHECK_RC(artifact_open(s, ref.digest, &a, &e), RC_CORRUPT);
	CHECK(strstr(e.text, "a.safetensors"));
	CHECK_RC(artifact_open_file(path, NULL, &a, &e), RC_CORRUPT);
	CHECK_RC(artifact_verify(s, ref.digest, &e), RC_CORRUPT);
	store_close(s);
}
