/* The demo world: packing lists, where the truth can be computed.
 *
 * A person names a place and five of 64 things; a good answer lists exactly those five. The human
 * demonstrations are careless: each thing is forgotten with probability 0.28, and now and then
 * something nobody asked for slips in. So a model that imitates people is mediocre, and a judge
 * that can check a list against a request knows better than the people did: there is room for
 * self-reward to climb.
 *
 * The truth (world_judge) is for reporting alone: no stage of the loop sees it. Everything is a
 * pure function of the seed. Knows nothing of files, models or servers.
 */
#pragma once

#include "base/buf.h"
#include "base/rng.h"

#include <stdbool.h>
#include <stdint.h>

#define WORLD_THINGS 64
#define WORLD_PLACES 12
#define WORLD_ASKED 5
#define WORLD_LISTED_MAX 16 /* Entries of an answer beyond this are ignored. */

struct world_request {
	uint32_t place;
	uint32_t asked[WORLD_ASKED]; /* distinct, in the order of the sentence */
	uint32_t phrasing;
};

struct world_answer {
	uint32_t n;
	int32_t listed[WORLD_LISTED_MAX]; /* thing, or -1 for a word that is no thing */
};

struct world_truth {
	int present; /* distinct things asked for and listed, 0..5 */
	int extra;   /* entries nobody asked for, and repetitions */
	int score;   /* max(0, present - extra) */
	bool right;  /* all five and nothing else */
};

/* Which part of the data a request is for; no two parts share a request. */
enum world_part { WORLD_IFT, WORLD_EFT, WORLD_EVAL, WORLD_POOL, WORLD_TEST, WORLD_PARTS };

extern const char *const world_things[WORLD_THINGS];
extern const char *const world_places[WORLD_PLACES];

/* The index-th request of a part. The set of things, taken as a set, belongs to that part alone. */
void world_request(uint64_t seed, enum world_part part, uint32_t index, struct world_request *q);
/* What a person answers: each thing forgotten with probability `forget`, `extras` others added. */
void world_demonstrate(const struct world_request *q, struct rng *r, double forget, int extras,
		       struct world_answer *a);
/* The number of extras a careless person adds. */
int world_careless_extras(struct rng *r);

void world_prompt_text(const struct world_request *q, struct buf *out);
void world_answer_text(const struct world_request *q, const struct world_answer *a, struct buf *out);
/* "tent yes, rope no, ... Extra: kite. Score: 3" */
void world_verdict_text(const struct world_request *q, const struct world_answer *a, struct buf *out);

/* Reads a prompt or an answer back from text. A prompt must name exactly five things. */
bool world_read_request(const char *prompt, struct world_request *q);
void world_read_answer(const char *text, struct world_answer *a);
struct world_truth world_judge(const struct world_request *q, const struct world_answer *a);

/* The judge template of this world: text with {prompt} and {response}. */
extern const char world_judge_template[];
/* Calls `each` with every word that can occur, cut as the tokenizer's pre-tokeniser cuts them
 * (a leading blank belongs to the word). */
void world_words(void (*each)(void *ctx, const char *word), void *ctx);
