/* People: a name, a role, a password. The store keeps them (users/<name>.json), so a lost Redis locks
 * nobody out; Redis holds a copy that every request may look at. A change of role or password ends
 * the sessions of that user: `stamp` is when the record changed last.
 */
#pragma once

#include "base/err.h"
#include "server/http.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define USER_NAME_MAX 32
#define USER_ID_PREFIX "user:" /* of ident.id */

struct server;

bool user_name_valid(const char *name); /* a-z 0-9 . _ -, at most 31 */
/* {"name","role","hash","created_ms","stamp"}; RC_NOTFOUND also when deleted. */
enum rc user_get(struct server *s, const char *name, json_t **out, struct err *e);
/* Makes or replaces; `password` NULL keeps the one there is. With `match` ("u:<name>=<revision>") only what
 * that names, else RC_CHANGED: read, compared and written under one hold. */
enum rc user_put(struct server *s, const char *name, enum role role, const char *password,
		 const char *match, struct err *e);
enum rc user_delete(struct server *s, const char *name, const char *match, struct err *e);
/* Another one after every change. */
void user_revision(const json_t *rec, char out[24]);
/* All of them, sorted by name, as the API shows them: without the hash. */
enum rc user_list(struct server *s, json_t **items, struct err *e);
/* RC_DENIED when name and password do not belong together. *stamp: for user_stands. */
enum rc user_check(struct server *s, const char *name, const char *password, struct ident *out,
		   int64_t *stamp, struct err *e);
/* Whether a session opened with `stamp` is still one of this user. */
bool user_stands(struct server *s, const char *name, int64_t stamp);
json_t *user_json(const json_t *rec);
