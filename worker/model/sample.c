#include "worker/model/sample.h"

#include "base/check.h"
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Weights are exp((logit - max) / T), at most 1, in scratch[0..vocab). A token's coarse bin is the
 * power of two its weight lies in, its fine bin the next seven bits, so all of bin b rank before all
 * of bin b + 1. The coarse bin where the cut falls is split into fine ones; one of those is sorted. */
#define BINS 128

/* What is left of the ranking: tokens before (weight, id), that one included. */
struct cut {
	float weight;
	int id;
};

enum rc sampling_check(const struct sampling *s, struct err *e)
{
	if (!(s->temperature >= 0 && s->temperature <= 100))
		return err_set(e, RC_INVALID, "temperature %g is not in 0..100", (double)s->temperature);
	if (!(s->top_p > 0 && s->top_p <= 1))
		return err_set(e, RC_INVALID, "top_p %g is not in (0, 1]", (double)s->top_p);
	if (s->top_k < 0)
		return err_set(e, RC_INVALID, "top_k %d is negative", s->top_k);
	return RC_OK;
}

double sample_uniform(const struct sample_name *name, uint32_t position)
{
	struct rng r;

	rng_open(&r, name->seed, name->stage, name->iter, name->item, name->sample);
	r.n = 4 * (uint64_t)position; /* One block of the stream for each token. */
	return rng_unit64(&r);
}

size_t sample_scratch(int vocab)
{
	return 2 * (size_t)vocab;
}

static bool kept(const struct cut *c, float weight, int id)
{
	return weight > c->weight || (weight == c->weight && id <= c->id);
}

static int bin_of(float weight, bool fine)
{
	uint32_t bits;

	memcpy(&bits, &weight, sizeof(bits));
	int b = fine ? 127 - (int)(bits >> 16 & 127) : 127 - (int)(bits >> 23);
	return b < 0 ? 0 : b < BINS ? b : BINS - 1;
}

static int greedy(const float *logits, int vocab, float max)
{
	for (int i = 0; i < vocab; i++)
		if (logits[i] == max)
			return i;
	return 0;
}

static int by_rank(const void *pa, const void *pb, void *weights)
{
	int a = *(const int *)pa, b = *(const int *)pb;
	float x = ((const float *)weights)[a], y = ((const float *)weights)[b];

	return x != y ? (x < y) - (x > y) : (a > b) - (a < b);
}

/* How many tokens each bin has, and their mass. */
struct bins {
	int count[BINS];
	double mass[BINS];
};

static void add_to_bin(struct bins *h, float weight, bool fine)
{
	int b = bin_of(weight, fine);

	h->count[b]++;
	h->mass[b] += (double)weight;
}

/* Coarse bins of the tokens that `in` keeps; returns their mass. */
static double fill_bins(struct bins *h, const float *w, int vocab, const struct cut *in)
{
	double total = 0;

	memset(h, 0, sizeof(*h));
	for (int i = 0; i < vocab; i++)
		if (w[i] > 0 && kept(in, w[i], i))
			add_to_bin(h, w[i], false);
	for (int b = 0; b < BINS; b++)
		total += h->mass[b];
	return total;
}

/* The first bin that is not wholly within `count` tokens and `mass`, which are lowered by what
 * comes before it; the last bin with anything in it when rounding says that all is within. */
static int find_bin(const struct bins *h, int *count, double *mass)
{
	int last = 0;

	for (int b = 0; b < BINS; b++)
		if (h->count[b])
			last = b;
	for (int b = 0; b < last; b++) {
		if (h->count[b] >= *count || h->mass[b] >= *mass)
			return b;
		*count -= h->count[b];
		*mass -= h->mass[b];
	}
	return last;
}

/* The shortest prefix of the ranking with `count` tokens or `mass`, whichever comes first. */
static struct cut shorten(const float *w, int vocab, const struct cut *in, const struct bins *h,
			  int count, double mass, int *list)
{
	int coarse = find_bin(h, &count, &mass), fine, n = 0, left = 0;
	struct bins split = {0};

	for (int i = 0; i < vocab; i++)
		if (w[i] > 0 && bin_of(w[i], false) == coarse && kept(in, w[i], i)) {
			list[n++] = i;
			add_to_bin(&split, w[i], true);
		}
	fine = find_bin(&split, &count, &mass);
	for (int i = 0; i < n; i++)
		if (bin_of(w[list[i]], true) == fine)
			list[left++] = list[i];
	qsort_r(list, (size_t)left, sizeof(*list), by_rank, (void *)(uintptr_t)w);
	for (int i = 0; i < left; i++) {
		mass -= (double)w[list[i]];
		if (--count <= 0 || mass <= 0 || i + 1 == left)
			return (struct cut){w[list[i]], list[i]};
	}
	return *in;
}

/* Token at the share `u` of the kept mass, in order of ids. */
static int draw(const float *w, int vocab, const struct cut *in, double u)
{
	double total = 0, sum = 0;
	int last = 0;

	for (int i = 0; i < vocab; i++)
		if (kept(in, w[i], i))
			total += (double)w[i];
	for (int i = 0; i < vocab; i++) {
		if (!(w[i] > 0) || !kept(in, w[i], i))
			continue;
		sum += (double)w[i];
		last = i;
		if (sum > u * total)
			return i;
	}
	return last;
}

int sample_pick(const struct kern *kern, const float *logits, int vocab, float max,
		const struct sampling *s, double u, float *scratch)
{
	struct cut cut = {0, vocab};
	struct bins h;
	float *w = scratch;
	int *list = (int *)(void *)(scratch + vocab);

	_Static_assert(sizeof(int) == sizeof(float), "the list lies in scratch");
	if (s->temperature <= 0)
		return greedy(logits, vocab, max);
	for (int i = 0; i < vocab; i++)
		w[i] = (logits[i] - max) / s->temperature;
	kern->vexp(w, w, (size_t)vocab);
	if (s->top_k > 0 && s->top_k < vocab) {
		fill_bins(&h, w, vocab, &cut);
		cut = shorten(w, vocab, &cut, &h, s->top_k, INFINITY, list);
	}
	if (s->top_p < 1) {
		double total = fill_bins(&h, w, vocab, &cut);
		cut = shorten(w, vocab, &cut, &h, vocab + 1, (double)s->top_p * total, list);
	}
	return draw(w, vocab, &cut, u);
}
