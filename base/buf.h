/* Growable bytes. Invariant: data[len] == 0 whenever data is not NULL. */
#pragma once

#include <stddef.h>

struct buf {
	char *data; /* owned */
	size_t len, cap;
};

#define BUF_INIT {0}

void buf_release(struct buf *b);
void buf_clear(struct buf *b); /* len = 0, memory kept */
void buf_reserve(struct buf *b, size_t extra);
void buf_append(struct buf *b, const void *data, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Hands the memory to the caller (free()); never NULL. */
char *buf_detach(struct buf *b);
