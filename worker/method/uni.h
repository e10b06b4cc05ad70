/* The little Unicode that the rules need: classes and simple lower case, from ranges, without
 * locale. Not a full Unicode database: scripts that are not listed count as letters.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool uni_is_space(uint32_t cp); /* what Python's str.split() splits at */
bool uni_is_word(uint32_t cp);  /* letter or digit; "_" is none */
bool uni_is_single(uint32_t cp); /* scripts written without spaces: every sign is a word */
uint32_t uni_lower(uint32_t cp);
/* Decodes one sign; a malformed byte is one U+FFFD. len > 0. Returns the bytes used. */
int uni_next(const char *s, size_t len, uint32_t *cp);
/* Heap copy with every run of white space as one blank, trimmed. */
char *uni_squeeze(const char *s, size_t len);
