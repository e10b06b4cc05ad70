/* A merged model written while it is made: no second copy of the weights, and never all of them. */
#include "worker/model/lora.h"

#include "base/mem.h"
#include "worker/model/model_source.h"

#include <stdlib.h>
#include <string.h>

struct merging {
	const struct lora *l;
	struct model_source from;
	const struct kern *k;
	struct kern_pool *pool;
	float *tensor, *scaled; /* owned: the one at work, and what merging needs */
};

/* Layer and matrix that a tensor is; false: it is none of a layer's. */
static bool part_of(const struct model *m, size_t offset, int *layer, int *part)
{
	for (*layer = 0; *layer < m->cfg.n_layers; (*layer)++)
		for (*part = 0; *part < MODEL_PARTS; (*part)++)
			if (model_part_at(m, *layer, 1u << *part) == offset)
				return true;
	return false;
}

static enum rc make_tensor(struct merging *g, int i, struct err *e)
{
	const struct model *m = g->from.layout;
	const struct tensor_ref *t = &m->tensors[i];
	enum rc rc = model_source_read(&g->from, i, 0, tensor_size(t), g->tensor, e);
	int layer, part;

	model_source_drop(&g->from, i);
	if (rc == RC_OK && part_of(m, t->offset, &layer, &part))
		lora_merge_part(g->l, &m->cfg, g->k, g->pool, layer, part, g->tensor, g->scaled);
	return rc;
}

/* Asked in order: a tensor is made when its first bytes are wanted. */
static enum rc fill(void *ctx, size_t i, size_t at, void *out, size_t len, struct err *e)
{
	struct merging *g = ctx;
	enum rc rc = at == 0 ? make_tensor(g, (int)i, e) : RC_OK;

	if (rc == RC_OK)
		memcpy(out, (const char *)g->tensor + at, len);
	return rc;
}

static size_t largest(const struct model *m)
{
	size_t n = 0;

	for (int i = 0; i < m->n_tensors; i++)
		n = tensor_size(&m->tensors[i]) > n ? tensor_size(&m->tensors[i]) : n;
	return n;
}

enum rc lora_merge_save(const struct lora *l, const char *from, const char *dir,
			const struct kern *k, struct kern_pool *pool, struct err *e)
{
	struct merging g = {.l = l, .k = k, .pool = pool};
	const struct st_feed feed = {fill, &g};
	enum rc rc = model_source_open(from, &g.from, e);

	if (rc != RC_OK)
		return rc;
	g.tensor = mem_array(largest(g.from.layout), sizeof *g.tensor);
	g.scaled = mem_array(lora_merge_floats(l, &g.from.layout->cfg), sizeof *g.scaled);
	if ((rc = model_save_frame(g.from.layout, dir, e)) == RC_OK)
		rc = model_write_weights(g.from.layout, dir, &feed, e);
	model_source_close(&g.from);
	free(g.tensor);
	free(g.scaled);
	return rc;
}
