#include "base/arena.h"

#include "base/check.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

#define BLOCK_MIN ((size_t)16 << 10)
#define ALIGN 16

struct arena_block {
	struct arena_block *next;
	size_t cap, used;
	size_t pad; /* keeps data 16-byte aligned */
	unsigned char data[];
};

void arena_init(struct arena *a)
{
	*a = (struct arena){0};
}

void arena_release(struct arena *a)
{
	while (a->head) {
		struct arena_block *next = a->head->next;
		UNPOISON(a->head->data, a->head->cap);
		free(a->head);
		a->head = next;
	}
	a->used_bytes = 0;
}

void arena_reset(struct arena *a)
{
	struct arena_block *keep = a->head;

	if (!keep)
		return;
	struct arena rest = {.head = keep->next};
	arena_release(&rest);
	keep->next = NULL;
	keep->used = 0;
	POISON(keep->data, keep->cap);
	a->used_bytes = 0;
}

void *arena_take(struct arena *a, size_t size)
{
	ASSERT(size < SIZE_MAX / 4);
	size_t rounded = (size + ALIGN - 1) / ALIGN * ALIGN;
	if (!rounded)
		rounded = ALIGN;
	struct arena_block *b = a->head;
	if (!b || b->cap - b->used < rounded) {
		size_t cap = b ? b->cap * 2 : BLOCK_MIN;
		if (cap > (size_t)4 << 20)
			cap = (size_t)4 << 20;
		if (cap < rounded)
			cap = rounded;
		b = mem_new(sizeof(*b) + cap);
		b->cap = cap;
		b->next = a->head;
		a->head = b;
		POISON(b->data, b->cap);
	}
	void *p = b->data + b->used;
	b->used += rounded;
	a->used_bytes += rounded;
	UNPOISON(p, rounded);
	memset(p, 0, rounded);
	return p;
}

void *arena_array(struct arena *a, size_t n, size_t size)
{
	ASSERT(!size || n <= SIZE_MAX / 4 / size);
	return arena_take(a, n * size);
}

char *arena_str(struct arena *a, const char *s)
{
	return arena_strn(a, s, strlen(s));
}

char *arena_strn(struct arena *a, const char *s, size_t len)
{
	char *out = arena_take(a, len + 1);

	if (len)
		memcpy(out, s, len);
	return out;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap, again;

	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	ASSERT(n >= 0);
	char *out = arena_take(a, (size_t)n + 1);
	vsnprintf(out, (size_t)n + 1, fmt, again);
	va_end(again);
	va_end(ap);
	return out;
}
