/* Answers of reads that many ask for (lists, runs, jobs), kept in memory while nothing changes: an
 * answer is good for ANSWER_MS at most, and only until this server hears of an event or handles a
 * request that may change something. So whoever writes here reads what was written, another server's
 * writes are seen as soon as their event arrives, and a hundred pages that poll cost one look at Redis.
 * Only answers that are the same for every role may be kept (ROUTE_SHARED).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct req;

#define ANSWER_MS 1000

/* Sends the kept answer to this request; false when there is none. Otherwise the request is marked so
 * that reply.c offers its answer to answers_keep. */
bool answers_send(struct req *r);
/* A 200 of a marked request: its headers so far, ETag, text and, when it was gzipped,
 * that too. */
void answers_keep(struct req *r, const char *etag, const void *text, size_t text_len,
		  const void *gz, size_t gz_len);
