/* Benchmarks from JSON lines, as they are published: what a row asks, and whether an answer is right.
 *
 *	ARC      {"id","question":{"stem","choices":[{"text","label"}]},"answerKey"}, or as Hugging Face has
 *	         it: {"id","question","choices":{"text":[],"label":[]},"answerKey"}
 *	MMLU     {"question","choices":["","","",""],"answer":0}; a letter as the answer is understood
 *	GSM8K    {"question","answer":"… #### 42"}
 *	MT-Bench {"question_id","category","turns":["",""],"reference":["",""]}: graded by a judge; the
 *	         references, which are published in a file of their own, may be missing
 *	held out {"prompt","response"}: no right or wrong, its likelihood
 */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

#define BENCH_CHOICES_MAX 26
#define BENCH_NUMBER_MAX 64

/* {"kind":"choice","question","choices":[texts],"answer":index}, {"kind":"exact","question","answer":"42"}
 * or {"kind":"likelihood","question","response"}; or {"kind":"chat","turns","reference"?};
 * with "category" where the row has a subject. New
 * reference. RC_INVALID names what is missing. */
enum rc bench_read(const json_t *row, json_t **out, struct err *e);
/* The number an answer ends in: behind "####" where there is one, else the last; without thousands
 * separators, a leading "+", or zeros that say nothing. False: none. */
bool bench_number(const char *text, char out[BENCH_NUMBER_MAX]);
