/* The planner's loop, and the clock of leases. A run is planned when it was submitted, when one of
 * its jobs ended, and on a timer; planning is idempotent (job ids are deterministic, adding twice
 * adds once), so several servers may do it at once and a crash between any two steps heals itself.
 * A second thread calls queue_tick every second: it must not wait for a long plan.
 */
#pragma once

#include "base/err.h"

struct server;
struct reconcile;

enum rc reconcile_start(struct server *s, struct reconcile **out, struct err *e);
/* Plans `run` soon ("" = all open runs). Cheap; any thread. NULL reconciler is fine. */
void reconcile_poke(struct reconcile *rc, const char *run);
void reconcile_stop(struct reconcile *rc);
/* One pass over one run, now: queue_done_outputs -> plan -> queue_add_jobs -> maybe
 * queue_finish_run. */
enum rc reconcile_run(struct server *s, const char *run, struct err *e);
/* Redis may know fewer jobs than were added: the next plans are sent whole. */
void reconcile_forget(void);
