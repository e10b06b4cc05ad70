/* What a dataset looks like as a whole: score histogram, length against score, counters. */
#include "server/rows.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define POINTS_SENT 1000
#define VALUES_MAX 64 /* more distinct scores than this: equal bins */
#define BINS 20

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return x < y ? -1 : x > y;
}

static json_t *bin(double from, double to, size_t count)
{
	return json_pack("{s:f, s:f, s:I}", "lo", from, "hi", to, "n", (json_int_t)count);
}

/* Means of three judgements lie on thirds: each value its own bin while they are few. */
static json_t *value_bins(const float *v, size_t n)
{
	json_t *bins = json_array();
	size_t distinct = 0, from = 0;

	for (size_t i = 1; i <= n; i++) {
		if (i < n && v[i] - v[from] < 1e-4f)
			continue;
		if (++distinct > VALUES_MAX) {
			json_decref(bins);
			return NULL;
		}
		json_array_append_new(bins, bin((double)v[from], (double)v[i - 1], i - from));
		from = i;
	}
	return bins;
}

static json_t *equal_bins(const float *v, size_t n)
{
	double lo = (double)v[0], width = ((double)v[n - 1] - lo) / BINS;
	size_t count[BINS] = {0};
	json_t *bins = json_array();

	for (size_t i = 0; i < n; i++) {
		size_t b = (size_t)(((double)v[i] - lo) / width);

		count[b < BINS ? b : BINS - 1]++;
	}
	for (size_t b = 0; b < BINS; b++)
		json_array_append_new(
			bins, bin(lo + (double)b * width, lo + (double)(b + 1) * width, count[b]));
	return bins;
}

static json_t *histogram(const struct rows *r)
{
	float *v = mem_array(r->n_points + 1, sizeof *v);
	json_t *bins;

	for (size_t i = 0; i < r->n_points; i++)
		v[i] = r->point[i].score;
	qsort(v, r->n_points, sizeof *v, by_value);
	bins = r->n_points ? value_bins(v, r->n_points) : json_array();
	if (!bins)
		bins = equal_bins(v, r->n_points);
	free(v);
	return bins;
}

/* Every k-th point: the same sample at every look. */
static json_t *points(const struct rows *r, bool *sampled)
{
	json_t *list = json_array();
	size_t step = (r->n_points + POINTS_SENT - 1) / POINTS_SENT;

	*sampled = step > 1;
	for (size_t i = 0; i < r->n_points; i += step ? step : 1)
		if (r->point[i].length >= 0)
			json_array_append_new(list, json_pack("[f, f]", (double)r->point[i].length,
							      (double)r->point[i].score));
	return list;
}

/* Pearson's r of length and score; null with fewer than three points or no spread. */
static json_t *correlation(const struct rows *r)
{
	double n = 0, sx = 0, sy = 0, sxx = 0, syy = 0, sxy = 0, d;

	for (size_t i = 0; i < r->n_points; i++) {
		double x = (double)r->point[i].length, y = (double)r->point[i].score;

		if (x < 0)
			continue;
		n++, sx += x, sy += y, sxx += x * x, syy += y * y, sxy += x * y;
	}
	d = (n * sxx - sx * sx) * (n * syy - sy * sy);
	return n > 2 && d > 0 ? json_real((n * sxy - sx * sy) / sqrt(d)) : json_null();
}

static json_t *moments(const struct rows *r)
{
	double n = (double)r->n_points, sum = 0, sq = 0, lo = INFINITY, hi = -INFINITY, mean;

	if (!r->n_points)
		return json_null();
	for (size_t i = 0; i < r->n_points; i++) {
		double y = (double)r->point[i].score;

		sum += y;
		sq += y * y;
		lo = y < lo ? y : lo;
		hi = y > hi ? y : hi;
	}
	mean = sum / n;
	return json_pack("{s:I, s:f, s:f, s:f, s:f}", "n", (json_int_t)r->n_points, "mean", mean,
			 "sd", sqrt(fmax(0, sq / n - mean * mean)), "min", lo, "max", hi);
}

static json_t *flag_counts(const struct rows *r)
{
	json_t *counts = json_object();

	for (int k = 0; k < ROW_FLAGS; k++) {
		json_int_t n = 0;

		for (size_t i = 0; i < r->n; i++)
			n += r->row[i].flags >> k & 1;
		json_object_set_new(counts, rows_flag_text((enum row_flag)k), json_integer(n));
	}
	return counts;
}

json_t *rows_stats(const struct rows *r)
{
	bool sampled;
	json_t *pts = points(r, &sampled);

	return json_pack("{s:s, s:I, s:o, s:o, s:o, s:b, s:I, s:o, s:o, s:O}", "digest", r->digest,
			 "rows", (json_int_t)r->n, "scores", moments(r), "histogram", histogram(r),
			 "points", pts, "sampled", sampled, "n_points", (json_int_t)r->n_points,
			 "length_score_r", correlation(r), "flags", flag_counts(r), "counters",
			 r->meta);
}
