#include "worker/method/lcwr.h"

#include <math.h>

#define ITEMS_MIN 30
#define STEPS_MAX 50
#define FAR 12 /* a coefficient beyond this: the data are separated, nothing holds it back */

static double sigmoid(double x)
{
	return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}

double lcwr_q(double theta, double phi, double dlen_over_sd, double instruction)
{
	return sigmoid(theta + phi * tanh(dlen_over_sd) + instruction);
}

/* Sample standard deviation, as AlpacaEval takes it. */
static double spread(const struct lcwr_item *list, size_t n)
{
	double mean = 0, sum = 0;

	for (size_t i = 0; i < n; i++)
		mean += list[i].theirs - list[i].ours;
	mean /= (double)n;
	for (size_t i = 0; i < n; i++) {
		double d = list[i].theirs - list[i].ours - mean;
		sum += d * d;
	}
	return sqrt(sum / (double)(n - 1));
}

/* One Newton step on theta and phi; the size of it, NaN when it cannot be taken. */
static double step(const struct lcwr_item *list, size_t n, double sd, double *theta, double *phi)
{
	double g0 = 0, g1 = 0, h00 = 0, h01 = 0, h11 = 0;

	for (size_t i = 0; i < n; i++) {
		double x = tanh((list[i].theirs - list[i].ours) / sd);
		double q = sigmoid(*theta + *phi * x), w = q * (1 - q), r = list[i].won - q;

		g0 += r;
		g1 += r * x;
		h00 += w;
		h01 += w * x;
		h11 += w * x * x;
	}
	double det = h00 * h11 - h01 * h01;
	if (!(det > 1e-12 * (double)n))
		return NAN;
	double a = (h11 * g0 - h01 * g1) / det, b = (h00 * g1 - h01 * g0) / det;
	double size = fabs(a) + fabs(b), most = size > 4 ? 4 / size : 1;
	*theta += most * a;
	*phi += most * b;
	return size;
}

const char *lcwr_fit(const struct lcwr_item *list, size_t n, double *rate)
{
	double theta = 0, phi = 0, moved = 1, sd;

	*rate = NAN;
	if (n < ITEMS_MIN)
		return "fewer than 30 comparisons";
	sd = spread(list, n);
	if (!(sd > 0))
		return "all answers differ by the same length: its effect cannot be told apart";
	for (int k = 0; k < STEPS_MAX && moved > 1e-10; k++) {
		moved = step(list, n, sd, &theta, &phi);
		if (!isfinite(moved) || fabs(theta) > FAR || fabs(phi) > FAR)
			return "length alone separates the wins from the losses, or all verdicts "
			       "are one";
	}
	if (moved > 1e-6)
		return "the fit does not settle";
	*rate = sigmoid(theta);
	return NULL;
}
