/* The logs of a run's attempts as one, by time, read from the end: what is asked for is found by searching
 * each file for a time, so a gigabyte opens as fast as a kilobyte.
 *
 * Lines are in the order of (time, job, attempt, byte). A line begins with its time as base/log.c writes it;
 * one that does not has the time of the line before it. Files only grow, and each file's times are taken to
 * rise: where a clock was set back, a line may be missed or come twice where two pages meet.
 */
#pragma once

#include "base/err.h"
#include "queue/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RUN_LOG_LINE_MAX 16384       /* longer lines come in pieces that begin at multiples of it */
#define RUN_LOG_SCAN_MAX (128LL << 20) /* bytes one search looks through */

/* A line's place in the order. */
struct run_log_place {
	int64_t ms; /* of its time; 0 before the first time of a file */
	char job[JOB_ID_MAX];
	int attempt;
	int64_t offset;
};

struct run_log_query {
	const char *data_dir, *run;
	const char *job, *stage;	     /* only these; NULL for all */
	const char *needle;		     /* only lines with this text; NULL for all */
	bool exact;			     /* else A to Z and a to z are one */
	size_t bytes;			     /* of text at most, but one line at least */
	const struct run_log_place *before;  /* only lines before this one; NULL: from the end */
	/* Every line, the latest first; text without its newline. */
	void (*see)(void *ctx, const struct run_log_place *at, const char *text, size_t len);
	void *ctx;
};

struct run_log_sum {
	bool more;		     /* there are lines before `next` */
	struct run_log_place next;   /* the earliest line looked at */
	int sources;		     /* logs that were merged */
	int64_t bytes;		     /* of all of them */
};

/* A run without logs gives none. */
enum rc run_log(const struct run_log_query *q, struct run_log_sum *sum, struct err *e);
/* All of it as text, the earliest line first: "<job without its run>#<attempt> <line>\n", to put() until that
 * says false. before, bytes and see do not matter. Logs are read as far as they go when it begins; a few
 * megabytes of memory, however many there are: at most RUN_LOG_OPEN_MAX are read side by side, and where more
 * went on at one time, the others' lines come later. */
#define RUN_LOG_OPEN_MAX 256
enum rc run_log_write(const struct run_log_query *q, bool (*put)(void *ctx, const char *data, size_t len),
		      void *ctx, struct err *e);
/* "<ms>:<offset>:<attempt>:<job>" and back; false for anything else. */
#define RUN_LOG_CURSOR_MAX 192
void run_log_cursor(const struct run_log_place *p, char out[RUN_LOG_CURSOR_MAX]);
bool run_log_cursor_parse(const char *text, struct run_log_place *p);
