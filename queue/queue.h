/* The queue: runs and their jobs, kept in Redis, changed by one atomic function call each.
 *
 * It knows states, leases, tokens, fairness and events. It may not know what a stage computes,
 * where artifacts lie, or HTTP. Every call may be made from any thread; each borrows a connection
 * of an internal pool for its own length. A call that fails with RC_UNREACHABLE or RC_TIMEOUT may
 * or may not have happened: every state change is safe to repeat with the same arguments.
 *
 * Invariants (queue_audit checks those that can be read off a snapshot):
 * - a job is in exactly one state and in exactly the indexes of that state;
 * - a running job, and no other, has a lease and a token; a write with another token is RC_STALE;
 * - terminal states change only by queue_retry_job;
 * - leases and delays run on the lease clock, which only queue_tick advances, by at most 2 s each;
 * - every state change has exactly one event, added in the same atomic step.
 *
 * Times in JSON are Unix milliseconds in fields named *_ms. A job's id is
 * "<run>.<iter>.<stage>.<shard>.<pass>".
 * json_t results are new references.
 */
#pragma once

#include "base/err.h"
#include "queue/limits.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct queue;
struct redis;

struct queue_opts {
	bool accept_loss;    /* Start although Redis is not set to keep every acknowledged write. */
	int64_t lease_ms;    /* 0 = LEASE_MS_DEFAULT */
	int64_t timeout_ms;  /* per call; 0 = CALL_TIMEOUT_MS */
	int pool_max;        /* connections; 0 = POOL_MAX */
	/* Brings keyspace and function library up to date; the programs pass migrations_run. */
	enum rc (*migrate)(struct queue *q, struct err *e);
};

/* url: "unix:/path", "host:port", "redis://…", "sentinel://…"; see redis_url.h.
 * RC_INVALID when Redis may lose acknowledged writes as configured and accept_loss is not set. */
enum rc queue_open(const char *url, const struct queue_opts *o, struct queue **out, struct err *e);
void queue_close(struct queue *q);
enum rc queue_ping(struct queue *q, struct err *e);
/* For migrations and tests: the connection pool underneath. */
struct redis *queue_redis(struct queue *q);
/* Redis was away, or is another process, since last asked: time for a queue_tick(). */
bool queue_troubled(struct queue *q);
int64_t queue_lease_ms(const struct queue *q);
/* Loads the embedded function library when Redis has another text of it, or none. */
enum rc queue_lib_load(struct queue *q, struct err *e);

/* If-Match: from now on, until called again with NULL, every write of this thread is refused with
 * RC_CHANGED unless the run or job is still what `what` says: "r:<run>=<revision>" or "j:<job>=<tag>" or
 * "q:<owner>=<revision>", from queue_run's "revision", queue_job's "tag" and queue_quotas' "revision" (".."
 * of an owner without a quota). Compared in the same atomic step. */
#define MATCH_MAX 224
void queue_match(const char *what);

/* --- runs --------------------------------------------------------------------------------------
 * record: {"id","name","spec":{…},…} whatever the server wants to see again; "id" must be a run id;
 * "class" (0..9, default 5), "weight" (default 1), "max_running" (0 = any number) and "lease_ms" are
 * read from record or record.spec; "owner" from the record: whose quota it counts against (RC_FULL).
 * idem_key may be NULL. Same key and body digest: RC_OK, *existed, `run` is the first run's id. Same
 * key with another digest: RC_CONFLICT. Same run id: RC_OK and *existed. */
enum rc queue_submit(struct queue *q, const json_t *record, const char *idem_key,
		     const char *body_digest, char run[RUN_ID_MAX], bool *existed, struct err *e);
/* Jobs as plan() makes them, with "pool" (kind of worker; absent = any), "priority" (-9..9), "stall_ms"
 * (alarm after so long without progress; 0 = never) and "stall_requeue" beside the rest: a parent
 * stands before its children, or is known already.
 * Adding twice adds once. All or nothing. Refused (RC_CONFLICT) when the run is terminal or being
 * cancelled. */
enum rc queue_add_jobs(struct queue *q, const char *run, const json_t *jobs, int64_t *n_new,
		       struct err *e);
/* For the reconciler, after plan() had nothing new: ends the run if no job is open and exactly
 * `n_done` jobs are done (what plan() saw). The state becomes done, or failed when a job that is
 * not optional failed or was cancelled or skipped, or cancelled. *finished tells whether it did.
 * final_digest may be NULL. */
enum rc queue_finish_run(struct queue *q, const char *run, int64_t n_done, const char *final_digest,
			 bool *finished, struct err *e);
