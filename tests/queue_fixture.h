/* Small helpers over a queue in a test: jobs from one line of text, a lease clock that the test
 * moves, and checks that include the auditor.
 */
#pragma once

#include "queue/queue.h"
#include "tests/redis_fixture.h"

struct queue_fixture {
	struct redis_fixture redis;
	struct queue *q;
	int64_t now_ms; /* wall clock shown to tick */
};

void qf_open(struct queue_fixture *f, bool fast);
void qf_close(struct queue_fixture *f);
/* Submits run `id` with an optional spec text ("{}"). */
void qf_run(struct queue_fixture *f, const char *id, const char *extra);
/* jobs: "generate.0 generate.1 pair.0<generate.0,generate.1" in run `run`, iteration 1; a trailing
 * "!n" on the name sets need, "?" marks it optional. Returns the number added. */
int64_t qf_jobs(struct queue_fixture *f, const char *run, const char *jobs);
void qf_worker(struct queue_fixture *f, const char *id);
/* Moves the wall clock in steps of at most `step` ms, one tick each. Sums the counts. */
struct queue_tick qf_pass(struct queue_fixture *f, int64_t ms, int64_t step);
/* Claims with worker `w`; fills job id and token; false when there was nothing. */
bool qf_claim(struct queue_fixture *f, const char *w, char job[JOB_ID_MAX], char token[TOKEN_MAX]);
/* Completes with one output "data" whose digest repeats the digit `d`. */
enum rc qf_complete(struct queue_fixture *f, const char *job, const char *token, char d);
void qf_state(struct queue_fixture *f, const char *job, const char *want);
void qf_run_state(struct queue_fixture *f, const char *run, const char *want);
int64_t qf_number(struct queue_fixture *f, const char *job, const char *field);
void qf_audit(struct queue_fixture *f);
