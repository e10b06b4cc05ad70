/* Fewer points of a training curve without losing what a reader looks for: in every stretch the
 * entries that hold the least and the greatest value of any figure stay, so a single spike among a
 * million steps is still drawn. Pure. */
#pragma once

#include <jansson.h>
#include <stdint.h>

/* Figures under this name rise from step to step: they have no spikes to keep. */
#define THIN_TOTAL "total/"

/* `all`: array of {"step", figure: number, ...}, rising by step. The same entries in the same order,
 * the first and the last among them, at most about `max` (never fewer than one per figure and
 * end of a stretch). New reference; `all` itself when it is short enough. */
json_t *thin(json_t *all, int64_t max);
