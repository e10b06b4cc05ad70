#include "base/mem.h"

#include "base/check.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_MIN ((size_t)2 << 20)

static void *need(void *p, size_t size)
{
	if (!p) {
		fprintf(stderr, "out of memory: %zu bytes refused\n", size);
		abort();
	}
	return p;
}

void *mem_new(size_t size)
{
	return need(calloc(1, size ? size : 1), size);
}

void *mem_array(size_t n, size_t size)
{
	ASSERT(!size || n <= SIZE_MAX / 2 / size);
	return mem_new(n * size);
}

void *mem_grow(void *p, size_t n, size_t size)
{
	ASSERT(!size || n <= SIZE_MAX / 2 / size);
	size_t total = n * size;
	return need(realloc(p, total ? total : 1), total);
}

char *mem_str(const char *s)
{
	return mem_strn(s, strlen(s));
}

char *mem_strn(const char *s, size_t len)
{
	char *out = need(malloc(len + 1), len + 1);

	if (len)
		memcpy(out, s, len);
	out[len] = 0;
	return out;
}

char *mem_printf(const char *fmt, ...)
{
	char *out = NULL;
	va_list ap;

	va_start(ap, fmt);
	int n = vasprintf(&out, fmt, ap);
	va_end(ap);
	return need(n < 0 ? NULL : out, 0);
}

/* First number behind `key` in a file of numbers; -1 when there is none ("max" has none). */
static long long number_in(const char *path, const char *key)
{
	char text[4096];
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

	if (f)
		fclose(f);
	text[n] = 0;
	const char *at = strstr(text, key);
	char *end;
	if (!n || !at)
		return -1;
	at += strlen(key);
	long long v = strtoll(at, &end, 10);
	return end == at ? -1 : v;
}

size_t mem_available(void)
{
	long long kib = number_in("/proc/meminfo", "MemAvailable:");
	long long max = number_in("/sys/fs/cgroup/memory.max", "");
	long long used = number_in("/sys/fs/cgroup/memory.current", "");
	long long best = kib < 0 ? -1 : kib * 1024;

	if (max >= 0 && used >= 0 && (best < 0 || max - used < best))
		best = max > used ? max - used : 0;
	return best < 0 ? 0 : (size_t)best;
}

void *mem_try(size_t size)
{
	if (size > SIZE_MAX / 2)
		return NULL;
	if (size < HUGE_MIN) {
		size_t rounded = (size + 63) / 64 * 64;
		if (!rounded)
			rounded = 64;
		void *p = aligned_alloc(64, rounded);
		if (p)
			memset(p, 0, rounded);
		return p;
	}
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	(void)madvise(p, size, MADV_HUGEPAGE); /* Advice only. */
	return p;
}

void mem_try_free(void *p, size_t size)
{
	if (!p)
		return;
	if (size < HUGE_MIN)
		free(p);
	else
		munmap(p, size);
}
