#include "server/saved.h"

#include "base/clk.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "server/hold.h"
#include "server/reply.h"
#include "server/server.h"
#include "store/store.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX 48

/* "user:ann" -> "user-ann": what may be part of a document's name. */
static void key_of(const char *identity, char key[KEY_MAX])
{
	size_t n = 0;

	for (; identity[n] && n < KEY_MAX - 1; n++)
		key[n] = isalnum((unsigned char)identity[n]) || strchr("._-", identity[n])
				 ? identity[n]
				 : '-';
	key[n] = 0;
	if (!n)
		str_copy(key, KEY_MAX, "anyone");
}

/* {name: {"page","query","changed_ms"}}, empty when there are none. */
static enum rc load(struct server *s, const char *key, json_t **all, struct err *e)
{
	char path[80];
	enum rc rc;

	str_fmt(path, sizeof path, "filters/%s.json", key);
	rc = store_doc_get(s->store, path, all, e);
	if (rc == RC_NOTFOUND) {
		*all = json_object();
		rc = RC_OK;
	}
	return rc;
}

static enum rc keep(struct server *s, const char *key, const json_t *all, struct err *e)
{
	char path[80];

	str_fmt(path, sizeof path, "filters/%s.json", key);
	return store_doc_put(s->store, path, all, e);
}

static json_t *filter_json(const char *name, const json_t *rec)
{
	return json_pack("{s:s, s:s, s:s, s:o}", "name", name, "page", jx_get_str(rec, "page", ""),
			 "query", jx_get_str(rec, "query", ""), "changed_at",
			 json_time(jx_get_i64(rec, "changed_ms", 0)));
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

enum rc saved_list(struct server *s, const char *identity, const char *page, json_t **items,
		   struct err *e)
{
	const char *names[SAVED_MAX], *name;
	char key[KEY_MAX];
	json_t *all = NULL, *rec;
	size_t n = 0;
	enum rc rc;

	key_of(identity, key);
	rc = load(s, key, &all, e);
	*items = rc ? NULL : json_array();
	json_object_foreach(all, name, rec) if (n < SAVED_MAX &&
						(!page || !page[0] ||
						 strcmp(jx_get_str(rec, "page", ""), page) == 0))
		names[n++] = name;
	if (n)
		qsort(names, n, sizeof *names, by_name);
	for (size_t i = 0; !rc && i < n; i++)
		json_array_append_new(*items,
				      filter_json(names[i], json_object_get(all, names[i])));
	json_decref(all);
	return rc;
}

static bool printable(const char *text, size_t max)
{
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return false;
	return n > 0 && n <= max && utf8_valid(text, n);
}

static enum rc check(const char *name, const json_t *body, const char **page, const char **query,
		     struct err *e)
{
	static const char *const known[] = {"page", "query", NULL};
	enum rc rc;

	if (!printable(name, SAVED_NAME_MAX))
		return err_set(e, RC_INVALID, "name: expected 1 to %d bytes of plain text",
			       SAVED_NAME_MAX);
	if ((rc = jx_only(body, known, e)) || (rc = jx_str(body, "page", page, e)) ||
	    (rc = jx_str(body, "query", query, e)))
		return rc;
	if (!printable(*page, SAVED_PAGE_MAX) ||
	    strspn(*page, "abcdefghijklmnopqrstuvwxyz0123456789_-/") != strlen(*page))
		return err_set(e, RC_INVALID, "page: expected a short word such as \"runs\"");
	if ((*query)[0] && !printable(*query, SAVED_QUERY_MAX))
		return err_set(e, RC_INVALID,
			       "query: expected the part of an address behind the question mark, "
			       "at most %d bytes",
			       SAVED_QUERY_MAX);
	return RC_OK;
}

static enum rc put_held(struct server *s, const char *key, const char *name, json_t *rec,
			bool *made, struct err *e)
{
	json_t *all = NULL;
	enum rc rc = load(s, key, &all, e);

	*made = !json_object_get(all, name);
	if (!rc && *made && json_object_size(all) >= SAVED_MAX)
		rc = err_set(e, RC_CONFLICT, "%d filters are kept already: delete one first",
			     SAVED_MAX);
	if (!rc) {
		json_object_set(all, name, rec);
		rc = keep(s, key, all, e);
	}
	json_decref(all);
	return rc;
}

enum rc saved_put(struct server *s, const char *identity, const char *name, const json_t *body,
		  bool *made, json_t **out, struct err *e)
{
	const char *page = "", *query = "";
	char key[KEY_MAX];
	struct hold h;
	json_t *rec;
	enum rc rc = check(name, body, &page, &query, e);

	*out = NULL;
	key_of(identity, key);
	if (rc || (rc = hold_take(s, "filters", key, &h, e)))
		return rc;
	rec = json_pack("{s:s, s:s, s:I}", "page", page, "query", query, "changed_ms",
			(json_int_t)clk_now_ms());
	rc = put_held(s, key, name, rec, made, e);
	hold_drop(&h);
	if (!rc)
		*out = filter_json(name, rec);
	json_decref(rec);
	return rc;
}

enum rc saved_delete(struct server *s, const char *identity, const char *name, struct err *e)
{
	char key[KEY_MAX];
	json_t *all = NULL;
	struct hold h;
	enum rc rc;

	key_of(identity, key);
	if ((rc = hold_take(s, "filters", key, &h, e)))
		return rc;
	rc = load(s, key, &all, e);
	if (!rc && json_object_del(all, name))
		rc = err_set(e, RC_NOTFOUND, "no filter \"%.60s\"", name);
	if (!rc)
		rc = keep(s, key, all, e);
	hold_drop(&h);
	json_decref(all);
	return rc;
}

enum rc saved_forget(struct server *s, const char *identity, struct err *e)
{
	char key[KEY_MAX];
	json_t *all = NULL, *none = json_object();
	enum rc rc;

	key_of(identity, key);
	rc = load(s, key, &all, e);
	if (!rc && json_object_size(all))
		rc = keep(s, key, none, e);
	json_decref(all);
	json_decref(none);
	return rc;
}
