/* What the files of queue/ share: the handle, function calls, and replies as JSON. Not for others. */
#pragma once

#include "queue/combine.h"
#include "queue/queue.h"
#include "queue/redis.h"

struct queue {
	struct redis *redis;	 /* owned */
	struct combine *combine; /* owned */
	int64_t lease_ms;
};

/* Starts "FCALL pawl2_<verb> 1 {pawl}:m <schema>"; arguments follow with redis_cmd_add. Calls of a thread
 * that restores (restore.h) are marked as such. */
void call_begin(struct redis_cmd *c, const char *verb);
/* Runs it; reloads the library when Redis has lost it. out may be NULL. */
enum rc call_end(struct queue *q, struct redis_cmd *c, struct redis_reply **out, struct err *e);
/* The same for what workers say all the time: together with what other threads say at that moment. */
enum rc call_joined(struct queue *q, struct redis_cmd *c, struct redis_reply **out, struct err *e);
/* call_end() with text arguments, NULL-terminated; *n (may be NULL) gets an integer reply. */
enum rc call_words(struct queue *q, const char *verb, const char *const *args, int64_t *n,
		   struct err *e);
void cmd_json(struct redis_cmd *c, const json_t *v); /* NULL adds "" */
#define NONCE_MAX 17 /* 64 random bits in hex, and the terminator */
void nonce_make(char out[NONCE_MAX]);
/* Adds worker, nonce and lease: what a token is made of. The nonce keeps tokens apart even if a failover
 * of Redis rolls the fence counter back. */
enum rc claim_worker(struct queue *q, struct redis_cmd *c, const char *worker, struct err *e);
/* Calls what grants a lease; the claim with inputs resolved, NULL when nothing was granted. A job whose
 * inputs cannot exist is parked with the reason, and no claim made. */
enum rc claim_call(struct queue *q, struct redis_cmd *c, json_t **claim, struct err *e);

/* "<command> <prefix><name> words…" as one command. */
void cmd_key(struct redis_cmd *c, const char *command, const char *prefix, const char *name,
	     const char *words);
/* Field of an HGETALL reply as borrowed text, or dflt. */
const char *hash_get(const struct redis_reply *h, const char *field, const char *dflt);
int64_t hash_i64(const struct redis_reply *h, const char *field, int64_t dflt);
/* JSON kept in a field; json null when absent, empty or broken. New reference. */
json_t *hash_json(const struct redis_reply *h, const char *field);
json_t *json_of_text(const char *text, size_t len);
json_t *json_text_or_null(const char *text); /* "" gives null */
json_t *json_ms_or_null(int64_t ms);         /* 0 gives null */

/* A job id's run: the part before the first dot. False when the id has none or is too long. */
bool job_run_of(const char *job, char run[RUN_ID_MAX]);
bool word_valid(const char *s, size_t max); /* letters, digits, "._-" only, not empty */
/* {"id",…} from the job's hash, without wait_reason. */
json_t *job_json(const char *id, const struct redis_reply *h);
