/* Which lines of a log are told: from a time on, and with a text in them. A line without a time goes with the
 * one before it. Pure but for the clock; knows no server.
 */
#pragma once

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct log_filter {
	int64_t since_ms; /* 0: all */
	const char *text; /* NULL: all; borrowed */
	FILE *out;	  /* borrowed */
	bool prefixed;	  /* lines begin with a word that says where they are from */
	bool late;	  /* the last line with a time was late enough */
	struct buf line;  /* owned; what has no end yet */
};

/* "10m", "2h", "30s", "1d" ago, or a time such as 2026-11-21T10:00:00.000Z (its end may be left out); false
 * for anything else. */
bool log_since(const char *text, int64_t *ms);
/* Bytes as they come, cut anywhere; non-zero when they cannot be written. ctx: the filter. */
int log_filter_take(void *ctx, const void *data, size_t len);
/* The last line when it has no end; releases. */
void log_filter_end(struct log_filter *f);
