/* Artifacts of several volumes: one manifest, every byte accounted for, nothing written twice. */
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "server/server.h"
#include "server/volumes.h"
#include "store/artifact.h"
#include "store/gc.h"
#include "store/safetensors.h"
#include "store/tar.h"
#include "tests/s3_fixture.h"
#include "tests/test.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHARDS 4
#define FLOATS 5000
#define VOLUME ((int64_t)128 << 10) /* two shards, with what headers may take */

static struct err e;

static const char *in_tmp(const char *name)
{
	static char path[4][PATH_MAX];
	static unsigned turn;
	char *p = path[turn++ % 4];

	str_fmt(p, PATH_MAX, "%s/%s", test_tmpdir(), name);
	return p;
}

static void put(const char *dir, const char *name, const char *text)
{
	char path[PATH_MAX];

	str_fmt(path, sizeof path, "%s/%s", dir, name);
	CHECK_RC(fs_write_durable(path, text, strlen(text), &e), RC_OK);
}

static void write_shard(const char *dir, int i, float salt)
{
	static float weights[FLOATS];
	char path[PATH_MAX], name[8];
	struct st_tensor t = {.name = name, .dtype = ST_F32, .ndim = 1, .shape = {FLOATS}};

	for (int k = 0; k < FLOATS; k++)
		weights[k] = (float)(i * 10000 + k) + salt;
	str_fmt(name, sizeof name, "w%d", i);
	t.data = weights;
	t.size_bytes = sizeof weights;
	str_fmt(path, sizeof path, "%s/model-%05d-of-%05d.safetensors", dir, i + 1, SHARDS);
	CHECK_RC(st_write(path, &t, 1, NULL, &e), RC_OK);
}

/* A model of four shards, an index and a configuration. */
static void make_model(const char *dir)
{
	struct buf index = BUF_INIT;

	CHECK_RC(fs_mkdirs(dir, &e), RC_OK);
	for (int i = 0; i < SHARDS; i++) {
		write_shard(dir, i, 0);
		buf_printf(&index, "%s\"w%d\":\"model-%05d-of-%05d.safetensors\"",
			   i ? "," : "{\"weight_map\":{", i, i + 1, SHARDS);
	}
	buf_puts(&index, "}}");
	put(dir, "model.safetensors.index.json", index.data);
	put(dir, "config.json", "{}");
	buf_release(&index);
}

static void check_model(const char *dir)
{
	struct st *st;
	char name[8];

	CHECK_RC(st_open(dir, &st, &e), RC_OK);
	CHECK_EQ(st_count(st), SHARDS);
	for (int i = 0; i < SHARDS; i++) {
		str_fmt(name, sizeof name, "w%d", i);
		const struct st_tensor *t = st_find(st, name);
		const float *x = t ? t->data : NULL;

		CHECK(x && (uintptr_t)x % TAR_ALIGN == 0);
		for (int k = 0; k < FLOATS; k++)
			CHECK(x[k] == (float)(i * 10000 + k));
	}
	st_close(st);
}

static void write_to(const char *path, const char *dir, int64_t max, struct artifact_ref *ref)
{
	struct artifact_writer *w;

	CHECK_RC(artifact_begin("checkpoint", path, &w, &e), RC_OK);
	artifact_volume_max(w, max);
	CHECK_RC(artifact_add_dir(w, dir, &e), RC_OK);
	CHECK_RC(artifact_finish(w, NULL, ref, &e), RC_OK);
}

static void publish(struct store *s, const char *dir, int64_t max, struct artifact_ref *ref)
{
	struct artifact_writer *w;
	char tmp[PATH_MAX];

	CHECK_RC(store_tmp(s, tmp, sizeof tmp, &e), RC_OK);
	CHECK_RC(artifact_begin("checkpoint", tmp, &w, &e), RC_OK);
	artifact_volume_max(w, max);
	CHECK_RC(artifact_add_dir(w, dir, &e), RC_OK);
	CHECK_RC(artifact_publish(w, NULL, s, ref, &e), RC_OK);
}

static struct store *a_store(const char *name)
{
	char url[PATH_MAX];
	struct store *s;

