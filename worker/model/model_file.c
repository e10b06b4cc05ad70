/* Weights from and to a Hugging Face model directory. */
#include "worker/model/model_source.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/volume.h"
#include "worker/model/dtype.h"
#include "worker/model/shard.h"

#include <stdlib.h>
#include <string.h>

#define CONFIG_BYTES_MAX (1u << 20)
#define PATH_SIZE 4200

/* Files that travel with the weights, as they are. */
static const char *const companions[] = {
	"generation_config.json",  "tokenizer.json",	 "tokenizer.model", "tokenizer_config.json",
	"special_tokens_map.json", "added_tokens.json",	 "vocab.json",	    "merges.txt",
	"chat_template.jinja",	   "chat_template.json",
};

enum rc model_load(const char *dir, struct model **out, struct err *e)
{
	return model_load_part(dir, 0, 1, out, e);
}

static enum rc load(const char *dir, int rank, int n, bool weights, struct model **out,
		    struct err *e)
{
	struct model_config cfg;
	struct model_source s;
	struct model *m = NULL;
	enum rc rc = model_source_open(dir, &s, e);

	if (rc != RC_OK)
		return rc;
	rc = shard_config(&s.layout->cfg, rank, n, &cfg, e);
	if (rc == RC_OK)
		rc = weights ? model_new(&cfg, &m, e) : model_plan(&cfg, &m, e);
	for (int i = 0; weights && rc == RC_OK && i < m->n_tensors; i++)
		rc = model_source_part(&s, i, &m->tensors[i], 0, tensor_size(&m->tensors[i]),
				       m->params + m->tensors[i].offset, e);
	model_source_close(&s);
	if (rc != RC_OK) {
		model_free(m);
		return err_wrap(e, "model %s", dir);
	}
	str_copy(m->dir, sizeof m->dir, dir);
	*out = m;
	return RC_OK;
}

enum rc model_load_part(const char *dir, int rank, int n, struct model **out, struct err *e)
{
	return load(dir, rank, n, true, out, e);
}

enum rc model_load_layout(const char *dir, int rank, int n, struct model **out, struct err *e)
{
	return load(dir, rank, n, false, out, e);
}

struct st_tensor *model_file_list(const struct model *m)
{
	struct st_tensor *list = mem_array((size_t)m->n_tensors, sizeof *list);

	for (int i = 0; i < m->n_tensors; i++) {
		const struct tensor_ref *t = &m->tensors[i];
		list[i] = (struct st_tensor){.name = t->name,
					     .dtype = ST_F32,
					     .ndim = t->cols ? 2 : 1,
					     .shape = {t->rows, t->cols},
					     .data = m->params ? m->params + t->offset : NULL,
					     .size_bytes = tensor_size(t) * sizeof(float)};
	}
	return list;
}

enum rc model_write_list(const struct st_tensor *list, size_t n, const char *dir, size_t file_max,
			 const struct st_feed *feed, int *n_files, struct err *e)
{
	json_t *meta = json_pack("{s:s}", "format", "pt");
	const struct st_set set = {dir, "model", file_max, meta, feed};
	enum rc rc = st_write_set(&set, list, n, n_files, e);

	json_decref(meta);
	return rc;
}

enum rc model_write_weights(const struct model *m, const char *dir, const struct st_feed *feed,
			    struct err *e)
{
	struct st_tensor *list = model_file_list(m);
	enum rc rc = model_write_list(list, (size_t)m->n_tensors, dir, volume_tensor_bytes(), feed, NULL, e);

	free(list);
	return rc;
}

/* Reals as short as reads back the same; sorted, so that the same value gives the same bytes. */
static char *json_text(const json_t *v)
{
	size_t flags = JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENSURE_ASCII;
	char *text = json_dumps(v, flags | JSON_REAL_PRECISION(15));
	json_t *back = text ? json_loads(text, 0, NULL) : NULL;

	if (!back || !json_equal(back, v)) {
		free(text);
		text = json_dumps(v, flags);
	}
	json_decref(back);
	return text;
}

enum rc model_write_json(const char *dir, const char *name, const json_t *v, struct err *e)
{
	char path[PATH_SIZE];
	struct buf b = BUF_INIT;
	char *text = json_text(v);
	enum rc rc;

	buf_puts(&b, text ? text : "null");
	buf_putc(&b, '\n');
	str_fmt(path, sizeof path, "%s/%s", dir, name);
	rc = fs_write_durable(path, b.data, b.len, e);
	buf_release(&b);
	free(text);
	return rc;
}

enum rc model_save_config(const struct model *m, const char *dir, enum st_dtype dtype,
			  struct err *e)
{
	json_t *config = NULL;
	char path[PATH_SIZE];
	enum rc rc = RC_OK;

	str_fmt(path, sizeof path, "%s/config.json", m->dir);
	if (!m->dir[0])
		config = model_config_json(&m->cfg);
	else if ((rc = jx_load(path, CONFIG_BYTES_MAX, &config, e)) != RC_OK)
		return rc;
	json_object_set_new(config, "torch_dtype", json_string(dtype_torch_name(dtype)));
	if (json_object_get(config, "dtype"))
		json_object_set_new(config, "dtype", json_string(dtype_torch_name(dtype)));
	rc = model_write_json(dir, "config.json", config, e);
	json_decref(config);
	return rc;
}

enum rc model_copy_companions(const char *from_dir, const char *dir, struct err *e)
{
	enum rc rc = RC_OK;

	for (size_t i = 0; rc == RC_OK && i < sizeof companions / sizeof companions[0]; i++) {
		char from[PATH_SIZE], to[PATH_SIZE];

		str_fmt(from, sizeof from, "%s/%s", from_dir, companions[i]);
		str_fmt(to, sizeof to, "%s/%s", dir, companions[i]);
		if (fs_exists(from))
			rc = fs_copy(from, to, e);
	}
	return rc;
}

enum rc model_save_frame(const struct model *m, const char *dir, struct err *e)
{
	enum rc rc = fs_mkdirs(dir, e);

	if (rc == RC_OK)
		rc = model_save_config(m, dir, ST_F32, e);
	if (rc == RC_OK && m->dir[0])
		rc = model_copy_companions(m->dir, dir, e);
	return rc;
}

enum rc model_save(const struct model *m, const char *dir, struct err *e)
{
	enum rc rc = model_save_frame(m, dir, e);

	return rc == RC_OK ? model_write_weights(m, dir, NULL, e) : rc;
}
