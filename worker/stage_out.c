/* Outputs, rows and checkpoints of a job: everything that becomes an artifact. */
#include "worker/stage.h"

#include "base/check.h"
#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "worker/report.h"
#include "worker/stage_pack.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS_CKPT_MS 5000
#define ROWS_MAX (1u << 30)

/* --- outputs --------------------------------------------------------------------------------- */

enum rc stage_output_begin(struct stage_ctx *ctx, const char *role, char *dir, size_t size,
			   struct err *e)
{
	str_fmt(dir, size, "%s/out/%s", ctx->dir, role);
	enum rc rc = fs_remove_tree(dir, e);
	return rc == RC_OK ? fs_mkdirs(dir, e) : rc;
}

enum rc stage_output_commit(struct stage_ctx *ctx, const char *role, const char *kind, json_t *meta,
			    struct err *e)
{
	char dir[PATH_MAX], tar[PATH_MAX];
	struct artifact_ref ref;
	json_t *told = meta ? json_deep_copy(meta) : json_object();

	str_fmt(dir, sizeof dir, "%s/out/%s", ctx->dir, role);
	str_fmt(tar, sizeof tar, "%s/out/%s.tar", ctx->dir, role);
	if (!stage_is_first(ctx)) { /* The first rank has the same. */
		json_decref(meta);
		json_decref(told);
		return fs_remove_tree(dir, e);
	}
	enum rc rc = stage_pack_output(ctx, kind, dir, tar, meta, &ref, e);
	if (rc != RC_OK) {
		json_decref(told);
		return rc;
	}
	json_t *out = stage_packed(role, kind, tar, &ref);
	json_object_set_new(out, "meta", told);
	json_array_append_new(ctx->outputs, out);
	return ctx->keep_dirs ? RC_OK : fs_remove_tree(dir, e);
}

/* --- checkpoints ----------------------------------------------------------------------------- */

static bool is_due(const struct stage_ctx *ctx, int64_t every_ms)
{
	int stop = atomic_load(&ctx->stop);

	if (stop == STAGE_CANCEL)
		return false;
	if (stop != STAGE_GO) /* What does not fit into the notice is left to the last checkpoint. */
		return clk_mono_ms() + ctx->ckpt_cost_ms < atomic_load(&ctx->deadline_ms);
	return atomic_load(&ctx->want_checkpoint) ||
	       clk_mono_ms() - ctx->last_ckpt_ms >= every_ms;
}

bool stage_checkpoint_due(const struct stage_ctx *ctx, int64_t every_ms)
{
	return stage_told(ctx, is_due(ctx, every_ms));
}

static void note_progress(const struct stage_ctx *ctx, json_t *progress)
{
	json_object_set_new(progress, "tokens", json_integer(ctx->tokens));
	json_object_set_new(progress, "elapsed_ms", json_integer(clk_mono_ms() - ctx->started_ms));
}

/* ckpt.json comes last: a folder without it is torn and never happened. */
static enum rc seal(const char *dir, const json_t *outputs, const json_t *progress, struct err *e)
{
	char path[PATH_MAX];
	struct buf text = BUF_INIT;
	json_t *v = json_pack("{s:O, s:O}", "outputs", outputs, "progress", progress);

	str_fmt(path, sizeof path, "%s/ckpt.json", dir);
	jx_dump(v, &text);
	enum rc rc = fs_write_durable(path, text.data, text.len, e);
	buf_release(&text);
	json_decref(v);
	return rc;
}

static void drop_previous(const struct stage_ctx *ctx, int n)
{
	char dir[PATH_MAX];

	str_fmt(dir, sizeof dir, "%s/ckpt/%d", ctx->dir, n - 1);
	(void)fs_remove_tree(dir, NULL);
}

void stage_checkpoint_begin(struct stage_ctx *ctx, struct stage_ckpt *k, json_t *progress)
{
	*k = (struct stage_ckpt){.n = ++ctx->n_ckpt, .begun_ms = clk_mono_ms()};
	k->progress = progress ? progress : json_object();
	note_progress(ctx, k->progress);
	atomic_store(&ctx->want_checkpoint, false);
	ctx->last_ckpt_ms = k->begun_ms;
}

