/* Adapters from and to the files of PEFT. */
#include "worker/model/lora.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/safetensors.h"
#include "worker/model/dtype.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_BYTES_MAX (1u << 20)
#define PATH_SIZE 4200

/* "q_proj" of "self_attn.q_proj". */
static const char *module_name(int part)
{
	return strchr(model_part_name(1u << part), '.') + 1;
}

/* --- saving ----------------------------------------------------------------------------------- */

static enum rc save_config(const struct lora *l, const char *dir, const char *base, struct err *e)
{
	json_t *modules = json_array(), *o;
	char path[PATH_SIZE];
	char *text;
	enum rc rc;

	for (int p = 0; p < MODEL_PARTS; p++)
		if (l->s.targets & 1u << p)
			json_array_append_new(modules, json_string(module_name(p)));
	o = json_pack("{s:s, s:s, s:s, s:i, s:f, s:f, s:o, s:s, s:b, s:b, s:b, s:b, s:{}, s:{}, "
		      "s:n, s:n}",
		      "peft_type", "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path",
		      base, "r", l->s.r, "lora_alpha", l->s.alpha, "lora_dropout", l->s.dropout,
		      "target_modules", modules, "bias", "none", "use_rslora", l->s.rslora,
		      "use_dora", 0, "fan_in_fan_out", 0, "inference_mode", 1, "rank_pattern",
		      "alpha_pattern", "modules_to_save", "layers_to_transform");
	str_fmt(path, sizeof path, "%s/adapter_config.json", dir);
	text = json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS);
	rc = fs_write_durable(path, text, strlen(text), e);
	free(text);
	json_decref(o);
	return rc;
}

enum rc lora_save(const struct lora *l, const char *dir, const char *base, struct err *e)
{
	struct st_tensor *list = mem_array((size_t)l->n_tensors, sizeof *list);
	json_t *meta = json_pack("{s:s}", "format", "pt");
	char path[PATH_SIZE];
	enum rc rc = fs_mkdirs(dir, e);

	for (int i = 0; i < l->n_tensors; i++) {
		const struct tensor_ref *t = &l->tensors[i];

		list[i] = (struct st_tensor){.name = t->name,
					     .dtype = ST_F32,
					     .ndim = 2,
					     .shape = {t->rows, t->cols},
					     .data = l->params + t->offset,
					     .size_bytes = tensor_size(t) * sizeof(float)};
	}
	str_fmt(path, sizeof path, "%s/adapter_model.safetensors", dir);
	if (rc == RC_OK)
		rc = save_config(l, dir, base, e);
	if (rc == RC_OK)
		rc = st_write(path, list, (size_t)l->n_tensors, meta, e);
	json_decref(meta);
	free(list);
	return rc;
}

/* --- loading ---------------------------------------------------------------------------------- */

/* Settings that would change what the adapter computes, and the only value they may have here. */
static enum rc check_plain(const json_t *o, struct err *e)
{
	static const struct {
		const char *key;
		bool empty_object; /* else false or null */
	} plain[] = {{"use_dora", false},
		     {"fan_in_fan_out", false},
		     {"modules_to_save", false},
		     {"layers_to_transform", false},
		     {"rank_pattern", true},
		     {"alpha_pattern", true},
		     {"lora_bias", false},
		     {"use_qalora", false},
		     {"layer_replication", false},
		     {"target_parameters", false},
		     {"alora_invocation_tokens", false}};

	if (strcmp(jx_get_str(o, "peft_type", "LORA"), "LORA") != 0)
		return err_set(e, RC_UNSUPPORTED, "peft_type is \"%s\": expected LORA",
			       jx_get_str(o, "peft_type", ""));
	if (strcmp(jx_get_str(o, "bias", "none"), "none") != 0)
		return err_set(e, RC_UNSUPPORTED, "bias is \"%s\": expected none",
			       jx_get_str(o, "bias", ""));
	for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
		const json_t *v = json_object_get(o, plain[i].key);
		bool none = !v || json_is_null(v) || json_is_false(v);

		if (!none && !(plain[i].empty_object && json_is_object(v) && !json_object_size(v)))
			return err_set(e, RC_UNSUPPORTED,
				       "%s is set: this engine has no such adapters", plain[i].key);
	}
	return RC_OK;
}

/* Beginnings after which the base is no longer the one that was published: PEFT subtracts what the
 * adapter was given. */
static enum rc check_beginning(const json_t *o, struct err *e)
{
	static const char *const moving[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};
	const char *how = jx_get_str(o, "init_lora_weights", "");

	for (size_t i = 0; i < sizeof moving / sizeof moving[0]; i++)
		if (strncmp(how, moving[i], strlen(moving[i])) == 0)
			return err_set(e, RC_UNSUPPORTED,
				       "init_lora_weights is \"%s\": its adapters stand beside a "
				       "changed base; convert it to plain LoRA first",
				       how);
	return RC_OK;
}

