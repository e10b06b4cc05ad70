#include "worker/model/config.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "kernels/kernels.h"

#include <string.h>

#define CONFIG_BYTES_MAX (1u << 20)
#define PATH_SIZE 4200

static enum rc get_int(const json_t *o, const char *key, int64_t min, int64_t max, int *out,
		       struct err *e)
{
	int64_t v = 0;
	enum rc rc = jx_i64(o, key, min, max, &v, e);

	if (rc == RC_OK)
		*out = (int)v;
	return rc;
}

static enum rc opt_int(const json_t *o, const char *key, int64_t min, int64_t max, int *out,
		       struct err *e)
{
	int64_t v = *out;
	enum rc rc = jx_opt_i64(o, key, min, max, &v, e);

	if (rc == RC_OK)
		*out = (int)v;
	return rc;
}

static enum rc opt_float(const json_t *o, const char *key, double min, double max, float *out,
			 struct err *e)
{
	double v = (double)*out;
	enum rc rc = jx_opt_f64(o, key, min, max, &v, e);

	if (rc == RC_OK)
		*out = (float)v;
	return rc;
}

static enum rc parse_arch(const json_t *o, struct model_config *c, struct err *e)
{
	static const char *const known[] = {"llama", "mistral", "qwen2"};
	const char *type = NULL, *act = "silu";
	enum rc rc = jx_str(o, "model_type", &type, e);

	if (rc != RC_OK || (rc = jx_opt_str(o, "hidden_act", &act, e)) != RC_OK)
		return rc;
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (strcmp(type, known[i]) == 0)
			str_copy(c->arch, sizeof c->arch, type);
	if (!c->arch[0])
		return err_set(e, RC_UNSUPPORTED,
			       "model_type \"%s\" is not supported; this engine runs llama, "
			       "mistral and qwen2",
			       type);
	if (strcmp(act, "silu") != 0)
		return err_set(e, RC_UNSUPPORTED, "hidden_act \"%s\" is not supported, only silu",
			       act);
	if (json_is_object(json_object_get(o, "quantization_config")))
		return err_set(e, RC_UNSUPPORTED,
			       "quantization_config is set: quantised weights cannot be trained");
	return RC_OK;
}

static enum rc parse_sizes(const json_t *o, struct model_config *c, struct err *e)
{
	enum rc rc;

	if ((rc = get_int(o, "vocab_size", 1, 1 << 22, &c->vocab, e)) != RC_OK ||
	    (rc = get_int(o, "hidden_size", 1, 1 << 17, &c->dim, e)) != RC_OK ||
	    (rc = get_int(o, "num_hidden_layers", 1, 1024, &c->n_layers, e)) != RC_OK ||
	    (rc = get_int(o, "num_attention_heads", 1, 1024, &c->n_heads, e)) != RC_OK ||
	    (rc = get_int(o, "intermediate_size", 1, 1 << 20, &c->ffn_dim, e)) != RC_OK)
		return rc;
	c->n_kv_heads = c->n_heads;
	c->head_dim = c->dim / c->n_heads;
	c->max_pos = 2048;
	c->rms_eps = 1e-6f;
	if ((rc = opt_int(o, "num_key_value_heads", 1, 1024, &c->n_kv_heads, e)) != RC_OK ||
	    (rc = opt_int(o, "head_dim", 2, KERN_HEAD_MAX, &c->head_dim, e)) != RC_OK ||
	    (rc = opt_int(o, "max_position_embeddings", 1, 1 << 24, &c->max_pos, e)) != RC_OK)
		return rc;
	return opt_float(o, "rms_norm_eps", 1e-12, 1e-1, &c->rms_eps, e);
}

static enum rc parse_scaling(const json_t *o, struct model_config *c, struct err *e)
{
	const char *type = "default";
	enum rc rc;

	if ((rc = jx_opt_str(o, "type", &type, e)) != RC_OK ||
	    (rc = jx_opt_str(o, "rope_type", &type, e)) != RC_OK)
		return rc;
	if (strcmp(type, "default") == 0)
		return RC_OK;
	c->rope_factor = 1;
	if ((rc = opt_float(o, "factor", 1, 1e4, &c->rope_factor, e)) != RC_OK)
		return rc;
	if (strcmp(type, "linear") == 0) {
		c->rope_scaling = ROPE_LINEAR;
		return RC_OK;
	}
	if (strcmp(type, "llama3") != 0)
		return err_set(e, RC_UNSUPPORTED,
			       "rope type \"%s\" is not supported; known: default, linear, llama3",
			       type);
	c->rope_scaling = ROPE_LLAMA3;
	c->rope_low_freq = 1;
	c->rope_high_freq = 4;
	c->rope_old_max_pos = 8192;
	if ((rc = opt_float(o, "low_freq_factor", 1e-3, 1e4, &c->rope_low_freq, e)) != RC_OK ||
	    (rc = opt_float(o, "high_freq_factor", 1e-3, 1e4, &c->rope_high_freq, e)) != RC_OK ||
	    (rc = opt_int(o, "original_max_position_embeddings", 1, 1 << 24, &c->rope_old_max_pos,
			  e)) != RC_OK)
		return rc;
	if (c->rope_high_freq <= c->rope_low_freq)
		return err_set(e, RC_INVALID, "high_freq_factor must be above low_freq_factor");
	return RC_OK;
}