	str_fmt(url, sizeof url, "%s/%s", test_tmpdir(), name);
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	return s;
}

static size_t files_in(const char *dir)
{
	char **names;
	size_t n;

	CHECK_RC(fs_list(dir, &names, &n, &e), RC_OK);
	fs_list_free(names);
	return n;
}

/* What there was before there were volumes, byte for byte. */
void test_volumes__what_fits_into_one_archive_is_one(void)
{
	struct artifact_writer *w;
	struct artifact_ref ref, same;
	struct artifact *a;
	json_t *volumes;

	CHECK_RC(artifact_begin("checkpoint", in_tmp("a.tar"), &w, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "config.json", "{}", 2, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "model.safetensors", "weights", 7, &e), RC_OK);
	CHECK_RC(artifact_finish(w, NULL, &ref, &e), RC_OK);
	CHECK_STR(ref.digest, "9ca36e60514d8060eb0ea6cf9e602e9107a3c00d7291c5db038a13639f531ee5");
	CHECK_RC(artifact_open_file(in_tmp("a.tar"), ref.digest, &a, &e), RC_OK);
	CHECK_EQ(a->n_volumes, 0);
	CHECK_EQ(jx_get_i64(a->manifest, "format", 0), 1);
	CHECK_EQ(a->size_bytes, fs_size(in_tmp("a.tar")));
	artifact_close(a);
	CHECK_RC(artifact_volumes(in_tmp("a.tar"), &volumes, &e), RC_OK);
	CHECK_EQ(json_array_size(volumes), 0);
	json_decref(volumes);
	make_model(in_tmp("model"));
	write_to(in_tmp("b.tar"), in_tmp("model"), 0, &ref);
	write_to(in_tmp("c.tar"), in_tmp("model"), 1 << 20, &same);
	CHECK_STR(ref.digest, same.digest);
}

void test_volumes__one_manifest_names_them_all(void)
{
	struct artifact_ref ref, again;
	struct store *s = a_store("store");
	struct artifact *a;
	struct buf text = BUF_INIT;
	int64_t sum = 0, size;

	make_model(in_tmp("model"));
	publish(s, in_tmp("model"), VOLUME, &ref);
	publish(s, in_tmp("model"), VOLUME, &again);
	CHECK_STR(ref.digest, again.digest);
	CHECK_RC(artifact_open(s, ref.digest, &a, &e), RC_OK);
	CHECK_EQ(jx_get_i64(a->manifest, "format", 0), 2);
	CHECK_EQ(a->n_volumes, 2);
	CHECK_EQ(a->n, SHARDS + 2);
	for (size_t i = 0; i < a->n_volumes; i++) {
		CHECK_RC(store_has(s, a->volumes[i].digest, &size, &e), RC_OK);
		CHECK(size == a->volumes[i].size && size <= VOLUME);
		sum += size;
	}
	CHECK_RC(store_has(s, ref.digest, &size, &e), RC_OK);
	CHECK_EQ(ref.size, sum + size);
	CHECK_EQ(a->size_bytes, ref.size);
	CHECK_EQ(artifact_find(a, "config.json")->volume, 0);
	CHECK_EQ(artifact_find(a, "model-00004-of-00004.safetensors")->volume, 1);
	artifact_close(a);
	CHECK_RC(artifact_read_member(s, ref.digest, "config.json", &text, 100, &e), RC_OK);
	CHECK_STR(text.data, "{}");
	buf_release(&text);
	CHECK_RC(artifact_verify(s, ref.digest, &e), RC_OK);
	CHECK_RC(artifact_unpack(s, ref.digest, in_tmp("out"), &e), RC_OK);
	check_model(in_tmp("out"));
	CHECK_EQ(files_in(in_tmp("out")), SHARDS + 2);
	CHECK_EQ(files_in(in_tmp("store/tmp")), 0);
	store_close(s);
}

