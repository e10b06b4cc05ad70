/* Weights are mapped where they lie in the archive: the same tensors, nothing copied. */
#include "base/fs.h"
#include "base/str.h"
#include "store/artifact.h"
#include "store/safetensors.h"
#include "tests/s3_fixture.h"
#include "tests/test.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct err e;
static float weights[3][5000];

static void write_shard(const char *dir, const char *file, int i)
{
	char path[PATH_MAX], name[8];
	struct st_tensor t = {.name = name, .dtype = ST_F32, .ndim = 1, .shape = {5000}};

	for (int k = 0; k < 5000; k++)
		weights[i][k] = (float)(i * 10000 + k);
	str_fmt(name, sizeof name, "w%d", i);
	t.data = weights[i];
	t.size_bytes = sizeof weights[i];
	str_fmt(path, sizeof path, "%s/%s", dir, file);
	CHECK_RC(st_write(path, &t, 1, NULL, &e), RC_OK);
}

/* A model of three shards and an index. */
static void make_model(const char *dir)
{
	static const char index[] = "{\"weight_map\":{\"w0\":\"model-00001-of-00003.safetensors\","
				    "\"w1\":\"model-00002-of-00003.safetensors\","
				    "\"w2\":\"model-00003-of-00003.safetensors\"}}";
	char path[PATH_MAX], name[64];

	CHECK_RC(fs_mkdirs(dir, &e), RC_OK);
	for (int i = 0; i < 3; i++) {
		str_fmt(name, sizeof name, "model-%05d-of-00003.safetensors", i + 1);
		write_shard(dir, name, i);
	}
	str_fmt(path, sizeof path, "%s/model.safetensors.index.json", dir);
	CHECK_RC(fs_write_durable(path, index, sizeof index - 1, &e), RC_OK);
	str_fmt(path, sizeof path, "%s/config.json", dir);
	CHECK_RC(fs_write_durable(path, "{}", 2, &e), RC_OK);
}

static void publish(struct store *s, const char *kind, const char *dir, struct artifact_ref *ref)
{
	struct artifact_writer *w;
	char tmp[PATH_MAX];

	CHECK_RC(store_tmp(s, tmp, sizeof tmp, &e), RC_OK);
	CHECK_RC(artifact_begin(kind, tmp, &w, &e), RC_OK);
	CHECK_RC(artifact_add_dir(w, dir, &e), RC_OK);
	CHECK_RC(artifact_publish(w, NULL, s, ref, &e), RC_OK);
}

static void check_model(const char *dir)
{
	struct st *st;
	char name[8];

	CHECK_RC(st_open(dir, &st, &e), RC_OK);
	CHECK_EQ(st_count(st), 3);
	for (int i = 0; i < 3; i++) {
		str_fmt(name, sizeof name, "w%d", i);
		const struct st_tensor *t = st_find(st, name);
		CHECK(t && t->size_bytes == sizeof weights[i]);
		CHECK(!memcmp(t->data, weights[i], sizeof weights[i]));
		CHECK_EQ((uintptr_t)t->data % 4096, 0);
	}
	st_close(st);
}

static bool has(const char *dir, const char *name)
{
	char path[PATH_MAX];

	str_fmt(path, sizeof path, "%s/%s", dir, name);
	return fs_exists(path);
}

