/* Time. Tests may replace both sources. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define CLK_TEXT_MAX 32

int64_t clk_now_ms(void);  /* Wall clock, Unix epoch. */
int64_t clk_mono_ms(void); /* CLOCK_BOOTTIME: counts suspension, never steps. */
double clk_mono_s(void);
/* RFC 3339 UTC with milliseconds, "2026-11-21T02:36:00.123Z". */
void clk_text(int64_t ms, char out[CLK_TEXT_MAX]);
/* The other way, of exactly that form; `text` has at least `len` bytes. False for anything else. */
bool clk_parse(const char *text, size_t len, int64_t *ms);
void clk_sleep_ms(int64_t ms);
/* A condition, and a moment so far from now until which pthread_cond_timedwait() may wait for it. Both are of
 * CLOCK_MONOTONIC: the end of a wait by the wall clock moves when somebody sets that, an hour away. */
void clk_cond_init(pthread_cond_t *c);
struct timespec clk_after(int64_t ms);
struct timespec clk_after_us(int64_t us);
/* NULL restores the real clock. */
void clk_replace(int64_t (*now_ms)(void), int64_t (*mono_ms)(void));
