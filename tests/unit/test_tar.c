/* Archives and artifacts: sameness, every kind of damage, hostile members. */
#include "store/tar.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/proc.h"
#include "base/str.h"
#include "store/artifact.h"

#include "tests/test.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *tmp(const char *name)
{
	static char path[4][PATH_MAX];
	static unsigned turn;
	char *p = path[turn++ % 4];

	str_fmt(p, PATH_MAX, "%s/%s", test_tmpdir(), name);
	return p;
}

static void make(const char *path, const char *kind, struct artifact_ref *ref)
{
	struct err e;
	struct artifact_writer *w;
	static char weights[20001];
	json_t *meta = json_pack("{s:i,s:s}", "rows", 2, "stage", "generate");

	memset(weights, 'w', sizeof(weights));
	CHECK_RC(artifact_begin(kind, path, &w, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "data.jsonl", "{\"a\":1}\n{\"a\":2}\n", 16, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "empty", "", 0, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "a.safetensors", weights, sizeof(weights), &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "b.safetensors", weights, 4096, &e), RC_OK);
	CHECK_RC(artifact_finish(w, meta, ref, &e), RC_OK);
	json_decref(meta);
}

void test_tar__same_content_same_bytes(void)
{
	struct artifact_ref a, b;
	char hex[SHA256_HEX_SIZE];
	int64_t size;

	make(tmp("a"), "checkpoint", &a);
	sleep(1); /* Times must not matter. */
	make(tmp("b"), "checkpoint", &b);
	CHECK_STR(a.digest, b.digest);
	CHECK_EQ(a.size, b.size);
	CHECK_EQ(fs_sha256(tmp("a"), hex, &size, NULL), RC_OK);
	CHECK_STR(hex, a.digest);
	CHECK_EQ(size, a.size);
	/* Pinned: a change of these bytes is a change of format and renames every artifact. */
	make(tmp("c"), "dataset", &b);
	CHECK_EQ(b.size, 29696);
}

void test_tar__weights_are_aligned_in_checkpoints(void)
{
	struct err e;
	struct artifact_ref ref;
	struct artifact *a;

	make(tmp("a"), "checkpoint", &ref);
	CHECK_RC(artifact_open_file(tmp("a"), ref.digest, &a, &e), RC_OK);
	CHECK_EQ(a->n, 4);
	CHECK_STR(a->kind, "checkpoint");
	CHECK_EQ(jx_get_i64(a->meta, "rows", 0), 2);
	CHECK_EQ(artifact_find(a, "a.safetensors")->offset % 4096, 0);
	CHECK_EQ(artifact_find(a, "b.safetensors")->offset % 4096, 0);
	CHECK(!artifact_find(a, "manifest.json"));
	artifact_close(a);
}

void test_tar__tar_program_unpacks_it(void)
{
	struct err e;
	struct artifact_ref ref;
	struct buf out = BUF_INIT;
	int status;

	make(tmp("a.tar"), "checkpoint", &ref);
	struct proc_opts o = {.argv = (const char *const[]){"tar", "tvf", "a.tar", NULL},
			      .dir = test_tmpdir()};
	CHECK_RC(proc_run(&o, NULL, 0, 10000, 5000, &out, &status, &e), RC_OK);
	CHECK_EQ(status, 0);
	CHECK(strstr(out.data, "-rw-r--r-- 0/0 "));
	CHECK(strstr(out.data, "20001 1970-01-01"));
	o.argv = (const char *const[]){"tar", "xf", "a.tar", NULL};
	CHECK_RC(proc_run(&o, NULL, 0, 10000, 5000, &out, &status, &e), RC_OK);
	CHECK_EQ(status, 0);
	CHECK_EQ(fs_size(tmp("a.safetensors")), 20001);
	CHECK_EQ(fs_size(tmp("empty")), 0);
	CHECK(fs_exists(tmp("manifest.json")));
	CHECK(!fs_exists(tmp("pax_global_header")));
	buf_release(&out);
}

void test_tar__every_cut_is_refused(void)
{
	struct err e;
	struct artifact_ref ref;
	struct artifact *a;

	make(tmp("a"), "checkpoint", &ref);
	for (int64_t size = ref.size - 512; size >= 0; size -= 512) {
		CHECK(!truncate(tmp("a"), size));
		CHECK_RC(artifact_open_file(tmp("a"), NULL, &a, &e), RC_CORRUPT);
		CHECK(strstr(e.text, "/a: "));
	}
	make(tmp("a"), "checkpoint", &ref);
	CHECK(!truncate(tmp("a"), ref.size + 512));
	CHECK_RC(artifact_open_file(tmp("a"), NULL, &a, &e), RC_CORRUPT);
	CHECK(strstr(e.text, "512 bytes after the end mark"));
}

