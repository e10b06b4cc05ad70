#include "worker/train/memory.h"

#include "worker/model/lora.h"
#include "worker/train/trainer_inner.h"

/* What operations take whatever the model: packed panels, the gradients of attention's blocks,
 * sums. A few MiB each. */
#define SCRATCH_BYTES ((size_t)24 << 20)
#define LEFT_FLOATS ((size_t)32 << 20) /* of a left factor that are brought in form at a time */

static size_t mib(size_t bytes)
{
	return (bytes + (1 << 19)) >> 20;
}

/* A left factor that is not BF16 yet is copied: the largest is that of the feed-forward part. The
 * output head's slopes, for a chunk of the vocabulary and the next one, and its rows. */
static size_t scratch_bytes(const struct model *m, const struct train_opts *o, int rows,
			    int softmax_rows)
{
	const struct model_config *c = &m->cfg;
	size_t left = o->format == KERN_BF16 ? (size_t)c->ffn_dim * (size_t)rows : 0;
	size_t head = (size_t)softmax_rows * (1024 + (size_t)c->dim);

	left = left < LEFT_FLOATS ? left : LEFT_FLOATS;
	return SCRATCH_BYTES + sizeof(float) * (left + head);
}

/* The same on a back end that says itself what it takes. */
static size_t device_scratch(const struct model *m, const struct kern *k, const struct train_opts *o,
			     int rows, int softmax_rows)
{
	const struct model_config *c = &m->cfg;
	struct kern_sizes s = {.weights = k->act == KERN_BF16 ? KERN_BF16 : o->format,
			       .width = c->dim,
			       .ffn = c->ffn_dim,
			       .heads = c->n_heads,
			       .kv_heads = c->n_kv_heads,
			       .head_dim = c->head_dim,
			       .vocab = model_vocab_span(c).n,
			       .rows = rows,
			       .targets = softmax_rows,
			       .trained = o->lora ? o->lora->n_params : m->n_params};

	s.packed = train_base_format(o, k, &s.weights);
	return k->scratch(k->act, &s);
}

static void choose(struct memory_plan *p, bool recompute)
{
	p->recompute = recompute;
	p->activations = recompute ? p->recomputed : p->kept;
	p->needed = p->brought + p->gradients + p->moments + p->activations + p->head + p->scratch;
}

static enum rc refuse(const struct memory_plan *p, const struct train_opts *o, int rows,
		      size_t available, struct err *e)
{
	return err_set(
		e, RC_NOMEM,
		"training needs %zu MiB beside the weights' %zu: copies of them %zu, "
		"gradients %zu, moments %zu, "
		"activations of %d rows %zu with recomputation (%zu without), head %zu, "
		"scratch %zu; %zu MiB are left. %s%s would need less",
		mib(p->needed), mib(p->weights), mib(p->brought), mib(p->gradients), mib(p->moments), rows,
		mib(p->recomputed), mib(p->kept), mib(p->head), mib(p->scratch), mib(available),
		rows > 2 * o->max_length ? "Fewer engine.micro_tokens" : "A smaller max_length",
		o->lora ? "" : " or an adapter (lora_r)");
}

/* Masters, working copies and frozen weights that the back end takes beside the program's. */
static size_t brought_bytes(const struct model *m, const struct kern *k, const struct train_opts *o,
			    size_t slab)
{
	size_t own = k->host ? 0 : slab;
	enum kern_format f;

	if (k->act != KERN_F32)
		own += slab / sizeof(float) * kern_act(k);
	if (train_base_format(o, k, &f) && !o->frozen)
		own += weights_bytes(&m->cfg, k, f, WEIGHTS_TRAIN);
	return own;
}

enum rc memory_plan(const struct model *m, const struct kern *k, const struct train_opts *o,
		    size_t available, struct memory_plan *out, struct err *e)
{
	size_t slab = sizeof(float) * (o->lora ? o->lora->n_params : m->n_params);
	struct llama_opts lo = train_llama_opts(o);
	struct llama_bytes b = llama_size(m, k, &lo);
	struct memory_plan *p = out;

	*p = (struct memory_plan){.weights = (m->params ? m->n_params * sizeof(float) : 0) +
					     (o->lora ? slab : 0),
				  .gradients = slab,
				  .moments = 2 * slab / (size_t)coll_ranks(o->data)};
	p->brought = brought_bytes(m, k, o, slab);
	p->head = b.head;
	p->scratch = k->scratch ? device_scratch(m, k, o, lo.max_tokens, b.softmax_rows)
				: scratch_bytes(m, o, lo.max_tokens, b.softmax_rows);
	lo.recompute = false;
	p->kept = llama_size(m, k, &lo).body;
	lo.recompute = true;
	p->recomputed = llama_size(m, k, &lo).body;
	choose(p, o->recompute);
	if (available == 0 || p->needed <= available)
		return RC_OK;
	choose(p, true);
	return p->needed <= available ? RC_OK : refuse(p, o, lo.max_tokens, available, e);
}