/* Older files have rope_theta and rope_scaling, newer ones rope_parameters with both. */
static enum rc parse_rope(const json_t *o, struct model_config *c, struct err *e)
{
	const json_t *scaling = json_object_get(o, "rope_scaling");
	const json_t *params = json_object_get(o, "rope_parameters");
	enum rc rc;

	c->rope_theta = 10000;
	if ((rc = opt_float(o, "rope_theta", 1, 1e12, &c->rope_theta, e)) != RC_OK)
		return rc;
	if (json_is_object(params)) {
		if ((rc = opt_float(params, "rope_theta", 1, 1e12, &c->rope_theta, e)) != RC_OK)
			return err_wrap(e, "rope_parameters");
		scaling = params;
	}
	if (json_is_object(scaling) && parse_scaling(scaling, c, e) != RC_OK)
		return err_wrap(e, "rope scaling");
	return RC_OK;
}

static enum rc parse_attention(const json_t *o, struct model_config *c, struct err *e)
{
	bool bias = false, mlp_bias = false, use_window = strcmp(c->arch, "qwen2") != 0;
	int window = 0;
	enum rc rc;

	if ((rc = jx_opt_bool(o, "attention_bias", &bias, e)) != RC_OK ||
	    (rc = jx_opt_bool(o, "mlp_bias", &mlp_bias, e)) != RC_OK ||
	    (rc = jx_opt_bool(o, "use_sliding_window", &use_window, e)) != RC_OK ||
	    (rc = jx_opt_bool(o, "tie_word_embeddings", &c->tied, e)) != RC_OK ||
	    (rc = opt_int(o, "sliding_window", 0, 1 << 24, &window, e)) != RC_OK)
		return rc;
	c->qkv_bias = strcmp(c->arch, "qwen2") == 0;
	if ((bias && !c->qkv_bias) || mlp_bias)
		return err_set(e, RC_UNSUPPORTED,
			       "%s is set: biases outside Qwen2 are not supported",
			       mlp_bias ? "mlp_bias" : "attention_bias");
	if (c->qkv_bias && use_window)
		return err_set(e, RC_UNSUPPORTED,
			       "use_sliding_window with layer-wise windows is not supported");
	c->sliding_window = use_window && strcmp(c->arch, "mistral") == 0 ? window : 0;
	return RC_OK;
}

static enum rc parse_eos(const json_t *v, struct model_config *c, struct err *e)
{
	size_t n = json_is_array(v) ? json_array_size(v) : json_is_integer(v) ? 1 : 0;

	if (n == 0)
		return RC_OK;
	if (n > MODEL_EOS_MAX)
		return err_set(e, RC_INVALID, "eos_token_id has %zu entries, at most %d fit", n,
			       MODEL_EOS_MAX);
	c->n_eos = 0;
	for (size_t i = 0; i < n; i++) {
		const json_t *x = json_is_array(v) ? json_array_get(v, i) : v;
		json_int_t id = json_integer_value(x);

		if (!json_is_integer(x) || id < 0 || id >= c->vocab)
			return err_set(e, RC_INVALID, "eos_token_id is not a token (vocabulary %d)",
				       c->vocab);
		c->eos_ids[c->n_eos++] = (int)id;
	}
	return RC_OK;
}

static enum rc parse_ids(const json_t *o, struct model_config *c, struct err *e)
{
	enum rc rc;

	if ((rc = opt_int(o, "bos_token_id", -1, c->vocab - 1, &c->bos_id, e)) != RC_OK ||
	    (rc = opt_int(o, "pad_token_id", -1, c->vocab - 1, &c->pad_id, e)) != RC_OK)
		return rc;
	return parse_eos(json_object_get(o, "eos_token_id"), c, e);
}

enum rc model_config_check(const struct model_config *c, struct err *e)
{
	if (c->vocab < 1 || c->dim < 1 || c->n_layers < 1 || c->n_heads < 1 || c->n_kv_heads < 1 ||
	    c->ffn_dim < 1 || c->max_pos < 1)
		return err_set(e, RC_INVALID, "every size of the model must be at least 1");
	if (c->n_heads % c->n_kv_heads != 0)
		return err_set(e, RC_INVALID,
			       "num_attention_heads %d is not a multiple of num_key_value_heads %d",
			       c->n_heads, c->n_kv_heads);
	if (c->head_dim < 2 || c->head_dim % 2 != 0 || c->head_dim > KERN_HEAD_MAX)
		return err_set(e, RC_UNSUPPORTED, "head size %d: expected an even number up to %d",
			       c->head_dim, KERN_HEAD_MAX);
	if ((int64_t)c->n_heads * c->head_dim > 1 << 17)
		return err_set(e, RC_UNSUPPORTED, "%d heads of %d are wider than supported",
			       c->n_heads, c->head_dim);
	return RC_OK;
}

