/* Model directories: what config.json may say and what is refused, weights of every type in one
 * file or several, saving, exporting. */
#include "tests/tiny_model.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "store/safetensors.h"

/* --- saving and loading ----------------------------------------------------------------------- */

void test_model_files__saved_and_loaded_is_the_same(void)
{
	struct model_config c = tiny(false, true);
	struct model *m, *n = NULL, *again = NULL;
	struct buf first = BUF_INIT, second = BUF_INIT;
	struct err e = {0};
	char a[512], b[512], file[600];

	str_copy(c.arch, sizeof c.arch, "qwen2");
	m = random_model(&c);
	str_fmt(a, sizeof a, "%s/a", test_tmpdir());
	str_fmt(b, sizeof b, "%s/b", test_tmpdir());
	CHECK_RC(model_save(m, a, &e), RC_OK);
	CHECK_RC(model_load(a, &n, &e), RC_OK);
	check_same(m->params, n->params, m->n_params);
	CHECK(n->cfg.qkv_bias && !n->cfg.tied && n->cfg.rms_eps == c.rms_eps);
	CHECK_EQ(n->cfg.eos_ids[0], 2);
	CHECK_RC(model_save(n, b, &e), RC_OK);
	CHECK_RC(model_load(b, &again, &e), RC_OK);
	str_fmt(file, sizeof file, "%s/model.safetensors", a);
	CHECK_RC(fs_read(file, 1 << 24, &first, &e), RC_OK);
	str_fmt(file, sizeof file, "%s/model.safetensors", b);
	CHECK_RC(fs_read(file, 1 << 24, &second, &e), RC_OK);
	CHECK(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
}

/* --- config.json -------------------------------------------------------------------------------
 */

/* A small configuration of the family with more members appended; they come last and win. */
static enum rc parse(const char *family, const char *more, struct model_config *c, struct err *e)
{
	static const char sizes[] = "\"vocab_size\":64,\"hidden_size\":32,\"num_hidden_layers\":2,"
				    "\"num_attention_heads\":4,\"intermediate_size\":48";
	struct buf b = BUF_INIT;
	json_t *o = NULL;

	buf_printf(&b, "{%s%s%s%s%s%s%s}", family ? "\"model_type\":\"" : "", family ? family : "",
		   family ? "\"," : "", strstr(more, "vocab_size") ? "" : sizes,
		   strstr(more, "vocab_size") || !*more ? "" : ",", more,
		   !family || strcmp(family, "llama") == 0 || strstr(more, "num_key_value_heads")
			   ? ""
			   : ",\"num_key_value_heads\":4");
	enum rc rc = jx_parse(b.data, b.len, "config.json", &o, e);

	if (rc == RC_OK)
		rc = model_config_parse(o, NULL, c, e);
	json_decref(o);
	buf_release(&b);
	return rc;
}

/* Every field that a configuration has; their padding may differ. */
static bool same_config(const struct model_config *a, const struct model_config *b)
{
	json_t *x = model_config_json(a), *y = model_config_json(b);
	bool same = json_equal(x, y) && a->qkv_bias == b->qkv_bias &&
		    a->rope_theta == b->rope_theta && a->rms_eps == b->rms_eps &&
		    a->rope_factor == b->rope_factor && a->rope_low_freq == b->rope_low_freq &&
		    a->rope_high_freq == b->rope_high_freq &&
		    a->rope_old_max_pos == b->rope_old_max_pos;

	json_decref(x);
	json_decref(y);
	return same;
}

static const struct {
	const char *family, *more, *why;
} refused[] = {
	{NULL, "", "model_type"},
	{"gpt2", "", "gpt2"},
	{"mixtral", "", "mixtral"},
	{"llama", "\"hidden_act\":\"gelu\"", "gelu"},
	{"llama", "\"attention_bias\":true", "attention_bias"},
	{"mistral", "\"attention_bias\":true", "attention_bias"},
	{"llama", "\"mlp_bias\":true", "mlp_bias"},
	{"llama", "\"num_key_value_heads\":3", "multiple"},
	{"llama", "\"head_dim\":7", "head size 7"},
	{"llama", "\"head_dim\":512", "head_dim"},
	{"llama",
	 "\"num_attention_heads\":5,\"vocab_size\":64,\"hidden_size\":32,"
	 "\"num_hidden_layers\":2,\"intermediate_size\":48",
	 "not a multiple of num_attention_heads 5"},
	{"llama", "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2}", "yarn"},
	{"llama", "\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}", "dynamic"},
	{"llama", "\"rope_scaling\":{\"rope_type\":\"longrope\"}", "longrope"},
	{"qwen2", "\"rope_scaling\":{\"type\":\"mrope\",\"mrope_section\":[8]}", "mrope"},
	{"llama", "\"rope_scaling\":{\"type\":\"linear\"}", "factor"},
	{"llama", "\"rope_scaling\":{\"type\":\"linear\",\"factor\":0.5}", "factor"},
	{"llama", "\"rope_scaling\":4", "rope_scaling"},
	{"llama", "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}", "low_freq_factor"},
	{"llama",
	 "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
	 "\"high_freq_factor\":1,\"original_max_position_embeddings\":64}",
	 "above low_freq_factor"},
	{"llama", "\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"}}",
	 "full_attention"},
	{"llama", "\"rope_parameters\":{\"rope_type\":\"default\",\"partial_rotary_factor\":0.5}",
	 "partial_rotary_factor"},
	{"llama", "\"partial_rotary_factor\":0.5", "partial_rotary_factor"},
	{"llama", "\"rotary_pct\":0.25", "rotary_pct"},
	{"llama", "\"rope_interleaved\":true", "rope_interleaved"},
	{"qwen2", "\"use_mrope\":true", "use_mrope"},
	{"llama", "\"alibi\":true", "alibi"},
	{"llama", "\"attn_logit_softcapping\":50.0", "soft caps"},
	{"llama", "\"final_logit_softcapping\":30.0", "soft caps"},
	{"llama", "\"query_pre_attn_scalar\":256", "query_pre_attn_scalar"},
	{"llama", "\"attention_multiplier\":0.015", "attention_multiplier"},
	{"llama", "\"embedding_multiplier\":12.0", "embedding_multiplier"},
	{"llama", "\"residual_multiplier\":0.22", "residual_multiplier"},
	{"llama", "\"logits_scaling\":8.0", "logits_scaling"},
	{"llama", "\"logit_scale\":0.0625", "logit_scale"},
	{"llama", "\"clip_qkv\":8.0", "clip_qkv"},
	{"llama", "\"use_qk_norm\":true", "use_qk_norm"},
	{"llama", "\"qk_layernorm\":true", "qk_layernorm"},
	{"llama", "\"use_parallel_residual\":true", "use_parallel_residual"},
	{"mistral", "\"num_local_experts\":8", "experts"},
	{"qwen2", "\"num_experts\":60", "experts"},
	{"llama", "\"n_routed_experts\":64", "experts"},
	{"llama", "\"attention_dropout\":0.1", "attention_dropout"},
	{"llama", "\"is_encoder_decoder\":true", "is_encoder_decoder"},
	{"llama", "\"add_cross_attention\":true", "add_cross_attention"},
	{"llama", "\"is_causal\":false", "is_causal"},
	{"llama", "\"quantization_config\":{}", "quantization_config"},
	{"llama", "\"compression_config\":{\"format\":\"x\"}", "compression_config"},
	{"llama", "\"architectures\":[\"LlamaForSequenceClassification\"]",
	 "LlamaForSequenceClassification"},
	{"mistral", "\"architectures\":[\"LlamaForCausalLM\"]", "MistralForCausalLM"},
	{"llama", "\"auto_map\":{\"AutoModelForCausalLM\":\"modeling_x.X\"}", "auto_map"},
	{"qwen2", "\"use_sliding_window\":true", "use_sliding_window"},
	{"qwen2", "\"layer_types\":[\"full_attention\",\"sliding_attention\"]", "layer_types[1]"},
	{"mistral", "\"layer_types\":[\"full_attention\",\"full_attention\"]", "layer_types[0]"},
	{"mistral", "\"sliding_window\":0", "sliding_window"},
	{"mistral",
	 "\"vocab_size\":64,\"hidden_size\":32,\"num_hidden_layers\":2,"
	 "\"num_attention_heads\":4,\"intermediate_size\":48,"
	 "\"num_key_value_heads\":\"4\"",
	 "num_key_value_heads"},
	{"llama", "\"eos_token_id\":64", "eos_token_id"},
	{"llama", "\"eos_token_id\":\"2\"", "eos_token_id"},
	{"llama", "\"eos_token_id\":[1,2,3,4,5,6,7,8,9]", "9 entries"},
	{"llama", "\"bos_token_id\":64", "bos_token_id"},
	{"llama", "\"vocab_size\":0", "vocab_size"},
	{"llama", "\"vocab_size\":64", "hidden_size"},
};