/* A member larger than a volume is not split. */
void test_volumes__a_large_member_has_one_of_its_own(void)
{
	static char large[200000];
	struct artifact_writer *w;
	struct artifact_ref ref;
	struct artifact *a;

	CHECK_RC(artifact_begin("dataset", in_tmp("a.tar"), &w, &e), RC_OK);
	artifact_volume_max(w, VOLUME);
	CHECK_RC(artifact_add_mem(w, "first", "1", 1, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "large", large, sizeof large, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "last", "3", 1, &e), RC_OK);
	CHECK_RC(artifact_finish(w, NULL, &ref, &e), RC_OK);
	CHECK_RC(artifact_open_file(in_tmp("a.tar"), ref.digest, &a, &e), RC_OK);
	CHECK_EQ(a->n_volumes, 3);
	for (size_t i = 0; i < 3; i++)
		CHECK_EQ(a->members[i].volume, i);
	artifact_close(a);
	/* Where one member is all there is, it and the manifest are one archive all the same. */
	CHECK_RC(artifact_begin("dataset", in_tmp("b.tar"), &w, &e), RC_OK);
	artifact_volume_max(w, VOLUME);
	CHECK_RC(artifact_add_mem(w, "large", large, sizeof large, &e), RC_OK);
	CHECK_RC(artifact_finish(w, NULL, &ref, &e), RC_OK);
	CHECK_RC(artifact_open_file(in_tmp("b.tar"), ref.digest, &a, &e), RC_OK);
	CHECK_EQ(a->n_volumes, 0);
	artifact_close(a);
	/* Given up half-way: nothing is left. */
	CHECK_RC(artifact_begin("dataset", in_tmp("c.tar"), &w, &e), RC_OK);
	artifact_volume_max(w, VOLUME);
	CHECK_RC(artifact_add_mem(w, "large", large, sizeof large, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "more", large, sizeof large, &e), RC_OK);
	CHECK(fs_exists(in_tmp("c.tar.v001")));
	artifact_abort(w);
	CHECK(!fs_exists(in_tmp("c.tar.v001")) && !fs_exists(in_tmp("c.tar")));
}

void test_volumes__each_unpacks_by_itself(void)
{
	struct artifact_ref ref;
	struct tar_index x;
	size_t n = 0;

	make_model(in_tmp("model"));
	write_to(in_tmp("a.tar"), in_tmp("model"), VOLUME, &ref);
	for (int i = 0; i < 3; i++) {
		static const char *const names[] = {"a.tar", "a.tar.v001", "a.tar.v002"};
		int fd = open(in_tmp(names[i]), O_RDONLY);

		CHECK_RC(tar_index(fd, names[i], &x, &e), RC_OK);
		n += x.n;
		tar_index_release(&x);
		close(fd);
	}
	CHECK_EQ(n, SHARDS + 3);
}

void test_volumes__weights_are_mapped_where_they_lie(void)
{
	struct store *s = a_store("store");
	struct artifact_ref ref;
	json_t *volumes;
	char path[PATH_MAX], to[PATH_MAX];

	make_model(in_tmp("model"));
	publish(s, in_tmp("model"), VOLUME, &ref);
	CHECK_RC(artifact_unpack_mapped(s, ref.digest, in_tmp("mapped"), &e), RC_OK);
	CHECK(!fs_exists(in_tmp("mapped/model-00001-of-00004.safetensors")));
	check_model(in_tmp("mapped"));
	/* As a worker has it that fetched them: archives in the folder, which gets another name. */
	CHECK_RC(fs_mkdirs(in_tmp("cache"), &e), RC_OK);
	CHECK_RC(store_fetch_file(s, ref.digest, in_tmp("cache/.archive"), &e), RC_OK);
	CHECK_RC(artifact_volumes(in_tmp("cache/.archive"), &volumes, &e), RC_OK);
	CHECK_EQ(json_array_size(volumes), 2);
	for (size_t i = 0; i < 2; i++) {
		const char *digest = jx_get_str(json_array_get(volumes, i), "digest", "");

		CHECK_RC(artifact_volume_path(in_tmp("cache/.archive"), i, path, sizeof path, &e),
			 RC_OK);
		CHECK_RC(store_fetch_file(s, digest, path, &e), RC_OK);
	}
	json_decref(volumes);
	CHECK_RC(artifact_unpack_file_mapped(in_tmp("cache/.archive"), ref.digest, in_tmp("cache"), &e),
		 RC_OK);
	str_copy(to, sizeof to, in_tmp("moved"));
	CHECK_EQ(rename(in_tmp("cache"), to), 0);
	CHECK_RC(fs_remove_tree(in_tmp("store"), &e), RC_OK);
	check_model(to);
	store_close(s);
}

