#include "worker/model/model.h"

#include "base/check.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_ALIGN 16 /* floats */

struct layout {
	struct model *m;
	size_t at;
};

static void align_group(struct layout *l)
{
	l->at = (l->at + GROUP_ALIGN - 1) / GROUP_ALIGN * GROUP_ALIGN;
}

/* How ranks share a tensor. */
enum cut { WHOLE, ROWS, COLS, WORDS };

static size_t place(struct layout *l, enum cut cut, int rows, int cols, const char *name)
{
	const struct model_config *c = &l->m->cfg;
	struct tensor_ref *t = &l->m->tensors[l->m->n_tensors++];
	int n = c->n_ranks > 1 ? c->n_ranks : 1;
	size_t size, at = l->at;

	*t = (struct tensor_ref){.offset = at,
				 .rows = rows,
				 .cols = cols,
				 .first_row = cut == ROWS    ? c->rank * rows
					      : cut == WORDS ? model_vocab_span(c).from
							     : 0,
				 .first_col = cut == COLS ? c->rank * cols : 0,
				 .all_rows = cut == ROWS    ? n * rows
					     : cut == WORDS ? c->vocab
							    : rows,
				 .all_cols = cut == COLS ? n * cols : cols};
	size = tensor_size(t);
	str_copy(t->name, sizeof t->name, name);
	l->at += size;
	l->m->n_weights += size;
	return at;
}

static size_t place_in(struct layout *l, int layer, enum cut cut, int rows, int cols,
		       const char *part)
{
	char name[MODEL_NAME_MAX];

	str_fmt(name, sizeof name, "model.layers.%d.%s", layer, part);
	return place(l, cut, rows, cols, name);
}

static void place_layer(struct layout *l, int i)
{
	const struct model_config *c = &l->m->cfg;
	struct model_layer *y = &l->m->layers[i];
	int q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;

	align_group(l);
	y->norm_attn = place_in(l, i, WHOLE, c->dim, 0, "input_layernorm.weight");
	align_group(l);
	y->wq = place_in(l, i, ROWS, q, c->dim, "self_attn.q_proj.weight");
	y->wk = place_in(l, i, ROWS, kv, c->dim, "self_attn.k_proj.weight");
	y->wv = place_in(l, i, ROWS, kv, c->dim, "self_attn.v_proj.weight");
	if (c->qkv_bias) {
		align_group(l);
		y->bq = place_in(l, i, ROWS, q, 0, "self_attn.q_proj.bias");
		y->bk = place_in(l, i, ROWS, kv, 0, "self_attn.k_proj.bias");
		y->bv = place_in(l, i, ROWS, kv, 0, "self_attn.v_proj.bias");
	}
	align_group(l);
	y->wo = place_in(l, i, COLS, c->dim, q, "self_attn.o_proj.weight");
	align_group(l);
	y->norm_ffn = place_in(l, i, WHOLE, c->dim, 0, "post_attention_layernorm.weight");
	align_group(l);
	y->w1 = place_in(l, i, ROWS, c->ffn_dim, c->dim, "mlp.gate_proj.weight");
	y->w3 = place_in(l, i, ROWS, c->ffn_dim, c->dim, "mlp.up_proj.weight");
	align_group(l);
	y->w2 = place_in(l, i, COLS, c->dim, c->ffn_dim, "mlp.down_proj.weight");
}

static void lay_out(struct model *m)
{
	const struct model_config *c = &m->cfg;
	struct layout l = {.m = m};
	int words = model_vocab_span(c).n;

	m->embed = place(&l, WORDS, words, c->dim, "model.embed_tokens.weight");
	for (int i = 0; i < c->n_layers; i++)
		place_layer(&l, i);
	align_group(&l);
	m->norm_out = place(&l, WHOLE, c->dim, 0, "model.norm.weight");
	m->head = m->embed;
	if (!c->tied) {
		align_group(&l);
		m->head = place(&l, WORDS, words, c->dim, "lm_head.weight");
	}
	align_group(&l);
	m->n_params = l.at;
}

const char *model_part_name(enum model_part p)
{
	switch (p) {
	case MODEL_Q:
		return "self_attn.q_proj";
	case MODEL_K:
		return "self_attn.k_proj";
	case MODEL_V:
		return "self_attn.v_proj";
	case MODEL_O:
		return "self_attn.o_proj";
	case MODEL_GATE:
		return "mlp.gate_proj";
	case MODEL_UP:
		return "mlp.up_proj";
	case MODEL_DOWN:
		return "mlp.down_proj";
	case MODEL_ALL_PARTS:
		break;
	}
	ASSERT(!"one part");
	return "";
}

struct model_shape model_part_shape(const struct model_config *c, enum model_part p)
{
	int q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;

	if (p == MODEL_O)
		return (struct model_shape){c->dim, q};
	if (p == MODEL_DOWN)
		return (struct model_shape){c->dim, c->ffn_dim};
	return (struct model_shape){p == MODEL_Q		    ? q
				    : p == MODEL_K || p == MODEL_V ? kv
								   : c->ffn_dim,
				    c->dim};
}

size_t model_part_at(const struct model *m, int layer, enum model_part p)
{
	const struct model_layer *y = &m->layers[layer];

	switch (p) {
	case MODEL_Q:
		return y->wq;
	case MODEL_K:
		return y->wk;
	case MODEL_V:
		return y->wv;
	case MODEL_O:
		return y->wo;
	case MODEL_GATE:
		return y->w1;
	case MODEL_UP:
		return y->w3;
	case MODEL_DOWN:
		return y->w2;
	case MODEL_ALL_PARTS:
		break;
	}
	ASSERT(!"one part");
	return 0;
}