void test_model_files__refuses_what_it_would_compute_wrongly(void)
{
	struct model_config c;

	for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
		struct err e = {0};
		enum rc rc = parse(refused[i].family, refused[i].more, &c, &e);

		if (rc == RC_OK || !strstr(e.text, refused[i].why))
			printf("# case %zu (%s) says: %s\n", i, refused[i].more, e.text);
		CHECK(rc == RC_INVALID || rc == RC_UNSUPPORTED);
		CHECK(strstr(e.text, refused[i].why));
	}
}

/* The same fields where they change nothing. */
void test_model_files__reads_neutral_settings(void)
{
	static const char *const neutral[] = {
		"\"hidden_act\":\"swish\"",
		"\"attention_bias\":false,\"mlp_bias\":false,\"attention_dropout\":0.0",
		"\"quantization_config\":null,\"rope_scaling\":null,\"head_dim\":null",
		"\"rope_scaling\":{\"rope_type\":\"default\"}",
		"\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":10000.0}",
		"\"partial_rotary_factor\":1.0,\"logit_scale\":1,\"is_causal\":true",
		"\"architectures\":[\"LLaMAForCausalLM\"],\"auto_map\":{\"AutoConfig\":\"x.X\"}",
		"\"sliding_window\":16,\"pretraining_tp\":2,\"use_cache\":true",
		"\"layer_types\":[\"full_attention\",\"full_attention\"]",
		"\"eos_token_id\":null,\"pad_token_id\":-1,\"num_key_value_heads\":null",
	};
	struct model_config plain, c;
	struct err e = {0};

	CHECK_RC(parse("llama", "", &plain, &e), RC_OK);
	CHECK(plain.n_kv_heads == 4 && plain.head_dim == 8 && plain.max_pos == 2048);
	CHECK(plain.rope_theta == 10000 && plain.rms_eps == 1e-6f && !plain.tied);
	CHECK(plain.sliding_window == 0 && !plain.qkv_bias && plain.rope_scaling == ROPE_NONE);
	for (size_t i = 0; i < sizeof neutral / sizeof neutral[0]; i++) {
		CHECK_RC(parse("llama", neutral[i], &c, &e), RC_OK);
		CHECK(same_config(&c, &plain));
	}
}

