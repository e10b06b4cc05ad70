/* Assertions: for our own bugs only, never for input. They stay on in release builds.
 * A failure prints expression, both values and the last log lines, then aborts.
 */
#pragma once

#include <stdint.h>

#define ASSERT(x) ((x) ? (void)0 : check_fail(__FILE__, __LINE__, __func__, #x))
#define ASSERT_EQ(a, b) check_cmp(__FILE__, __LINE__, #a " == " #b, (int64_t)(a), (int64_t)(b), (a) == (b))
#define ASSERT_LE(a, b) check_cmp(__FILE__, __LINE__, #a " <= " #b, (int64_t)(a), (int64_t)(b), (a) <= (b))

void check_fail(const char *file, int line, const char *func, const char *what)
	__attribute__((noreturn, cold));
void check_cmp(const char *file, int line, const char *what, int64_t a, int64_t b, int holds);
