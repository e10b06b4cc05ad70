/* Learning rate by step: linear warm-up, then constant, linear or cosine decay to lr_min. Pure. */
#pragma once

#include "base/err.h"

enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE };

struct schedule {
	enum schedule_kind kind;
	double lr, lr_min;
	int warmup_steps, total_steps; /* total includes warm-up */
};

/* Step counts from 0. The first warm-up step is lr / warmup_steps; past the end it stays lr_min. */
double schedule_lr(const struct schedule *s, int step);
enum rc schedule_parse(const char *name, enum schedule_kind *out, struct err *e);
