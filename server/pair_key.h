/* The name of a preference pair by what it says, so that an opinion of it holds wherever it stands: in
 * `pairs`, in `samples`, in a dataset made again.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define PAIR_KEY_SIZE 33 /* 32 hexadecimal digits: no digest of an artifact */

/* Prompt, chosen and rejected answer of a row of `pairs` or `samples`, borrowed; false when it holds no
 * pair. */
bool pair_texts(const json_t *row, const char *texts[3]);
/* The key; false likewise. */
bool pair_key(const json_t *row, char out[PAIR_KEY_SIZE]);
/* Its first 64 bits, to look rows up by. */
uint64_t pair_key_number(const char *key);
/* Two answers are shown, and raters compared, in an order that says nothing of the judge: by a bit of the
 * key. True when the chosen answer is the first of the two. */
bool pair_key_chosen_first(const char *key);
