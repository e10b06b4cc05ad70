#include "worker/model/lora.h"

#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_ALIGN 16		       /* floats */
#define LORA_ITEMS ((uint64_t)1 << 32) /* items of RNG_INIT below are the model's tensors */

/* Parts that share their input, in the order of the model's products. */
static const unsigned products[] = {MODEL_Q | MODEL_K | MODEL_V, MODEL_O, MODEL_GATE | MODEL_UP,
				    MODEL_DOWN};

/* --- targets ---------------------------------------------------------------------------------- */

static bool is_part(const char *word, size_t len, const char *name)
{
	size_t whole = strlen(name), bare = whole - strlen("_proj");

	return (len == whole || len == bare) && strncmp(word, name, len) == 0;
}

static unsigned part_of(const char *word, size_t len)
{
	if ((len == 3 && strncmp(word, "all", 3) == 0) ||
	    (len == 10 && strncmp(word, "all-linear", 10) == 0))
		return MODEL_ALL_PARTS;
	for (int i = 0; i < MODEL_PARTS; i++) {
		const char *name = strchr(model_part_name(1u << i), '.') + 1;

		if (is_part(word, len, name))
			return 1u << i;
	}
	return 0;
}

enum rc lora_targets_parse(const char *text, unsigned *out, struct err *e)
{
	*out = 0;
	for (const char *at = text;; at++) {
		size_t len = strcspn(at, ",");
		unsigned part = part_of(at, len);

		if (!part)
			return err_set(e, RC_INVALID,
				       "LoRA targets: \"%.*s\" is none of q_proj, k_proj, v_proj, "
				       "o_proj, gate_proj, up_proj, down_proj, all-linear",
				       (int)(len < 40 ? len : 40), at);
		*out |= part;
		at += len;
		if (!*at)
			return RC_OK;
	}
}

/* --- layout ----------------------------------------------------------------------------------- */

/* Ranks cut A where the matrix beside it is cut by columns, B where it is by rows. */
static void place(struct lora *l, size_t *at, const struct model_config *cfg, int layer, int part,
		  bool is_a)
{
	struct model_shape shape = model_part_shape(cfg, 1u << part);
	bool by_cols = 1u << part & (MODEL_O | MODEL_DOWN), cut = by_cols == is_a;
	int n = cut && cfg->n_ranks > 1 ? cfg->n_ranks : 1, rank = cut ? cfg->rank : 0;
	struct tensor_ref t = {.offset = *at,
			       .rows = is_a ? l->s.r : shape.out,
			       .cols = is_a ? shape.in : l->s.r};

	t.all_rows = is_a ? t.rows : n * t.rows;
	t.all_cols = is_a ? n * t.cols : t.cols;
	t.first_row = is_a ? 0 : rank * t.rows;
	t.first_col = is_a ? rank * t.cols : 0;
	(is_a ? l->a : l->b)[layer * MODEL_PARTS + part] = *at;
	str_fmt(t.name, sizeof t.name, "base_model.model.model.layers.%d.%s.lora_%c.weight", layer,
		model_part_name(1u << part), is_a ? 'A' : 'B');
	l->tensors[l->n_tensors++] = t;
	*at += tensor_size(&t);
	l->n_weights += tensor_size(&t);
}

static size_t aligned(size_t at)
{
	return (at + GROUP_ALIGN - 1) / GROUP_ALIGN * GROUP_ALIGN;
}

/* All A of a product, then all its B. */
static void place_product(struct lora *l, const struct model_config *cfg, size_t *at, int layer,
			  unsigned parts)
{
	for (int which = 0; which < 2; which++) {
		*at = aligned(*at);
		for (int p = 0; p < MODEL_PARTS; p++)
			if (parts & l->s.targets & 1u << p)
				place(l, at, cfg, layer, p, which == 0);
	}
}

static enum rc check(const struct lora_settings *s, struct err *e)
{
	if (s->r < 1 || s->r > LORA_RANK_MAX)
		return err_set(e, RC_INVALID, "LoRA rank %d: expected 1 to %d", s->r,
			       LORA_RANK_MAX);
	if (!(s->alpha > 0) || !isfinite(s->alpha))
		return err_set(e, RC_INVALID, "LoRA alpha %g: expected above 0", s->alpha);
	if (!(s->dropout >= 0) || !(s->dropout < 1))
		return err_set(e, RC_INVALID, "LoRA dropout %g: expected 0 to below 1", s->dropout);
	if (!s->targets || s->targets & ~(unsigned)MODEL_ALL_PARTS)
		return err_set(e, RC_INVALID, "LoRA needs at least one target");
	return RC_OK;
}

