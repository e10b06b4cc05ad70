/* ProTeGi (Pryzant et al. 2023, arXiv 2305.03495; rules as in microsoft/LMOps prompt_optimization): the
 * pure parts of a search for a better judge template. A beam of candidates; each round its errors become
 * criticisms ("gradients") in words, these become edits, these get paraphrases; a bandit decides which of
 * all candidates are worth more evaluations; the best stay.
 *
 * An evaluation is one training prompt whose ranked answers the judge scored through the candidate. A
 * candidate's mean is the share of human-ordered pairs it put in the same order; a tie, or an answer
 * that was not judged, is wrong. Every candidate meets the training prompts in one order, so its n
 * evaluations are the first n: nothing is judged twice, and who is compared met the same prompts.
 *
 * Knows nothing of models, files or the stage. Everything is a function of its arguments and the
 * random stream it is given.
 */
#pragma once

#include "base/buf.h"
#include "base/rng.h"

#include <stdbool.h>
#include <stdint.h>

#define PROTEGI_ARMS_MAX 4096

/* --- bandits ----------------------------------------------------------------------------------- */

struct protegi_arm {
	int64_t n, pairs, right; /* evaluations; pairs in them, and those in the right order */
};

/* right / pairs; 0 where there is none. */
double protegi_mean(const struct protegi_arm *a);
/* mean + c sqrt(ln t / (n + 1e-3)): t counts the steps of a round from 1, n evaluations. */
double protegi_ucb(double mean, int64_t n, int64_t t, double c);
/* The `want` arms with the largest values, largest first (equal ones: the older first), at the first
 * step `want` drawn at random; who has seen all `limit` prompts is not pulled again. Writes their
 * numbers, returns how many. n <= PROTEGI_ARMS_MAX. */
int protegi_ucb_pick(const struct protegi_arm *arms, int n, int64_t limit, int64_t t, double c, int want,
		     struct rng *r, int *out);
/* Successive rejects: evaluations that every arm still in the race has had by the end of round k (from
 * 1; after each the worst leaves), of `arms` of which `keep` stay, with `budget` for all:
 *	n_k = ceil((budget - arms) / (L (arms + 1 - k))),  L = keep/(keep+1) + sum 1/i, i = keep+1 .. arms
 * With keep = 1 that is Audibert et al. 2010. (The original code counts arms - keep for arms, and spends
 * more than its budget.) At least 1. */
int64_t protegi_sr_trials(int arms, int keep, int64_t budget, int k);
/* Numbers of the arms by mean, best first; equal means: more evaluations first, then the older. */
void protegi_rank(const struct protegi_arm *arms, int n, int *out);

/* --- drawing ----------------------------------------------------------------------------------- */

/* `want` of 0..n-1 in rising order, all when there are fewer; returns how many. n <= 2^31. */
int protegi_draw(int n, int want, struct rng *r, int *out);

/* --- words ------------------------------------------------------------------------------------- */

/* A pair the judge ordered wrongly. Scores are NaN where the answer could not be read. */
struct protegi_error {
	const char *prompt, *a, *b; /* borrowed */
	bool a_better;              /* people say */
	double score_a, score_b;
};

/* What the writer is asked; each appends its question. `judge` is the text that is being improved. */
void protegi_ask_reasons(const char *judge, const struct protegi_error *errors, int n_errors, int reasons,
			 struct buf *out);
void protegi_ask_edits(const char *judge, const struct protegi_error *errors, int n_errors,
		       const char *reason, int edits, struct buf *out);
void protegi_ask_variant(const char *judge, struct buf *out);

/* The pieces between <START> and <END>, trimmed, in order, at most `max`; an opening without an end is
 * none, and empty ones are left out. Heap copies in out[], for the caller to free; returns how many. */
int protegi_parse(const char *text, int max, char **out);
/* What a paraphrase is: the first such piece, else the whole answer, trimmed. Heap; NULL: nothing. */
char *protegi_variant(const char *text);
