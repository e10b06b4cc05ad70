/* The store on S3: on the service of s3_fixture.c, or on the one that PAWL_TEST_S3 names
 * (tests/flow/0700-s3.sh starts one that is not ours). */
#include "store/store.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "store/artifact.h"
#include "tests/s3_fixture.h"

#include "tests/test.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char url[512];

static struct store *fresh(void)
{
	const char *given = getenv("PAWL_TEST_S3");
	struct store *s;
	struct err e = {0};
	uint32_t r;

	if (given) { /* A place of its own in the bucket for each test. */
		random_bytes(&r, sizeof(r));
		setenv("TMPDIR", test_tmpdir(), 1);
		size_t n = strcspn(given, "?");
		str_fmt(url, sizeof(url), "%.*s/%08x%s", (int)n, given, r, given + n);
	} else {
		s3_fixture_start(url, sizeof(url));
	}
	CHECK_RC(store_open(url, false, &s, &e), RC_NOTFOUND);
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	return s;
}

static void write_file(const char *path, char first, size_t len)
{
	struct err e = {0};
	struct buf b = BUF_INIT;

	for (size_t i = 0; i < len; i++)
		buf_putc(&b, (char)(first + i % 251));
	CHECK_RC(fs_write_durable(path, b.data, b.len, &e), RC_OK);
	buf_release(&b);
}

static enum rc gather(void *ctx, const void *data, size_t len, struct err *e)
{
	(void)e;
	buf_append(ctx, data, len);
	return RC_OK;
}

void test_store_s3__blobs(void)
{
	struct store *s = fresh(), *again;
	struct err e = {0};
	char path[PATH_MAX], copy[PATH_MAX], digest[SHA256_HEX_SIZE], other[SHA256_HEX_SIZE];
	struct buf b = BUF_INIT;
	const struct store_sink sink = {gather, &b};
	int64_t size;

	CHECK_RC(store_open(url, true, &again, &e), RC_OK);
	CHECK_STR(store_id(again), store_id(s));
	CHECK_EQ(strlen(store_id(s)), 32);
	store_close(again);
	CHECK_RC(store_tmp(s, path, sizeof(path), &e), RC_OK);
	write_file(path, 'a', 100000);
	CHECK_RC(fs_sha256(path, other, NULL, &e), RC_OK);
	CHECK_RC(store_has(s, other, &size, &e), RC_NOTFOUND);
	CHECK_RC(store_take(s, path, digest, &size, &e), RC_OK);
	CHECK_STR(digest, other);
	CHECK(!fs_exists(path));
	CHECK_RC(store_has(s, digest, &size, &e), RC_OK);
	CHECK_EQ(size, 100000);
	CHECK_RC(store_path(s, digest, path, sizeof(path), &e), RC_UNSUPPORTED);
	/* A file put stays; a digest that is not its own is refused; twice is fine. */
	str_fmt(path, sizeof(path), "%s/mine", test_tmpdir());
	write_file(path, 'b', 70000);
	CHECK_RC(store_put(s, other, path, &e), RC_CORRUPT);
	CHECK_RC(fs_sha256(path, other, NULL, &e), RC_OK);
	CHECK_RC(store_put(s, other, path, &e), RC_OK);
	CHECK_RC(store_put(s, other, path, &e), RC_OK);
	CHECK(fs_exists(path));
	/* Ranges, a copy, and a local file. */
	CHECK_RC(store_read(s, digest, 99990, -1, &sink, &e), RC_OK);
	CHECK_EQ(b.len, 10);
	CHECK_EQ(b.data[0], (char)('a' + 99990 % 251));
	CHECK_RC(store_read(s, digest, 0, 5, &sink, &e), RC_OK);
	CHECK_EQ(b.len, 15);
	CHECK(!memcmp(b.data + 10, "abcde", 5));
	str_fmt(copy, sizeof(copy), "%s/copy", test_tmpdir());
	CHECK_RC(store_fetch_file(s, digest, copy, &e), RC_OK);
	CHECK_EQ(fs_size(copy), 100000);
	CHECK_RC(store_local(s, digest, path, sizeof(path), &e), RC_OK);
	CHECK_EQ(fs_size(path), 100000);
	digest[0] = digest[0] == '0' ? '1' : '0';
	CHECK_RC(store_fetch_file(s, digest, copy, &e), RC_NOTFOUND);
	CHECK_RC(store_local(s, digest, path, sizeof(path), &e), RC_NOTFOUND);
	buf_release(&b);
	store_close(s);
}

