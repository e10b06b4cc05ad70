#include "worker/method/rank.h"
#include "base/mem.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* --- correlations ---------------------------------------------------------------------------- */

double rank_pearson(const double *x, const double *y, int n)
{
	double mx = 0, my = 0, xy = 0, xx = 0, yy = 0, r;

	if (n < 2)
		return NAN;
	for (int i = 0; i < n; i++) {
		mx += x[i];
		my += y[i];
	}
	mx /= n;
	my /= n;
	for (int i = 0; i < n; i++) {
		xy += (x[i] - mx) * (y[i] - my);
		xx += (x[i] - mx) * (x[i] - mx);
		yy += (y[i] - my) * (y[i] - my);
	}
	if (xx == 0 || yy == 0)
		return NAN;
	r = xy / (sqrt(xx) * sqrt(yy));
	return r > 1 ? 1 : r < -1 ? -1 : r;
}

struct item {
	double x, y;
	int at;
};

static int by_x(const void *a, const void *b)
{
	const struct item *p = a, *q = b;

	return (p->x > q->x) - (p->x < q->x);
}

static int by_x_then_y(const void *a, const void *b)
{
	const struct item *p = a, *q = b;
	int c = by_x(a, b);

	return c ? c : (p->y > q->y) - (p->y < q->y);
}

/* Average ranks from 1: equal values share the mean of their places. */
static void average_ranks(const double *v, double *out, int n)
{
	struct item *items = mem_array((size_t)n, sizeof(*items));

	for (int i = 0; i < n; i++)
		items[i] = (struct item){v[i], 0, i};
	qsort(items, (size_t)n, sizeof(*items), by_x);
	for (int i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && items[end].x == items[i].x; end++)
			;
		for (int k = i; k < end; k++)
			out[items[k].at] = (i + 1 + end) / 2.0;
	}
	free(items);
}

double rank_spearman(const double *x, const double *y, int n)
{
	double *a, r;

	if (n < 2)
		return NAN;
	a = mem_array((size_t)n * 2, sizeof(*a));
	average_ranks(x, a, n);
	average_ranks(y, a + n, n);
	r = rank_pearson(a, a + n, n);
	free(a);
	return r;
}

/* Merge sort of v by value; returns how many pairs stood the wrong way round. */
static int64_t count_swaps(double *v, double *tmp, int n)
{
	int half = n / 2, i = 0, k = half, out = 0;
	int64_t swaps;

	if (n < 2)
		return 0;
	swaps = count_swaps(v, tmp, half) + count_swaps(v + half, tmp, n - half);
	while (i < half && k < n) {
		if (v[k] < v[i]) {
			swaps += half - i;
			tmp[out++] = v[k++];
		} else {
			tmp[out++] = v[i++];
		}
	}
	while (i < half)
		tmp[out++] = v[i++];
	while (k < n)
		tmp[out++] = v[k++];
	memcpy(v, tmp, (size_t)n * sizeof(*v));
	return swaps;
}

/* Pairs with equal value in a sorted list. */
static int64_t tied_pairs(const double *v, int n)
{
	int64_t ties = 0;

	for (int i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && v[end] == v[i]; end++)
			;
		ties += (int64_t)(end - i) * (end - i - 1) / 2;
	}
	return ties;
}

/* Knight 1966: sort by x, count the swaps that sort y; (C - D) / sqrt((n0 - tx)(n0 - ty)). */
double rank_kendall(const double *x, const double *y, int n)
{
	int64_t all = (int64_t)n * (n - 1) / 2, tx = 0, ty, both = 0, swaps;
	struct item *items;
	double *v, t;

	if (n < 2)
		return NAN;
	items = mem_array((size_t)n, sizeof(*items));
	v = mem_array((size_t)n * 2, sizeof(*v));
	for (int i = 0; i < n; i++)
		items[i] = (struct item){x[i], y[i], i};
	qsort(items, (size_t)n, sizeof(*items), by_x_then_y);
	for (int i = 0, end; i < n; i = end) {
		for (end = i + 1; end < n && items[end].x == items[i].x; end++)
			;
		tx += (int64_t)(end - i) * (end - i - 1) / 2;
		for (int k = i; k < end; k++)
			v[k] = items[k].y;
		both += tied_pairs(v + i, end - i);
	}
	swaps = count_swaps(v, v + n, n);
	ty = tied_pairs(v, n);
	free(items);
	free(v);
	if (tx == all || ty == all)
		return NAN;
	t = (double)(all - tx - ty + both - 2 * swaps) / sqrt((double)(all - tx)) /
	    sqrt((double)(all - ty));
	return t > 1 ? 1 : t < -1 ? -1 : t;
}