enum rc stage_checkpoint_write(struct stage_ctx *ctx, struct stage_ckpt *k,
			       const struct stage_part *parts, int n, struct err *e)
{
	char dir[PATH_MAX];
	json_t *outputs = json_array(), *out;
	size_t i;

	str_fmt(dir, sizeof dir, "%s/ckpt/%d", ctx->dir, k->n);
	enum rc rc = fs_remove_tree(dir, e);
	if (rc == RC_OK)
		rc = fs_mkdirs(dir, e);
	for (int p = 0; p < n && rc == RC_OK; p++)
		rc = stage_pack_part(ctx, dir, &parts[p], outputs, e);
	if (rc == RC_OK)
		rc = seal(dir, outputs, k->progress, e);
	if (rc == RC_OK && ctx->by_hand)
		drop_previous(ctx, k->n);
	json_array_foreach(outputs, i, out) k->bytes += jx_get_i64(out, "size", 0);
	if (rc == RC_OK)
		report(ctx->report_fd,
		       json_pack("{s:s, s:i, s:O, s:O}", "type", "checkpoint", "n", k->n, "outputs",
				 outputs, "progress", k->progress));
	atomic_store(&ctx->ckpt_cost_ms, clk_mono_ms() - k->begun_ms);
	json_decref(outputs);
	json_decref(k->progress);
	k->progress = NULL;
	return rc == RC_OK ? RC_OK : err_wrap(e, "checkpoint %d", k->n);
}

enum rc stage_checkpoint(struct stage_ctx *ctx, const struct stage_part *parts, int n,
			 json_t *progress, struct err *e)
{
	struct stage_ckpt k;

	if (!stage_is_first(ctx)) { /* The first rank's is the job's. */
		json_decref(progress);
		return RC_OK;
	}
	stage_checkpoint_begin(ctx, &k, progress);
	enum rc rc = stage_checkpoint_write(ctx, &k, parts, n, e);
	ctx->last_ckpt_ms = clk_mono_ms();
	return rc;
}

/* --- rows ------------------------------------------------------------------------------------ */

static void rows_dir(const struct stage_rows *rows, char *out, size_t size)
{
	str_fmt(out, size, "%s/work/rows-%s", rows->ctx->dir, rows->role);
}

/* work/rows-<role>/state.json: what the rows on disk amount to. */
static enum rc write_state(const struct stage_rows *rows, json_t *state, struct err *e)
{
	char dir[PATH_MAX], path[PATH_MAX];
	struct buf text = BUF_INIT;
	json_t *v = json_pack("{s:I, s:O?}", "rows", (json_int_t)rows->n, "state", state);

	rows_dir(rows, dir, sizeof dir);
	str_fmt(path, sizeof path, "%s/state.json", dir);
	jx_dump(v, &text);
	json_decref(v);
	FILE *f = fopen(path, "we");
	bool ok = f && fwrite(text.data, 1, text.len, f) == text.len;
	if (f && fclose(f) != 0)
		ok = false;
	buf_release(&text);
	return ok ? RC_OK : err_set(e, RC_IO, "%s: %m", path);
}

/* Copies what the checkpoint holds and takes its counts. */
static enum rc restore_rows(struct stage_rows *rows, const char *from, const char *data,
			    struct err *e)
{
	char path[PATH_MAX];
	json_t *state;

	str_fmt(path, sizeof path, "%s/data.jsonl", from);
	enum rc rc = fs_copy(path, data, e);
	if (rc != RC_OK)
		return rc;
	str_fmt(path, sizeof path, "%s/state.json", from);
	if ((rc = jx_load(path, ROWS_MAX, &state, e)) != RC_OK)
		return rc;
	rows->state = json_incref(json_object_get(state, "state"));
	rc = jx_i64(state, "rows", 0, INT64_MAX, &rows->n, e);
	json_decref(state);
	return rc;
}

enum rc stage_rows_open(struct stage_ctx *ctx, const char *role, struct stage_rows *rows,
			struct err *e)
{
	char dir[PATH_MAX], path[PATH_MAX];
	const char *from = stage_resume_dir(ctx, role);

	*rows = (struct stage_rows){.ctx = ctx, .fd = -1};
	str_copy(rows->role, sizeof rows->role, role);
	rows_dir(rows, dir, sizeof dir);
	enum rc rc = fs_mkdirs(dir, e);
	if (rc != RC_OK)
		return rc;
	str_fmt(path, sizeof path, "%s/data.jsonl", dir);
	if (from && (rc = restore_rows(rows, from, path, e)) != RC_OK)
		return err_wrap(e, "resuming %s", role);
	rows->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (rows->fd < 0)
		return err_set(e, RC_IO, "%s: %m", path);
	ASSERT(ctx->n_row_roles < 8);
	str_copy(ctx->row_roles[ctx->n_row_roles++], sizeof ctx->row_roles[0], role);
	return write_state(rows, rows->state, e);
}

