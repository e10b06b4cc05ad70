/* Model directories written for others: every weight type, one file and several, the same bytes
 * when done again, and nothing left behind when refused. */
#include "tests/kern_util.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/str.h"
#include "store/volume.h"
#include "worker/model/dtype.h"
#include "worker/model/model_export.h"
#include "worker/model/model_source.h"

#include <unistd.h>

static struct err e;

static struct model *make_model(bool tied, bool bias)
{
	const struct model_config c = {.vocab = 37,
				       .dim = 24,
				       .n_layers = 3,
				       .n_heads = 4,
				       .n_kv_heads = 2,
				       .head_dim = 6,
				       .ffn_dim = 20,
				       .max_pos = 64,
				       .rope_theta = 1e6f,
				       .rms_eps = 1e-5f,
				       .tied = tied,
				       .qkv_bias = bias,
				       .bos_id = 1,
				       .pad_id = -1,
				       .eos_ids = {2, 3},
				       .n_eos = 2};
	struct model_config named = c;
	struct model *m = NULL;
	uint32_t seed = 3;

	str_copy(named.arch, sizeof named.arch, bias ? "qwen2" : "llama");
	CHECK_RC(model_new(&named, &m, &e), RC_OK);
	for (int i = 0; i < m->n_tensors; i++)
		for (size_t k = 0; k < tensor_size(&m->tensors[i]); k++)
			m->params[m->tensors[i].offset + k] = number(&seed);
	return m;
}

/* A path in the test's folder; static storage of eight. */
static const char *path_of(const char *name)
{
	static char paths[8][700];
	static int next;
	char *p = paths[next++ % 8];

	str_fmt(p, sizeof paths[0], "%s/%s", test_tmpdir(), name);
	return p;
}

static void check_same_folder(const char *a, const char *b)
{
	char **x, **y, file[1200];
	size_t n, m;

	CHECK_RC(fs_list(a, &x, &n, &e), RC_OK);
	CHECK_RC(fs_list(b, &y, &m, &e), RC_OK);
	CHECK_EQ(n, m);
	CHECK(n >= 3);
	for (size_t i = 0; i < n; i++) {
		struct buf p = BUF_INIT, q = BUF_INIT;

		CHECK_STR(x[i], y[i]);
		str_fmt(file, sizeof file, "%s/%s", a, x[i]);
		CHECK_RC(fs_read(file, 1 << 24, &p, &e), RC_OK);
		str_fmt(file, sizeof file, "%s/%s", b, y[i]);
		CHECK_RC(fs_read(file, 1 << 24, &q, &e), RC_OK);
		CHECK(p.len == q.len && memcmp(p.data, q.data, p.len) == 0);
		buf_release(&p);
		buf_release(&q);
	}
	fs_list_free(x);
	fs_list_free(y);
}

/* Loaded weights are those of m rounded to the type, tensor by tensor. */
static void check_weights(const struct model *m, const char *dir, enum st_dtype t)
{
	struct model *n = NULL;

	CHECK_RC(model_load(dir, &n, &e), RC_OK);
	CHECK_EQ(n->n_tensors, m->n_tensors);
	CHECK(n->cfg.tied == m->cfg.tied && n->cfg.n_eos == 2 && n->cfg.rope_theta == 1e6f);
	for (int i = 0; i < m->n_tensors; i++)
		for (size_t k = 0; k < tensor_size(&m->tensors[i]); k++) {
			float want = m->params[m->tensors[i].offset + k];
			uint16_t half[2];

			if (t != ST_F32) {
				CHECK_EQ(dtype_narrow(half, &want, t, 1), 1);
				dtype_widen(&want, half, t, 1);
			}
			CHECK(n->params[n->tensors[i].offset + k] == want);
		}
	model_free(n);
}

