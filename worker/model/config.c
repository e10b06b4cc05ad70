#include "worker/model/config.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "kernels/kernels.h"

#include <string.h>
#include <strings.h>

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

static enum rc get_float(const json_t *o, const char *key, double min, double max, float *out,
			 struct err *e)
{
	double v = 0;
	enum rc rc = jx_f64(o, key, min, max, &v, e);

	if (rc == RC_OK)
		*out = (float)v;
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

/* What a family's reference code (transformers) takes for granted when a field is absent. */
static const struct family {
	const char *name, *arch;
	int max_pos;
	int window; /* sliding_window when absent */
	bool qkv_bias;
	bool kv_heads_default; /* num_key_value_heads absent means num_attention_heads */
} families[] = {
	{"llama", "LlamaForCausalLM", 2048, 0, false, true},
	{"mistral", "MistralForCausalLM", 131072, 4096, false, false},
	{"qwen2", "Qwen2ForCausalLM", 32768, 0, true, false},
};

static const struct family *family_of(const char *name)
{
	for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
		if (strcmp(name, families[i].name) == 0)
			return &families[i];
	return NULL;
}

/* Fields that would change the computation, and the value at which they do not. */
enum neutral { UNSET, ZERO, ONE, NOT_FALSE };

static const struct rule {
	const char *key;
	enum neutral neutral;
	const char *why;
} rules[] = {
	{"quantization_config", UNSET, "quantised weights cannot be trained"},
	{"compression_config", UNSET, "compressed weights cannot be trained"},
	{"mlp_bias", ZERO, "biases of the feed-forward layers are not supported"},
	{"partial_rotary_factor", ONE, "rotary embedding covers whole heads only"},
	{"rotary_pct", ONE, "rotary embedding covers whole heads only"},
	{"rope_interleaved", ZERO, "rotary pairs must be halves of a head, not neighbours"},
	{"use_mrope", ZERO, "rotary embedding has one position only"},
	{"alibi", ZERO, "positions are rotary only"},
	{"attn_logit_softcapping", UNSET, "soft caps of logits are not supported"},
	{"final_logit_softcapping", UNSET, "soft caps of logits are not supported"},
	{"query_pre_attn_scalar", UNSET, "attention is scaled by the head size only"},
	{"attention_multiplier", UNSET, "attention is scaled by the head size only"},
	{"embedding_multiplier", ONE, "embeddings are not scaled"},
	{"residual_multiplier", ONE, "residuals are not scaled"},
	{"logits_scaling", ONE, "logits are not scaled"},
	{"logit_scale", ONE, "logits are not scaled"},
	{"clip_qkv", UNSET, "clipping of queries and keys is not supported"},
	{"use_qk_norm", ZERO, "norms of queries and keys are not supported"},
	{"qk_layernorm", ZERO, "norms of queries and keys are not supported"},
	{"use_parallel_residual", ZERO, "layers are sequential only"},
	{"num_local_experts", ZERO, "mixtures of experts are not supported"},
	{"num_experts", ZERO, "mixtures of experts are not supported"},
	{"n_routed_experts", ZERO, "mixtures of experts are not supported"},
	{"attention_dropout", ZERO, "dropout of attention weights is not supported"},
	{"is_encoder_decoder", ZERO, "only decoders are supported"},
	{"add_cross_attention", ZERO, "only decoders are supported"},
	{"is_causal", NOT_FALSE, "only causal attention is supported"},
};

static bool is_neutral(const json_t *v, enum neutral n)
{
	if (!v || json_is_null(v))
		return true;
	if (n == ZERO)
		return json_is_false(v) || (json_is_number(v) && json_number_value(v) == 0);
	if (n == ONE)
		return json_is_number(v) && json_number_value(v) == 1;
	return n == NOT_FALSE && json_is_true(v);
}

static enum rc check_rules(const json_t *o, struct err *e)
{
	for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
		if (!is_neutral(json_object_get(o, rules[i].key), rules[i].neutral))
			return err_set(e, RC_UNSUPPORTED, "%s is set: %s", rules[i].key,
				       rules[i].why);
	return RC_OK;
}

/* "architectures" and "auto_map": another head or other code over the same kind of weights. */
static enum rc check_architecture(const json_t *o, const struct family *f, struct err *e)
{
	const char *arch =
		json_string_value(json_array_get(json_object_get(o, "architectures"), 0));
	const char *code = jx_get_str(json_object_get(o, "auto_map"), "AutoModelForCausalLM", NULL);

	if (arch && strcasecmp(arch, f->arch) != 0)
		return err_set(e, RC_UNSUPPORTED, "architecture \"%s\" is not supported, only %s",
			       arch, f->arch);
	if (code)
		return err_set(e, RC_UNSUPPORTED,
			       "auto_map names code of the model's own (\"%s\"): what it computes "
			       "is unknown",
			       code);
	return RC_OK;
}

static enum rc parse_arch(const json_t *o, struct model_config *c, struct err *e)
{
	const char *type = NULL, *act = "silu";
	const struct family *f;
	enum rc rc = jx_str(o, "model_type", &type, e);

