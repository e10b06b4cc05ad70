/* Errors that are somebody else's fault: disk, network, input.
 *
 * Every fallible function returns `enum rc` (RC_OK is 0) and takes `struct err *` last.
 * The deepest level sets code and sentence with err_set(); each level above may put its own
 * context in front with err_wrap(). The sentence names the file or field, what was found and
 * what was expected. Cleanup never overwrites the first error: it uses an err of its own.
 * `struct err *` may be NULL when the caller wants the code alone.
 * Our own bugs are not errors: see base/check.h.
 */
#pragma once

#define RC_LIST(X)                                                                          \
	X(OK, "ok")                                                                         \
	X(IO, "input/output error")                                                         \
	X(NOMEM, "out of memory")                                                           \
	X(INVALID, "invalid input")                                                         \
	X(CORRUPT, "corrupt data")                                                          \
	X(NOTFOUND, "not found")                                                            \
	X(CONFLICT, "conflict")                                                             \
	X(STALE, "stale token")                                                             \
	X(UNREACHABLE, "unreachable")                                                       \
	X(TIMEOUT, "timed out")                                                             \
	X(FULL, "no space or quota left")                                                   \
	X(DENIED, "not allowed")                                                            \
	X(UNSUPPORTED, "unsupported")                                                       \
	X(CANCELLED, "cancelled")                                                           \
	X(CHANGED, "changed meanwhile")

enum rc {
#define X(name, text) RC_##name,
	RC_LIST(X)
#undef X
};

#define ERR_TEXT_MAX 1024

struct err {
	enum rc code;
	char text[ERR_TEXT_MAX]; /* Always terminated; cut with "..." when too long. */
};

/* Sets code and sentence; returns `code`, so that `return err_set(...)` is one line. %m works. */
enum rc err_set(struct err *e, enum rc code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "<context>: " before the sentence; returns the code already in `e`. */
enum rc err_wrap(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Maps errno to a code: ENOSPC/EDQUOT -> RC_FULL, ENOENT -> RC_NOTFOUND, ENOMEM, EACCES, ... */
enum rc err_from_errno(int errnum);

/* Short lower-case name ("not found"); never NULL. */
const char *rc_text(enum rc code);
