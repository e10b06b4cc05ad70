/* Every product with a weight in the body of the decoder goes through these two functions. */
#include "worker/model/llama_inner.h"

struct llama_linear llama_linear_of(const struct llama *l, int layer, enum llama_product which)
{
	const struct model_layer *y = &l->m->layers[layer];
	int c = l->m->cfg.dim, f = l->m->cfg.ffn_dim;

	const void *w = l->w[layer].product[which];

	switch (which) {
	case LLAMA_QKV:
		return (struct llama_linear){w,		 y->wq, c,
					     l->qkv_dim, layer, MODEL_Q | MODEL_K | MODEL_V};
	case LLAMA_OUT:
		return (struct llama_linear){w, y->wo, l->q_dim, c, layer, MODEL_O};
	case LLAMA_GATE_UP:
		return (struct llama_linear){w, y->w1, c, 2 * f, layer, MODEL_GATE | MODEL_UP};
	default:
		return (struct llama_linear){w, y->w2, f, c, layer, MODEL_DOWN};
	}
}

/* The adapted parts of one product, side by side. */
struct adapted {
	const struct lora *lora;
	size_t a; /* offset of the first A; the others follow */
	size_t b[MODEL_PARTS];
	int column[MODEL_PARTS], out[MODEL_PARTS]; /* where a part's columns begin, how many */
	int n, r, width;			   /* width = n r */
};

static struct adapted adapted_of(const struct llama *l, const struct llama_linear *lin)
{
	const struct lora *lora = l->o.lora;
	struct adapted d = {.lora = lora};
	int column = 0;

	for (int p = 0; lora && p < MODEL_PARTS; p++) {
		size_t at = (size_t)lin->layer * MODEL_PARTS + (size_t)p;
		int out = model_part_shape(&l->m->cfg, 1u << p).out;

		if (!(lin->parts & 1u << p))
			continue;
		if (lora->s.targets & 1u << p) {
			d.a = d.n ? d.a : lora->a[at];
			d.b[d.n] = lora->b[at];
			d.column[d.n] = column;
			d.out[d.n++] = out;
		}
		column += out;
	}
	d.r = lora ? lora->s.r : 0;
	d.width = d.n * d.r;
	return d;
}

/* Masks of the adapter's input: those of residual branches have even and odd numbers from 0 on. */
#define LORA_SITES 0x80000000u

/* Not in what only goes forward: a score. */
static bool drops(const struct llama *l)
{
	return l->drop && l->dropped;
}

/* In place, the masks of one product: the adapters that share its input share them too. */
static void drop(struct llama *l, const struct llama_linear *a, void *x)
{
	const struct pack *p = l->pack;
	size_t width = (size_t)a->in;
	uint32_t site = LORA_SITES + (uint32_t)a->layer * (MODEL_ALL_PARTS + 1) + a->parts;

	/* Ranks that have different columns of x draw different masks for them. */
	if (a->parts & (MODEL_O | MODEL_DOWN))
		site += (uint32_t)coll_rank(l->o.coll) << 20;

	for (int s = 0; s < p->n_seqs; s++) {
		size_t from = (size_t)p->cu[s], n = (size_t)(p->cu[s + 1] - p->cu[s]);
		uint32_t stream[2] = {(uint32_t)p->seq_id[s], site};

		l->k->dropout(l->pool, llama_at(l, x, from * width), n * width,
			      (float)l->o.lora->s.dropout, l->drop->key, stream);
	}
}

/* What the adapter sees of x: x itself, or with dropout a copy in l->dropped. */
static const void *adapter_input(struct llama *l, const struct llama_linear *a, const void *x,
				 int rows)
{
	if (!drops(l))
		return x;
	l->k->copy(l->pool, l->dropped, x, (size_t)rows * (size_t)a->in * kern_act(l->k));
	drop(l, a, l->dropped);
	return l->dropped;
}

/* l->down[rows][width] = s x A^T */
static void project(struct llama *l, const struct adapted *d, const void *x, int in, int rows)
{
	l->k->gemm_nt(l->pool, l->o.format, l->down, d->width, x, in, llama_at(l, l->lora, d->a),
		      in, rows, d->width, in, false);
	l->k->scale(l->pool, l->down, (size_t)rows * (size_t)d->width, d->lora->scale);
}

