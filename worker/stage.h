/* A stage's view of its job: what it was asked, where its inputs lie, and how it reports.
 *
 * A stage is one function. It knows nothing of servers, leases, tokens or other jobs; the same
 * code runs under the agent and by hand (`pawl-worker stage DIR`). Its folder:
 *
 *   DIR/job.json          {"id","run","stage","iter","shard","pass","seed":"1","spec":{},"params":{},
 *                          "inputs":[{"role","digest","kind","size","meta"}],"attempt"}
 *   DIR/in/<role>/        one unpacked input artifact (data.jsonl, or a model directory, ...)
 *   DIR/resume/<role>/    unpacked artifacts of the last published checkpoint, when there is one,
 *   DIR/resume.json       and the `progress` object that was published with it
 *   DIR/work/             scratch
 *   DIR/ckpt/<n>/         checkpoints on their way out: <role>.tar, then ckpt.json
 *   DIR/out/<role>/       an output while it is made; DIR/out/<role>.tar, its artifact
 *
 * Invariants: the bytes of the outputs are a function of job.json and in/ alone. Work advances in
 * fixed chunks; at a chunk's end the stage may checkpoint and must poll stage_should_stop(); when
 * that says yes it makes a last checkpoint if it can and returns RC_CANCELLED. A run resumed from
 * any checkpoint ends with the bytes of an undisturbed one.
 * One thread per job calls these functions.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "kernels/collective.h"
#include "worker/engine.h"
#include "worker/ranks.h"

#include <jansson.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>


/* What stage_ctx.stop may hold. */
enum stage_stop { STAGE_GO, STAGE_PREEMPTED, STAGE_CANCEL, STAGE_PAUSE };

struct stage_ctx {
	const json_t *job, *spec, *params; /* borrowed from `job` */
	const char *id, *run, *stage;      /* borrowed */
	int iter, shard, pass;
	uint64_t seed;
	int threads;
	char dir[PATH_MAX - 512];
	json_t *resume;  /* progress object of the checkpoint resumed from, or NULL; owned */
	json_t *metrics; /* final metrics of the job (flat names); owned */
	json_t *outputs; /* [{role,kind,digest,size,meta,path}]; owned */
	/* below: the executor's own */
	struct engine compute;
	/* Several ranks (stage_ranks.c): all run the stage, the first one leaves outputs. */
	struct ranks ranks;
	struct coll *coll;             /* owned; NULL: alone, or before the engine is open */
	bool divide_batches;           /* engine.parallel is "data": each rank has the whole model */
	_Atomic int stop;              /* enum stage_stop */
	_Atomic bool want_checkpoint;
	_Atomic int64_t deadline_ms;   /* clk_mono_ms() by which a stop must have been followed */
	int report_fd;                 /* JSON lines to the agent; -1 by hand */
	bool by_hand, keep_dirs;
	bool no_copies; /* for tests: as if memory were short */
	int n_ckpt;
	char row_roles[8][64];         /* every stage_rows opened: a checkpoint holds them all */
	json_t *packed; /* {role: what its last archive was made of, and its name}; owned */
	int n_row_roles;
	int64_t started_ms, last_ckpt_ms, last_progress_ms, tokens;
	_Atomic int64_t ckpt_cost_ms; /* of the last one, until it was sealed */
};

struct stage {
	const char *name;
	enum rc (*run)(struct stage_ctx *ctx, struct err *e);
};

/* worker/stages/table.c; ends with a NULL name. */
extern const struct stage stage_table[];
const struct stage *stage_find(const char *name);

/* --- inputs ---------------------------------------------------------------------------------- */

/* Folder of an input, or NULL when the job has none of that role. Valid until the next eight
 * calls (a small ring of static buffers). */
const char *stage_in(const struct stage_ctx *ctx, const char *role);
/* `name` inside that folder; NULL when either is absent. Same life. */
const char *stage_in_file(const struct stage_ctx *ctx, const char *role, const char *name);
/* Digest of an input, "" when unknown (by hand). */
const char *stage_in_digest(const struct stage_ctx *ctx, const char *role);
/* All roles that start with `prefix` ("judgements."), sorted numerically part by part, as a
 * NULL-terminated heap array for fs_list_free(). */
