/* The file a command writes with -o. */
#include "cli/cli.h"

#include "base/fs.h"
#include "base/str.h"

#include <errno.h>
#include <unistd.h>

enum rc target_open(struct target *t, const char *path, struct err *e)
{
	t->path = path;
	t->out = stdout;
	if (!path)
		return RC_OK;
	str_fmt(t->part, sizeof(t->part), "%.4000s.part", path);
	t->out = fopen(t->part, "we");
	return t->out ? RC_OK : err_set(e, err_from_errno(errno), "create %s: %m", t->part);
}

enum rc target_close(struct target *t, enum rc rc, struct err *e)
{
	if (!rc && (fflush(t->out) || ferror(t->out)))
		rc = err_set(e, err_from_errno(errno), "write: %m");
	if (!t->path || !t->out)
		return rc;
	fclose(t->out);
	if (!rc)
		return fs_commit(t->part, t->path, e);
	unlink(t->part);
	return rc;
}
