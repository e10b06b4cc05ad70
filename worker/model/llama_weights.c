/* Where the decoder reads its weights: in slabs that are trained, in packed ones that are not, or in
 * the model itself. */
#include "worker/model/llama_inner.h"
#include "worker/model/mirror.h"

#include "base/mem.h"

#include <stdlib.h>

/* Slabs laid out like the model's. */
static void bind_slabs(struct llama *l, const void *work, const float *master)
{
	const struct model *m = l->m;

	l->embed = llama_at(l, work, m->embed);
	l->head = llama_at(l, work, m->head);
	l->norm_out = master + m->norm_out;
	for (int i = 0; i < m->cfg.n_layers; i++) {
		const struct model_layer *y = &m->layers[i];

		l->w[i] = (struct llama_weights){
			.product = {llama_at(l, work, y->wq), llama_at(l, work, y->wo),
				    llama_at(l, work, y->w1), llama_at(l, work, y->w2)},
			.norm_attn = master + y->norm_attn,
			.norm_ffn = master + y->norm_ffn,
			.bias = m->cfg.qkv_bias ? master + y->bq : NULL};
	}
}

static void bind_packed(struct llama *l, const struct weights *w)
{
	l->packed = true;
	l->packed_as = w->format;
	l->embed = w->embed;
	l->head = w->head;
	l->norm_out = w->norm_out;
	for (int i = 0; i < l->m->cfg.n_layers; i++) {
		const struct packed_layer *y = &w->layers[i];

		l->w[i] = (struct llama_weights){.product = {y->qkv, y->o, y->w13, y->w2},
						 .norm_attn = y->norm_attn,
						 .norm_ffn = y->norm_ffn,
						 .bias = y->bias};
	}
}

static enum rc bind_lora(struct llama *l, struct err *e)
{
	size_t n = l->o.lora->n_params;
	void *wide;
	enum rc rc;

	l->lora = l->o.at.lora ? l->o.at.lora : l->o.lora->params;
	if (l->o.at.lora || l->k->host)
		return RC_OK;
	rc = mirror_make(l->k, l->pool, l->o.lora->params, n * sizeof(float), "an adapter", &wide,
			 e);
	if (rc != RC_OK)
		return rc;
	l->own_lora = l->k->alloc(l->pool, n * kern_act(l->k));
	if (l->own_lora)
		l->k->narrow(l->pool, l->own_lora, wide, n);
	else
		rc = err_set(e, RC_NOMEM, "no memory for an adapter on the device");
	mirror_free(l->k, l->pool, wide, n * sizeof(float));
	l->lora = l->own_lora;
	return rc;
}

enum rc llama_weights_bind(struct llama *l, struct err *e)
{
	const struct llama_where *at = &l->o.at;
	enum rc rc = RC_OK;

	l->w = mem_array((size_t)l->m->cfg.n_layers, sizeof *l->w);
	if (at->base) {
		bind_packed(l, at->base);
	} else if (at->work) {
		bind_slabs(l, at->work, at->master);
	} else if (l->k->host) {
		bind_slabs(l, l->m->params, l->m->params);
	} else {
		rc = weights_bring(&l->own, l->m, l->k, l->pool,
				   l->k->act == KERN_BF16 ? KERN_BF16 : l->o.format, WEIGHTS_TRAIN,
				   e);
		if (rc == RC_OK)
			bind_packed(l, &l->own);
	}
	return rc == RC_OK && l->o.lora ? bind_lora(l, e) : rc;
}

void llama_weights_release(struct llama *l)
{
	if (l->own.slab)
		weights_release(&l->own);
	if (l->own_lora)
		l->k->release(l->pool, l->own_lora, l->o.lora->n_params * kern_act(l->k));
	free(l->w);
}