/* One byte in each of some places of a file; every one is found, by whom verifies and by whom
 * opens. */
static void flip(const char *path, const char *root, const char *digest)
{
	int64_t size = fs_size(path);
	struct artifact *a;
	uint8_t was, byte;
	int fd;

	CHECK_EQ(chmod(path, 0644), 0);
	fd = open(path, O_RDWR);
	for (int64_t at = 0; at < size; at += size / 40 + 1) {
		CHECK_EQ(pread(fd, &was, 1, at), 1);
		byte = was ^ 4;
		CHECK_EQ(pwrite(fd, &byte, 1, at), 1);
		CHECK_RC(artifact_verify_file(root, digest, &e), RC_CORRUPT);
		CHECK_RC(artifact_open_file(root, digest, &a, &e), RC_CORRUPT);
		CHECK_EQ(pwrite(fd, &was, 1, at), 1);
	}
	CHECK_RC(artifact_verify_file(root, digest, &e), RC_OK);
	for (int64_t cut = 0; cut < size; cut += size / 7 / 512 * 512 + 512) {
		struct buf whole = BUF_INIT;

		CHECK_RC(fs_read(path, (size_t)size, &whole, &e), RC_OK);
		CHECK_EQ(ftruncate(fd, cut), 0);
		CHECK_RC(artifact_verify_file(root, digest, &e), RC_CORRUPT);
		CHECK_EQ(pwrite(fd, whole.data, whole.len, 0), (ssize_t)whole.len);
		buf_release(&whole);
	}
	close(fd);
}

void test_volumes__every_flip_is_found(void)
{
	char root[PATH_MAX], one[PATH_MAX], two[PATH_MAX], aside[PATH_MAX];
	struct artifact_ref ref;

	make_model(in_tmp("model"));
	str_copy(root, sizeof root, in_tmp("a.tar"));
	str_copy(one, sizeof one, in_tmp("a.tar.v001"));
	str_copy(two, sizeof two, in_tmp("a.tar.v002"));
	str_copy(aside, sizeof aside, in_tmp("aside"));
	write_to(root, in_tmp("model"), VOLUME, &ref);
	flip(root, root, ref.digest);
	flip(one, root, ref.digest);
	flip(two, root, ref.digest);
	/* In each other's place, or not there. */
	CHECK(!rename(one, aside) && !rename(two, one) && !rename(aside, two));
	CHECK_RC(artifact_verify_file(root, ref.digest, &e), RC_CORRUPT);
	CHECK(!rename(one, aside) && !rename(two, one) && !rename(aside, two));
	CHECK_RC(artifact_verify_file(root, ref.digest, &e), RC_OK);
	CHECK(!rename(two, aside));
	CHECK_RC(artifact_verify_file(root, ref.digest, &e), RC_NOTFOUND);
	CHECK(strstr(e.text, "a.tar.v002"));
}

#define ENTRY(name, volume)                                                                        \
	"{\"path\":\"" name "\",\"size\":2,\"sha256\":\"" ZERO "\",\"volume\":" volume "}"
#define ZERO "0000000000000000000000000000000000000000000000000000000000000000"
#define TWO(members, volumes)                                                                      \
	"{\"format\":2,\"kind\":\"dataset\",\"meta\":{},\"members\":[" members                     \
	"],\"volumes\":" volumes "}"
#define VOLUMES_2 "[{\"digest\":\"" ZERO "\",\"size\":5},{\"digest\":\"" ZERO "\",\"size\":5}]"

