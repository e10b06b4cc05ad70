#include "worker/model/token_impl.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Finds the tokenizer of a model directory, and its BOS and EOS where the file itself is silent. */

#define FILE_MAX   (256u << 20)
#define CONFIG_MAX (4u << 20)

enum rc tokenizer_open(const char *path, struct tokenizer **out, struct err *e)
{
	struct buf b = BUF_INIT;
	enum rc rc = fs_read(path, FILE_MAX, &b, e);

	*out = NULL;
	if (!rc && str_ends(path, ".json"))
		rc = tokenizer_parse_json(b.data ? b.data : "", b.len, path, out, e);
	else if (!rc)
		rc = tokenizer_parse_spm((const uint8_t *)(b.data ? b.data : ""), b.len, path, out, e);
	buf_release(&b);
	return rc;
}

/* "bos_token": "<s>" or {"content": "<s>"}; NULL when unset. */
static const char *token_text(const json_t *config, const char *key)
{
	const json_t *v = json_object_get(config, key);

	return json_is_object(v) ? jx_get_str(v, "content", NULL) : json_string_value(v);
}

static enum rc named_token(const struct tokenizer *t, const json_t *config, const char *key,
			   int32_t *id, struct err *e)
{
	const char *text = token_text(config, key);

	if (!text)
		return RC_OK;
	*id = tokenizer_special(t, text);
	if (*id < 0)
		return err_set(e, RC_INVALID, "%s \"%.40s\" is not a special token of the tokenizer", key,
			       text);
	return RC_OK;
}

static enum rc apply_tokenizer_config(struct tokenizer *t, const json_t *config, struct err *e)
{
	bool adds_bos = jx_get_bool(config, "add_bos_token", true);
	enum rc rc = RC_OK;

	if (!adds_bos)
		t->bos = -1;
	else if (!t->bos_known)
		rc = named_token(t, config, "bos_token", &t->bos, e);
	if (json_object_get(config, "bos_token"))
		t->bos_known = true;
	if (!rc)
		rc = named_token(t, config, "eos_token", &t->eos, e);
	return rc;
}

/* Ids of config.json count only when the tokenizer knows them as special. */
static int32_t special_id(const struct tokenizer *t, const json_t *config, const char *key)
{
	const json_t *v = json_object_get(config, key);
	json_int_t id;

	if (json_is_array(v))
		v = json_array_get(v, 0);
	if (!json_is_integer(v))
		return -1;
	id = json_integer_value(v);
	return id >= 0 && id < t->n_vocab && tokenizer_is_special(t, (int)id) ? (int32_t)id : -1;
}

static void apply_config(struct tokenizer *t, const json_t *config)
{
	if (!t->bos_known && t->bos < 0)
		t->bos = special_id(t, config, "bos_token_id");
	if (t->eos < 0)
		t->eos = special_id(t, config, "eos_token_id");
}

static enum rc load_optional(const char *dir, const char *name, json_t **out, struct err *e)
{
	char path[PATH_MAX];

	*out = NULL;
	str_fmt(path, sizeof(path), "%s/%s", dir, name);
	return fs_exists(path) ? jx_load(path, CONFIG_MAX, out, e) : RC_OK;
}

static enum rc apply_configs(struct tokenizer *t, const char *dir, struct err *e)
{
	static const char *const names[] = {
		"tokenizer_config.json", "generation_config.json", "config.json"};
	json_t *config;
	enum rc rc = RC_OK;

	if (!t->eos_known)
		t->eos = -1;
	for (int i = 0; i < 3 && !rc; i++) {
		rc = load_optional(dir, names[i], &config, e);
		if (!rc && i == 0) {
			rc = apply_tokenizer_config(t, config, e);
			if (rc)
				err_wrap(e, "%s/%s", dir, names[i]);
		} else if (!rc) {
			apply_config(t, config);
		}
		json_decref(config);
	}
	token_guess_eos(t);
	return rc;
}

enum rc tokenizer_load(const char *dir, struct tokenizer **out, struct err *e)
{
	char json[PATH_MAX], spm[PATH_MAX];
	enum rc rc;

	*out = NULL;
	if (strlen(dir) > PATH_MAX - 64)
		return err_set(e, RC_INVALID, "path of the model is too long");
	str_fmt(json, sizeof(json), "%s/tokenizer.json", dir);
	str_fmt(spm, sizeof(spm), "%s/tokenizer.model", dir);
	if (!fs_exists(json) && !fs_exists(spm))
		return err_set(e, RC_NOTFOUND, "%s has neither tokenizer.json nor tokenizer.model", dir);
	rc = tokenizer_open(fs_exists(json) ? json : spm, out, e);
	if (!rc)
		rc = apply_configs(*out, dir, e);
	if (rc) {
		tokenizer_free(*out);
		*out = NULL;
	}
	return rc;
}