void test_tar__every_flipped_byte_is_found(void)
{
	struct err e;
	struct artifact_ref ref;
	int fd;

	make(tmp("a"), "checkpoint", &ref);
	CHECK_RC(artifact_verify_file(tmp("a"), ref.digest, &e), RC_OK);
	CHECK((fd = open(tmp("a"), O_RDWR)) >= 0);
	/* Every region: headers, data, padding, the comment, the manifest, the end mark. */
	for (int64_t at = 0; at < ref.size; at += at % 512 < 8 ? 1 : 61) {
		char c, flipped;
		CHECK_EQ(pread(fd, &c, 1, at), 1);
		flipped = (char)(c ^ 0x10);
		CHECK_EQ(pwrite(fd, &flipped, 1, at), 1);
		CHECK_RC(artifact_verify_file(tmp("a"), ref.digest, &e), RC_CORRUPT);
		CHECK_EQ(pwrite(fd, &c, 1, at), 1);
	}
	CHECK_RC(artifact_verify_file(tmp("a"), ref.digest, &e), RC_OK);
	close(fd);
}

void test_tar__a_flip_in_a_member_names_it_without_the_outer_digest(void)
{
	struct err e;
	struct artifact_ref ref;
	struct artifact *a;

	make(tmp("a"), "dataset", &ref);
	int fd = open(tmp("a"), O_RDWR);
	CHECK_EQ(pwrite(fd, "X", 1, 512 + 3), 1);
	close(fd);
	CHECK_RC(artifact_open_file(tmp("a"), NULL, &a, &e), RC_CORRUPT);
	CHECK(strstr(e.text, "\"data.jsonl\"") && strstr(e.text, "digest"));
	CHECK_RC(artifact_unpack_file(tmp("a"), NULL, tmp("out"), &e), RC_CORRUPT);
	CHECK(!fs_exists(tmp("out")));
}

void test_tar__a_changed_file_is_verified_again(void)
{
	struct err e;
	struct artifact_ref ref;
	struct artifact *a;

	make(tmp("a"), "dataset", &ref);
	CHECK_RC(artifact_open_file(tmp("a"), ref.digest, &a, &e), RC_OK);
	artifact_close(a);
	CHECK_RC(artifact_open_file(tmp("a"), ref.digest, &a, &e), RC_OK);
	artifact_close(a);
	int fd = open(tmp("a"), O_RDWR);
	CHECK_EQ(pwrite(fd, "X", 1, 512 + 3), 1);
	close(fd);
	CHECK_RC(artifact_open_file(tmp("a"), ref.digest, &a, &e), RC_CORRUPT);
}

/* A tar by hand: one header, optional data, end mark. */
static void octal(char *p, int digits, unsigned long v)
{
	for (int i = digits - 1; i >= 0; i--, v >>= 3)
		p[i] = (char)('0' + (v & 7));
}