void test_volumes__a_manifest_that_lies_is_refused(void)
{
	static const struct {
		const char *text, *says;
	} lies[] = {
		{TWO("", "[]"), "volumes"},
		{TWO("", "3"), "volumes"},
		{TWO("", "[{\"digest\":\"x\",\"size\":5}]"), "no digest"},
		{TWO("", "[{\"digest\":\"" ZERO "\",\"size\":-5}]"), "size"},
		{TWO(ENTRY("a", "2"), VOLUMES_2), "volume"},
		{TWO(ENTRY("a", "1") "," ENTRY("b", "0"), VOLUMES_2), "volume"},
		{TWO(ENTRY("a", "0") "," ENTRY("a", "1"), VOLUMES_2), "\"a\" twice"},
		{TWO("3", VOLUMES_2), "volume"},
	};
	struct artifact *a;
	char hex[SHA256_HEX_SIZE];
	int64_t size;

	for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
		struct tar_writer *w;

		CHECK_RC(tar_create(in_tmp("lie.tar"), &w, &e), RC_OK);
		CHECK_RC(tar_member_begin(w, ARTIFACT_MANIFEST, (int64_t)strlen(lies[i].text),
					  false, &e),
			 RC_OK);
		CHECK_RC(tar_data(w, lies[i].text, strlen(lies[i].text), &e), RC_OK);
		CHECK_RC(tar_member_end(w, hex, &e), RC_OK);
		CHECK_RC(tar_finish(w, false, hex, &size, &e), RC_OK);
		CHECK_RC(artifact_open_file(in_tmp("lie.tar"), hex, &a, &e), RC_CORRUPT);
		CHECK(strstr(e.text, lies[i].says));
	}
}

/* Each shard in a volume of its own; those equal to one of `before` are not written. */
static void write_groups(const char *path, const char *dir, const struct artifact *before,
			 int changed, struct artifact_ref *ref)
{
	struct artifact_writer *w;
	char file[PATH_MAX], name[64];

	CHECK_RC(artifact_begin("checkpoint", path, &w, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "config.json", "{}", 2, &e), RC_OK);
	for (int i = 0; i < SHARDS; i++) {
		str_fmt(name, sizeof name, "model-%05d-of-%05d.safetensors", i + 1, SHARDS);
		str_fmt(file, sizeof file, "%s/%s", dir, name);
		if (before && i != changed) {
			size_t v = artifact_find(before, name)->volume;

			CHECK_RC(artifact_add_volume(w, before, v, &e), RC_OK);
			continue;
		}
		CHECK_RC(artifact_cut(w, &e), RC_OK);
		CHECK_RC(artifact_add_file(w, name, file, &e), RC_OK);
		CHECK_RC(artifact_cut(w, &e), RC_OK);
	}
	CHECK_RC(artifact_finish(w, NULL, ref, &e), RC_OK);
}

void test_volumes__what_did_not_change_is_referenced(void)
{
	struct artifact_ref first, second, whole;
	struct artifact *a, *b;
	struct stat x, y;

	make_model(in_tmp("model"));
	write_groups(in_tmp("a.tar"), in_tmp("model"), NULL, -1, &first);
	CHECK_RC(artifact_peek(in_tmp("a.tar"), &a, &e), RC_OK);
	CHECK_EQ(a->n_volumes, SHARDS + 1);
	write_shard(in_tmp("model"), 2, 0.5f);
	write_groups(in_tmp("b.tar"), in_tmp("model"), a, 2, &second);
	write_groups(in_tmp("c.tar"), in_tmp("model"), NULL, -1, &whole);
	/* The name does not tell how it came about. */
	CHECK_STR(second.digest, whole.digest);
	CHECK(strcmp(first.digest, second.digest) != 0);
	CHECK_RC(artifact_open_file(in_tmp("b.tar"), second.digest, &b, &e), RC_OK);
	for (size_t i = 0; i < b->n_volumes; i++) {
		CHECK(!stat(a->volumes[i].path, &x) && !stat(b->volumes[i].path, &y));
		CHECK(i == 0 || (x.st_ino == y.st_ino) == (i != 3));
		CHECK((strcmp(a->volumes[i].digest, b->volumes[i].digest) != 0) == (i == 3));
	}
	artifact_close(b);
	artifact_close(a);
}

