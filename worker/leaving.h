/* How long this machine has: from the word that it goes (a signal, the cloud's notice) until its end.
 *
 * One per process, since signal handlers begin it. At 0.7 of the notice nothing new is tried, so that
 * the agent ends in order; at 0.8 the process leaves as things are, with status 0: its lease ends by
 * itself, and so does whatever hangs. Knows nothing of jobs.
 */
#pragma once

#include <stdint.h>

/* The machine ends in so many milliseconds. The first call counts. Safe in signal handlers. */
void leaving_begin(int64_t notice_ms);
/* Milliseconds in which something may still be tried, 0 when they are over; `other` while no machine ends. */
int64_t leaving_left(int64_t other);
