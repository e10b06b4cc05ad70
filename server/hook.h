/* Webhooks: addresses that are told what happens. A hook is a name, an address, the kinds it wants, a
 * secret. Those made through the API are kept in Redis and in DATA/hooks/<name>.json (0600), never in the
 * store, which workers may read; those of the file server.hooks_file are read at start and are nobody
 * else's to change. Neither addresses nor secrets are ever logged.
 *
 * A delivery is a POST of JSON with
 *   Pawl-Event: run.done     Pawl-Delivery: <id, the same at every try>
 *   Pawl-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<id>.<body>" with the secret>
 * and counts when the answer is 2xx.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define HOOK_NAME_MAX 32
#define HOOK_URL_MAX 1024
#define HOOK_SECRET_MIN 16
#define HOOK_SECRET_MAX 200
#define HOOKS_MAX 50

struct server;

/* Kinds of notices, NULL at the end; "*" asks for all. */
extern const char *const notice_kinds[];

/* Brings back from DATA/hooks what Redis does not know, and reads server.hooks_file: at start, and after
 * Redis was away. */
enum rc hooks_start(struct server *s, struct err *e);
/* {name: {"name","url","events":[…],"secret","enabled","stamp","file":bool}}, secrets and all. */
enum rc hooks_all(struct server *s, json_t **out, struct err *e);
enum rc hook_get(struct server *s, const char *name, json_t **out, struct err *e); /* RC_NOTFOUND */
/* {"url","events","secret"?,"enabled"?}: makes or replaces; what is left out of an old one stays. RC_INVALID
 * names the field; RC_CHANGED when `match` ("h:<name>=<revision>" or NULL) is not what is there; RC_DENIED
 * for one of the file. *made: there was none. A new one without a secret gets one. */
enum rc hook_put(struct server *s, const char *name, const json_t *body, const char *match, bool *made,
		 json_t **out, struct err *e);
enum rc hook_delete(struct server *s, const char *name, const char *match, struct err *e);
bool hook_wants(const json_t *hook, const char *kind);
void hook_revision(const json_t *hook, char out[24]);
/* As the API shows it: without the secret. */
json_t *hook_json(const json_t *hook);

/* "t=…,v1=…" of a body sent at that time. */
#define HOOK_SIGNATURE_MAX 128
void hook_sign(const char *secret, const char *id, int64_t at_s, const char *body,
	       char out[HOOK_SIGNATURE_MAX]);
/* One try. *status: of the answer, 0 when none came; RC_OK only for 2xx. The sentence in e names no
 * address. */
enum rc hook_post(struct server *s, const json_t *hook, const json_t *notice, int *status, struct err *e);
