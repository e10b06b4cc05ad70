#include "worker/method/eft.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>

const char *eft_order_text(enum eft_order o)
{
	static const char *const names[] = {"agrees", "disagrees", "tied", "missing"};

	return names[o];
}

enum eft_order eft_order_check(const int *rank, const int64_t *milli, const bool *valid, int n)
{
	enum eft_order out = EFT_AGREES;

	for (int i = 0; i < n; i++)
		if (!valid[i])
			return EFT_MISSING;
	for (int i = 0; i < n; i++)
		for (int k = 0; k < n; k++) {
			if (rank[i] >= rank[k]) /* i must be better */
				continue;
			if (milli[i] < milli[k])
				return EFT_DISAGREES;
			if (milli[i] == milli[k])
				out = EFT_TIED;
		}
	return out;
}

static bool hist_add(struct eft_hist *h, int64_t milli)
{
	int i = 0;

	while (i < h->n && h->milli[i] < milli)
		i++;
	if (i < h->n && h->milli[i] == milli) {
		h->count[i]++;
		return true;
	}
	if (h->n == EFT_CLASSES_MAX)
		return false;
	for (int k = h->n++; k > i; k--) {
		h->milli[k] = h->milli[k - 1];
		h->count[k] = h->count[k - 1];
	}
	h->milli[i] = milli;
	h->count[i] = 1;
	return true;
}

bool eft_hist_of(const int64_t *milli, const bool *keep, size_t n, struct eft_hist *h)
{
	h->n = 0;
	for (size_t i = 0; i < n; i++)
		if ((!keep || keep[i]) && !hist_add(h, milli[i]))
			return false;
	return true;
}

/* At least one, so that no score disappears altogether. */
static int64_t cap_of(const struct eft_hist *h, double factor)
{
	int64_t first = 0, second = 0, cap;

	for (int i = 0; i < h->n; i++) {
		if (h->count[i] > first) {
			second = first;
			first = h->count[i];
		} else if (h->count[i] > second) {
			second = h->count[i];
		}
	}
	if (second == 0)
		return first;
	cap = (int64_t)floor((double)second * factor + 1e-9);
	return cap < 1 ? 1 : cap;
}

bool eft_resample(const int64_t *milli, size_t n, double factor, struct rng *r, bool *keep,
		  struct eft_hist *before, struct eft_hist *after)
{
	uint32_t *items = mem_array(n + 1, sizeof(*items));
	bool ok = eft_hist_of(milli, NULL, n, before);
	int64_t cap = ok ? cap_of(before, factor) : 0;

	for (int c = 0; ok && c < before->n; c++) {
		uint32_t m = 0;
		for (size_t i = 0; i < n; i++)
			if (milli[i] == before->milli[c])
				items[m++] = (uint32_t)i;
		if (m > cap)
			rng_shuffle(r, items, m);
		for (uint32_t i = 0; i < m; i++)
			keep[items[i]] = i < cap;
	}
	free(items);
	return ok && eft_hist_of(milli, keep, n, after);
}
