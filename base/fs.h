/* Files that are either whole or absent.
 *
 * fs_write_durable(): temporary name in the same folder, write, fsync (checked), rename, fsync of
 * the folder. After a crash at any point readers see the old file or the new one.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* However often the kernel takes but a part; `path` names the file in errors. */
enum rc fs_write_all(int fd, const char *path, const void *data, size_t len, struct err *e);
enum rc fs_read(const char *path, size_t size_max, struct buf *out, struct err *e);
enum rc fs_write_durable(const char *path, const void *data, size_t len, struct err *e);
/* Appends one record and fdatasyncs; creates the file (and syncs its folder) when absent. */
enum rc fs_append_durable(const char *path, const void *data, size_t len, struct err *e);
/* fsync(tmp), rename(tmp, path), fsync(folder). The tmp file is removed on failure. */
enum rc fs_commit(const char *tmp, const char *path, struct err *e);
/* The same for a folder of plain files: each is fsynced, then the folder takes its name. Refused
 * when `path` exists, but for an empty folder. The tmp folder is left on failure. */
enum rc fs_commit_dir(const char *tmp, const char *path, struct err *e);
enum rc fs_mkdirs(const char *path, struct err *e);
enum rc fs_sync_dir(const char *path, struct err *e);
enum rc fs_remove_tree(const char *path, struct err *e); /* Absent is fine; never follows links. */
enum rc fs_copy(const char *from, const char *to, struct err *e);
bool fs_exists(const char *path);
int64_t fs_size(const char *path); /* -1 when absent */

/* Names in `path`, sorted by byte; each heap string in a NULL-terminated heap array. */
enum rc fs_list(const char *path, char ***names, size_t *n, struct err *e);
void fs_list_free(char **names);

struct fs_map {
	const uint8_t *data; /* read-only; NULL for an empty file */
	size_t size;
};
enum rc fs_map(const char *path, struct fs_map *m, struct err *e);
/* `size` bytes from `offset`; RC_CORRUPT when the file ends before. */
enum rc fs_map_range(const char *path, int64_t offset, int64_t size, struct fs_map *m, struct err *e);
void fs_unmap(struct fs_map *m);

/* Digest of `size` bytes from `offset`; RC_CORRUPT when the file ends before. */
enum rc fs_sha256_range(int fd, const char *what, int64_t offset, int64_t size,
			char hex[SHA256_HEX_SIZE], struct err *e);
enum rc fs_sha256(const char *path, char hex[SHA256_HEX_SIZE], int64_t *size, struct err *e);

/* Free bytes of the file system that holds `path`; -1 on error. */
int64_t fs_free_bytes(const char *path);
