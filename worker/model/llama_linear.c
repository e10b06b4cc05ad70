/* Every product with a weight in the body of the decoder goes through these two functions. */
#include "worker/model/llama_inner.h"

struct llama_linear llama_linear_of(const struct llama *l, int layer, enum llama_product which)
{
	const struct model_layer *y = &l->m->layers[layer];
	int c = l->m->cfg.dim, f = l->m->cfg.ffn_dim;

	switch (which) {
	case LLAMA_QKV:
		return (struct llama_linear){y->wq, c, l->qkv_dim, layer,
					     LLAMA_Q | LLAMA_K | LLAMA_V};
	case LLAMA_OUT:
		return (struct llama_linear){y->wo, l->q_dim, c, layer, LLAMA_O};
	case LLAMA_GATE_UP:
		return (struct llama_linear){y->w1, c, 2 * f, layer, LLAMA_GATE | LLAMA_UP};
	default:
		return (struct llama_linear){y->w2, f, c, layer, LLAMA_DOWN};
	}
}

void llama_linear(struct llama *l, const struct llama_linear *a, float *y, const float *x, int rows,
		  bool acc)
{
	l->k->gemm_nt(l->pool, l->o.format, y, a->out, x, a->in, l->m->params + a->w, a->in, rows,
		      a->out, a->in, acc);
}

void llama_linear_back(struct llama *l, const struct llama_linear *a, float *dw, float *dx,
		       const float *dy, const float *x, int rows, bool acc)
{
	l->k->gemm_tn(l->pool, l->o.format, dw + a->w, a->in, dy, a->out, x, a->in, rows, a->out,
		      a->in, acc);
	l->k->gemm_nn(l->pool, l->o.format, dx, a->in, dy, a->out, l->m->params + a->w, a->in, rows,
		      a->out, a->in, false);
}
