/* ROUGE-L (longest common subsequence of words), bit for bit as google-research's rouge_score
 * without stemmer computes it: P = L/m, R = L/n, F = 2PR/(P+R) in double, in that order. So 7
 * common words of 8 and 12 give 0.7000000000000001, which is above a limit of 0.7.
 *
 * A pool holds many texts and finds the one most like a new text. Two upper bounds spare most of
 * the work and never change the answer: L <= min(m, n), and L <= words in common as multisets.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rouge_mode {
	ROUGE_ASCII,  /* the original: [a-z0-9]+; Chinese or Russian text has no words at all */
	ROUGE_UNICODE /* letters and digits of any script; unspaced scripts by character */
};

double rouge_f(int lcs, int len_a, int len_b); /* 0 when either side is empty */

struct rouge_pair {
	int lcs, len_a, len_b;
	double f;
};
struct rouge_pair rouge_compare(enum rouge_mode mode, const char *a, const char *b);

struct rouge_pool;

struct rouge_pool *rouge_pool_new(enum rouge_mode mode);
void rouge_pool_free(struct rouge_pool *p);
void rouge_pool_add(struct rouge_pool *p, const char *text);
int rouge_pool_size(const struct rouge_pool *p);
/* Highest F of `text` against the pool, and which (the first such; -1 when all are 0). */
double rouge_pool_max(struct rouge_pool *p, const char *text, int *which);
/* Comparisons that had to run the subsequence, out of all asked for: what the bounds spared. */
void rouge_pool_stats(const struct rouge_pool *p, int64_t *run, int64_t *asked);
