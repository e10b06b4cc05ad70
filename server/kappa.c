#include "server/kappa.h"

#include "base/check.h"
#include "server/compare.h"

#include <math.h>

#define Z95 1.959963984540054

struct shares {
	double first[KAPPA_CLASSES_MAX], second[KAPPA_CLASSES_MAX]; /* of each class */
	double agree, chance;
};

static struct shares shares_of(const int64_t *counts, int k, double n)
{
	struct shares s = {0};

	for (int i = 0; i < k; i++)
		for (int j = 0; j < k; j++) {
			double p = (double)counts[i * k + j] / n;

			s.first[i] += p;
			s.second[j] += p;
			s.agree += i == j ? p : 0;
		}
	for (int i = 0; i < k; i++)
		s.chance += s.first[i] * s.second[i];
	return s;
}

/* Fleiss, Cohen, Everitt: Large sample standard errors of kappa. Psychological Bulletin 72 (1969), eq. 13. */
static double variance(const int64_t *counts, int k, double n, const struct shares *s, double kappa)
{
	double a = 0, b = 0, c = kappa - s->chance * (1 - kappa);

	for (int i = 0; i < k; i++)
		for (int j = 0; j < k; j++) {
			double p = (double)counts[i * k + j] / n;
			double sum = i == j ? 1 - (s->first[i] + s->second[i]) * (1 - kappa)
					    : (1 - kappa) * (s->second[i] + s->first[j]);

			*(i == j ? &a : &b) += p * sum * sum;
		}
	return fmax(0, a + b - c * c) / ((1 - s->chance) * (1 - s->chance) * n);
}

struct kappa kappa_of(const int64_t *counts, int k)
{
	double nan = (double)NAN;
	struct kappa r = {0, 0, nan, nan, nan, nan, nan, nan, nan};
	struct shares s;
	double n;

	ASSERT(k >= 2 && k <= KAPPA_CLASSES_MAX);
	for (int i = 0; i < k * k; i++) {
		r.n += counts[i];
		r.agree += i % (k + 1) == 0 ? counts[i] : 0;
	}
	if (r.n == 0)
		return r;
	n = (double)r.n;
	s = shares_of(counts, k, n);
	r.share = (double)r.agree / n;
	wilson((double)r.agree, n, &r.low, &r.high);
	if (1 - s.chance < 1e-12)
		return r;
	r.kappa = (r.share - s.chance) / (1 - s.chance);
	r.se = sqrt(variance(counts, k, n, &s, r.kappa));
	r.kappa_low = r.agree == r.n ? (r.low - s.chance) / (1 - s.chance) : r.kappa - Z95 * r.se;
	r.kappa_high = fmin(1, r.kappa + Z95 * r.se);
	r.kappa_low = fmax(-1, r.kappa_low);
	return r;
}