static void put_header(struct buf *b, const char *name, char type, size_t size, const char *link)
{
	char h[512] = {0};
	unsigned sum = 0;

	str_copy(h, 100, name);
	octal(h + 100, 7, 0644);
	octal(h + 108, 7, 0);
	octal(h + 116, 7, 0);
	octal(h + 124, 11, size);
	octal(h + 136, 11, 0);
	h[156] = type;
	str_copy(h + 157, 100, link);
	memcpy(h + 257, "ustar\00000", 8);
	memset(h + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += (unsigned char)h[i];
	octal(h + 148, 6, sum);
	h[154] = 0;
	buf_append(b, h, 512);
}

static void put_padded(struct buf *b, const char *data)
{
	static const char zeros[512];

	buf_puts(b, data);
	buf_append(b, zeros, (512 - b->len % 512) % 512);
}

static enum rc index_of(struct buf *b, struct err *e)
{
	static const char zeros[1024];
	struct tar_index x;

	buf_append(b, zeros, 1024);
	CHECK_EQ(fs_write_durable(tmp("h"), b->data, b->len, NULL), RC_OK);
	buf_clear(b);
	int fd = open(tmp("h"), O_RDONLY);
	enum rc rc = tar_index(fd, "h", &x, e);
	close(fd);
	tar_index_release(&x);
	return rc;
}

void test_tar__hostile_members_are_refused(void)
{
	struct err e;
	struct buf b = BUF_INIT;
	static const struct {
		const char *name;
		char type;
		const char *link, *why;
	} bad[] = {
		{"../x", '0', "", "plain relative path"},
		{"a/../x", '0', "", "plain relative path"},
		{"/etc/x", '0', "", "plain relative path"},
		{"./x", '0', "", "plain relative path"},
		{"a//x", '0', "", "plain relative path"},
		{"a\\x", '0', "", "plain relative path"},
		{"a\nx", '0', "", "plain relative path"},
		{"x", '1', "y", "is a link"},
		{"x", '2', "/etc/passwd", "is a link"},
		{"x", '3', "", "not a regular file"},
		{"x", '4', "", "not a regular file"},
		{"x", '6', "", "not a regular file"},
		{"x/", '5', "", "plain relative path"},
		{"x", '5', "", "regular file"},
	};

	put_header(&b, "good", '0', 5, "");
	put_padded(&b, "hello");
	CHECK_RC(index_of(&b, &e), RC_OK);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put_header(&b, bad[i].name, bad[i].type, 0, bad[i].link);
		enum rc rc = index_of(&b, &e);
		if (rc != RC_CORRUPT)
			printf("# case %zu passed\n", i);
		CHECK_EQ(rc, RC_CORRUPT);
		if (!strstr(e.text, bad[i].why) && bad[i].type != '5')
			printf("# case %zu: %s\n", i, e.text);
		CHECK(strstr(e.text, bad[i].why) || bad[i].type == '5');
	}
	put_header(&b, "x", '0', 0, "");
	put_header(&b, "x", '0', 0, "");
	CHECK_RC(index_of(&b, &e), RC_CORRUPT);
	CHECK(strstr(e.text, "twice"));
	put_header(&b, "x", '0', 1ul << 32, "");
	CHECK_RC(index_of(&b, &e), RC_CORRUPT);
	CHECK(strstr(e.text, "cut off"));
	put_header(&b, "p", 'x', 40, "");
	put_padded(&b, "40 path=/tmp/zzzzzzzzzzzzzzzzzzzzzzzzzz\n");
	put_header(&b, "x", '0', 0, "");
	CHECK_RC(index_of(&b, &e), RC_CORRUPT);
	buf_append(&b, "not a tar archive", 17);
	CHECK_RC(index_of(&b, &e), RC_CORRUPT);
	buf_release(&b);
}

static enum rc open_with_manifest(const char *manifest, struct err *e)
{
	static const char zeros[1024];
	struct buf b = BUF_INIT;
	struct artifact *a = NULL;

	put_header(&b, "x", '0', 5, "");
	put_padded(&b, "hello");
	put_header(&b, "manifest.json", '0', strlen(manifest), "");
	put_padded(&b, manifest);
	buf_append(&b, zeros, 1024);
	CHECK_EQ(fs_write_durable(tmp("m"), b.data, b.len, NULL), RC_OK);
	buf_release(&b);
	enum rc rc = artifact_open_file(tmp("m"), NULL, &a, e);
	artifact_close(a);
	return rc;
}

#define HELLO "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define MANIFEST(list) "{\"format\":1,\"kind\":\"dataset\",\"meta\":{},\"members\":[" list "]}"

void test_tar__manifest_and_members_must_agree(void)
{
	struct err e;

	CHECK_RC(open_with_manifest(
			 MANIFEST("{\"path\":\"x\",\"size\":5,\"sha256\":\"" HELLO "\"}"), &e),
		 RC_OK);
	CHECK_RC(open_with_manifest(MANIFEST(""), &e), RC_CORRUPT);
	CHECK(strstr(e.text, "1 members, the manifest lists 0"));
	CHECK_RC(open_with_manifest(
			 MANIFEST("{\"path\":\"y\",\"size\":5,\"sha256\":\"" HELLO "\"}"), &e),
		 RC_CORRUPT);
	CHECK_RC(open_with_manifest(
			 MANIFEST("{\"path\":\"x\",\"size\":4,\"sha256\":\"" HELLO "\"}"), &e),
		 RC_CORRUPT);
	CHECK_RC(open_with_manifest(MANIFEST("{\"path\":\"x\",\"size\":5,\"sha256\":\"no\"}"), &e),
		 RC_CORRUPT);
	CHECK_RC(open_with_manifest("{", &e), RC_CORRUPT);
	CHECK_RC(open_with_manifest("[]", &e), RC_CORRUPT);
	CHECK_RC(open_with_manifest("{\"format\":3,\"kind\":\"dataset\",\"meta\":{},\"members\":[]}",
				    &e),
		 RC_CORRUPT);
	CHECK(strstr(e.text, "format"));
}

