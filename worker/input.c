/* Inputs: fetched, verified and unpacked once per digest, then shared by links. */
#include "worker/agent.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "store/artifact.h"
#include "store/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- one artifact ---------------------------------------------------------------------------- */

static enum rc fetch_volumes(struct agent *a, const char *digest, const char *tar, struct err *e)
{
	char got[SHA256_HEX_SIZE], path[PATH_MAX];
	json_t *volumes = NULL;
	const json_t *v;
	size_t i;
	enum rc rc = artifact_volumes(tar, &volumes, e);

	/* What names others is looked at first; what holds all is when it is unpacked. */
	if (rc == RC_OK && json_array_size(volumes) > 0) {
		rc = fs_sha256(tar, got, NULL, e);
		if (rc == RC_OK && strcmp(got, digest) != 0)
			rc = err_set(e, RC_CORRUPT, "blob %.12s came as %.12s", digest, got);
	}
	json_array_foreach(volumes, i, v) {
		if (rc == RC_OK)
			rc = artifact_volume_path(tar, i, path, sizeof path, e);
		if (rc == RC_OK)
			rc = client_blob_get(&a->client, jx_get_str(v, "digest", ""), path, e);
	}
	json_decref(volumes);
	return rc;
}

/* Through the server. Weights stay in the archives they came in. */
static enum rc fetch(struct agent *a, const char *digest, const char *dir, struct err *e)
{
	char tar[PATH_MAX];
	enum rc rc = fs_mkdirs(dir, e);

	str_fmt(tar, sizeof tar, "%s/" ARTIFACT_FETCHED, dir);
	if (rc == RC_OK)
		rc = client_blob_get(&a->client, digest, tar, e);
	if (rc == RC_OK)
		rc = fetch_volumes(a, digest, tar, e);
	return rc == RC_OK ? artifact_unpack_file_mapped(tar, digest, dir, e) : rc;
}

static enum rc unpack(struct agent *a, const char *digest, const char *dir, struct err *e)
{
	int64_t size;

	/* Weights in reach are mapped where they lie. */
	if (a->store && store_has(a->store, digest, &size, NULL) == RC_OK)
		return artifact_unpack_mapped(a->store, digest, dir, e);
	return fetch(a, digest, dir, e);
}

/* Asked for, a blob stays, or comes back. */
static bool still_there(struct agent *a, const char *digest)
{
	char path[PATH_MAX];
	json_t *volumes = NULL;
	const json_t *v;
	int64_t size;
	size_t i;
	bool all = store_has(a->store, digest, &size, NULL) == RC_OK;

	if (all && store_path(a->store, digest, path, sizeof path, NULL) == RC_OK)
		all = artifact_volumes(path, &volumes, NULL) == RC_OK;
	json_array_foreach(volumes, i, v)
		all = all && store_has(a->store, jx_get_str(v, "digest", ""), &size, NULL) == RC_OK;
	json_decref(volumes);
	return all;
}

/* WORK/cache/<digest>/ exists whole or not at all. */
static enum rc into_cache(struct agent *a, const char *digest, char *out, size_t size,
			  struct err *e)
{
	char tmp[PATH_MAX];

	str_fmt(out, size, "%s/cache/%s", a->work, digest);
	/* Without its archives the folder may point to nothing. */
	if (a->store && fs_exists(out) && !still_there(a, digest) &&
	    fs_remove_tree(out, e) != RC_OK)
		return e->code;
	if (fs_exists(out)) {
		(void)utimensat(AT_FDCWD, out, NULL, 0); /* Used now: last to be evicted. */
		return RC_OK;
	}
	str_fmt(tmp, sizeof tmp, "%s/cache/tmp-%s", a->work, digest);
	enum rc rc = fs_remove_tree(tmp, e);
	if (rc == RC_OK)
		rc = unpack(a, digest, tmp, e);
	if (rc != RC_OK) {
		(void)fs_remove_tree(tmp, NULL);
		return rc;
	}
	if (rename(tmp, out) != 0)
		return err_set(e, RC_IO, "%s: %m", out);
	return RC_OK;
}

/* --- a job's inputs -------------------------------------------------------------------------- */

static bool role_valid(const char *role)
{
	return *role && *role != '.' && strlen(role) < 64 &&
	       role[strspn(role, "abcdefghijklmnopqrstuvwxyz0123456789._-")] == 0;
}

static enum rc link_input(struct agent *a, const json_t *in, struct err *e)
{
	char cached[PATH_MAX], link[PATH_MAX];
	const char *role = jx_get_str(in, "role", ""), *digest = jx_get_str(in, "digest", "");

	if (!role_valid(role) || !sha256_hex_valid(digest))
		return err_set(e, RC_INVALID, "input \"%s\" with digest \"%s\"", role, digest);
	enum rc rc = into_cache(a, digest, cached, sizeof cached, e);
	if (rc != RC_OK)
		return err_wrap(e, "input %s", role);
	str_fmt(link, sizeof link, "%s/in/%s", a->dir, role);
	if (symlink(cached, link) != 0)
		return err_set(e, RC_IO, "%s: %m", link);
	return RC_OK;
}

static enum rc unpack_resume(struct agent *a, const json_t *resume, struct err *e)
{
	char path[PATH_MAX];
	const char *role;
	json_t *digest;
	struct buf text = BUF_INIT;
	enum rc rc;

