/* An artifact: a tar archive whose last member, manifest.json, names kind, members with size and
 * sha256, and deterministic facts about the content. Named by the sha256 of all its bytes, so the
 * same content has the same name. Nothing in it says when, where or by which attempt it was made.
 *
 * A large one is several tar archives, its volumes, and a small one that holds the manifest alone and
 * names them; that one's digest is the artifact's. Its data begin at byte 512, so that its first block tells
 * what it is. Members are never split: one that is larger than a
 * volume has a volume of its own. Each volume unpacks by itself; all of them give the whole. As a file
 * the volumes of NAME.tar lie beside it: NAME.tar.v001 and so on. What fits into one archive is one,
 * with the manifest as its last member (format 1).
 *
 * Every read checks what it gives out. Errors name archive and member.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"
#include "store/store.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define ARTIFACT_FORMAT_ONE 1
#define ARTIFACT_FORMAT 2 /* with volumes */
#define ARTIFACT_VOLUMES 4096
#define ARTIFACT_ROOT_MAX ((int64_t)16 << 20) /* of the archive that names volumes */
#define ARTIFACT_MANIFEST "manifest.json"

struct artifact_ref {
	char digest[SHA256_HEX_SIZE];
	int64_t size; /* of all volumes */
};

struct artifact;
struct artifact_writer;

/* kind: "checkpoint", "train_state", "dataset" or "progress". `tmp` is created: store_tmp(). In a
 * checkpoint the data of *.safetensors members is aligned to 4096 bytes. */
enum rc artifact_begin(const char *kind, const char *tmp, struct artifact_writer **out,
		       struct err *e);
/* From here on a volume has at most so many bytes, instead of volume_bytes(); 0: that. */
void artifact_volume_max(struct artifact_writer *w, int64_t bytes);
enum rc artifact_add_file(struct artifact_writer *w, const char *member, const char *path,
			  struct err *e);
enum rc artifact_add_mem(struct artifact_writer *w, const char *member, const void *data, size_t len,
			 struct err *e);
/* Bytes that are made while they are written: fill() is asked in order, for 1 MiB at most. */
struct artifact_feed {
	enum rc (*fill)(void *ctx, int64_t at, void *out, size_t len, struct err *e);
	void *ctx;
};
enum rc artifact_add_fed(struct artifact_writer *w, const char *member, int64_t size,
			 const struct artifact_feed *feed, struct err *e);
/* Every regular file of a folder, in the order a checkpoint wants: config.json,
 * generation_config.json, other names sorted, weights last. */
enum rc artifact_add_dir(struct artifact_writer *w, const char *dir, struct err *e);
/* The same, and files of `apart` bytes or more have a volume each: the one of `from` (peeked at, or
 * NULL) that holds the same under the same name, if there is one. What else `from` has changes nothing. */
enum rc artifact_add_dir_since(struct artifact_writer *w, const char *dir, int64_t apart,
			       const struct artifact *from, struct err *e);
/* The next member begins another volume. */
enum rc artifact_cut(struct artifact_writer *w, struct err *e);
/* A volume of another artifact with all its members, as it is: not a byte is written or read. Both
 * lie on one file system. On failure nothing was added. */
enum rc artifact_add_volume(struct artifact_writer *w, const struct artifact *from, size_t volume,
			    struct err *e);
size_t artifact_referenced(const struct artifact_writer *w); /* how many volumes were added so */
/* Writes the manifest, fsyncs. `meta`: object or NULL, borrowed. Frees `w`; the file is at `tmp`,
 * volumes beside it, or all are removed on failure. */
enum rc artifact_finish(struct artifact_writer *w, const json_t *meta, struct artifact_ref *ref,
			struct err *e);
/* artifact_finish and store_take in one. */
enum rc artifact_publish(struct artifact_writer *w, const json_t *meta, struct store *s,
			 struct artifact_ref *ref, struct err *e);
void artifact_abort(struct artifact_writer *w); /* NULL is fine */

/* Where volume i (from 0) of the artifact at `path` lies when it is a file. */
enum rc artifact_volume_path(const char *path, size_t i, char *out, size_t size, struct err *e);
/* What the archive at `path` says of its volumes: [{"digest", "size"}], empty without; to be freed.
 * Nothing is verified. */
enum rc artifact_volumes(const char *path, json_t **out, struct err *e);
/* The same of one in a store, verified: for who does not trust whoever put it there. Of an archive that
 * has no volumes one block is read, and nothing is verified; the others are at most ARTIFACT_ROOT_MAX.
 * RC_NOTFOUND when absent. */
enum rc artifact_volumes_in(struct store *s, const char *digest, json_t **out, struct err *e);
/* Removes the file and so many volumes beside it. */
void artifact_remove(const char *path, size_t volumes);

struct artifact_member {
	const char *path, *sha256; /* owned by the artifact */
	const char *file;          /* the archive it lies in; owned by the artifact */
	int64_t offset, size;      /* in there */
	size_t volume;
};

struct artifact_volume {
	const char *digest; /* owned by the artifact */
	char *path;         /* owned */
	int64_t size;
};

struct artifact {
	char digest[SHA256_HEX_SIZE];
	char *path;                /* of the archive with the manifest */
	int64_t size_bytes;        /* of all volumes */
	struct artifact_volume *volumes; /* none: all is in one archive */
	size_t n_volumes;
	const char *kind;
	json_t *manifest;          /* owned */
	json_t *meta;              /* borrowed from manifest */
	struct artifact_member *members; /* without manifest.json, in archive order */
	size_t n;
};

/* Verifies every archive of it (once per file and process: remembered by path, inode, size and time
 * of change), then reads the manifest. `digest` may be NULL in the _file form: then the bytes
 * themselves give the name, and every member is compared with the manifest. */
enum rc artifact_open(struct store *s, const char *digest, struct artifact **out, struct err *e);
enum rc artifact_open_file(const char *path, const char *digest, struct artifact **out,
			   struct err *e);
/* The same without a look at the bytes: for what this process wrote itself. */
enum rc artifact_peek(const char *path, struct artifact **out, struct err *e);
void artifact_close(struct artifact *a);
/* NULL when absent. */
const struct artifact_member *artifact_find(const struct artifact *a, const char *member);

/* Writes every member below dest_dir (made when absent), digests checked as they are written. */
enum rc artifact_unpack(struct store *s, const char *digest, const char *dest_dir, struct err *e);
enum rc artifact_unpack_file(const char *path, const char *digest, const char *dest_dir,
			     struct err *e);
/* The same, but the weights of a checkpoint that lies in a folder stay where they are: for NAME there is
 * NAME.at, which st_open() maps. Anything else is unpacked. */
enum rc artifact_unpack_mapped(struct store *s, const char *digest, const char *dest_dir,
			       struct err *e);
/* How an archive is called that lies in the folder it is unpacked to; no member may begin like that. */
#define ARTIFACT_FETCHED ".archive"
/* The same for a file and its volumes, which are taken: those that nothing points to are removed. Archives
 * in dest_dir itself are pointed to by name, so it may be moved. */
enum rc artifact_unpack_file_mapped(const char *path, const char *digest, const char *dest_dir,
				    struct err *e);
enum rc artifact_read_member(struct store *s, const char *digest, const char *member,
			     struct buf *out, size_t max, struct err *e);
/* Reads everything again, whatever is remembered. */
enum rc artifact_verify(struct store *s, const char *digest, struct err *e);
enum rc artifact_verify_file(const char *path, const char *digest, struct err *e);
