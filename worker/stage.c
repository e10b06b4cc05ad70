#include "worker/stage.h"

#include "base/check.h"
#include "base/clk.h"
#include "base/fs.h"
#include "base/jsonl.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "base/str.h"
#include "kernels/kernels.h"
#include "worker/report.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOB_MAX (16u << 20)
#define PATH_RING 8
#define ENGINE_REVISION 2 /* Raised whenever the engine's bits change on purpose. */

/* --- inputs ---------------------------------------------------------------------------------- */

static char *ring_path(void)
{
	static char ring[PATH_RING][PATH_MAX];
	static int next;

	next = (next + 1) % PATH_RING;
	return ring[next];
}

static bool is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

const char *stage_in(const struct stage_ctx *ctx, const char *role)
{
	char *path = ring_path();

	str_fmt(path, PATH_MAX, "%s/in/%s", ctx->dir, role);
	return is_dir(path) ? path : NULL;
}

const char *stage_in_file(const struct stage_ctx *ctx, const char *role, const char *name)
{
	char *path = ring_path();

	str_fmt(path, PATH_MAX, "%s/in/%s/%s", ctx->dir, role, name);
	return fs_exists(path) ? path : NULL;
}

const char *stage_resume_dir(const struct stage_ctx *ctx, const char *role)
{
	char *path = ring_path();

	if (!ctx->resume)
		return NULL;
	str_fmt(path, PATH_MAX, "%s/resume/%s", ctx->dir, role);
	return is_dir(path) ? path : NULL;
}

const char *stage_in_digest(const struct stage_ctx *ctx, const char *role)
{
	const json_t *list = json_object_get(ctx->job, "inputs"), *in;
	size_t i;

	json_array_foreach(list, i, in) {
		if (strcmp(jx_get_str(in, "role", ""), role) == 0)
			return jx_get_str(in, "digest", "");
	}
	return "";
}

/* "judgements.2.0" comes before "judgements.10.0". */
static int compare_roles(const void *pa, const void *pb)
{
	return strverscmp(*(char *const *)pa, *(char *const *)pb);
}

enum rc stage_in_roles(const struct stage_ctx *ctx, const char *prefix, char ***roles, size_t *n,
		       struct err *e)
{
	char path[PATH_MAX];
	char **all;
	size_t n_all, kept = 0;

	str_fmt(path, sizeof path, "%s/in", ctx->dir);
	enum rc rc = fs_list(path, &all, &n_all, e);
	if (rc != RC_OK)
		return rc;
	for (size_t i = 0; i < n_all; i++) {
		if (str_starts(all[i], prefix) && stage_in(ctx, all[i]))
			all[kept++] = all[i];
		else
			free(all[i]);
	}
	all[kept] = NULL;
	qsort(all, kept, sizeof *all, compare_roles);
	*roles = all;
	*n = kept;
	return RC_OK;
}

enum rc stage_read_rows(const char *path, size_t rows_max, json_t *rows, struct err *e)
{
	struct jsonl *r;
	json_t *row = NULL;

	enum rc rc = jsonl_open(path, &r, e);
	if (rc != RC_OK)
		return rc;
	while ((rc = jsonl_next(r, &row, e)) == RC_OK && row) {
		if (json_array_size(rows) >= rows_max) {
			json_decref(row);
			rc = err_set(e, RC_FULL, "%s: more than %zu rows", path, rows_max);
			break;
		}
		json_array_append_new(rows, row);
	}
	jsonl_close(r);
	return rc;
}

enum rc stage_in_rows(const struct stage_ctx *ctx, const char *role, size_t rows_max, json_t **rows,
		      struct err *e)
{
	const char *path = stage_in_file(ctx, role, "data.jsonl");

	if (!path)
		return err_set(e, RC_NOTFOUND, "job %s: input %s has no data.jsonl", ctx->id, role);
	json_t *list = json_array();
	enum rc rc = stage_read_rows(path, rows_max, list, e);
	if (rc != RC_OK) {
		json_decref(list);
		return err_wrap(e, "input %s", role);
	}
	*rows = list;
	return RC_OK;
}

const json_t *stage_section(const struct stage_ctx *ctx, const char *section)
{
	static json_t *empty;
	const json_t *v = json_object_get(ctx->spec, section);

	if (json_is_object(v))
		return v;
	if (!empty)
		empty = json_object();
	return empty;
}

uint64_t stage_item(const char *id)
{
	struct sha256 s;
	uint8_t digest[SHA256_SIZE];
	uint64_t v = 0;

	sha256_init(&s);
	sha256_add(&s, id, strlen(id));
	sha256_end(&s, digest);
	for (int i = 0; i < 8; i++)
		v = v << 8 | digest[i];
	return v;
}

/* --- reports --------------------------------------------------------------------------------- */