enum rc stage_in_roles(const struct stage_ctx *ctx, const char *prefix, char ***roles, size_t *n,
		       struct err *e);
/* Whole data.jsonl of an input as a JSON array; RC_NOTFOUND when the role is absent. `rows_max`
 * bounds it. */
enum rc stage_in_rows(const struct stage_ctx *ctx, const char *role, size_t rows_max, json_t **rows,
		      struct err *e);
/* Appends the rows of any JSON lines file to an array. */
enum rc stage_read_rows(const char *path, size_t rows_max, json_t *rows, struct err *e);
/* spec.<section>, borrowed; an empty object when absent. */
const json_t *stage_section(const struct stage_ctx *ctx, const char *section);
/* Name of an item for random streams: 64 bits of the SHA-256 of its id. */
uint64_t stage_item(const char *id);

/* --- reports --------------------------------------------------------------------------------- */

/* Cheap; sends at most a few lines a second, always the last (done == total). */
void stage_progress(struct stage_ctx *ctx, int64_t done, int64_t total, const char *unit);
/* One point of the job's curves; `values` is a flat object, consumed. */
void stage_metric(struct stage_ctx *ctx, int64_t step, json_t *values);
/* One figure of the finished job ("pair.kept"); consumes `value`. */
void stage_final(struct stage_ctx *ctx, const char *name, json_t *value);
/* Counts tokens processed, for the tokens and tokens_per_s figures every job ends with. */
void stage_tokens(struct stage_ctx *ctx, int64_t n);
bool stage_should_stop(struct stage_ctx *ctx);
/* Stop in the middle of a chunk: it was cancelled, or the notice is nearly over. */
bool stage_must_abort(struct stage_ctx *ctx);
/* The error to return then: RC_CANCELLED with the reason. */
enum rc stage_stopped(const struct stage_ctx *ctx, struct err *e);

/* --- outputs --------------------------------------------------------------------------------- */

/* Makes the empty folder DIR/out/<role>/ for the caller to fill. */
enum rc stage_output_begin(struct stage_ctx *ctx, const char *role, char *dir, size_t size,
			   struct err *e);
/* Packs that folder (members sorted by name) as an artifact of `kind` ("checkpoint",
 * "train_state", "dataset"). `meta` (consumed, may be NULL; must be deterministic: no times, no
 * attempts) gets stage, iter, seed, input digests, engine and code version added. */
enum rc stage_output_commit(struct stage_ctx *ctx, const char *role, const char *kind, json_t *meta,
			    struct err *e);

/* Rows of one dataset output, with resume. A stage may open several, one after the other; a
 * checkpoint holds all of them as their last marks left them. State over time: open (empty, or as the resumed
 * checkpoint left it) -> add rows, mark at every chunk's end -> finish or release.
 *
 *	stage_rows_open(ctx, "responses", &rows, e);       rows->n rows are there already
 *	for (chunk from rows->n) { ... stage_rows_add(rows, row, e); ...
 *		stage_rows_mark(rows, NULL, e); }          may return RC_CANCELLED: give it up
 *	stage_rows_finish(rows, meta, e);
 *	stage_rows_release(rows);
 */
struct stage_rows {
	struct stage_ctx *ctx; /* borrowed */
	char role[64];
	int64_t n;         /* rows written so far */
	json_t *state;     /* what the last mark of the resumed checkpoint saved, or NULL; owned */
	int fd;
	struct buf pending; /* rows since the last mark */
};

enum rc stage_rows_open(struct stage_ctx *ctx, const char *role, struct stage_rows *rows,
			struct err *e);
enum rc stage_rows_add(struct stage_rows *rows, const json_t *row, struct err *e);
/* A chunk ended. Writes the rows down, checkpoints when one is due or asked for, and returns
 * RC_CANCELLED (after a checkpoint) when the job must stop. `state` (consumed, may be NULL) comes
 * back as rows->state on resume. */