void test_mapped__a_model_is_read_from_its_archive(void)
{
	char dir[600], out[600], whole[600], url[600], path[PATH_MAX];
	struct artifact_ref ref;
	struct store *s;
	struct st *st;

	str_fmt(url, sizeof url, "%s/store", test_tmpdir());
	str_fmt(dir, sizeof dir, "%s/model", test_tmpdir());
	str_fmt(out, sizeof out, "%s/mapped", test_tmpdir());
	str_fmt(whole, sizeof whole, "%s/whole", test_tmpdir());
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	make_model(dir);
	publish(s, "checkpoint", dir, &ref);
	CHECK_RC(artifact_unpack_mapped(s, ref.digest, out, &e), RC_OK);
	CHECK(has(out, "config.json") && has(out, "model.safetensors.index.json"));
	CHECK(!has(out, "model-00001-of-00003.safetensors"));
	check_model(out);
	CHECK_RC(artifact_unpack(s, ref.digest, whole, &e), RC_OK);
	CHECK(has(whole, "model-00001-of-00003.safetensors"));
	check_model(whole);
	/* One file can be opened by its name as well. */
	str_fmt(path, sizeof path, "%s/model-00002-of-00003.safetensors", out);
	CHECK_RC(st_open(path, &st, &e), RC_OK);
	CHECK(st_find(st, "w1"));
	st_close(st);
	/* Cut below what is pointed to, or gone: said so, not read. */
	CHECK_RC(store_path(s, ref.digest, path, sizeof path, &e), RC_OK);
	CHECK_EQ(chmod(path, 0644), 0);
	CHECK_EQ(truncate(path, 30000), 0);
	CHECK_RC(st_open(out, &st, &e), RC_CORRUPT);
	CHECK_EQ(unlink(path), 0);
	CHECK_RC(st_open(out, &st, &e), RC_NOTFOUND);
	CHECK(strstr(e.text, ref.digest));
	store_close(s);
}

/* Only checkpoints are aligned; and what a bucket lends is a copy that goes. */
void test_mapped__anything_else_is_unpacked(void)
{
	char dir[600], out[600], url[600];
	struct artifact_ref ref;
	struct store *s;

	str_fmt(url, sizeof url, "%s/store", test_tmpdir());
	str_fmt(dir, sizeof dir, "%s/model", test_tmpdir());
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	make_model(dir);
	publish(s, "train_state", dir, &ref);
	str_fmt(out, sizeof out, "%s/state", test_tmpdir());
	CHECK_RC(artifact_unpack_mapped(s, ref.digest, out, &e), RC_OK);
	CHECK(has(out, "model-00001-of-00003.safetensors"));
	store_close(s);
	s3_fixture_start(url, sizeof url);
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	publish(s, "checkpoint", dir, &ref);
	str_fmt(out, sizeof out, "%s/fetched", test_tmpdir());
	CHECK_RC(artifact_unpack_mapped(s, ref.digest, out, &e), RC_OK);
	CHECK(has(out, "model-00001-of-00003.safetensors"));
	check_model(out);
	store_close(s);
}

/* A member of such a name would have us read a file of this machine. */
void test_mapped__no_artifact_points_out_of_itself(void)
{
	char dir[600], out[600], url[600];
	struct artifact_writer *w;
	struct artifact_ref ref;
	struct store *s;
	char tmp[PATH_MAX];
	static const char at[] = "{\"file\":\"/etc/passwd\",\"offset\":0,\"size\":10}";

	str_fmt(url, sizeof url, "%s/store", test_tmpdir());
	str_fmt(dir, sizeof dir, "%s/model", test_tmpdir());
	str_fmt(out, sizeof out, "%s/out", test_tmpdir());
	CHECK_RC(store_open(url, true, &s, &e), RC_OK);
	CHECK_RC(store_tmp(s, tmp, sizeof tmp, &e), RC_OK);
	CHECK_RC(artifact_begin("checkpoint", tmp, &w, &e), RC_OK);
	CHECK_RC(artifact_add_mem(w, "model.safetensors.at", at, sizeof at - 1, &e), RC_OK);
	CHECK_RC(artifact_publish(w, NULL, s, &ref, &e), RC_OK);
	CHECK_RC(artifact_unpack(s, ref.digest, out, &e), RC_CORRUPT);
	CHECK_RC(artifact_unpack_mapped(s, ref.digest, out, &e), RC_CORRUPT);
	CHECK(!has(out, "model.safetensors.at"));
	store_close(s);
}
