#include "worker/method/winrate.h"

#include <math.h>
#include <string.h>

enum verdict winrate_parse(const char *text, size_t len)
{
	for (size_t i = len; i-- > 4;)
		if (text[i] == ']' && text[i - 1] == ']' && text[i - 3] == '[' &&
		    text[i - 4] == '[') {
			const char *p = memchr("ABC", text[i - 2], 3);
			if (p)
				return *p == 'A' ? VERDICT_A : *p == 'B' ? VERDICT_B : VERDICT_TIE;
		}
	return VERDICT_NONE;
}

enum verdict winrate_combine(enum verdict forward, enum verdict backward)
{
	static const enum verdict mirror[] = {VERDICT_NONE, VERDICT_B, VERDICT_A, VERDICT_TIE};

	if (forward == VERDICT_NONE || backward == VERDICT_NONE)
		return VERDICT_NONE;
	return forward == mirror[backward] ? forward : VERDICT_TIE;
}

void winrate_add(struct winrate *w, enum verdict v)
{
	int64_t *slot[] = {&w->none, &w->win, &w->loss, &w->tie};

	++*slot[v];
}

void winrate_wilson(double successes, int64_t n, double z, double *low, double *high)
{
	double p, zz = z * z, centre, half, m = (double)n;

	*low = 0;
	*high = 1;
	if (n <= 0)
		return;
	p = successes / m;
	centre = (p + zz / (2 * m)) / (1 + zz / m);
	half = z * sqrt(p * (1 - p) / m + zz / (4 * m * m)) / (1 + zz / m);
	*low = centre - half < 0 ? 0 : centre - half;
	*high = centre + half > 1 ? 1 : centre + half;
}

struct winrate_result winrate_result(const struct winrate *w)
{
	struct winrate_result r = {.n = w->win + w->tie + w->loss, .rate = NAN};
	double wins = (double)w->win + (double)w->tie / 2;

	if (r.n > 0)
		r.rate = wins / (double)r.n;
	winrate_wilson(wins, r.n, 1.959963984540054, &r.low, &r.high);
	return r;
}