void test_store_s3__documents(void)
{
	struct store *s = fresh();
	struct err e = {0};
	json_t *v = json_pack("{s:i}", "a", 1), *got;
	char **names;
	size_t n;

	CHECK_RC(store_doc_get(s, "runs/r1/record.json", &got, &e), RC_NOTFOUND);
	CHECK_RC(store_doc_put(s, "runs/r1/record.json", v, &e), RC_OK);
	CHECK_RC(store_doc_put(s, "runs/r2/record.json", v, &e), RC_OK);
	CHECK_RC(store_doc_get(s, "runs/r1/record.json", &got, &e), RC_OK);
	CHECK(json_equal(v, got));
	json_decref(got);
	CHECK_RC(store_doc_lines(s, "runs/r1/decisions.jsonl", &got, &e), RC_OK);
	CHECK_EQ(json_array_size(got), 0);
	json_decref(got);
	for (int i = 0; i < 12; i++) {
		json_object_set_new(v, "a", json_integer(i));
		CHECK_RC(store_doc_append(s, "runs/r1/decisions.jsonl", v, &e), RC_OK);
	}
	CHECK_RC(store_doc_lines(s, "runs/r1/decisions.jsonl", &got, &e), RC_OK);
	CHECK_EQ(json_array_size(got), 12);
	for (int i = 0; i < 12; i++)
		CHECK_EQ(jx_get_i64(json_array_get(got, (size_t)i), "a", -1), i);
	json_decref(got);
	CHECK_RC(store_doc_list(s, "runs", &names, &n, &e), RC_OK);
	CHECK_EQ(n, 2);
	CHECK_STR(names[0], "r1");
	CHECK_STR(names[1], "r2");
	fs_list_free(names);
	CHECK_RC(store_doc_list(s, "runs/r1/", &names, &n, &e), RC_OK);
	CHECK_EQ(n, 2);
	CHECK_STR(names[0], "decisions.jsonl");
	CHECK_STR(names[1], "record.json");
	fs_list_free(names);
	CHECK_RC(store_doc_list(s, "nothing", &names, &n, &e), RC_OK);
	CHECK_EQ(n, 0);
	fs_list_free(names);
	json_decref(v);
	store_close(s);
}

void test_store_s3__artifacts(void)
{
	struct store *s = fresh();
	struct err e = {0};
	struct artifact_writer *w;
	struct artifact_ref ref;
	struct artifact *a;
	struct buf b = BUF_INIT;
	char path[PATH_MAX];

	CHECK_RC(store_tmp(s, path, sizeof(path), &e), RC_OK);
	CHECK_RC(artifact_begin("dataset", path, &w, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "data.jsonl", "{}\n", 3, &e), RC_OK);
	CHECK_RC(artifact_publish(w, NULL, s, &ref, &e), RC_OK);
	CHECK_RC(artifact_open(s, ref.digest, &a, &e), RC_OK);
	CHECK_EQ(a->n, 1);
	CHECK_RC(artifact_read_member(s, ref.digest, "data.jsonl", &b, 100, &e), RC_OK);
	CHECK_STR(b.data, "{}\n");
	str_fmt(path, sizeof(path), "%s/unpacked", test_tmpdir());
	CHECK_RC(artifact_unpack(s, ref.digest, path, &e), RC_OK);
	CHECK_RC(artifact_verify(s, ref.digest, &e), RC_OK);
	artifact_close(a);
	buf_release(&b);
	store_close(s);
}

void test_store_s3__large_files_in_parts(void)
{
	struct store *s = fresh();
	struct err e = {0};
	char path[PATH_MAX], digest[SHA256_HEX_SIZE];
	int64_t size;

	if (!getenv("PAWL_TEST_S3"))
		SKIP("150 MB are for the service of tests/flow/0700-s3.sh; test_s3 has small "
		     "parts");
	CHECK_RC(store_tmp(s, path, sizeof(path), &e), RC_OK);
	write_file(path, 'c', 150000001);
	CHECK_RC(store_take(s, path, digest, &size, &e), RC_OK);
	CHECK_EQ(size, 150000001);
	CHECK_RC(store_fetch_file(s, digest, path, &e), RC_OK);
	store_close(s);
}