	json_object_foreach(json_object_get(resume, "outputs"), role, digest) {
		const char *hex = json_is_object(digest) ? jx_get_str(digest, "digest", NULL)
							 : json_string_value(digest);

		if (!role_valid(role) || !hex || !sha256_hex_valid(hex))
			return err_set(e, RC_INVALID, "checkpoint part \"%s\"", role);
		str_fmt(path, sizeof path, "%s/resume/%s", a->dir, role);
		if ((rc = unpack(a, hex, path, e)) != RC_OK)
			return err_wrap(e, "checkpoint part %s", role);
	}
	const json_t *progress = json_object_get(resume, "progress");
	if (json_is_object(progress))
		jx_dump(progress, &text);
	else
		buf_puts(&text, "{}");
	str_fmt(path, sizeof path, "%s/resume.json", a->dir);
	rc = fs_write_durable(path, text.data, text.len, e);
	buf_release(&text);
	return rc;
}

/* A checkpoint that cannot be read costs its steps, not the job. */
static enum rc prepare_resume(struct agent *a, const json_t *resume, struct err *e)
{
	char path[PATH_MAX];
	enum rc rc;

	if (!json_is_object(resume) || json_object_size(json_object_get(resume, "outputs")) == 0)
		return RC_OK;
	str_fmt(path, sizeof path, "%s/resume", a->dir);
	if ((rc = fs_mkdirs(path, e)) != RC_OK)
		return rc;
	rc = unpack_resume(a, resume, e);
	if (rc != RC_CORRUPT && rc != RC_NOTFOUND && rc != RC_INVALID)
		return rc;
	log_warn("agent", "resume_lost", "job=%s reason=%s", a->job, e->text);
	*e = (struct err){0};
	return fs_remove_tree(path, e);
}

enum rc input_prepare(struct agent *a, const json_t *job, struct err *e)
{
	const json_t *list = json_object_get(job, "inputs"), *in;
	char path[PATH_MAX];
	enum rc rc;
	size_t i;

	str_fmt(path, sizeof path, "%s/in", a->dir);
	if ((rc = fs_remove_tree(path, e)) != RC_OK || (rc = fs_mkdirs(path, e)) != RC_OK)
		return rc;
	json_array_foreach(list, i, in) {
		if ((rc = link_input(a, in, e)) != RC_OK)
			return rc;
	}
	return prepare_resume(a, json_object_get(job, "resume"), e);
}

/* --- the bound ------------------------------------------------------------------------------- */

struct cached {
	char name[80];
	int64_t size, used_ms;
};

static int64_t folder_size(const char *dir)
{
	char path[PATH_MAX];
	char **names;
	size_t n;
	int64_t sum = 0;

	if (fs_list(dir, &names, &n, NULL) != RC_OK)
		return 0;
	for (size_t i = 0; i < n; i++) {
		str_fmt(path, sizeof path, "%s/%s", dir, names[i]);
		int64_t size = fs_size(path);
		sum += size > 0 ? size : 0;
	}
	fs_list_free(names);
	return sum;
}

static int by_age(const void *pa, const void *pb)
{
	const struct cached *x = pa, *y = pb;

	return (x->used_ms > y->used_ms) - (x->used_ms < y->used_ms);
}

static size_t list_cache(const struct agent *a, struct cached **out, int64_t *total)
{
	char path[PATH_MAX];
	struct stat st;
	char **names;
	size_t n, kept = 0;

	*out = NULL;
	*total = 0;
	str_fmt(path, sizeof path, "%s/cache", a->work);
	if (fs_list(path, &names, &n, NULL) != RC_OK)
		return 0;
	*out = mem_array(n + 1, sizeof **out);
	for (size_t i = 0; i < n; i++) {
		str_fmt(path, sizeof path, "%s/cache/%s", a->work, names[i]);
		if (stat(path, &st) != 0 || strlen(names[i]) >= sizeof (*out)->name)
			continue;
		struct cached *c = &(*out)[kept++];
		str_copy(c->name, sizeof c->name, names[i]);
		c->size = folder_size(path);
		c->used_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
		*total += c->size;
	}
	fs_list_free(names);
	return kept;
}

static bool is_input(const json_t *job, const char *digest)
{
	const json_t *in;
	size_t i;

	json_array_foreach(json_object_get(job, "inputs"), i, in) {
		if (strcmp(jx_get_str(in, "digest", ""), digest) == 0)
			return true;
	}
	return false;
}

void input_trim(struct agent *a, const json_t *job)
{
	char path[PATH_MAX];
	struct cached *list;
	int64_t total;
	size_t n = list_cache(a, &list, &total);

	qsort(list, n, sizeof *list, by_age);
	for (size_t i = 0; i < n && total > a->cache_bytes; i++) {
		if (is_input(job, list[i].name))
			continue;
		str_fmt(path, sizeof path, "%s/cache/%s", a->work, list[i].name);
		if (fs_remove_tree(path, NULL) == RC_OK) {
			total -= list[i].size;
			log_info("agent", "evicted", "digest=%.12s bytes=%lld", list[i].name,
				 (long long)list[i].size);
		}
	}
	free(list);
}