	if (rc != RC_OK || (rc = jx_opt_str(o, "hidden_act", &act, e)) != RC_OK)
		return rc;
	f = family_of(type);
	if (!f)
		return err_set(e, RC_UNSUPPORTED,
			       "model_type \"%s\" is not supported; this engine runs llama, "
			       "mistral and qwen2",
			       type);
	str_copy(c->arch, sizeof c->arch, type);
	if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
		return err_set(e, RC_UNSUPPORTED, "hidden_act \"%s\" is not supported, only silu",
			       act);
	rc = check_architecture(o, f, e);
	return rc == RC_OK ? check_rules(o, e) : rc;
}

/* Absent, null and number are three things where the families' defaults differ. */
static enum rc parse_kv_heads(const json_t *o, struct model_config *c, struct err *e)
{
	c->n_kv_heads = c->n_heads;
	if (!json_object_get(o, "num_key_value_heads") && !family_of(c->arch)->kv_heads_default)
		return err_set(e, RC_INVALID, "num_key_value_heads is missing");
	return opt_int(o, "num_key_value_heads", 1, 1024, &c->n_kv_heads, e);
}

static enum rc parse_sizes(const json_t *o, struct model_config *c, struct err *e)
{
	enum rc rc;

	if ((rc = get_int(o, "vocab_size", 1, 1 << 22, &c->vocab, e)) != RC_OK ||
	    (rc = get_int(o, "hidden_size", 1, 1 << 17, &c->dim, e)) != RC_OK ||
	    (rc = get_int(o, "num_hidden_layers", 1, 1024, &c->n_layers, e)) != RC_OK ||
	    (rc = get_int(o, "num_attention_heads", 1, 1024, &c->n_heads, e)) != RC_OK ||
	    (rc = get_int(o, "intermediate_size", 1, 1 << 20, &c->ffn_dim, e)) != RC_OK ||
	    (rc = parse_kv_heads(o, c, e)) != RC_OK)
		return rc;
	c->head_dim = 0;
	c->max_pos = family_of(c->arch)->max_pos;
	c->rms_eps = 1e-6f;
	if ((rc = opt_int(o, "head_dim", 2, KERN_HEAD_MAX, &c->head_dim, e)) != RC_OK ||
	    (rc = opt_int(o, "max_position_embeddings", 1, 1 << 24, &c->max_pos, e)) != RC_OK)
		return rc;
	if (c->head_dim == 0 && c->dim % c->n_heads != 0)
		return err_set(e, RC_INVALID,
			       "hidden_size %d is not a multiple of num_attention_heads %d, and "
			       "head_dim is not given",
			       c->dim, c->n_heads);
	if (c->head_dim == 0)
		c->head_dim = c->dim / c->n_heads;
	return opt_float(o, "rms_norm_eps", 1e-12, 1e-1, &c->rms_eps, e);
}

static enum rc parse_llama3(const json_t *o, struct model_config *c, struct err *e)
{
	enum rc rc;

	c->rope_scaling = ROPE_LLAMA3;
	if ((rc = get_float(o, "low_freq_factor", 1e-3, 1e4, &c->rope_low_freq, e)) != RC_OK ||
	    (rc = get_float(o, "high_freq_factor", 1e-3, 1e4, &c->rope_high_freq, e)) != RC_OK ||
	    (rc = get_int(o, "original_max_position_embeddings", 1, 1 << 24, &c->rope_old_max_pos,
			  e)) != RC_OK)
		return rc;
	if (c->rope_high_freq <= c->rope_low_freq)
		return err_set(e, RC_INVALID, "high_freq_factor must be above low_freq_factor");
	return RC_OK;
}

static enum rc parse_scaling(const json_t *o, struct model_config *c, struct err *e)
{
	const char *type = "default", *key;
	const json_t *v;
	enum rc rc;

	json_object_foreach((json_t *)o, key, v)
	{
		if (json_is_object(v))
			return err_set(e, RC_UNSUPPORTED,
				       "\"%s\": settings by kind of layer are not supported", key);
	}
	if ((rc = jx_opt_str(o, "type", &type, e)) != RC_OK ||
	    (rc = jx_opt_str(o, "rope_type", &type, e)) != RC_OK ||
	    (rc = check_rules(o, e)) != RC_OK)
		return rc;
	if (strcmp(type, "default") == 0)
		return RC_OK;
	if (strcmp(type, "linear") != 0 && strcmp(type, "llama3") != 0)
		return err_set(e, RC_UNSUPPORTED,
			       "rope type \"%s\" is not supported; known: default, linear, llama3",
			       type);
	if ((rc = get_float(o, "factor", 1, 1e4, &c->rope_factor, e)) != RC_OK)
		return rc;
	c->rope_scaling = ROPE_LINEAR;
	return strcmp(type, "linear") == 0 ? RC_OK : parse_llama3(o, c, e);
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
	if (scaling && !json_is_object(scaling) && !json_is_null(scaling))
		return err_set(e, RC_INVALID, "rope_scaling: expected an object or null");
	if (json_is_object(scaling) && (rc = parse_scaling(scaling, c, e)) != RC_OK)
		return err_wrap(e, "rope scaling");
	return RC_OK;
}

/* "layer_types" of newer files: every layer must be of the one kind that the window says. */
static enum rc check_layer_types(const json_t *o, const struct model_config *c, struct err *e)
{
	const char *want = c->sliding_window > 0 ? "sliding_attention" : "full_attention";
	const json_t *list = json_object_get(o, "layer_types");

	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *type = json_string_value(json_array_get(list, i));

