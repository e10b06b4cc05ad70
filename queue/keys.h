/* Names of the Redis keys that C reads; queue/lua/00_head.lua documents and writes all of them. One
 * hash tag keeps them in one slot.
 */
#pragma once

#define KEY_TAG "{pawl}:"
#define KEY_META KEY_TAG "m"
#define KEY_RUNS KEY_TAG "runs"
#define KEY_OPEN_RUNS KEY_TAG "openruns"
#define KEY_RUN KEY_TAG "r:"
#define KEY_RUN_JOBS KEY_TAG "rj:"
#define KEY_RUN_QUEUES KEY_TAG "rs:"
#define KEY_READY KEY_TAG "rq:"
#define KEY_POOL KEY_TAG "pool:"
#define KEY_JOB KEY_TAG "j:"
#define KEY_ATTEMPTS KEY_TAG "at:"
#define KEY_METRICS KEY_TAG "mx:"
#define KEY_WORKER KEY_TAG "w:"
#define KEY_WORKERS KEY_TAG "wa"
#define KEY_WORKERS_ALIVE KEY_TAG "wz"
#define KEY_WORKER_JOBS KEY_TAG "wj:"
#define KEY_QUOTAS KEY_TAG "quotas"
#define KEY_QUOTA KEY_TAG "quota:"
#define KEY_OWNER KEY_TAG "own:"
#define KEY_OWNER_RUNS KEY_TAG "orun:"
#define KEY_EVENTS KEY_TAG "ev"
#define KEY_KV KEY_TAG "kv:"

#define QUEUE_SCHEMA "2"     /* of the keyspace; every call carries it */
#define QUEUE_LIB "pawl_v2"  /* name of the function library */
#define QUEUE_VERB "pawl2_"  /* prefix of its functions */
