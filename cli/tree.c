#include "cli/tree.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 16

static bool half_written(const char *name)
{
	return str_ends(name, ".part") || strstr(name, ".tmp.");
}

static enum rc walk(const char *root, int depth,
		    enum rc (*see)(void *ctx, const char *path, struct err *e), void *ctx,
		    struct err *e)
{
	char **names = NULL;
	size_t n = 0;
	struct stat st;
	enum rc rc = fs_list(root, &names, &n, e);

	if (rc)
		return rc == RC_NOTFOUND ? RC_OK : rc;
	if (depth > DEPTH_MAX)
		rc = err_set(e, RC_INVALID, "%s: folders too deep", root);
	for (size_t i = 0; !rc && i < n; i++) {
		char *path = mem_printf("%s/%s", root, names[i]);
		bool there = !lstat(path, &st) && !half_written(names[i]);
		if (there && S_ISDIR(st.st_mode))
			rc = walk(path, depth + 1, see, ctx, e);
		else if (there && S_ISREG(st.st_mode))
			rc = see(ctx, path, e);
		free(path);
	}
	fs_list_free(names);
	return rc;
}

enum rc tree_each(const char *root, enum rc (*see)(void *ctx, const char *path, struct err *e),
		  void *ctx, struct err *e)
{
	return walk(root, 0, see, ctx, e);
}

struct copying {
	const char *from, *to;
	bool link;
	struct tree_sum *sum;
};

/* The folder of `path`, made with the mode of the one it is a copy of. */
static enum rc make_folder(const struct copying *c, const char *source, char *path, struct err *e)
{
	char *slash = strrchr(path, '/'), *of = mem_str(source);
	struct stat st;
	enum rc rc = RC_OK;

	*slash = 0;
	*strrchr(of, '/') = 0;
	if (!fs_exists(path)) {
		rc = fs_mkdirs(path, e);
		if (!rc && !stat(of, &st) && strlen(of) > strlen(c->from))
			rc = chmod(path, st.st_mode & 07777)
				     ? err_set(e, err_from_errno(errno), "%s: %m", path)
				     : RC_OK;
	}
	*slash = '/';
	free(of);
	return rc;
}

static enum rc copy_one(void *ctx, const char *source, struct err *e)
{
	struct copying *c = ctx;
	char *path = mem_printf("%s%s", c->to, source + strlen(c->from));
	struct stat st;
	enum rc rc = make_folder(c, source, path, e);

	if (!rc && stat(source, &st)) {
		rc = errno == ENOENT ? RC_NOTFOUND
				     : err_set(e, err_from_errno(errno), "%s: %m", source);
	} else if (!rc && c->link) {
		rc = link(source, path) ? err_set(e, err_from_errno(errno), "link %s: %m", path)
					: RC_OK;
	} else if (!rc) {
		rc = fs_copy(source, path, e);
		if (!rc && chmod(path, st.st_mode & 07777))
			rc = err_set(e, err_from_errno(errno), "%s: %m", path);
	}
	if (!rc) {
		c->sum->files++;
		c->sum->bytes += st.st_size;
	}
	free(path);
	return rc == RC_NOTFOUND ? RC_OK : rc; /* Replaced or taken away while we looked. */
}

enum rc tree_copy(const char *from, const char *to, bool link, struct tree_sum *sum, struct err *e)
{
	struct copying c = {from, to, link, sum};

	return tree_each(from, copy_one, &c, e);
}