void test_tar__names_a_writer_refuses(void)
{
	struct err e;
	struct artifact_writer *w;
	struct artifact_ref ref;

	CHECK_RC(artifact_begin("poem", tmp("a"), &w, &e), RC_INVALID);
	CHECK_RC(artifact_begin("dataset", tmp("a"), &w, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "../x", "", 0, &e), RC_INVALID);
	CHECK_RC(artifact_add_mem(w, "manifest.json", "", 0, &e), RC_INVALID);
	CHECK_RC(artifact_add_file(w, "x", test_tmpdir(), &e), RC_INVALID);
	CHECK_RC(artifact_add_file(w, "x", "/dev/null", &e), RC_INVALID);
	CHECK_RC(artifact_finish(w, NULL, &ref, &e), RC_OK);
	CHECK_RC(artifact_begin("dataset", tmp("b"), &w, &e), RC_OK);
	artifact_abort(w);
	CHECK(!fs_exists(tmp("b")));
}

void test_tar__full_disk_leaves_nothing(void)
{
	struct err e;
	struct artifact_writer *w;
	struct artifact_ref ref;
	struct rlimit r = {100000, 100000};
	static char big[60000];

	signal(SIGXFSZ, SIG_IGN);
	CHECK(!setrlimit(RLIMIT_FSIZE, &r));
	CHECK_RC(artifact_begin("checkpoint", tmp("a"), &w, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "one", big, sizeof(big), &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "two", big, sizeof(big), &e), RC_FULL);
	artifact_abort(w);
	CHECK(!fs_exists(tmp("a")));
	CHECK_RC(artifact_begin("checkpoint", tmp("a"), &w, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "one", big, sizeof(big), &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "two", big, 38000, &e), RC_OK);
	CHECK_RC(artifact_finish(w, NULL, &ref, &e), RC_FULL);
	CHECK(!fs_exists(tmp("a")));
}

/* Large enough for a thread that writes: its failure is told too, and nothing of it is left. */
void test_tar__a_large_archive_on_a_full_disk(void)
{
	struct err e;
	struct artifact_writer *w;
	struct artifact_ref ref;
	struct rlimit r = {12500000, 12500000};
	const size_t size = (size_t)9 << 20;
	char *big = calloc(1, size);
	enum rc rc;

	signal(SIGXFSZ, SIG_IGN);
	CHECK(!setrlimit(RLIMIT_FSIZE, &r));
	for (int n = 1; n <= 3; n++) {
		CHECK_RC(artifact_begin("checkpoint", tmp("a"), &w, &e), RC_OK);
		rc = RC_OK;
		for (int i = 0; i < n && !rc; i++)
			rc = artifact_add_mem(w, i ? i > 1 ? "three" : "two" : "one", big, size, &e);
		if (rc)
			artifact_abort(w);
		else
			rc = artifact_finish(w, NULL, &ref, &e);
		CHECK_RC(rc, n == 1 ? RC_OK : RC_FULL);
		CHECK_EQ(fs_exists(tmp("a")), n == 1);
		if (n == 1)
			CHECK_RC(artifact_verify_file(tmp("a"), ref.digest, &e), RC_OK);
		unlink(tmp("a"));
	}
	free(big);
}

/* The same bytes whether few of them are given at a time or many, and whoever writes them. */
void test_tar__pieces_do_not_show(void)
{
	static const size_t steps[] = {777, 65536, 1u << 20, 3u << 20};
	const size_t size = ((size_t)11 << 20) + 321;
	char *big = calloc(1, size), hex[4][SHA256_HEX_SIZE], member[SHA256_HEX_SIZE];
	struct tar_writer *w;
	struct err e;
	int64_t all;

	for (size_t i = 0; i < size; i++)
		big[i] = (char)(i * 2654435761u >> 13);
	for (int k = 0; k < 4; k++) {
		CHECK_RC(tar_create(tmp("a"), &w, &e), RC_OK);
		CHECK_RC(tar_member_begin(w, "x.safetensors", (int64_t)size, true, &e), RC_OK);
		for (size_t at = 0; at < size; at += steps[k])
			CHECK_RC(tar_data(w, big + at, size - at < steps[k] ? size - at : steps[k], &e),
				 RC_OK);
		CHECK_RC(tar_member_end(w, member, &e), RC_OK);
		CHECK_RC(tar_finish(w, true, hex[k], &all, &e), RC_OK);
		CHECK_EQ(all, fs_size(tmp("a")));
		CHECK_STR(hex[k], hex[0]);
		CHECK_RC(fs_sha256(tmp("a"), member, NULL, &e), RC_OK);
		CHECK_STR(member, hex[0]);
	}
	free(big);
}
