/* Memory of the CPU back ends: the program's own. */
#include "kernels/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_MIN ((size_t)2 << 20) /* from here on in pages of its own, if possible huge ones */

struct kern_pool *cpu_open(const struct kern_open *o, char *why, size_t size)
{
	(void)why;
	(void)size;
	return kern_pool_new(o->threads);
}

void cpu_describe(struct kern_pool *p, char *out, size_t size)
{
	(void)p;
	snprintf(out, size, "%s", kern_cpu()->name);
}

const char *cpu_fault(struct kern_pool *p)
{
	(void)p;
	return NULL;
}

size_t cpu_room(struct kern_pool *p)
{
	(void)p;
	return 0;
}

void *cpu_alloc(struct kern_pool *pool, size_t bytes)
{
	size_t rounded = bytes == 0 ? 64 : (bytes + 63) / 64 * 64;
	void *p;

	(void)pool;
	if (bytes > SIZE_MAX / 2)
		return NULL;
	if (bytes < HUGE_MIN) {
		p = aligned_alloc(64, rounded);
		return p ? memset(p, 0, rounded) : NULL;
	}
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	(void)madvise(p, bytes, MADV_HUGEPAGE); /* Advice only. */
	return p;
}

void cpu_release(struct kern_pool *pool, void *p, size_t bytes)
{
	(void)pool;
	if (p && bytes >= HUGE_MIN)
		munmap(p, bytes);
	else
		free(p);
}

void cpu_copy(struct kern_pool *pool, void *to, const void *from, size_t bytes)
{
	(void)pool;
	if (to != from && bytes > 0)
		memcpy(to, from, bytes);
}

void cpu_zero(struct kern_pool *pool, void *p, size_t bytes)
{
	(void)pool;
	memset(p, 0, bytes);
}

void cpu_snapped(struct kern_pool *pool)
{
	(void)pool;
}

void cpu_narrow(struct kern_pool *pool, void *act, const float *x, size_t n)
{
	cpu_copy(pool, act, x, n * sizeof *x);
}

void cpu_widen(struct kern_pool *pool, float *x, const void *act, size_t n)
{
	cpu_copy(pool, x, act, n * sizeof *x);
}
