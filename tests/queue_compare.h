/* A model of the queue (queue_model.h) held against what Redis has. */
#pragma once

#include "tests/queue_model.h"

/* States, attempts, tokens, counters and leases are equal, or the test fails: I1-I4, I6, I7 and I13
 * by comparison, since the model has them by its making. */
void qm_compare(const struct qm *m, struct queue *q);
