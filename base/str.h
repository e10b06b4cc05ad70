/* Counted slices and strict number parsing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str {
	const char *p; /* borrowed, not terminated */
	size_t len;
};

struct str str_of(const char *s);
bool str_eq(struct str a, const char *b);
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
struct str str_trim(struct str s);

/* Whole string must be a number in range; false otherwise, *out untouched. */
bool str_to_i64(const char *s, int64_t *out);
bool str_to_u64(const char *s, uint64_t *out);
bool str_to_f64(const char *s, double *out);

/* snprintf that asserts against truncation when `size` is ours to choose. */
void str_fmt(char *out, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Copies with truncation; always terminated. */
void str_copy(char *out, size_t size, const char *s);

/* Unicode: decodes one code point, returns bytes used (1..4); 0 on malformed UTF-8. */
int utf8_decode(const char *s, size_t len, uint32_t *cp);
int utf8_encode(uint32_t cp, char out[4]);
bool utf8_valid(const char *s, size_t len);
/* Replaces malformed bytes by U+FFFD; result is heap memory (free). */
char *utf8_scrub(const char *s, size_t len);