void test_volumes__live_in_a_bucket(void)
{
	char url[512];
	struct artifact_ref ref;
	struct artifact *a;
	struct store *s;

	s3_fixture_start(url, sizeof url);
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	make_model(in_tmp("model"));
	publish(s, in_tmp("model"), VOLUME, &ref);
	CHECK_RC(artifact_open(s, ref.digest, &a, &e), RC_OK);
	CHECK_EQ(a->n_volumes, 2);
	CHECK_RC(artifact_unpack_mapped(s, ref.digest, in_tmp("out"), &e), RC_OK);
	check_model(in_tmp("out"));
	CHECK_RC(artifact_verify(s, ref.digest, &e), RC_OK);
	artifact_close(a);
	store_close(s);
}

/* --- what a worker says of them ----------------------------------------------------------------- */

/* An archive of one member (two, where the second has a name), published. */
static void publish_raw(struct store *s, const char *first, const char *text, const char *second,
			bool shifted, char digest[SHA256_HEX_SIZE])
{
	struct tar_writer *w;
	char tmp[PATH_MAX], hex[SHA256_HEX_SIZE];
	int64_t size;

	CHECK_RC(store_tmp(s, tmp, sizeof tmp, &e), RC_OK);
	CHECK_RC(tar_create(tmp, &w, &e), RC_OK);
	for (int i = 0; i < (second ? 2 : 1); i++) {
		size_t len = i ? 0 : strlen(text);

		CHECK_RC(tar_member_begin(w, i ? second : first, (int64_t)len, shifted, &e), RC_OK);
		CHECK_RC(tar_data(w, text, len, &e), RC_OK);
		CHECK_RC(tar_member_end(w, hex, &e), RC_OK);
	}
	CHECK_RC(tar_finish(w, true, digest, &size, &e), RC_OK);
	CHECK_RC(store_take_named(s, tmp, digest, size, &e), RC_OK);
}

static enum rc say(struct server *srv, const char *digest, json_t *volumes)
{
	json_t *out = json_pack("{s:s, s:o*}", "digest", digest, "volumes", volumes);
	enum rc rc = volumes_check(srv, out, &e);

	json_decref(out);
	return rc;
}

static json_t *without(const json_t *list, size_t i)
{
	json_t *l = json_deep_copy(list);

	json_array_remove(l, i);
	return l;
}

static json_t *with(const json_t *list, size_t i, const char *key, json_t *value)
{
	json_t *l = json_deep_copy(list);

	json_object_set_new(json_array_get(l, i), key, value);
	return l;
}

static void check_lies(struct store *s)
{
	struct server srv = {.store = s};
	struct artifact_ref ref, one;
	json_t *is = NULL, *none = NULL;

	make_model(in_tmp("model"));
	publish(s, in_tmp("model"), VOLUME, &ref);
	publish(s, in_tmp("model"), 0, &one);
	CHECK_RC(artifact_volumes_in(s, ref.digest, &is, &e), RC_OK);
	CHECK_EQ(json_array_size(is), 2);
	CHECK_RC(artifact_volumes_in(s, one.digest, &none, &e), RC_OK);
	CHECK_EQ(json_array_size(none), 0);
	json_decref(none);
	CHECK_RC(say(&srv, ref.digest, json_incref(is)), RC_OK);
	CHECK_RC(say(&srv, one.digest, NULL), RC_OK);
	CHECK_RC(say(&srv, one.digest, json_array()), RC_OK);
	/* Too few, too many, none; another; of another size; twice the same; not even a list. */
	CHECK_RC(say(&srv, ref.digest, NULL), RC_INVALID);
	CHECK_STR(e.text, "volumes: a list of 0, the archive names 2");
	CHECK_RC(say(&srv, ref.digest, without(is, 1)), RC_INVALID);
	CHECK_RC(say(&srv, one.digest, json_incref(is)), RC_INVALID);
	CHECK_STR(e.text, "volumes: a list of 2, the archive names 0");
	CHECK_RC(say(&srv, ref.digest, with(is, 1, "digest", json_string(one.digest))), RC_INVALID);
	CHECK(str_starts(e.text, "volumes[1]: "));
	CHECK_RC(say(&srv, ref.digest, with(is, 0, "size", json_integer(5))), RC_INVALID);
	CHECK(str_starts(e.text, "volumes[0]: "));
	CHECK_RC(say(&srv, ref.digest, with(is, 0, "size", json_null())), RC_INVALID);
	CHECK_RC(say(&srv, ref.digest, json_string("all")), RC_INVALID);
	CHECK_STR(e.text, "volumes: expected a list");
	CHECK_RC(say(&srv, ZERO, NULL), RC_CONFLICT);
	json_decref(is);
}

