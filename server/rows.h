/* The rows of a dataset artifact: lines of its verified data.jsonl, mapped where they lie in the
 * archive, with one small summary per row so that filters and sorting read no JSON. A few recently
 * used datasets stay open. Knows the row shapes of every stage; may not know HTTP.
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

/* Why a row stands out; names in rows_flag_text. */
enum row_flag {
	ROW_TIE,
	ROW_UNJUDGED,
	ROW_DUPLICATE,
	ROW_UNFINISHED,
	ROW_EMPTY,
	ROW_TOO_LONG,
	ROW_TOO_FEW,
	ROW_PARSE_FAIL,
	ROW_TRUNCATED,
	ROW_WRONG,
	ROW_CHOSEN,
	ROW_DROPPED,
	ROW_REFUSAL, /* one of its answers declines; see refusal.h */
	ROW_FLAGS
};

struct row {
	int64_t offset;	     /* in the mapped member */
	int32_t len;	     /* without the line feed */
	int32_t length;	     /* tokens (or bytes of text); -1 unknown */
	float score, margin; /* NAN when the row has none */
	uint32_t flags;	     /* bit per row_flag */
	uint64_t pair;	     /* pair_key_number of the pair it holds; 0 none */
};

struct row_point {
	float length, score; /* one judged text; length -1 unknown */
};

struct row_pair {
	uint64_t pair;
	uint32_t row;
};

struct rows {
	char digest[65];
	const char *data; /* borrowed from the mapping */
	json_t *meta;	  /* owned */
	struct row *row;  /* owned */
	size_t n, n_pairs;
	struct row_pair *pair; /* owned; sorted */
	struct row_point *point; /* owned */
	size_t n_points;
	int refs;
	struct rows_map *map;
};

struct rows_filter {
	const char *q;					     /* NULL or case-insensitive text */
	double min_score, max_score, min_margin, max_margin; /* NAN = no bound */
	double min_length, max_length;			     /* the same; of row.length */
	uint32_t flags;					     /* any of these; 0 = no matter */
	char sort;					     /* 0, 's'core, 'm'argin, 'l'ength */
	bool descending;
};

/* RC_INVALID when the artifact is no dataset. Release with rows_release. */
enum rc rows_open(struct store *s, const char *digest, struct rows **out, struct err *e);
void rows_release(struct rows *r);
/* Numbers of the rows that pass, in order; heap. */
uint32_t *rows_select(const struct rows *r, const struct rows_filter *f, size_t *n);
const char *rows_flag_text(enum row_flag f);
bool rows_flag_of(const char *text, uint32_t *mask);
/* Number of the row that holds the pair of this number; -1 none. */
int64_t rows_pair(const struct rows *r, uint64_t pair);
/* The row as JSON without its token ids; NULL when the line is no JSON. */
json_t *rows_json(const struct rows *r, uint32_t i);
/* Histogram, points, counters: GET /datasets/{digest}/stats. */
json_t *rows_stats(const struct rows *r);
