/* One job on several ranks: rank 0 is the executor, the others run the same stage in folders of
 * their own, DIR/ranks/<n>/, whose inputs are links to the job's. */
#include "worker/stage.h"

#include "base/fs.h"
#include "base/jsonx.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/str.h"
#include "worker/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CLOSE_S 30.0 /* for ranks that have nothing left to do but to leave */

enum rc stage_rank_folder(const char *dir, int rank, char *out, size_t size, struct err *e)
{
	static const char *const links[] = {"job.json", "in", "resume", "resume.json"};
	char from[PATH_MAX], to[PATH_MAX];

	str_fmt(out, size, "%s/ranks/%d", dir, rank);
	enum rc rc = fs_remove_tree(out, e);
	if (rc == RC_OK)
		rc = fs_mkdirs(out, e);
	for (size_t i = 0; i < sizeof links / sizeof *links && rc == RC_OK; i++) {
		str_fmt(from, sizeof from, "%s/%s", dir, links[i]);
		str_fmt(to, sizeof to, "%s/%s", out, links[i]);
		if (fs_exists(from) && symlink(from, to) != 0)
			rc = err_set(e, err_from_errno(errno), "%s: %m", to);
	}
	return rc;
}

void stage_rank_device(int rank)
{
	static const char *const local[] = {"OMPI_COMM_WORLD_LOCAL_RANK", "LOCAL_RANK",
					    "SLURM_LOCALID"};
	const char *base = getenv("PAWL_DEVICE");
	int64_t first = 0, n = rank;
	char text[24];

	for (size_t i = 0; i < sizeof local / sizeof *local && rank < 0; i++)
		if (getenv(local[i]) && str_to_i64(getenv(local[i]), &n) && n >= 0)
			rank = (int)n;
	if (rank < 0 || (base && !str_to_i64(base, &first)))
		return;
	str_fmt(text, sizeof text, "%lld", (long long)(first + rank));
	(void)setenv("PAWL_DEVICE", text, 1);
}

/* --- starting --------------------------------------------------------------------------------- */

struct program {
	const struct stage_ctx *ctx;
	char path[PATH_MAX], dir[PATH_MAX], threads[16];
	const char *argv[5];
};

static const char *const *argv_of(void *arg, int rank)
{
	struct program *p = arg;

	str_fmt(p->dir, sizeof p->dir, "%s/ranks/%d", p->ctx->dir, rank);
	p->argv[0] = p->path;
	p->argv[1] = "--rank";
	p->argv[2] = p->dir;
	p->argv[3] = p->threads;
	p->argv[4] = NULL;
	return p->argv;
}

static struct stage_ctx *of_this_process;

/* Rank 0 may hang in a device's call that the dead rank will never answer. */
static void rank_ended(const char *why)
{
	report(of_this_process->report_fd,
	       json_pack("{s:s, s:s, s:s, s:s}", "type", "error", "kind", "retry", "code",
			 rc_text(RC_UNREACHABLE), "reason", why));
	fprintf(stderr, "pawl-worker: %s\n", why);
	_exit(1);
}

/* Cores are shared out; results do not depend on them. */
static int threads_each(const struct stage_ctx *ctx, int n)
{
	long all = ctx->threads > 0 ? ctx->threads : sysconf(_SC_NPROCESSORS_ONLN);

	return all / n > 1 ? (int)(all / n) : 1;
}

static enum rc start(struct stage_ctx *ctx, int n, struct err *e)
{
	struct program p = {.ctx = ctx};
	char dir[PATH_MAX];
	enum rc rc = RC_OK;

	for (int i = 1; i < n && rc == RC_OK; i++)
		rc = stage_rank_folder(ctx->dir, i, dir, sizeof dir, e);
	if (rc != RC_OK)
		return rc;
	ctx->threads = threads_each(ctx, n);
	of_this_process = ctx;
	str_fmt(p.path, sizeof p.path, "%s/pawl-worker", proc_self_dir());
	str_fmt(p.threads, sizeof p.threads, "%d", ctx->threads);
	log_info("ranks", "start", "n=%d threads=%d", n, ctx->threads);
	return ranks_start(&ctx->ranks, n, argv_of, &p, rank_ended, e);
}

enum rc stage_ranks_start(struct stage_ctx *ctx, struct err *e)
{
	const json_t *engine = stage_section(ctx, "engine");
	const char *how = jx_get_str(engine, "parallel", "tensor");
	int64_t n = jx_get_i64(engine, "ranks", 1);

	if (strcmp(how, "tensor") != 0 && strcmp(how, "data") != 0)
		return err_set(e, RC_INVALID, "engine.parallel \"%s\": expected tensor or data",
			       how);
	if (n < 1 || n > COLL_RANKS_MAX)
		return err_set(e, RC_INVALID, "engine.ranks %lld: expected 1 to %d", (long long)n,
			       COLL_RANKS_MAX);
	ctx->divide_batches = strcmp(how, "data") == 0;
	/* Whoever started all of them knows how many there are. */
	return ctx->ranks.n > 1 || n == 1 ? RC_OK : start(ctx, (int)n, e);
}

enum rc stage_ranks_open(struct stage_ctx *ctx, struct err *e)
{
	if (ctx->coll || ctx->ranks.n <= 1)
		return RC_OK;
	return ranks_open(&ctx->ranks, ctx->compute.kern, ctx->compute.pool, &ctx->coll, e);
}

/* --- agreeing --------------------------------------------------------------------------------- */

bool stage_is_first(const struct stage_ctx *ctx)
{
	return ctx->ranks.rank == 0;
}

int64_t stage_told(const struct stage_ctx *ctx, int64_t mine)
{
	coll_tell(ctx->coll, &mine, sizeof mine, 0);
	return mine;
}

enum rc stage_shared_dir(const struct stage_ctx *ctx, char *dir, size_t size, struct err *e)
{
	const char *why;

	coll_tell(ctx->coll, dir, size, 0);
	why = coll_fault(ctx->coll);
	return why ? err_set(e, RC_UNREACHABLE, "%s", why) : RC_OK;
}

/* --- ending ----------------------------------------------------------------------------------- */

/* The others hear the cause; and what ended one of them is the cause of what we heard. */
enum rc stage_ranks_end(struct stage_ctx *ctx, enum rc rc, struct err *e)
{
	const struct timespec pause = {.tv_nsec = 20000000};

	if (rc == RC_OK || !ctx->coll)
		return rc;
	coll_abort(ctx->coll, e->text);
	for (int i = 0; rc == RC_UNREACHABLE && ctx->ranks.watching && i < 100; i++) {
		const char *why = ranks_why(&ctx->ranks);

		if (why)
			return err_set(e, rc, "%s", why);
		nanosleep(&pause, NULL);
	}
	return rc;
}

void stage_ranks_close(struct stage_ctx *ctx)
{
	char dir[PATH_MAX];

	coll_close(ctx->coll);
	ctx->coll = NULL;
	if (!ctx->ranks.children)
		return;
	ranks_close(&ctx->ranks, CLOSE_S);
	str_fmt(dir, sizeof dir, "%s/ranks", ctx->dir);
	(void)fs_remove_tree(dir, NULL);
}
