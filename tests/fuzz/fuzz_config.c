/* config.json: any bytes are refused, or give a configuration that is sound and survives writing. */
#include "base/check.h"
#include "base/jsonx.h"
#include "tests/fuzz/fuzz.h"
#include "worker/model/config.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct model_config a, b;
	json_t *o = NULL, *again;

	if (jx_parse((const char *)data, size, "config.json", &o, NULL) != RC_OK)
		return 0;
	if (model_config_parse(o, o, &a, NULL) == RC_OK) {
		ASSERT(a.dim > 0 && a.n_heads % a.n_kv_heads == 0 && a.head_dim % 2 == 0);
		ASSERT(a.n_eos >= 0 && a.n_eos <= MODEL_EOS_MAX && a.bos_id < a.vocab);
		again = model_config_json(&a);
		ASSERT(model_config_parse(again, NULL, &b, NULL) == RC_OK);
		ASSERT(a.dim == b.dim && a.sliding_window == b.sliding_window && a.tied == b.tied);
		ASSERT(a.rope_theta == b.rope_theta && a.rope_scaling == b.rope_scaling);
		json_decref(again);
	}
	json_decref(o);
	return 0;
}

void fuzz_seed(struct buf *out)
{
	buf_puts(out, "{\"model_type\":\"mistral\",\"hidden_act\":\"silu\",\"vocab_size\":64,"
		      "\"hidden_size\":32,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
		      "\"num_key_value_heads\":2,\"intermediate_size\":48,\"head_dim\":8,"
		      "\"sliding_window\":null,\"layer_types\":[\"full_attention\"],\"rms_norm_eps\":1e-5,"
		      "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1,"
		      "\"high_freq_factor\":4,\"original_max_position_embeddings\":64},"
		      "\"rope_theta\":1e4,\"eos_token_id\":[2,3],\"bos_token_id\":1}");
}
