/* Garbage of a store: blobs that nothing names any more.
 *
 * A blob is kept when its digest stands anywhere in any document of the store (run records,
 * completion manifests, decisions), or in what the caller gives beside them (the queue's jobs with
 * their checkpoint pointers), or when it is young: somebody may be about to name it. What is left
 * must be found so by two looks, `wait_ms` apart; then it goes to the trash, where it stays for
 * `trash_ms` and comes back by itself when anybody asks for it. Only after that is it gone.
 *
 * What a run gave up is not kept alive by its own results: names of those digests below jobs/<run>/, and
 * among what the queue says of that run, count for nothing.
 *
 * Safe to interrupt anywhere and to run twice. May not know what a document means.
 */
#pragma once

#include "store/store.h"

struct gc_rules {
	int64_t young_ms, wait_ms, trash_ms;
	bool dry_run; /* changes nothing, not even the marks */
	const json_t *given_up; /* {run: {digest: …}}, borrowed; or NULL */
};
#define GC_GIVEN_UP "given-up" /* folder of documents that say so; they name nothing to be kept */
#define GC_RULES_DEFAULT                                                                           \
	{                                                                                          \
		.young_ms = 24 * 3600000ll, .wait_ms = 24 * 3600000ll, .trash_ms = 72 * 3600000ll  \
	}

struct gc_sum {
	int64_t n, bytes;
};

struct gc_report {
	struct gc_sum all, kept, young, marked, trashed, dropped;
	/* marked: seen unused, and waiting for the second look; trashed: by this run (or would be);
	 * dropped: left the trash for good (or would) */
	json_t *items; /* [{digest,size,state,since_ms}] of marked and trashed, at most 1,000; owned
			*/
};

/* RC_UNSUPPORTED when blobs of this kind of store cannot be trashed and it is no dry run. */
/* `in_use`: {run: anything that names digests}, or a list of such; or NULL. */
enum rc gc_run(struct store *s, const struct gc_rules *rules, const json_t *in_use,
	       struct gc_report *out, struct err *e);
void gc_report_release(struct gc_report *r);
