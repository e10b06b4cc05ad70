#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void mark_cut(struct err *e, int n)
{
	if (n >= ERR_TEXT_MAX)
		memcpy(e->text + ERR_TEXT_MAX - 4, "...", 4);
}

enum rc err_set(struct err *e, enum rc code, const char *fmt, ...)
{
	int errnum = errno;
	char text[ERR_TEXT_MAX]; /* An argument may be e->text itself. */
	va_list ap;

	if (!e)
		return code;
	va_start(ap, fmt);
	errno = errnum;
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	memcpy(e->text, text, sizeof(text));
	e->code = code;
	mark_cut(e, n);
	return code;
}

enum rc err_wrap(struct err *e, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX], old[ERR_TEXT_MAX];
	va_list ap;

	if (!e)
		return RC_IO; /* The caller asked for no details; any non-zero code is right. */
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	memcpy(old, e->text, sizeof(old));
	old[ERR_TEXT_MAX - 1] = 0;
	size_t n = strlen(text);
	size_t m = strlen(old);
	if (n + 2 + m >= ERR_TEXT_MAX) {
		/* The deepest sentence matters most; cut its end only. */
		if (n > ERR_TEXT_MAX / 2)
			n = ERR_TEXT_MAX / 2;
		m = ERR_TEXT_MAX - 1 - n - 2;
		memcpy(old + m - 3, "...", 4);
	}
	memcpy(e->text, text, n);
	memcpy(e->text + n, ": ", 2);
	memcpy(e->text + n + 2, old, m + 1);
	return e->code;
}

enum rc err_from_errno(int errnum)
{
	static const struct {
		int errnum;
		enum rc code;
	} map[] = {
		{0, RC_OK},
		{ENOENT, RC_NOTFOUND},
		{ENOTDIR, RC_NOTFOUND},
		{ENOMEM, RC_NOMEM},
		{ENOSPC, RC_FULL},
		{EDQUOT, RC_FULL},
		{EFBIG, RC_FULL},
		{EACCES, RC_DENIED},
		{EPERM, RC_DENIED},
		{EROFS, RC_DENIED},
		{EEXIST, RC_CONFLICT},
		{EBUSY, RC_CONFLICT},
		{ETIMEDOUT, RC_TIMEOUT},
		{ECONNREFUSED, RC_UNREACHABLE},
		{ECONNRESET, RC_UNREACHABLE},
		{EHOSTUNREACH, RC_UNREACHABLE},
		{ENETUNREACH, RC_UNREACHABLE},
		{EINVAL, RC_INVALID},
		{ENAMETOOLONG, RC_INVALID},
		{ELOOP, RC_INVALID},
		{ENOSYS, RC_UNSUPPORTED},
		{EOPNOTSUPP, RC_UNSUPPORTED},
		{ECANCELED, RC_CANCELLED},
	};

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (map[i].errnum == errnum)
			return map[i].code;
	return RC_IO;
}

const char *rc_text(enum rc code)
{
	static const char *const names[] = {
#define X(name, text) text,
		RC_LIST(X)
#undef X
	};

	if ((unsigned)code >= sizeof(names) / sizeof(names[0]))
		return "unknown error";
	return names[code];
}
