/* Folders into archives: outputs of a job, and parts of its checkpoints, of which what did not
 * change since the one before is not written again. */
#include "worker/stage_pack.h"

#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SETTLED_S 2 /* a file not written to for so long shows every later change in its time */
#define APART ((int64_t)8 << 20) /* of a checkpoint, what is worth an archive of its own */

static void add_inputs(const struct stage_ctx *ctx, json_t *meta)
{
	const json_t *list = json_object_get(ctx->job, "inputs"), *in;
	json_t *digests = json_array();
	size_t i;

	json_array_foreach(list, i, in)
		json_array_append_new(digests, json_string(jx_get_str(in, "digest", "")));
	json_object_set_new(meta, "inputs", digests);
}

/* What every artifact says of its origin. No times, attempts or run ids: same work, same bytes. */
static json_t *full_meta(struct stage_ctx *ctx, json_t *meta)
{
	char seed[24];

	if (!meta)
		meta = json_object();
	str_fmt(seed, sizeof seed, "%llu", (unsigned long long)ctx->seed);
	json_object_set_new(meta, "stage", json_string(ctx->stage));
	json_object_set_new(meta, "iter", json_integer(ctx->iter));
	json_object_set_new(meta, "shard", json_integer(ctx->shard));
	json_object_set_new(meta, "pass", json_integer(ctx->pass));
	json_object_set_new(meta, "seed", json_string(seed));
	json_object_set_new(meta, "engine", json_string(stage_engine(ctx)));
	json_object_set_new(meta, "code", json_string(version_text()));
	add_inputs(ctx, meta);
	return meta;
}

enum rc stage_pack_output(struct stage_ctx *ctx, const char *kind, const char *dir, const char *tar,
			  json_t *meta, struct artifact_ref *ref, struct err *e)
{
	struct artifact_writer *w = NULL;

	meta = full_meta(ctx, meta);
	enum rc rc = artifact_begin(kind, tar, &w, e);
	if (rc == RC_OK)
		rc = artifact_add_dir(w, dir, e);
	if (rc == RC_OK)
		rc = artifact_finish(w, meta, ref, e);
	else
		artifact_abort(w);
	json_decref(meta);
	return rc == RC_OK ? RC_OK : err_wrap(e, "packing %s", dir);
}

json_t *stage_packed(const char *role, const char *kind, const char *tar,
		     const struct artifact_ref *ref)
{
	json_t *out = json_pack("{s:s, s:s, s:s, s:I, s:s}", "role", role, "kind", kind, "digest",
				ref->digest, "size", (json_int_t)ref->size, "path", tar);
	json_t *volumes = NULL;

	if (artifact_volumes(tar, &volumes, NULL) == RC_OK && json_array_size(volumes) > 0)
		json_object_set(out, "volumes", volumes);
	json_decref(volumes);
	return out;
}

/* --- what did not change ------------------------------------------------------------------------
 */

/* Names, sizes, times and numbers of a folder's files: who writes one anew changes this. Tells
 * nothing (NULL) of a folder that was changed just now, for clocks are coarse. */