/* model_save -> export -> export, and export -> load -> save -> export: the same folder. */
static void check_chain(bool tied, bool bias, enum st_dtype t, size_t shard)
{
	struct model *m = make_model(tied, bias), *n = NULL;
	const struct export_opts o = {t, shard};
	struct export_report r;

	fs_remove_tree(test_tmpdir(), &e);
	CHECK_RC(model_save(m, path_of("saved"), &e), RC_OK);
	CHECK_RC(model_export(path_of("saved"), path_of("one"), &o, &r, &e), RC_OK);
	CHECK_EQ(r.total_bytes, m->n_weights * st_dtype_size(t));
	CHECK(shard > r.total_bytes ? r.n_files == 1 : r.n_files > 1);
	check_weights(m, path_of("one"), t);
	CHECK_RC(model_export(path_of("one"), path_of("two"), &o, NULL, &e), RC_OK);
	check_same_folder(path_of("one"), path_of("two"));
	CHECK_RC(model_load(path_of("one"), &n, &e), RC_OK);
	CHECK_RC(model_save(n, path_of("saved2"), &e), RC_OK);
	CHECK_RC(model_export(path_of("saved2"), path_of("three"), &o, NULL, &e), RC_OK);
	check_same_folder(path_of("one"), path_of("three"));
	model_free(m);
	model_free(n);
}

void test_model_export__same_weights_and_same_bytes_again(void)
{
	static const enum st_dtype types[] = {ST_F32, ST_BF16, ST_F16};

	for (int k = 0; k < 3; k++) {
		check_chain(true, false, types[k], EXPORT_SHARD_BYTES);
		check_chain(false, true, types[k], 5000);
		check_chain(false, false, types[k], 1); /* every tensor by itself */
	}
}

void test_model_export__shards_keep_to_their_size(void)
{
	struct model *m = make_model(false, true);
	const struct export_opts o = {ST_BF16, 4000};
	struct export_report r;
	char name[64];

	CHECK_RC(model_save(m, path_of("m"), &e), RC_OK);
	CHECK_RC(model_export(path_of("m"), path_of("out"), &o, &r, &e), RC_OK);
	for (int i = 1; i <= r.n_files; i++) {
		struct st *st = NULL;
		size_t bytes = 0;

		str_fmt(name, sizeof name, "out/model-%05d-of-%05d.safetensors", i, r.n_files);
		CHECK_RC(st_open(path_of(name), &st, &e), RC_OK);
		for (size_t k = 0; k < st_count(st); k++)
			bytes += st_at(st, k)->size_bytes;
		CHECK(bytes > 0 && bytes <= 4000);
		CHECK_STR(st_metadata(st, "format"), "pt");
		st_close(st);
	}
	model_free(m);
}

static void check_refused(const char *from, const char *to, enum st_dtype t, enum rc want,
			  const char *why)
{
	const struct export_opts o = {t, EXPORT_SHARD_BYTES};
	char tmp[800];

	CHECK_RC(model_export(from, to, &o, NULL, &e), want);
	if (!strstr(e.text, why))
		CHECK_STR(e.text, why);
	str_fmt(tmp, sizeof tmp, "%s.pawl-tmp", to);
	CHECK(!fs_exists(tmp));
}

void test_model_export__refusals_leave_nothing(void)
{
	struct model *m = make_model(true, false);
	const struct export_opts o = {ST_F32, EXPORT_SHARD_BYTES};

	m->params[m->layers[1].w2 + 7] = 65520;
	CHECK_RC(model_save(m, path_of("m"), &e), RC_OK);
	check_refused(
		path_of("m"), path_of("out"), ST_F16, RC_INVALID,
		"model.layers.1.mlp.down_proj.weight: element 7 is 65520, which overflows F16");
	CHECK(!fs_exists(path_of("out")));
	check_refused(path_of("m"), path_of("m"), ST_F32, RC_CONFLICT, "not an empty folder");
	check_refused(path_of("m"), path_of("m/config.json"), ST_F32, RC_CONFLICT, "exists");
	check_refused(path_of("none"), path_of("out"), ST_F32, RC_NOTFOUND, "config.json");
	CHECK_RC(fs_mkdirs(path_of("empty"), &e), RC_OK);
	CHECK_RC(fs_mkdirs(path_of("empty.pawl-tmp/left"), &e), RC_OK); /* of one that died */
	CHECK_RC(model_export(path_of("m"), path_of("empty"), &o, NULL, &e), RC_OK);
	check_weights(m, path_of("empty"), ST_F32);
	CHECK(!fs_exists(path_of("empty.pawl-tmp")) && !fs_exists(path_of("empty/left")));
	m->params[m->norm_out] = INFINITY;
	CHECK_RC(model_save(m, path_of("inf"), &e), RC_OK);
	check_refused(path_of("inf"), path_of("out"), ST_BF16, RC_INVALID, "model.norm.weight");
	CHECK(!fs_exists(path_of("out")));
	model_free(m);
}