void test_volumes__a_worker_that_lies_about_them_is_refused(void)
{
	struct store *s = a_store("store");
	struct server srv = {.store = s};
	struct artifact_ref ref;
	json_t *is;
	char path[PATH_MAX];

	check_lies(s);
	/* One that is named and not there. */
	publish(s, in_tmp("model"), VOLUME, &ref);
	CHECK_RC(artifact_volumes_in(s, ref.digest, &is, &e), RC_OK);
	CHECK_RC(store_path(s, jx_get_str(json_array_get(is, 1), "digest", ""), path, sizeof path, &e),
		 RC_OK);
	CHECK(!unlink(path));
	CHECK_RC(say(&srv, ref.digest, is), RC_CONFLICT);
	CHECK(str_starts(e.text, "volumes[1]: "));
	store_close(s);
}

void test_volumes__lies_are_refused_of_a_bucket_as_well(void)
{
	char url[512];
	struct store *s;

	s3_fixture_start(url, sizeof url);
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	check_lies(s);
	store_close(s);
}

/* Whatever a root says of itself: refused without more than its own bytes being read. */
void test_volumes__hostile_roots_are_bounded(void)
{
	struct store *s = a_store("store");
	struct server srv = {.store = s};
	char digest[SHA256_HEX_SIZE], *large = mem_new(ARTIFACT_ROOT_MAX + 1);
	struct artifact *a;
	json_t *two = json_loads(VOLUMES_2, 0, NULL);

	/* Names two that are not there; the right list does not make them be. */
	publish_raw(s, ARTIFACT_MANIFEST, TWO("", VOLUMES_2), NULL, false, digest);
	CHECK_RC(say(&srv, digest, json_incref(two)), RC_CONFLICT);
	CHECK(str_starts(e.text, "volumes[0]: "));
	publish_raw(s, ARTIFACT_MANIFEST, "{\"format\":2", NULL, false, digest);
	CHECK_RC(say(&srv, digest, json_incref(two)), RC_INVALID);
	CHECK(str_starts(e.text, "digest: "));
	publish_raw(s, ARTIFACT_MANIFEST, TWO("", VOLUMES_2), "more", false, digest);
	CHECK_RC(say(&srv, digest, json_incref(two)), RC_INVALID);
	/* Larger than any can be. */
	memset(large, ' ', (size_t)ARTIFACT_ROOT_MAX);
	memcpy(large, TWO("", VOLUMES_2), strlen(TWO("", VOLUMES_2)));
	publish_raw(s, ARTIFACT_MANIFEST, large, NULL, false, digest);
	CHECK_RC(say(&srv, digest, json_incref(two)), RC_INVALID);
	CHECK(strstr(e.text, "to name volumes"));
	CHECK_RC(artifact_open(s, digest, &a, &e), RC_CORRUPT);
	/* Hidden behind something that is no member: nobody will read volumes there. */
	publish_raw(s, ARTIFACT_MANIFEST, TWO("", VOLUMES_2), NULL, true, digest);
	CHECK_RC(say(&srv, digest, json_incref(two)), RC_INVALID);
	CHECK_RC(artifact_open(s, digest, &a, &e), RC_CORRUPT);
	CHECK(strstr(e.text, "begins at byte"));
	/* No archive at all has no volumes. */
	publish_raw(s, "data", "", NULL, false, digest);
	CHECK_RC(say(&srv, digest, NULL), RC_OK);
	json_decref(two);
	free(large);
	store_close(s);
}
