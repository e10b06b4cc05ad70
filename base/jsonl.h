/* JSON lines, plain or gzip (by magic), read one bounded line at a time.
 * Errors name file and line: "data.jsonl:17: ...". Needs zlib.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

#define JSONL_LINE_MAX (64u << 20)

struct jsonl;

enum rc jsonl_open(const char *path, struct jsonl **out, struct err *e);
void jsonl_close(struct jsonl *r);
/* *out = new reference, or NULL at the end. Blank lines are skipped. */
enum rc jsonl_next(struct jsonl *r, json_t **out, struct err *e);
int64_t jsonl_line(const struct jsonl *r); /* number of the line last returned, from 1 */
