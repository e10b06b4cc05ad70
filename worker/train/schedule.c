#include "worker/train/schedule.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const char *const names[] = {"constant", "linear", "cosine"};

double schedule_lr(const struct schedule *s, int step)
{
	double done;

	if (step < s->warmup_steps)
		return s->lr * (step + 1) / s->warmup_steps;
	if (s->kind == SCHEDULE_CONSTANT)
		return s->lr;
	if (step >= s->total_steps)
		return s->lr_min;
	done = (double)(step - s->warmup_steps) / (s->total_steps - s->warmup_steps);
	if (s->kind == SCHEDULE_LINEAR)
		return s->lr + (s->lr_min - s->lr) * done;
	return s->lr_min + 0.5 * (s->lr - s->lr_min) * (1 + cos(3.14159265358979323846 * done));
}

enum rc schedule_parse(const char *name, enum schedule_kind *out, struct err *e)
{
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(name, names[i]) == 0) {
			*out = (enum schedule_kind)i;
			return RC_OK;
		}
	return err_set(e, RC_INVALID, "schedule \"%s\": expected constant, linear or cosine", name);
}