		if (!type || strcmp(type, want) != 0)
			return err_set(
				e, RC_UNSUPPORTED,
				"layer_types[%zu] is \"%s\" where every layer has %s: layers "
				"of several kinds are not supported",
				i, type ? type : "?", want);
	}
	return RC_OK;
}

/* Llama has no window, whatever its file says; Mistral has one unless it is null; Qwen2 has one in
 * some layers only when use_sliding_window is set, and which layers those are has changed between
 * versions of the reference code. */
static enum rc parse_window(const json_t *o, struct model_config *c, struct err *e)
{
	bool used = strcmp(c->arch, "mistral") == 0, qwen = strcmp(c->arch, "qwen2") == 0;
	int window = json_object_get(o, "sliding_window") ? 0 : family_of(c->arch)->window;
	bool in_layers = false;
	enum rc rc;

	if ((rc = jx_opt_bool(o, "use_sliding_window", &in_layers, e)) != RC_OK)
		return rc;
	if (qwen && in_layers)
		return err_set(e, RC_UNSUPPORTED,
			       "use_sliding_window is set: windows in some layers only are not "
			       "supported");
	if (used && (rc = opt_int(o, "sliding_window", 1, 1 << 24, &window, e)) != RC_OK)
		return rc;
	c->sliding_window = used ? window : 0;
	return check_layer_types(o, c, e);
}

static enum rc parse_attention(const json_t *o, struct model_config *c, struct err *e)
{
	bool bias = false;
	enum rc rc;

	if ((rc = jx_opt_bool(o, "attention_bias", &bias, e)) != RC_OK ||
	    (rc = jx_opt_bool(o, "tie_word_embeddings", &c->tied, e)) != RC_OK)
		return rc;
	c->qkv_bias = family_of(c->arch)->qkv_bias;
	if (bias && !c->qkv_bias)
		return err_set(e, RC_UNSUPPORTED,
			       "attention_bias is set: %s has biases on all four projections then, "
			       "and this engine those of Qwen2 only (query, key, value)",
			       c->arch);
	return parse_window(o, c, e);
}

static enum rc parse_eos(const json_t *v, struct model_config *c, struct err *e)
{
	size_t n = json_is_array(v) ? json_array_size(v) : 1;

	if (!v || json_is_null(v) || n == 0)
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
	if (!family_of(c->arch))
		return err_set(e, RC_UNSUPPORTED, "family \"%s\" is not known", c->arch);
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

/* The shortest decimal that reads back as this float: 1e-5, not 9.99999974e-6. */
static double short_decimal(float x)
{
	char text[32];
	double d = (double)x;

	for (int digits = 6; digits <= 9; digits++) {
		str_fmt(text, sizeof text, "%.*g", digits, (double)x);
		if (str_to_f64(text, &d) && (float)d == x)
			break;
	}
	return d;
}

static json_t *rope_json(const struct model_config *c)
{
	if (c->rope_scaling == ROPE_NONE)
		return json_null();
	if (c->rope_scaling == ROPE_LINEAR)
		return json_pack("{s:s, s:f}", "rope_type", "linear", "factor",
				 short_decimal(c->rope_factor));
	return json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor",
			 short_decimal(c->rope_factor), "low_freq_factor",
			 short_decimal(c->rope_low_freq), "high_freq_factor",
			 short_decimal(c->rope_high_freq), "original_max_position_embeddings",
			 c->rope_old_max_pos);
}

json_t *model_config_json(const struct model_config *c)
{
	json_t *o = json_pack(
		"{s:[s], s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:b}",
		"architectures", family_of(c->arch)->arch, "model_type", c->arch, "hidden_act",
		"silu", "torch_dtype", "float32", "vocab_size", c->vocab, "hidden_size", c->dim,
		"intermediate_size", c->ffn_dim, "num_hidden_layers", c->n_layers,
		"num_attention_heads", c->n_heads, "num_key_value_heads", c->n_kv_heads, "head_dim",
		c->head_dim, "max_position_embeddings", c->max_pos, "rope_theta",
		short_decimal(c->rope_theta), "rms_norm_eps", short_decimal(c->rms_eps),
		"tie_word_embeddings", c->tied);
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
	if (c->sliding_window > 0 ||
	    strcmp(c->arch, "mistral") == 0) /* Absent is not null there. */
		json_object_set_new(o, "sliding_window",
				    c->sliding_window > 0 ? json_integer(c->sliding_window)
							  : json_null());
	return o;
}

bool model_is_eos(const struct model_config *c, int id)
{
	for (int i = 0; i < c->n_eos; i++)
		if (c->eos_ids[i] == id)
			return true;
	return false;
}
