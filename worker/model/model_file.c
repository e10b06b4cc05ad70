/* Weights from and to a Hugging Face model directory. */
#include "worker/model/model.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/safetensors.h"

#include <math.h>
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

static float from_half(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = h >> 10 & 31, frac = h & 1023, bits;
	float f;

	if (exp == 0)
		return (h & 0x8000 ? -1.0f : 1.0f) * (float)frac * 0x1p-24f;
	bits = sign | (exp == 31 ? 255u << 23 : (exp + 112) << 23) | frac << 13;
	memcpy(&f, &bits, sizeof f);
	return f;
}

static float from_bf16(uint16_t h)
{
	uint32_t bits = (uint32_t)h << 16;
	float f;

	memcpy(&f, &bits, sizeof f);
	return f;
}

static void widen(float *out, const struct st_tensor *t, size_t n)
{
	const uint16_t *half = t->data;

	if (t->dtype == ST_F32)
		memcpy(out, t->data, n * sizeof *out);
	else
		for (size_t i = 0; i < n; i++)
			out[i] = t->dtype == ST_F16 ? from_half(half[i]) : from_bf16(half[i]);
}

static enum rc load_tensor(struct model *m, const struct tensor_ref *ref, const struct st *st,
			   struct err *e)
{
	const struct st_tensor *t = st_find(st, ref->name);
	size_t n = (size_t)ref->rows * (ref->cols ? (size_t)ref->cols : 1);
	float *out = m->params + ref->offset;

	if (!t)
		return err_set(e, RC_INVALID, "tensor %s is missing", ref->name);
	if (t->dtype != ST_F32 && t->dtype != ST_BF16 && t->dtype != ST_F16)
		return err_set(e, RC_UNSUPPORTED, "tensor %s is %s; F32, BF16 or F16 expected",
			       ref->name, st_dtype_name(t->dtype));
	if (t->ndim != (ref->cols ? 2 : 1) || t->shape[0] != ref->rows ||
	    (ref->cols && t->shape[1] != ref->cols))
		return err_set(e, RC_INVALID,
			       "tensor %s has %d dimensions, first %lld; config.json says %d x %d",
			       ref->name, t->ndim, t->ndim ? (long long)t->shape[0] : 0, ref->rows,
			       ref->cols);
	widen(out, t, n);
	for (size_t i = 0; i < n; i++)
		if (!isfinite(out[i]))
			return err_set(e, RC_INVALID, "tensor %s: element %zu is not finite",
				       ref->name, i);
	return RC_OK;
}

static bool is_ignored(const struct model *m, const char *name)
{
	return str_ends(name, "rotary_emb.inv_freq") ||
	       (m->cfg.tied && strcmp(name, "lm_head.weight") == 0);
}

static enum rc check_unknown(const struct model *m, const struct st *st, struct err *e)
{
	for (size_t i = 0; i < st_count(st); i++) {
		const char *name = st_at(st, i)->name;
		bool found = is_ignored(m, name);

		for (int j = 0; j < m->n_tensors && !found; j++)
			found = strcmp(m->tensors[j].name, name) == 0;
		if (!found)
			return err_set(e, RC_UNSUPPORTED, "tensor %s is not part of a %s model",
				       name, m->cfg.arch);
	}
	return RC_OK;
}

enum rc model_load(const char *dir, struct model **out, struct err *e)
{
	struct model_config cfg;
	struct model *m = NULL;
	struct st *st = NULL;
	enum rc rc = model_config_load(dir, &cfg, e);

	if (rc != RC_OK)
		return rc;
	if ((rc = model_new(&cfg, &m, e)) != RC_OK || (rc = st_open(dir, &st, e)) != RC_OK ||
	    (rc = check_unknown(m, st, e)) != RC_OK)
		goto out;
	for (int i = 0; i < m->n_tensors && rc == RC_OK; i++)
		rc = load_tensor(m, &m->tensors[i], st, e);
	if (rc != RC_OK)
		goto out;
	str_copy(m->dir, sizeof m->dir, dir);
	*out = m;
	m = NULL;
out:
	if (st)
		st_close(st);
	model_free(m);
	return rc == RC_OK ? RC_OK : err_wrap(e, "model %s", dir);
}

static enum rc save_weights(const struct model *m, const char *dir, struct err *e)
{
	struct st_tensor *list = mem_array((size_t)m->n_tensors, sizeof *list);
	json_t *meta = json_pack("{s:s}", "format", "pt");
	char path[PATH_SIZE];
	enum rc rc;

	for (int i = 0; i < m->n_tensors; i++) {
		const struct tensor_ref *t = &m->tensors[i];
		size_t n = (size_t)t->rows * (t->cols ? (size_t)t->cols : 1);

		list[i] = (struct st_tensor){.name = t->name,
					     .dtype = ST_F32,
					     .ndim = t->cols ? 2 : 1,
					     .shape = {t->rows, t->cols},
					     .data = m->params + t->offset,
					     .size_bytes = n * sizeof(float)};
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
