/* Every bound of the queue, with its reason. The function library repeats those it needs; a test
 * compares the two.
 */
#pragma once

#define RUN_ID_MAX 16    /* "r" + at most 10 letters, terminator, room to spare */
#define JOB_ID_MAX 96    /* run, iteration, stage, shard, pass */
#define TOKEN_MAX 48     /* fence (at most 16 digits), dot, 16 hex digits, terminator */
#define WORKER_ID_MAX 64
#define EVENT_ID_MAX 48  /* two 64-bit numbers and a dash */
#define STAGE_NAME_MAX 16
#define POOL_NAME_MAX 32 /* kind of worker: "h100", "cpu" */
#define OWNER_MAX 64     /* whose run it is: the name of a token */
#define PRIORITY_MAX 9   /* of a job within its run; either sign */
#define NOTES_MAX 4096   /* what people write about a run, in bytes */
#define TAG_MAX 40       /* bytes */
#define TAGS_MAX 16      /* of one run */

#define JOBS_PER_RUN_MAX 10000  /* one function call walks all of them on cancel: about 100 ms */
#define PARENTS_MAX 4096        /* `pair` has every judge job of its iteration as parent */
#define EVENTS_KEPT 100000      /* about 20 MB; older readers take a new snapshot */
#define WORKERS_KEPT 1000       /* gone workers are forgotten beyond this */
#define METRICS_PER_BEAT_MAX 1000
#define MARKS_KEPT 200          /* of one attempt, 15 KB; more are thinned evenly */
#define DOC_BYTES_MAX (4 << 20) /* one JSON value stored in a job or run field */

#define LEASE_MS_DEFAULT 45000   /* four missed beats of 10 s */
#define LEASE_MS_MIN 200         /* tests use short leases */
#define LEASE_MS_MAX 3600000
#define TICK_ADVANCE_MS_MAX 2000 /* an outage of any length costs the lease clock this much */
#define CANCEL_GRACE_MS 60000    /* time to finish or checkpoint after a cancel */
#define LOSSES_PER_ATTEMPT 5     /* poison rule: so many losses without a new checkpoint burn one */
#define ATTEMPTS_MAX_DEFAULT 3
#define LOSS_PRIOR_S 14400       /* between two losses of a worker, before a run has seen any */
#define BACKOFF_MS_MAX 600000
#define IDEM_KEPT_MS 2592000000  /* 30 days */

#define PACKED_VALUE_MIN 1024    /* hash-max-listpack-value below this doubles what a job takes */
#define CALL_TIMEOUT_MS 5000     /* one Redis call; appends are fsynced, slow disks take seconds */
#define CONNECT_TIMEOUT_MS 2000
#define POOL_MAX 32              /* the server's threads mostly wait elsewhere */
#define REPLY_ELEMENTS_MAX (1 << 20) /* of one array; the longest are a job's metrics and a run's jobs */
#define READ_BUFFER_KEPT 262144  /* of a connection between answers: many claims at once are 100 KB */
#define IDLE_PING_MS 30000       /* a connection idle for longer proves itself first */
#define BACKOFF_CONNECT_MS_MAX 1000
#define COMBINE_MAX 32           /* calls that go as one: about 2 ms of Redis's time */
#define COMBINE_WAIT_MS 100      /* for company, while two are on their way: a slow disk may take longer */
#define COMBINE_BYTES_MAX 16384  /* of one call; longer ones go alone */

_Static_assert(LEASE_MS_DEFAULT >= 4 * TICK_ADVANCE_MS_MAX, "a lease outlives several ticks");
_Static_assert(CANCEL_GRACE_MS > TICK_ADVANCE_MS_MAX, "grace outlives a tick");
_Static_assert(PARENTS_MAX <= JOBS_PER_RUN_MAX, "parents are jobs of the same run");
