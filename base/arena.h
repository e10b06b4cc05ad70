/* Bump allocator for one lifetime (a request, a step). Memory is zeroed; freed all at once.
 * Poisoned under AddressSanitizer after reset.
 */
#pragma once

#include <stddef.h>

struct arena {
	struct arena_block *head; /* owned */
	size_t used_bytes;
};

void arena_init(struct arena *a);
void arena_release(struct arena *a);
void arena_reset(struct arena *a); /* Keeps one block. */
void *arena_take(struct arena *a, size_t size); /* 16-byte aligned */
void *arena_array(struct arena *a, size_t n, size_t size);
char *arena_str(struct arena *a, const char *s);
char *arena_strn(struct arena *a, const char *s, size_t len);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