void stage_progress(struct stage_ctx *ctx, int64_t done, int64_t total, const char *unit)
{
	int64_t now = clk_mono_ms();

	if (done < total && now - ctx->last_progress_ms < 250)
		return;
	ctx->last_progress_ms = now;
	report(ctx->report_fd, json_pack("{s:s, s:I, s:I, s:s}", "type", "progress", "done",
					 (json_int_t)done, "total", (json_int_t)total, "unit", unit));
	if (ctx->by_hand)
		log_info("stage", "progress", "stage=%s done=%lld total=%lld unit=%s", ctx->stage,
			 (long long)done, (long long)total, unit);
}

static void log_metric(int64_t step, const json_t *values)
{
	struct buf b = BUF_INIT;
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)values, name, v) {
		if (json_is_number(v))
			buf_printf(&b, " %s=%.6g", name, json_number_value(v));
	}
	log_info("stage", "metric", "step=%lld values=%s", (long long)step, b.data ? b.data + 1 : "");
	buf_release(&b);
}

void stage_metric(struct stage_ctx *ctx, int64_t step, json_t *values)
{
	engine_watch(&ctx->compute, values);
	log_metric(step, values);
	if (ctx->by_hand)
		report_append(ctx->dir, "out/metrics.jsonl", step, values);
	report(ctx->report_fd, json_pack("{s:s, s:I, s:o}", "type", "metric", "step",
					 (json_int_t)step, "values", values));
}

void stage_final(struct stage_ctx *ctx, const char *name, json_t *value)
{
	json_object_set_new(ctx->metrics, name, value);
}

void stage_tokens(struct stage_ctx *ctx, int64_t n)
{
	ctx->tokens += n;
}

bool stage_should_stop(struct stage_ctx *ctx)
{
	int stop = (int)stage_told(ctx, atomic_load(&ctx->stop));

	if (!stage_is_first(ctx))
		atomic_store(&ctx->stop, stop);
	return stop != STAGE_GO;
}

bool stage_must_abort(struct stage_ctx *ctx)
{
	bool stop = stage_should_stop(ctx);
	bool late = clk_mono_ms() + 2 * ctx->ckpt_cost_ms >= atomic_load(&ctx->deadline_ms);

	if (!stop)
		return false;
	return stage_told(ctx, atomic_load(&ctx->stop) == STAGE_CANCEL || late);
}

enum rc stage_stopped(const struct stage_ctx *ctx, struct err *e)
{
	static const char *const why[] = {"running", "preempted", "cancelled", "paused"};

	return err_set(e, RC_CANCELLED, "job %s: %s", ctx->id, why[atomic_load(&ctx->stop) & 3]);
}

/* --- engine ---------------------------------------------------------------------------------- */

enum rc stage_engine_open(struct stage_ctx *ctx, enum kern_format format, struct err *e)
{
	enum rc rc;

	if (ctx->compute.pool)
		return RC_OK;
	rc = stage_ranks_start(ctx, e);
	if (rc == RC_OK)
		rc = engine_open(&ctx->compute, format, ctx->threads, e);
	return rc == RC_OK ? stage_ranks_open(ctx, e) : rc;
}

const struct kern *stage_kern(struct stage_ctx *ctx)
{
	ASSERT(ctx->compute.pool);
	return ctx->compute.kern;
}

struct kern_pool *stage_pool(struct stage_ctx *ctx)
{
	ASSERT(ctx->compute.pool);
	return ctx->compute.pool;
}

const char *stage_engine_name(void)
{
	static char name[64];
	const struct kern *k;

	if (engine_table(KERN_BF16, &k, NULL) != RC_OK)
		k = kern_cpu();
	str_fmt(name, sizeof name, "%s/%d", k->name, ENGINE_REVISION);
	return name;
}

/* A stage that computes nothing is the CPU's. */
const char *stage_engine(struct stage_ctx *ctx)
{
	static char name[352];
	const char *table = ctx->compute.pool ? ctx->compute.name : kern_cpu()->name;

	str_fmt(name, sizeof name, "%s/%d", table, ENGINE_REVISION);
	return name;
}

/* --- life ------------------------------------------------------------------------------------ */

static enum rc read_job(struct stage_ctx *ctx, struct err *e)
{
	char path[PATH_MAX];
	const char *seed = "1";
	json_t *job = NULL, *spec, *params;
	int64_t iter = 0, shard = 0, pass = 0;