/* Ends a run that cannot be planned any further, with a sentence; open jobs are cancelled. */
enum rc queue_fail_run(struct queue *q, const char *run, const char *error, struct err *e);
/* Cancel: all that do not run are cancelled at once; running ones are told at their next beat and
 * lose their lease after CANCEL_GRACE_MS. Until then the run is "draining". */
enum rc queue_cancel_run(struct queue *q, const char *run, struct err *e);
enum rc queue_pause_run(struct queue *q, const char *run, struct err *e);
/* No new claims; what runs may finish. Resume ends it, as it ends a pause. */
enum rc queue_drain_run(struct queue *q, const char *run, struct err *e);
enum rc queue_resume_run(struct queue *q, const char *run, struct err *e);
/* What is left out stays. Of an open run: "class" 0 (first) .. 9 (waiting improves it by one every six
 * hours), "weight" (share among runs of its class), "max_running" (jobs at a time; 0 = any number). Of any:
 * "notes" (text), "tags" (list of words without commas), "starred". RC_INVALID names the field. */
enum rc queue_tune_run(struct queue *q, const char *run, const json_t *fields, struct err *e);
/* The same check without the change. */
enum rc queue_tuning_check(const json_t *fields, struct err *e);
/* Every failed, cancelled or skipped job again, the run reopened. */
enum rc queue_retry_run(struct queue *q, const char *run, int64_t *n, struct err *e);

/* --- jobs: operators --------------------------------------------------------------------------- */
enum rc queue_cancel_job(struct queue *q, const char *job, struct err *e);
/* Only from failed, cancelled, skipped (else RC_CONFLICT); children skipped because of it wait
 * again; with `subtree` failed and cancelled descendants are retried as well. */
enum rc queue_retry_job(struct queue *q, const char *job, bool subtree, int64_t *n, struct err *e);
/* A done job (else RC_CONFLICT) and everything made from its output run again; old outputs stay in the
 * store. What runs below it loses its lease. */
enum rc queue_invalidate_job(struct queue *q, const char *job, int64_t *n, struct err *e);
enum rc queue_prioritize_job(struct queue *q, const char *job, int priority, struct err *e);
/* The next beat answers QUEUE_CHECKPOINT_NOW, once. */
enum rc queue_checkpoint_job(struct queue *q, const char *job, struct err *e);

/* --- jobs: workers -----------------------------------------------------------------------------*/
struct queue_claim_req {
	const char *worker;        /* registered id */
	const char *const *stages; /* NULL-terminated; NULL or empty = all */
	const char *const *pools;  /* kinds of jobs it takes beside those that any worker may; or NULL */
};
/* *claim = NULL when there is nothing to do, else
 * {"job":{…what work needs of queue_job, inputs resolved to [{"role","digest","kind","size","meta","job"}]},
 *  "token","attempt","lease_ms","resume":{…last checkpoint…}|null,"record":{…run record…}}. */
enum rc queue_claim(struct queue *q, const struct queue_claim_req *r, json_t **claim, struct err *e);

enum queue_action {
	QUEUE_CONTINUE, QUEUE_CANCEL, QUEUE_PAUSE, QUEUE_DRAIN, QUEUE_CHECKPOINT_NOW
};
const char *queue_action_text(enum queue_action a); /* "continue", "cancel", ... */

/* beat: {"progress":{"done","total","unit"},"checkpoint":{…},"metrics":[{"step",…}],"log_size":n}, every
 * member optional. The checkpoint must be published before. Metrics are kept by step, so a
 * repeated step replaces itself. RC_STALE when the token is not current. */
enum rc queue_beat(struct queue *q, const char *job, const char *token, const json_t *beat,
		   enum queue_action *action, struct err *e);
/* The worker was told that its machine will be taken; a mark of the attempt, once. */
enum rc queue_notice(struct queue *q, const char *job, const char *token, struct err *e);
/* RC_OK while the token is current, RC_STALE otherwise. */
enum rc queue_owns(struct queue *q, const char *job, const char *token, struct err *e);
/* outputs: [{"role","kind","digest","size","meta"}]; metrics: object or NULL; info: object or NULL
 * ({"seconds","engine","code","key"}). Repeating with the same token is RC_OK with *again. With
 * `next` the worker gets its next job in the same step (*claim as queue_claim). */
enum rc queue_complete(struct queue *q, const char *job, const char *token, const json_t *outputs,
		       const json_t *metrics, const json_t *info, const struct queue_claim_req *next,
		       bool *again, json_t **claim, struct err *e);
enum queue_fail_kind { QUEUE_FAIL_RETRY, QUEUE_FAIL_FATAL, QUEUE_FAIL_PREEMPTED };
bool queue_fail_kind_of(const char *text, enum queue_fail_kind *out);
/* reason: {"message","exit_code","signal"} or NULL. Preempted goes back to the front of its queue and
 * burns no attempt. Repeating with the same token is RC_OK. */
