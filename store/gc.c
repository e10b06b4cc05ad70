#include "store/gc.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/tar.h"

#include <stdlib.h>
#include <string.h>

#define MARKS "gc/marks.json"
#define OWN "gc" /* our own notes name what is garbage, and keep nothing alive */
#define DEPTH_MAX 16
#define ITEMS_MAX 1000
#define HEX 64

/* --- what is in use --------------------------------------------------------------------------- */

/* Digests as 32 bytes, sorted when all are there. */
struct digests {
	uint8_t (*list)[SHA256_SIZE];
	size_t n, cap;
	const json_t *given_up; /* by all runs, or NULL; borrowed */
	const json_t *except;	/* by the run whose words are being read */
};

static int nibble(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void to_bytes(const char *hex, uint8_t out[SHA256_SIZE])
{
	for (int i = 0; i < SHA256_SIZE; i++)
		out[i] = (uint8_t)(nibble(hex[2 * i]) * 16 + nibble(hex[2 * i + 1]));
}

static void add(struct digests *d, const char *hex)
{
	if (d->n == d->cap) {
		d->cap = d->cap ? 2 * d->cap : 1024;
		d->list = mem_grow(d->list, d->cap, sizeof(*d->list));
	}
	to_bytes(hex, d->list[d->n++]);
}

/* Every run of exactly 64 hexadecimal digits. A longer run is no digest of ours. */
static bool excepted(const struct digests *d, const char *at)
{
	char hex[SHA256_HEX_SIZE];

	if (!d->except)
		return false;
	memcpy(hex, at, HEX);
	hex[HEX] = 0;
	return json_object_get(d->except, hex);
}

static void scan(struct digests *d, const char *text, size_t len)
{
	size_t run = 0;

	for (size_t i = 0; i <= len; i++) {
		if (i < len && nibble(text[i]) >= 0) {
			run++;
			continue;
		}
		if (run == HEX && !excepted(d, text + i - HEX))
			add(d, text + i - HEX);
		run = 0;
	}
}

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, SHA256_SIZE);
}

static bool in_use(const struct digests *d, const char *hex)
{
	uint8_t key[SHA256_SIZE];

	to_bytes(hex, key);
	return d->n && bsearch(key, d->list, d->n, sizeof(*d->list), by_bytes);
}

/* jobs/<run>/…: what that run has given up. */
static const json_t *exceptions_of(const struct digests *d, const char *path)
{
	char run[64];

	if (!d->given_up || !str_starts(path, "jobs/"))
		return NULL;
	str_copy(run, sizeof(run), path + 5);
	run[strcspn(run, "/")] = 0;
	return json_object_get(d->given_up, run);
}

static enum rc scan_document(struct store *s, const char *path, struct digests *d, struct err *e)
{
	json_t *v = NULL;
	struct buf b = BUF_INIT;
	enum rc rc = str_ends(path, ".jsonl") ? store_doc_lines(s, path, &v, e)
					      : store_doc_get(s, path, &v, e);

	if (!rc) {
		d->except = exceptions_of(d, path);
		jx_dump(v, &b);
		scan(d, b.data, b.len);
		d->except = NULL;
	}
	json_decref(v);
	buf_release(&b);
	return rc == RC_NOTFOUND ? RC_OK : rc; /* Replaced while we looked at the folder. */
}

/* A document that cannot be read stops all: it may name what would be taken for garbage. */
static enum rc scan_folder(struct store *s, const char *folder, int depth, struct digests *d,
			   struct err *e)
{
	char path[TAR_PATH_MAX + 1];
	char **names;
	size_t n;
	enum rc rc = depth < DEPTH_MAX ? store_doc_list(s, folder, &names, &n, e)
				       : err_set(e, RC_INVALID, "%s: folders too deep", folder);

	if (rc)
		return rc;
	for (size_t i = 0; i < n && !rc; i++) {
		if (strlen(folder) + strlen(names[i]) + 2 > sizeof(path)) {
			rc = err_set(e, RC_INVALID, "%s/%s: name too long", folder, names[i]);
			break;
		}
		str_fmt(path, sizeof(path), "%s%s%s", folder, *folder ? "/" : "", names[i]);
		if (str_ends(path, ".json") || str_ends(path, ".jsonl"))
			rc = scan_document(s, path, d, e);
		else if (strcmp(path, OWN) != 0 && strcmp(path, GC_GIVEN_UP) != 0 &&
			 !strstr(names[i], ".tmp."))
			rc = scan_folder(s, path, depth + 1, d, e);
	}
	fs_list_free(names);
	return rc;
}

static void scan_value(struct digests *d, const json_t *v)
{
	struct buf b = BUF_INIT;

	jx_dump(v, &b);
	scan(d, b.data, b.len);
	buf_release(&b);
}