enum rc model_config_parse(const json_t *config, const json_t *generation, struct model_config *c,
			   struct err *e)
{
	enum rc rc;

	*c = (struct model_config){.bos_id = -1, .pad_id = -1};
	if (!json_is_object(config))
		return err_set(e, RC_INVALID, "expected a JSON object");
	if ((rc = parse_arch(config, c, e)) != RC_OK || (rc = parse_sizes(config, c, e)) != RC_OK ||
	    (rc = parse_rope(config, c, e)) != RC_OK ||
	    (rc = parse_attention(config, c, e)) != RC_OK ||
	    (rc = parse_ids(config, c, e)) != RC_OK)
		return rc;
	if (json_is_object(generation) && parse_ids(generation, c, e) != RC_OK)
		return err_wrap(e, "generation_config.json");
	return model_config_check(c, e);
}

enum rc model_config_load(const char *dir, struct model_config *c, struct err *e)
{
	char path[PATH_SIZE], gen[PATH_SIZE];
	json_t *config = NULL, *generation = NULL;
	enum rc rc;

	str_fmt(path, sizeof path, "%s/config.json", dir);
	str_fmt(gen, sizeof gen, "%s/generation_config.json", dir);
	rc = jx_load(path, CONFIG_BYTES_MAX, &config, e);
	if (rc != RC_OK)
		goto out;
	if (fs_exists(gen) && (rc = jx_load(gen, CONFIG_BYTES_MAX, &generation, e)) != RC_OK)
		goto out;
	rc = model_config_parse(config, generation, c, e);
	if (rc != RC_OK)
		err_wrap(e, "%s", path);
out:
	json_decref(config);
	json_decref(generation);
	return rc;
}

static json_t *rope_json(const struct model_config *c)
{
	if (c->rope_scaling == ROPE_NONE)
		return json_null();
	if (c->rope_scaling == ROPE_LINEAR)
		return json_pack("{s:s, s:f}", "rope_type", "linear", "factor",
				 (double)c->rope_factor);
	return json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor",
			 (double)c->rope_factor, "low_freq_factor", (double)c->rope_low_freq,
			 "high_freq_factor", (double)c->rope_high_freq,
			 "original_max_position_embeddings", c->rope_old_max_pos);
}

/* A float that reads as its short decimal: 1e-5, not 9.99999974e-6. */
static double short_decimal(float x)
{
	char text[32];
	double d = (double)x;

	str_fmt(text, sizeof text, "%.7g", (double)x);
	str_to_f64(text, &d);
	return d;
}

json_t *model_config_json(const struct model_config *c)
{
	const char *arch = strcmp(c->arch, "qwen2") == 0     ? "Qwen2ForCausalLM"
			   : strcmp(c->arch, "mistral") == 0 ? "MistralForCausalLM"
							     : "LlamaForCausalLM";
	json_t *o = json_pack(
		"{s:[s], s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:b}",
		"architectures", arch, "model_type", c->arch, "hidden_act", "silu", "torch_dtype",
		"float32", "vocab_size", c->vocab, "hidden_size", c->dim, "intermediate_size",
		c->ffn_dim, "num_hidden_layers", c->n_layers, "num_attention_heads", c->n_heads,
		"num_key_value_heads", c->n_kv_heads, "head_dim", c->head_dim,
		"max_position_embeddings", c->max_pos, "rope_theta", short_decimal(c->rope_theta),
		"rms_norm_eps", short_decimal(c->rms_eps), "tie_word_embeddings", c->tied);
	json_t *eos = json_array();

	for (int i = 0; i < c->n_eos; i++)
		json_array_append_new(eos, json_integer(c->eos_ids[i]));
	if (c->n_eos == 1)
		json_object_set(o, "eos_token_id", json_array_get(eos, 0));
	else if (c->n_eos > 1)
		json_object_set(o, "eos_token_id", eos);
	json_decref(eos);
	if (c->bos_id >= 0)
		json_object_set_new(o, "bos_token_id", json_integer(c->bos_id));
	if (c->pad_id >= 0)
		json_object_set_new(o, "pad_token_id", json_integer(c->pad_id));
	json_object_set_new(o, "rope_scaling", rope_json(c));
	if (c->sliding_window > 0)
		json_object_set_new(o, "sliding_window", json_integer(c->sliding_window));
	return o;
}

bool model_is_eos(const struct model_config *c, int id)
{
	for (int i = 0; i < c->n_eos; i++)
		if (c->eos_ids[i] == id)
			return true;
	return false;
}