enum rc queue_fail(struct queue *q, const char *job, const char *token, enum queue_fail_kind kind,
		   const json_t *reason, struct err *e);

/* --- time --------------------------------------------------------------------------------------
 * Call every second from any number of servers: the step is computed inside Redis. */
struct queue_tick {
	int64_t lease_clock_ms;
	int64_t advanced_ms;   /* 0..TICK_ADVANCE_MS_MAX */
	int64_t frozen_ms;     /* > 0: Redis restarted, leases rest until workers had time to beat */
	int64_t n_expired;     /* leases lost */
	int64_t n_due;         /* delayed -> ready */
	int64_t n_cancelled;   /* grace over */
	int64_t n_workers_lost;
	bool behind; /* Redis may know less than the store, and time stands still: see restore.h. */
	/* Of all attempts that have ended; cost in millionths of the unit of the workers' prices. */
	struct queue_work {
		int64_t useful_ms, lost_ms, useful_cost, lost_cost;
		int64_t torn_off; /* attempts that a lost or preempted worker ended */
	} work;
};
enum rc queue_tick(struct queue *q, struct queue_tick *out, struct err *e);

/* --- reads -------------------------------------------------------------------------------------
 * run: {"id","name","state","created_ms","ended_ms"|null,"hold":bool,"cancel":bool,
 *       "counts":{state:n, all eight},"total","class","weight","vt","iterations","seed",
 *       "error"|null,"final_digest"|null,"notes"|null (as at submission),"tags":[…],"starred":bool,
 *       "revision" (text; another one after every decision and change of state),"record":{…}} */
enum rc queue_run(struct queue *q, const char *run, json_t **out, struct err *e); /* RC_NOTFOUND */
/* Newest first. state may be NULL. cursor: NULL or "" first, then *next (heap, NULL at the end).
 * Items carry no "record" but record.spec's iterations and seed as "iterations","seed". */
enum rc queue_runs(struct queue *q, const char *state, const char *cursor, int limit, json_t **items,
		   char **next, struct err *e);
/* fn for every run as queue_runs() tells it, newest first; its first error ends the walk and is returned. */
enum rc queue_each_run(struct queue *q, enum rc (*fn)(void *ctx, const json_t *run, struct err *e),
		       void *ctx, struct err *e);
/* job: {"id","run","stage","iter","shard","pass","state","cancelling":bool,"parents":[ids],"need",
 *  "optional","inputs":[as planned],"params":{…},"attempts" (burnt),"max_attempts","starts","losses",
 *  "preemptions","worker"|null,"progress":{"done","total","unit"}|null,"checkpoint":{…}|null,
 *  "outputs":[…]|null,"metrics":{…}|null,"info":{…}|null,"error":{…}|null,"wait_reason"|null,
 *  "created_ms","started_ms","ended_ms","last_beat_ms","checkpoint_ms","log_size","cost_hint","seq",
 *  "tag" (text; another one after every decision and change of state)} */
enum rc queue_job(struct queue *q, const char *job, json_t **out, struct err *e); /* RC_NOTFOUND */
/* Where a job stands and what it has waited for; job and attempts as queue_job and queue_attempts tell them.
 * {"reason"|null,"position"|null (1: next of its run in its queue),"queue_length"|null,"runs_ahead"|null (as
 * things are; null while the run is not served),"since_ms"|null (of the reason),
 * "history":[{"reason","from_ms","to_ms"|null}]}. */
enum rc queue_waits(struct queue *q, const json_t *job, const json_t *attempts, json_t **out, struct err *e);
/* Now and then, by any server: notes why the ready jobs of open runs are not begun, where that changed. */
enum rc queue_waits_note(struct queue *q, struct err *e);
struct queue_job_filter {
	const char *stage, *state; /* NULL = any */
	int iter;                  /* -1 = any */
};
/* In order of adding. filter may be NULL. */
enum rc queue_jobs(struct queue *q, const char *run, const struct queue_job_filter *f, json_t **out,
		   struct err *e);
/* Array of {"n","worker","started_ms","ended_ms"|null,"reason":{…}|null,"from_progress","to_progress"|null,
 * "fence","end":"completed|failed|preempted|lease_lost|cancelled"|null,"again_ms"? (ready again, when later),
 * "marks":[{"at_ms","kind":"checkpoint|notice|stuck|cancel|pause|drain","done"}]}. */
enum rc queue_attempts(struct queue *q, const char *job, json_t **out, struct err *e);
/* Array of {"step",…}, rising. */
enum rc queue_metrics(struct queue *q, const char *job, json_t **out, struct err *e);
/* {job id: {"outputs":{role:{"digest","kind","size","rows","meta"}}}} of all done jobs, for plan(). */
enum rc queue_done_outputs(struct queue *q, const char *run, json_t **out, struct err *e);
/* Runs whose state is active, paused or draining: what the reconciler looks at. Array of ids. */
enum rc queue_open_runs(struct queue *q, json_t **out, struct err *e);