/* Without memory for the numbers. */
static struct lora *plan(const struct model_config *cfg, const struct lora_settings *s)
{
	struct lora *l = mem_new(sizeof *l);
	size_t n = (size_t)cfg->n_layers * MODEL_PARTS, at = 0;

	l->s = *s;
	l->scale = (float)(s->alpha / (s->rslora ? sqrt(s->r) : s->r));
	l->tensors = mem_array(2 * n, sizeof *l->tensors);
	l->a = mem_array(n, sizeof *l->a);
	l->b = mem_array(n, sizeof *l->b);
	for (int i = 0; i < cfg->n_layers; i++)
		for (size_t p = 0; p < sizeof products / sizeof products[0]; p++)
			place_product(l, cfg, &at, i, products[p]);
	l->n_params = aligned(at);
	return l;
}

size_t lora_bytes(const struct model_config *cfg, const struct lora_settings *s)
{
	struct lora *l = plan(cfg, s);
	size_t bytes = l->n_params * sizeof(float);

	lora_free(l);
	return bytes;
}

static void fill(struct lora *l, uint64_t seed)
{
	for (int i = 0; i < l->n_tensors; i++) {
		const struct tensor_ref *t = &l->tensors[i];
		float *p = l->params + t->offset, bound = 1.0f / sqrtf((float)t->all_cols), x = 0;
		struct rng r;
		size_t at = 0;

		if (!str_ends(t->name, "lora_A.weight"))
			continue;
		rng_open(&r, seed, RNG_INIT, 0, LORA_ITEMS + (uint64_t)i, 0);
		for (size_t k = 0; k < tensor_size(t); k++) {
			for (; at <= tensor_whole_at(t, k); at++)
				x = bound * (2.0f * rng_unit(&r) - 1.0f);
			p[k] = x;
		}
	}
}

enum rc lora_new(const struct model_config *cfg, const struct lora_settings *s, uint64_t seed,
		 struct lora **out, struct err *e)
{
	enum rc rc = check(s, e);
	struct lora *l;

	if (rc != RC_OK)
		return rc;
	l = plan(cfg, s);
	l->params = mem_try(l->n_params * sizeof *l->params);
	if (!l->params) {
		rc = err_set(e, RC_NOMEM, "an adapter of rank %d needs %zu MiB", s->r,
			     l->n_params * sizeof *l->params >> 20);
		lora_free(l);
		return rc;
	}
	fill(l, seed);
	*out = l;
	return RC_OK;
}

void lora_free(struct lora *l)
{
	if (!l)
		return;
	mem_try_free(l->params, l->n_params * sizeof *l->params);
	free(l->tensors);
	free(l->a);
	free(l->b);
	free(l);
}

/* --- merging ---------------------------------------------------------------------------------- */

void lora_merge_part(const struct lora *l, const struct model_config *cfg, const struct kern *k,
		     struct kern_pool *pool, int layer, int part, float *w, float *scaled)
{
	struct model_shape shape = model_part_shape(cfg, 1u << part);
	size_t at = (size_t)layer * MODEL_PARTS + (size_t)part;
	size_t n = (size_t)shape.out * (size_t)l->s.r;

	if (!(l->s.targets & 1u << part))
		return;
	memcpy(scaled, l->params + l->b[at], n * sizeof *scaled);
	k->scale(pool, scaled, n, l->scale);
	k->gemm_nn(pool, KERN_F32, w, shape.in, scaled, l->s.r, l->params + l->a[at], shape.in,
		   shape.out, l->s.r, shape.in, true);
}

size_t lora_merge_floats(const struct lora *l, const struct model_config *cfg)
{
	int widest = cfg->ffn_dim;

	for (int p = 0; p < MODEL_PARTS; p++) {
		int out = model_part_shape(cfg, 1u << p).out;

		widest = out > widest ? out : widest;
	}
	return (size_t)widest * (size_t)l->s.r;
}

void lora_merge(const struct lora *l, struct model *m, const struct kern *k, struct kern_pool *pool)
{
	float *scaled = mem_array(lora_merge_floats(l, &m->cfg), sizeof *scaled);

	for (int i = 0; i < m->cfg.n_layers; i++)
		for (int p = 0; p < MODEL_PARTS; p++)
			lora_merge_part(l, &m->cfg, k, pool, i, p,
					m->params + model_part_at(m, i, 1u << p), scaled);
	free(scaled);
}
