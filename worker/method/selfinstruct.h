/* New prompts from old ones (Wang et al. 2022, Self-Instruct): the request shown to the generator,
 * the splitting of its answer, and the filters in their order. Acceptance is sequential: every
 * accepted prompt joins the pool that the next is compared with, so order is part of the result.
 *
 * Two departures from the original, on purpose: only the first letter is put in upper case
 * (`capitalize` restores Python's str.capitalize(), which also lowers "NASA"), and a prompt equal
 * to a known one but for case and spacing is a duplicate even when ROUGE sees no words in it.
 */
#pragma once

#include "base/buf.h"
#include "worker/method/rouge.h"

#include <stdbool.h>
#include <stdint.h>

#define SI_SHOTS_MAX 32
#define SI_ITEMS_MAX 64 /* instructions taken from one answer */

#define SI_REASONS(X)                                                                       \
	X(OK, "accepted")                                                                   \
	X(UNFINISHED, "unfinished") /* the whole answer: cut off by its length */           \
	X(EMPTY, "empty")                                                                   \
	X(TOO_SHORT, "too_short")                                                           \
	X(TOO_LONG, "too_long")                                                             \
	X(KEYWORD, "keyword")         /* image, graph, file, map, ... */                    \
	X(PROGRAM, "write_a_program")                                                       \
	X(PUNCTUATION, "punctuation") /* starts with ASCII punctuation */                   \
	X(NON_ASCII, "non_ascii")     /* starts with another script */                      \
	X(DUPLICATE, "duplicate")                                                           \
	X(SIMILAR, "similar")         /* ROUGE-L F above the limit */

enum si_reason {
#define X(name, text) SI_##name,
	SI_REASONS(X)
#undef X
	SI_N_REASONS
};

const char *si_reason_text(enum si_reason r);

struct si_rules {
	int min_words, max_words; /* 4 and 150 */
	double rouge_max;         /* 0.7; dropped when strictly above */
	bool capitalize;          /* as Python does it */
	bool any_script;          /* rule NON_ASCII off, ROUGE by Unicode */
};

extern const struct si_rules si_rules_default;

/* Appends "Come up with a series of tasks:\n1. ...\n" and the next number with its point. */
void si_request(const char *const *shots, int n, struct buf *out);
/* Where the original's stop words ("\n\n", "\n16", "16.", "16 .") cut this answer: the length to
 * keep, len when none occurs. */
size_t si_cut(const char *text, size_t len);
/* Splits an answer at "\n<number>. "; heap strings (raw), at most SI_ITEMS_MAX. */
int si_split(const char *text, size_t len, char **items);
/* Heap string: white space squeezed, first letter in upper case. */
char *si_clean(const struct si_rules *r, const char *raw);
/* The filters that need no pool, on a cleaned instruction. */
enum si_reason si_check(const struct si_rules *r, const char *instruction);

struct si_pool; /* everything accepted so far, and the seeds */

struct si_pool *si_pool_new(const struct si_rules *r);
void si_pool_free(struct si_pool *p);
void si_pool_seed(struct si_pool *p, const char *text);
/* All filters on a cleaned instruction; when SI_OK it has joined the pool. *similarity gets the
 * highest F seen (0 when an earlier filter decided); may be NULL. */
enum si_reason si_pool_try(struct si_pool *p, const char *instruction, double *similarity);
/* Comparisons by ROUGE-L asked for since the pool is there, and those that had to be computed: the two upper
 * bounds (lengths, words in common) settled the rest. */
void si_pool_stats(const struct si_pool *p, int64_t *run, int64_t *asked);