/* --- reward-model metrics -------------------------------------------------------------------- */

void rank_tally_init(struct rank_tally *t)
{
	memset(t, 0, sizeof(*t));
}

void rank_tally_release(struct rank_tally *t)
{
	free(t->human);
	free(t->score);
	rank_tally_init(t);
}

static int score_cmp(const struct rank_score *a, const struct rank_score *b)
{
	int64_t d = a->sum_milli * b->n - b->sum_milli * a->n;

	return (d > 0) - (d < 0);
}

/* Returns whether the whole order is the human one. */
static bool tally_pairs(struct rank_tally *t, const int *human, const struct rank_score *s, int n)
{
	bool exact = n >= 2;

	for (int i = 0; i < n; i++)
		for (int k = i + 1; k < n; k++) {
			int want = (human[k] > human[i]) - (human[k] < human[i]), got;
			bool both = s[i].n > 0 && s[k].n > 0;
			got = both ? score_cmp(&s[i], &s[k]) : 0;
			exact &= both && got == want;
			if (want == 0)
				continue;
			t->pairs++;
			t->unjudged_pairs += !both;
			t->tied += both && got == 0;
			t->agree += both && got == want;
		}
	return exact;
}

static void pool(struct rank_tally *t, double human, double score)
{
	if (t->n == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 256;
		t->human = mem_grow(t->human, (size_t)t->cap, sizeof(double));
		t->score = mem_grow(t->score, (size_t)t->cap, sizeof(double));
	}
	t->human[t->n] = human;
	t->score[t->n++] = score;
}

void rank_tally_add(struct rank_tally *t, const int *human, const struct rank_score *score, int n,
		    int64_t max_milli)
{
	int64_t from = t->n;
	double rho, tau;
	int best = n > 0 ? human[0] : 0, judged;

	for (int i = 0; i < n; i++)
		best = human[i] < best ? human[i] : best;
	t->instructions++;
	t->replies += n;
	t->exact += tally_pairs(t, human, score, n);
	for (int i = 0; i < n; i++) {
		if (score[i].n <= 0)
			continue;
		t->judged++;
		pool(t, -(double)human[i], (double)score[i].sum_milli / (1000.0 * score[i].n));
		if (score[i].sum_milli == max_milli * score[i].n) {
			t->perfect++;
			t->perfect_best += human[i] == best;
		}
	}
	judged = (int)(t->n - from);
	if (judged < 2)
		return;
	rho = rank_spearman(t->human + from, t->score + from, judged);
	tau = rank_kendall(t->human + from, t->score + from, judged);
	if (!isnan(rho)) {
		t->spearman_sum += rho;
		t->spearman_n++;
	}
	if (!isnan(tau)) {
		t->kendall_sum += tau;
		t->kendall_n++;
	}
}

static double share(double part, int64_t whole)
{
	return whole > 0 ? part / (double)whole : NAN;
}

struct rank_result rank_tally_result(const struct rank_tally *t)
{
	struct rank_result r = {
		.pairwise = share((double)t->agree, t->pairs),
		.pairwise_half_ties = share((double)t->agree + (double)t->tied / 2, t->pairs),
		.exact = share((double)t->exact, t->instructions),
		.five_best = share((double)t->perfect_best, t->perfect),
		.spearman = share(t->spearman_sum, t->spearman_n),
		.kendall = share(t->kendall_sum, t->kendall_n),
		.spearman_pooled = rank_spearman(t->human, t->score, (int)t->n),
		.kendall_pooled = rank_kendall(t->human, t->score, (int)t->n),
		.ties = share((double)t->tied, t->pairs),
		.coverage = share((double)t->judged, t->replies),
		.instructions = t->instructions,
		.pairs = t->pairs,
		.five_best_n = t->perfect,
		.spearman_n = t->spearman_n,
		.kendall_n = t->kendall_n,
	};

	return r;
}