/* Replaces the first `from` in a file of the exported model by `to`, tries to load, puts it back.
 */
static void check_edited(const char *file, const char *from, const char *to, const char *why)
{
	struct buf b = BUF_INIT, edited = BUF_INIT;
	struct model_source s;
	char path[800], *at;

	str_copy(path, sizeof path, path_of(file));
	CHECK_RC(fs_read(path, 1 << 20, &b, &e), RC_OK);
	buf_putc(&b, 0);
	at = strstr(b.data, from);
	CHECK(at);
	buf_append(&edited, b.data, (size_t)(at - b.data));
	buf_puts(&edited, to);
	buf_puts(&edited, at + strlen(from));
	CHECK_RC(fs_write_durable(path, edited.data, edited.len, &e), RC_OK);
	CHECK(model_source_open(path_of("out"), &s, &e) != RC_OK);
	if (!strstr(e.text, why))
		CHECK_STR(e.text, why);
	CHECK_RC(fs_write_durable(path, b.data, b.len - 1, &e), RC_OK);
	CHECK_RC(model_source_open(path_of("out"), &s, &e), RC_OK);
	model_source_close(&s);
	buf_release(&b);
	buf_release(&edited);
}

void test_model_export__broken_shards_are_refused(void)
{
	static const char index[] = "out/model.safetensors.index.json";
	struct model *m = make_model(false, false);
	const struct export_opts o = {ST_F32, 17000};
	struct export_report r;
	struct model_source s;

	CHECK_RC(model_save(m, path_of("m"), &e), RC_OK);
	CHECK_RC(model_export(path_of("m"), path_of("out"), &o, &r, &e), RC_OK);
	CHECK_EQ(r.n_files, 3);
	check_edited(index, "\"lm_head.weight\"", "\"model.norm.weight\"", "duplicate");
	check_edited(index, "\"lm_head.weight\"", "\"lm_tail.weight\"", "lm_");
	check_edited(index, "00003-of", "00001-of", "another file than the index says");
	check_edited(index, "model-00002-of-00003.safetensors", "../m/model.safetensors",
		     "not a plain file name");
	CHECK_EQ(unlink(path_of("out/model-00002-of-00003.safetensors")), 0);
	CHECK_RC(model_source_open(path_of("out"), &s, &e), RC_NOTFOUND);
	CHECK(strstr(e.text, "model-00002-of-00003.safetensors"));
	model_free(m);
}

/* What a trainer saves of a large model: files that fit into volumes. The same weights as in one file,
 * and the same export. */
void test_model_export__saved_in_several_files(void)
{
	struct model *m = make_model(false, true);
	const struct export_opts o = {ST_BF16, 4000};
	struct model_source s;
	char name[64];

	CHECK_RC(model_save(m, path_of("whole"), &e), RC_OK);
	CHECK(fs_exists(path_of("whole/model.safetensors")));
	volume_bytes_set(10000);
	CHECK_EQ(volume_tensor_bytes(), 9844);
	CHECK_RC(model_save(m, path_of("several"), &e), RC_OK);
	CHECK(!fs_exists(path_of("several/model.safetensors")));
	CHECK_RC(model_source_open(path_of("several"), &s, &e), RC_OK);
	int n = (int)st_files(s.files);
	CHECK(n > 2);
	model_source_close(&s);
	check_weights(m, path_of("several"), ST_F32);
	CHECK_RC(model_export(path_of("whole"), path_of("one"), &o, NULL, &e), RC_OK);
	CHECK_RC(model_export(path_of("several"), path_of("two"), &o, NULL, &e), RC_OK);
	check_same_folder(path_of("one"), path_of("two"));
	str_fmt(name, sizeof name, "several/model-%05d-of-%05d.safetensors", n, n);
	CHECK_EQ(truncate(path_of(name), 5000), 0);
	CHECK_RC(model_source_open(path_of("several"), &s, &e), RC_CORRUPT);
	CHECK(strstr(e.text, strchr(name, '/')));
	CHECK_EQ(unlink(path_of(name)), 0);
	CHECK_RC(model_source_open(path_of("several"), &s, &e), RC_NOTFOUND);
	CHECK(strstr(e.text, strchr(name, '/')));
	model_free(m);
}