void test_model_files__reads_the_families(void)
{
	struct model_config c;
	struct err e = {0};

	CHECK_RC(parse("mistral",
		       "\"sliding_window\":16,\"num_key_value_heads\":2,\"head_dim\":16,"
		       "\"eos_token_id\":[2,5],\"pad_token_id\":null,\"rope_theta\":1000000.0",
		       &c, &e),
		 RC_OK);
	CHECK_EQ(c.sliding_window, 16);
	CHECK_EQ(c.head_dim, 16);
	CHECK_EQ(c.n_eos, 2);
	CHECK_EQ(c.max_pos, 131072);
	CHECK(model_is_eos(&c, 5) && !model_is_eos(&c, 3) && c.pad_id == -1 && !c.tied);
	/* Mistral 7B v0.1 may leave the window out, v0.2 says null. */
	CHECK_RC(parse("mistral", "\"rope_theta\":10000", &c, &e), RC_OK);
	CHECK_EQ(c.sliding_window, 4096);
	CHECK_RC(parse("mistral", "\"sliding_window\":null", &c, &e), RC_OK);
	CHECK_EQ(c.sliding_window, 0);
	CHECK_RC(parse("qwen2",
		       "\"sliding_window\":16,\"use_sliding_window\":false,"
		       "\"tie_word_embeddings\":true,\"max_window_layers\":1,"
		       "\"layer_types\":[\"full_attention\",\"full_attention\"]",
		       &c, &e),
		 RC_OK);
	CHECK(c.sliding_window == 0 && c.qkv_bias && c.tied);
	CHECK_RC(parse("llama",
		       "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
		       "\"low_freq_factor\":1,\"high_freq_factor\":4,"
		       "\"original_max_position_embeddings\":8192}",
		       &c, &e),
		 RC_OK);
	CHECK(c.rope_scaling == ROPE_LLAMA3 && c.rope_factor == 8 && c.rope_high_freq == 4);
	CHECK_RC(parse("llama",
		       "\"rope_parameters\":{\"type\":\"linear\",\"factor\":4,\"rope_theta\":5e5}",
		       &c, &e),
		 RC_OK);
	CHECK(c.rope_scaling == ROPE_LINEAR && c.rope_factor == 4 && c.rope_theta == 500000);
}

