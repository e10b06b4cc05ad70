/* Answers that take long (downloads) and how many there may be at once: each holds a thread, and threads are
 * what a server runs out of. One identity gets at most half of them.
 */
#pragma once

#include <stdbool.h>

struct req;

#define SLOTS_MAX 256

/* False after answering 503 with Retry-After. What was taken is given back by slot_drop(). */
bool slot_take(struct req *r);
void slot_drop(struct req *r); /* nothing when none was taken */
