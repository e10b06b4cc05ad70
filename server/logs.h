/* Attempt logs on the server's disk: DATA/logs/<run>/<job>/<n>.log. Workers append with the offset
 * they believe in, so a repeated or lost append never doubles or drops a byte: a gap or an
 * overlap that does not continue the file is RC_CONFLICT with the true size. Names come from
 * validated ids only.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define LOG_FILE_MAX (4LL << 30) /* per attempt; the rest is refused with RC_FULL */
#define LOG_APPEND_MAX (1u << 20)

/* Whether `job` has the form <run>.<iter>.<stage>.<shard>.<pass> of plain characters; copies the
 * run's id when `run` is not NULL. */
bool job_id_valid(const char *job, char run[16]);
bool run_id_valid(const char *run);

/* Bytes already there before `offset` are skipped; *size is the file's size afterwards. */
enum rc logs_append(const char *data_dir, const char *job, int attempt, int64_t offset,
		    const void *data, size_t len, int64_t *size, struct err *e);
/* Negative offset counts from the end. *from and *size tell what was read. A missing file is empty.
 */
enum rc logs_read(const char *data_dir, const char *job, int attempt, int64_t offset, size_t limit,
		  struct buf *out, int64_t *from, int64_t *size, struct err *e);
int64_t logs_size(const char *data_dir, const char *job, int attempt); /* 0 when absent */
/* The log for reading; the caller closes *fd. RC_NOTFOUND when nothing was written. */
enum rc logs_open(const char *data_dir, const char *job, int attempt, int *fd, int64_t *size,
		  struct err *e);

#define LOG_SCAN_MAX (512LL << 20) /* bytes one search looks through: about a third of a second */

struct logs_search {
	const char *needle; /* plain text, no pattern */
	bool exact;	    /* else A to Z and a to z are one */
	int64_t from, limit; /* byte to begin at, the start of a line; lines at most */
	/* Every line that holds the needle, with its offset, in order; without its newline. */
	void (*see)(void *ctx, int64_t offset, const char *line, size_t len);
	void *ctx;
	int64_t next, size; /* out: where to go on, -1 at the end; bytes of the log */
};
/* A line of over a megabyte is looked at in pieces. A missing log is empty. */
enum rc logs_find(const char *data_dir, const char *job, int attempt, struct logs_search *s,
		  struct err *e);