/* What is written reads back as the same configuration. */
void test_model_files__config_survives_writing(void)
{
	static const struct {
		const char *family, *more;
	} cases[] = {
		{"llama", "\"tie_word_embeddings\":true,\"eos_token_id\":[3,4],\"bos_token_id\":1"},
		{"llama", "\"rms_norm_eps\":1e-5,\"num_key_value_heads\":2,\"head_dim\":16,"
			  "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
			  "\"low_freq_factor\":1,\"high_freq_factor\":4,"
			  "\"original_max_position_embeddings\":8192}"},
		{"llama", "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.3}"},
		{"mistral", "\"sliding_window\":null,\"rope_theta\":1000000.0"},
		{"mistral", "\"sliding_window\":512,\"pad_token_id\":7,\"rope_theta\":12345.6789"},
		{"qwen2", "\"max_position_embeddings\":4096"},
	};
	struct model_config a, b;
	struct err e = {0};

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		CHECK_RC(parse(cases[i].family, cases[i].more, &a, &e), RC_OK);
		json_t *o = model_config_json(&a);
		CHECK_RC(model_config_parse(o, NULL, &b, &e), RC_OK);
		CHECK(same_config(&a, &b));
		json_decref(o);
	}
}

/* Values from the formula of transformers' _compute_llama3_parameters for Llama 3.1's settings. */
void test_model_files__llama3_rope_scaling(void)
{
	struct model_config c = {.head_dim = 128,
				 .rope_theta = 500000,
				 .rope_scaling = ROPE_LLAMA3,
				 .rope_factor = 8,
				 .rope_low_freq = 1,
				 .rope_high_freq = 4,
				 .rope_old_max_pos = 8192};
	struct rope_table t;
	struct err e = {0};

	CHECK_RC(rope_table_make(&c, 2, &t, &e), RC_OK);
	for (int i = 0; i < 64; i++) {
		double f = pow(500000.0, -i / 64.0), wave = 6.283185307179586 / f, want = f;

		if (wave > 8192)
			want = f / 8;
		else if (wave > 2048) {
			double s = (8192 / wave - 1) / 3;

			want = (1 - s) * f / 8 + s * f;
		}
		CHECK_NEAR((double)t.sin[64 + i], sin(want), 1e-7);
		CHECK_NEAR((double)t.cos[64 + i], cos(want), 1e-7);
	}
	CHECK(t.sin[0] == 0 && t.cos[5] == 1);
	rope_table_release(&t);
}

/* --- weights of other types, in shards, and broken ---------------------------------------------
 */

static uint16_t bf16_of(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof bits);
	return (uint16_t)(bits >> 16);
}

/* Half precision of a value that half precision holds exactly. */
static uint16_t half_of(float x)
{
	int exp;
	float frac = frexpf(fabsf(x), &exp);

	if (x == 0)
		return signbit(x) ? 0x8000 : 0;
	if (exp < -13)
		return (uint16_t)((x < 0 ? 0x8000 : 0) | (int)(fabsf(x) * 0x1p24f));
	return (uint16_t)((x < 0 ? 0x8000 : 0) | (exp + 14) << 10 | ((int)(frac * 2048) & 1023));
}

