/* Folders copied whole: plain files and folders, with their modes; links, sockets and what is only
 * half written (".part", ".tmp.") are left out, and so is what vanishes meanwhile. Every file is
 * durable. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct tree_sum {
	int64_t files, bytes;
};

/* `link`: share the bytes of files that are never changed in place (the same file system only). An
 * absent `from` is nothing. Adds to *sum. */
enum rc tree_copy(const char *from, const char *to, bool link, struct tree_sum *sum, struct err *e);
/* Calls `see` for every plain file below `root`, in the order of their names. */
enum rc tree_each(const char *root, enum rc (*see)(void *ctx, const char *path, struct err *e),
		  void *ctx, struct err *e);
