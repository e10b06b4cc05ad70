/* Weights from and to a Hugging Face model directory. */
#include "worker/model/model_source.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

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
	struct model_source s;
	struct model *m = NULL;
	enum rc rc = model_source_open(dir, &s, e);

	if (rc != RC_OK)
		return rc;
	rc = model_new(&s.layout->cfg, &m, e);
	for (int i = 0; rc == RC_OK && i < m->n_tensors; i++)
		rc = model_source_read(&s, i, 0, tensor_size(&m->tensors[i]),
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

static enum rc save_weights(const struct model *m, const char *dir, struct err *e)
{
	struct st_tensor *list = mem_array((size_t)m->n_tensors, sizeof *list);
	json_t *meta = json_pack("{s:s}", "format", "pt");
	char path[PATH_SIZE];
	enum rc rc;

	for (int i = 0; i < m->n_tensors; i++) {
		const struct tensor_ref *t = &m->tensors[i];
		list[i] = (struct st_tensor){.name = t->name,
					     .dtype = ST_F32,
					     .ndim = t->cols ? 2 : 1,
					     .shape = {t->rows, t->cols},
					     .data = m->params + t->offset,
					     .size_bytes = tensor_size(t) * sizeof(float)};
	}
	str_fmt(path, sizeof path, "%s/model.safetensors", dir);
	rc = st_write(path, list, (size_t)m->n_tensors, meta, e);
	json_decref(meta);
	free(list);
	return rc;
}

/* The source's config.json with the type of the weights as they are now. */
static enum rc save_config(const struct model *m, const char *dir, struct err *e)
{
	json_t *config = NULL;
	char path[PATH_SIZE];
	char *text;
	enum rc rc;

	if (m->dir[0]) {
		str_fmt(path, sizeof path, "%s/config.json", m->dir);
		rc = jx_load(path, CONFIG_BYTES_MAX, &config, e);
		if (rc != RC_OK)
			return rc;
		json_object_set_new(config, "torch_dtype", json_string("float32"));
		if (json_object_get(config, "dtype"))
			json_object_set_new(config, "dtype", json_string("float32"));
	} else {
		config = model_config_json(&m->cfg);
	}
	str_fmt(path, sizeof path, "%s/config.json", dir);
	text = json_dumps(config, JSON_INDENT(2) | JSON_SORT_KEYS);
	rc = fs_write_durable(path, text, strlen(text), e);
	free(text);
	json_decref(config);
	return rc;
}

enum rc model_save(const struct model *m, const char *dir, struct err *e)
{
	enum rc rc = fs_mkdirs(dir, e);

	if (rc != RC_OK || (rc = save_config(m, dir, e)) != RC_OK)
		return rc;
	for (size_t i = 0; m->dir[0] && i < sizeof companions / sizeof companions[0]; i++) {
		char from[PATH_SIZE], to[PATH_SIZE];

		str_fmt(from, sizeof from, "%s/%s", m->dir, companions[i]);
		str_fmt(to, sizeof to, "%s/%s", dir, companions[i]);
		if (fs_exists(from) && (rc = fs_copy(from, to, e)) != RC_OK)
			return rc;
	}
	return save_weights(m, dir, e);
}
