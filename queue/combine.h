/* Calls that wait at the same time go to Redis as one.
 *
 * A call that meets fewer than two others on their way sets out at once and alone, so one thread by
 * itself notices nothing. Further ones wait in a list; whoever comes back lets the first of them
 * set out with all that wait by then, as one call of the function `many`, which runs them in the
 * order in which they came as if each had been said alone: a refusal is its own, and so is its
 * answer. One round trip and one fsync for all; what Redis reads and writes once in a call it does
 * once for all.
 *
 * It knows function calls and answers. It may not know what a verb means.
 * Invariants: a call is sent once; only after a lost connection, and where it may be repeated
 * (redis_cmd.once), once more, alone. When the journey fails each traveller has its error. Nobody
 * waits for company longer than COMBINE_WAIT_MS: behind a Redis that hangs each goes alone.
 */
#pragma once

#include "queue/redis.h"

struct combine;

/* r is borrowed. synced: Redis fsyncs before it answers. Then one call is on its way at a time, and
 * the next one waits for those that just had their answers, for an eighth of what a journey takes. */
struct combine *combine_new(struct redis *r, int64_t timeout_ms, bool synced);
void combine_free(struct combine *k); /* no call may be on its way; may be NULL */
/* As redis_call(), from any thread, for "FCALL pawl2_<verb> 1 <key> <schema> argument…" where verb
 * is one that `many` knows. Releases the command. */
enum rc combine_call(struct combine *k, struct redis_cmd *c, struct redis_reply **out,
		     struct err *e);

/* For tests: the next n calls wait for each other, however long it takes, and go as one. */
void combine_gather(struct combine *k, int n);
int combine_n_waiting(struct combine *k);