	str_fmt(path, sizeof path, "%s/job.json", ctx->dir);
	enum rc rc = jx_load(path, JOB_MAX, &job, e);
	if (rc != RC_OK)
		return rc;
	ctx->job = job;
	ctx->id = jx_get_str(job, "id", "by-hand");
	ctx->run = jx_get_str(job, "run", "by-hand");
	if ((rc = jx_str(job, "stage", &ctx->stage, e)) != RC_OK ||
	    (rc = jx_opt_i64(job, "iter", 0, 1 << 20, &iter, e)) != RC_OK ||
	    (rc = jx_opt_i64(job, "shard", 0, 1 << 24, &shard, e)) != RC_OK ||
	    (rc = jx_opt_i64(job, "pass", 0, 1 << 16, &pass, e)) != RC_OK ||
	    (rc = jx_opt_str(job, "seed", &seed, e)) != RC_OK)
		return err_wrap(e, "%s", path);
	if (!str_to_u64(seed, &ctx->seed))
		return err_set(e, RC_INVALID, "%s: seed \"%s\" is not a number", path, seed);
	if (!json_is_object(json_object_get(job, "params")))
		json_object_set_new(job, "params", json_object());
	if ((rc = jx_obj(job, "spec", &spec, e)) != RC_OK ||
	    (rc = jx_obj(job, "params", &params, e)) != RC_OK)
		return err_wrap(e, "%s", path);
	ctx->spec = spec;
	ctx->params = params;
	ctx->iter = (int)iter;
	ctx->shard = (int)shard;
	ctx->pass = (int)pass;
	return RC_OK;
}

static enum rc read_resume(struct stage_ctx *ctx, struct err *e)
{
	char path[PATH_MAX];

	str_fmt(path, sizeof path, "%s/resume.json", ctx->dir);
	if (!fs_exists(path))
		return RC_OK;
	enum rc rc = jx_load(path, JOB_MAX, &ctx->resume, e);
	if (rc != RC_OK)
		return rc;
	ctx->tokens = jx_get_i64(ctx->resume, "tokens", 0);
	ctx->started_ms -= jx_get_i64(ctx->resume, "elapsed_ms", 0);
	return RC_OK;
}

static enum rc make_folders(const struct stage_ctx *ctx, struct err *e)
{
	static const char *const sub[] = {"in", "out", "ckpt"};
	char path[PATH_MAX];

	str_fmt(path, sizeof path, "%s/work", ctx->dir);
	enum rc rc = fs_remove_tree(path, e); /* Scratch of an earlier attempt by hand. */
	if (rc != RC_OK || (rc = fs_mkdirs(path, e)) != RC_OK)
		return rc;
	for (size_t i = 0; i < sizeof sub / sizeof *sub; i++) {
		str_fmt(path, sizeof path, "%s/%s", ctx->dir, sub[i]);
		if ((rc = fs_mkdirs(path, e)) != RC_OK)
			return rc;
	}
	return RC_OK;
}

enum rc stage_ctx_open(struct stage_ctx *ctx, const char *dir, int report_fd, int threads,
		       struct err *e)
{
	char full[PATH_MAX];

	memset(ctx, 0, sizeof *ctx);
	if (!realpath(dir, full) || strlen(full) >= sizeof ctx->dir)
		return err_set(e, RC_NOTFOUND, "job folder %s: %m", dir);
	str_copy(ctx->dir, sizeof ctx->dir, full);
	ctx->report_fd = report_fd;
	ctx->by_hand = ctx->keep_dirs = report_fd < 0;
	ctx->threads = threads;
	atomic_store(&ctx->deadline_ms, INT64_MAX / 16);
	ctx->metrics = json_object();
	ctx->outputs = json_array();
	ctx->started_ms = ctx->last_ckpt_ms = clk_mono_ms();
	enum rc rc = read_job(ctx, e);
	if (rc != RC_OK || (rc = make_folders(ctx, e)) != RC_OK)
		return rc;
	return read_resume(ctx, e);
}

enum rc stage_ctx_run(struct stage_ctx *ctx, struct err *e)
{
	const struct stage *s = stage_find(ctx->stage);

	if (!s)
		return err_set(e, RC_UNSUPPORTED, "this worker has no stage \"%s\"", ctx->stage);
	enum rc rc = s->run(ctx, e);
	double seconds = (double)(clk_mono_ms() - ctx->started_ms) / 1000;
	if (rc != RC_OK)
		return stage_ranks_end(ctx, rc, e);
	stage_final(ctx, "seconds", json_real(seconds));
	stage_final(ctx, "tokens", json_integer(ctx->tokens));
	stage_final(ctx, "tokens_per_s", json_real(seconds > 0 ? (double)ctx->tokens / seconds : 0));
	return RC_OK;
}

void stage_ctx_close(struct stage_ctx *ctx)
{
	json_decref((json_t *)ctx->job);
	json_decref(ctx->resume);
	json_decref(ctx->metrics);
	json_decref(ctx->outputs);
	json_decref(ctx->packed);
	stage_ranks_close(ctx);
	engine_close(&ctx->compute);
	memset(ctx, 0, sizeof *ctx);
}
