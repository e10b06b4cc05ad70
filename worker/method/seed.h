/* Seed data from outside, row by row, into the rows that the stages share. Pure: a row of JSON
 * goes in, rows come out; who reads the files adds file and line to an error.
 *
 * What each role takes, and what comes out of it ("ranked" has "replies"):
 *   ift      pairs, Open Assistant trees, ranked rows, chat  -> {"id","prompt","response","source"}
 *   eft      trees, ranked and scored rows, judge rows       -> ranked and judge rows
 *   eval     trees, ranked and scored rows                   -> {"id","prompt","replies":[...]}
 *   prompts, test   anything with a prompt                   -> {"id","prompt","meta"}
 * A judge row is {"id","prompt","response","score"}: the whole judge prompt, and its answer.
 *
 * Open Assistant rules: tree ready for export, messages not deleted and in the wanted language. An
 * instruction pair is the first turn with the reply of rank 0. A ranked row is any turn with two
 * ranked replies or more; below the first turn its prompt is the conversation so far, and
 * "thread" its first message, so that a conversation is never split between sets.
 * Fields that are missing, of another type or too long are errors; rows that the rules leave out
 * are counted by reason.
 */
#pragma once

#include "base/err.h"
#include "worker/method/judge_template.h"

#include <jansson.h>
#include <stdint.h>

#define SEED_TEXT_MAX (1u << 20)
#define SEED_REPLIES_MAX 256

enum seed_role { SEED_IFT, SEED_EFT, SEED_EVAL, SEED_PROMPTS, SEED_TEST, SEED_N_ROLES };
enum seed_format {
	SEED_AUTO,
	SEED_OASST,
	SEED_PAIRS,
	SEED_RANKED,
	SEED_SCORED,
	SEED_JUDGE,
	SEED_CHAT,
	SEED_PROMPT,
	SEED_N_FORMATS
};

#define SEED_SKIPS(X)                                                                       \
	X(STATE, "not_ready")     /* tree not ready for export */                           \
	X(DELETED, "deleted")                                                               \
	X(LANG, "language")                                                                 \
	X(UNRANKED, "unranked")   /* no reply of rank 0, or fewer than two ranked */        \
	X(EMPTY, "empty")                                                                   \
	X(UNSCORED, "unscored")   /* judge row without a readable score */                  \
	X(MISMATCH, "mismatch")   /* judge row whose score and text disagree */             \
	X(REPEATED, "repeated")                                                             \
	X(OVERLAP, "overlap")     /* the prompt belongs to another split */                 \
	X(SURPLUS, "surplus")     /* above the wanted number */

enum seed_skip {
#define X(name, text) SEED_SKIP_##name,
	SEED_SKIPS(X)
#undef X
	SEED_N_SKIPS
};

const char *seed_role_name(enum seed_role r);   /* "ift", ... */
const char *seed_skip_text(enum seed_skip s);
/* SEED_N_FORMATS when unknown. "auto","oasst","pairs","ranked","scored","judge","chat","prompts" */
enum seed_format seed_format_of(const char *name);

struct seed {
	enum seed_role role;
	const char *lang;                  /* borrowed; "" takes all */
	const struct judge_template *tmpl; /* borrowed; reads the scores of judge rows */
	json_t *rows;                      /* owned array */
	json_t *groups;                    /* owned; scored rows so far: prompt id -> ranked row */
	int64_t read, skipped[SEED_N_SKIPS];
};

void seed_open(struct seed *s, enum seed_role role, const char *lang,
	       const struct judge_template *tmpl);
void seed_release(struct seed *s);
/* One row of a file of `format`; SEED_AUTO looks at its fields. */
enum rc seed_take(struct seed *s, enum seed_format format, const json_t *row, struct err *e);
/* After the last row: scores of scored rows become ranks (higher is better, equal ones share). */
void seed_finish(struct seed *s);

/* --- splits (worker/method/split.c) ---------------------------------------------------------- */

/* Gives every row an id that is unique in its list (its own, else one made from its text), drops
 * repetitions, and makes the lists disjoint by prompt: test keeps all, then eval; a prompt wanted
 * by both ift and eft goes to one of them by a coin that its text and the seed decide; prompts
 * gives way to test and eval. At last ift is cut to ift_max (0: no bound) by a seeded choice, in
 * file order. `lists` has one entry per role; rows may be NULL. */
void seed_split(struct seed lists[SEED_N_ROLES], uint64_t seed, int64_t ift_max);
/* Marks a share of the ranked rows as held out, by prompt: true where `eval`. */
void seed_hold_out(const json_t *rows, uint64_t seed, double share, bool *eval);
/* 64 bits of the SHA-256 of a text squeezed and in lower case: what "same prompt" means. */
uint64_t seed_key(const char *text);
/* The same of a row: a conversation is its first message ("thread"). */
uint64_t seed_row_key(const json_t *row);
