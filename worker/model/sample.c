#include "worker/model/sample.h"

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
