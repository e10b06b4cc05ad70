/* Judging by comparison: the answers to one prompt meet each other. Private to judging.c.
 */
#pragma once

#include "base/err.h"

struct judging;
struct judging_item;

/* Items of one prompt lie side by side, in any order of candidate and pass; every pass is a contest of
 * its own. An answer whose comparisons are all unreadable has no score. Uses the asker of `j`. */
enum rc judging_contest(struct judging *j, struct judging_item *items, int n, struct err *e);