enum rc model_plan(const struct model_config *cfg, struct model **out, struct err *e)
{
	enum rc rc = model_config_check(cfg, e);
	struct model *m;

	if (rc != RC_OK)
		return rc;
	m = mem_new(sizeof *m);
	m->cfg = *cfg;
	m->tensors = mem_array((size_t)cfg->n_layers * 12 + 3, sizeof *m->tensors);
	m->layers = mem_array((size_t)cfg->n_layers, sizeof *m->layers);
	lay_out(m);
	*out = m;
	return RC_OK;
}

enum rc model_new(const struct model_config *cfg, struct model **out, struct err *e)
{
	struct model *m;
	enum rc rc = model_plan(cfg, &m, e);

	if (rc != RC_OK)
		return rc;
	m->params = mem_try(m->n_params * sizeof *m->params);
	if (!m->params) {
		rc = err_set(e, RC_NOMEM, "weights need %zu MiB (%zu parameters as F32)",
			     m->n_params * sizeof *m->params >> 20, m->n_weights);
		model_free(m);
		return rc;
	}
	*out = m;
	return RC_OK;
}

void model_free(struct model *m)
{
	if (!m)
		return;
	mem_try_free(m->params, m->n_params * sizeof *m->params);
	free(m->tensors);
	free(m->layers);
	free(m);
}

size_t tensor_size(const struct tensor_ref *t)
{
	return (size_t)t->rows * (t->cols ? (size_t)t->cols : 1);
}

size_t tensor_whole_at(const struct tensor_ref *t, size_t k)
{
	size_t cols = t->cols ? (size_t)t->cols : 1, all = t->cols ? (size_t)t->all_cols : 1;

	return ((size_t)t->first_row + k / cols) * all + (size_t)t->first_col + k % cols;
}

static float init_scale(const struct model *m, const struct tensor_ref *t)
{
	bool writes_residual =
		str_ends(t->name, "o_proj.weight") || str_ends(t->name, "down_proj.weight");

	return writes_residual ? 0.02f / sqrtf(2.0f * (float)m->cfg.n_layers) : 0.02f;
}

/* A part gets what it has of the whole. */
void model_init(struct model *m, uint64_t seed)
{
	for (int i = 0; i < m->n_tensors; i++) {
		const struct tensor_ref *t = &m->tensors[i];
		size_t n = tensor_size(t), at = 0;
		float *p = m->params + t->offset, scale = init_scale(m, t), x = 0;
		struct rng r;

		rng_open(&r, seed, RNG_INIT, 0, (uint64_t)i, 0);
		for (size_t j = 0; j < n; j++) {
			for (; t->cols && at <= tensor_whole_at(t, j); at++)
				x = scale * rng_normal(&r);
			p[j] = t->cols ? x : str_ends(t->name, ".bias") ? 0 : 1;
		}
	}
}

enum rc model_clone(const struct model *m, struct model **out, struct err *e)
{
	enum rc rc = model_new(&m->cfg, out, e);

	if (rc != RC_OK)
		return rc;
	str_copy((*out)->dir, sizeof(*out)->dir, m->dir);
	memcpy((*out)->params, m->params, m->n_params * sizeof *m->params);
	return RC_OK;
}

/* Llama 3.1: long waves are stretched by the factor, short ones kept, those between blended. */
static double scaled_frequency(const struct model_config *c, double f)
{
	const double tau = 6.283185307179586;
	double wave = tau / f, low, high, old = (double)c->rope_old_max_pos, blend;

	if (c->rope_scaling == ROPE_NONE)
		return f;
	if (c->rope_scaling == ROPE_LINEAR)
		return f / (double)c->rope_factor;
	low = (double)c->rope_low_freq;
	high = (double)c->rope_high_freq;
	if (wave > old / low)
		return f / (double)c->rope_factor;
	if (wave < old / high)
		return f;
	blend = (old / wave - low) / (high - low);
	return (1 - blend) * f / (double)c->rope_factor + blend * f;
}

enum rc rope_table_make(const struct model_config *cfg, int n_pos, struct rope_table *t,
			struct err *e)
{
	int half = cfg->head_dim / 2;
	size_t n = (size_t)n_pos * (size_t)half;

	*t = (struct rope_table){.n_pos = n_pos, .half = half};
	t->cos = mem_try(n * sizeof *t->cos);
	t->sin = mem_try(n * sizeof *t->sin);
	if (!t->cos || !t->sin) {
		rope_table_release(t);
		return err_set(e, RC_NOMEM, "no memory for %d rotary positions", n_pos);
	}
	for (int i = 0; i < half; i++) {
		double f = scaled_frequency(cfg,
					    pow((double)cfg->rope_theta, -2.0 * i / cfg->head_dim));

		for (int p = 0; p < n_pos; p++) {
			t->cos[(size_t)p * half + i] = (float)cos(p * f);
			t->sin[(size_t)p * half + i] = (float)sin(p * f);
		}
	}
	return RC_OK;
}

size_t rope_table_bytes(const struct rope_table *t)
{
	return (size_t)t->n_pos * (size_t)t->half * sizeof *t->cos;
}

void rope_table_release(struct rope_table *t)
{
	mem_try_free(t->cos, rope_table_bytes(t));
	mem_try_free(t->sin, rope_table_bytes(t));
	*t = (struct rope_table){0};
}
