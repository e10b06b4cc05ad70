/* Unit tests: `void test_<module>__<what_it_shows>(void)`, found by collect.sh, each run in a
 * process of its own with a time-out and a fresh folder. A failed check prints both values and
 * ends the test.
 */
#pragma once

#include <stddef.h>

struct test_entry {
	const char *name;
	void (*run)(void);
};
extern const struct test_entry test_entries[];

#define CHECK(x) ((x) ? (void)0 : test_fail(__FILE__, __LINE__, #x))
#define CHECK_EQ(a, b) test_eq(__FILE__, __LINE__, #a, #b, (long long)(a), (long long)(b))
#define CHECK_STR(a, b) test_str(__FILE__, __LINE__, #a, (a), (b))
#define CHECK_NEAR(a, b, tol) test_near(__FILE__, __LINE__, #a, (a), (b), (tol))
/* expr is an enum rc; `e` must be the struct err in scope, printed on surprise. */
#define CHECK_RC(expr, want) test_rc(__FILE__, __LINE__, #expr, (int)(expr), (int)(want), e.text)
#define SKIP(why) test_skip(why)

/* Under a sanitizer everything takes many times as long: of cases that run the same code with other
 * numbers only every n-th is run there. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_STRIDE(n) (n)
#else
#define TEST_STRIDE(n) 1
#endif

void test_fail(const char *file, int line, const char *what) __attribute__((noreturn));
void test_eq(const char *file, int line, const char *a, const char *b, long long va, long long vb);
void test_str(const char *file, int line, const char *what, const char *got, const char *want);
void test_near(const char *file, int line, const char *what, double got, double want, double tol);
void test_rc(const char *file, int line, const char *what, int got, int want, const char *text);
void test_skip(const char *why) __attribute__((noreturn));
/* A fresh empty folder, removed after the test. */
const char *test_tmpdir(void);
/* Path of a file in the shared data folder; skips the test when it is absent. Static storage. */
const char *test_data(const char *relative);