/* --- events ------------------------------------------------------------------------------------
 * Ids rise ("1732160000000-0"). Returns at once when there is something after `after_id` ("$" is not
 * allowed; "0-0" is the beginning), else waits up to block_ms. *items: array of
 * {"id","type","run","job","data"}, empty on time-out. *gap: after_id is older than
 * what is kept, the reader must take a new snapshot.
 * Types: run, job, worker, metric, log, notice. */
enum rc queue_events(struct queue *q, const char *after_id, int64_t block_ms, int max, json_t **items,
		     bool *gap, struct err *e);
/* At most `max` events older than the id, newest first; "+" begins at the newest. The same form. */
enum rc queue_events_before(struct queue *q, const char *before, int max, json_t **items, struct err *e);
/* Id of the newest event: read it before a snapshot, then follow from it. */
enum rc queue_snapshot_id(struct queue *q, char out[EVENT_ID_MAX], struct err *e);
/* An event that is no state change (type "log"): so that viewers know there is more to read. */
enum rc queue_event_add(struct queue *q, const char *type, const char *run, const char *job,
			const json_t *data, struct err *e);

/* --- workers -----------------------------------------------------------------------------------
 * info: {"name","pid","host","engine","code","threads","memory_bytes","labels","price_per_hour",
 * "stages"}; the caller makes the id. */
enum rc queue_worker_register(struct queue *q, const char *worker, const json_t *info, struct err *e);
/* A worker without a job says it lives; RC_NOTFOUND when unknown (register again). */
enum rc queue_worker_beat(struct queue *q, const char *worker, enum queue_action *action,
			  struct err *e);
/* What the driver says of its GPUs (an array, kept as it is) and why it can do no work, "" while it can:
 * until it says otherwise it is given no job. */
enum rc queue_worker_status(struct queue *q, const char *worker, const json_t *gpus, const char *unhealthy,
			    struct err *e);
enum rc queue_worker_drain(struct queue *q, const char *worker, struct err *e);
/* It finishes what it does and gets nothing more; one that drains saves, hands back and leaves. */
enum rc queue_worker_cordon(struct queue *q, const char *worker, struct err *e);
enum rc queue_worker_take(struct queue *q, const char *worker, struct err *e); /* ends either */
enum rc queue_worker_gone(struct queue *q, const char *worker, struct err *e);
/* Array of {"id","name","state":"idle|busy|draining|cordoned|unhealthy|lost|gone","job"|null,"last_beat_ms",
 * "started_ms","jobs_done","preemptions","info":{…},"gpus":[…]|null,"unhealthy"|null}. */
enum rc queue_workers(struct queue *q, json_t **out, struct err *e);

/* --- quotas: limits of one owner's runs together; 0 = none ---------------------------------------*/
struct queue_quota {
	int64_t runs, running; /* open runs; jobs at a time */
	double gpu_hours;      /* of work in one day (UTC), by lease clock */
};
enum rc queue_quota_set(struct queue *q, const char *owner, const struct queue_quota *quota,
			struct err *e);
/* {owner: {"runs","running","gpu_hours","used_runs","used_running","used_gpu_hours","revision"}}. */
enum rc queue_quotas(struct queue *q, json_t **out, struct err *e);

/* --- small things with a life span (sessions, tokens, login links) ------------------------------
 * ttl_s 0 = for ever. get and take: RC_NOTFOUND. take gets and deletes in one step. */
enum rc queue_kv_put(struct queue *q, const char *ns, const char *key, const json_t *v, int64_t ttl_s,
		     struct err *e);
enum rc queue_kv_get(struct queue *q, const char *ns, const char *key, json_t **out, struct err *e);
enum rc queue_kv_take(struct queue *q, const char *ns, const char *key, json_t **out, struct err *e);
enum rc queue_kv_del(struct queue *q, const char *ns, const char *key, struct err *e);
/* {key: value}. */
enum rc queue_kv_list(struct queue *q, const char *ns, json_t **out, struct err *e);

/* *got: `name` is the holder's alone for at least half of ttl_ms from now; ttl_ms 0 gives it back. For what
 * one server at a time may do. A holder that was stopped for longer has lost it without knowing. */
enum rc queue_hold(struct queue *q, const char *name, const char *holder, int64_t ttl_ms, bool *got,
		   struct err *e);

/* Re-derives every index from the job hashes, in one atomic step; array of sentences, empty when all
 * is well. */
enum rc queue_audit(struct queue *q, json_t **problems, struct err *e);