enum rc stage_rows_mark(struct stage_rows *rows, json_t *state, struct err *e);
/* All rows so far as an array, new reference; call after a mark. */
enum rc stage_rows_load(const struct stage_rows *rows, json_t **out, struct err *e);
/* The rows become the output `role`; meta gets "rows". */
enum rc stage_rows_finish(struct stage_rows *rows, json_t *meta, struct err *e);
void stage_rows_release(struct stage_rows *rows);
/* A whole list as the output `role`, in one go; meta (consumed) as with stage_rows_finish(). */
enum rc stage_rows_put(struct stage_ctx *ctx, const char *role, const json_t *list, json_t *meta,
		       struct err *e);

/* --- checkpoints ----------------------------------------------------------------------------- */

struct stage_part {
	const char *role, *kind, *dir; /* a folder to pack; its files are not changed */
};

/* True when one was asked for, or when `every_ms` passed since the last. */
bool stage_checkpoint_due(const struct stage_ctx *ctx, int64_t every_ms);
/* Packs the parts and hands them to the agent, which publishes them before it lets the pointer
 * move. A part whose files have not changed since its last archive is that archive again. `progress`
 * (consumed) comes back as ctx->resume. */
enum rc stage_checkpoint(struct stage_ctx *ctx, const struct stage_part *parts, int n,
			 json_t *progress, struct err *e);
/* The same in two halves, for a stage that goes on while its checkpoint is written. */
struct stage_ckpt {
	int n;
	int64_t begun_ms, bytes; /* bytes of the parts, once written */
	json_t *progress;        /* owned until written */
};
/* Counts it and notes the time and tokens up to now. `progress` consumed. */
void stage_checkpoint_begin(struct stage_ctx *ctx, struct stage_ckpt *k, json_t *progress);
/* Packs, seals and reports, on any thread; one at a time. The first rank's alone. */
enum rc stage_checkpoint_write(struct stage_ctx *ctx, struct stage_ckpt *k,
			       const struct stage_part *parts, int n, struct err *e);
/* Folder of a part of the checkpoint resumed from, or NULL. Same life as stage_in(). */
const char *stage_resume_dir(const struct stage_ctx *ctx, const char *role);

/* --- engine ---------------------------------------------------------------------------------- */

/* Opens the back end that suits weights or training in `format`; the first call settles it. */
enum rc stage_engine_open(struct stage_ctx *ctx, enum kern_format format, struct err *e);
/* What was opened. */
const struct kern *stage_kern(struct stage_ctx *ctx);
struct kern_pool *stage_pool(struct stage_ctx *ctx);
/* Fingerprint such as "cpu-avx512/1". */
const char *stage_engine(struct stage_ctx *ctx);
const char *stage_engine_name(void); /* the same without a job; static storage */

/* --- several ranks (engine.ranks, or started by mpirun and the like) -------------------------- */

bool stage_is_first(const struct stage_ctx *ctx);
/* The first rank's value; every rank calls it. */
int64_t stage_told(const struct stage_ctx *ctx, int64_t mine);
/* Makes `dir`, an array of `size` bytes, the first rank's; every rank calls it, after the first has
 * made that folder. */
enum rc stage_shared_dir(const struct stage_ctx *ctx, char *dir, size_t size, struct err *e);
/* A folder for `rank` inside the job's. */
enum rc stage_rank_folder(const char *dir, int rank, char *out, size_t size, struct err *e);
/* Each rank of a machine has a GPU of its own: the first one's number and its own; -1: as mpirun and
 * the like count them on this machine. */
void stage_rank_device(int rank);
/* For stage.c: before and after the engine is opened; when the stage has ended. */
enum rc stage_ranks_start(struct stage_ctx *ctx, struct err *e);
enum rc stage_ranks_open(struct stage_ctx *ctx, struct err *e);
enum rc stage_ranks_end(struct stage_ctx *ctx, enum rc rc, struct err *e);
void stage_ranks_close(struct stage_ctx *ctx);

/* --- life, for the executor and tests -------------------------------------------------------- */

/* Reads DIR/job.json and makes the working folders. report_fd = -1: by hand. */
enum rc stage_ctx_open(struct stage_ctx *ctx, const char *dir, int report_fd, int threads,
		       struct err *e);
/* Runs the job's stage and closes the figures (seconds, tokens, tokens_per_s). */
enum rc stage_ctx_run(struct stage_ctx *ctx, struct err *e);
void stage_ctx_close(struct stage_ctx *ctx);