enum rc stage_rows_add(struct stage_rows *rows, const json_t *row, struct err *e)
{
	if (!row)
		return err_set(e, RC_INVALID, "%s: row %lld could not be made", rows->role,
			       (long long)rows->n);
	jx_dump(row, &rows->pending);
	buf_putc(&rows->pending, '\n');
	rows->n++;
	return RC_OK;
}

static enum rc flush_rows(struct stage_rows *rows, struct err *e)
{
	enum rc rc = fs_write_all(rows->fd, rows->role, rows->pending.data, rows->pending.len, e);

	if (rc == RC_OK)
		buf_clear(&rows->pending);
	return rc;
}

static enum rc checkpoint_rows(struct stage_ctx *ctx, int64_t n, struct err *e)
{
	struct stage_part parts[8];
	char dirs[8][PATH_MAX];

	for (int i = 0; i < ctx->n_row_roles; i++) {
		str_fmt(dirs[i], sizeof dirs[i], "%s/work/rows-%s", ctx->dir, ctx->row_roles[i]);
		parts[i] = (struct stage_part){ctx->row_roles[i], "progress", dirs[i]};
	}
	return stage_checkpoint(ctx, parts, ctx->n_row_roles, json_pack("{s:I}", "rows", (json_int_t)n),
				e);
}

enum rc stage_rows_mark(struct stage_rows *rows, json_t *state, struct err *e)
{
	enum rc rc = flush_rows(rows, e);

	if (rc == RC_OK)
		rc = write_state(rows, state, e);
	if (rc == RC_OK && stage_checkpoint_due(rows->ctx, ROWS_CKPT_MS))
		rc = checkpoint_rows(rows->ctx, rows->n, e);
	if (rc == RC_OK) { /* So that a finish without another mark keeps it. */
		json_decref(rows->state);
		rows->state = json_incref(state);
	}
	json_decref(state);
	if (rc == RC_OK && stage_should_stop(rows->ctx))
		rc = stage_stopped(rows->ctx, e);
	return rc;
}

enum rc stage_rows_load(const struct stage_rows *rows, json_t **out, struct err *e)
{
	char path[PATH_MAX];

	rows_dir(rows, path, sizeof path - 16);
	size_t len = strlen(path);
	str_fmt(path + len, sizeof path - len, "/data.jsonl");
	json_t *list = json_array();
	enum rc rc = stage_read_rows(path, ROWS_MAX, list, e);
	if (rc != RC_OK) {
		json_decref(list);
		return rc;
	}
	*out = list;
	return RC_OK;
}

enum rc stage_rows_finish(struct stage_rows *rows, json_t *meta, struct err *e)
{
	char dir[PATH_MAX], from[PATH_MAX], to[PATH_MAX];

	if (!meta)
		meta = json_object();
	json_object_set_new(meta, "rows", json_integer(rows->n));
	rows_dir(rows, from, sizeof from);
	enum rc rc = flush_rows(rows, e);
	if (rc == RC_OK)
		rc = write_state(rows, rows->state, e);
	if (rc == RC_OK)
		rc = stage_output_begin(rows->ctx, rows->role, dir, sizeof dir, e);
	if (rc != RC_OK) {
		json_decref(meta);
		return rc;
	}
	size_t len = strlen(from);
	str_fmt(from + len, sizeof from - len, "/data.jsonl");
	str_fmt(to, sizeof to, "%s/data.jsonl", dir);
	/* A link, for later checkpoints of the job hold these rows too. */
	if (link(from, to) != 0) {
		json_decref(meta);
		return err_set(e, RC_IO, "%s to %s: %m", from, to);
	}
	return stage_output_commit(rows->ctx, rows->role, "dataset", meta, e);
}

void stage_rows_release(struct stage_rows *rows)
{
	if (rows->fd >= 0 && rows->ctx)
		close(rows->fd);
	json_decref(rows->state);
	buf_release(&rows->pending);
	rows->state = NULL;
	rows->ctx = NULL;
	rows->fd = -1;
}

enum rc stage_rows_put(struct stage_ctx *ctx, const char *role, const json_t *list, json_t *meta,
		       struct err *e)
{
	struct stage_rows rows = {.fd = -1};
	const json_t *row;
	size_t i;
	enum rc rc = stage_rows_open(ctx, role, &rows, e);

	json_array_foreach((json_t *)(uintptr_t)list, i, row) {
		if (rc == RC_OK)
			rc = stage_rows_add(&rows, row, e);
	}
	if (rc == RC_OK)
		rc = stage_rows_finish(&rows, meta, e);
	else
		json_decref(meta);
	stage_rows_release(&rows);
	return rc;
}