static char *signature(const char *dir)
{
	struct buf b = BUF_INIT;
	char path[PATH_MAX];
	char **names;
	struct stat st;
	bool sure = true;
	size_t n;

	if (fs_list(dir, &names, &n, NULL) != RC_OK)
		return NULL;
	for (size_t i = 0; i < n && sure; i++) {
		str_fmt(path, sizeof path, "%s/%s", dir, names[i]);
		sure = stat(path, &st) == 0 && clk_now_ms() / 1000 - st.st_mtim.tv_sec >= SETTLED_S;
		buf_printf(&b, "%s %lld %lld.%09ld %llu\n", names[i], (long long)st.st_size,
			   (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
			   (unsigned long long)st.st_ino);
	}
	fs_list_free(names);
	if (sure && b.data)
		return b.data;
	buf_release(&b);
	return NULL;
}

static void kept_path(const struct stage_ctx *ctx, const char *role, char out[PATH_MAX])
{
	str_fmt(out, PATH_MAX, "%s/work/packed-%s.tar", ctx->dir, role);
}

static size_t n_volumes(const json_t *out)
{
	return json_array_size(json_object_get(out, "volumes"));
}

/* Second names for an archive and its volumes. */
static bool link_all(const char *from, const char *to, size_t volumes)
{
	char x[PATH_MAX], y[PATH_MAX];
	bool ok = link(from, to) == 0;

	for (size_t i = 0; i < volumes && ok; i++)
		ok = artifact_volume_path(from, i, x, sizeof x, NULL) == RC_OK &&
		     artifact_volume_path(to, i, y, sizeof y, NULL) == RC_OK && link(x, y) == 0;
	if (!ok)
		artifact_remove(to, volumes);
	return ok;
}

/* Keeps the archive here when its checkpoint is gone, for the next one to refer to. What changed as
 * a whole from one to the next will do so again, and is not kept: an empty entry says so. */
static void keep(struct stage_ctx *ctx, const char *sign, json_t *out, size_t referenced)
{
	const char *role = jx_get_str(out, "role", "");
	const json_t *last = json_object_get(ctx->packed, role);
	char path[PATH_MAX];

	kept_path(ctx, role, path);
	artifact_remove(path, n_volumes(last));
	if (!ctx->packed)
		ctx->packed = json_object();
	if ((!sign && !referenced && (last || !n_volumes(out))) ||
	    !link_all(jx_get_str(out, "path", ""), path, n_volumes(out))) {
		json_object_set_new(ctx->packed, role, json_object());
		return;
	}
	json_t *kept = json_copy(out);
	json_object_set_new(kept, "of", json_string(sign ? sign : ""));
	json_object_set_new(ctx->packed, role, kept);
}

/* The part as it was packed last, when its files are the same; NULL when they may not be. */
static json_t *unchanged(struct stage_ctx *ctx, const char *role, const char *sign, const char *tar)
{
	const json_t *last = json_object_get(ctx->packed, role);
	char path[PATH_MAX];

	kept_path(ctx, role, path);
	if (!sign || !last || strcmp(jx_get_str(last, "of", ""), sign) != 0 ||
	    !link_all(path, tar, n_volumes(last)))
		return NULL;
	json_t *out = json_copy((json_t *)(uintptr_t)last);
	json_object_set_new(out, "path", json_string(tar));
	json_object_del(out, "of");
	return out;
}

/* Large files of the part have an archive each; those that are as they were refer to it. */
static enum rc pack_since(struct stage_ctx *ctx, const struct stage_part *part, const char *tar,
			  struct artifact_ref *ref, size_t *referenced, struct err *e)
{
	struct artifact_writer *w = NULL;
	struct artifact *last = NULL;
	char path[PATH_MAX];

	kept_path(ctx, part->role, path);
	if (n_volumes(json_object_get(ctx->packed, part->role)))
		(void)artifact_peek(path, &last, NULL);
	json_t *meta = full_meta(ctx, NULL);
	enum rc rc = artifact_begin(part->kind, tar, &w, e);
	if (rc == RC_OK)
		rc = artifact_add_dir_since(w, part->dir, APART, last, e);
	if (rc == RC_OK) {
		*referenced = artifact_referenced(w);
		rc = artifact_finish(w, meta, ref, e);
	} else {
		artifact_abort(w);
	}
	artifact_close(last);
	json_decref(meta);
	return rc == RC_OK ? RC_OK : err_wrap(e, "packing %s", part->dir);
}

enum rc stage_pack_part(struct stage_ctx *ctx, const char *dir, const struct stage_part *part,
			json_t *outputs, struct err *e)
{
	struct artifact_ref ref;
	char tar[PATH_MAX], *sign = signature(part->dir);
	size_t referenced = 0;
	enum rc rc = RC_OK;

	str_fmt(tar, sizeof tar, "%s/%s.tar", dir, part->role);
	json_t *out = unchanged(ctx, part->role, sign, tar);
	if (!out) {
		rc = pack_since(ctx, part, tar, &ref, &referenced, e);
		if (rc == RC_OK) {
			out = stage_packed(part->role, part->kind, tar, &ref);
			keep(ctx, sign, out, referenced);
		}
	}
	free(sign);
	if (rc == RC_OK)
		json_array_append_new(outputs, out);
	return rc;
}
