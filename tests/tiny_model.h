/* A decoder of two layers with numbers in every weight, for tests of models and of their files. */
#pragma once

#include "tests/kern_util.h"

#include "worker/model/model.h"

static struct model_config tiny(bool tied, bool bias)
{
	return (struct model_config){.arch = "llama",
				     .vocab = 23,
				     .dim = 24,
				     .n_layers = 2,
				     .n_heads = 4,
				     .n_kv_heads = 2,
				     .head_dim = 6,
				     .ffn_dim = 20,
				     .max_pos = 64,
				     .rope_theta = 100,
				     .rms_eps = 1e-5f,
				     .tied = tied,
				     .qkv_bias = bias,
				     .bos_id = 1,
				     .pad_id = -1,
				     .eos_ids = {2},
				     .n_eos = 1};
}

static struct model *random_model(const struct model_config *c)
{
	struct err e = {0};
	struct model *m = NULL;
	uint32_t seed = 11;

	CHECK_RC(model_new(c, &m, &e), RC_OK);
	model_init(m, 5);
	for (int i = 0; i < m->n_tensors; i++) {
		const struct tensor_ref *t = &m->tensors[i];
		size_t n = (size_t)t->rows * (t->cols ? (size_t)t->cols : 1);

		for (size_t j = 0; j < n; j++)
			m->params[t->offset + j] += 0.25f * number(&seed);
	}
	return m;
}
