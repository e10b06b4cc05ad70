/* Where artifacts and small documents lie. One table of functions per kind of place, chosen by
 * URL: file:///folder (a plain path means the same) or s3://bucket/prefix (see s3.h).
 *
 * Blobs are immutable and named by the SHA-256 of their bytes. Documents are small JSON files that
 * may be replaced or appended to. What a function reports as done is durable: bytes, then name,
 * then folder are fsynced. A name never shows half-written bytes.
 * Thread safe; several processes may use one store.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_DOC_MAX ((size_t)64 << 20)

struct store;

/* `create`: make the store when there is none. */
enum rc store_open(const char *url, bool create, struct store **out, struct err *e);
void store_close(struct store *s);
const char *store_id(const struct store *s);  /* random, made once per store */
const char *store_url(const struct store *s); /* as given */

/* RC_NOTFOUND when absent; `size` may be NULL. */
enum rc store_has(struct store *s, const char *digest, int64_t *size, struct err *e);
/* A fresh path on the same file system as the blobs, to write to before store_take. */
enum rc store_tmp(struct store *s, char *out, size_t size, struct err *e);
/* Reads the file back, names it by what was read, makes it durable and moves it in. The file at
 * tmp_path is gone afterwards, also on failure. Taking the same bytes twice is fine. */
enum rc store_take(struct store *s, const char *tmp_path, char digest_out[SHA256_HEX_SIZE],
		   int64_t *size, struct err *e);
/* The same for a file whose digest was made while we wrote it. */
enum rc store_take_named(struct store *s, const char *tmp_path, const char *digest, int64_t size,
			 struct err *e);
/* The same for a file that stays where it is and whose digest is known: it is checked on the way.
 * Nothing is sent or written when the store has the blob. */
enum rc store_put(struct store *s, const char *digest, const char *path, struct err *e);
/* Local path of a blob (which may not exist); RC_UNSUPPORTED when the store is not a folder. */
enum rc store_path(struct store *s, const char *digest, char *out, size_t size, struct err *e);
/* Path of a local file with the blob's bytes: where it lies, or a copy in a folder of limited size
 * that stays for STORE_COPY_KEEP_S after its last use. RC_NOTFOUND when absent. */
#define STORE_COPY_KEEP_S 900
enum rc store_local(struct store *s, const char *digest, char *out, size_t size, struct err *e);
/* `len` bytes from `offset` (-1: all that follow), in order. The digest is not checked: whoever gets
 * the whole does that. data()'s non-zero return ends the call with that code. */
struct store_sink {
	enum rc (*data)(void *ctx, const void *data, size_t len, struct err *e);
	void *ctx;
};
enum rc store_read(struct store *s, const char *digest, int64_t offset, int64_t len,
		   const struct store_sink *sink, struct err *e);
/* A copy of the blob's bytes, digest checked. */
enum rc store_fetch_file(struct store *s, const char *digest, const char *dest, struct err *e);

/* For gc.h. Every blob there is and, with `trash`, what was put aside (its time then). */
struct store_lister {
	enum rc (*blob)(void *ctx, const char *digest, int64_t size, int64_t modified_ms, bool trash,
			struct err *e);
	void *ctx;
};
enum rc store_blobs(struct store *s, const struct store_lister *l, struct err *e);
bool store_has_trash(const struct store *s);
/* Puts a blob aside; whoever asks for it gets it back. RC_CONFLICT when it was asked for in the last
 * `young_ms`. */
enum rc store_trash(struct store *s, const char *digest, int64_t young_ms, struct err *e);
enum rc store_trash_empty(struct store *s, int64_t older_ms, struct err *e);

/* Documents: relative paths such as "runs/r1/record.json". */
enum rc store_doc_put(struct store *s, const char *path, const json_t *doc, struct err *e);
enum rc store_doc_get(struct store *s, const char *path, json_t **out, struct err *e);
/* One line of a .jsonl document. A torn last line of an earlier crash is cut off first. */
enum rc store_doc_append(struct store *s, const char *path, const json_t *doc, struct err *e);
/* All lines as an array; absent gives an empty one. A torn last line is left out, with a warning. */
enum rc store_doc_lines(struct store *s, const char *path, json_t **out, struct err *e);
/* Sorted names in a folder; none when it is absent. Free with fs_list_free. */
enum rc store_doc_list(struct store *s, const char *folder, char ***names, size_t *n, struct err *e);

/* What a kind of place provides. `digest` and `path` arrive checked. */
struct store_ops {
	const char *scheme; /* "file://" */
	enum rc (*open)(const char *place, bool create, void **ctx, char id[33], struct err *e);
	void (*close)(void *ctx);
	enum rc (*has)(void *ctx, const char *digest, int64_t *size, struct err *e);
	enum rc (*tmp)(void *ctx, char *out, size_t size, struct err *e);
	/* Keeps the file at `path`, which has this digest and size; `move`: it may be taken away. */
	enum rc (*put)(void *ctx, const char *path, const char *digest, int64_t size, bool move,
		       struct err *e);
	enum rc (*path)(void *ctx, const char *digest, char *out, size_t size, struct err *e);
	enum rc (*local)(void *ctx, const char *digest, char *out, size_t size, struct err *e);
	enum rc (*read)(void *ctx, const char *digest, int64_t offset, int64_t len,
			const struct store_sink *sink, struct err *e);
	enum rc (*blobs)(void *ctx, const struct store_lister *l, struct err *e);
	enum rc (*trash)(void *ctx, const char *digest, int64_t young_ms, struct err *e); /* or NULL */
	enum rc (*trash_empty)(void *ctx, int64_t older_ms, struct err *e);
	enum rc (*fetch)(void *ctx, const char *digest, const char *dest, struct err *e);
	enum rc (*doc_put)(void *ctx, const char *path, const void *data, size_t len, struct err *e);
	enum rc (*doc_append)(void *ctx, const char *path, const void *data, size_t len,
			      struct err *e);
	enum rc (*doc_get)(void *ctx, const char *path, struct buf *out, struct err *e);
	enum rc (*doc_list)(void *ctx, const char *folder, char ***names, size_t *n, struct err *e);
};
extern const struct store_ops store_file, store_s3;