static enum rc gather(struct store *s, const json_t *more, struct digests *d, struct err *e)
{
	enum rc rc = scan_folder(s, "", 0, d, e);
	const char *run;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)more, run, v)
	{
		d->except = json_object_get(d->given_up, run);
		scan_value(d, v);
		d->except = NULL;
	}
	if (json_is_array(more))
		scan_value(d, more);
	if (!rc && d->n)
		qsort(d->list, d->n, sizeof(*d->list), by_bytes);
	return rc;
}

/* --- judging ---------------------------------------------------------------------------------- */

struct look {
	struct store *s;
	const struct gc_rules *rules;
	const struct digests *used;
	const json_t *before; /* {digest: first seen unused, ms} */
	json_t *after, *take; /* marks to keep; {digest: size} to trash */
	struct gc_report *out;
	int64_t now;
};

static void count(struct gc_sum *sum, int64_t size)
{
	sum->n++;
	sum->bytes += size;
}

static void note(struct look *k, const char *digest, int64_t size, const char *state, int64_t since)
{
	if (json_array_size(k->out->items) < ITEMS_MAX)
		json_array_append_new(k->out->items,
				      json_pack("{s:s,s:I,s:s,s:I}", "digest", digest, "size",
						(json_int_t)size, "state", state, "since_ms",
						(json_int_t)since));
}

static enum rc judge(void *ctx, const char *digest, int64_t size, int64_t modified_ms, bool trash,
		     struct err *e)
{
	struct look *k = ctx;

	(void)e;
	if (trash) {
		if (k->now - modified_ms >= k->rules->trash_ms)
			count(&k->out->dropped, size);
		return RC_OK;
	}
	count(&k->out->all, size);
	if (in_use(k->used, digest)) {
		count(&k->out->kept, size);
	} else if (k->now - modified_ms < k->rules->young_ms) {
		count(&k->out->young, size);
	} else {
		int64_t since = jx_get_i64(k->before, digest, k->now);
		/* A mark from before the bytes came (again) is about others. */
		if (since < modified_ms)
			since = k->now;
		if (json_object_get(k->before, digest) && k->now - since >= k->rules->wait_ms) {
			count(&k->out->trashed, size);
			json_object_set_new(k->take, digest, json_integer(size));
			note(k, digest, size, "trash", since);
		} else {
			count(&k->out->marked, size);
			json_object_set_new(k->after, digest, json_integer(since));
			note(k, digest, size, "marked", since);
		}
	}
	return RC_OK;
}

/* The marks are written before anything moves: dying in between costs a second look, no blob. */
static enum rc sweep(struct look *k, struct err *e)
{
	const char *digest;
	json_t *size;
	enum rc rc = store_doc_put(k->s, MARKS, k->after, e);
	json_object_foreach(k->take, digest, size)
	{
		if (rc)
			break;
		rc = store_trash(k->s, digest, k->rules->young_ms, e);
		if (!rc)
			log_info("store", "trashed", "digest=%s bytes=%lld", digest,
				 (long long)json_integer_value(size));
		else if (rc == RC_NOTFOUND || rc == RC_CONFLICT) /* Gone, or touched just now. */
			rc = RC_OK;
	}
	return rc ? rc : store_trash_empty(k->s, k->rules->trash_ms, e);
}

enum rc gc_run(struct store *s, const struct gc_rules *rules, const json_t *more,
	       struct gc_report *out, struct err *e)
{
	struct digests used = {.given_up = rules->given_up};
	json_t *before = NULL;
	struct look k = {.s = s, .rules = rules, .used = &used, .out = out, .now = clk_now_ms()};
	const struct store_lister see = {judge, &k};

	*out = (struct gc_report){0};
	if (!rules->dry_run && !store_has_trash(s))
		return err_set(e, RC_UNSUPPORTED,
			       "store %s cannot put blobs aside: ask for a dry run, "
			       "which lists what nothing names",
			       store_url(s));
	out->items = json_array();
	enum rc rc = store_doc_get(s, MARKS, &before, e);
	if (rc == RC_NOTFOUND) {
		before = json_object();
		rc = RC_OK;
	}
	k.before = before;
	k.after = json_object();
	k.take = json_object();
	if (!rc)
		rc = gather(s, more, &used, e);
	if (!rc)
		rc = store_blobs(s, &see, e);
	if (!rc && !rules->dry_run)
		rc = sweep(&k, e);
	free(used.list);
	json_decref(before);
	json_decref(k.after);
	json_decref(k.take);
	if (rc)
		gc_report_release(out);
	return rc ? err_wrap(e, "garbage of the store") : RC_OK;
}

void gc_report_release(struct gc_report *r)
{
	json_decref(r->items);
	*r = (struct gc_report){0};
}
