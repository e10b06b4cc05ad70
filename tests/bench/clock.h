/* A bench's clock and its memory. One thread counts its own time, which others on the machine do
 * not stretch; several count the wall's.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define BENCH_HUGE_PAGE (2u << 20)

static clockid_t clock_id = CLOCK_MONOTONIC;

static inline void clock_of_threads(int threads)
{
	if (threads == 1)
		clock_id = CLOCK_THREAD_CPUTIME_ID;
}

static inline double now_s(void)
{
	struct timespec t;

	clock_gettime(clock_id, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Zeros on huge pages where there are any; ends the process when there is no room. */
static inline void *memory(size_t size)
{
	size_t rounded = (size + BENCH_HUGE_PAGE) / BENCH_HUGE_PAGE * BENCH_HUGE_PAGE;
	void *p = aligned_alloc(BENCH_HUGE_PAGE, rounded);

	if (!p) {
		fprintf(stderr, "bench: no memory for %zu bytes\n", size);
		exit(1);
	}
	madvise(p, rounded, MADV_HUGEPAGE);
	memset(p, 0, rounded);
	return p;
}