static void product(struct llama *l, const struct llama_linear *a, void *y, const void *x, int rows,
		    bool acc)
{
	if (l->packed)
		l->k->gemm_packed(l->pool, l->packed_as, y, a->out, x, a->in, a->w, rows, a->out,
				  a->in, acc);
	else
		l->k->gemm_nt(l->pool, l->o.format, y, a->out, x, a->in, a->w, a->in, rows, a->out,
			      a->in, acc);
}

void llama_linear(struct llama *l, const struct llama_linear *a, void *y, const void *x, int rows,
		  bool acc)
{
	struct adapted d = adapted_of(l, a);

	product(l, a, y, x, rows, acc);
	if (d.n == 0)
		return;
	project(l, &d, adapter_input(l, a, x, rows), a->in, rows);
	for (int i = 0; i < d.n; i++)
		l->k->gemm_nt(l->pool, l->o.format, llama_at(l, y, (size_t)d.column[i]), a->out,
			      llama_at(l, l->down, (size_t)(i * d.r)), d.width,
			      llama_at(l, l->lora, d.b[i]), d.r, rows, d.out[i], d.r, true);
}

/* dx += (s dy B) A, through the masks. */
static void adapter_dx(struct llama *l, const struct llama_linear *a, const struct adapted *d,
		       void *dx, int rows)
{
	bool masked = drops(l);
	void *to = masked ? l->dropped : dx;

	l->k->gemm_nn(l->pool, l->o.format, to, a->in, l->up, d->width, llama_at(l, l->lora, d->a),
		      a->in, rows, d->width, a->in, !masked);
	if (!masked)
		return;
	drop(l, a, to);
	l->k->add(l->pool, dx, to, (size_t)rows * (size_t)a->in);
}

/* dB = dy^T (s x A^T), dA = (s dy B)^T x; gradients lie as the adapter does. */
static void adapter_back(struct llama *l, const struct llama_linear *a, const struct adapted *d,
			 float *grads, void *dx, const void *dy, const void *x, int rows, bool acc)
{
	x = adapter_input(l, a, x, rows);
	project(l, d, x, a->in, rows);
	for (int i = 0; i < d->n; i++) {
		const void *dy_part = llama_at(l, dy, (size_t)d->column[i]);
		size_t part = (size_t)(i * d->r);

		l->k->gemm_tn(l->pool, l->o.format, grads + d->b[i], d->r, dy_part, a->out,
			      llama_at(l, l->down, part), d->width, rows, d->out[i], d->r, acc);
		l->k->gemm_nn(l->pool, l->o.format, llama_at(l, l->up, part), d->width, dy_part,
			      a->out, llama_at(l, l->lora, d->b[i]), d->r, rows, d->out[i], d->r,
			      false);
	}
	l->k->scale(l->pool, l->up, (size_t)rows * (size_t)d->width, d->lora->scale);
	l->k->gemm_tn(l->pool, l->o.format, grads + d->a, a->in, l->up, d->width, x, a->in, rows,
		      d->width, a->in, acc);
	adapter_dx(l, a, d, dx, rows);
}

void llama_linear_back(struct llama *l, const struct llama_linear *a, float *dw, void *dx,
		       const void *dy, const void *x, int rows, bool acc)
{
	struct adapted d = adapted_of(l, a);

	if (!l->o.lora)
		l->k->gemm_tn(l->pool, l->o.format, dw + a->grad, a->in, dy, a->out, x, a->in, rows,
			      a->out, a->in, acc);
	if (l->packed)
		l->k->gemm_packed_back(l->pool, l->packed_as, dx, a->in, dy, a->out, a->w, rows,
				       a->out, a->in, false);
	else
		l->k->gemm_nn(l->pool, l->o.format, dx, a->in, dy, a->out, a->w, a->in, rows,
			      a->out, a->in, false);
	if (d.n > 0)
		adapter_back(l, a, &d, dw, dx, dy, x, rows, acc);
}