struct broken {
	const char *skip, *reshape, *add; /* tensor left out, transposed, added */
	enum st_dtype dtype;
};

/* Weights rounded to eighths, so that every type holds them exactly; then written as `b` says. */
static enum rc write_variant(struct model *m, const char *dir, const struct broken *b,
			     struct err *e)
{
	static uint16_t half[1 << 16];
	struct st_tensor list[64];
	char path[600];
	size_t n = 0, at = 0;

	if (model_save(m, dir, e) != RC_OK)
		return e->code;
	for (int i = 0; i < m->n_tensors; i++) {
		const struct tensor_ref *t = &m->tensors[i];
		size_t size = (size_t)t->rows * (t->cols ? (size_t)t->cols : 1);
		float *w = m->params + t->offset;

		if (b->skip && strcmp(t->name, b->skip) == 0)
			continue;
		for (size_t j = 0; j < size; j++)
			half[at + j] = b->dtype == ST_F16 ? half_of(w[j]) : bf16_of(w[j]);
		list[n] = (struct st_tensor){.name = t->name,
					     .dtype = b->dtype,
					     .ndim = t->cols ? 2 : 1,
					     .shape = {t->rows, t->cols},
					     .data = b->dtype == ST_F32 ? (void *)w : half + at,
					     .size_bytes = size * st_dtype_size(b->dtype)};
		if (b->reshape && strcmp(t->name, b->reshape) == 0) {
			list[n].shape[0] = t->cols;
			list[n].shape[1] = t->rows;
		}
		at += size;
		n++;
	}
	if (b->add) {
		list[n] = list[n - 1];
		list[n++].name = b->add;
	}
	str_fmt(path, sizeof path, "%s/model.safetensors", dir);
	return st_write(path, list, n, NULL, e);
}

static void round_weights(struct model *m)
{
	for (size_t i = 0; i < m->n_params; i++)
		m->params[i] = roundf(m->params[i] * 8) / 8;
	m->params[m->embed] = 0x1p-16f; /* subnormal in half precision */
	m->params[m->embed + 1] = -96;
}

void test_model_files__half_types_widen_exactly(void)
{
	static const enum st_dtype types[] = {ST_F32, ST_BF16, ST_F16};
	struct model_config c = tiny(true, false);
	struct model *m = random_model(&c);
	struct err e = {0};
	char dir[512];

	round_weights(m);
	for (size_t i = 0; i < 3; i++) {
		struct model *n = NULL;

		str_fmt(dir, sizeof dir, "%s/%zu", test_tmpdir(), i);
		CHECK_RC(write_variant(m, dir, &(struct broken){.dtype = types[i]}, &e), RC_OK);
		CHECK_RC(model_load(dir, &n, &e), RC_OK);
		check_same(m->params, n->params, m->n_params);
		model_free(n);
	}
}

void test_model_files__broken_weights_are_refused_by_name(void)
{
	static const struct {
		struct broken b;
		const char *why;
	} cases[] = {
		{{.skip = "model.norm.weight", .dtype = ST_F32}, "model.norm.weight is missing"},
		{{.reshape = "model.layers.1.mlp.up_proj.weight", .dtype = ST_F32}, "up_proj"},
		{{.add = "model.layers.0.lora_A.weight", .dtype = ST_F32}, "lora_A"},
	};
	struct model_config c = tiny(true, false);
	struct model *m = random_model(&c), *n = NULL;
	struct err e = {0};
	char dir[512];

	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		str_fmt(dir, sizeof dir, "%s/%zu", test_tmpdir(), i);
		CHECK_RC(write_variant(m, dir, &cases[i].b, &e), RC_OK);
		CHECK(model_load(dir, &n, &e) != RC_OK);
		CHECK(strstr(e.text, cases[i].why));
	}
	m->params[m->norm_out] = NAN;
	str_fmt(dir, sizeof dir, "%s/nan", test_tmpdir());
	CHECK_RC(write_variant(m, dir, &(struct broken){.dtype = ST_F32}, &e), RC_OK);
	CHECK_RC(model_load(dir, &n, &e), RC_INVALID);
	CHECK(strstr(e.text, "not finite"));
	CHECK_RC(model_load("/nonexistent", &n, &e), RC_NOTFOUND);
}
