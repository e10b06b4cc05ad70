/* Heap for small things: out of memory ends the process (crash-only: leases resume the work).
 * Large blocks (weights, caches) use mem_try(), which can be refused with numbers.
 */
#pragma once

#include <stddef.h>

void *mem_new(size_t size);                       /* Zeroed. */
void *mem_array(size_t n, size_t size);           /* Zeroed, overflow checked. */
void *mem_grow(void *p, size_t n, size_t size);   /* realloc, overflow checked. */
char *mem_str(const char *s);
char *mem_strn(const char *s, size_t len);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* 64-byte aligned, zeroed, huge pages advised from 2 MiB on; NULL when refused. mem_try_free(). */
void *mem_try(size_t size);
/* Bytes this process may still take before the machine (or its control group) runs short: what the
 * system calls available. 0 when it does not say. */
size_t mem_available(void);
void mem_try_free(void *p, size_t size);
