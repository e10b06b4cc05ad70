#include "tests/ref64_toys.h"

#include "base/str.h"
#include "tests/kern_util.h"

#define SIZES                                                                                      \
	.vocab = 97, .n_layers = 2, .max_pos = 256, .bos_id = 1, .pad_id = -1, .eos_ids = {2},     \
	.n_eos = 1, .rms_eps = 1e-5f

const struct toy_kind toy_kinds[] = {
	{"llama",
	 {SIZES, .arch = "llama", .dim = 32, .n_heads = 4, .n_kv_heads = 4, .head_dim = 8,
	  .ffn_dim = 64, .rope_theta = 10000}},
	{"llama 3.1, grouped, wide heads, tied",
	 {SIZES, .arch = "llama", .dim = 32, .n_heads = 4, .n_kv_heads = 2, .head_dim = 16,
	  .ffn_dim = 96, .rope_theta = 50, .rope_scaling = ROPE_LLAMA3, .rope_factor = 8,
	  .rope_low_freq = 1, .rope_high_freq = 4, .rope_old_max_pos = 32, .tied = true}},
	{"llama, linear scaling, one key head",
	 {SIZES, .arch = "llama", .dim = 64, .n_heads = 4, .n_kv_heads = 1, .head_dim = 8,
	  .ffn_dim = 64, .rope_theta = 200, .rope_scaling = ROPE_LINEAR, .rope_factor = 4}},
	{"mistral, window of 7",
	 {SIZES, .arch = "mistral", .dim = 64, .n_heads = 4, .n_kv_heads = 2, .head_dim = 16,
	  .ffn_dim = 64, .rope_theta = 10000, .sliding_window = 7}},
	{"qwen2, bias, tied",
	 {SIZES, .arch = "qwen2", .dim = 32, .n_heads = 2, .n_kv_heads = 1, .head_dim = 32,
	  .ffn_dim = 64, .rope_theta = 1000000, .qkv_bias = true, .tied = true}},
};
const size_t n_toy_kinds = sizeof toy_kinds / sizeof toy_kinds[0];

int toy_int(uint32_t *seed, int low, int high)
{
	int n = (int)((number(seed) + 1) * 0.5f * (float)(high - low + 1));

	return low + (n > high - low ? high - low : n);
}

static bool often(uint32_t *seed)
{
	return toy_int(seed, 0, 1) == 0;
}

struct model_config toy_random_config(uint32_t *seed)
{
	struct model_config c = {SIZES};

	str_copy(c.arch, sizeof c.arch, "llama");
	c.vocab = toy_int(seed, 5, 131);
	c.dim = toy_int(seed, 8, 70);
	c.n_layers = toy_int(seed, 1, 3);
	c.n_kv_heads = toy_int(seed, 1, 3);
	c.n_heads = c.n_kv_heads * toy_int(seed, 1, 4);
	c.head_dim = 2 * toy_int(seed, 1, 20);
	c.ffn_dim = toy_int(seed, 1, 90);
	c.rope_theta = often(seed) ? 10000 : 30;
	c.rms_eps = often(seed) ? 1e-6f : 1e-3f;
	c.tied = often(seed);
	c.qkv_bias = often(seed);
	c.sliding_window = often(seed) ? 0 : toy_int(seed, 1, 50);
	c.rope_scaling = (enum rope_scaling)toy_int(seed, ROPE_NONE, ROPE_LLAMA3);
	c.rope_factor = 3;
	c.rope_low_freq = 1;
	c.rope_high_freq = 4;
	c.rope_old_max_pos = 32;
	return c;
}

struct model *toy_model(const struct model_config *c, uint32_t seed)
{
	struct model *m = NULL;
	struct err e = {0};

	CHECK_RC(model_new(c, &m, &e), RC_OK);
	for (int i = 0; i < m->n_tensors; i++) {
		const struct tensor_ref *t = &m->tensors[i];
		bool table = str_ends(t->name, "embed_tokens.weight");
		bool bias = str_ends(t->name, ".bias");
		float size = table && !c->tied ? 1 : t->cols ? 1.7f / sqrtf((float)t->cols) : 0.3f;

		for (size_t k = 0; k < tensor_size(t); k++)
			m->params[t->offset + k] = (t->cols || bias ? 0 : 1) + size * number(&seed);
	}
	return m;
}

void toy_batch_make(struct toy_batch *b, int vocab, uint32_t seed)
{
	static const float weights[] = {1, 1, 0.5f, 1, 0, 2.25f};

	for (int i = 0; i < TOY_BATCH; i++) {
		int32_t *ids = b->ids[i];
		int n = toy_int(&seed, 1, TOY_LENGTH - TOY_RESPONSE);

		for (int k = 0; k < 2 * TOY_LENGTH; k++)
			ids[k] = toy_int(&seed, 0, vocab - 1);
		b->ex[i] = (struct train_example){.prompt = ids,
						  .n_prompt = n,
						  .response = ids + TOY_LENGTH,
						  .n_response = toy_int(&seed, 1, TOY_RESPONSE),
						  .weight = weights[i % 6]};
		b->pairs[i] = (struct train_pair){
			.prompt = ids,
			.n_prompt = n,
			.chosen = ids + TOY_LENGTH,
			.n_chosen = i % 5 == 4 ? 1 : toy_int(&seed, 1, TOY_RESPONSE),
			.rejected = ids + TOY_LENGTH + TOY_RESPONSE,
			.n_rejected = i % 5 == 2 ? 1 : toy_int(&seed, 1, TOY_RESPONSE)};
	}
}