static enum rc parse_targets(const json_t *o, unsigned *out, struct err *e)
{
	const json_t *list = json_object_get(o, "target_modules"), *v;
	size_t i;

	*out = 0;
	if (json_is_string(list))
		return lora_targets_parse(json_string_value(list), out, e);
	json_array_foreach((json_t *)(uintptr_t)list, i, v)
	{
		unsigned part = 0;
		enum rc rc = lora_targets_parse(json_is_string(v) ? json_string_value(v) : "?",
						&part, e);

		if (rc != RC_OK)
			return rc;
		*out |= part;
	}
	return *out ? RC_OK
		    : err_set(e, RC_INVALID, "target_modules: a list of layer names is expected");
}

static enum rc load_config(const char *dir, struct lora_settings *s, struct err *e)
{
	char path[PATH_SIZE];
	json_t *o = NULL;
	int64_t r = 0;
	enum rc rc;

	str_fmt(path, sizeof path, "%s/adapter_config.json", dir);
	rc = jx_load(path, CONFIG_BYTES_MAX, &o, e);
	if (rc != RC_OK)
		return rc;
	if ((rc = check_plain(o, e)) == RC_OK && (rc = check_beginning(o, e)) == RC_OK &&
	    (rc = jx_i64(o, "r", 1, LORA_RANK_MAX, &r, e)) == RC_OK &&
	    (rc = jx_f64(o, "lora_alpha", 1e-6, 1e6, &s->alpha, e)) == RC_OK)
		rc = parse_targets(o, &s->targets, e);
	s->r = (int)r;
	s->rslora = jx_get_bool(o, "use_rslora", false);
	s->dropout = jx_get_f64(o, "lora_dropout", 0);
	json_decref(o);
	return rc == RC_OK ? RC_OK : err_wrap(e, "%s", path);
}

static enum rc load_tensor(struct lora *l, const struct tensor_ref *ref, const struct st *files,
			   struct err *e)
{
	const struct st_tensor *t = st_find(files, ref->name);
	float *out = l->params + ref->offset;

	if (!t)
		return err_set(e, RC_INVALID, "tensor %s is missing", ref->name);
	if (!dtype_is_weight(t->dtype) || t->ndim != 2 || t->shape[0] != ref->all_rows ||
	    t->shape[1] != ref->all_cols)
		return err_set(e, RC_INVALID,
			       "tensor %s: expected %d x %d of F32, BF16 or F16; it is %s with %d "
			       "dimensions, first %lld",
			       ref->name, ref->all_rows, ref->all_cols, st_dtype_name(t->dtype), t->ndim,
			       t->ndim ? (long long)t->shape[0] : 0);
	for (size_t i = 0, n; i < tensor_size(ref); i += n) {
		n = ref->cols == ref->all_cols ? tensor_size(ref) : (size_t)ref->cols;
		dtype_widen(out + i,
			    (const char *)t->data +
				    tensor_whole_at(ref, i) * st_dtype_size(t->dtype),
			    t->dtype, n);
	}
	for (size_t i = 0; i < tensor_size(ref); i++)
		if (!isfinite(out[i]))
			return err_set(e, RC_INVALID, "tensor %s: element %zu is not finite",
				       ref->name, i);
	return RC_OK;
}

static enum rc check_unknown(const struct lora *l, const struct st *files, struct err *e)
{
	for (size_t i = 0; i < st_count(files); i++) {
		const char *name = st_at(files, i)->name;
		bool known = false;

		for (int k = 0; k < l->n_tensors && !known; k++)
			known = strcmp(l->tensors[k].name, name) == 0;
		if (!known)
			return err_set(e, RC_UNSUPPORTED,
				       "tensor %s: the model has no such layer, or "
				       "adapter_config.json does not name it",
				       name);
	}
	return RC_OK;
}

enum rc lora_load(const char *dir, const struct model_config *cfg, struct lora **out, struct err *e)
{
	struct lora_settings s = {0};
	struct lora *l = NULL;
	struct st *files = NULL;
	char path[PATH_SIZE];
	enum rc rc = load_config(dir, &s, e);

	if (rc != RC_OK)
		return rc;
	str_fmt(path, sizeof path, "%s/adapter_model.safetensors", dir);
	if ((rc = lora_new(cfg, &s, 0, &l, e)) != RC_OK ||
	    (rc = st_open(path, &files, e)) != RC_OK || (rc = check_unknown(l, files, e)) != RC_OK)
		goto out;
	for (int i = 0; i < l->n_tensors && rc == RC_OK; i++)
		rc = load_tensor(l, &l->tensors[i], files, e);
	if (rc != RC_OK)
		goto out;
	*out = l;
	l = NULL;
out:
	st_close(files);
	lora_free(l);
	return rc == RC_OK ? RC_OK : err_wrap(e, "adapter %s", dir);
}
