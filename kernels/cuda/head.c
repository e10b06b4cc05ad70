/* The output head with log-probabilities: logits of some rows at a time, by one product, then what is
 * made of them, then the products of the way back. Logits are never kept for all rows. */
#include "kernels/cuda/ops.h"

#define LOGITS_BYTES ((size_t)256 << 20) /* at a time */

struct head {
	struct kern_pool *p;
	const struct kern_logprob *a;
	float *logits, *sum;
	void *slopes; /* dL/dlogits in `act`; the logits' own place when that is F32 */
	int per;
};

static size_t act_bytes(const struct kern_pool *p)
{
	return p->act == KERN_BF16 ? 2 : 4;
}

static size_t rounded(size_t bytes)
{
	return (bytes + 255) / 256 * 256;
}

/* Rows whose logits are made at a time. */
static int rows_at_a_time(int rows, int vocab)
{
	int per = (int)(LOGITS_BYTES / ((size_t)vocab * sizeof(float))) / 64 * 64;

	per = per < 64 ? 64 : per;
	return rows < per ? rows : per;
}

size_t cu_head_scratch(enum kern_format act, int rows, int vocab)
{
	size_t v = (size_t)vocab, per = (size_t)rows_at_a_time(rows, vocab), n = (size_t)rows;
	size_t own = rounded(per * v * sizeof(float)) + rounded(per * sizeof(float));
	size_t slopes = act == KERN_F32 ? 0 : 2;

	/* With logits of its own, or of the caller, who lends all rows. */
	own += rounded(per * v * slopes);
	slopes = rounded(n * v * slopes);
	return (own > slopes ? own : slopes) + 256;
}

/* The caller's `probs` hold all rows, else as many as fit are worked on at a time. */
static bool take_room(struct head *h)
{
	const struct kern_logprob *a = h->a;
	size_t row = (size_t)a->vocab * sizeof(float), logits, slopes, sums;
	char *there;

	h->per = a->probs ? a->rows : rows_at_a_time(a->rows, a->vocab);
	logits = a->probs ? 0 : rounded((size_t)h->per * row);
	slopes = a->g && h->p->act != KERN_F32
			 ? rounded((size_t)h->per * (size_t)a->vocab * act_bytes(h->p))
			 : 0;
	sums = a->sum ? 0 : rounded((size_t)h->per * sizeof(float));
	there = cu_scratch(h->p, CU_SCRATCH_OP, logits + slopes + sums + 256);
	if (!there)
		return false;
	h->logits = a->probs ? a->probs : (float *)(void *)there;
	h->slopes = slopes ? there + logits : (void *)h->logits;
	h->sum = a->sum ? a->sum : (float *)(void *)(there + logits + slopes);
	return true;
}

static void back(const struct head *h, int from, int n, const void *x)
{
	const struct kern_logprob *a = h->a;
	struct kern_pool *p = h->p;
	char *dh = (char *)a->dh + (size_t)from * (size_t)a->width * act_bytes(p);

	cu_head_slope(p->stream, p->act, h->slopes, h->logits, h->sum, a->g + from,
		      (a->hot ? a->hot : a->g) + from, a->target + from, n, a->vocab);
	cu_gemm_nn(p, a->format, dh, a->width, h->slopes, a->vocab, a->w, a->width, n, a->vocab,
		   a->width, false);
	if (a->dw)
		cu_gemm_tn(p, a->format, a->dw, a->width, h->slopes, a->vocab, x, a->width, n,
			   a->vocab, a->width, true);
}

void cu_logprob(struct kern_pool *p, const struct kern_logprob *a)
{
	struct head h = {.p = p, .a = a};

	if (a->rows <= 0 || !take_room(&h))
		return;
	for (int from = 0; from < a->rows; from += h.per) {
		int n = a->rows - from < h.per ? a->rows - from : h.per;
		const char *x = (const char *)a->h + (size_t)from * (size_t)a->width * act_bytes(p);

		if (!a->kept) {
			cu_product_nt(p, a->format, KERN_F32, h.logits, a->vocab, x, a->width, a->w,
				      a->width, n, a->vocab, a->width, false);
			cu_head_rows(p->stream, h.logits, a->target + from, a->logp + from,
				     a->hit ? a->hit + from : NULL, h.sum,
				     a->parts ? a->parts + 3 * (size_t)from : NULL, n, a->vocab,
				     a->g || a->probs);
		}
		if (a->g)
			back(&h, from, n, x);
	}
}
