/* Saved filters: the state of a page's address under a name, of one identity each and seen by
 * nobody else. Kept in the store alone (filters/<identity>.json), changed under a hold, bounded in
 * number and size.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

#define SAVED_MAX 100	  /* of one identity */
#define SAVED_NAME_MAX 60 /* bytes */
#define SAVED_PAGE_MAX 32
#define SAVED_QUERY_MAX 2000

struct server;

/* [{"name","page","query","changed_at"}] by name; page NULL or "": of all. */
enum rc saved_list(struct server *s, const char *identity, const char *page, json_t **items,
		   struct err *e);
/* body: {"page","query"}. RC_INVALID names the field, RC_CONFLICT when there are too many. *made:
 * it is new. */
enum rc saved_put(struct server *s, const char *identity, const char *name, const json_t *body,
		  bool *made, json_t **out, struct err *e);
enum rc saved_delete(struct server *s, const char *identity, const char *name,
		     struct err *e); /* RC_NOTFOUND */
/* Of somebody who is gone. */
enum rc saved_forget(struct server *s, const char *identity, struct err *e);
